//! Standard output that takes nothing more: a reader that has left, and a full disk.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use crate::harness::TemporaryFolder;

/// A ConfigMap with a template.
const MANIFEST: &str = "\
kind: ConfigMap
metadata: {name: apps}
data:
  hello.yaml: |
    spec:
      restartPolicy: Never
      containers: [{name: a, image: b, readinessProbe: {httpGet: {port: 80}}}]
";

/// Runs the program with these arguments and that standard output; its exit code and its complaints.
fn run(arguments: &[&str], stdout: Stdio) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_config-controller"))
        .env_clear()
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be run")
        .wait_with_output()
        .expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), stderr)
}

#[test]
fn output_that_cannot_be_written_is_an_error_unless_its_reader_has_left() {
    let folder = TemporaryFolder::new();
    let file = folder.write("apps.yaml", MANIFEST).display().to_string();
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["check", &file],
        &["check", "--output=json", &file],
        &["check", "--render=hello", &file],
    ] {
        let full = OpenOptions::new().write(true).open("/dev/full");
        let (code, stderr) = run(arguments, full.expect("Linux has it").into());
        assert_eq!(code, Some(1), "{arguments:?}: {stderr}");
        let expected = "config-controller: standard output cannot be written: ";
        assert!(stderr.starts_with(expected), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");

        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ended = run(arguments, writer.into());
        assert_eq!(ended, (Some(0), String::new()), "{arguments:?}");
    }
}

#[test]
fn a_reader_that_has_left_does_not_hide_what_must_be_fixed() {
    let folder = TemporaryFolder::new();
    let broken = MANIFEST.replace("Never", "Always");
    let file = folder.write("apps.yaml", &broken).display().to_string();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let ended = run(&["check", &file], writer.into());
    assert_eq!(ended, (Some(1), String::new()));
}

#[test]
fn complaints_that_cannot_be_written_do_not_change_the_exit_code() {
    let full = OpenOptions::new().write(true).open("/dev/full");
    let status = Command::new(env!("CARGO_BIN_EXE_config-controller"))
        .env_clear()
        .arg("--start-wait=soon")
        .stderr(full.expect("Linux has it"))
        .status();
    assert_eq!(status.expect("it can be run").code(), Some(2));
}
