//! `config-controller check`: its table and its exit code, for Roles that lack something and for
//! templates that are broken, in the cluster and in files.

mod cluster;
mod folders;
pub(crate) mod mistakes;
mod offline;
mod output;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use config_controller::check::{FILE_BYTES_MAX, OWN_RIGHTS, RIGHTS};
use serde_json::json;

use crate::harness::{
    NAMESPACE, ROLE, TEMPLATE, TemporaryFolder, TestEnvironment, apply_templates,
};
use crate::tidy::granted;
use crate::watch::ROLE_OF_THE_ORIGINAL;

/// Runs `check` with these arguments; returns its exit code, its table and its complaints.
fn check(kubeconfig: Option<&Path>, arguments: &[&str]) -> (Option<i32>, Vec<String>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_config-controller"));
    command.env_clear().stdin(Stdio::null());
    if let Some(kubeconfig) = kubeconfig {
        command.env("KUBECONFIG", kubeconfig);
    }
    let output = command.arg("check").args(arguments).output();
    let output = output.expect("the program can be run");
    let table = String::from_utf8(output.stdout).expect("a table is text");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines = table.lines().map(str::to_owned).collect();
    (output.status.code(), lines, stderr)
}

/// The lines that begin with that word, with single blanks.
fn with(word: &str, lines: &[String]) -> Vec<String> {
    let lines = lines.iter().filter(|line| line.starts_with(word));
    lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn the_checked_permissions_are_those_of_our_role() {
    let all = || RIGHTS.iter().chain(OWN_RIGHTS);
    let checked: BTreeSet<(String, String)> = all()
        .map(|(verb, _, resource, _)| (verb.as_str().to_owned(), (*resource).to_owned()))
        .collect();
    assert_eq!(checked, granted(ROLE));
    assert_eq!(checked.len(), all().count());
}

#[test]
fn under_our_role_all_checks_pass_and_nothing_is_changed() {
    let needs = TEMPLATE.replace("app:1", "app:${alternatives['tag']}");
    let environment = TestEnvironment::builder().template("needs", &needs);
    let environment = environment.unstarted().start();
    let (code, lines, stderr) = check(Some(&environment.kubeconfig()), &[]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{lines:?}");
    // The namespace, rights, that logs are not read, templates, and that pods are not tried.
    let rights = RIGHTS.len() + OWN_RIGHTS.len();
    assert_eq!(lines.len(), 1 + rights + 4, "{lines:?}");
    let off = "ok get pods/log not granted: GET …/logs is 501; manifests/read-logs (chart: readLogs) grants it";
    assert_eq!(with("ok get pods/log", &with("ok", &lines)), [off]);
    assert_eq!(with("ok", &lines).len(), lines.len(), "{lines:?}");
    assert!(lines[0].contains("namespace default"), "{lines:?}");
    let found = with("ok template", &with("ok", &lines));
    let expected = [
        "ok template hello of templates",
        "ok template needs of templates requires tag",
    ];
    assert_eq!(found, expected);
    let asked: BTreeSet<(String, String)> = environment
        .kube
        .requests()
        .into_iter()
        .map(|request| (request.verb, request.resource))
        .collect();
    let asked: Vec<String> = asked.iter().map(|(v, r)| format!("{v} {r}")).collect();
    assert_eq!(
        asked,
        [
            "create selfsubjectaccessreviews",
            "dry-run jobs",
            "dry-run pods",
            "list configmaps"
        ]
    );
}

#[test]
fn under_the_role_of_2_7_1_checks_report_warnings() {
    let environment = TestEnvironment::builder()
        .role(ROLE_OF_THE_ORIGINAL)
        .unstarted()
        .start();
    let (code, lines, stderr) = check(Some(&environment.kubeconfig()), &[]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{lines:?}");
    let warned: Vec<String> = with("warn", &lines);
    let what: Vec<&str> = warned
        .iter()
        .map(|line| line.split(" missing").next().expect("a first part"))
        .collect();
    assert_eq!(
        what,
        [
            "warn watch jobs.batch",
            "warn watch configmaps",
            "warn list events",
            "warn watch events",
            "warn create leases.coordination.k8s.io",
            "warn list leases.coordination.k8s.io",
            "warn patch leases.coordination.k8s.io",
            "warn watch leases.coordination.k8s.io"
        ]
    );
    let idle = "missing: instances that nobody uses are not stopped (idle-timeout)";
    assert!(warned[6].ends_with(idle), "{warned:?}");
}

/// Without caps it is not needed.
#[test]
fn the_right_to_patch_jobs_is_missed_where_there_is_a_cap() {
    for (annotation, argument, expected) in [
        (("max-lifetime", "1h"), "--workers=2", 0),
        (("max-lifetime", "1h"), "--max-instances=5", 1),
        (("max-instances", "2"), "--workers=2", 1),
        (("max-per-owner", "2"), "--workers=2", 1),
    ] {
        let environment = TestEnvironment::builder().role(ROLE_OF_THE_ORIGINAL);
        let environment = environment.annotation(annotation.0, annotation.1);
        let environment = environment.unstarted().start();
        let (code, lines, _) = check(Some(&environment.kubeconfig()), &[argument]);
        assert_eq!(code, Some(0), "{lines:?}");
        let warned = with("warn caps patch jobs.batch missing", &with("warn", &lines));
        assert_eq!(
            warned.len(),
            expected,
            "{annotation:?} {argument}: {lines:?}"
        );
    }
}

/// The Role of the fake counts in the namespace of the replica alone.
#[test]
fn leases_are_in_the_namespace_of_the_replica() {
    let environment = TestEnvironment::builder().unstarted().start();
    let elsewhere = ["--job-namespace=elsewhere"];
    let (code, lines, _) = check(Some(&environment.kubeconfig()), &elsewhere);
    assert_eq!(code, Some(1), "{lines:?}");
    let granted = with("ok", &lines);
    let granted: Vec<&str> = granted.iter().map(|line| line.trim_end()).collect();
    for (verb, _, _, _) in OWN_RIGHTS {
        let line = format!("ok {} leases.coordination.k8s.io", verb.as_str());
        assert!(granted.contains(&line.as_str()), "{granted:?}");
    }
    assert!(!granted.contains(&"ok list jobs.batch"), "{granted:?}");
}

#[test]
fn each_missing_permission_is_reported() {
    let all = "[create, delete, get, list, patch, watch]";
    for right in ["create", "delete", "list"] {
        let environment =
            TestEnvironment::builder().role(&ROLE.replace(all, &all.replace(right, "update")));
        let environment = environment.unstarted().start();
        let (code, lines, _) = check(Some(&environment.kubeconfig()), &[]);
        assert_eq!(code, Some(1), "{lines:?}");
        let missing = format!("FAIL {right} jobs.batch missing: grant it to the service account");
        assert_eq!(with("FAIL", &lines), [missing]);
    }
}

#[test]
fn auth_kubernetes_needs_a_permission_beyond_the_role() {
    let environment = TestEnvironment::builder().unstarted().start();
    let arguments = ["--auth=kubernetes", "--auth-allow=apps/portal"];
    let (code, lines, _) = check(Some(&environment.kubeconfig()), &arguments);
    assert_eq!(code, Some(1), "{lines:?}");
    let expected =
        "FAIL create tokenreviews.authentication.k8s.io missing: apply manifests/auth-delegator";
    assert_eq!(with("FAIL", &lines), [expected]);
    environment.kube.set_may_review(true);
    assert_eq!(
        check(Some(&environment.kubeconfig()), &arguments).0,
        Some(0)
    );
}

#[test]
fn a_broken_template_fails_and_a_second_offer_is_a_warning() {
    let environment = TestEnvironment::builder()
        .template("broken", "spec: [")
        .unstarted()
        .start();
    apply_templates(&environment.kube, "zz", &[("hello", TEMPLATE)], json!({}));
    let (code, lines, _) = check(Some(&environment.kubeconfig()), &[]);
    assert_eq!(code, Some(1), "{lines:?}");
    let failed = with("FAIL", &lines);
    assert_eq!(failed.len(), 1, "{lines:?}");
    let begin = "FAIL template broken of templates templates/broken.yaml, line ";
    assert!(failed[0].starts_with(begin), "{failed:?}");
    let doubled =
        "warn template hello of zz not used: ConfigMap templates already defines this type";
    assert_eq!(with("warn", &lines), [doubled]);
}

#[test]
fn an_unreachable_api_server_is_reported_in_one_line() {
    let environment = TestEnvironment::builder().unstarted().start();
    let folder = TemporaryFolder::new();
    let kubeconfig = std::fs::read_to_string(environment.kubeconfig()).expect("a kubeconfig");
    let away = kubeconfig.replace(&environment.kube.url(), "http://127.0.0.1:1");
    let (code, lines, _) = check(Some(&folder.write("away", &away)), &[]);
    assert_eq!(code, Some(1), "{lines:?}");
    assert_eq!(with("FAIL", &lines).len(), 1, "{lines:?}");
    assert!(lines[1].contains("the API server"), "{lines:?}");
}

#[test]
fn invalid_settings_exit_with_code_2() {
    let (code, lines, stderr) = check(None, &["--start-wait=soon"]);
    assert_eq!((code, lines.len()), (Some(2), 0));
    assert!(stderr.contains("START_WAIT"), "{stderr}");
}

#[test]
fn files_are_checked_without_a_cluster() {
    let folder = TemporaryFolder::new();
    let write = |name: &str, text: &str| folder.write(name, text).display().to_string();
    let bare = write("bare.yaml", TEMPLATE);
    let control = write(
        "control.yaml",
        "% if alternatives['big'] == '1':\nspec: {containers: [{name: a, image: b}]}\n% else:\nspec: {containers: [{name: a, image: c}]}\n% endif\n",
    );
    let manifest = write(
        "manifest.yaml",
        "kind: Secret\n---\nkind: ConfigMap\nmetadata: {name: apps}\ndata:\n  one.yaml: 'spec: {restartPolicy: Never, containers: [{name: a, image: b}]}'\n  two.yaml: 'spec: ['\n  notes.txt: 'spec: ['\n",
    );
    let other = write("other.yaml", "kind: Secret\n");
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/demo/apps.yaml");
    let (code, lines, stderr) = check(None, &[&bare, &control, demo]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{lines:?}");
    let good = with("ok", &lines);
    assert_eq!(good.len(), 5, "{lines:?}");
    assert!(good[1].ends_with("control.yaml requires big"), "{good:?}");
    assert_eq!(good[3], "ok template hello of demo-apps");
    let missing = folder.path("none.yaml").display().to_string();
    let (code, lines, _) = check(None, &[&manifest, &other, &missing]);
    assert_eq!(code, Some(1), "{lines:?}");
    assert_eq!(with("ok", &lines), ["ok template one of apps"]);
    let failed = with("FAIL", &lines);
    assert_eq!(failed.len(), 3, "{lines:?}");
    assert!(
        failed[1].ends_with("it contains no ConfigMap"),
        "{failed:?}"
    );
    assert!(failed[2].contains("cannot be read"), "{failed:?}");
    assert!(
        failed[0].starts_with("FAIL template two of apps apps/two.yaml, line 1"),
        "{failed:?}"
    );
}

#[test]
fn a_file_is_read_up_to_its_bound() {
    let folder = TemporaryFolder::new();
    let most = usize::try_from(FILE_BYTES_MAX).expect("a few MiB");
    let rest = "# \n".len();
    let remark = |bytes: usize| format!("#{}\n", "x".repeat(bytes - rest + 1));
    for (bytes, refused) in [(most, false), (most + 1, true)] {
        let file = folder.write("large.yaml", &remark(bytes));
        assert_eq!(
            std::fs::metadata(&file).expect("it is there").len(),
            bytes as u64
        );
        let (_, lines, _) = check(None, &[&file.display().to_string()]);
        assert_eq!(lines[0].contains("it is larger than"), refused, "{lines:?}");
    }
}

/// What the namespace of a test is called, in the table's first line.
#[test]
fn the_namespace_can_be_named() {
    let environment = TestEnvironment::builder().unstarted().start();
    let (code, lines, _) = check(
        Some(&environment.kubeconfig()),
        &["--job-namespace=elsewhere"],
    );
    assert_ne!(NAMESPACE, "elsewhere");
    assert!(lines[0].contains("namespace elsewhere"), "{lines:?}");
    // Our Role is one of the other namespace.
    assert_eq!(code, Some(1), "{lines:?}");
}

#[test]
fn what_an_author_should_know_of_a_template_is_a_warning() {
    let folder = TemporaryFolder::new();
    let path = folder.path("apps.yaml");
    let bare = TEMPLATE
        .lines()
        .filter(|line| !line.contains("readinessProbe"));
    let bare: String = bare.map(|line| format!("    {line}\n")).collect();
    let manifest = |annotations: &str| {
        format!(
            "kind: ConfigMap\nmetadata:\n  name: apps\n  annotations: {{{annotations}}}\ndata:\n  bare.yaml: |\n{bare}"
        )
    };
    let warnings = |annotations: &str| {
        std::fs::write(&path, manifest(annotations)).expect("the file can be written");
        let (code, lines, _) = check(None, &[&path.display().to_string()]);
        assert_eq!(code, Some(0), "{lines:?}");
        with("warn", &lines)
    };
    let found = warnings("");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("no container has a readinessProbe"),
        "{found:?}"
    );
    let key = "config-controller.semafor.ch";
    let found = warnings(&format!(
        "{key}/min-ready: 3s, {key}/ttl-after-finished: 1s"
    ));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("ttl-after-finished (1s) is shorter than restart-delay (10s)"),
        "{found:?}"
    );
}
