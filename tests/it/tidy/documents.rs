//! What is written beside the code says what the code says: the documents, and the Role in the manifests.

use std::collections::BTreeSet;
use std::time::Duration;

use config_controller::config::SETTINGS;
use serde_json::json;

use super::{check_none, granted};
use crate::fake_kube::dynamics::{pod_script::PodScript, pods::PodMove};
use crate::harness::{
    NAMESPACE, OPERATORS, PREFIX, ROLE, TEMPLATE, TestEnvironment, apply_templates, eventually,
    name_of,
};

#[test]
fn every_setting_is_documented() {
    let rows: Vec<Vec<&str>> = OPERATORS
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            line.trim_matches('|')
                .splitn(3, '|')
                .map(str::trim)
                .collect()
        })
        .collect();
    let mut offences = Vec::new();
    for setting in SETTINGS {
        let name = format!("`{}`", setting.name);
        let row = rows.iter().find(|row| row[0] == name);
        let default = match setting.default {
            "" => "–".to_owned(),
            default => format!("`{default}`"),
        };
        let expected = [name.as_str(), default.as_str(), setting.help];
        if row.is_none_or(|row| row[..] != expected) {
            offences.push(format!("| {} |", expected.join(" | ")));
        }
    }
    check_none("the table lacks these rows", &offences);
}

/// A missing verb fails the behaviour tests, which run under this Role. An unused verb fails here,
/// where the service makes every kind of call.
/// Starts an instance of a type with a cap, which is admitted.
fn start_capped(environment: &TestEnvironment) {
    let annotations = json!({format!("{PREFIX}max-instances"): "1"});
    let capped = [("capped", TEMPLATE)];
    apply_templates(&environment.kube, "capped", &capped, annotations);
    eventually("the type is on offer", || {
        environment
            .get("/app")
            .text
            .contains("capped")
            .then_some(())
    });
    environment.start_instance("/app/capped/ann");
}

#[test]
fn the_role_grants_exactly_the_used_permissions() {
    // Whose uses are reported in a Lease.
    let environment = TestEnvironment::builder().annotation("idle-timeout", "1h");
    let environment = environment.start();
    environment.start_instance("/app/hello/ann");
    environment
        .patch("/app/hello/ann", &json!({"k": "v"}))
        .expect(200);
    environment.delete("/app/hello/ann").expect(200);
    start_capped(&environment);
    // A name that is taken by another Job is read.
    let others = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "hello-taken"},
        "spec": {"template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "app", "image": "i"}],
        }}},
    });
    environment
        .kube
        .apply(NAMESPACE, &others)
        .expect("a Job is taken");
    environment
        .get("/app/hello/taken")
        .expect_error(409, "name_taken");
    // A pod that does not go is removed: its node is dead.
    environment.kube.set_pod_script(
        "hello-dead",
        PodScript {
            lingers: true,
            ..PodScript::default()
        },
    );
    environment.start_instance("/app/hello/dead");
    environment.delete("/app/hello/dead").expect(200);
    let pod = eventually("the deletion is seen", || {
        environment
            .kube
            .pod_of(NAMESPACE, "hello-dead")
            .filter(|pod| !pod["metadata"]["deletionTimestamp"].is_null())
    });
    environment
        .kube
        .move_pod(NAMESPACE, &name_of(&pod), &PodMove::LoseNode);
    eventually("the pod is force-deleted", || {
        environment.advance(Duration::from_secs(1));
        (environment.kube.count("delete", "pods") > 0).then_some(())
    });
    // Whether pods may be tried is found out by trying.
    let asked = || {
        let requests = environment.kube.requests().into_iter();
        requests.filter(|r| r.verb != "dry-run")
    };
    assert!(asked().all(|r| r.code != 403));
    environment.start_instance("/app/hello/ann");
    eventually("all that is granted is used", || {
        environment.advance(Duration::from_secs(2));
        let asked: BTreeSet<_> = asked().map(|it| (it.verb, it.resource)).collect();
        (asked == granted(ROLE)).then_some(())
    });
}
