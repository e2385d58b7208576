//! Logs: what a request may ask for, and what there is of which container.

use serde_json::{Value, json};

use super::{TestEnvironment, checks, exits, is_true, job, name};

checks! {
    a_log_is_text_and_its_end_can_be_asked_for,
    a_container_must_be_named_where_there_are_several,
    a_run_that_never_was_has_no_log,
    what_has_not_started_has_no_log,
    options_out_of_range_are_invalid,
}

/// The path of the log of a Job's pod, once that has ended or runs.
fn log_of(environment: &TestEnvironment, job: &str) -> (String, String) {
    let pod = environment.wait_pod(job, |pod| {
        let phase = pod["status"]["phase"].as_str();
        matches!(phase, Some("Running" | "Failed" | "Succeeded"))
    });
    let pod = name(&pod).to_owned();
    (format!("{}/log", environment.one("pods", &pod)), pod)
}

fn a_log_is_text_and_its_end_can_be_asked_for(environment: &TestEnvironment) {
    environment.make("jobs", &job("ends", &exits(3)));
    let pod = environment.wait_pod("ends", |pod| pod["status"]["phase"] == "Failed");
    let path = format!("{}/log", environment.one("pods", name(&pod)));
    let got = environment.api.get(&path);
    assert_eq!(got.header("content-type"), "text/plain");
    let text = got.expect(200);
    let text = text.as_str().expect("it is text");
    assert!(text.ends_with("farewell\n"), "{text}");
    let get = |query: &str| environment.api.get(&format!("{path}?{query}")).expect(200);
    assert_eq!(get("tailLines=1"), "farewell\n");
    assert_eq!(get("tailLines=0"), "");
    assert_eq!(get("tailLines=1&limitBytes=3"), "far");
    // It has ended, so a follow ends, too.
    assert_eq!(get("tailLines=1&follow=true"), "farewell\n");
    assert_eq!(
        get("container=main&sinceSeconds=3600&tailLines=1"),
        "farewell\n"
    );
}

fn a_container_must_be_named_where_there_are_several(environment: &TestEnvironment) {
    let container = |name: &str, port: &str| {
        json!({"name": name, "image": "config-controller-demo:1", "imagePullPolicy": "IfNotPresent",
            "env": [{"name": "PORT", "value": port}]})
    };
    let both = json!([container("main", "8080"), container("side", "8081")]);
    environment.make(
        "jobs",
        &job("two", &json!({"template": {"spec": {"containers": both}}})),
    );
    let (path, pod) = log_of(environment, "two");
    let got = environment.api.get(&path);
    let expected =
        format!("a container name must be specified for pod {pod}, choose one of: [main side]");
    assert_eq!(got.message(), expected);
    got.expect_refusal(400, "BadRequest");
    environment
        .api
        .get(&format!("{path}?container=side"))
        .expect(200);
    let got = environment.api.get(&format!("{path}?container=x"));
    assert_eq!(
        got.message(),
        format!("container x is not valid for pod {pod}")
    );
    got.expect_refusal(400, "BadRequest");
}

fn a_run_that_never_was_has_no_log(environment: &TestEnvironment) {
    environment.make("jobs", &job("runs", &json!({})));
    let (path, pod) = log_of(environment, "runs");
    let got = environment.api.get(&format!("{path}?previous=true"));
    let expected = format!("previous terminated container \"main\" in pod \"{pod}\" not found");
    assert_eq!(got.message(), expected);
    got.expect_refusal(400, "BadRequest");
    let absent = format!("{}/log", environment.one("pods", "absent"));
    environment.api.get(&absent).expect_refusal(404, "NotFound");
}

fn what_has_not_started_has_no_log(environment: &TestEnvironment) {
    let spec = |spec: Value, annotation: Value| json!({"template": {"metadata": {"annotations": annotation}, "spec": spec}});
    let nowhere = spec(
        json!({"nodeSelector": {"no": "such"}}),
        json!({"fake-kube/unschedulable": "no node"}),
    );
    environment.make("jobs", &job("nowhere", &nowhere));
    let pod = environment.wait_pod("nowhere", |pod| {
        pod["status"]["conditions"].is_array() && !is_true(pod, "PodScheduled")
    });
    let path = format!("{}/log", environment.one("pods", name(&pod)));
    let got = environment.api.get(&path);
    assert_eq!((got.code, &got.body), (204, &json!("")));
    let container = json!({"name": "main", "image": "config-controller-demo:1", "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "absent", "key": "x"}}}]});
    let stuck = spec(
        json!({"containers": [container]}),
        json!({"fake-kube/waiting": "CreateContainerConfigError: configmap \"absent\" not found"}),
    );
    environment.make("jobs", &job("stuck", &stuck));
    let pod = environment.wait_pod("stuck", |pod| {
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        waiting["reason"] == "CreateContainerConfigError"
    });
    let pod = name(&pod);
    let got = environment
        .api
        .get(&format!("{}/log", environment.one("pods", pod)));
    let expected = format!(
        "container \"main\" in pod \"{pod}\" is waiting to start: CreateContainerConfigError"
    );
    assert_eq!(got.message(), expected);
    got.expect_refusal(400, "BadRequest");
}

fn options_out_of_range_are_invalid(environment: &TestEnvironment) {
    environment.make("jobs", &job("runs", &json!({})));
    let (path, pod) = log_of(environment, "runs");
    for (query, why) in [
        (
            "tailLines=-1",
            "tailLines: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "limitBytes=0",
            "limitBytes: Invalid value: 0: must be greater than 0",
        ),
        (
            "sinceSeconds=0",
            "sinceSeconds: Invalid value: 0: must be greater than 0",
        ),
    ] {
        let got = environment.api.get(&format!("{path}?{query}"));
        let expected = format!("PodLogOptions \"{pod}\" is invalid: {why}");
        assert_eq!(got.message(), expected);
        let status = got.expect_refusal(422, "Invalid");
        assert_eq!(status["details"]["kind"], "PodLogOptions");
    }
}
