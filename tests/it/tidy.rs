//! Rules of this repository, as tests instead of remarks in every review: here what they share, in
//! the folder the rules, by what they are about.

mod clocks;
mod dependencies;
mod documents;
mod files;
mod imports;
mod layers;
mod lengths;
mod text;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::repository;

/// A source file of this repository.
struct Source {
    /// From the root of the repository, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// Its lines without comments and without its tests. A `mod tests;` for a file of its own may
    /// stand anywhere, tests in the file stand at its end.
    fn code(&self) -> impl Iterator<Item = &str> {
        let mut lines = self.text.lines().peekable();
        std::iter::from_fn(move || {
            while lines.peek()?.starts_with("#[cfg(test)]") {
                lines.next();
                lines.next().filter(|declared| declared.ends_with(';'))?;
            }
            lines.next()
        })
        .filter(|line| !line.trim_start().starts_with("//"))
    }

    fn is_test(&self) -> bool {
        self.path.contains("/tests") || self.path.starts_with("tests/")
    }
}

/// All Rust files under this folder.
fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![repository().join(folder)];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).expect("a folder of the repository");
        for entry in entries {
            let path: PathBuf = entry.expect("an entry of a folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(Source {
                    path: shown(&path),
                    text: std::fs::read_to_string(&path).expect("a source file is text"),
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn shown(path: &Path) -> String {
    let path = path.strip_prefix(repository()).expect("a path of ours");
    path.to_string_lossy().replace('\\', "/")
}

fn all_sources() -> Vec<Source> {
    let mut all = sources("src");
    all.extend(sources("tests"));
    assert!(all.len() > 50, "the sources are found");
    all
}

#[track_caller]
fn check_none(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n{}", offences.join("\n"));
}

/// Compares with a file of `tests/it/golden`; `UPDATE_EXPECT=1` rewrites it.
#[track_caller]
pub(crate) fn check_golden(name: &str, text: &str) {
    let path = repository().join("tests/it/golden").join(name);
    if std::env::var("UPDATE_EXPECT").as_deref() == Ok("1") {
        std::fs::write(&path, text).expect("a golden file can be written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text, golden,
        "{name}: UPDATE_EXPECT=1 cargo test rewrites it"
    );
}

/// What a Role grants, as verb and resource.
pub(crate) fn granted(yaml: &str) -> BTreeSet<(String, String)> {
    let role: Value = serde_yaml::from_str(yaml).expect("the Role is YAML");
    let strings = |list: &Value| -> Vec<String> {
        let all = list.as_array().into_iter().flatten();
        all.filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let rules = role["rules"].as_array().expect("a Role has rules");
    let mut all = BTreeSet::new();
    for rule in rules {
        for resource in strings(&rule["resources"]) {
            for verb in strings(&rule["verbs"]) {
                all.insert((verb, resource.clone()));
            }
        }
    }
    all
}
