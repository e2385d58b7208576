//! Failed calls: what is retried, when, and which requests get the error.

use super::{NOTHING, ready};
use crate::app::Expectation;
use crate::app::api_call::CallOutcome;
use crate::app::coordinator::{Effect, Input, NewWaiter, Want};
use crate::app::fixture::{
    Fixture, conflict, exists, handle, held, invalid, key, lost, n1, no_connection, no_right,
    not_found, origin, quota_exceeded, refused, throttled, uid, unavailable,
};
use crate::app::queue::Lane;
use crate::app::{Error, Intent};
use crate::kube::error::Verb;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_create_with_a_lost_response_is_retried() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    assert_eq!(fixture.fails(lost(Verb::Create)), NOTHING);
    assert_eq!(fixture.pass(0.099), NOTHING);
    assert_eq!(fixture.pass(0.001), ["call create for ann"]);
    assert_eq!(fixture.fails(exists()), ["call read"]);
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.done(), NOTHING);
    // The watch may show it before it is repeated.
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.fails(lost(Verb::Create));
    fixture.world.job("u1", json!({}));
    fixture.changed();
    assert_eq!(fixture.pass(5.0), NOTHING);
    assert_eq!(fixture.pass(5.0), ["1: node_not_ready NoPod"]);
}

#[test]
fn a_failing_call_is_retried_with_back_off_until_the_deadline() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    for pause in [0.1, 0.2, 0.4, 0.8, 1.0, 1.0] {
        assert_eq!(fixture.fails(unavailable(Verb::Create)), NOTHING);
        assert_eq!(fixture.pass(pause - 0.01), NOTHING);
        assert_eq!(fixture.pass(0.01), ["call create for ann"], "{pause}");
    }
    fixture.fails(unavailable(Verb::Create));
    fixture.pass(1.0);
    fixture.fails(unavailable(Verb::Create));
    fixture.pass(1.0);
    fixture.fails(throttled(9));
    assert_eq!(fixture.pass(10.0), ["1: Unavailable"]);
    fixture.check_idle();
}

/// The failure of a call is logged once for all its retries.
#[test]
fn a_retried_call_is_marked_as_a_retry() {
    let mut fixture = Fixture::new();
    let mut retries = Vec::new();
    fixture.get(1);
    for _ in 0..2 {
        fixture.fails(unavailable(Verb::Create));
        fixture.world.pass(Duration::from_secs(1));
        let mut out = Vec::new();
        fixture.coordinator.tick(&fixture.world.context(), &mut out);
        retries.extend(out.into_iter().filter_map(is_retry));
    }
    fixture.fails(exists());
    fixture.world.job("u1", json!({}));
    fixture.done();
    let mut out = Vec::new();
    let stop = Input::Requested(NewWaiter {
        is_patient: false,
        handle: handle(2),
        key: n1(),
        by: origin("bob"),
        held: held("bob"),
        deadline: fixture.world.instant() + Duration::from_secs(10),
        reads: None,
        expectation: Expectation::None,
        want: Want::Stop { until: None },
    });
    fixture
        .coordinator
        .step(stop, &fixture.world.context(), &mut out);
    retries.extend(out.into_iter().filter_map(is_retry));
    assert_eq!(retries, [true, true, false]);
}

fn is_retry(effect: Effect) -> Option<bool> {
    match effect {
        Effect::Call(call) => Some(call.is_retry),
        Effect::Report(_) => None,
        Effect::Respond(..) => panic!("it is no response"),
    }
}

#[test]
fn at_the_deadline_a_pending_create_is_reported_as_progress() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    assert_eq!(fixture.pass(10.0), ["1: node_not_ready Admitting"]);
    // The start continues, and another request joins it.
    assert_eq!(fixture.get(2), NOTHING);
    fixture.world.job("u1", json!({}));
    fixture.world.ready("u1", "10.0.0.1");
    assert_eq!(fixture.done(), ["2: ready 10.0.0.1"]);
    fixture.check_idle();
}

