//! What is taken of reports: each once, with its arrival; nothing is kept without bound.

use super::*;
use crate::kube::types::ObjectMeta;
use std::time::SystemTime;

/// A clock that tests set.
#[derive(Debug)]
struct Hand(Mutex<Instant>);

impl Clock for Hand {
    fn now(&self) -> Instant {
        *lock(&self.0)
    }

    fn wall_now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

struct Fixture {
    hand: Arc<Hand>,
    reports: UseReports,
}

impl Fixture {
    fn new() -> Self {
        let hand = Arc::new(Hand(Mutex::new(Instant::now())));
        let clock = Arc::clone(&hand) as Arc<dyn Clock>;
        let reports = UseReports::new(clock);
        reports.watching(true);
        let first = reports.take();
        assert_eq!(first.missed, Some(hand.now()), "nothing is known before");
        Self { hand, reports }
    }

    fn pass(&self, time: Duration) -> Instant {
        let mut now = lock(&self.hand.0);
        *now += time;
        *now
    }

    fn apply(&self, event: StoreEvent<Lease>) {
        assert!(self.reports.apply(event).is_empty());
    }
}

fn lease(name: &str, version: &str, uses: &str) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: name.into(),
            resource_version: version.into(),
            ..ObjectMeta::default()
        },
        uses: uses.into(),
        is_live: false,
    }
}

fn names(news: &News) -> Vec<&str> {
    let mut names: Vec<&str> = news.texts.keys().map(|name| &**name).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_report_is_taken_once_with_its_arrival_and_the_last_one_counts() {
    let fixture = Fixture::new();
    let first = fixture.pass(Duration::from_secs(1));
    fixture.apply(StoreEvent::Apply(lease("a", "1", "0:one")));
    fixture.apply(StoreEvent::Apply(lease("b", "2", "0:two")));
    let second = fixture.pass(Duration::from_secs(1));
    fixture.apply(StoreEvent::Apply(lease("b", "3", "0:three")));
    let news = fixture.reports.take();
    let texts = [
        ("a".into(), ("0:one".into(), first)),
        ("b".into(), ("0:three".into(), second)),
    ];
    assert_eq!(news.texts, HashMap::from(texts));
    assert_eq!(news.missed, None);
    assert_eq!(fixture.reports.take(), News::default());
}

/// Caches are compared with lists now and then; what they repeat was not used later.
#[test]
fn what_a_list_repeats_is_no_news() {
    let fixture = Fixture::new();
    fixture.apply(StoreEvent::Apply(lease("a", "5", "0:one")));
    let _ = fixture.reports.take();
    fixture.pass(Duration::from_secs(900));
    for event in [
        StoreEvent::Init,
        StoreEvent::InitApply(lease("a", "5", "0:one")),
        StoreEvent::InitDone("9".into()),
    ] {
        fixture.apply(event);
    }
    fixture.reports.listed([lease("a", "5", "0:one")], true);
    assert_eq!(fixture.reports.take(), News::default());
    // After a restore of etcd versions are lower.
    fixture.apply(StoreEvent::Apply(lease("a", "4", "0:two")));
    assert_eq!(names(&fixture.reports.take()), ["a"]);
}

#[test]
fn only_a_watch_that_is_closed_for_long_may_have_missed_reports() {
    let fixture = Fixture::new();
    fixture.reports.watching(false);
    assert!(!fixture.reports.is_open());
    fixture.pass(REOPENED_WITHIN);
    fixture.reports.watching(true);
    assert_eq!(fixture.reports.take().missed, None);
    fixture.reports.watching(false);
    let reopened = fixture.pass(REOPENED_WITHIN + Duration::from_millis(1));
    fixture.reports.watching(true);
    assert!(fixture.reports.is_open());
    assert_eq!(fixture.reports.take().missed, Some(reopened));
}

#[test]
fn it_is_known_for_how_long_no_watch_was_open() {
    let long = Duration::from_secs(10);
    let clock = Arc::new(Hand(Mutex::new(Instant::now())));
    let fixture = Fixture {
        reports: UseReports::new(Arc::clone(&clock) as Arc<dyn Clock>),
        hand: clock,
    };
    let just_less = Duration::from_millis(9_999);
    let still = Duration::from_millis(1);
    fixture.pass(just_less);
    assert!(!fixture.reports.is_closed_for(long));
    fixture.pass(still);
    assert!(fixture.reports.is_closed_for(long), "there was none yet");
    fixture.reports.watching(true);
    fixture.pass(long);
    assert!(!fixture.reports.is_closed_for(long));
    fixture.reports.watching(false);
    fixture.pass(just_less);
    assert!(!fixture.reports.is_closed_for(long));
    fixture.pass(still);
    assert!(fixture.reports.is_closed_for(long));
}

#[test]
fn what_does_not_fit_counts_as_a_use_of_all() {
    let fixture = Fixture::new();
    let now = fixture.hand.now();
    let one = REPORT_BYTES_MAX / 2;
    for (name, version, text, missed) in [
        ("a", "1", "x".repeat(one), None),
        ("b", "2", "x".repeat(one), None),
        // It takes the place of the one before.
        ("b", "3", "y".repeat(one), None),
        ("c", "4", "x".to_owned(), Some(now)),
    ] {
        fixture.apply(StoreEvent::Apply(lease(name, version, &text)));
        assert_eq!(lock(&fixture.reports.state).news.missed, missed, "{name}");
    }
    let _ = fixture.reports.take();
    for number in 0..=REPLICAS_MAX {
        fixture.apply(StoreEvent::Apply(lease(&format!("r{number}"), "7", "0:x")));
    }
    let news = fixture.reports.take();
    assert_eq!(news.missed, Some(now));
    assert!(news.texts.len() <= REPLICAS_MAX);
    // The same if a list has had no room for all.
    fixture.reports.listed([lease("r0", "7", "0:x")], true);
    assert_eq!(fixture.reports.take(), News::default());
    fixture.reports.listed([lease("r0", "7", "0:x")], false);
    assert_eq!(fixture.reports.take().missed, Some(now));
    // Replicas that are gone make room.
    fixture.apply(StoreEvent::Init);
    fixture.apply(StoreEvent::InitDone("9".into()));
    fixture.apply(StoreEvent::Apply(lease("new", "8", "0:x")));
    let news = fixture.reports.take();
    assert_eq!(names(&news), ["new"]);
    // They may not have reported their last uses.
    assert_eq!(news.missed, Some(now));
}
