//! Complete Jobs of which nothing shows who ended them.

use super::*;

/// A pod ends a second before its Job. If that is not seen, the watch on pods lags behind, and may show the
/// mark of a disruption next.
#[test]
fn the_end_of_a_complete_job_is_unclear_until_that_of_its_pod_is_seen() {
    let mut complete = job_with("Complete", 60, "");
    let with = |phase: &str, containers: Value| {
        let status = json!({"phase": phase, "containerStatuses": containers});
        pod(json!({"metadata": {}, "status": status}))
    };
    let ending =
        |job: &Job, pod: &Arc<Pod>| match assess(job, std::slice::from_ref(pod), &|_| Vec::new())
            .status
        {
            InstanceStatus::Finished(ending) => ending,
            other => panic!("{other:?}"),
        };
    let runs = with("Running", json!([]));
    let found = ending(&complete, &runs);
    assert!(found.unclear_for().is_some() && !found.is_disrupted());
    assert!(found.clone().decided().is_disrupted());
    for ended in [
        with("Running", container(ended(0, "Completed"))),
        with("Succeeded", json!([])),
    ] {
        assert!(ending(&complete, &ended).unclear_for().is_none());
    }
    // Nobody waits for that of a Job that is being deleted.
    complete.metadata.deletion_timestamp = Timestamp::parse(&at(70));
    let end = ended_before_deletion(&complete, Some(&runs));
    assert!(end.is_some_and(|end| end.is_disrupted()));
}
