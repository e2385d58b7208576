//! `bench-cluster READY`: a fake API server in a process of its own, with READY instances that
//! are ready, for measurements and attacks.
//!
//! A process of its own, so that its cost is not counted as the service's. Types: `hello` (ready
//! immediately; the READY instances are `hello/i0`, `hello/i1`, …) and `never` (never becomes
//! ready). It prints the path of a kubeconfig once it is ready. Then it responds to lines of its
//! input: to `calls` with the number of requests so far, without watches. At the end of its input
//! it removes the kubeconfig and exits.

#[path = "../fake_kube/mod.rs"]
mod fake_kube;

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use fake_kube::FakeKube;
use fake_kube::cluster::resource::Resource;
use serde_json::{Value, json};

const NAMESPACE: &str = "default";

/// What the service may do, here as in a cluster.
const ROLE: &str = include_str!("../../manifests/base/role.yaml");

/// The app types, as a cluster would have them in a ConfigMap.
const APPS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata:
  name: apps
  labels: {config-controller.semafor.ch/template: "true"}
data:
  hello.yaml: |
    spec:
      restartPolicy: Never
      containers: [{name: hello, image: hello}]
  never.yaml: |
    metadata: {annotations: {fake-kube/never-ready: "true"}}
    spec:
      restartPolicy: Never
      containers: [{name: never, image: never}]
"#;

fn main() -> ExitCode {
    let ready = std::env::args().nth(1).and_then(|text| text.parse().ok());
    match ready.map(run) {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(message)) => {
            eprintln!("bench-cluster: {message}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("bench-cluster READY");
            ExitCode::from(2)
        }
    }
}

fn run(ready: usize) -> Result<(), String> {
    let fake = FakeKube::builder()
        .role(NAMESPACE, ROLE)
        .start()
        .map_err(|error| format!("cannot listen: {error}"))?;
    let applied = fake.apply_yaml(NAMESPACE, APPS);
    applied.map_err(|refusal| format!("the app types were refused: {refusal:?}"))?;
    fill(&fake, ready)?;
    let kubeconfig =
        std::env::temp_dir().join(format!("bench-cluster-{}.yaml", std::process::id()));
    std::fs::write(&kubeconfig, fake.kubeconfig(NAMESPACE))
        .map_err(|error| format!("cannot write {}: {error}", kubeconfig.display()))?;
    let served = serve(&fake, &kubeconfig);
    // Left over in the folder for temporary files at worst.
    let _ = std::fs::remove_file(&kubeconfig);
    served
}

/// Makes the instances, and lets the controllers make them ready.
fn fill(fake: &FakeKube, ready: usize) -> Result<(), String> {
    fake.set_auto(false);
    for number in 0..ready {
        let made = fake.apply(NAMESPACE, &job(number));
        made.map_err(|refusal| format!("an instance was refused: {refusal:?}"))?;
    }
    fake.settle();
    fake.set_auto(true);
    let is_ready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
    };
    let pods = fake.all(Resource::Pods, NAMESPACE);
    match pods.iter().filter(|pod| is_ready(pod)).count() {
        count if count == ready => Ok(()),
        count => Err(format!("{count} of {ready} instances became ready")),
    }
}

/// The Job of an instance, as the service makes it.
fn job(number: usize) -> Value {
    let name = format!("i{number}");
    let marks = json!({
        "config-controller.semafor.ch/instance-type": "hello",
        "config-controller.semafor.ch/instance-name": name,
    });
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": format!("hello-{name}"), "labels": marks, "annotations": marks},
        "spec": {
            "podReplacementPolicy": "Failed",
            "backoffLimit": 0,
            "template": {
                "metadata": {"labels": marks, "annotations": marks},
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{"name": "hello", "image": "hello"}],
                },
            },
        },
    })
}

/// Responds to lines until the end of the input.
fn serve(fake: &FakeKube, kubeconfig: &Path) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    let mut write_line = |line: String| {
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .map_err(|error| format!("the output is closed: {error}"))
    };
    write_line(kubeconfig.display().to_string())?;
    for line in std::io::stdin().lock().lines() {
        match line {
            Ok(line) if line == "calls" => {
                let calls = fake.count("*", "*") - fake.count("watch", "*");
                write_line(calls.to_string())?;
            }
            Ok(_) => write_line("?".to_owned())?,
            Err(_) => break,
        }
    }
    Ok(())
}