#[test]
fn a_retry_after_is_honoured_and_bounded() {
    let mut fixture = Fixture::new();
    fixture.get_of(1, &n1(), "", 300);
    fixture.fails(throttled(3));
    assert_eq!(fixture.pass(2.9), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call create for ann"]);
    fixture.fails(throttled(3600));
    assert_eq!(fixture.pass(9.9), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call create for ann"]);
}

/// A call that fails repeatedly in this way is given up after exactly 2 s.
#[track_caller]
fn check_retry_limit(error: &crate::kube::Error, expected: &str) {
    let mut fixture = Fixture::new();
    fixture.get(1);
    let mut out = fixture.fails(error.clone());
    let mut tries = 1;
    for _ in 0..199 {
        let calls = fixture.pass(0.01);
        if calls == ["call create for ann"] {
            tries += 1;
            out = fixture.fails(error.clone());
        }
        assert_eq!(out, NOTHING);
    }
    assert_eq!(fixture.pass(0.01), ["call create for ann"]);
    assert_eq!(fixture.fails(error.clone()), [expected]);
    assert_eq!(tries, 5);
    fixture.check_idle();
}

#[test]
fn a_failed_connection_and_a_missing_permission_are_retried_for_two_seconds() {
    check_retry_limit(&no_connection(Verb::Create), "1: Unavailable");
    check_retry_limit(&no_right(Verb::Create), "1: NotPermitted");
}

#[test]
fn each_kind_of_failure_has_its_own_retry_limit() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.fails(no_connection(Verb::Create));
    for _ in 0..4 {
        fixture.pass(0.45);
        fixture.fails(no_connection(Verb::Create));
    }
    fixture.pass(0.2);
    // The API server is back, and loads its RBAC.
    assert_eq!(fixture.fails(no_right(Verb::Create)), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call create for ann"]);
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.done(), NOTHING);
}

#[test]
fn a_connection_attempt_longer_than_the_limit_is_not_retried() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.pass(3.0);
    assert_eq!(
        fixture.fails(no_connection(Verb::Create)),
        ["1: Unavailable"]
    );
}

#[test]
fn a_rejection_by_kubernetes_is_reported_immediately() {
    for (error, expected) in [
        (refused(), "1: Refused"),
        (invalid(Verb::Create), "1: TemplateInvalid"),
        (not_found(Verb::Create), "1: NamespaceMissing"),
    ] {
        let mut fixture = Fixture::new();
        fixture.get(1);
        assert_eq!(fixture.fails(error), [expected]);
        fixture.check_idle();
    }
}

/// A full quota is answered for a name that exists, too; and what is gone frees it a moment later.
#[test]
fn with_a_full_quota_the_name_is_read_once_and_the_call_is_retried_until_the_deadline() {
    let mut fixture = Fixture::new();
    fixture.get_of(1, &n1(), "", 3);
    assert_eq!(fixture.fails(quota_exceeded()), ["call read"]);
    assert_eq!(fixture.ends(CallOutcome::Absent), ["call create for ann"]);
    for pause in [0.1, 0.2, 0.4, 0.8, 1.0] {
        assert_eq!(fixture.fails(quota_exceeded()), NOTHING);
        assert_eq!(fixture.pass(pause), ["call create for ann"]);
    }
    assert_eq!(fixture.fails(quota_exceeded()), NOTHING);
    assert_eq!(fixture.pass(0.5), ["1: QuotaExceeded"]);
    fixture.check_idle();
}

#[test]
fn with_a_full_quota_the_job_of_another_replica_is_joined() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    assert_eq!(fixture.fails(quota_exceeded()), ["call read"]);
    fixture.world.job("u1", json!({}));
    fixture.world.ready("u1", "10.0.0.1");
    assert_eq!(
        fixture.ends(CallOutcome::Found("u1".into())),
        ["1: ready 10.0.0.1"]
    );
}

#[test]
fn a_conflict_on_create_is_retried() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    assert_eq!(fixture.fails(conflict(Verb::Create)), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call create for ann"]);
    // It is a response, so Kubernetes is not unavailable.
    assert_eq!(fixture.fails(conflict(Verb::Create)), NOTHING);
    let progress = "2: node_not_ready Admitting";
    assert_eq!(fixture.get_of(2, &n1(), "", 0), [progress]);
}

#[test]
fn invalid_values_fail_only_requests_with_these_values() {
    let zoned = key("zoned", "n1");
    let mut fixture = Fixture::new();
    assert_eq!(fixture.get_of(1, &zoned, "", 10), ["1: VariableMissing"]);
    assert_eq!(
        fixture.get_of(2, &zoned, "zone=a", 10),
        ["call create for ann"]
    );
    // While the first start is in progress, values of further requests are not checked.
    assert_eq!(fixture.get_of(3, &zoned, "", 10), NOTHING);
    assert_eq!(fixture.get_of(4, &zoned, "zone=b", 10), NOTHING);
    assert_eq!(fixture.get_of(5, &zoned, "zone=a", 10), NOTHING);
    let fails = CallOutcome::Failed(invalid(Verb::Create));
    assert_eq!(
        fixture.ends_of(&zoned, fails),
        [
            "2: TemplateInvalid",
            "5: TemplateInvalid",
            "3: VariableMissing",
            "call create for ann"
        ]
    );
}

