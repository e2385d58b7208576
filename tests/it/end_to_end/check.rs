//! `check` beside a real API server: the same results, and what only a cluster knows.

use std::process::Command;

use serde_json::Value;

use super::environment::{TestEnvironment, real};
use crate::check::mistakes::{cases, job};

/// The rows of `check` that are not `ok`, and whether it ended with 0.
fn check(environment: &TestEnvironment, arguments: &[&str]) -> (bool, Vec<String>) {
    let kubeconfig = environment.folder.join("of-an-administrator");
    let text = environment.cluster.kubeconfig_text();
    std::fs::write(&kubeconfig, text).expect("the folder is ours");
    let output = Command::new(env!("CARGO_BIN_EXE_config-controller"))
        .env_clear()
        .env("KUBECONFIG", kubeconfig)
        .args(["check", "--output=json"])
        .args(arguments)
        .output()
        .expect("the program can be run");
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON rows");
    let rows = rows.iter().filter(|row| row["result"] != "ok").map(|row| {
        let place = &row["place"];
        format!(
            "{} {} {}:{}",
            row["result"], row["text"], place["line"], place["column"]
        )
    });
    (output.status.success(), rows.collect())
}

#[test]
#[ignore = "needs a cluster"]
fn the_api_server_refuses_the_mistakes_that_are_found_without_it() {
    let environment = TestEnvironment::shared();
    let path = format!(
        "{}?dryRun=All&fieldValidation=Warn",
        environment.all("jobs")
    );
    for (template, is_valid) in cases() {
        let response = environment.api.post(&path, &job(&template));
        assert_eq!(
            response.code == 201,
            is_valid,
            "{template}: {}",
            response.body
        );
    }
}

#[test]
#[ignore = "needs a cluster"]
fn a_cluster_says_what_is_wrong_with_its_templates() {
    let environment = TestEnvironment::shared();
    let namespace = format!("--job-namespace={}", environment.namespace);
    assert_eq!(check(&environment, &[&namespace]), (true, vec![]));
    let good = real("x", 1, &[]);
    let always = good.replacen("restartPolicy: Never", "restartPolicy: Always", 1);
    let needs = format!(
        "{good}  imagePullSecrets: [{{name: pull}}]\n  volumes: [{{name: v, persistentVolumeClaim: {{claimName: data}}}}]\n"
    );
    environment.offer("always", "always", &always);
    environment.offer("needs", "needs", &needs);
    let (is_good, rows) = check(&environment, &[&namespace]);
    assert!(!is_good);
    assert_eq!(rows.len(), 3, "{rows:#?}");
    assert!(
        rows[0].contains("restartPolicy: Required value"),
        "{rows:#?}"
    );
    assert!(
        rows[1].contains("PersistentVolumeClaim data does not exist"),
        "{rows:#?}"
    );
    assert!(rows[2].contains("Secret pull does not exist"), "{rows:#?}");
    let (is_good, rows) = check(&environment, &["--job-namespace=nowhere-at-all"]);
    assert!(!is_good);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert!(rows[0].contains("it does not exist"), "{rows:#?}");
}
