//! How starts go, from what the cache shows and what time it is.

use super::*;
use crate::app::fixture::{World, key, n1, waiting_pod};
use crate::app::history::History;
use crate::model::job::JobSettings;
use crate::model::status::TERMINATION_REPORT_WAIT;
use serde_json::json;

/// A replica that follows its start of scim/n1.
struct Follower {
    world: World,
    history: History,
    starts: Starts,
}

impl Follower {
    /// It has just made the Job `u1`, which took a second.
    fn new() -> Self {
        let mut follower = Self {
            world: World::new(),
            history: History::default(),
            starts: Starts::default(),
        };
        follower.begin("u1");
        follower
    }

    fn begin(&mut self, uid: &str) -> (bool, Option<News>) {
        let begun = self.world.instant();
        self.pass(1);
        self.world.job(uid, json!({}));
        self.starts
            .begin(&n1(), &uid.into(), begun, self.world.instant())
    }

    fn pass(&mut self, secs: u64) {
        self.world.pass(Duration::from_secs(secs));
    }

    /// Looks, and has the coordinator take note, as the engine does.
    fn look(&mut self) -> Option<News> {
        let news = self.with_context(|starts, context| starts.look(&n1(), context));
        let seen = self.world.cache.see(&n1());
        let instance = match &seen {
            Observed::Instance(instance) => Some(&**instance),
            _ => None,
        };
        let settings = JobSettings::default();
        self.history
            .note(&n1(), instance, &settings, self.world.wall());
        news
    }

    fn tick(&mut self) -> Vec<News> {
        let all = self.with_context(Starts::tick);
        all.into_iter().map(|(_, news)| news).collect()
    }

