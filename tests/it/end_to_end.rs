//! Our own program on a real cluster, from its command line to pods that respond.
//!
//! Each test has a namespace of its own with the manifests of `manifests/`. It runs the program as
//! a process with only the token of its service account, so that the Role is tested too. Figures
//! are printed with the word FIGURE in front, also when the test passes.
//!
//! | module | what it shows |
//! |---|---|
//! | `instances` | all instances listed, and many stopped by one request |
//! | `main_job` | find, start, list, label and stop instances; requests that make no sense |
//! | `templates` | templates that change, go, or are broken |
//! | `dry_runs` | what the API server says of templates when they arrive |
//! | `starts` | many callers at once, and a start while the same name is being deleted |
//! | `reads` | a ready instance is answered without a call to Kubernetes |
//! | `outage` | the API server is away for 20 s |
//! | `predecessor` | 2.7.1's instances, a roll-back to it, its Role |
//! | `crash` | `kill -9` in the middle of 50 starts |
//! | `nodes` | a node that is drained, a node that is dead |
//! | `on_change` | edits that restart instances, two replicas, and PUT |
//! | `lifecycles` | Jobs without a pod, Jobs with several pods |
//! | `endings` | how instances end, and what comes after the end |
//! | `idle` | what nobody uses ends, also while replicas restart or stand still |
//! | `deletions` | a stop at every phase of a start, a start at every point of a stop |
//! | `scale` | 300 names, 3,000 callers, three replicas, one of them killed |
//! | `storms` | starts and stops at random leave nothing behind |
//! | `usage` | each ended instance has one usage line, whoever of the replicas is left |
//! | `caps` | never more instances than allowed, with a replica that stops or dies |
//! | `streams` | a start followed on a real node; a storm, told to 300 readers |
//! | `logs` | logs of crash loops, of several containers, of pods that go; 100 MB to a slow reader |
//! | `page` | the status page in a browser, with real pods |
//! | `fencing` | two workers at two replicas: each changes only what it knows |
//! | `proxies` | the recipes for proxies lead to real pods |
//! | `visibility` | how soon the other replica shows what one has written |
//! | `misconfigured` | wrong CA, bad tokens, no such namespace, no cluster at all |
//! | `failure_reports` | the reason of a start that has not succeeded: the right one, and soon |
//! | `chaos` | what holds while a cluster is broken on purpose (`tests/cluster/chaos`) |
//! | `recordings` | what Kubernetes reports during starts, as data for the tests that need no cluster |
//!
//! | what they use | |
//! |---|---|
//! | `environment` | a namespace with our manifests, and who may look into it |
//! | `program` | our program as a process, its log, and an HTTP client for it |
//! | `registry` | a registry that refuses each image in its own way |
//! | `failing_pods` | templates of apps that have trouble |
//! | `watcher` | what the API server reports, watched by the test itself |
//! | `recorder` | every change of Jobs and pods, and the rules that hold of them |
//! | `wire` | a relay before the API server that counts what passes |

mod caps;
mod chaos;
mod check;
mod crash;
mod deletions;
mod dry_runs;
mod endings;
pub(crate) mod environment;
mod failing_pods;
mod failure_reports;
mod fencing;
mod idle;
mod instances;
mod lifecycles;
mod logs;
mod main_job;
mod misconfigured;
mod nodes;
mod on_change;
mod outage;
mod page;
mod predecessor;
pub(crate) mod program;
mod proxies;
mod reads;
mod recorder;
mod recordings;
mod registry;
mod scale;
mod start_queue;
mod starts;
mod storms;
mod streams;
mod templates;
mod usage;
mod visibility;
mod watcher;
mod wire;

use std::time::{Duration, Instant};

/// How long a test waits for a condition.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a start may ask for: longer than any of these takes.
const LONG_WAIT: &str = "wait=60";

/// Asks again and again until there is a response, and fails the test at the deadline.
#[track_caller]
fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "did not happen within {TEST_TIMEOUT:?}: {what}"
        );
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A whole number of the environment; one that is none fails the test.
#[track_caller]
pub(crate) fn number_from_env(name: &str, otherwise: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text}: give a whole number")),
        Err(_) => otherwise,
    }
}
