//! A release of the chart from its check to its end, and manifests that are applied twice: what their
//! users see on a real cluster.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::text_of;
use super::tools::{CHART, Helm, Namespace, RESTRICTED, TIMEOUT, monitor_kinds};
use crate::cluster;
use crate::harness::{TemporaryFolder, eventually};
use crate::in_cluster::prometheus::Prometheus;
use crate::in_cluster::{self, Site};

/// Objects of a release, of all kinds that the chart knows in a namespace.
const KINDS: &str = "deployments,services,serviceaccounts,secrets,roles,rolebindings,jobs,pods,\
                     poddisruptionbudgets,networkpolicies,configmaps";

/// The pod of `helm test`.
const TESTER: &str = "portal-config-controller-test";

/// What is left of a release.
fn names(namespace: &Namespace<'_>) -> Vec<String> {
    let all = namespace.list(KINDS, "app.kubernetes.io/instance=portal");
    let name = |object: &Value| format!("{}/{}", object["kind"], object["metadata"]["name"]);
    all.iter().map(name).collect()
}

/// Helm's arguments for the release in that namespace.
fn arguments<'a>(verb: &'a str, place: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&[verb, "portal", CHART, place, "--wait", TIMEOUT], more].concat()
}

/// Runs the commands of the notes that end by themselves.
#[track_caller]
fn run_notes(namespace: &Namespace<'_>, notes: &str) {
    let (_, steps) = notes
        .split_once("What comes next:")
        .expect("notes have steps");
    let steps: Vec<&str> = steps
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .collect();
    let begins = |words: &str| steps.iter().find(|line| line.starts_with(words));
    let own = format!("--namespace {} ", namespace.name);
    let rollout = begins(&format!("kubectl {own}rollout status")).expect("how to wait");
    let words: Vec<&str> = rollout.split_whitespace().skip(3).collect();
    namespace.kubectl(&[&words[..], &[TIMEOUT]].concat());
    let forward = begins(&format!("kubectl {own}port-forward service/")).expect("how to reach it");
    let service = forward
        .split_whitespace()
        .nth(4)
        .expect("what is forwarded");
    namespace.kubectl(&["get", service]);
    assert!(
        begins(&format!("helm {own}test portal")).is_some(),
        "{notes}"
    );
    assert!(begins("curl ").is_some(), "{notes}");
}

/// `helm test` passes; where it does not, the log of its pod says why.
#[track_caller]
fn test(namespace: &Namespace<'_>, helm: &Helm, place: &str) {
    let output = helm.command(&["test", "portal", place]).output();
    let output = output.expect("helm can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let log = namespace.kubectl(&["logs", TESTER]);
        panic!("{text}{log}");
    }
    assert!(text.contains("Phase:          Succeeded"), "{text}");
}

