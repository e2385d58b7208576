//! Scenarios of the machine: inputs in, steps out; no sockets, a manual clock.

mod upkeep;

use super::*;
use crate::kube::error::{Failure, Verb};
use crate::kube::types::{ConfigMap, Skipped, Uid};

/// The interval of lists while the permission to watch is missing.
const POLL: Duration = Duration::from_secs(2);

/// The interval of comparisons with a list.
const RELIST: Duration = Duration::from_secs(900);

/// A machine and its clock.
struct Scenario {
    watch: Watch,
    now: Instant,
}

fn config_map(name: &str, version: &str) -> ConfigMap {
    let mut object = ConfigMap::default();
    object.metadata.name = name.into();
    object.metadata.uid = Uid::from(name);
    object.metadata.resource_version = version.into();
    object
}

fn page(names: &[&str], version: &str, continue_token: Option<&str>) -> Input<ConfigMap> {
    Input::Listed(Ok(Page {
        items: names.iter().map(|name| config_map(name, version)).collect(),
        version: version.into(),
        continue_token: continue_token.map(Into::into),
        skipped: Vec::new(),
        bytes: 0,
    }))
}

fn error(verb: Verb, code: u16, reason: &str) -> Error {
    let body = format!(r#"{{"reason":"{reason}","message":"m","code":{code}}}"#);
    let status = Box::new(Status::from_body(code, body.as_bytes()));
    let failure = Failure::Status {
        status,
        retry_after: None,
    };
    Error {
        verb,
        resource: "configmaps",
        name: None,
        failure,
    }
}

fn away(verb: Verb) -> Error {
    let failure = Failure::Connect("refused".into());
    Error {
        verb,
        resource: "configmaps",
        name: None,
        failure,
    }
}

fn list(continue_token: Option<&str>) -> Next {
    Next::List {
        continue_token: continue_token.map(Into::into),
        limit: PAGE_OBJECTS,
    }
}

fn open(version: &str) -> Next {
    Next::Open {
        version: version.into(),
    }
}

/// A check of the next object by name.
const CHECK: Next = Next::Check { again: false };

const BACK_OFF: Next = Next::BackOff {
    at_least: Duration::ZERO,
};

impl Scenario {
    fn new() -> Self {
        Self {
            watch: Watch::new(POLL, Some(RELIST), 1),
            now: Instant::now(),
        }
    }

    /// One that has listed `a` at version 10 and has an open watch, which has lived for a while.
    fn watching() -> Self {
        let mut scenario = Self::new();
        scenario.check(Input::Woken, list(None));
        scenario.check(page(&["a"], "10", None), open("10"));
        scenario.check(Input::Opened(Ok(())), Next::Read);
        scenario.after(1.0);
        for _ in 1..LIVED.as_secs() {
            scenario.check(Input::Idle, Next::Read);
            scenario.after(1.0);
        }
        scenario
    }

    /// Nothing is received for so many seconds.
    fn idle(&mut self, secs: u64) -> &mut Self {
        for _ in 0..secs {
            self.after(1.0).check(Input::Idle, Next::Read);
        }
        self
    }

    /// The probe shows the version of the watch.
    #[track_caller]
    fn probe(&mut self, version: &str) {
        let probed = Input::Probed(Ok(version.into()), version.into());
        self.check(probed, open(version));
    }

    fn after(&mut self, secs: f64) -> &mut Self {
        self.now += Duration::from_secs_f64(secs);
        self
    }

    /// What happens on this input.
    fn step(&mut self, input: Input<ConfigMap>) -> Step<ConfigMap> {
        self.watch.step(input, self.now)
    }

    #[track_caller]
    fn check(&mut self, input: Input<ConfigMap>, next: Next) -> Vec<Effect<ConfigMap>> {
        let step = self.watch.step(input, self.now);
        assert_eq!(step.next, next);
        step.effects
    }
}

/// The causes of restarts among these.
fn causes(effects: &[Effect<ConfigMap>]) -> Vec<Cause> {
    let cause = |effect: &Effect<_>| match effect {
        Effect::Note(Note::Restart(cause, _)) => Some(*cause),
        _ => None,
    };
    effects.iter().filter_map(cause).collect()
}

fn refusals(effects: &[Effect<ConfigMap>]) -> usize {
    effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Note(Note::Refused(_))))
        .count()
}

