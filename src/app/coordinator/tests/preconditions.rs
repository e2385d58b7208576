//! Changes with a precondition: they hold across replicas, whatever this replica's cache shows.

use super::{NOTHING, handle, held, n1, origin, ready};
use crate::app::api_call::{Action, CallOutcome};
use crate::app::coordinator::{Input, NewWaiter, WRITE_WAIT, Want};
use crate::app::fixture::{Fixture, conflict, lost, merge, not_found, ready_pod, unavailable};
use crate::app::{Expectation, Precondition};
use crate::kube::error::Verb;
use crate::model::labels::MetaChange;
use serde_json::json;
use std::sync::Arc;

impl Fixture {
    /// Request number `n` changes scim/n1, if it is one of these.
    fn change_if(&mut self, n: u64, tags: &[&str], want: Want) -> Vec<String> {
        let mut precondition = Precondition::default();
        tags.iter().for_each(|tag| precondition.add(tag));
        self.step(Input::Requested(NewWaiter {
            is_patient: false,
            handle: handle(n),
            key: n1(),
            by: origin("bob"),
            held: held("bob"),
            deadline: self.world.instant() + WRITE_WAIT,
            reads: None,
            expectation: Expectation::Precondition(precondition.into()),
            want,
        }))
    }

    fn stop_if(&mut self, n: u64, tag: &str) -> Vec<String> {
        self.change_if(n, &[tag], Want::Stop { until: None })
    }

    fn label_if(&mut self, n: u64, tag: &str) -> Vec<String> {
        let body = json!({"owner": n});
        let change = MetaChange::from_body(body.as_object().unwrap()).unwrap();
        self.change_if(n, &[tag], Want::Label(Arc::new(change)))
    }

    /// The tag of scim/n1, as the cache shows it.
    fn tag(&self) -> String {
        let ready = self.world.cache.ready(&n1()).unwrap();
        ready.version.fingerprint.unwrap().to_string()
    }

    /// The pod of this Job has another label.
    fn relabelled(&mut self, uid: &str, owner: &str) {
        let mut pod = ready_pod("10.0.0.1");
        let key = "config-controller.semafor.ch/meta-owner";
        merge(&mut pod, &json!({"metadata": {"labels": {key: owner}}}));
        self.world.pod(uid, pod);
    }

    /// The version of the pod that the call in flight demands.
    fn demanded(&self) -> Option<String> {
        match self.call() {
            Some(Action::LabelPod { version, .. }) => version.as_ref().map(ToString::to_string),
            other => panic!("{other:?}"),
        }
    }
}

const READ: [&str; 1] = ["call read with pods"];

/// The UID goes with the deletion: if the cache is old, Kubernetes refuses it.
#[test]
fn a_deletion_by_uid_needs_no_read() {
    let mut fixture = ready();
    assert_eq!(fixture.stop_if(1, "uid:u1"), ["call delete u1 for bob"]);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["1: done"]);
    fixture.check_idle();
}

#[test]
fn a_cache_with_another_job_is_not_believed() {
    let mut fixture = ready();
    assert_eq!(fixture.stop_if(1, "uid:u2"), READ);
    // Another replica has replaced it.
    fixture.world.job_gone("u1");
    fixture.world.job("u2", json!({}));
    assert_eq!(fixture.done(), ["call delete u2 for bob"]);
    assert_eq!(fixture.done(), ["1: done"]);

    let mut fixture = ready();
    for (n, tag) in [(1, "uid:u2"), (2, "00112233445566778899aabbccddeeff")] {
        assert_eq!(fixture.stop_if(n, tag), READ);
        let refused = format!("{n}: PreconditionFailed");
        assert_eq!(fixture.done(), [refused.as_str()]);
    }
    fixture.check_idle();
}

#[test]
fn what_does_not_exist_meets_no_precondition() {
    for want in [
        Want::Stop { until: None },
        Want::Label(Arc::new(MetaChange::default())),
    ] {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.change_if(1, &["uid:u1"], want), READ);
        assert_eq!(fixture.stop(2), NOTHING);
        let after = fixture.ends(CallOutcome::Absent);
        assert_eq!(after, ["1: PreconditionFailed", "call read"]);
        assert_eq!(fixture.ends(CallOutcome::Absent), ["2: NoInstance"]);
    }
}

