//! Rows about DELETE of an instance (part B sections 3.6 and 4.4).

use serde_json::json;

use super::ground::Need::Types;
use super::scene::{HURRIED, Outcome, PATIENT, SUCCESS, Scene, answered, begin, holds, same, soon};
use super::{Body, Row, ask, exchanges, fake, scene};
use crate::harness::Ground as Fake;

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
    scene(
        "B3.6-ok",
        "DELETE is 200 {\"status\":\"Success\"}; then the instance is gone, and the next DELETE is 404",
        &[],
        stops,
    ),
    fake(
        "B3.6-at-once",
        "DELETE answers at once, and does not wait for the pod",
        does_not_wait,
    ),
    scene(
        "B3.6-podless",
        "an instance whose pod is not even scheduled can be deleted",
        &[Types],
        stops_what_is_pending,
    ),
    fake(
        "V6",
        "DELETE is 200 or 404, goes to that very Job, and leaves it until its pods are gone (Foreground)",
        foreground,
    ),
];

fn stops(scene: &Scene) -> Outcome {
    let name = scene.name("stop");
    let path = scene.path_of(scene.app_type(), &name);
    scene.start(&path)?;
    scene.delete(&path)?.exactly(200, SUCCESS)?;
    soon("it is not listed any more", || {
        let entries = scene.entries(scene.app_type())?;
        let listed = entries.iter().any(|entry| entry["name"] == *name);
        holds(!listed, || json!(entries).to_string())
    })?;
    soon("there is nothing to stop", || {
        let again = scene.delete(&path)?;
        again.detail(404, "No job found", "not_found").map(drop)
    })
}

/// A ready instance that goes only by hand.
fn lingering() -> Outcome<Fake> {
    let ground = Fake::by_hand();
    let asked = begin(ground.address(0), "GET", "/app/hello/ann", PATIENT, "")?;
    ground.make_ready("hello-ann");
    asked.finish()?.is(200)?;
    Ok(ground)
}

fn delete(ground: &Fake) -> Outcome {
    let answer = answered(ground.address(0), "DELETE", "/app/hello/ann", &[], "")?;
    answer.exactly(200, SUCCESS).map(drop)
}

fn does_not_wait() -> Outcome {
    let ground = lingering()?;
    delete(&ground)?;
    let pod = ground.kube.pod_of("default", "hello-ann");
    holds(pod.is_some(), || "the pod is gone already".to_owned())
}

fn stops_what_is_pending(scene: &Scene) -> Outcome {
    let name = scene.name("pending");
    let path = scene.path_of("unschedulable", &name);
    scene.ask("GET", &path, HURRIED, "")?.is(202)?;
    soon("it is listed", || scene.entry("unschedulable", &name))?;
    scene.delete(&path)?.exactly(200, SUCCESS)?;
    soon("it is gone", || {
        let listed = scene.entry("unschedulable", &name).is_ok();
        holds(!listed, || "it is listed".to_owned())
    })
}

fn foreground() -> Outcome {
    let ground = lingering()?;
    delete(&ground)?;
    let job = ground.job("hello-ann").ok_or("the Job waits for its pod")?;
    let finalizers = &job["metadata"]["finalizers"];
    same("finalizers", finalizers, &json!(["foregroundDeletion"]))?;
    // Of what is already going a DELETE is a success, too; it is asked for again, since only
    // Kubernetes can say that it is still the same Job.
    delete(&ground)?;
    same("DELETEs", ground.kube.count("delete", "jobs"), 2)?;
    let missing = answered(ground.address(0), "DELETE", "/app/hello/bob", &[], "")?;
    missing.detail(404, "No job found", "not_found").map(drop)
}
