//! What `check` finds at a cluster: what its dry runs say, a namespace that does not exist, and objects that
//! templates need and that are not there.

use config_controller::store::TEMPLATES_BYTES_MAX;
use serde_json::json;

use super::{check, with};
use crate::fake_kube::cluster::resource::Resource;
use crate::harness::{NAMESPACE, TEMPLATE, TestEnvironment, apply_templates};

#[test]
fn what_the_api_server_says_of_a_dry_run_is_reported_with_its_place() {
    let environment = TestEnvironment::builder()
        .template("always", &TEMPLATE.replace("Never", "Always"))
        .template(
            "misspelt",
            &TEMPLATE.replace("image:", "imagepulpolicy: x\n    image:"),
        )
        .template(
            "port",
            &TEMPLATE.replace("image:", "ports: [{containerPort: \"80\"}]\n    image:"),
        )
        .unstarted()
        .start();
    let (code, lines, _) = check(Some(&environment.kubeconfig()), &[]);
    assert_eq!(code, Some(1), "{lines:?}");
    let failed = with("FAIL", &lines);
    // As without a cluster.
    let expected = "FAIL template always of templates spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\" (key always.yaml, 2:3)";
    let port = "FAIL template port of templates spec.containers[0].ports[0].containerPort: wrong type: the string \"80\"; expected a whole number of at most 32 bits; remove the quotes (key port.yaml, ";
    assert_eq!((failed.len(), failed[0].as_str()), (2, expected));
    assert!(failed[1].starts_with(port), "{failed:?}");
    let warned = with("warn", &lines);
    assert_eq!(warned.len(), 1, "{lines:?}");
    assert!(
        warned[0].contains(
            "unknown field \"spec.containers[0].imagepulpolicy\"; did you mean imagePullPolicy?"
        ),
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

#[test]
fn config_maps_that_the_service_leaves_out_are_a_fault() {
    let environment = TestEnvironment::builder().unstarted().start();
    // Each has more than a third of what is kept.
    let large = format!("{TEMPLATE}# {}\n", "x".repeat(TEMPLATES_BYTES_MAX / 3));
    for name in ["a", "b", "c"] {
        apply_templates(&environment.kube, name, &[(name, &large)], json!({}));
    }
    let (code, lines, _) = check(Some(&environment.kubeconfig()), &[]);
    let failed = with("FAIL", &lines);
    assert_eq!((code, failed.len()), (Some(1), 3), "{failed:?}");
    let text =
        "FAIL the templates 2 ConfigMaps with templates, from \"c\" on by name, are left out";
    assert!(failed[0].starts_with(text), "{failed:?}");
}

#[test]
fn a_config_map_that_cannot_be_decoded_is_a_fault() {
    let environment = TestEnvironment::builder().unstarted().start();
    let map = environment
        .kube
        .get(Resource::ConfigMaps, NAMESPACE, "templates");
    let mut map = map.expect("it is there").as_ref().clone();
    map["metadata"]["name"] = json!("odd");
    map["data"] = json!({"odd.yaml": 5});
    let key = (Resource::ConfigMaps, NAMESPACE.to_owned(), "odd".to_owned());
    environment.kube.with(|model| model.cluster.put(key, map));
    for arguments in [&[][..], &["--render=hello"]] {
        let (code, lines, _) = check(Some(&environment.kubeconfig()), arguments);
        let failed = with("FAIL", &lines);
        assert_eq!((code, failed.len()), (Some(1), 1), "{lines:?}");
        let text = "FAIL ConfigMap odd it cannot be read: ";
        assert!(failed[0].starts_with(text), "{failed:?}");
    }
}
