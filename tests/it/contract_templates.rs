//! Rows about templates, their variables, and the Jobs that are made of them (part B sections 4 and 5).

use serde_json::{Value, json};

use super::environment::Need::{Objects, Types};
use super::fixture::{Fixture, LONG_WAIT, Outcome, holds, same, soon};
use super::{Row, fixture};
use crate::harness::PREFIX;

pub(super) const ROWS: &[Row] = &[
    fixture(
        "V7",
        "the Job is that of 2.7.1, with our labels on it too, and with what keeps one pod a name",
        &[Types, Objects],
        the_job,
    ),
    fixture(
        "A11",
        "the forms of section 5 work: variables, defaults, if, elif, else and for, `##` and `\\` at the end of a line; what is no variable stays as it is",
        &[Types, Objects],
        template_forms,
    ),
    fixture(
        "A12",
        "scalars are what kubectl makes of them: 0644 is 420, no is false, merge keys are resolved; but text where Kubernetes wants text",
        &[Types, Objects],
        scalars,
    ),
    fixture(
        "S1",
        "a value of the query is data, whatever is in it; in 2.7.1 one with newlines made a privileged pod",
        &[Types, Objects],
        values_are_data,
    ),
    fixture(
        "S2",
        "templates run no code: <% %>, <%! %>, <%include> and <%def> are 422 template_invalid; 2.7.1 runs them",
        &[Types],
        no_code,
    ),
    fixture(
        "W21",
        "max-lifetime and ttl-after-finished bound the life of an unused Job; those of 2.7.1 stay for ever",
        &[Types, Objects],
        lifetimes,
    ),
];

/// Starts an instance and returns its Job.
fn job_of(fixture: &Fixture, app_type: &str, query: &str) -> Outcome<(String, Value)> {
    let name = fixture.name("t");
    let path = fixture.path_of(app_type, &name);
    fixture.start(&format!("{path}{query}"))?;
    let job = fixture.kube().get("jobs", &format!("{app_type}-{name}"));
    Ok((name, job.ok_or("there is no Job")?))
}

/// The only container of a Job's template.
fn container(job: &Value) -> &Value {
    &job["spec"]["template"]["spec"]["containers"][0]
}

fn the_job(fixture: &Fixture) -> Outcome {
    let (name, job) = job_of(fixture, "labelled", "")?;
    let key = |name: &str| format!("{PREFIX}{name}");
    let template = &job["spec"]["template"];
    for metadata in [&job["metadata"], &template["metadata"]] {
        for map in ["labels", "annotations"] {
            let (own_type, own_name) = (key("instance-type"), key("instance-name"));
            same(map, &metadata[map][own_type], &json!("labelled"))?;
            same(map, &metadata[map][own_name], &json!(name))?;
        }
    }
    let (labels, annotations) = (
        &template["metadata"]["labels"],
        &template["metadata"]["annotations"],
    );
    same("a label of the template", &labels["own"], &json!("label"))?;
    let own = &annotations["example.org/own"];
    same("an annotation of the template", own, &json!("annotation"))?;
    let by = &job["metadata"]["annotations"][key("started-by")];
    holds(by.is_string(), || job["metadata"].to_string())?;
    let spec = &job["spec"];
    let policy = &spec["podReplacementPolicy"];
    same("podReplacementPolicy", policy, &json!("Failed"))?;
    same("backoffLimit", &spec["backoffLimit"], &json!(0))?;
    let rule = &spec["podFailurePolicy"]["rules"][0];
    same("podFailurePolicy", &rule["action"], &json!("Ignore"))?;
    let on = &rule["onPodConditions"][0]["type"];
    same("podFailurePolicy", on, &json!("DisruptionTarget"))?;
    for field in ["activeDeadlineSeconds", "ttlSecondsAfterFinished"] {
        same(field, &spec[field], &Value::Null)?;
    }
    let restart = &template["spec"]["restartPolicy"];
    same("restartPolicy", restart, &json!("Never"))?;
    same("image", &container(&job)["image"], &json!("stand-in"))
}

