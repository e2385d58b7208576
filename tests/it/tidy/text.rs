//! The text of the code: its form, words that may not stand in it, and which tests are ignored.

use std::process::Command;

use super::{all_sources, check_none};
use crate::harness::repository;

/// Words that are for the moment only, or for programs that are no service. Put together here,
/// so that this file does not find itself.
fn forbidden_words() -> [String; 4] {
    ["dbg", "todo", "unimplemented", "println"].map(|word| format!("{word}!"))
}

#[test]
fn the_code_is_formatted() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["fmt", "--check"])
        .current_dir(repository())
        .output()
        .expect("cargo can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "run `cargo fmt`:\n{text}");
}

#[test]
fn no_debugging_macros_and_no_sleeps() {
    let words = forbidden_words();
    let nap = ["thread", "::sleep"].concat();
    let mut offences = Vec::new();
    for source in all_sources() {
        let prints =
            source.path == "src/main.rs" || source.path.ends_with("/main.rs") || source.is_test();
        for (number, line) in source.text.lines().enumerate() {
            let word = words.iter().find(|word| {
                line.contains(word.as_str()) && !(prints && word.starts_with("print"))
            });
            let naps = source.path.starts_with("tests/it/") && line.contains(&nap);
            if word.is_some() || naps {
                offences.push(format!("{}:{}: {line}", source.path, number + 1));
            }
        }
    }
    check_none("words that may not stay", &offences);
}

/// A test that is ignored for another reason would never run: the gate provides these.
#[test]
fn only_tests_that_need_a_cluster_a_proxy_or_a_browser_are_ignored() {
    let ignored = ["#[", "ignore"].concat();
    let reasons = ["a cluster", "nginx", "envoy", "a browser"]
        .map(|what| format!("{ignored} = \"needs {what}\"]"));
    let (mut offences, mut count) = (Vec::new(), 0);
    for source in all_sources() {
        for (number, line) in source.text.lines().enumerate() {
            let line = line.trim_start();
            let is_known = reasons.iter().any(|reason| reason == line);
            count += usize::from(is_known);
            if line.starts_with(&ignored) && !is_known {
                offences.push(format!("{}:{}: {line}", source.path, number + 1));
            }
        }
    }
    assert!(count > 50, "only {count} ignored tests were found");
    check_none("tests that are ignored for another reason", &offences);
}
