//! The table itself: each row is an observed state, each column a wait state.

use super::*;
use crate::app::Intent;
use crate::app::cache::Lookup;
use crate::app::coordinator::memory::Memory;
use crate::app::fixture::{World, n1, origin, t0, uid, waiting_pod};
use serde_json::json;
use std::sync::Arc;

/// A complete Job without its pod: others ended it.
fn disrupted() -> Observed {
    let mut world = World::new();
    world.ended("u1", "Complete", json!({}));
    world.pod_gone("u1");
    let (lookup, mut memory) = (world.cache.lookup(&n1()), Memory::default());
    Observed::new(&n1(), lookup, &mut memory, &world.context())
}

/// What is observed of the Job `u1` in this state.
fn observed(state: State) -> Observed {
    let mut world = World::new();
    world.job("u1", json!({}));
    match state {
        State::Absent | State::NameConflict => {}
        State::Starting => {}
        State::Failing => world.pod("u1", waiting_pod("InvalidImageName")),
        State::Ready => world.ready("u1", "10.0.0.1"),
        State::AwaitingReason => world.ended("u1", "Failed", json!({})),
        State::Failed => {
            let failed = json!({"status": {"phase": "Failed", "containerStatuses": [
                {"name": "app", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}},
            ]}});
            world.pod("u1", failed);
            world.ended("u1", "Failed", json!({}));
        }
        State::Finished => world.ended("u1", "Complete", json!({})),
        State::Deleting => world.deleting("u1"),
    }
    let lookup = match state {
        State::Absent => Lookup::Absent,
        State::NameConflict => Lookup::NameConflict,
        _ => world.cache.lookup(&n1()),
    };
    let observed = Observed::new(&n1(), lookup, &mut Memory::default(), &world.context());
    assert_eq!(observed.state, state);
    observed
}

/// What differs between two rows of one state.
#[derive(Clone, Copy, Default)]
struct Case {
    may_start: bool,
    may_replace: bool,
    is_start_pending: bool,
    is_deleting: bool,
    is_delayed: bool,
}

fn check_row(state: State, case: Case, expected: [&str; 7]) {
    check_observed(&observed(state), case, expected);
}

fn check_observed(observed: &Observed, case: Case, expected: [&str; 7]) {
    let state = observed.state;
    let now = Instant::now();
    let (own, other) = (uid("u1"), uid("u0"));
    let columns = [
        WaitState::New,
        WaitState::Next,
        WaitState::Ready(own.clone()),
        WaitState::Held(own.clone(), now + REPORT_HOLD),
        WaitState::Held(own.clone(), now),
        WaitState::Replacement(own),
        WaitState::Ready(other.clone()),
        WaitState::Replacement(other.clone()),
    ];
    let key = n1();
    let last = [Last {
        uid: other,
        is_gone: true,
        ..Last::default()
    }];
    let facts = Facts {
        queued: None,
        job: None,
        step: 0,
        is_pausing: false,
        key: &key,
        now,
        is_start_pending: case.is_start_pending,
        is_job_unknown: false,
        is_deleting: case.is_deleting,
        may_replace: case.may_replace,
        kept_for: case.is_delayed.then_some(Duration::MAX),
        last: &last,
        timings: &|| None,
    };
    let found = columns.map(|state| {
        let want = if case.may_start {
            Want::Instance(Intent::Start(Arc::default()))
        } else {
            Want::Instance(Intent::Find)
        };
        let waiter = Waiter {
            waits_for_place: false,
            is_kept: false,
            handle: None,
            by: Some(origin("ann")),
            held: None,
            since: now,
            confirmed: None,
            deadline: now,
            trust: Default::default(),
            expectation: Default::default(),
            read_at: None,
            may_be_done: false,
            want,
            state: state.clone(),
            number: 0,
        };
        shown(&state, resolve(&waiter, observed, &facts))
    });
    assert_eq!(found[..7], expected, "{state:?}");
    // One that waits for another Job to go waits for the next instance: that Job is gone.
    let next = if found[1] == "-" { "next" } else { &found[1] };
    assert_eq!(found[7], next, "{state:?}");
}

/// `-` if it continues to wait for the same.
fn shown(before: &WaitState, resolution: Resolution) -> String {
    match resolution {
        Resolution::Wait(state) if state == *before => "-".into(),
        Resolution::Wait(state) => match state {
            WaitState::New => "new".into(),
            WaitState::Next => "next".into(),
            WaitState::Ready(uid) => format!("ready {uid}"),
            WaitState::Held(uid, _) => format!("held {uid}"),
            WaitState::Replacement(uid) => format!("replace {uid}"),
            WaitState::Pod(_) => "pod".into(),
            WaitState::Sent(uid) => format!("sent {uid}"),
        },
        Resolution::Read => "read".into(),
        Resolution::Join(uid) => format!("join {uid}"),
        Resolution::Stop => "stop".into(),
        Resolution::Respond(response) => match response {
            Response::Ready { .. } => "200".into(),
            Response::Progress { progress, .. } => progress.legacy_word().into(),
            Response::Failed(error) => {
                let name = format!("{error:?}");
                let end = name.find(|c: char| !c.is_alphanumeric());
                name[..end.unwrap_or(name.len())].to_owned()
            }
            other => format!("{other:?}"),
        },
    }
}

