//! What readers are told: each step once, in order, from the state as of one event on.

use super::*;
use crate::app::fixture::{key, n1, origin, uid};
use crate::app::lifecycle::LifecycleKind;
use crate::model::names::AppType;
use std::collections::BTreeSet;
use std::time::Instant;

/// The data is the kind, the labels and the extra facts of an event.
fn encode(told: &Told<'_>, into: &mut Vec<u8>) {
    let mut line = format!("{} {}", told.key, told.kind.as_str());
    if let Some(item) = told.item {
        line += &format!(" {:?}", item.meta);
    }
    if told.recovered {
        line += " recovered";
    }
    into.extend_from_slice(line.as_bytes());
}

fn log() -> EventLog {
    let log = EventLog::new("r", 10, encode);
    assert_eq!(log.last(), 0);
    log
}

fn event(of: &InstanceKey, job: &str, kind: LifecycleKind) -> Lifecycle {
    Lifecycle {
        key: of.clone(),
        job_uid: Some(uid(job)),
        at: Instant::now(),
        kind,
        is_news: true,
        phase_left: None,
        start_ended: None,
    }
}

fn ready() -> LifecycleKind {
    LifecycleKind::Ready {
        after: None,
        recovered: false,
    }
}

fn in_phase() -> LifecycleKind {
    LifecycleKind::InPhase {
        finding: Finding::created(),
        is_failing: false,
    }
}

fn failed(is_final: bool) -> LifecycleKind {
    LifecycleKind::Failed {
        finding: Finding::created(),
        is_final,
        reported_after: None,
    }
}

fn item(of: &InstanceKey, job: &str, labels: &[(&str, &str)]) -> Item {
    let labels = labels.iter();
    Item {
        key: of.clone(),
        uid: uid(job),
        status: 0,
        finding: None,
        since: None,
        start: None,
        ip: None,
        meta: labels
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect(),
        revision: None,
        is_stale: None,
        restarts: 0,
        idle_timeout: None,
        owner: None,
    }
}

fn append(log: &EventLog, event: &Lifecycle) -> bool {
    log.append(event, || None, SystemTime::UNIX_EPOCH)
}

/// The kinds of the events after this number.
fn kinds(log: &EventLog, after: u64, selection: &Selection) -> Vec<String> {
    let mut bytes = Vec::new();
    log.read(after, |it| it.is_of(selection), usize::MAX, &mut bytes)
        .unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("event: "));
    lines.map(str::to_owned).collect()
}

fn in_status(place: usize) -> Selection {
    Selection {
        statuses: [place].into(),
        ..Selection::default()
    }
}

fn all() -> Selection {
    Selection::default()
}

#[test]
fn each_step_of_a_job_is_told_once() {
    let log = log();
    let created = LifecycleKind::Created(origin("ann"));
    let requested = Lifecycle {
        job_uid: None,
        ..event(&n1(), "u1", LifecycleKind::Requested)
    };
    assert!(append(&log, &requested));
    for kind in [created, in_phase(), failed(false), failed(true), ready()] {
        assert!(append(&log, &event(&n1(), "u1", kind.clone())), "{kind:?}");
        assert!(!append(&log, &event(&n1(), "u1", kind.clone())), "{kind:?}");
    }
    for kind in [LifecycleKind::Stopping(None), LifecycleKind::Gone] {
        assert!(append(&log, &event(&n1(), "u1", kind.clone())), "{kind:?}");
        assert!(!append(&log, &event(&n1(), "u1", kind.clone())), "{kind:?}");
    }
    let expected = "requested created starting failed failed ready stopping gone";
    assert_eq!(kinds(&log, 0, &all()).join(" "), expected);
    assert!(log.snapshot(&all()).known.is_empty());
}

#[test]
fn an_instance_is_looked_up_only_for_events_that_readers_get() {
    let log = EventLog::new("r", 1, |_, _| {});
    let count = std::cell::Cell::new(0);
    let append = |event: &Lifecycle| {
        let find = || {
            count.set(count.get() + 1);
            Some(item(&n1(), "u1", &[]))
        };
        log.append(event, find, SystemTime::UNIX_EPOCH);
        count.take()
    };
    let old = Lifecycle {
        is_news: false,
        ..event(&n1(), "u1", in_phase())
    };
    assert_eq!(append(&old), 0, "nobody reads yet");
    assert_eq!(append(&event(&n1(), "u1", in_phase())), 0, "told before");
    assert_eq!(append(&event(&n1(), "u1", ready())), 1);
    assert_eq!(append(&event(&n1(), "u1", LifecycleKind::Unfollowed)), 0);
    assert_eq!(append(&event(&n1(), "u1", LifecycleKind::Gone)), 0);
    assert_eq!(append(&event(&n1(), "u1", ready())), 1, "is it back?");
}

