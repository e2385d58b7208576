//! Our own program on a real cluster, from its command line to pods that answer.
//!
//! Each test has a namespace of its own, in which the manifests of `manifests/`
//! are applied, and runs the program as a process that has nothing but the token
//! of its service account, so that the Role is tested too. Figures are printed
//! with the word FIGURE in front, also when all is well.
//!
//! | module | what it shows |
//! |---|---|
//! | `main_job` | find, start, list, label and stop instances; requests that make no sense |
//! | `templates` | templates that change, go, or are broken |
//! | `starts` | many callers at once, and a start while the same name is being deleted |
//! | `reads` | a ready instance is answered without a call to Kubernetes |
//! | `outage` | the API server is away for 20 s |
//! | `predecessor` | 2.7.1's instances, a roll-back to it, its Role |
//! | `crash` | `kill -9` in the middle of 50 starts |
//! | `misconfigured` | wrong CA, bad tokens, no such namespace, no cluster at all |
//!
//! | what they stand on | |
//! |---|---|
//! | `ground` | a namespace with our manifests, and who may look into it |
//! | `program` | our program as a process, its log, and an HTTP client for it |
//! | `wire` | a relay before the API server that counts what passes |

mod crash;
pub(crate) mod ground;
mod main_job;
mod misconfigured;
mod outage;
mod predecessor;
pub(crate) mod program;
mod reads;
mod starts;
mod templates;
mod wire;

use std::time::{Duration, Instant};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a start may ask for: longer than any of these takes.
const LONG_WAIT: &str = "wait=60";

/// Asks again and again until there is an answer, and fails the test at the deadline.
#[track_caller]
fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain: {what}"
        );
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
