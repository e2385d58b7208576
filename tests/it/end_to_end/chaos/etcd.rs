//! etcd is restored from an older copy while replicas run: each must notice it within two minutes, also one
//! that makes no call of its own.

use std::process::Command;
use std::time::{Duration, Instant};

use super::super::environment::STAND_IN;
use super::super::eventually;
use super::{Fixture, Report, Scenario, ready_ip};
use crate::cluster;
use crate::harness::repository;

/// When each replica must have noticed it.
const NOTICED: Duration = Duration::from_secs(120);

/// When a caller that asks again and again must have a new Job. An API server that has just been started
/// answers its first writes late, and may refuse them until it has read the Roles.
const CREATED: Duration = Duration::from_secs(30);

pub(super) const RESTORED: Scenario = Scenario {
    name: "restored-etcd",
    must: "etcd is restored from an older copy, and the API server restarted: within 120 s each replica forgets \
           what the copy lacks, and creates it anew on request",
    settings: &[],
    blind: NOTICED,
    play: |fixture, report| restore(fixture, report, true),
};

pub(super) const SWAPPED: Scenario = Scenario {
    name: "swapped-etcd",
    must: "the same without a restart of the API server, which goes on showing what was before: within 120 s \
           each replica marks its responses with `X-View-Age`, and its log says why",
    settings: &[],
    blind: NOTICED,
    play: |fixture, report| restore(fixture, report, false),
};

fn restore(fixture: &Fixture<'_>, report: &mut Report, restarts: bool) {
    let environment = &fixture.environment;
    environment.offer("stand-in", "stand-in", STAND_IN);
    for program in &fixture.replicas {
        program.wait_log("app type stand-in is on offer");
    }
    let (kept, lost) = ("/app/stand-in/kept", "/app/stand-in/lost");
    fixture.start(0, kept);
    etcd(fixture, "copy");
    fixture.start(0, lost);
    for program in &fixture.replicas {
        eventually("each replica shows it", || {
            (program.get_prefer(lost, "create=false").code == 200).then_some(())
        });
    }
    etcd(fixture, "restore");
    if restarts {
        environment.cluster.apiserver("stop");
        environment.cluster.apiserver("start");
    }
    fixture.recording.restored();
    let began = Instant::now();
    let mut times = Vec::new();
    for (replica, program) in fixture.replicas.iter().enumerate() {
        let noticed = || {
            let got = fixture.ask(replica, "GET", lost, "create=false")?;
            let has_noticed = match restarts {
                true => got.code != 200 && program.count_log("went back") > 0,
                false => got.cache_age.is_some() && program.count_log("contradicts the list") > 0,
            };
            has_noticed.then(|| began.elapsed())
        };
        let took = loop {
            if let Some(took) = noticed() {
                break Some(took);
            }
            if began.elapsed() > NOTICED {
                break None;
            }
            std::thread::park_timeout(Duration::from_millis(100));
        };
        match took {
            Some(took) => times.push(format!("{:.1}", took.as_secs_f64())),
            None => report.problems.push(format!(
                "replica {replica} has not noticed it within {NOTICED:?}"
            )),
        }
    }
    report
        .seen
        .push(format!("noticed after {} s", times.join(", ")));
    if restarts {
        start_again(fixture, report, lost);
        let got = fixture.ask(2, "GET", kept, "create=false");
        let is_shown = got.as_ref().and_then(ready_ip).is_some();
        report.check(is_shown, || {
            format!("the instance of the copy is not shown: {got:?}")
        });
    }
}

/// Requests the lost instance until it has a new Job. Kubernetes' own controllers are not restarted, and give
/// it no pod.
fn start_again(fixture: &Fixture<'_>, report: &mut Report, lost: &str) {
    let began = Instant::now();
    let mut last = None;
    while !fixture.environment.has_job("stand-in-lost") {
        if began.elapsed() > CREATED {
            report.problems.push(format!(
                "the lost instance has no new Job after {CREATED:?}: {last:?}"
            ));
            return;
        }
        last = fixture.ask(1, "GET", lost, "wait=1");
    }
}

/// `tests/cluster/etcd copy|restore`.
fn etcd(fixture: &Fixture<'_>, what: &str) {
    let script = repository().join("tests/cluster/etcd");
    let folder = fixture.environment.cluster.folder();
    cluster::output(Command::new(script).arg(what).arg(folder));
}