#[test]
fn other_labels_are_told_also_to_who_asked_for_those_before() {
    let log = log();
    let with = |labels: &[(&str, &str)]| item(&n1(), "u1", labels);
    let relabel = |labels: &[(&str, &str)]| log.relabel(&with(labels), SystemTime::UNIX_EPOCH);
    let told = |after: u64, query: &str| {
        let selection = Selection {
            labels: [("team".into(), Some(query.into()))].into(),
            ..all()
        };
        kinds(&log, after, &selection).join(" ")
    };
    let step = |kind: LifecycleKind, labels: &[(&str, &str)]| {
        let found = || Some(with(labels));
        log.append(&event(&n1(), "u1", kind), found, SystemTime::UNIX_EPOCH)
    };
    assert!(!relabel(&[("team", "a")]), "nothing was told of it");
    assert!(step(ready(), &[]) && !relabel(&[]));
    // It had none, so only those who ask for these want to know.
    assert!(relabel(&[("team", "a")]) && !relabel(&[("team", "a")]));
    assert_eq!([told(0, "a"), told(0, "b")], ["labelled", ""]);
    assert!(relabel(&[("team", "b")]));
    assert_eq!([told(2, "a"), told(2, "b")], ["labelled"; 2]);
    let others = Selection {
        statuses: [2].into(),
        ..all()
    };
    assert_eq!(kinds(&log, 0, &others), [""; 0], "it is ready");
    // Another step may show them first.
    assert!(step(failed(true), &[("team", "c")]) && !relabel(&[("team", "c")]));
    assert_eq!([told(3, "b"), told(3, "c")], ["failed"; 2]);
    // Its pod goes first, and the labels with it.
    append(&log, &event(&n1(), "u1", LifecycleKind::Stopping(None)));
    let going = Item {
        finding: Some(Finding::stopping(None)),
        ..with(&[])
    };
    assert!(!log.relabel(&going, SystemTime::UNIX_EPOCH));
}

/// Before somebody reads, labels are not looked up.
#[test]
fn other_labels_are_told_once_a_state_has_shown_those_before() {
    let log = EventLog::new("r", 10, encode);
    let with = |team: &str| item(&n1(), "u1", &[("team", team)]);
    let relabel = |team: &str| log.relabel(&with(team), SystemTime::UNIX_EPOCH);
    let found = Lifecycle {
        is_news: false,
        ..event(&n1(), "u1", ready())
    };
    append(&log, &found);
    let mut snapshot = log.snapshot(&all());
    snapshot.known[0].1.note_labels(&with("a"));
    log.shown(&snapshot);
    assert!(!relabel("a") && relabel("b"));
    // A change while a state is made is told in any case, and stays known.
    let log = EventLog::new("r", 10, encode);
    append(&log, &found);
    let mut snapshot = log.snapshot(&all());
    snapshot.known[0].1.note_labels(&with("a"));
    let relabel = |team: &str| log.relabel(&with(team), SystemTime::UNIX_EPOCH);
    assert!(relabel("b"));
    log.shown(&snapshot);
    assert!(!relabel("b") && relabel("a"));
}

/// The end of a start is told by the response to it.
#[test]
fn a_start_goes_on_with_what_was_told_of_its_job_unless_that_ends_a_start() {
    let log = log();
    let known = item(&n1(), "u1", &[]);
    let restated = |kind: Option<LifecycleKind>| {
        kind.map(|kind| append(&log, &event(&n1(), "u1", kind)));
        let bytes = log.restated(&known, SystemTime::UNIX_EPOCH)?;
        Some(String::from_utf8(bytes).unwrap())
    };
    assert_eq!(restated(None), None);
    let starting = "id: r.a.1\nevent: starting\ndata: scim/n1 starting {}\n\n";
    assert_eq!(restated(Some(in_phase())).as_deref(), Some(starting));
    for end in [ready(), failed(false), failed(true)] {
        assert_eq!(restated(Some(end)), None);
    }
    assert!(restated(Some(LifecycleKind::Stopping(None))).is_some());
}

#[test]
fn the_end_of_what_nobody_uses_is_announced_and_changes_no_status() {
    let log = log();
    let soon = LifecycleKind::IdleSoon(Duration::from_secs(30));
    assert!(!append(&log, &event(&n1(), "u1", soon.clone())), "unknown");
    append(&log, &event(&n1(), "u1", ready()));
    let before = log.last();
    // It is announced again after it was used again.
    for _ in 0..2 {
        assert!(append(&log, &event(&n1(), "u1", soon.clone())));
    }
    assert_eq!(kinds(&log, before, &all()), ["idle-soon", "idle-soon"]);
    let ready = in_status(1);
    assert_eq!(kinds(&log, before, &ready), ["idle-soon", "idle-soon"]);
    assert!(kinds(&log, before, &in_status(2)).is_empty());
    assert_eq!(log.snapshot(&ready).known.len(), 1);
    append(&log, &event(&n1(), "u1", LifecycleKind::Stopping(None)));
    assert!(!append(&log, &event(&n1(), "u1", soon)));
}

