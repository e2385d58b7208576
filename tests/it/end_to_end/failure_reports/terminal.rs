//! Starts that cannot succeed: the caller gets the reason within a second of the deciding status.
//!
//! The time is measured in this process alone. It begins when the test's own watch gets the
//! deciding status from the API server, and ends with the caller's response.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::environment::TestEnvironment;
use super::super::program::Program;
use super::super::registry::Registry;
use super::super::{LONG_WAIT, failing_pods};
use super::{ExpectedReport, Observed, PULL_ERRORS, offer, tries};
use crate::cluster;

/// Bound on the time until the caller's response.
const SOON: Duration = Duration::from_secs(1);

/// How many starts are tried concurrently.
const AT_ONCE: usize = 4;

/// The kubelet may hear of the end before it hears of the OOM kill, and says `Error` then.
const OUT_OF_MEMORY: &[&str] = &["OOMKilled", "Error"];

/// A start that cannot succeed.
struct TerminalCase {
    app_type: &'static str,
    template: Value,
    /// The kind of the deciding object, and a word in it.
    decides: (&'static str, &'static str),
    expected: ExpectedReport,
}

/// How long one try took.
#[derive(Clone, Copy, Debug)]
struct Took {
    /// From the request.
    whole: Duration,
    /// From the status that decides.
    after_status: Duration,
}

#[test]
#[ignore = "needs a cluster"]
fn a_terminal_failure_is_reported_within_a_second() {
    let cluster = cluster::shared();
    let _alone = cluster::alone();
    let registry = Registry::start();
    let environment = TestEnvironment::new(cluster);
    let mut cases = images(&registry);
    cases.extend(programs());
    try_all(&environment, &cases);
}

#[test]
#[ignore = "needs a cluster"]
fn a_refused_pod_is_reported_within_a_second() {
    let cluster = cluster::shared();
    let _alone = cluster::alone();
    let environment = TestEnvironment::new(cluster);
    failing_pods::restrict(&environment);
    failing_pods::limit_memory(&environment, "64Mi");
    let refused = |message_parts| ExpectedReport::new("creating", &["FailedCreate"], message_parts);
    let decides = ("Event", "FailedCreate");
    try_all(
        &environment,
        &[
            TerminalCase {
                app_type: "pod-security",
                template: failing_pods::privileged(),
                decides,
                expected: refused(&["violates PodSecurity", "privileged"]),
            },
            TerminalCase {
                app_type: "limit-range",
                template: failing_pods::with_memory("128Mi"),
                decides,
                expected: refused(&["maximum memory usage per Container is 64Mi"]),
            },
        ],
    );
}

/// Images that the node cannot get.
fn images(registry: &Registry) -> Vec<TerminalCase> {
    let refused = |app_type, refusal, message_parts| TerminalCase {
        app_type,
        template: failing_pods::image(&registry.image(refusal)),
        decides: ("Pod", "ErrImagePull"),
        expected: ExpectedReport::new("pulling", PULL_ERRORS, message_parts),
    };
    let mut cases = vec![
        refused("missing-image", "r404", &["not found"]),
        refused("registry-401", "r401", &["401 Unauthorized"]),
        refused("registry-401-token", "r401-no-token", &["401 Unauthorized"]),
        refused("registry-401-scope", "r401-scope", &["insufficient_scope"]),
        refused("registry-403", "r403", &["403 Forbidden"]),
    ];
    cases.push(TerminalCase {
        app_type: "bad-image-name",
        template: failing_pods::image("No/Such:Image:Name"),
        decides: ("Pod", "InvalidImageName"),
        expected: ExpectedReport::new("pulling", &["InvalidImageName"], &["must be lowercase"]),
    });
    cases.push(TerminalCase {
        app_type: "image-not-there",
        template: failing_pods::never_pulled(),
        decides: ("Pod", "ErrImageNeverPull"),
        expected: ExpectedReport::new("pulling", &["ErrImageNeverPull"], &["not present"]),
    });
    cases
}

