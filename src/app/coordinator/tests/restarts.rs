//! Restarts of instances whose template has changed: the coordinator's own stops, each followed by a start.

use super::{NOTHING, ready, starting};
use crate::app::api_call::{Action, CallOutcome, Outdated};
use crate::app::coordinator::Input;
use crate::app::error::Error;
use crate::app::fixture::{Fixture, conflict, lost, n1, ready_pod, unavailable};
use crate::kube::error::Verb;
use serde_json::json;
use std::sync::Arc;

/// The instance `u1` carries these values, and a revision that is not the present one.
fn outdated(values: &str) -> Fixture {
    let mut fixture = ready();
    let annotations = json!({
        "config-controller.semafor.ch/values": values,
        "config-controller.semafor.ch/owner": "team",
    });
    let patch = json!({"metadata": {"annotations": annotations}});
    fixture.world.job("u1", patch);
    fixture.changed();
    fixture.reported();
    fixture
}

fn restart(fixture: &mut Fixture) -> Vec<String> {
    let job = fixture.world.cache.jobs.get(&n1().job_name()).unwrap();
    let new = fixture.world.catalog.revision(&n1().app_type).unwrap();
    let revisions = Outdated {
        old: "r1".into(),
        new: new.into(),
        if_unused: false,
    };
    let (uid, version) = (
        job.metadata.uid.clone(),
        job.metadata.resource_version.clone(),
    );
    fixture.step(Input::Outdated(n1(), uid, version, Arc::new(revisions)))
}

#[test]
fn what_is_outdated_is_made_again_for_its_owner_with_its_values() {
    let mut fixture = outdated(r#"[["a","1"]]"#);
    assert_eq!(restart(&mut fixture), ["call restart u1"]);
    assert_eq!(restart(&mut fixture), NOTHING, "its call is under way");
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), NOTHING);
    assert_eq!(fixture.reported(), ["u1 stopping, outdated"]);
    fixture.world.pod_gone("u1");
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["call create for on-change"]);
    let Some(Action::CreateJob(new)) = fixture.call() else {
        panic!("{:?}", fixture.call());
    };
    assert!(new.is_restart);
    assert_eq!(new.by.owner.as_deref(), Some("team"));
    assert_eq!(new.variables.iter().collect::<Vec<_>>(), [("a", "1")]);
    fixture.world.job("u2", json!({}));
    assert_eq!(fixture.done(), NOTHING);
    fixture.check_idle();
    assert!(fixture.coordinator.check().is_ok());
}

#[test]
fn callers_meanwhile_get_the_new_one() {
    let mut fixture = outdated("[]");
    restart(&mut fixture);
    fixture.world.deleting("u1");
    assert_eq!(fixture.get(2), NOTHING);
    assert_eq!(fixture.done(), NOTHING);
    fixture.world.pod_gone("u1");
    fixture.world.job_gone("u1");
    // The values are those of the one before.
    assert_eq!(fixture.changed(), ["call create for on-change"]);
    fixture.world.job("u2", json!({}));
    assert_eq!(fixture.done(), NOTHING);
    fixture.world.pod("u2", ready_pod("10.0.0.8"));
    assert_eq!(fixture.changed(), ["2: ready 10.0.0.8"]);
    fixture.check_idle();
}

#[test]
fn what_cannot_be_made_again_is_kept() {
    for values in ["", "{}", "[[1]]"] {
        let mut fixture = outdated(values);
        assert_eq!(restart(&mut fixture), NOTHING, "{values}");
    }
    let mut fixture = starting();
    assert_eq!(restart(&mut fixture), NOTHING, "somebody waits for it");
    // Only a worker can render it.
    let mut fixture = outdated("[]");
    restart(&mut fixture);
    let outcome = CallOutcome::NotRendered(Error::VariableInvalid("a".into()));
    assert_eq!(fixture.ends(outcome), NOTHING);
    assert_eq!(fixture.get(2), ["2: ready 10.0.0.1"]);
    fixture.check_idle();
}

#[test]
fn who_loses_a_race_starts_nothing() {
    for error in [conflict(Verb::Delete), unavailable(Verb::Delete)] {
        let mut fixture = outdated("[]");
        restart(&mut fixture);
        assert_eq!(fixture.fails(error), NOTHING);
        assert_eq!(fixture.pass(60.0), NOTHING);
        fixture.world.pod_gone("u1");
        fixture.world.job_gone("u1");
        assert_eq!(fixture.changed(), NOTHING);
        fixture.check_idle();
    }
    let mut fixture = outdated("[]");
    restart(&mut fixture);
    fixture.world.pod_gone("u1");
    fixture.world.job_gone("u1");
    fixture.world.job("u2", json!({}));
    assert_eq!(fixture.ends(CallOutcome::Found("u2".into())), NOTHING);
    fixture.check_idle();
}

/// The response is lost: it is read what has become of the Job, and nothing is started if it is still there.
#[test]
fn a_lost_response_is_followed_by_a_read() {
    for is_gone in [false, true] {
        let mut fixture = outdated("[]");
        restart(&mut fixture);
        assert_eq!(fixture.fails(lost(Verb::Delete)), ["call read with pods"]);
        assert_eq!(fixture.fails(unavailable(Verb::Get)), NOTHING);
        assert_eq!(fixture.pass(0.1), ["call read with pods"]);
        if is_gone {
            fixture.world.pod_gone("u1");
            fixture.world.job_gone("u1");
            assert_eq!(
                fixture.ends(CallOutcome::Absent),
                ["call create for on-change"]
            );
        } else {
            assert_eq!(fixture.done(), NOTHING);
            assert!(fixture.coordinator.check().is_ok());
            assert_eq!(fixture.pass(3700.0), NOTHING);
        }
    }
}