/// The result of a call may come after its Job has come and gone, and so may how it had ended.
#[test]
fn nothing_is_told_of_a_job_that_is_gone() {
    let log = log();
    append(&log, &event(&n1(), "u1", in_phase()));
    append(&log, &event(&n1(), "u1", LifecycleKind::Gone));
    for kind in [
        LifecycleKind::Created(origin("ann")),
        LifecycleKind::Stopping(None),
        failed(true),
        LifecycleKind::Gone,
    ] {
        assert!(!append(&log, &event(&n1(), "u1", kind)));
    }
    // Of a Job of which nothing was told, neither.
    assert!(!append(&log, &event(&n1(), "u2", LifecycleKind::Gone)));
    // A list from before it was made has shown it gone: it is there again.
    let back = Some(item(&n1(), "u1", &[]));
    assert!(log.append(
        &event(&n1(), "u1", ready()),
        || back,
        SystemTime::UNIX_EPOCH
    ));
}

#[test]
fn ready_after_a_failure_or_after_unreadiness_is_a_recovery() {
    for first in [ready(), failed(false)] {
        let log = log();
        append(&log, &event(&n1(), "u1", first));
        append(&log, &event(&n1(), "u1", in_phase()));
        let before = log.last();
        append(&log, &event(&n1(), "u1", ready()));
        let mut bytes = Vec::new();
        log.read(before, |_| true, 0, &mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(
            text,
            format!(
                "id: r.a.{}\nevent: ready\ndata: scim/n1 ready {{}} recovered\n\n",
                before + 1
            )
        );
    }
}

/// The watch may be faster than the response of the call.
#[test]
fn what_was_seen_before_is_not_told_as_created() {
    let log = log();
    append(&log, &event(&n1(), "u1", in_phase()));
    let created = LifecycleKind::Created(origin("ann"));
    assert!(!append(&log, &event(&n1(), "u1", created)));
}

/// While its failure stands, readers get events of a start for another reason only, and as `failed`.
#[test]
fn a_start_that_has_failed_is_not_starting() {
    let log = log();
    append(&log, &event(&n1(), "u1", failed(false)));
    let kind = LifecycleKind::InPhase {
        finding: Finding::created(),
        is_failing: true,
    };
    assert!(!append(&log, &event(&n1(), "u1", kind)));
    let for_another_reason = || LifecycleKind::InPhase {
        finding: Finding::admitting(),
        is_failing: true,
    };
    assert!(append(&log, &event(&n1(), "u1", for_another_reason())));
    assert!(!append(&log, &event(&n1(), "u1", for_another_reason())));
    let other = [LifecycleKind::NotCreated, LifecycleKind::Unfollowed];
    assert!(
        other
            .into_iter()
            .all(|kind| !append(&log, &event(&n1(), "u1", kind)))
    );
}

#[test]
fn what_was_there_at_the_start_is_known_and_told_only_to_who_reads_already() {
    let log = EventLog::new("r", 1, encode);
    let found = |job| Lifecycle {
        is_news: false,
        ..event(&n1(), job, ready())
    };
    assert!(!append(&log, &found("u1")));
    let snapshot = log.snapshot(&all());
    assert_eq!((snapshot.number, snapshot.known.len()), (0, 1));
    assert!(!append(&log, &found("u1")), "it is known");
    assert!(append(&log, &found("u2")), "somebody reads");
    assert_eq!(log.snapshot(&all()).number, 1);
}

#[test]
fn a_reader_is_told_when_an_instance_joins_and_leaves_its_selection() {
    let log = log();
    let (team, other) = ([("team", "a")], [("team", "b")]);
    let tell = |kind, labels: &[(&str, &str)]| {
        let event = event(&n1(), "u1", kind);
        log.append(
            &event,
            || Some(item(&n1(), "u1", labels)),
            SystemTime::UNIX_EPOCH,
        );
    };
    tell(in_phase(), &[]);
    tell(ready(), &team);
    tell(failed(true), &other);
    tell(LifecycleKind::Stopping(None), &[]);
    tell(LifecycleKind::Gone, &[]);
    let of_team = Selection {
        labels: [("team".into(), Some("a".into()))].into(),
        ..all()
    };
    let told = ["ready", "failed", "stopping", "gone"];
    assert_eq!(
        kinds(&log, 0, &of_team),
        told,
        "it has left with the second"
    );
    let of_status = |place| Selection {
        statuses: [place].into(),
        ..all()
    };
    assert_eq!(kinds(&log, 0, &of_status(1)), ["ready", "failed", "gone"]);
    assert_eq!(kinds(&log, 0, &of_status(3)), ["gone"]);
    let of_types = |name: &str| Selection {
        types: Some([AppType::new(name).unwrap()].into()),
        ..all()
    };
    assert_eq!(kinds(&log, 0, &of_types("scim")).len(), 5);
    assert!(kinds(&log, 0, &of_types("hello")).is_empty());
}

#[test]
fn a_state_and_the_events_after_it_have_no_gap_and_no_overlap() {
    let log = log();
    append(&log, &event(&n1(), "u1", ready()));
    append(&log, &event(&key("hello", "a"), "u2", in_phase()));
    let snapshot = log.snapshot(&all());
    append(&log, &event(&n1(), "u1", LifecycleKind::Stopping(None)));
    let known = snapshot.known.iter();
    let keys: Vec<String> = known.map(|((key, _), _)| key.to_string()).collect();
    assert_eq!(
        BTreeSet::from_iter(keys),
        ["hello/a", "scim/n1"].map(str::to_owned).into()
    );
    let statuses = snapshot
        .known
        .iter()
        .map(|((key, uid), known)| known.item((key, uid), None).status);
    assert_eq!(statuses.collect::<BTreeSet<_>>(), [0, 1].into());
    assert_eq!(kinds(&log, snapshot.number, &all()), ["stopping"]);
}

#[test]
fn events_are_bounded_in_number_and_a_reader_that_misses_some_is_told() {
    let log = log();
    for at in 0..EVENTS_MAX + 10 {
        let kind = if at % 2 == 0 { ready() } else { in_phase() };
        assert!(append(&log, &event(&n1(), "u1", kind)));
    }
    assert_eq!(log.before_first(), 10);
    let read = |after| log.read(after, |_| true, 1, &mut Vec::new());
    assert_eq!((read(9), read(10)), (Err(Missed), Ok(11)));
    let end = log.last();
    assert_eq!(read(end), Ok(end), "nothing is new");
    assert_eq!(log.number_of(&log.id(10)), Ok(10));
    assert_eq!(log.number_of(&log.id(end)), Ok(end));
    for odd in [
        log.id(9),
        log.id(end + 1),
        "r.b.10".into(),
        "r.a.".into(),
        String::new(),
    ] {
        assert_eq!(log.number_of(&odd), Err(Missed), "{odd}");
    }
}

#[test]
fn events_are_bounded_in_bytes() {
    let log = log();
    let long = "x".repeat(100 * 1024);
    for at in 0..20 {
        let kind = if at % 2 == 0 { ready() } else { in_phase() };
        let event = event(&n1(), "u1", kind);
        let labelled = Some(item(&n1(), "u1", &[("a", &long)]));
        log.append(&event, || labelled, SystemTime::UNIX_EPOCH);
        assert!(lock(&log.state).bytes <= EVENT_BYTES_MAX);
    }
    assert_eq!(log.last() - log.before_first(), 10);
    let larger = "x".repeat(2 * EVENT_BYTES_MAX);
    let labelled = Some(item(&n1(), "u1", &[("a", &larger)]));
    log.append(
        &event(&n1(), "u1", failed(true)),
        || labelled,
        SystemTime::UNIX_EPOCH,
    );
    assert_eq!(log.last() - log.before_first(), 1, "the last one is kept");
}

#[test]
fn a_part_has_as_many_events_as_there_is_room_for_and_one_at_least() {
    let log = log();
    for at in 0..4 {
        let kind = if at % 2 == 0 { ready() } else { in_phase() };
        append(&log, &event(&n1(), "u1", kind));
    }
    let mut bytes = Vec::new();
    assert_eq!(log.read(0, |_| true, 0, &mut bytes), Ok(1));
    bytes.clear();
    assert_eq!(log.read(1, |_| true, usize::MAX, &mut bytes), Ok(4));
    let all_but_one_byte = bytes.len() - 1;
    bytes.clear();
    assert_eq!(log.read(1, |_| true, all_but_one_byte, &mut bytes), Ok(3));
    bytes.clear();
    let is_ready = |event: &Event| event.kind == EventKind::Ready;
    assert_eq!(log.read(0, is_ready, all_but_one_byte, &mut bytes), Ok(4));
}

#[test]
fn the_places_of_kinds_are_those_of_the_words() {
    use crate::app::index::STATUS_WORDS;
    for (kind, word) in [
        (EventKind::Created, "starting"),
        (EventKind::Starting, "starting"),
        (EventKind::Ready, "ready"),
        (EventKind::Failed, "failed"),
        (EventKind::Finished, "finished"),
        (EventKind::Disrupted, "finished"),
        (EventKind::Stopping, "stopping"),
    ] {
        assert_eq!(kind.status().map(|place| STATUS_WORDS[place]), Some(word));
    }
}