/// `helm test` passes, and the service has started an instance and stopped it.
#[track_caller]
fn check_test(namespace: &Namespace<'_>, helm: &Helm, place: &str) {
    test(namespace, helm, place);
    let of_release = "--selector=app.kubernetes.io/instance=portal";
    let log = namespace.kubectl(&["logs", of_release, "--tail=-1"]);
    for part in [
        "helm-test/portal is ready after",
        "helm-test/portal is gone",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
}

#[test]
#[ignore = "needs a cluster"]
fn a_release_is_checked_tested_upgraded_and_leaves_nothing() {
    let site = Site::new(RESTRICTED);
    let (namespace, helm, place) = site.parts();
    let checked = ["--set=check.enabled=true"];
    let notes = helm.run(&arguments("install", place, &checked));
    run_notes(namespace, &notes);
    let installed = names(namespace);
    let beside: Vec<&String> = installed
        .iter()
        .filter(|name| name.contains("-check"))
        .collect();
    assert!(beside.is_empty(), "hooks are gone: {beside:?}");

    check_test(namespace, helm, place);
    eventually("nothing of the test is left", || {
        (names(namespace) == installed).then_some(())
    });

    // A template that cannot start: the upgrade stops before it changes anything, and says why.
    let generation = || {
        namespace.kubectl(&[
            "get",
            "deployment",
            "--output=jsonpath={.items[0].metadata.generation}",
        ])
    };
    let before = generation();
    let broken = "spec: {restartPolicy: Always, containers: [{name: a, image: b}]}";
    namespace.kubectl(&[
        "create",
        "configmap",
        "broken",
        &format!("--from-literal=broken.yaml={broken}"),
    ]);
    namespace.kubectl(&[
        "label",
        "configmap",
        "broken",
        "config-controller.semafor.ch/template=true",
    ]);
    let changed = [&checked[..], &["--set=settings.START_WAIT=11s"]].concat();
    let output = helm.refuse(&arguments("upgrade", place, &changed));
    assert!(output.contains("pre-upgrade hooks failed"), "{output}");
    assert_eq!(generation(), before);
    let account = format!("portal-config-controller-{}-check", namespace.name);
    let log = namespace.kubectl(&["logs", &format!("job/{account}")]);
    assert!(
        log.contains("restartPolicy") && log.contains("FAIL"),
        "{log}"
    );
    namespace.kubectl(&["delete", "configmap", "broken"]);
    helm.run(&arguments("upgrade", place, &changed));
    assert_ne!(generation(), before);
    helm.run(&["uninstall", "portal", place, "--wait"]);
    eventually("nothing is left", || {
        names(namespace).is_empty().then_some(())
    });
}

/// `helm test` where callers need a token: one of a file, and one of a service account.
#[test]
#[ignore = "needs a cluster"]
fn a_release_that_wants_tokens_is_tested_with_one() {
    let site = Site::new(RESTRICTED);
    let (namespace, helm, place) = site.parts();
    let token = "C9rXgD2pLiW7jFvB4tSxNqTy";
    for secret in ["callers", "tester"] {
        let key = if secret == "callers" {
            "tokens"
        } else {
            "token"
        };
        let literal = format!("--from-literal={key}={token}");
        namespace.kubectl(&["create", "secret", "generic", secret, &literal]);
    }
    let by_file = ["--set=auth.mode=token,auth.tokensSecret=callers,test.tokenSecret=tester"];
    helm.run(&arguments("install", place, &by_file));
    test(namespace, helm, place);
    let address = in_cluster::address(namespace, "portal-config-controller");
    let folder = TemporaryFolder::new();
    let config = scrape_example(&address.to_string(), &folder.write("token", token));
    Prometheus::run(&config, folder).await_up();

    namespace.kubectl(&["create", "serviceaccount", "caller"]);
    let allow = format!("auth.allow={{{}/caller}}", namespace.name);
    let by_account = format!("--set=auth.mode=kubernetes,{allow},test.serviceAccount=caller");
    helm.run(&arguments("upgrade", place, &[&by_account]));
    test(namespace, helm, place);

    // One that may not call: the test fails, and its pod's log says why.
    let none = format!(
        "--set=auth.mode=kubernetes,auth.allow={{{}/other}},test.serviceAccount=caller",
        namespace.name
    );
    helm.run(&arguments("upgrade", place, &[&none]));
    let rollout = ["rollout", "status", "deployment", TIMEOUT];
    namespace.kubectl(&rollout);
    eventually("no replica has the former settings", || {
        let pods = namespace.list("pods", "app.kubernetes.io/name=config-controller");
        let leaves = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_string();
        (!pods.iter().any(leaves)).then_some(())
    });
    let output = helm.refuse(&["test", "portal", place]);
    assert!(
        output.contains("portal-config-controller-test failed"),
        "{output}"
    );
    let log = namespace.kubectl(&["logs", TESTER]);
    assert!(log.contains("GET /app/helm-test/portal: 403"), "{log}");
    helm.run(&["uninstall", "portal", place, "--wait"]);
}

#[test]
#[ignore = "needs a cluster"]
fn what_is_applied_is_unchanged_and_without_a_difference() {
    let cluster = cluster::shared();
    let _beside = cluster::beside_others();
    let namespace = Namespace::new(cluster, &[]);
    let (helm, folder) = (Helm::new(cluster), TemporaryFolder::new());
    let place = format!("--namespace={}", namespace.name);
    let chart = folder.write(
        "chart.yaml",
        &helm.template("portal", &[&place, "--no-hooks"]),
    );
    let chart = format!("--filename={}", chart.display());
    for what in ["--kustomize=manifests/demo", &chart] {
        namespace.kubectl(&["apply", what]);
        let budgets = namespace.list("poddisruptionbudgets", "");
        let again = namespace.kubectl(&["apply", what]);
        let changed: Vec<&str> = again
            .lines()
            .filter(|line| !line.ends_with(" unchanged"))
            .collect();
        // Of a budget kubectl sends the selector each time, since Kubernetes declares the patch strategy
        // `replace` for it, and then says "configured", also where nothing is changed by it.
        let [budget] = changed.as_slice() else {
            panic!("{what}: {again}");
        };
        assert!(budget.starts_with("poddisruptionbudget.policy/"), "{again}");
        let after = namespace.list("poddisruptionbudgets", "");
        for (before, after) in budgets.iter().zip(&after) {
            for field in ["/metadata/uid", "/metadata/generation", "/spec"] {
                let value = before.pointer(field);
                assert!(value.is_some() && value == after.pointer(field), "{after}");
            }
        }
        // It fails where there is a difference.
        assert_eq!(namespace.kubectl(&["diff", what]), "", "{what}");
    }
}

/// The kinds of the Prometheus Operator, as it publishes them.
#[test]
#[ignore = "needs a cluster"]
fn the_prometheus_operators_kinds_accept_monitors_and_alerts() {
    let cluster = cluster::shared();
    let namespace = Namespace::new(cluster, &[]);
    for kind in ["podmonitors", "servicemonitors", "prometheusrules"] {
        let file = format!("{}/monitoring.coreos.com_{kind}.yaml", monitor_kinds());
        cluster.kubectl(&["apply", "--server-side", "--filename", &file]);
        let name = format!("customresourcedefinition/{kind}.monitoring.coreos.com");
        cluster.kubectl(&["wait", "--for=condition=Established", &name, TIMEOUT]);
    }
    let (helm, folder) = (Helm::new(cluster), TemporaryFolder::new());
    let place = format!("--namespace={}", namespace.name);
    let values = [
        "--values=tests/it/manifests/monitors.values.yaml",
        &place,
        "--no-hooks",
    ];
    let rendered = folder.write("monitors.yaml", &helm.template("portal", &values));
    let apply = [
        "apply",
        "--dry-run=server",
        "--validate=strict",
        "--filename",
    ];
    for (file, count) in [
        (rendered.display().to_string(), 2),
        ("manifests/monitoring/pod-monitor.yaml".to_owned(), 1),
        ("manifests/monitoring/prometheus-rule.yaml".to_owned(), 1),
    ] {
        let output = eventually("the API server knows the kinds", || {
            let done = namespace.try_kubectl(&[&apply[..], &[&file]].concat());
            (!done.contains("no matches for kind")).then_some(done)
        });
        let ours = output
            .lines()
            .filter(|line| line.contains("monitoring.coreos.com/"));
        assert_eq!(ours.count(), count, "{file}: {output}");
    }
    // It is strict: a field that it does not know is refused.
    let text =
        text_of("manifests/monitoring/pod-monitor.yaml").replace("path: /metrics", "pth: /metrics");
    let wrong = folder.write("wrong.yaml", &text).display().to_string();
    let output = namespace.try_kubectl(&[&apply[..], &[&wrong]].concat());
    assert!(output.contains("unknown field"), "{output}");
}

/// The example for a Prometheus without the operator, with that target and token. Debian's Prometheus
/// knows no Kubernetes, so how pods are found is left out.
fn scrape_example(target: &str, token: &Path) -> String {
    let example = text_of("manifests/monitoring/scrape.yaml");
    let found = "  kubernetes_sd_configs:\n";
    let (before, rest) = example.split_once(found).expect("how pods are found");
    let (_, after) = rest.split_once("names: [apps]\n").expect("where they are");
    let after = after.replace(
        "/etc/prometheus/config-controller/token",
        &token.display().to_string(),
    );
    // Nor does a target that is written down have the labels of a pod.
    let (after, relabelled) = after.split_once("  relabel_configs:\n").expect("labels");
    assert!(
        relabelled.contains("target_label: namespace"),
        "{relabelled}"
    );
    format!(
        "global: {{scrape_interval: 1s}}\n{before}  static_configs: [{{targets: [\"{target}\"]}}]\n{after}"
    )
}

/// Prometheus' own tool takes it.
#[test]
#[ignore = "needs a cluster"]
fn promtool_accepts_the_scrape_example() {
    let folder = TemporaryFolder::new();
    let token = folder.write("token", "x");
    let example = scrape_example("localhost:3333", &token);
    let file = folder.write("prometheus.yaml", &example);
    let mut promtool: Command = super::tools::promtool();
    cluster::output(promtool.args(["check", "config"]).arg(file));
}