#[test]
fn unknown_and_invalid_types_fail_and_existing_instances_are_found() {
    let mut fixture = Fixture::new();
    assert_eq!(
        fixture.get_of(1, &key("nope", "n1"), "", 10),
        ["1: UnknownType"]
    );
    assert_eq!(
        fixture.get_of(2, &key("bad", "n1"), "", 10),
        ["2: TemplateInvalid"]
    );
    fixture.check_idle();
    // An instance outlives its template.
    let gone = key("gone", "n1");
    fixture.world.job_of(&gone, "u1", json!({}));
    fixture.world.ready("u1", "10.0.0.1");
    assert_eq!(fixture.get_of(3, &gone, "", 10), ["3: ready 10.0.0.1"]);
}

#[test]
fn an_obsolete_retry_causes_no_wake_up() {
    let mut fixture = ready();
    fixture.label(1);
    fixture.fails(not_found(Verb::Patch));
    drop(fixture.world.pods.own_delete("p-u1", &uid("p-u1")));
    fixture.changed();
    // The error of the last attempt is obsolete once the pod is gone.
    assert_eq!(fixture.pass(10.0), ["1: NoInstance"]);
    assert_eq!(fixture.wakes, 1);
    fixture.check_idle();
}

#[test]
fn a_rejected_read_fails_all_who_wait_for_it() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.stop(1), ["call read"]);
    assert_eq!(fixture.label(2), NOTHING);
    assert_eq!(fixture.get(3), NOTHING);
    assert_eq!(
        fixture.fails(refused()),
        ["1: Refused", "2: Refused", "3: Refused"]
    );
    fixture.check_idle();
}

/// Its call failed because a right is missing, and the caller has to know that.
#[test]
fn a_label_at_its_deadline_fails_with_the_error_of_its_call() {
    let mut fixture = ready();
    assert_eq!(fixture.label(1), ["call label p-u1"]);
    fixture.pass(9.95);
    assert_eq!(fixture.fails(no_right(Verb::Patch)), NOTHING);
    assert_eq!(fixture.pass(0.05), ["1: NotPermitted"]);
    fixture.check_idle();
}

/// Its template or its values are found to be invalid only by the worker.
#[test]
fn a_manifest_that_cannot_be_rendered_fails_the_starts_with_its_values() {
    let invalid = || CallOutcome::NotRendered(Error::VariableInvalid("too long".into()));
    let zoned = key("zoned", "n1");
    let mut fixture = Fixture::new();
    let called = fixture.get_of(1, &zoned, "zone=a", 10);
    assert_eq!(called, ["call create for ann"]);
    assert_eq!(fixture.get_of(2, &zoned, "zone=b", 10), NOTHING);
    assert_eq!(fixture.get_of(3, &zoned, "zone=a", 10), NOTHING);
    let failed = fixture.ends_of(&zoned, invalid());
    let expected = [
        "1: VariableInvalid",
        "3: VariableInvalid",
        "call create for ann",
    ];
    assert_eq!(failed, expected);
    assert_eq!(fixture.ends_of(&zoned, invalid()), ["2: VariableInvalid"]);
    assert_eq!(fixture.reported(), ["- requested", "- requested"]);
    fixture.check_idle();
    // What costs little is checked at once.
    let missing = fixture.get_of(4, &zoned, "", 10);
    assert_eq!(missing, ["4: VariableMissing"]);
}

#[test]
fn calls_take_turns_by_what_they_are_for_and_for_whom() {
    let turn = |effects: &[Effect]| {
        let calls = effects.iter().filter_map(|effect| match effect {
            Effect::Call(call) => Some((call.lane, call.caller.clone().unwrap())),
            _ => None,
        });
        calls.collect::<Vec<_>>()
    };
    let mut fixture = ready();
    let mut send = |n, name: &str, caller, want| {
        let request = NewWaiter {
            is_patient: false,
            handle: handle(n),
            key: key("scim", name),
            by: origin(caller),
            held: held(caller),
            deadline: fixture.world.instant() + Duration::from_secs(10),
            reads: None,
            expectation: Expectation::None,
            want,
        };
        let mut out = Vec::new();
        let context = fixture.world.context();
        fixture
            .coordinator
            .step(Input::Requested(request), &context, &mut out);
        turn(&out)
    };
    let account = |name: &str| held(name).account().clone();
    let start = || Want::Instance(Intent::Start(Arc::default()));
    let label = || Want::Label(Arc::default());
    let stop = || Want::Stop { until: None };
    assert_eq!(
        send(1, "n2", "ann", start()),
        [(Lane::Start, account("ann"))]
    );
    assert_eq!(
        send(2, "n1", "bob", label()),
        [(Lane::Change, account("bob"))]
    );
    // Both read the Job first.
    assert_eq!(
        send(3, "n3", "cem", label()),
        [(Lane::Change, account("cem"))]
    );
    assert_eq!(
        send(4, "n4", "dee", stop()),
        [(Lane::Change, account("dee"))]
    );
}
