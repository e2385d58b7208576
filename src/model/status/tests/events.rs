//! Statuses with and without Events.

use super::*;

/// Events about one object, by reason and message, each written a second after the one before,
/// the first at that second.
fn events(first: i64, said: &[(&str, &str)]) -> Vec<Arc<Event>> {
    let each = said.iter().zip(first..).map(|((reason, message), at_sec)| {
        let event = json!({
            "metadata": {"name": "e", "uid": "e"}, "reason": reason, "message": message,
            "involvedObject": {"kind": "Pod", "name": "p", "uid": "any"}, "lastTimestamp": at(at_sec),
        });
        Arc::new(Event::decode(event.to_string().as_bytes()).unwrap().unwrap())
    });
    each.collect()
}

/// With these Events about the object with that UID.
#[track_caller]
fn check_with_events(
    job: &Job,
    pods: &[Arc<Pod>],
    uid: &str,
    events: &[Arc<Event>],
    expected: &str,
) -> Assessment {
    let about: Uid = uid.into();
    let assessment = assess(job, pods, &|uid| {
        let is_it = *uid == about;
        events.iter().filter(|_| is_it).cloned().collect()
    });
    assert_eq!(line(&assessment), expected);
    assessment
}

fn message(assessment: &Assessment) -> &str {
    match &assessment.status {
        InstanceStatus::Starting(finding) => &finding.message,
        other => panic!("no start: {other:?}"),
    }
}

#[test]
fn a_rejected_pod() {
    let usual = job(json!({}));
    let refused = |why: &str| {
        events(
            1,
            &[(
                "FailedCreate",
                &format!("Error creating: pods \"a\" is forbidden: {why}"),
            )],
        )
    };
    for (why, prognosis) in [
        ("violates PodSecurity \"restricted:latest\": x", "never"),
        (
            "maximum cpu usage per Container is 1, but limit is 2",
            "never",
        ),
        ("exceeded quota: q, requested: pods=1", "15s@?"),
        ("error looking up service account a/b", "15s@?"),
    ] {
        let expected = format!("starting creating FailedCreate {prognosis} node_not_ready");
        let assessment = check_with_events(&usual, &[], "u1", &refused(why), &expected);
        assert!(
            message(&assessment).contains(why),
            "{}",
            message(&assessment)
        );
    }
    // Events of a predecessor, and Events before the last pod.
    let quota = refused("exceeded quota: q");
    let none = "starting creating NoPod 25s@? node_not_ready";
    check_with_events(&usual, &[], "u0", &quota, none);
    let leaving = pod(json!({"metadata": {"deletionTimestamp": at(40)}}));
    let none = "starting creating NoPod 25s@40 node_not_ready";
    check_with_events(&usual, &[leaving], "u1", &quota, none);
    for (deleted_at, expected) in [
        (0, "starting creating FailedCreate 25s@0 node_not_ready"),
        (1, "starting creating NoPod 25s@1 node_not_ready"),
    ] {
        let leaving = pod(json!({"metadata": {"deletionTimestamp": at(deleted_at)}}));
        check_with_events(&usual, &[leaving], "u1", &quota, expected);
    }
    // A pod that is there was not refused.
    let there = "starting scheduling Scheduling 600s@1 node_not_ready";
    check_with_events(&usual, &[pod(json!({}))], "u1", &quota, there);
}

#[test]
fn a_pod_that_is_not_mounted() {
    let on_node = pod(json!({"status": {
        "conditions": conditions(&[("PodScheduled", "True", 2), ("PodReadyToStartContainers", "False", 3)]),
        "containerStatuses": container(waiting("ContainerCreating")),
    }}));
    let usual = job(json!({}));
    let mount = (
        "FailedMount",
        "MountVolume.SetUp failed for volume \"v\" : secret \"s\" not found",
    );
    let sandbox = (
        "FailedCreatePodSandBox",
        "Failed to create pod sandbox: no network",
    );
    for (said, reason, words) in [
        (&[mount][..], "FailedMount", "the Secret 's' does not exist"),
        (
            &[mount, sandbox],
            "FailedCreatePodSandBox",
            "the pod's sandbox",
        ),
        (
            &[sandbox, mount],
            "FailedMount",
            "the Secret 's' does not exist",
        ),
        (
            &[("FailedAttachVolume", "Multi-Attach error")],
            "FailedAttachVolume",
            "Multi-Attach",
        ),
        (
            &[("FailedMapVolume", "no device")],
            "FailedMapVolume",
            "no device",
        ),
        (
            &[("Unhealthy", "not of this phase")],
            "Mounting",
            "preparing",
        ),
        (&[], "Mounting", "preparing"),
    ] {
        let expected = format!("starting mounting {reason} 300s@3 pulling_image");
        let pods = std::slice::from_ref(&on_node);
        let assessment = check_with_events(&usual, pods, "p1", &events(4, said), &expected);
        assert!(
            message(&assessment).contains(words),
            "{}",
            message(&assessment)
        );
    }
}

#[test]
fn a_probe_that_does_not_pass() {
    let running = on_node(json!({
        "phase": "Running", "containerStatuses": container(json!({"running": {"startedAt": at(7)}})),
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(2)},
            {"type": "Ready", "status": "False", "lastTransitionTime": at(2), "reason": "ContainersNotReady",
             "message": "containers with unready status: [app]"},
        ],
    }));
    for (words, probe) in [
        (
            "Readiness probe failed: HTTP probe failed with statuscode: 503\n",
            "readiness",
        ),
        ("Startup probe failed: connection refused", "startup"),
    ] {
        let said = events(8, &[("Unhealthy", words)]);
        let expected = "starting readying Unhealthy 300s@7 pulling_image";
        let pods = std::slice::from_ref(&running);
        let assessment = check_with_events(&job(json!({})), pods, "p1", &said, expected);
        assert_eq!(
            message(&assessment),
            format!(
                "container 'app' is running, but its {probe} probe has not passed yet: check the app, or the probe in the template ({})",
                words.trim_end()
            )
        );
    }
}

/// Before 1.32 a back-off did not report its cause.
#[test]
fn a_back_off_without_a_cause() {
    let usual = job(json!({}));
    let state = json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"r/x:1\""}});
    let backs_off = [on_node(json!({"containerStatuses": container(state)}))];
    let failed = |image: &str| {
        let words = format!("Failed to pull image \"{image}\": {image}: not found");
        events(4, &[("Failed", &words)])
    };
    let never = "starting pulling ImagePullBackOff never pulling_image";
    check_with_events(&usual, &backs_off, "p1", &failed("r/x:1"), never);
    let maybe = "starting pulling ImagePullBackOff 10s@? pulling_image";
    check_with_events(&usual, &backs_off, "p1", &failed("r/other:1"), maybe);
    check_with_events(&usual, &backs_off, "p1", &[], maybe);
}
