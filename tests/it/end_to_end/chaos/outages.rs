//! The API server is killed again and again while instances are started and stopped. Nothing is halted
//! meanwhile: Kubernetes' own clients are left to their back-off, so the garbage collector lags behind, and
//! pods outlive their Jobs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use super::super::environment::{STAND_IN, real};
use super::super::eventually;
use super::super::program::PATIENT;
use super::{Fixture, Report, Scenario, pause};

pub(super) const API_OUTAGES: Scenario = Scenario {
    name: "api-outages",
    must: "the API server is killed four times (away for 10, 20, 30 and 40 s) while two callers each start and \
           stop ten names; every name works again afterwards",
    settings: PATIENT,
    blind: Duration::ZERO,
    play,
};

/// How long the API server is away each time.
const AWAY_SECS: [u64; 4] = [10, 20, 30, 40];

/// Load before each outage, and after the last: the garbage collector lags for up to 50 s.
const BETWEEN: Duration = Duration::from_secs(20);
const AFTER: Duration = Duration::from_secs(60);

/// Names of real pods, and of stand-ins.
const NAMES: [&str; 10] = [
    "real/n0",
    "real/n1",
    "real/n2",
    "real/n3",
    "stand-in/n4",
    "stand-in/n5",
    "stand-in/n6",
    "stand-in/n7",
    "stand-in/n8",
    "stand-in/n9",
];

fn play(fixture: &Fixture<'_>, _: &mut Report) {
    let environment = &fixture.environment;
    environment.offer("stand-in", "stand-in", STAND_IN);
    environment.offer("real", "real", &real("real", 1, &[]));
    for program in &fixture.replicas {
        for app_type in ["real", "stand-in"] {
            program.wait_log(&format!("app type {app_type} is on offer"));
        }
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (number, name) in NAMES.iter().enumerate() {
            for caller in 0..2 {
                let is_over = &is_over;
                scope.spawn(move || start_and_stop(fixture, name, number + caller, is_over));
            }
        }
        // The callers stop, also where a step here fails.
        let stop = OnDrop(&is_over);
        for secs in AWAY_SECS {
            pause(BETWEEN);
            fixture.signal("kube-apiserver", Signal::KILL);
            pause(Duration::from_secs(secs));
            environment.cluster.apiserver("start");
            fixture.recording.note("kube-apiserver: started");
        }
        pause(AFTER);
        drop(stop);
    });
    for (number, name) in NAMES.iter().enumerate() {
        fixture.start(number, &format!("/app/{name}"));
        fixture.ask(number, "DELETE", &format!("/app/{name}"), "wait=60");
    }
    eventually("no pod is left", || {
        environment.list("pods").is_empty().then_some(())
    });
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Starts and stops a name until it is over, each time through the next replica.
fn start_and_stop(fixture: &Fixture<'_>, name: &str, first: usize, is_over: &AtomicBool) {
    let path = format!("/app/{name}");
    let mut replica = first;
    while !is_over.load(Ordering::SeqCst) {
        replica += 1;
        let got = fixture.ask(replica, "GET", &path, "wait=10");
        if got.is_some_and(|got| got.code == 200) {
            fixture.ask(replica + 1, "DELETE", &path, "wait=5");
        }
        // A 503 comes at once while the API server is away.
        std::thread::park_timeout(Duration::from_millis(100));
    }
}
