//! `bench-cluster WORD…`: a fake API server in a process of its own, filled as the words say, for
//! measurements and attacks. What it may hold is in `cluster/contents.rs`.
//!
//! A process of its own, so that its cost is not counted as the service's. It prints the path of a
//! kubeconfig once it is ready. Then it responds to each line of its input with a line:
//!
//! | line | what it does |
//! |---|---|
//! | `calls` | the number of requests so far, without watches |
//! | `reports` | how often Leases were written so far, and the bytes of the longest report in them |
//! | `edit TIMES SECONDS` | changes the template of `t0` so many times a second, meanwhile |
//! | `touch` | changes a label of each pod |
//! | `cut MILLIS SECONDS` | closes all connections, again and again, meanwhile |
//! | `delay VERB RESOURCE MILLIS` | delays the response to each such request |
//! | `endless` | each response goes on until the client closes, and all is listed again |
//! | `log MEGABYTES` | the containers of `i1` and `i2` write so much |
//! | `hold` | the controllers rest: a new Job gets no pod |
//! | `clear` | ends all faults; the controllers go on |
//!
//! At the end of its input it removes the kubeconfig and exits.

#[path = "../fake_kube/mod.rs"]
mod fake_kube;

#[path = "cluster/contents.rs"]
mod contents;

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::thread::{Scope, sleep};
use std::time::{Duration, Instant};

use contents::Contents;
use fake_kube::FakeKube;
use fake_kube::cluster::resource::Resource;
use fake_kube::faults::{Fault, FaultRule};
use serde_json::json;

const NAMESPACE: &str = "default";

/// What the service may do, here as in a cluster.
const ROLE: &str = concat!(
    include_str!("../../manifests/base/role.yaml"),
    "---\n",
    include_str!("../../manifests/read-logs/role.yaml")
);

/// How many writes can be watched again: the objects of some attacks are large.
const HISTORY_MAX: usize = 50_000;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match Contents::parse(&words).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench-cluster: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(contents: Contents) -> Result<(), String> {
    let fake = FakeKube::builder()
        .role(NAMESPACE, ROLE)
        .history_max(HISTORY_MAX)
        .start()
        .map_err(|error| format!("cannot listen: {error}"))?;
    contents.fill(&fake)?;
    let kubeconfig =
        std::env::temp_dir().join(format!("bench-cluster-{}.yaml", std::process::id()));
    std::fs::write(&kubeconfig, fake.kubeconfig(NAMESPACE))
        .map_err(|error| format!("cannot write {}: {error}", kubeconfig.display()))?;
    let served = std::thread::scope(|scope| serve(scope, &fake, &kubeconfig));
    // Left over in the folder for temporary files at worst.
    let _ = std::fs::remove_file(&kubeconfig);
    served
}

/// Responds to lines until the end of the input.
fn serve<'s>(
    scope: &'s Scope<'s, '_>,
    fake: &'s FakeKube,
    kubeconfig: &Path,
) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    let mut write_line = |line: String| {
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .map_err(|error| format!("the output is closed: {error}"))
    };
    write_line(kubeconfig.display().to_string())?;
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let words: Vec<&str> = line.split_whitespace().collect();
        write_line(obey(scope, fake, &words).unwrap_or_else(|| "?".to_owned()))?;
    }
    Ok(())
}

/// Carries out one line, and returns the response to it.
fn obey<'s>(scope: &'s Scope<'s, '_>, fake: &'s FakeKube, words: &[&str]) -> Option<String> {
    let number = |text: &str| text.parse::<u64>().ok();
    match words {
        ["calls"] => {
            let calls = fake.count("*", "*") - fake.count("watch", "*");
            return Some(calls.to_string());
        }
        ["reports"] => {
            let writes = fake.count("patch", "leases") + fake.count("create", "leases");
            return Some(format!("{writes} {}", longest_report(fake)));
        }
        ["edit", times, seconds] => {
            let every = Duration::from_secs(1) / u32::try_from(number(times)?).ok()?;
            let seconds = Duration::from_secs(number(seconds)?);
            let edit = |round| drop(fake.apply(NAMESPACE, &contents::app_type(0, round)));
            scope.spawn(move || again_and_again(every, seconds, edit));
        }
        ["cut", millis, seconds] => {
            let every = Duration::from_millis(number(millis)?);
            let seconds = Duration::from_secs(number(seconds)?);
            scope.spawn(move || again_and_again(every, seconds, |_| fake.cut_connections()));
        }
        ["touch"] => touch(fake),
        ["delay", verb, resource, millis] => {
            let delay = Fault::Delay(Duration::from_millis(number(millis)?));
            fake.fault(FaultRule::new(verb, resource, delay));
        }
        ["endless"] => {
            fake.fault(FaultRule::new("*", "*", Fault::Endless));
            fake.with(|model| model.cluster.skip_revisions(10));
            fake.compact();
            fake.cut_connections();
        }
        ["log", megabytes] => {
            let line = format!("{}\n", "x".repeat(1023));
            let text = line.repeat(1024 * usize::try_from(number(megabytes)?).ok()?);
            for name in ["hello-i1", "hello-i2"] {
                let pods = fake.all(Resource::Pods, NAMESPACE);
                let names = pods.iter().map(|pod| fake_kube::cluster::meta(pod, "name"));
                let pod = names
                    .into_iter()
                    .find(|pod| pod.starts_with(&format!("{name}-")))?;
                fake.write_log(NAMESPACE, pod, "hello", &text);
            }
        }
        ["hold"] => fake.set_auto(false),
        ["clear"] => {
            fake.clear_faults();
            fake.set_auto(true);
        }
        _ => return None,
    }
    Some("done".to_owned())
}

/// The bytes of the longest report of uses that a Lease has.
fn longest_report(fake: &FakeKube) -> usize {
    let leases = fake.all(Resource::Leases, NAMESPACE);
    let report = |lease: &std::sync::Arc<serde_json::Value>| {
        let report = &lease["metadata"]["annotations"]["config-controller.semafor.ch/uses"];
        report.as_str().map_or(0, str::len)
    };
    leases.iter().map(report).max().unwrap_or(0)
}

/// Does this every so often, for so long; the number of the round is given.
fn again_and_again(every: Duration, longest: Duration, mut act: impl FnMut(u64)) {
    let begun = Instant::now();
    let mut due = Duration::ZERO;
    let mut round = 0;
    while begun.elapsed() < longest {
        round += 1;
        act(round);
        due += every;
        sleep(due.saturating_sub(begun.elapsed()));
    }
}

/// Changes a label of each pod, so that each is sent to all watches.
fn touch(fake: &FakeKube) {
    for pod in fake.all(Resource::Pods, NAMESPACE) {
        let name = fake_kube::cluster::meta(&pod, "name").to_owned();
        let key = (Resource::Pods, NAMESPACE.to_owned(), name);
        fake.with(|model| {
            model.cluster.change(&key, |pod| {
                pod["metadata"]["labels"]["touched"] = json!("yes");
            })
        });
    }
}