#[test]
fn a_list_of_several_pages_is_one_state() {
    let mut scenario = Scenario::new();
    let effects = scenario.check(Input::Woken, list(None));
    assert_eq!(effects, [Effect::Store(StoreEvent::Init)]);
    let effects = scenario.check(page(&["a"], "10", Some("t1")), list(Some("t1")));
    let apply = |name| Effect::Store(StoreEvent::InitApply(config_map(name, "10")));
    assert_eq!(effects, [Effect::Note(Note::Contact), apply("a")]);
    let effects = scenario.check(page(&["b"], "10", None), open("10"));
    let done = Effect::Store(StoreEvent::InitDone("10".into()));
    assert_eq!(effects, [Effect::Note(Note::Contact), apply("b"), done]);
    let effects = scenario.check(Input::Opened(Ok(())), Next::Read);
    assert_eq!(
        effects,
        [
            Effect::Note(Note::Contact),
            Effect::Note(Note::Watching(true))
        ]
    );
}

#[test]
fn a_failed_page_is_requested_again_and_an_expired_token_starts_a_new_list() {
    let mut scenario = Scenario::new();
    scenario.check(Input::Woken, list(None));
    scenario.check(page(&["a"], "10", Some("t1")), list(Some("t1")));
    let effects = scenario.check(Input::Listed(Err(away(Verb::List))), BACK_OFF);
    assert_eq!(causes(&effects), [Cause::Failed]);
    assert_eq!(scenario.check(Input::Woken, list(Some("t1"))), []);
    let expired = error(Verb::List, 410, "Expired");
    let effects = scenario.check(Input::Listed(Err(expired)), BACK_OFF);
    assert_eq!(causes(&effects), [Cause::Expired]);
    let effects = scenario.check(Input::Woken, list(None));
    assert_eq!(effects, [Effect::Store(StoreEvent::Init)]);
}

#[test]
fn a_list_that_does_not_end_or_has_no_version_is_abandoned() {
    for bad in [page(&[], "10", Some("t1")), page(&[], "", None)] {
        let mut scenario = Scenario::new();
        scenario.check(Input::Woken, list(None));
        scenario.check(page(&[], "10", Some("t1")), list(Some("t1")));
        assert_eq!(causes(&scenario.check(bad, BACK_OFF)), [Cause::Broken]);
        scenario.check(Input::Woken, list(None));
    }
}

#[test]
fn events_and_bookmarks_advance_the_version_at_which_the_watch_resumes() {
    let lost = (End::Lost("reset".into()), Cause::Lost, Next::Probe);
    for (end, cause, next) in [(End::Closed, Cause::Closed, open("21")), lost] {
        let mut scenario = Scenario::watching();
        let added = WatchEvent::Changed(config_map("b", "11"));
        let effects = scenario.check(Input::Event(Ok(added)), Next::Read);
        assert_eq!(
            effects[1],
            Effect::Store(StoreEvent::Apply(config_map("b", "11")))
        );
        scenario.check(
            Input::Event(Ok(WatchEvent::Bookmark("20".into()))),
            Next::Read,
        );
        let gone = WatchEvent::Gone(Box::new(config_map("a", "21").metadata));
        let effects = scenario.check(Input::Event(Ok(gone)), Next::Read);
        let (name, uid, version) = ("a".into(), "a".into(), "21".into());
        assert_eq!(
            effects[1],
            Effect::Store(StoreEvent::Delete { name, uid, version })
        );
        let effects = scenario.check(Input::Ended(end), next);
        assert_eq!(causes(&effects), [cause]);
        assert!(effects.contains(&Effect::Note(Note::Watching(false))));
        if cause == Cause::Lost {
            scenario.probe("21");
        }
    }
}

#[test]
fn an_expired_version_starts_a_new_list_as_response_and_as_event() {
    let mut scenario = Scenario::watching();
    let status = *match error(Verb::Watch, 410, "Expired").failure {
        Failure::Status { status, .. } => status,
        other => panic!("{other:?}"),
    };
    let effects = scenario.check(Input::Event(Ok(WatchEvent::Error(status))), BACK_OFF);
    assert_eq!(causes(&effects), [Cause::Expired]);
    scenario.check(Input::Woken, list(None));

    let mut scenario = Scenario::watching();
    scenario.check(Input::Ended(End::Closed), Next::Probe);
    scenario.probe("10");
    let gone = error(Verb::Watch, 410, "Gone");
    let effects = scenario.check(Input::Opened(Err(gone)), BACK_OFF);
    assert_eq!(causes(&effects), [Cause::Expired]);
    scenario.check(Input::Woken, list(None));
}

