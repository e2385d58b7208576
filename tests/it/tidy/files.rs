//! Which files there are: the top level is short, and no built program is among them.

use std::fs;
use std::path::{Path, PathBuf};

use super::check_none;

/// All that may stand at the top level beside hidden files.
const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "Containerfile",
    "LICENSE",
    "README.md",
    "manifests",
    "src",
    "tests",
];

/// More than any file of text has here.
const FILE_BYTES_MAX: u64 = 1 << 20;

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of the repository can be read");
    let paths = entries.map(|entry| entry.expect("its entries can be read").path());
    paths.collect()
}

#[test]
fn the_top_level_is_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut offences = Vec::new();
    for path in entries(root) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_known = TOP_LEVEL.contains(&&*name) || name.starts_with('.');
        // What cargo builds, and tests/image.
        let is_built = name == "target" || path.join("CACHEDIR.TAG").exists();
        if !is_known && !is_built {
            offences.push(name.into_owned());
        }
    }
    check_none("files at the top level that do not belong there", &offences);
}

#[test]
fn no_file_is_a_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = ["src", "tests", "manifests"]
        .map(|name| root.join(name))
        .into();
    let mut offences = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            let metadata = path.symlink_metadata().expect("its size can be read");
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.len() > FILE_BYTES_MAX {
                offences.push(format!("{}: {} bytes", path.display(), metadata.len()));
            }
        }
    }
    check_none("files of more than 1 MiB", &offences);
}
