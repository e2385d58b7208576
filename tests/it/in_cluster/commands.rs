//! The README's commands for a cluster, word for word: from the images to a response, and back to nothing.
//!
//! `kind` is the only program that is not the real one: a script in its place loads an image into the node of
//! the tests' cluster. What the commands bring up is checked by the tests beside this one.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::cluster::{self, Cluster, output};
use crate::harness::{Client, TemporaryFolder, eventually, repository};
use crate::manifests::tools::{Namespace, TIMEOUT, programs};
use crate::readme::{read, section};

/// The Jobs and pods of instances.
const INSTANCES: &str = "config-controller.semafor.ch/instance-type";

/// A shell in the root of the repository, for that cluster.
struct Shell<'a> {
    cluster: &'a Cluster,
    folder: TemporaryFolder,
}

impl<'a> Shell<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let folder = TemporaryFolder::new();
        let import = repository().join("tests/cluster/import");
        let kind = format!(
            "#!/bin/sh\ntest \"$1 $2\" = 'load image-archive' && exec '{}' \"$3\" '{}'\n",
            import.display(),
            cluster.folder().display()
        );
        let kind = folder.write("kind", &kind);
        let runs = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(kind, runs).expect("it is a file of ours");
        Self { cluster, folder }
    }

    /// Runs these lines, the next one only if one succeeds, and returns what they print. What they leave
    /// running is ended.
    #[track_caller]
    fn run(&self, lines: &str) -> String {
        let kubernetes = self.cluster.fact("CLUSTER_PROGRAMS").unwrap_or_default();
        let path = std::env::var("PATH").unwrap_or_default();
        let own = self.folder.path("").display().to_string();
        let mut bash = Command::new("bash");
        bash.current_dir(repository())
            .env("PATH", format!("{own}:{kubernetes}:{}:{path}", programs()))
            .env("KUBECONFIG", &self.cluster.kubeconfig)
            // Where images are built is part of the second line.
            .env_remove("CARGO_TARGET_DIR");
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            bash.env(name, self.folder.path(name));
        }
        // All that they started is in the shell's process group.
        let end = "trap 'trap \"\" TERM; kill 0' EXIT";
        output(
            bash.process_group(0)
                .args(["-ec", &format!("{end}\n{lines}")]),
        )
    }
}

/// Checks that the instance runs without the service, and that this line removes it.
#[track_caller]
fn check_removal(namespace: &Namespace<'_>, shell: &Shell<'_>, line: &str) {
    let services = namespace.list("services,deployments", "");
    assert!(services.is_empty(), "{services:?}");
    let jobs = namespace.list("jobs", INSTANCES);
    let is_active = |job: &serde_json::Value| job["status"]["active"] == 1;
    assert!(jobs.len() == 1 && is_active(&jobs[0]), "{jobs:?}");
    shell.run(line);
    eventually("no instance is left", || {
        let left = namespace.list("jobs,pods", INSTANCES);
        left.is_empty().then_some(())
    });
}

#[test]
#[ignore = "needs a cluster"]
fn the_readmes_commands_bring_it_up_and_remove_it() {
    let cluster = cluster::shared();
    // They replace our image on the node, and want the port 3333 of this machine.
    let _alone = cluster::alone();
    cluster.kubectl(&["delete", "namespace", "apps", "--ignore-not-found"]);
    let namespace = Namespace::named(cluster, "apps");
    let shell = Shell::new(cluster);
    let commands = section(&read("README.md"), "## On a cluster");
    let blocks: Vec<&str> = commands
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    let [set_up, removal] = blocks[..] else {
        panic!("other commands than this test knows: {blocks:?}");
    };
    assert_eq!(set_up.lines().count(), 5);
    let response = shell.run(set_up);
    let response = response.lines().last().unwrap_or_default();
    assert!(response.starts_with(r#"{"ip":"10."#), "{response}");

    let (by_kustomize, removal) = removal.split_once('\n').expect("two lines");
    shell.run(by_kustomize);
    check_removal(&namespace, &shell, removal);

    let with_helm: Vec<&str> = commands
        .split(['`', '\n'])
        .filter(|part| part.trim_start().starts_with("helm "))
        .collect();
    let [install, uninstall] = with_helm[..] else {
        panic!("other lines with Helm than this test knows: {with_helm:?}");
    };
    shell.run(install);
    namespace.kubectl(&["apply", "--filename=manifests/demo/apps.yaml"]);
    namespace.kubectl(&["rollout", "status", "deployment/config-controller", TIMEOUT]);
    let client = Client::new(super::address(&namespace, "config-controller"));
    let patient = [("Prefer", "wait=60")];
    let found = eventually("the type is known", || {
        let found = client.begin("GET", "/app/hello/ann", &patient, "").finish();
        (found.status != 404).then_some(found)
    });
    found.expect(200);
    shell.run(uninstall);
    check_removal(&namespace, &shell, removal);
}