/// Kubernetes cannot compare labels when it deletes a Job, so they are read.
#[test]
fn a_deletion_by_state_reads_the_labels_first() {
    let mut fixture = ready();
    let tag = fixture.tag();
    assert_eq!(fixture.stop_if(1, &tag), READ);
    assert_eq!(fixture.done(), ["call delete u1 for bob"]);
    assert_eq!(fixture.done(), ["1: done"]);

    let mut fixture = ready();
    assert_eq!(fixture.stop_if(1, &tag), READ);
    fixture.relabelled("u1", "ann");
    assert_eq!(fixture.done(), ["1: PreconditionFailed"]);
    fixture.check_idle();
}

/// In one replica they never overlap, with a precondition or without, whichever comes first.
#[test]
fn of_a_deletion_by_state_and_a_change_of_labels_one_is_made_after_the_other() {
    // The change is under way.
    let mut fixture = ready();
    let tag = fixture.tag();
    assert_eq!(fixture.label_if(1, &tag), ["call label p-u1"]);
    assert_eq!(fixture.stop_if(2, &tag), NOTHING);
    fixture.relabelled("u1", "1");
    assert_eq!(fixture.done(), ["1: labelled", READ[0]]);
    assert_eq!(fixture.done(), ["2: PreconditionFailed"]);
    fixture.check_idle();

    // The labels are being read for the deletion.
    for with_tag in [true, false] {
        let mut fixture = ready();
        let tag = fixture.tag();
        assert_eq!(fixture.stop_if(1, &tag), READ);
        let late = match with_tag {
            true => fixture.label_if(2, &tag),
            false => fixture.label(2),
        };
        assert_eq!(late, NOTHING);
        assert_eq!(fixture.done(), ["call delete u1 for bob"]);
        fixture.world.deleting("u1");
        if with_tag {
            assert_eq!(fixture.done(), ["1: done", READ[0]]);
            assert_eq!(fixture.done(), ["2: PreconditionFailed"]);
        } else {
            assert_eq!(fixture.done(), ["1: done", "call label p-u1"]);
        }
    }

    // Its deletion has failed, and meanwhile the labels are changed.
    let mut fixture = ready();
    let tag = fixture.tag();
    fixture.stop_if(1, &tag);
    fixture.done();
    assert_eq!(fixture.label(2), NOTHING);
    assert_eq!(fixture.fails(unavailable(Verb::Delete)), READ);
    assert_eq!(fixture.done(), ["call delete u1 for bob"]);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["1: done", "call label p-u1"]);
}

#[test]
fn a_deletion_that_fails_is_compared_anew_before_its_retry() {
    let mut fixture = ready();
    let tag = fixture.tag();
    fixture.stop_if(1, &tag);
    assert_eq!(fixture.done(), ["call delete u1 for bob"]);
    assert_eq!(fixture.fails(unavailable(Verb::Delete)), NOTHING);
    // Not before the pause is over.
    assert_eq!(fixture.pass(0.05), NOTHING);
    assert_eq!(fixture.pass(0.1), READ);
    fixture.relabelled("u1", "ann");
    assert_eq!(fixture.done(), ["1: PreconditionFailed"]);
    fixture.check_idle();
}

#[test]
fn a_job_that_is_gone_when_its_deletion_arrives_is_not_the_one_expected() {
    let mut fixture = ready();
    fixture.stop_if(1, "uid:u1");
    fixture.world.job_gone("u1");
    let after = fixture.ends(CallOutcome::Absent);
    assert_eq!(after, ["1: PreconditionFailed"]);

    // Unless an earlier attempt may have done it.
    let mut fixture = ready();
    fixture.stop_if(1, "uid:u1");
    assert_eq!(fixture.fails(lost(Verb::Delete)), NOTHING);
    assert_eq!(fixture.pass(0.2), ["call delete u1 for bob"]);
    fixture.world.job_gone("u1");
    assert_eq!(fixture.ends(CallOutcome::Absent), ["1: done"]);

    // Another one has its name.
    let mut fixture = ready();
    fixture.stop_if(1, "uid:u1");
    assert_eq!(fixture.fails(conflict(Verb::Delete)), READ);
    fixture.world.job_gone("u1");
    fixture.world.job("u2", json!({}));
    assert_eq!(fixture.done(), ["1: PreconditionFailed"]);
}

/// A deletion for another caller answers nobody whose precondition does not hold.
#[test]
fn a_deletion_is_for_those_whose_precondition_holds() {
    let mut fixture = ready();
    assert_eq!(fixture.stop(1), ["call delete u1 for bob"]);
    assert_eq!(fixture.stop_if(2, "uid:u2"), NOTHING);
    assert_eq!(fixture.stop_if(3, "uid:u1"), NOTHING);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["1: done", READ[0]]);
    assert_eq!(
        fixture.done(),
        ["2: PreconditionFailed", "call delete u1 for bob"]
    );
    assert_eq!(fixture.done(), ["3: done"]);
}

