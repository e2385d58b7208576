//! How long files and functions may be.

use super::{Source, all_sources, check_none};

/// Longest file, in lines.
const FILE_LINES_MAX: usize = 600;

/// Longest function, in lines from its signature to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that may be longer, and why.
#[rustfmt::skip]
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[("src/service.rs", "start", "the wiring of all parts, without a decision"),
    ("tests/it/simulation/callers.rs", "check_response", "one table: what each response must fulfil"),
    ("tests/it/simulation/promises.rs", "description", "one table: the text of each promise"),
    ("tests/it/simulation/replica.rs", "new", "the wiring of all parts, without a decision")];

#[test]
fn files_are_short_or_listed_with_a_reason() {
    let mut offences = Vec::new();
    let all = all_sources();
    for source in &all {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            offences.push(format!("{}: {lines} lines", source.path));
        }
    }
    check_none("files of more than 600 lines", &offences);
}

/// Functions with their first line and their length: rustfmt puts the closing brace of a
/// function under the beginning of its signature.
fn functions(source: &Source) -> Vec<(String, usize)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let words = code.split(['(', '<', ' ']).collect::<Vec<_>>();
        let Some(name) = words
            .iter()
            .position(|word| *word == "fn")
            .filter(|position| *position <= 3 && !code.starts_with("//"))
            .and_then(|position| words.get(position + 1))
            // In a macro's pattern there are names to come.
            .filter(|name| !name.starts_with('$'))
        else {
            continue;
        };
        let close = format!("{}}}", " ".repeat(indent));
        let is_end = |line: &&str| **line == close || line.starts_with(&format!("{close} "));
        if line.ends_with('}') || line.ends_with(';') {
            continue;
        }
        let length = lines[at..].iter().position(is_end);
        found.push(((*name).to_owned(), length.map_or(1, |length| length + 1)));
    }
    found
}

#[test]
fn functions_are_short_or_listed_with_a_reason() {
    let mut offences = Vec::new();
    let mut counted = 0;
    for source in all_sources() {
        for (name, lines) in functions(&source) {
            counted += 1;
            let excused = LONG_FUNCTIONS
                .iter()
                .any(|(path, long, _)| *path == source.path && *long == name);
            if lines > FUNCTION_LINES_MAX && !excused {
                offences.push(format!("{}: {name} has {lines} lines", source.path));
            }
        }
    }
    assert!(counted > 500, "only {counted} functions were found");
    check_none("functions of more than 70 lines", &offences);
}
