//! CPU time, memory, threads and open files of this process, for Prometheus' usual `process_*` metrics.
//!
//! Read from `/proc` and the cgroup; on systems without it all values are `None`. The names of the
//! metrics are in
//! [`crate::metrics`], not here.

use std::fs;
use std::time::Duration;

/// Resource usage of the process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Process {
    /// CPU time so far, user and system.
    pub cpu: Duration,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// Virtual memory, in bytes.
    pub virtual_bytes: u64,
    /// Number of threads.
    pub threads: u64,
    /// Start time, since the boot of the machine.
    started: Duration,
}

impl Process {
    /// The current values of this process.
    #[must_use]
    pub fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let ticks = rustix::param::clock_ticks_per_second();
        Self::parse(&stat, ticks, rustix::param::page_size() as u64)
    }

    /// From `/proc/self/stat` (proc_pid_stat(5)): the second field is in parentheses and
    /// may contain any character.
    fn parse(stat: &str, ticks_a_second: u64, page_bytes: u64) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // `fields` starts with field 3 of the manual.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = |count: u64| {
            let millis = count.saturating_mul(1000) / ticks_a_second.max(1);
            Duration::from_millis(millis)
        };
        Some(Self {
            cpu: ticks(field(14)?.saturating_add(field(15)?)),
            threads: field(20)?,
            started: ticks(field(22)?),
            virtual_bytes: field(23)?,
            resident_bytes: field(24)?.saturating_mul(page_bytes),
        })
    }

    /// Start time, since the Unix epoch.
    #[must_use]
    pub fn started(&self) -> Option<Duration> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        Some(boot_time(&stat)? + self.started)
    }
}

/// Boot time of the machine, since the Unix epoch, from `/proc/stat`.
fn boot_time(stat: &str) -> Option<Duration> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok().map(Duration::from_secs)
}

/// Number of open file descriptors.
#[must_use]
pub fn open_files() -> Option<u64> {
    let folder = "/proc/self/fd";
    // Since Linux 6.2 the size of the directory is their number; counting 10,000 takes milliseconds.
    match fs::metadata(folder).ok()?.len() {
        0 => u64::try_from(fs::read_dir(folder).ok()?.count()).ok(),
        count => Some(count),
    }
}

/// Limit of open file descriptors; `None` if there is none.
#[must_use]
pub fn open_files_max() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// The memory limit of the container, in bytes; `None` if there is none or it cannot be read.
#[must_use]
pub fn memory_max() -> Option<u64> {
    // Of the second and the first version of cgroups.
    let files = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let text = files
        .iter()
        .find_map(|file| fs::read_to_string(file).ok())?;
    parse_limit(&text)
}

/// The first version of cgroups says that there is none with the largest number of pages.
fn parse_limit(text: &str) -> Option<u64> {
    let limit = text.trim().parse().ok();
    limit.filter(|limit| *limit < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read_whatever_the_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 9 0 1234 \
                    20000000 300 18446744073709551615 1 1";
        let expected = Process {
            cpu: Duration::from_secs(2),
            resident_bytes: 300 * 4096,
            virtual_bytes: 20_000_000,
            threads: 9,
            started: Duration::from_millis(12_340),
        };
        assert_eq!(Process::parse(stat, 100, 4096), Some(expected));
        assert_eq!(Process::parse("7 (a) S 1", 100, 4096), None);
        assert_eq!(
            boot_time("cpu 1 2\nbtime 1700000000\nx 1\n"),
            Some(Duration::from_secs(1_700_000_000))
        );
    }

    #[test]
    fn a_limit_may_be_none() {
        assert_eq!(parse_limit("100663296\n"), Some(100_663_296));
        assert_eq!(parse_limit("max\n"), None);
        assert_eq!(parse_limit("9223372036854771712\n"), None);
    }

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let process = Process::read().unwrap();
        assert!(process.resident_bytes > 100_000 && process.threads > 0);
        assert!(process.started().unwrap() > Duration::from_secs(1_700_000_000));
        assert!(open_files().unwrap() > 2);
    }
}
