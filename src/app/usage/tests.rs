//! What is reported of a life, from the events of it that a replica has seen; and by which replica.

use super::*;
use crate::app::api_call::StopCause;
use crate::app::fixture::{n1, origin};
use crate::clock::SystemClock;
use crate::kube::types::{Lease, ObjectMeta};
use crate::model::status::Finding;
use crate::store::{Sink, StoreEvent};

/// One Job, as a replica sees it.
struct Watched {
    lives: Lives,
    begun: Instant,
    found: Found,
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

impl Watched {
    /// Its Job was made so many seconds before the first event.
    fn new(age: u64) -> Self {
        let begun = Instant::now() + secs(1_000_000);
        Self {
            lives: Lives::default(),
            begun,
            found: Found {
                owner: "ann".into(),
                made: Some(begun - secs(age)),
                ready: None,
                is_suspended: false,
                has_ended: false,
            },
        }
    }

    fn see(&mut self, after: u64, kind: LifecycleKind) -> Option<Ended> {
        self.note(after, kind, true)
    }

    fn note(&mut self, after: u64, kind: LifecycleKind, is_news: bool) -> Option<Ended> {
        let event = Lifecycle {
            key: n1(),
            job_uid: Some("u1".into()),
            at: self.begun + secs(after),
            kind,
            is_news,
            phase_left: None,
            start_ended: None,
        };
        let found = self.found.clone();
        self.lives.note(&event, || Some(found.clone()))
    }

    /// It has ended, and the cache knows.
    fn fail(&mut self, after: u64, is_news: bool) -> Option<Ended> {
        self.found.has_ended = true;
        self.note(after, failed(), is_news)
    }
}

fn finding(reason: &str) -> Finding {
    Finding {
        reason: reason.into(),
        ..Finding::created()
    }
}

fn created() -> LifecycleKind {
    LifecycleKind::Created(origin("ann"))
}

fn ready() -> LifecycleKind {
    LifecycleKind::Ready {
        after: None,
        recovered: false,
    }
}

fn in_phase() -> LifecycleKind {
    LifecycleKind::InPhase {
        finding: finding("Pulling"),
        is_failing: false,
    }
}

fn failed() -> LifecycleKind {
    LifecycleKind::Failed {
        finding: finding("Error"),
        is_final: true,
        reported_after: None,
    }
}

#[track_caller]
fn check(ended: Option<Ended>, after: Option<u64>, ready: Option<u64>, cause: &str) {
    let ended = ended.expect("it is over");
    assert_eq!(&*ended.owner, "ann");
    let seen = (ended.ready_after, ended.ready_for, &*ended.cause);
    assert_eq!(seen, (after.map(secs), ready.map(secs), cause));
}

#[test]
fn a_life_is_reported_once_when_it_has_ended() {
    let mut watched = Watched::new(0);
    assert_eq!(watched.see(0, created()), None);
    assert_eq!(watched.see(2, in_phase()), None);
    assert_eq!(watched.see(7, ready()), None);
    check(watched.fail(107, true), Some(7), Some(100), "Error");
    let stop = LifecycleKind::Stopping(Some(StopCause::Replaced));
    assert_eq!(watched.see(120, stop), None);
    assert_eq!(watched.see(121, LifecycleKind::Gone), None);
    assert!(watched.lives.is_empty());
    // Its result may come twice.
    assert_eq!(watched.see(121, LifecycleKind::Gone), None);
}

#[test]
fn one_that_is_stopped_is_over_when_it_is_gone() {
    for (cause, word) in [(Some(StopCause::Idle), "idle"), (None, "stopped")] {
        let mut watched = Watched::new(0);
        watched.see(0, in_phase());
        watched.see(3, ready());
        // It is not ready for a while.
        watched.see(10, in_phase());
        watched.see(20, ready());
        assert_eq!(watched.see(50, LifecycleKind::Stopping(cause)), None);
        let gone = watched.see(63, LifecycleKind::Gone);
        check(gone, Some(3), Some(60), word);
    }
}

#[test]
fn what_was_never_ready_was_so_for_no_time() {
    let mut watched = Watched::new(0);
    watched.see(0, created());
    // Reported as failed for good, but it is not over: the image may still come.
    assert_eq!(watched.see(1, failed()), None);
    watched.see(30, LifecycleKind::Stopping(None));
    let gone = watched.see(31, LifecycleKind::Gone);
    check(gone, None, Some(0), "Error");
    // It came.
    let mut watched = Watched::new(0);
    watched.see(0, created());
    watched.see(1, failed());
    watched.see(5, ready());
    watched.see(30, LifecycleKind::Stopping(None));
    let gone = watched.see(31, LifecycleKind::Gone);
    check(gone, Some(5), Some(26), "stopped");
}

#[test]
fn what_was_never_admitted_is_not_reported() {
    for (is_admitted, then) in [(false, in_phase()), (true, in_phase()), (true, ready())] {
        let mut watched = Watched::new(0);
        watched.found.is_suspended = true;
        watched.see(0, created());
        watched.see(1, in_phase());
        watched.found.is_suspended = !is_admitted;
        watched.see(2, then);
        watched.found.is_suspended = true;
        watched.see(3, LifecycleKind::Stopping(None));
        let gone = watched.see(4, LifecycleKind::Gone);
        assert_eq!(gone.is_some(), is_admitted);
    }
}

/// A replica that has started since has the times of Kubernetes, or none.
#[test]
fn what_was_not_seen_is_not_made_up() {
    let stop = |watched: &mut Watched| {
        watched.see(50, LifecycleKind::Stopping(None));
        watched.see(60, LifecycleKind::Gone)
    };
    // It was ready.
    let mut watched = Watched::new(1000);
    watched.found.ready = Some(watched.begun - secs(900));
    watched.note(0, ready(), false);
    check(stop(&mut watched), None, Some(960), "stopped");
    // Nobody says since when.
    let mut watched = Watched::new(1000);
    watched.note(0, ready(), false);
    check(stop(&mut watched), None, Some(60), "stopped");
    // It was starting, or had been ready before.
    let mut watched = Watched::new(1000);
    watched.note(0, in_phase(), false);
    check(stop(&mut watched), None, None, "stopped");
    let mut watched = Watched::new(1000);
    watched.note(0, in_phase(), false);
    watched.see(10, ready());
    check(stop(&mut watched), Some(1010), Some(50), "stopped");
    // It had ended, and was reported then.
    let mut watched = Watched::new(1000);
    assert_eq!(watched.fail(0, false), None);
    assert_eq!(stop(&mut watched), None);
    // The watch was away while its Job was made.
    let mut watched = Watched::new(100);
    watched.see(0, in_phase());
    watched.see(10, ready());
    check(stop(&mut watched), Some(110), Some(50), "stopped");
}

#[test]
fn no_more_are_followed_than_there_is_memory_for() {
    let mut lives = Lives::default();
    let mut event = Lifecycle {
        key: n1(),
        job_uid: None,
        at: Instant::now(),
        kind: in_phase(),
        is_news: true,
        phase_left: None,
        start_ended: None,
    };
    for number in 0..=FOLLOWED_MAX {
        event.job_uid = Some(format!("u{number}").as_str().into());
        lives.note(&event, || None);
    }
    assert_eq!(lives.len(), FOLLOWED_MAX);
    event.kind = LifecycleKind::Gone;
    assert_eq!(lives.note(&event, || None), None);
    event.job_uid = Some("u0".into());
    assert!(lives.note(&event, || None).is_some());
}

fn lease(name: &str, is_live: bool) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: name.into(),
            resource_version: "1".into(),
            ..ObjectMeta::default()
        },
        uses: "".into(),
        is_live,
    }
}