#[test]
fn other_errors_undecodable_lines_and_older_bookmarks_start_a_new_list() {
    let internal = Status {
        code: 500,
        reason: "InternalError".into(),
        ..Status::default()
    };
    let cases = [
        (Ok(WatchEvent::Error(internal)), Cause::Broken),
        (Err("no JSON".into()), Cause::Broken),
        (Ok(WatchEvent::Bookmark("9".into())), Cause::WentBack),
    ];
    for (event, cause) in cases {
        let mut scenario = Scenario::watching();
        assert_eq!(
            causes(&scenario.check(Input::Event(event), BACK_OFF)),
            [cause]
        );
        scenario.check(Input::Woken, list(None));
    }
}

#[test]
fn a_watch_that_ends_immediately_without_an_event_is_a_failure() {
    let mut scenario = Scenario::watching();
    scenario.check(
        Input::Event(Ok(WatchEvent::Bookmark("10".into()))),
        Next::Read,
    );
    scenario.check(Input::Ended(End::Closed), open("10"));
    scenario.check(Input::Opened(Ok(())), Next::Read);
    scenario.after(0.9);
    let effects = scenario.check(Input::Ended(End::Closed), BACK_OFF);
    assert_eq!(causes(&effects), [Cause::Short]);
    assert!(!effects.contains(&Effect::Note(Note::Contact)));
    scenario.check(Input::Woken, Next::Probe);
    scenario.probe("10");
}

/// A proxy may cut a watch after each event: it was reopened 13 times a second.
#[test]
fn a_watch_that_is_cut_soon_is_reopened_after_a_back_off_whatever_it_has_sent() {
    for end in [End::Closed, End::Lost("reset".into())] {
        for (secs, is_short) in [(0.1, true), (4.9, true), (5.0, false)] {
            let mut scenario = Scenario::watching();
            scenario.check(Input::Ended(End::Lost("reset".into())), Next::Probe);
            scenario.probe("10");
            scenario.check(Input::Opened(Ok(())), CHECK);
            let same = Input::Checked(Checked::Same { more: false });
            scenario.check(same, Next::Read);
            scenario.after(secs / 2.0);
            let added = WatchEvent::Changed(config_map("b", "11"));
            scenario.check(Input::Event(Ok(added)), Next::Read);
            scenario.after(secs / 2.0);
            let next = scenario.step(Input::Ended(end.clone()));
            assert_eq!(next.next == BACK_OFF, is_short, "{end:?} after {secs} s");
        }
    }
}

/// A proxy may let lists through and keep watches: the cache does not grow stale for it.
#[test]
fn a_watch_without_a_response_in_time_is_followed_by_a_list() {
    let mut scenario = Scenario::new();
    scenario.check(Input::Woken, list(None));
    scenario.check(page(&["a"], "10", None), open("10"));
    let silent = Error {
        failure: Failure::TimedOut("receive response".into()),
        ..away(Verb::Watch)
    };
    scenario.check(Input::Opened(Err(silent)), BACK_OFF);
    scenario.check(Input::Woken, list(None));
    scenario.check(page(&["a"], "20", None), open("20"));
}

#[test]
fn a_watch_that_cannot_be_opened_is_retried_at_the_same_version() {
    let mut scenario = Scenario::watching();
    scenario.check(Input::Ended(End::Lost("reset".into())), Next::Probe);
    scenario.probe("10");
    for _ in 0..3 {
        scenario.check(Input::Opened(Err(away(Verb::Watch))), BACK_OFF);
        scenario.check(Input::Woken, Next::Probe);
        scenario.check(Input::Probed(Err(away(Verb::List)), "10".into()), BACK_OFF);
        scenario.check(Input::Woken, Next::Probe);
        scenario.probe("10");
    }
    let mut busy = error(Verb::Watch, 429, "TooManyRequests");
    if let Failure::Status { retry_after, .. } = &mut busy.failure {
        *retry_after = Some(Duration::from_secs(3));
    }
    let at_least = Duration::from_secs(3);
    scenario.check(Input::Opened(Err(busy)), Next::BackOff { at_least });
}

