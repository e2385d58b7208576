//! Dry runs of Jobs and pods: what they find, what they do not, and the warnings beside.

use serde_json::{Value, json};

use super::{TestEnvironment, checks, job};
use crate::raw_kube::Got;

checks! {
    each_unknown_field_is_a_warning_with_its_path,
    warnings_come_with_a_refusal_too,
    warnings_are_cut,
    a_wrong_type_is_a_bad_request_that_names_the_field,
    a_dry_run_of_a_name_that_is_taken_is_refused_last,
    a_pod_can_be_tried_alone,
}

/// A dry run with this validation of fields.
#[track_caller]
fn tried(environment: &TestEnvironment, plural: &str, object: &Value, validation: &str) -> Got {
    let all = environment.all(plural);
    let path = format!("{all}?dryRun=All{validation}");
    environment.api.post(&path, object)
}

fn with_container(change: &Value) -> Value {
    let mut object = job("a", &json!({}));
    super::merge(
        &mut object["spec"]["template"]["spec"]["containers"][0],
        change,
    );
    object
}

fn each_unknown_field_is_a_warning_with_its_path(environment: &TestEnvironment) {
    let object = with_container(&json!({"readinesProbe": {}, "a\"b\\c": 1}));
    let expected = [
        r#"299 - "unknown field \"spec.template.spec.containers[0].a\\\"b\\\\c\"""#,
        r#"299 - "unknown field \"spec.template.spec.containers[0].readinesProbe\"""#,
    ];
    for validation in ["&fieldValidation=Warn", ""] {
        let got = tried(environment, "jobs", &object, validation);
        let mut warnings = got.headers("warning");
        warnings.sort_unstable();
        assert_eq!((got.code, warnings), (201, expected.to_vec()));
    }
    let got = tried(environment, "jobs", &object, "&fieldValidation=Ignore");
    assert_eq!((got.code, got.headers("warning").len()), (201, 0));
    let got = tried(environment, "jobs", &object, "&fieldValidation=Strict");
    assert!(
        got.message().contains("strict decoding error: unknown"),
        "{}",
        got.message()
    );
    got.expect_refusal(400, "BadRequest");
}

fn warnings_come_with_a_refusal_too(environment: &TestEnvironment) {
    let mut object = with_container(&json!({"recources": {}}));
    object["spec"]["template"]["spec"]["restartPolicy"] = json!("Always");
    let got = tried(environment, "jobs", &object, "");
    let expected = r#"299 - "unknown field \"spec.template.spec.containers[0].recources\"""#;
    assert_eq!(got.headers("warning"), [expected]);
    let refusal = got.expect_refusal(422, "Invalid");
    let field = &refusal["details"]["causes"][0]["field"];
    assert_eq!(field, "spec.template.spec.restartPolicy");
}

fn warnings_are_cut(environment: &TestEnvironment) {
    let unknown = |count: usize, length: usize| {
        let name = |number| format!("x{number:03}{}", "x".repeat(length - 4));
        let fields: serde_json::Map<_, _> = (0..count).map(|n| (name(n), json!(1))).collect();
        with_container(&Value::Object(fields))
    };
    let got = tried(environment, "jobs", &unknown(300, 8), "");
    let count = got.headers("warning").len();
    assert!((60..90).contains(&count), "{count}");
    let got = tried(environment, "jobs", &unknown(1, 9000), "");
    let warnings = got.headers("warning");
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].len() < 300, "{}", warnings[0].len());
}

fn a_wrong_type_is_a_bad_request_that_names_the_field(environment: &TestEnvironment) {
    let object = with_container(&json!({"ports": [{"containerPort": "8080"}]}));
    let refusal = tried(environment, "jobs", &object, "").expect_refusal(400, "BadRequest");
    assert_eq!(
        refusal["message"],
        "Job in version \"v1\" cannot be handled as a Job: json: cannot unmarshal string into Go \
         struct field ContainerPort.spec.template.spec.containers.ports.containerPort of type int32"
    );
    let mut object = job("a", &json!({}));
    object["spec"]["template"]["spec"]["tolerations"] = json!([{"key": "a", "value": true}]);
    let refusal = tried(environment, "jobs", &object, "").expect_refusal(400, "BadRequest");
    assert_eq!(
        refusal["message"],
        "Job in version \"v1\" cannot be handled as a Job: json: cannot unmarshal bool into Go \
         struct field Toleration.spec.template.spec.tolerations.value of type string"
    );
}

fn a_dry_run_of_a_name_that_is_taken_is_refused_last(environment: &TestEnvironment) {
    environment.make("jobs", &job("a", &json!({"suspend": true})));
    let good = tried(environment, "jobs", &job("a", &json!({})), "");
    good.expect_refusal(409, "AlreadyExists");
    let broken = json!({"template": {"spec": {"restartPolicy": "Always"}}});
    let bad = tried(environment, "jobs", &job("a", &broken), "");
    bad.expect_refusal(422, "Invalid");
}

fn a_pod_can_be_tried_alone(environment: &TestEnvironment) {
    let mut pod = job("a", &json!({}))["spec"]["template"].clone();
    pod["metadata"]["name"] = json!("a");
    pod["spec"]["containers"][0]["readinesProbe"] = json!({});
    let got = tried(environment, "pods", &pod, "&fieldValidation=Warn");
    let expected = r#"299 - "unknown field \"spec.containers[0].readinesProbe\"""#;
    assert_eq!((got.code, got.headers("warning")), (201, vec![expected]));
    environment
        .api
        .get(&environment.one("pods", "a"))
        .expect_refusal(404, "NotFound");
}
