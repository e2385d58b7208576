//! Base and chart on a real cluster: that Kubernetes takes them, and what an upgrade from 2.7.1's chart
//! keeps. What their pods do is shown by `in_cluster`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::RENDERS;
use super::tools::{CHART, Helm, Namespace, RESTRICTED, TIMEOUT};
use crate::cluster;
use crate::harness::{Client, TemporaryFolder, eventually};
use crate::in_cluster::{self, Site, image};

#[test]
#[ignore = "needs a cluster"]
fn the_api_server_accepts_all_manifests() {
    let cluster = cluster::shared();
    let _beside = cluster::beside_others();
    let namespace = Namespace::new(cluster, RESTRICTED);
    let apply = ["apply", "--dry-run=server", "--validate=strict"];
    for folder in [
        "manifests/base",
        "manifests/demo",
        "tests/it/manifests/deny-instances",
    ] {
        let output = namespace.kubectl(&[&apply[..], &["--kustomize", folder]].concat());
        assert!(
            output.contains("deployment.apps/config-controller"),
            "{output}"
        );
    }
    let quota = "--filename=manifests/quota/resource-quota.yaml";
    namespace.kubectl(&[&apply[..], &[quota]].concat());
    let (helm, folder) = (Helm::new(cluster), TemporaryFolder::new());
    for (golden, values) in RENDERS {
        let mut arguments = vec![
            format!("--namespace={}", namespace.name),
            format!("--set=jobNamespace={}", namespace.name),
        ];
        arguments.extend(values.map(|file| format!("--values=tests/it/manifests/{file}")));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let file = folder.write(golden, &helm.template("portal", &arguments));
        let file = format!("--filename={}", file.display());
        let output = namespace.kubectl(&[&apply[..], &[&file]].concat());
        assert!(output.contains("deployment.apps/"), "{golden}: {output}");
    }
}

/// A release, as it is on the cluster.
struct Release<'a> {
    namespace: &'a Namespace<'a>,
    jobs: &'a Namespace<'a>,
}

impl Release<'_> {
    /// The identity of each object of it that 2.7.1's chart has, too: kind and name, and UID.
    fn identities(&self) -> BTreeMap<String, String> {
        let label = "app.kubernetes.io/instance=portal";
        let mut all = self
            .namespace
            .list("deployments,services,serviceaccounts,secrets", label);
        all.extend(self.jobs.list("roles,rolebindings", label));
        let text = |value: &Value| value.as_str().expect("it is a string").to_owned();
        let identity = |object: &Value| {
            let metadata = &object["metadata"];
            let name = format!("{}/{}", text(&object["kind"]), text(&metadata["name"]));
            (name, text(&metadata["uid"]))
        };
        all.iter().map(identity).collect()
    }

    #[track_caller]
    fn get(&self, kind: &str) -> Value {
        let found = self
            .namespace
            .list(kind, "app.kubernetes.io/instance=portal");
        super::only(&found, found[0]["kind"].as_str().expect("it has a kind"))
    }

    /// The image of the pods that the Deployment has brought up.
    #[track_caller]
    fn image(&self) -> String {
        let deployment = self.get("deployments");
        let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
        image.as_str().expect("a container has an image").to_owned()
    }
}

/// The selector of a Deployment cannot be changed, and callers use the name and the address of the
/// Service. An upgrade must change neither, nor leave a second one beside it.
#[test]
#[ignore = "needs a cluster"]
fn an_upgrade_from_the_chart_of_2_7_1_keeps_existing_objects() {
    let site = Site::new(&[]);
    let jobs = Namespace::new(site.cluster, &[]);
    let (namespace, helm, place) = site.parts();
    let release = Release {
        namespace,
        jobs: &jobs,
    };
    let jobs_are_in = format!("--set=jobNamespace={}", jobs.name);
    let demo = "--set=image.repository=config-controller-demo,image.tag=1,image.pullPolicy=Never";
    let original = "tests/it/manifests/original-chart";
    let values = "--values=tests/it/manifests/original.values.yaml";
    let install = [
        "install",
        "portal",
        original,
        place,
        values,
        &jobs_are_in,
        demo,
    ];
    helm.run(&[&install[..], &["--wait", TIMEOUT]].concat());
    let (before, service) = (release.identities(), release.get("services"));
    assert_eq!(before.len(), 6, "{before:?}");

    let upgrade = ["upgrade", "portal", CHART, place];
    let output = helm.refuse(&[&upgrade[..], &["--reuse-values"]].concat());
    assert!(output.contains("--reset-then-reuse-values"), "{output}");

    let image = "--set=image.repository=config-controller,image.tag=null";
    let keep = ["--reset-then-reuse-values", image, "--wait", TIMEOUT];
    helm.run(&[&upgrade[..], &keep].concat());
    assert_eq!(release.identities(), before);
    let after = release.get("services");
    assert_eq!(after["spec"]["clusterIP"], service["spec"]["clusterIP"]);
    assert_eq!(after["spec"]["selector"], service["spec"]["selector"]);
    assert_eq!(release.get("deployments")["status"]["readyReplicas"], 2);
    assert_eq!(release.image(), image::name());
    let name = service["metadata"]["name"].as_str().expect("it has a name");
    let callers = Client::new(in_cluster::address(namespace, name));
    let ours = concat!("config-controller ", env!("CARGO_PKG_VERSION"));
    // The node learns a moment later that the old pod has left the Service.
    eventually("the Service leads to the new pods", || {
        let asked = callers.try_begin("GET", "/info", &[], "").ok()?;
        let response = asked.try_finish().ok()?;
        (response.status == 200 && response.expect(200)["rev"] == ours).then_some(())
    });

    helm.run(&["rollback", "portal", "1", place, "--wait", TIMEOUT]);
    assert_eq!(release.identities(), before);
    assert_eq!(release.image(), "config-controller-demo:1");
    assert_eq!(release.get("deployments")["status"]["readyReplicas"], 1);
}
