//! The crates that this one is made of: which were reviewed, in how many versions, and for what reason.

use std::collections::{BTreeMap, BTreeSet};

use super::{check_golden, check_none};
use crate::harness::repository;

/// The crates of Cargo.lock with their versions.
fn locked() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(repository().join("Cargo.lock"));
    let text = text.expect("there is a Cargo.lock");
    let value = |line: &str, key: &str| {
        let rest = line.strip_prefix(key)?.strip_prefix(" = \"")?;
        Some(rest.trim_end_matches('"').to_owned())
    };
    let packages = text.split("[[package]]").skip(1);
    let mut all: Vec<(String, String)> = packages
        .filter_map(|package| {
            let name = package.lines().find_map(|line| value(line, "name"))?;
            let version = package.lines().find_map(|line| value(line, "version"))?;
            Some((name, version))
        })
        .collect();
    all.sort();
    all
}

/// The list is by name alone: a new version is no news, a new crate is.
#[test]
fn dependencies_are_those_that_were_reviewed() {
    let names: BTreeSet<String> = locked().into_iter().map(|(name, _)| name).collect();
    let mut text: String = names.into_iter().collect::<Vec<_>>().join("\n");
    text.push('\n');
    check_golden("dependencies.txt", &text);
}

/// Crates of which there may be two versions, and why.
const DOUBLE_CRATES: &[(&str, &str)] = &[
    (
        "getrandom",
        "a call to the system for random bytes: ring asks for 0.2, rand, which OpenTelemetry's SDK numbers spans with, for 0.3",
    ),
    (
        "syn",
        "a parser of derive macros, which is in no program of ours: serde has gone on to 3, jiff and prost not yet",
    ),
    (
        "windows-sys",
        "for Windows alone, which we do not build for; ring asks for an older one",
    ),
];

#[test]
fn no_crate_has_two_versions() {
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, version) in locked() {
        versions.entry(name).or_default().push(version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let double: Vec<&str> = versions.keys().map(String::as_str).collect();
    let excused: Vec<&str> = DOUBLE_CRATES.iter().map(|(name, _)| *name).collect();
    assert_eq!(double, excused, "{versions:?}");
}

#[test]
fn every_dependency_has_a_reason() {
    let text = std::fs::read_to_string(repository().join("Cargo.toml"));
    let text = text.expect("there is a Cargo.toml");
    let mut section = "";
    let mut before = "";
    let mut offences = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && let Some((name, _)) = line.split_once(" = ")
            && !before.starts_with(&format!("# {name}: "))
        {
            offences.push(line.to_owned());
        }
        before = line;
    }
    check_none("a dependency without its line of reason", &offences);
}