#[test]
fn labels_are_changed_in_the_version_that_was_compared() {
    let mut fixture = ready();
    let tag = fixture.tag();
    let pod = fixture.world.cache.pods.get("p-u1").unwrap();
    let version = pod.metadata.resource_version.to_string();
    assert_eq!(fixture.label_if(1, &tag), ["call label p-u1"]);
    assert_eq!(fixture.demanded(), Some(version));
    // Only its status has changed.
    assert_eq!(fixture.fails(conflict(Verb::Patch)), READ);
    fixture.world.ready("u1", "10.0.0.1");
    assert_eq!(fixture.done(), ["call label p-u1"]);
    let pod = fixture.world.cache.pods.get("p-u1").unwrap();
    let version = pod.metadata.resource_version.to_string();
    assert_eq!(fixture.demanded(), Some(version));
    fixture.relabelled("u1", "1");
    assert_eq!(fixture.done(), ["1: labelled"]);
}

#[test]
fn of_two_that_know_the_same_state_one_changes_it() {
    let mut fixture = ready();
    let tag = fixture.tag();
    assert_eq!(fixture.label_if(1, &tag), ["call label p-u1"]);
    assert_eq!(fixture.label_if(2, &tag), NOTHING);
    fixture.relabelled("u1", "1");
    let after = fixture.done();
    assert_eq!(after, ["1: labelled", READ[0]]);
    assert_eq!(fixture.done(), ["2: PreconditionFailed"]);

    // The same with another replica.
    let mut fixture = ready();
    fixture.label_if(1, &tag);
    assert_eq!(fixture.fails(conflict(Verb::Patch)), READ);
    fixture.relabelled("u1", "2");
    assert_eq!(fixture.done(), ["1: PreconditionFailed"]);
    fixture.check_idle();
}

#[test]
fn a_change_with_a_precondition_is_not_merged() {
    let mut fixture = ready();
    let tag = fixture.tag();
    assert_eq!(fixture.label(1), ["call label p-u1"]);
    assert_eq!(fixture.label(2), NOTHING);
    assert_eq!(fixture.label_if(3, &tag), NOTHING);
    assert_eq!(fixture.label(4), NOTHING);
    assert_eq!(fixture.done(), ["1: done", "call label p-u1"]);
    assert_eq!(fixture.demanded(), None);
    assert_eq!(fixture.done(), ["2: done", "call label p-u1"]);
    assert!(fixture.demanded().is_some());
    assert_eq!(fixture.done(), ["3: labelled", "call label p-u1"]);
    assert_eq!(fixture.demanded(), None);
    assert_eq!(fixture.done(), ["4: done"]);
}

/// The labels may have changed by its own, lost change.
#[test]
fn whoever_may_have_made_its_change_is_not_told_that_it_was_refused() {
    let mut fixture = ready();
    let tag = fixture.tag();
    fixture.label_if(1, &tag);
    assert_eq!(fixture.fails(lost(Verb::Patch)), NOTHING);
    assert_eq!(fixture.pass(0.2), ["call label p-u1"]);
    assert_eq!(fixture.fails(conflict(Verb::Patch)), READ);
    fixture.relabelled("u1", "1");
    assert_eq!(fixture.done(), ["1: Unavailable"]);
    fixture.check_idle();
}

#[test]
fn a_pod_that_is_gone_is_looked_for() {
    let mut fixture = ready();
    fixture.label_if(1, "uid:u1");
    assert_eq!(fixture.fails(not_found(Verb::Patch)), READ);
    fixture.world.pod_gone("u1");
    // It waits for the next pod, as any PATCH.
    assert_eq!(fixture.done(), NOTHING);
    fixture.world.ready("u1", "10.0.0.2");
    assert_eq!(fixture.changed(), ["call label p-u1"]);
    assert_eq!(fixture.done(), ["1: labelled"]);
}

/// Without Kubernetes nothing is changed, and the calls have pauses.
#[test]
fn while_kubernetes_cannot_be_read_nothing_is_decided() {
    let mut fixture = ready();
    assert_eq!(fixture.stop_if(1, "uid:u2"), READ);
    let mut calls = 0;
    loop {
        let lines = fixture.fails(unavailable(Verb::List));
        let next = if lines.is_empty() {
            fixture.pass(1.5)
        } else {
            lines
        };
        if next != READ {
            assert_eq!(next, ["1: Unavailable"]);
            break;
        }
        calls += 1;
        assert!(calls < 30, "the calls have no pauses");
    }
    assert!(calls > 5, "{calls}");
    fixture.check_idle();
}
