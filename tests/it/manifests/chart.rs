//! What helm makes of the chart: the goldens, no complaint, and a clear error for invalid values.

use std::collections::BTreeMap;

use config_controller::config::{self, SETTINGS};
use serde_json::json;

use super::tools::{CHART, Helm, Kubeconform};
use super::{MONITORS, NOT_IN_SETTINGS, RENDERS, text_of};

use crate::cluster;
use crate::harness::TemporaryFolder;
use crate::tidy::check_golden;

/// The argument that gives helm a file of this folder.
fn values(file: Option<&str>) -> Vec<String> {
    let argument = |file: &str| format!("--values=tests/it/manifests/{file}");
    file.map(argument).into_iter().collect()
}

#[track_caller]
fn template(helm: &Helm, file: Option<&str>) -> String {
    let values = values(file);
    helm.template(
        "portal",
        &values.iter().map(String::as_str).collect::<Vec<_>>(),
    )
}

#[test]
#[ignore = "needs a cluster"]
fn it_renders_the_golden_files() {
    let cluster = cluster::shared();
    let helm = Helm::new(cluster);
    for (golden, file) in RENDERS.iter().chain([&MONITORS]) {
        check_golden(golden, &template(&helm, *file));
    }
}

#[test]
#[ignore = "needs a cluster"]
fn helm_lint_passes() {
    let cluster = cluster::shared();
    let helm = Helm::new(cluster);
    for (_, file) in RENDERS.iter().chain([&MONITORS]) {
        let values = values(*file);
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        helm.run(&[&["lint", "--strict", CHART], values.as_slice()].concat());
    }
}

#[test]
#[ignore = "needs a cluster"]
fn kubeconform_accepts_base_and_chart_and_rejects_a_misspelling() {
    let cluster = cluster::shared();
    let kubeconform = Kubeconform::new(cluster);
    let helm = Helm::new(cluster);
    let mut all: Vec<String> = [
        "manifests/base",
        "manifests/demo",
        "manifests/auth-delegator",
        "tests/it/manifests/deny-instances",
    ]
    .iter()
    .map(|folder| cluster.kubectl(&["kustomize", folder]))
    .collect();
    all.push(text_of("manifests/quota/resource-quota.yaml"));
    for component in ["dry-run-pods", "read-logs"] {
        all.push(text_of(&format!("manifests/{component}/role.yaml")));
        all.push(text_of(&format!("manifests/{component}/role-binding.yaml")));
    }
    all.extend(RENDERS.iter().map(|(_, file)| template(&helm, *file)));
    for yaml in &all {
        let (taken, output) = kubeconform.judge(yaml);
        assert!(taken && output.contains("Skipped: 0"), "{output}");
        let count = yaml
            .lines()
            .filter(|line| line.starts_with("kind: "))
            .count();
        assert!(
            output.contains(&format!("Valid: {count},")),
            "{count}: {output}"
        );
    }
    for (right, wrong) in [
        ("replicas: 2", "replicas: two"),
        ("readOnlyRootFilesystem:", "readOnlyRootFileSystem:"),
        ("sessionAffinity:", "sessionAffinty:"),
    ] {
        assert!(all[0].contains(right), "the base has {right}");
        let (taken, output) = kubeconform.judge(&all[0].replace(right, wrong));
        assert!(!taken, "{wrong} is taken: {output}");
    }
}