fn apply(leases: &UseReports, event: StoreEvent<Lease>) {
    assert!(leases.apply(event).is_empty());
}

fn reporters(replica: &str, leases: &UseReports) -> Reporters {
    Reporters {
        replica: replica.into(),
        has_pod: true,
        leases: leases.clone(),
        rights: MissingRights::default(),
    }
}

fn uids() -> impl Iterator<Item = Uid> {
    (0..200).map(|number| format!("u{number}").as_str().into())
}

#[test]
fn each_job_is_reported_by_one_of_the_replicas_that_have_a_lease() {
    let leases = UseReports::new(Arc::new(SystemClock));
    let ours = |replica: &str| -> Vec<Uid> {
        let reporters = reporters(replica, &leases);
        uids().filter(|uid| reporters.is_ours(uid)).collect()
    };
    assert_eq!(ours("a"), [], "which there are is not known yet");
    apply(&leases, StoreEvent::Init);
    apply(&leases, StoreEvent::InitApply(lease("b", true)));
    apply(&leases, StoreEvent::InitApply(lease("left", false)));
    apply(&leases, StoreEvent::InitDone("1".into()));
    assert_eq!(ours("b").len(), 200);
    assert_eq!(ours("a"), [], "its own is not there yet");
    for name in ["a", "c"] {
        apply(&leases, StoreEvent::Apply(lease(name, true)));
    }
    let all = ["a", "b", "c"].map(ours);
    let once = |uid: &Uid| all.iter().filter(|ours| ours.contains(uid)).count() == 1;
    assert!(uids().all(|uid| once(&uid)) && all.iter().all(|ours| ours.len() > 40));
    apply(
        &leases,
        StoreEvent::Delete {
            name: "b".into(),
            uid: "".into(),
            version: "2".into(),
        },
    );
    assert_eq!(ours("a").len() + ours("c").len(), 200);
    assert!(all[0].iter().all(|uid| ours("a").contains(uid)));
}

#[test]
fn without_leases_each_replica_reports_all() {
    let leases = UseReports::new(Arc::new(SystemClock));
    let one = reporters("a", &leases);
    assert!(!one.is_ours(&"u1".into()));
    assert!(one.rights.note_leases(true));
    assert!(one.is_ours(&"u1".into()));
    let outside = Reporters {
        has_pod: false,
        ..reporters("a", &leases)
    };
    assert!(outside.is_ours(&"u1".into()));
}

/// By their module, these lines have a larger bound.
#[test]
fn lines_are_logged_from_a_module_that_the_log_knows() {
    let module = module_path!().strip_suffix("::tests").unwrap();
    assert_eq!(module, crate::logging::INSTANCE_EVENTS[1]);
}