/// Columns: new, next, ready, held, held until now, replacement, another Job.
#[test]
#[rustfmt::skip]
fn every_cell_of_the_table_has_its_resolution() {
    let start = Case { may_start: true, ..Case::default() };
    let find = Case::default();
    let joins = Case { is_start_pending: true, ..find };
    let replaces = Case { may_replace: true, ..start };
    let deletes = Case { is_deleting: true, ..start };
    let delayed = Case { is_delayed: true, ..start };
    let error = "app_error";
    for case in [start, find, replaces] {
        check_row(State::NameConflict, case, ["NameTaken"; 7]);
        check_row(State::Ready, case, ["200", "200", "200", "200", "200", "200", "Stopped"]);
    }
    check_row(State::Absent, start, ["next", "-", "Stopped", "Stopped", "Stopped", "next", "Stopped"]);
    check_row(State::Absent, joins, ["next", "-", "Stopped", "Stopped", "Stopped", "next", "Stopped"]);
    check_row(State::Absent, find, ["NoInstance", "NoInstance", "Stopped", "Stopped", "Stopped", "NoInstance", "Stopped"]);
    check_row(State::Deleting, start, ["next", "-", "Stopped", "Stopped", "Stopped", "-", "Stopped"]);
    check_row(State::Deleting, find, ["NoInstance", "NoInstance", "Stopped", "Stopped", "Stopped", "-", "Stopped"]);
    for case in [start, find] {
        check_row(State::Starting, case, ["ready u1", "ready u1", "-", "ready u1", "ready u1", "ready u1", "Stopped"]);
        check_row(State::AwaitingReason, case, ["held u1", "ready u1", "-", "-", error, "-", "Stopped"]);
        check_row(State::Failing, case, ["held u1", error, error, "-", error, "-", "Stopped"]);
        check_row(State::Failed, case, ["held u1", error, error, "-", error, "-", "Stopped"]);
    }
    for state in [State::Failing, State::Failed, State::Finished] {
        check_row(state, delayed, ["held u1", error, error, "-", error, "held u1", "Stopped"]);
        check_row(state, Case { is_deleting: true, ..delayed }, ["held u1", error, error, "-", error, "-", "Stopped"]);
    }
    check_row(State::Deleting, delayed, ["next", "-", "Stopped", "Stopped", "Stopped", "-", "Stopped"]);
    check_row(State::Starting, deletes, ["ready u1", "ready u1", "-", "ready u1", "ready u1", "-", "Stopped"]);
    check_row(State::AwaitingReason, replaces, ["replace u1", "ready u1", "-", "-", error, "-", "Stopped"]);
    for state in [State::Failing, State::Failed, State::Finished] {
        check_row(state, replaces, ["replace u1", "replace u1", error, "-", error, "-", "Stopped"]);
    }
    check_observed(&disrupted(), replaces, ["replace u1", "replace u1", "replace u1", "replace u1", "replace u1", "-", "Stopped"]);
    check_observed(&disrupted(), find, ["NoInstance", "NoInstance", "NoInstance", "NoInstance", "NoInstance", "NoInstance", "Stopped"]);
    check_row(State::Finished, find, ["NoInstance", "NoInstance", error, "-", error, "-", "Stopped"]);
}

#[test]
fn the_last_report_of_a_deleted_job_is_returned() {
    let key = n1();
    let finding = Finding::stopping(Some(t0()));
    let last = [
        Last {
            uid: uid("u1"),
            report: Some(finding),
            was_undecided: false,
            was_suspended: true,
            refusal: None,
            was_disrupted: false,
            is_replaced: false,
            is_gone: true,
            deleted: None,
        },
        Last {
            uid: uid("u2"),
            report: None,
            was_undecided: false,
            was_suspended: true,
            refusal: None,
            was_disrupted: false,
            is_replaced: false,
            is_gone: true,
            deleted: None,
        },
    ];
    let facts = Facts {
        queued: None,
        job: None,
        step: 0,
        is_pausing: false,
        key: &key,
        now: Instant::now(),
        is_start_pending: false,
        is_job_unknown: false,
        is_deleting: false,
        may_replace: false,
        kept_for: None,
        last: &last,
        timings: &|| None,
    };
    let report_of = |of: &str| {
        let response = facts.last_report(&uid(of));
        shown(&WaitState::New, Resolution::Respond(response))
    };
    assert_eq!(
        ["u1", "u2", "u3"].map(report_of),
        ["app_error", "LimitReached", "Stopped"]
    );
}
