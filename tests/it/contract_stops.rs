//! Rows about DELETE of an instance (part B sections 3.6 and 4.4).

use serde_json::json;

use super::environment::Need::Types;
use super::fixture::{Fixture, NO_WAIT, Outcome, SUCCESS, exchange, holds, same, soon};
use super::starts::{lingering, stop};
use super::{Body, Row, ask, exchanges, fake, fixture};

pub(super) const ROWS: &[Row] = &[
    exchanges(
        "B3.6-none",
        "nothing to stop is 404 with the words `No job found`",
        &[
            ask(
                "DELETE",
                "/app/<type>/<new>",
                404,
                Body::Detail("No job found", "not_found"),
            ),
            ask(
                "DELETE",
                "/app/no-such-type/<new>",
                404,
                Body::Detail("No job found", "not_found"),
            ),
        ],
    ),
    fixture(
        "B3.6-ok",
        "DELETE is 200 {\"status\":\"Success\"}; then the instance is gone, and the next DELETE is 404",
        &[],
        stops,
    ),
    fake(
        "B3.6-at-once",
        "DELETE returns immediately, and does not wait for the pod",
        does_not_wait,
    ),
    fixture(
        "B3.6-podless",
        "an instance whose pod is not even scheduled can be deleted",
        &[Types],
        stops_a_pending_start,
    ),
    fake(
        "V6",
        "DELETE is 200 or 404, goes to that very Job, and leaves it until its pods are gone (Foreground)",
        foreground,
    ),
];

fn stops(fixture: &Fixture) -> Outcome {
    let name = fixture.name("stop");
    let path = fixture.path_of(fixture.app_type(), &name);
    fixture.start(&path)?;
    fixture.delete(&path)?.exactly(200, SUCCESS)?;
    soon("it is not listed any more", || {
        let entries = fixture.entries(fixture.app_type())?;
        let listed = entries.iter().any(|entry| entry["name"] == *name);
        holds(!listed, || json!(entries).to_string())
    })?;
    soon("there is nothing to stop", || {
        let again = fixture.delete(&path)?;
        again.detail(404, "No job found", "not_found").map(drop)
    })
}

fn does_not_wait() -> Outcome {
    let (environment, ..) = lingering()?;
    stop(&environment)?;
    let pod = environment.kube.pod_of("default", "hello-ann");
    holds(pod.is_some(), || "the pod is gone already".to_owned())
}

fn stops_a_pending_start(fixture: &Fixture) -> Outcome {
    let name = fixture.name("pending");
    let path = fixture.path_of("unschedulable", &name);
    fixture.ask("GET", &path, NO_WAIT, "")?.is(202)?;
    soon("it is listed", || fixture.entry("unschedulable", &name))?;
    fixture.delete(&path)?.exactly(200, SUCCESS)?;
    soon("it is gone", || {
        let listed = fixture.entry("unschedulable", &name).is_ok();
        holds(!listed, || "it is listed".to_owned())
    })
}

fn foreground() -> Outcome {
    let (environment, ..) = lingering()?;
    stop(&environment)?;
    let job = environment
        .job("hello-ann")
        .ok_or("the Job waits for its pod")?;
    let finalizers = &job["metadata"]["finalizers"];
    same("finalizers", finalizers, &json!(["foregroundDeletion"]))?;
    // A DELETE of an instance that is being deleted succeeds, too. The deletion is sent again,
    // since only Kubernetes knows whether it is still the same Job.
    stop(&environment)?;
    same("DELETEs", environment.kube.count("delete", "jobs"), 2)?;
    let missing = exchange(environment.address(0), "DELETE", "/app/hello/bob", &[], "")?;
    missing.detail(404, "No job found", "not_found").map(drop)
}