fn template_forms(fixture: &Fixture) -> Outcome {
    for (query, word) in [
        ("", "none"),
        ("?x=1", "one"),
        ("?x=", "other"),
        ("?x=1&x=2", "other"),
    ] {
        let (_, job) = job_of(fixture, "branches", query)?;
        let expected = json!([word, "$(X) $X $$ 50% joined"]);
        same(query, &container(&job)["args"], &expected)?;
    }
    for (query, optional) in [("?tz=120", "default"), ("?tz=120&x=given", "given")] {
        let (_, job) = job_of(fixture, "needy", query)?;
        same(query, &container(&job)["args"], &json!(["120"]))?;
        let value = &container(&job)["env"][0]["value"];
        same(query, value, &json!(optional))?;
    }
    let missing = fixture.get(&format!("/app/needy/{}", fixture.name("m")))?;
    let message = missing.error(422, "variable_missing")?;
    holds(message.contains("'tz'"), || message)
}

fn scalars(fixture: &Fixture) -> Outcome {
    let (_, job) = job_of(fixture, "scalars", "?p=8080")?;
    let template = &job["spec"]["template"];
    let annotations = &template["metadata"]["annotations"];
    for (name, text) in [("on", "on"), ("octal", "0644")] {
        let found = &annotations[format!("example.org/{name}")];
        same(name, found, &json!(text))?;
    }
    let spec = &template["spec"];
    let mount = &spec["automountServiceAccountToken"];
    same("no", mount, &json!(false))?;
    // The API server leaves out what is false here.
    holds(spec["hostNetwork"] != true, || spec.to_string())?;
    let mode = &spec["volumes"][1]["configMap"]["defaultMode"];
    same("defaultMode", mode, &json!(420))?;
    let main = container(&job);
    let args = json!(["yes", "0644", "1e3"]);
    same("args", &main["args"], &args)?;
    let env = json!([
        {"name": "A", "value": "12:30:45"},
        {"name": "B", "value": "12:30:45"},
        {"name": "C", "value": "on"},
    ]);
    let pairs = main["env"].as_array().into_iter().flatten();
    let pairs: Vec<Value> = pairs
        .map(|pair| json!({"name": pair["name"], "value": pair["value"]}))
        .collect();
    same("env", json!(pairs), env)?;
    let port = &main["ports"][0]["containerPort"];
    same("a port that is a variable", port, &json!(8080))
}

/// What turned the template of 2.7.1 into that of a privileged pod, form-encoded.
const INJECTION: &str = "x%22%5D%0A%20%20%20%20securityContext%3A%20%7Bprivileged%3A%20true%7D%0A%20%20%20%20command%3A%20%5B%22x";

/// The same, decoded.
const INJECTED: &str = "x\"]\n    securityContext: {privileged: true}\n    command: [\"x";

fn values_are_data(fixture: &Fixture) -> Outcome {
    let nested = "%24%7Balternatives%5B'x'%5D%7D";
    let (_, job) = job_of(fixture, "needy", &format!("?tz={INJECTION}&x={nested}"))?;
    let context = &container(&job)["securityContext"];
    holds(context["privileged"] != true, || context.to_string())?;
    same(
        "it is one argument",
        &container(&job)["args"],
        &json!([INJECTED]),
    )?;
    let value = &container(&job)["env"][0]["value"];
    same(
        "a value is no template",
        value,
        &json!("${alternatives['x']}"),
    )?;
    // Not even the name of a variable gets out of its place.
    let (_, job) = job_of(fixture, "vars", &format!("?A={INJECTION}"))?;
    let value = &container(&job)["env"][1]["value"];
    same("it is one value", value, &json!(INJECTED))
}

fn no_code(fixture: &Fixture) -> Outcome {
    for app_type in ["python", "module", "include", "define"] {
        let path = format!("/app/{app_type}/{}", fixture.name("code"));
        let refused = fixture.ask("GET", &path, LONG_WAIT, "")?;
        let message = refused.error(422, "template_invalid")?;
        holds(message.contains("<%"), || message)?;
    }
    Ok(())
}

fn lifetimes(fixture: &Fixture) -> Outcome {
    let (name, job) = job_of(fixture, "timed", "")?;
    let deadline = &job["spec"]["activeDeadlineSeconds"];
    same("max-lifetime", deadline, &json!(7200))?;
    let ttl = &job["spec"]["ttlSecondsAfterFinished"];
    same("ttl-after-finished", ttl, &json!(300))?;
    soon("it is listed", || fixture.entry("timed", &name)).map(drop)
}
