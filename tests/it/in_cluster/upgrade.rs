//! A release that is upgraded and rolled back while callers never pause: no request fails.

use super::Site;
use super::load;
use super::runner::Runner;
use crate::cluster::{Cluster, print_line};
use crate::harness::{Client, TemporaryFolder, eventually, example};
use crate::manifests::tools::{CHART, Namespace, TIMEOUT};

/// From so many addresses, since `sessionAffinity` keeps each with one replica.
const PODS: usize = 3;

/// Of the processor's time. What else keeps the machine busy is in no pod, and leaves those that ask for
/// little hardly any.
const SHARE: &str = "--set=resources.requests.cpu=250m";

/// A type whose pods are ready at once, on the stand-in node.
const TEMPLATES: &str = "
apiVersion: v1
kind: ConfigMap
metadata:
  name: load
  labels: {config-controller.semafor.ch/template: 'true'}
data:
  stand-in.yaml: |
    spec:
      nodeSelector: {kubernetes.io/hostname: stand-in-node}
      tolerations: [{key: kwok.x-k8s.io/node, operator: Exists}]
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: stand-in}
";

/// Waits until two replicas are there, and none that is going.
#[track_caller]
fn await_two_replicas(cluster: &Cluster, namespace: &Namespace<'_>) {
    let selector = "labelSelector=app.kubernetes.io/instance=portal";
    let path = format!("/api/v1/namespaces/{}/pods?{selector}", namespace.name);
    let api = cluster.api();
    eventually("the replicas of before are gone", || {
        let pods = api.get(&path).expect(200);
        (pods["items"].as_array()?.len() == 2).then_some(())
    });
}

#[test]
#[ignore = "needs a cluster"]
fn an_upgrade_and_its_roll_back_fail_no_request() {
    let (site, folder) = (Site::new(&[]), TemporaryFolder::new());
    let (namespace, helm, place) = site.parts();
    let templates = folder.write("templates.yaml", TEMPLATES);
    namespace.kubectl(&["apply", &format!("--filename={}", templates.display())]);
    helm.run(&["install", "portal", CHART, place, SHARE, "--wait", TIMEOUT]);
    let service = super::address(namespace, "portal-config-controller");
    Client::new(service).get(load::READY).expect(200);

    let runner = Runner::new(site.cluster);
    let host = format!("portal-config-controller.{}", namespace.name);
    runner.start(&example("load"), &[], PODS, &[(load::HOST, &host)]);
    eventually("all call", || {
        (runner.count_shared(load::CALLS) == PODS).then_some(())
    });
    let change = "--set=settings.LOG_FORMAT=json";
    helm.run(&[
        "upgrade", "portal", CHART, place, SHARE, change, "--wait", TIMEOUT,
    ]);
    await_two_replicas(site.cluster, namespace);
    helm.run(&["rollback", "portal", "1", place, "--wait", TIMEOUT]);
    await_two_replicas(site.cluster, namespace);
    runner.share(load::STOP, "");
    for log in runner.finish() {
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| line.starts_with("LOAD "))
            .collect();
        assert!(!lines.is_empty(), "{log}");
        print_line(&lines.join("\n"));
    }
}