#[test]
fn a_forbidden_watch_is_replaced_by_lists_after_five_seconds_and_retried_every_minute() {
    let mut scenario = Scenario::new();
    scenario.check(Input::Woken, list(None));
    scenario.check(page(&["a"], "10", None), open("10"));
    let refused = || Input::Opened(Err(error(Verb::Watch, 403, "Forbidden")));
    for _ in 0..5 {
        let effects = scenario.check(refused(), BACK_OFF);
        assert_eq!(refusals(&effects), 0);
        assert_eq!(causes(&effects), [Cause::Refused]);
        scenario.after(1.0).check(Input::Woken, open("10"));
    }
    assert_eq!(refusals(&scenario.check(refused(), Next::Wait(POLL))), 1);
    let mut polls = 0;
    loop {
        scenario.after(2.0).check(Input::Woken, list(None));
        polls += 1;
        let step = scenario.step(page(&["a"], "11", None));
        if step.next == open("11") {
            break;
        }
        assert_eq!(step.next, Next::Wait(POLL));
    }
    assert_eq!(polls, 30);
    assert_eq!(refusals(&scenario.check(refused(), Next::Wait(POLL))), 0);
    // Once granted it is a watch like any other, and a later 403 is reported again.
    scenario.after(60.0).check(Input::Woken, list(None));
    scenario.check(page(&["a"], "12", None), open("12"));
    scenario.check(Input::Opened(Ok(())), Next::Read);
    scenario.idle(40);
    let bookmark = WatchEvent::Bookmark("12".into());
    scenario.check(Input::Event(Ok(bookmark)), Next::Read);
    scenario.check(Input::Ended(End::Closed), open("12"));
    scenario.check(refused(), BACK_OFF);
    scenario.after(5.0).check(Input::Woken, open("12"));
    assert_eq!(refusals(&scenario.check(refused(), Next::Wait(POLL))), 1);
}

#[test]
fn a_403_of_a_list_counts_only_when_it_lasts() {
    let mut scenario = Scenario::new();
    let refused = || Input::Listed(Err(error(Verb::List, 403, "Forbidden")));
    scenario.check(Input::Woken, list(None));
    scenario.check(refused(), BACK_OFF);
    scenario.after(4.0).check(Input::Woken, list(None));
    // Another error in between: the grace period starts again.
    scenario.check(Input::Listed(Err(away(Verb::List))), BACK_OFF);
    scenario.after(4.0).check(Input::Woken, list(None));
    scenario.check(refused(), BACK_OFF);
    scenario.after(5.0).check(Input::Woken, list(None));
    assert_eq!(refusals(&scenario.check(refused(), Next::Wait(POLL))), 1);
    scenario.after(2.0).check(Input::Woken, list(None));
    assert_eq!(refusals(&scenario.check(refused(), Next::Wait(POLL))), 0);
    scenario.after(2.0).check(Input::Woken, list(None));
    scenario.check(page(&[], "10", None), open("10"));
}

#[test]
fn an_object_that_cannot_be_decoded_is_reported_and_skipped() {
    let mut scenario = Scenario::watching();
    let skipped = Skipped {
        name: "bad".into(),
        reason: "no".into(),
    };
    let event = Input::Event(Ok(WatchEvent::Skipped(skipped.clone(), "15".into())));
    assert!(
        scenario
            .check(event, Next::Read)
            .contains(&Effect::Note(Note::Skipped(skipped)))
    );
    scenario.check(Input::Ended(End::Closed), open("15"));
}

/// A page that is larger than a response may be.
fn too_large() -> Input<ConfigMap> {
    Input::Listed(Err(Error {
        failure: Failure::TooLarge("x".into()),
        ..away(Verb::List)
    }))
}

fn list_of(continue_token: Option<&str>, limit: u32) -> Next {
    Next::List {
        continue_token: continue_token.map(Into::into),
        limit,
    }
}

#[test]
fn a_page_that_is_too_large_is_requested_again_with_fewer_objects() {
    let mut scenario = Scenario::new();
    scenario.check(Input::Woken, list(None));
    scenario.check(page(&["a"], "10", Some("t1")), list(Some("t1")));
    for limit in [50, 25, 12, 6, 3, 1] {
        let effects = scenario.check(too_large(), list_of(Some("t1"), limit));
        assert_eq!(causes(&effects), [Cause::TooLarge]);
    }
    // An object that does not fit alone is retried after a while, from where the list was.
    let effects = scenario.check(too_large(), BACK_OFF);
    assert_eq!(causes(&effects), [Cause::Failed]);
    scenario.check(Input::Woken, list_of(Some("t1"), 1));
    let effects = scenario.check(page(&["b"], "10", Some("t2")), list_of(Some("t2"), 2));
    let apply = Effect::Store(StoreEvent::InitApply(config_map("b", "10")));
    assert_eq!(effects, [Effect::Note(Note::Contact), apply]);
    scenario.check(page(&["c"], "10", None), open("10"));
}
