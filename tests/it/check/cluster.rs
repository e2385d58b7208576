//! What `check` finds at a cluster: what its dry runs say, a namespace that does not exist, and objects that
//! templates need and that are not there.

use super::{check, with};
use crate::fake_kube::cluster::resource::Resource;
use crate::harness::{NAMESPACE, TEMPLATE, TestEnvironment};

#[test]
fn what_the_api_server_says_of_a_dry_run_is_reported_with_its_place() {
    let environment = TestEnvironment::builder()
        .template("always", &TEMPLATE.replace("Never", "Always"))
        .template(
            "misspelt",
            &TEMPLATE.replace("image:", "imagee: x\n    image:"),
        )
        .unstarted()
        .start();
    let (code, lines, _) = check(Some(&environment.kubeconfig()), &[]);
    assert_eq!(code, Some(1), "{lines:?}");
    let failed = with("FAIL", &lines);
    assert_eq!(failed.len(), 1, "{lines:?}");
    // As without a cluster.
    let expected = "FAIL template always of templates spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\" (key always.yaml, 2:3)";
    assert_eq!(failed, [expected]);
    let warned = with("warn", &lines);
    assert_eq!(warned.len(), 1, "{lines:?}");
    assert!(
        warned[0].contains("unknown field \"spec.containers[0].imagee\""),
        "{warned:?}"
    );
    assert!(warned[0].contains("key misspelt.yaml, "), "{warned:?}");
    // Nothing was stored.
    assert!(environment.kube.all(Resource::Jobs, NAMESPACE).is_empty());
}

#[test]
fn objects_that_do_not_exist_are_named() {
    let needs = format!(
        "{TEMPLATE}    envFrom: [{{configMapRef: {{name: absent}}}}, {{configMapRef: {{name: templates}}}}]\n  imagePullSecrets: [{{name: pull}}, {{name: other}}]\n"
    );
    let environment = TestEnvironment::builder().template("needs", &needs);
    let environment = environment.unstarted().start();
    let (code, lines, _) = check(Some(&environment.kubeconfig()), &[]);
    assert_eq!(code, Some(0), "{lines:?}");
    let warned = with("warn", &lines);
    assert_eq!(warned.len(), 2, "{lines:?}");
    assert!(
        warned[0].contains("ConfigMap absent does not exist"),
        "{warned:?}"
    );
    assert_eq!(
        warned[1],
        "warn secrets not looked for: the service account may not get them"
    );
}