#[test]
#[ignore = "needs a cluster"]
fn invalid_values_are_rejected_by_name() {
    let cluster = cluster::shared();
    let helm = Helm::new(cluster);
    for (values, word) in [
        ("settings.START_WIAT=20s", "START_WIAT"),
        ("replica=3", "replica"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        (
            "imageCredentials.registry=registry.example",
            "'username', 'password'",
        ),
        ("auth.mode=token", "auth.tokensSecret"),
        ("auth.mode=kubernetes", "auth.allow"),
        ("auth.mode=open", "/auth/mode"),
        ("auth.tokensSecret=callers", "auth.mode is none"),
        ("auth.allow={apps/portal}", "auth.mode is none"),
        ("dryRunPods=please", "/dryRunPods"),
        ("readLogs=please", "/readLogs"),
        ("auth.allow={portal}", "/auth/allow/0"),
        ("otel.enabled=true", "otel.endpoint"),
        ("settings.START_WAIT=abc", "/settings/START_WAIT"),
        ("settings.WORKERS=many", "/settings/WORKERS"),
        (
            "settings.INSTANCE_MAX_LIFETIME=721h",
            "/settings/INSTANCE_MAX_LIFETIME",
        ),
        (
            "settings.INSTANCE_IDLE_TIMEOUT=2592001",
            "/settings/INSTANCE_IDLE_TIMEOUT",
        ),
        (
            "podLabels.app\\.kubernetes\\.io/name=x",
            "app.kubernetes.io/name",
        ),
        ("extraVolumes[0].name=tls", "/extraVolumes/0/name"),
        ("extraVolumeMounts[0].name=ca", "mountPath"),
        ("imagePullSecrets[0]=login", "/imagePullSecrets/0"),
        ("check=true", "/check"),
        (
            "monitoring.podMonitor.interval=often",
            "/monitoring/podMonitor/interval",
        ),
        (
            "auth.mode=token,auth.tokensSecret=x,monitoring.podMonitor.enabled=true",
            "monitoring.tokenSecret",
        ),
    ] {
        let output = helm.refuse_template(&["--set", values]);
        assert!(output.contains(word), "{values}: {output}");
    }
}

/// The settings that take nothing but a number, a duration or certain words.
fn strict_settings() -> Vec<&'static str> {
    let endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let is_strict = |name: &str| {
        let set = [(name, "abc"), (endpoint, "http://collector:4318")];
        let set = set.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let problems = config::parse([], &set.into()).err().unwrap_or_default();
        problems
            .iter()
            .any(|one| one.to_string().starts_with(&format!("{name} is 'abc'")))
    };
    let names = SETTINGS.iter().map(|setting| setting.name);
    names
        .filter(|name| !NOT_IN_SETTINGS.contains(name) && *name != "LISTEN" && is_strict(name))
        .collect()
}

/// What the program would refuse at its start, the schema refuses before anything is deployed.
#[test]
#[ignore = "needs a cluster"]
fn the_schema_knows_the_form_of_each_setting() {
    let cluster = cluster::shared();
    let (helm, folder) = (Helm::new(cluster), TemporaryFolder::new());
    let file = |name: &str, settings: &BTreeMap<&str, &str>| {
        let file = folder.write(name, &json!({"settings": settings}).to_string());
        format!("--values={}", file.display())
    };
    let strict = strict_settings();
    assert!(strict.len() > 38, "{strict:?}");
    let wrong = strict.iter().map(|name| (*name, "abc")).collect();
    let output = helm.refuse_template(&[&file("wrong.json", &wrong)]);
    for name in &strict {
        assert!(
            output.contains(&format!("/settings/{name}'")),
            "{name}: {output}"
        );
    }
    let all = SETTINGS
        .iter()
        .filter(|setting| !NOT_IN_SETTINGS.contains(&setting.name));
    let defaults: BTreeMap<&str, &str> = all.map(|one| (one.name, one.default)).collect();
    helm.template("portal", &[&file("right.json", &defaults)]);
    for values in [
        "START_WAIT=20,WORKERS=4",
        "START_WAIT=500ms,OTEL_SDK_DISABLED=true",
        "LOG_LEVEL=WARNING",
        "INSTANCE_IDLE_TIMEOUT=720h,INSTANCE_MAX_LIFETIME=699h,INSTANCE_TTL_AFTER_FINISHED=2592000",
    ] {
        let values = values.replace(',', ",settings.");
        helm.template("portal", &["--set", &format!("settings.{values}")]);
    }
    let share = helm.template(
        "portal",
        &["--set-json=settings.OTEL_TRACES_SAMPLER_ARG=0.25"],
    );
    assert!(share.contains("value: \"0.25\""), "{share}");
}

/// The rule of 2.7.1's chart, by which an upgrade finds what is there.
#[test]
#[ignore = "needs a cluster"]
fn a_release_named_like_the_chart_does_not_repeat_the_name() {
    let cluster = cluster::shared();
    let helm = Helm::new(cluster);
    let long = "n".repeat(70);
    for (release, name, expected) in [
        ("config-controller", "", "config-controller".to_owned()),
        ("apps", "", "apps-config-controller".to_owned()),
        ("apps", "starter", "apps-starter".to_owned()),
        ("starter", "starter", "starter".to_owned()),
        ("apps", &long, format!("apps-{}", "n".repeat(58))),
    ] {
        let name = format!("nameOverride={name}");
        let rendered = helm.template(release, &["--set", &name]);
        let deployment = super::only(&super::objects(&rendered), "Deployment");
        assert_eq!(
            deployment["metadata"]["name"], expected,
            "{release}, {name}"
        );
    }
}
