//! The image is the same whichever way it is built, and is the one that the manifests run.
//! That it can be built, and how large it is, is for `tests/image/build` to show.

use std::collections::BTreeMap;
use std::process::Command;

use crate::harness::repository;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn text(path: &str) -> String {
    let text = std::fs::read_to_string(repository().join(path));
    text.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The stages of the Containerfile, each by instruction; continued lines are joined.
fn stages() -> Vec<BTreeMap<String, String>> {
    let joined = text("Containerfile").replace("\\\n", " ");
    let mut stages: Vec<BTreeMap<String, String>> = Vec::new();
    for line in joined.lines().filter(|line| !line.starts_with('#')) {
        let Some((instruction, rest)) = line.split_once(' ') else {
            continue;
        };
        if instruction == "FROM" {
            stages.push(BTreeMap::new());
        }
        if let Some(stage) = stages.last_mut() {
            let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
            stage.insert(instruction.to_owned(), rest);
        }
    }
    stages
}

/// The last one, which makes the image.
fn last_stage() -> BTreeMap<String, String> {
    stages().pop().expect("there is a stage")
}

/// `name="value"` of a LABEL instruction.
fn labels(line: &str) -> BTreeMap<String, String> {
    let pairs = line.split("\" ").filter_map(|pair| pair.split_once("=\""));
    pairs
        .map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').to_owned()))
        .collect()
}

/// The JSON of the image's settings in `tests/image/build` or `demo`, with its variables as they stand
/// there.
fn configuration(script: &str) -> serde_json::Value {
    let script = text(&format!("tests/image/{script}"));
    let (_, rest) = script.split_once("<<JSON\n").expect("a here document");
    let (json, _) = rest.split_once("\nJSON\n").expect("its end");
    serde_json::from_str(json).expect("it is JSON")
}

/// Checks that a stage of the Containerfile and our own script run the same program in the same way.
#[track_caller]
fn check_same(stage: &BTreeMap<String, String>, config: &serde_json::Value) {
    assert_eq!(config["User"], stage["USER"]);
    assert_eq!(config["WorkingDir"], stage["WORKDIR"]);
    let entrypoint: serde_json::Value =
        serde_json::from_str(&stage["ENTRYPOINT"]).expect("an entry point without a shell");
    assert_eq!(config["Entrypoint"], entrypoint);
    let port = format!("{}/tcp", stage["EXPOSE"]);
    assert!(config["ExposedPorts"][port].is_object(), "{config}");
}

#[test]
fn both_ways_make_the_same_image() {
    let stage = last_stage();
    assert_eq!(stage["FROM"], "scratch");
    assert_eq!(stage["COPY"], "--from=build /image/ /");
    assert!(!stage.contains_key("RUN"), "{stage:?}");

    let config = configuration("build");
    check_same(&stage, &config);
    let mut expected = labels(&stage["LABEL"]);
    let version = expected.insert("org.opencontainers.image.version".into(), "$version".into());
    assert_eq!(version.as_deref(), Some(VERSION));
    assert_eq!(config["Labels"], serde_json::json!(expected));
}

#[test]
fn both_ways_make_the_same_demo() {
    let stages = stages();
    let stage = stages.iter().find(|one| one["FROM"] == "scratch AS demo");
    let (stage, config) = (stage.expect("there is one"), configuration("demo"));
    check_same(stage, &config);
}

#[test]
fn the_manifests_run_that_image_as_its_user() {
    let deployment = text("manifests/base/deployment.yaml");
    let deployment: serde_json::Value = serde_yaml::from_str(&deployment).expect("it is YAML");
    let pod = &deployment["spec"]["template"]["spec"];
    let context = &pod["securityContext"];
    let user = format!("{}:{}", context["runAsUser"], context["runAsGroup"]);
    assert_eq!(last_stage()["USER"], user);
    let image = format!("config-controller:{VERSION}");
    assert_eq!(pod["containers"][0]["image"], image);
}

#[test]
fn the_base_has_the_rust_that_we_ask_for() {
    let manifest = text("Cargo.toml");
    let wanted = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "));
    let wanted = wanted.expect("Cargo.toml has a version").trim_matches('"');
    let base = format!("ARG BASE=rust:{wanted}-");
    assert!(text("Containerfile").contains(&base), "{base}");
}

/// Nobody waits for a build, or gets a folder named `--help`, because of an argument.
#[test]
fn scripts_explain_themselves_before_they_begin() {
    for (script, code, word) in [
        ("image/build", 2, "Usage: tests/image/build "),
        ("image/demo", 2, "Usage: tests/image/demo "),
        ("cluster/up", 0, "tests/cluster/up [folder]"),
        ("cluster/down", 0, "tests/cluster/down [folder]"),
    ] {
        let mut command = Command::new(repository().join("tests").join(script));
        let done = command.arg("--help").output().expect("it can be run");
        let text = [done.stdout, done.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert_eq!(done.status.code(), Some(code), "{script}: {text}");
        assert!(text.contains(word), "{script}: {text}");
    }
    assert!(!repository().join("--help").exists());
}

#[test]
fn every_builder_ignores_the_same_files() {
    assert_eq!(text(".containerignore"), text(".dockerignore"));
    assert_eq!(
        text(".dockerignore").lines().find(|l| !l.starts_with('#')),
        Some("*")
    );
}