/// Programs that end before they are ready.
fn programs() -> Vec<TerminalCase> {
    let decides = ("Pod", "\"terminated\"");
    vec![
        TerminalCase {
            app_type: "bad-command",
            template: failing_pods::bad_command(),
            decides,
            expected: ExpectedReport::new("starting", &["StartError"], &["/no-such-program"])
                .ended(128, None),
        },
        TerminalCase {
            app_type: "exit-3",
            template: failing_pods::exits("3", "no licence"),
            decides,
            expected: ExpectedReport::new("starting", &["Error"], &["'main'", "code 3"])
                .ended(3, Some("no licence")),
        },
        TerminalCase {
            app_type: "exit-0",
            template: failing_pods::exits("0", "nothing to do"),
            decides,
            expected: ExpectedReport::new("starting", &["Completed"], &["code 0"]).ended(0, None),
        },
        TerminalCase {
            app_type: "out-of-memory",
            template: failing_pods::out_of_memory(),
            decides,
            expected: ExpectedReport::new("starting", OUT_OF_MEMORY, &["'main'", "memory"])
                .ended(137, None),
        },
        TerminalCase {
            app_type: "init-fails",
            template: failing_pods::failing_init(),
            decides,
            expected: ExpectedReport::new("initialising", &["Error"], &["'prepare'", "code 4"])
                .ended(4, Some("no database to prepare")),
        },
    ]
}

/// Tries all of them in turn, a few at once, and prints how long it took until they were reported.
#[track_caller]
fn try_all(environment: &TestEnvironment<'_>, cases: &[TerminalCase]) {
    for case in cases {
        offer(environment, case.app_type, &case.template, &[]);
    }
    let observed = Observed::start(environment);
    let program = environment.program();
    let next = AtomicUsize::new(0);
    let all = Mutex::new(BTreeMap::<usize, Vec<Took>>::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let (number, case) = (number / cases.len(), number % cases.len());
                    if number >= tries() {
                        return;
                    }
                    let took = try_one(&program, &observed, &cases[case], number);
                    let mut all = all.lock().expect("no thread panicked");
                    all.entry(case).or_default().push(took);
                }
            });
        }
    });
    let all = all.into_inner().expect("no thread panicked");
    assert_eq!(all.len(), cases.len());
    cluster::print_line(
        "FIGURE | terminal start | tries | ms after the status: p50 | slowest | ms after the request: p50 |",
    );
    for (case, tries) in &all {
        cluster::print_line(&row(cases[*case].app_type, tries));
    }
    let slowest = all.values().flatten().map(|took| took.after_status).max();
    let slowest = slowest.expect("there were tries");
    assert!(slowest <= SOON, "{slowest:?}");
}

fn try_one(program: &Program, observed: &Observed, case: &TerminalCase, number: usize) -> Took {
    let name = format!("n{number}");
    let path = format!("/app/{}/{name}", case.app_type);
    let began = Instant::now();
    let got = program.get_prefer(&path, LONG_WAIT);
    let reported_at = Instant::now();
    case.expected.check("app_error", &got);
    let decided = observed.when(&format!("{}-{name}", case.app_type), case.decides);
    // Otherwise the kubelet continues its attempts beside the next case.
    program.delete(&path).expect(200);
    Took {
        whole: reported_at - began,
        // The program may receive it a moment before us.
        after_status: reported_at.saturating_duration_since(decided),
    }
}

fn row(app_type: &str, tries: &[Took]) -> String {
    let sorted = |of: fn(&Took) -> Duration| {
        let mut millis: Vec<f64> = tries.iter().map(|t| of(t).as_secs_f64() * 1e3).collect();
        millis.sort_by(f64::total_cmp);
        millis
    };
    let (after, whole) = (sorted(|t| t.after_status), sorted(|t| t.whole));
    let middle = tries.len() / 2;
    format!(
        "FIGURE | {app_type} | {} | {:.1} | {:.1} | {:.0} |",
        tries.len(),
        after[middle],
        after[tries.len() - 1],
        whole[middle]
    )
}