    fn with_context<T>(&mut self, act: impl FnOnce(&mut Starts, &Context<'_>) -> T) -> T {
        let context = Context {
            now: self.world.instant(),
            wall: self.world.wall(),
            cache: &self.world.cache,
            catalog: &self.world.catalog,
            history: &self.history,
            is_overdue: false,
        };
        act(&mut self.starts, &context)
    }

    /// The phases that are told of scim/n1, with their seconds.
    fn timings(&self) -> Option<Vec<(Phase, u64)>> {
        let Observed::Instance(instance) = self.world.cache.see(&n1()) else {
            return None;
        };
        let now = self.world.instant();
        let timings = self.starts.timings(&n1(), &instance, now)?;
        Some(
            timings
                .iter()
                .map(|(p, took)| (p, took.as_secs()))
                .collect(),
        )
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn phase(phase: Phase, took: u64) -> News {
    News {
        phase: Some((phase, secs(took))),
        ..News::default()
    }
}

#[test]
fn a_start_is_told_phase_by_phase_and_ends_once() {
    let mut follower = Follower::new();
    assert_eq!(follower.look(), None);
    follower.pass(2);
    follower.world.pod("u1", json!({}));
    assert_eq!(follower.look(), Some(phase(Phase::Creating, 2)));
    follower.pass(3);
    let pulling = waiting_pod("ContainerCreating");
    follower.world.pod("u1", pulling.clone());
    assert_eq!(follower.look(), Some(phase(Phase::Scheduling, 3)));
    follower.world.pod("u1", pulling);
    assert_eq!(follower.look(), None, "nothing is new");
    follower.pass(4);
    follower.world.ready("u1", "10.0.0.1");
    let ended = News {
        ended: Some(Ended::Ready(secs(10))),
        ..phase(Phase::Pulling, 4)
    };
    assert_eq!(follower.look(), Some(ended));
    assert_eq!(follower.look(), None, "it is told once");
}

#[test]
fn a_failure_is_an_end_and_a_verdict() {
    let mut follower = Follower::new();
    follower.pass(5);
    follower.world.ended("u1", "Failed", json!({}));
    // Its pod may yet say why.
    assert_eq!(follower.look(), None);
    let due = follower.starts.next_wake().unwrap();
    assert_eq!(due, follower.world.instant() + TERMINATION_REPORT_WAIT);
    follower.world.pass(TERMINATION_REPORT_WAIT);
    let news = follower.tick().pop().unwrap();
    let ended = news.ended.unwrap();
    assert_eq!(
        (ended.result(), ended.reason()),
        ("failed", "BackoffLimitExceeded")
    );
    let took = secs(5) + TERMINATION_REPORT_WAIT;
    assert_eq!(news.verdict, Some(secs(1) + took));
    assert_eq!(news.phase, Some((Phase::Creating, took)));
    assert_eq!(follower.look(), None);
}

/// As callers hear it: a Job that is retried deletes its pod when it fails.
#[test]
fn a_pod_that_has_gone_says_why_it_failed() {
    for is_gone in [false, true] {
        let mut follower = Follower::new();
        let crashing = json!({"spec": {"restartPolicy": "OnFailure"}, "status": {
            "phase": "Running",
            "conditions": [{"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [{"name": "app", "state": {"running": {}},
                "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}}}],
        }});
        follower.world.pod("u1", crashing);
        follower.look();
        if is_gone {
            follower.world.pod_gone("u1");
            follower.look();
        }
        follower.world.ended("u1", "Failed", json!({}));
        let news = follower.look().unwrap();
        assert_eq!(news.ended, Some(Ended::Failed("Error".into())));
    }
}

#[test]
fn what_cannot_succeed_is_an_end_and_a_verdict_though_nothing_has_ended() {
    let mut follower = Follower::new();
    follower.world.pod("u1", waiting_pod("InvalidImageName"));
    let news = follower.look().unwrap();
    assert_eq!(news.ended, Some(Ended::Failed("InvalidImageName".into())));
    assert_eq!(news.verdict, Some(secs(1)));
    assert_eq!(follower.look(), None);
}

#[test]
fn an_end_before_it_was_ready_is_a_verdict_however_good() {
    let mut follower = Follower::new();
    follower.world.ended("u1", "Complete", json!({}));
    let news = follower.look().unwrap();
    assert_eq!(news.ended, Some(Ended::Finished("Completed")));
    assert_eq!(news.verdict, Some(secs(1)));
}

/// Nobody waits, nothing changes: the budget is over all the same, and the start may still pass.
#[test]
fn a_verdict_that_comes_with_time_is_told_once_and_is_no_end() {
    let mut follower = Follower::new();
    follower.world.pod("u1", waiting_pod("ErrImagePull"));
    assert_eq!(follower.look(), Some(phase(Phase::Creating, 0)));
    let due = follower.starts.next_wake().unwrap();
    assert_eq!(due, follower.world.instant() + secs(10));
    follower.pass(9);
    assert_eq!(follower.tick(), []);
    // The two reasons take turns, and are one trouble.
    follower.world.pod("u1", waiting_pod("ImagePullBackOff"));
    assert_eq!(follower.look(), None);
    follower.pass(1);
    let verdict = News {
        verdict: Some(secs(11)),
        ..News::default()
    };
    assert_eq!(follower.tick(), [verdict]);
    assert_eq!(follower.starts.next_wake(), None);
    follower.world.pod("u1", waiting_pod("ErrImagePull"));
    assert_eq!(follower.look(), None, "it is told once");
    follower.pass(20);
    follower.world.ready("u1", "10.0.0.1");
    let ended = News {
        ended: Some(Ended::Ready(secs(31))),
        ..phase(Phase::Pulling, 30)
    };
    assert_eq!(follower.look(), Some(ended));
}

#[test]
fn after_one_verdict_there_is_no_other() {
    let mut follower = Follower::new();
    follower.world.pod("u1", waiting_pod("ErrImagePull"));
    follower.look();
    follower.pass(10);
    assert!(follower.tick()[0].verdict.is_some());
    follower.world.pod("u1", waiting_pod("InvalidImageName"));
    let news = follower.look().unwrap();
    assert_eq!((news.verdict, news.ended.is_some()), (None, true));
}

#[test]
fn a_start_whose_trouble_is_over_has_no_verdict() {
    let mut follower = Follower::new();
    follower.world.pod("u1", waiting_pod("ErrImagePull"));
    follower.look();
    follower.pass(5);
    follower.world.ready("u1", "10.0.0.1");
    assert_eq!(follower.look().unwrap().verdict, None);
    follower.pass(60);
    assert_eq!(follower.tick(), []);
    assert_eq!(follower.starts.next_wake(), None);
}

#[test]
fn a_job_that_goes_or_is_gone_or_another_is_a_stop() {
    let stopped = News {
        ended: Some(Ended::Stopped),
        ..phase(Phase::Creating, 2)
    };
    let going: [fn(&mut World); 3] = [
        |world| world.deleting("u1"),
        |world| world.job_gone("u1"),
        |world| world.job("u2", json!({})),
    ];
    for goes in going {
        let mut follower = Follower::new();
        follower.look();
        follower.pass(2);
        goes(&mut follower.world);
        assert_eq!(follower.look(), Some(stopped.clone()));
        assert_eq!((follower.look(), follower.timings()), (None, None));
        assert_eq!(follower.starts.next_wake(), None);
    }
}

/// The next Job of a name may be made before the end of the one before it was looked at.
#[test]
fn a_start_that_is_replaced_unseen_is_told_as_stopped() {
    let mut follower = Follower::new();
    follower.world.job_gone("u1");
    let (followed, before) = follower.begin("u2");
    assert!(followed);
    assert_eq!(before.unwrap().ended, Some(Ended::Stopped));
    assert_eq!(follower.look(), None);
    follower.world.ready("u2", "10.0.0.1");
    let ended = follower.look().unwrap().ended;
    assert_eq!(ended, Some(Ended::Ready(secs(1))));
    let (_, before) = follower.begin("u3");
    assert_eq!(before, None, "that one had ended");
}

#[test]
fn the_timings_are_those_of_the_view_and_outlast_the_end_for_a_moment() {
    let mut follower = Follower::new();
    follower.pass(2);
    follower.world.pod("u1", json!({}));
    // The status that is answered may be newer than the one that was looked at.
    let so_far = [
        (Phase::Admitting, 1),
        (Phase::Creating, 2),
        (Phase::Scheduling, 0),
    ];
    assert_eq!(follower.timings().unwrap(), so_far);
    follower.look();
    follower.pass(4);
    follower.world.ready("u1", "10.0.0.1");
    let before = follower.timings().unwrap();
    assert_eq!(before[2], (Phase::Scheduling, 4));
    assert_eq!(before.last(), Some(&(Phase::Readying, 0)));
    follower.look();
    assert_eq!(follower.timings(), Some(before.clone()));
    follower.world.pass(ENDED_KEPT - Duration::from_millis(1));
    follower.tick();
    assert_eq!(follower.timings(), Some(before));
    follower.world.pass(Duration::from_millis(1));
    follower.tick();
    assert_eq!(follower.timings(), None);
    assert!(follower.starts.followed.is_empty() && follower.starts.wakes.is_empty());
}

#[test]
fn what_is_followed_is_bounded() {
    let mut starts = Starts::default();
    let now = Instant::now();
    let begin = |starts: &mut Starts, number: usize| {
        let key = key("scim", &format!("n{number}"));
        starts.begin(&key, &"u".into(), now, now).0
    };
    assert!((0..FOLLOWED_MAX).all(|number| begin(&mut starts, number)));
    assert!(!begin(&mut starts, FOLLOWED_MAX));
    assert!(begin(&mut starts, 0), "it takes its own place");
    // One that has ended makes room at once.
    let ended = key("scim", "n7");
    starts.followed.get_mut(&ended).unwrap().has_ended = true;
    starts.set_wake(&ended, Some(now));
    assert!(begin(&mut starts, FOLLOWED_MAX));
    assert!(!begin(&mut starts, FOLLOWED_MAX + 1));
    assert!(starts.wakes.is_empty());
}
