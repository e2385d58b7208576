//! Which files read a time of day: clocks of machines differ, so each says why that does no harm.

use super::{check_none, sources};

/// What reads a time of day, or turns a timestamp of Kubernetes into one.
const READS: [&str; 5] = [
    ".wall_now()",
    ".system_time()",
    "context.wall",
    "self.wall",
    "SystemTime::now()",
];

/// The files that may, and why.
const READERS: &[(&str, &str)] = &[
    ("src/clock.rs", "the clock of this machine"),
    (
        "src/kube/server_clock.rs",
        "how far the clock of this machine is ahead of the API server's",
    ),
    (
        "src/app/engine.rs",
        "the time by the API server's clock, for the coordinator",
    ),
    (
        "src/app/coordinator/context.rs",
        "the only place where the age of a timestamp is found, by the API server's clock",
    ),
    (
        "src/app/coordinator/memory/problem.rs",
        "`since` of a state for which Kubernetes has no time; it is only shown",
    ),
    (
        "src/app/coordinator/record.rs",
        "`Server-Timing` of a start that another replica made; it is only shown",
    ),
    (
        "src/app/mod.rs",
        "when an event is told again; it is only shown",
    ),
    (
        "src/app/reporter.rs",
        "the time of spans, by the clock of this machine",
    ),
    (
        "src/traces.rs",
        "the time of spans, by the clock of this machine",
    ),
    (
        "src/http/server/io_thread.rs",
        "our own header `Date`, by the clock of this machine",
    ),
    (
        "src/logging.rs",
        "the time of a log line, by the clock of this machine",
    ),
    (
        "src/kube/types/scalars.rs",
        "a timestamp of Kubernetes as text",
    ),
    (
        "src/kube/auth/credentials.rs",
        "a plugin on this machine says until when its token is valid; a 401 counts all the same",
    ),
];

#[test]
fn no_other_file_reads_a_time_of_day() {
    let mut offences = Vec::new();
    for source in sources("src") {
        let is_reader = READERS.iter().any(|(path, _)| source.path == *path);
        let is_fixture = source.path.starts_with("src/app/fixture") || source.is_test();
        let mut code = source.code();
        let reads = code.find(|line| READS.iter().any(|read| line.contains(read)));
        match reads {
            Some(line) if !is_reader && !is_fixture => {
                offences.push(format!("{}: {}", source.path, line.trim()));
            }
            None if is_reader => offences.push(format!("{} reads none", source.path)),
            _ => {}
        }
    }
    check_none("a time of day is read, without a reason", &offences);
}
