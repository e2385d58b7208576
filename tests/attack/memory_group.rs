//! A memory cgroup for the attacked process, with the limit of the manifests: the kernel kills what
//! needs more, as it would in a pod. Versions 1 and 2; Linux only.
//!
//! Nothing is judged here. A machine without writable cgroups is an error with the reason; the
//! attacks then go on, and only the resident memory is bounded.

use crate::environment::Wrapper;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The limit of the manifests (`resources.limits.memory` in `manifests/base/deployment.yaml`).
pub(crate) const LIMIT_BYTES: u64 = 96 << 20;

/// More than sockets ever use.
const SOCKETS_BYTES: u64 = 4 << 30;

/// The file names of a version.
#[derive(Debug)]
struct Names {
    root: &'static str,
    limit: &'static str,
    /// Memory together with swap, or swap; absent where the kernel does not count it.
    swap: (&'static str, u64),
    peak: &'static str,
    /// What is used now, in all of these.
    used: &'static [&'static str],
    /// The limit on what sockets use, where that is counted apart, and only with a limit.
    sockets: Option<&'static str>,
    /// The file with the line `oom_kill N`.
    kills: &'static str,
}

const VERSIONS: [Names; 2] = [
    Names {
        root: "/sys/fs/cgroup/memory",
        limit: "memory.limit_in_bytes",
        swap: ("memory.memsw.limit_in_bytes", LIMIT_BYTES),
        peak: "memory.max_usage_in_bytes",
        used: &["memory.usage_in_bytes", "memory.kmem.tcp.usage_in_bytes"],
        sockets: Some("memory.kmem.tcp.limit_in_bytes"),
        kills: "memory.oom_control",
    },
    Names {
        root: "/sys/fs/cgroup",
        limit: "memory.max",
        swap: ("memory.swap.max", 0),
        peak: "memory.peak",
        used: &["memory.current"],
        sockets: None,
        kills: "memory.events",
    },
];

/// A group with the limit; removed when dropped.
#[derive(Debug)]
pub(crate) struct MemoryGroup {
    folder: PathBuf,
    names: &'static Names,
}

impl MemoryGroup {
    /// A new group; an error is the reason why this machine has none for us.
    pub(crate) fn new(number: usize) -> Result<Self, String> {
        let name = format!("config-controller-attack-{}-{number}", std::process::id());
        let mut why = String::new();
        for names in &VERSIONS {
            let folder = Path::new(names.root).join(&name);
            if let Err(error) = fs::create_dir(&folder) {
                why = format!("{}: {error}", folder.display());
                continue;
            }
            let group = Self { folder, names };
            match group.write(names.limit, LIMIT_BYTES) {
                Ok(()) => {
                    // Where swap is not counted there is none, or it does not help for long.
                    let _ = group.write(names.swap.0, names.swap.1);
                    if let Some(sockets) = names.sockets {
                        // Far more than they may use: it is judged here, not by the kernel.
                        let _ = group.write(sockets, SOCKETS_BYTES);
                    }
                    return Ok(group);
                }
                Err(error) => why = format!("{}: {error}", names.limit),
            }
        }
        Err(why)
    }

    /// Writes to a file of the kernel: where there is none, the folder is no group.
    fn write(&self, file: &str, value: u64) -> std::io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.folder.join(file));
        file?.write_all(value.to_string().as_bytes())
    }

    /// Starts a program in the group.
    pub(crate) fn wrapper(&self) -> Wrapper {
        let enter = format!(
            "echo $$ > {}/cgroup.procs && exec \"$@\"",
            self.folder.display()
        );
        Wrapper::new(&["sh", "-c", &enter, "sh"])
    }

    /// The most that it has held, with what the kernel counts, too; 0 where it does not say.
    pub(crate) fn peak_kib(&self) -> u64 {
        let text = fs::read_to_string(self.folder.join(self.names.peak));
        let bytes: Option<u64> = text.ok().and_then(|text| text.trim().parse().ok());
        bytes.unwrap_or(0) >> 10
    }

    /// Reads what it uses, from any thread.
    pub(crate) fn meter(&self) -> Meter {
        Meter(
            self.names
                .used
                .iter()
                .map(|file| self.folder.join(file))
                .collect(),
        )
    }

    /// How often the kernel has killed for want of memory here.
    pub(crate) fn kills(&self) -> u64 {
        let text = fs::read_to_string(self.folder.join(self.names.kills)).unwrap_or_default();
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
        count.unwrap_or(0)
    }
}

/// What a group uses now, with what the kernel keeps for sockets: in the second version of cgroups,
/// which clusters have, that counts in the limit. The first counts it apart.
#[derive(Debug, Default)]
pub(crate) struct Meter(Vec<PathBuf>);

impl Meter {
    /// 0 where there is no group.
    pub(crate) fn used_kib(&self) -> u64 {
        let bytes =
            |path: &PathBuf| -> Option<u64> { fs::read_to_string(path).ok()?.trim().parse().ok() };
        self.0.iter().filter_map(bytes).sum::<u64>() >> 10
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Its process was killed a moment ago; a group that stays is empty, and harms nobody.
        for _ in 0..50 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
