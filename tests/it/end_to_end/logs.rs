//! Logs of real containers, as callers get them.

use std::io::Read as _;
use std::time::{Duration, Instant};

use super::environment::{TestEnvironment, real};
use super::program::Program;
use super::{LONG_WAIT, eventually};
use crate::logs::Log;

/// Lets our service account read logs.
pub(super) fn permit(environment: &TestEnvironment) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/read-logs");
    for file in ["role", "role-binding"] {
        let file = format!("--filename={folder}/{file}.yaml");
        environment.kubectl(&["apply", &file]);
    }
}

fn log(program: &Program, path: &str) -> Log {
    Log::begin(program.address(), path, "")
}

/// Waits until a log is a 200 with this in it, and returns its body.
#[track_caller]
fn body_with(program: &Program, path: &str, words: &str) -> String {
    eventually(words, || {
        let (head, body) = log(program, path).finish();
        (head.starts_with("HTTP/1.1 200") && body.contains(words)).then_some(body)
    })
}

#[track_caller]
fn refused(program: &Program, path: &str, status: u16, code: &str) -> String {
    eventually(code, || {
        let response = program.client().get(path);
        let is_it = response.status == status && response.text.contains(code);
        is_it.then(|| response.expect_error(status, code))
    })
}

#[test]
#[ignore = "needs a cluster"]
fn a_crash_loop_has_a_previous_run_and_a_silent_one_none() {
    let environment = TestEnvironment::shared();
    let failing = [
        ("EXIT_CODE", "3"),
        ("EXIT_MESSAGE", "no space left"),
        ("FAILURES", "1"),
        ("FAILURES_FILE", "/run/failures"),
    ];
    let template = real("x", 1, &failing)
        .replace(
            "restartPolicy: Never",
            "restartPolicy: OnFailure\n  volumes: [{name: run, emptyDir: {}}]",
        )
        .replace(
            "    env:\n",
            "    volumeMounts: [{name: run, mountPath: /run}]\n    env:\n",
        );
    environment.offer("loop", "loop", &template);
    environment.offer(
        "slow",
        "slow",
        &real("y", 1, &[("START_DELAY_SECS", "1000")]),
    );
    let program = environment.program();
    program.get_prefer("/app/loop/ann", LONG_WAIT);
    let text = refused(&program, "/app/loop/ann/logs", 501, "logs_not_permitted");
    assert!(text.contains("get pods/log"), "{text}");
    permit(&environment);
    let now = body_with(&program, "/app/loop/ann/logs", "listens on");
    assert!(!now.contains("no space left"), "{now}");
    let before = body_with(
        &program,
        "/app/loop/ann/logs?previous=true",
        "no space left",
    );
    assert!(!before.contains("listens on"), "{before}");
    // A container that writes nothing has a log, which is empty, and can be followed.
    program.get_prefer("/app/slow/ann", "wait=1");
    let empty = || {
        let (head, body) = log(&program, "/app/slow/ann/logs").finish();
        (head.starts_with("HTTP/1.1 200") && body.is_empty()).then_some(())
    };
    eventually("it runs", empty);
    refused(
        &program,
        "/app/slow/ann/logs?previous=true",
        404,
        "no_previous_run",
    );
    let mut follow = log(&program, "/app/slow/ann/logs?follow=true");
    follow.until("\r\n\r\n");
    program.delete("/app/slow/ann").expect(200);
    assert_eq!(follow.body(), "");
}

#[test]
#[ignore = "needs a cluster"]
fn each_container_of_a_pod_has_a_log() {
    let environment = TestEnvironment::shared();
    permit(&environment);
    let container = |name: &str, variables: &str| {
        format!(
            "  - name: {name}\n    image: config-controller-demo:1\n    imagePullPolicy: IfNotPresent\n    env: [{variables}]\n"
        )
    };
    let exits = "{name: EXIT_CODE, value: \"0\"}, {name: EXIT_MESSAGE, value: prepared}";
    let template = format!(
        "spec:\n  restartPolicy: Never\n  terminationGracePeriodSeconds: 1\n  initContainers:\n{}  containers:\n{}{}",
        container("prepare", exits),
        container("app", "{name: INSTANCE, value: first}"),
        container(
            "side",
            "{name: INSTANCE, value: second}, {name: PORT, value: \"8081\"}"
        ),
    );
    environment.offer("two", "two", &template);
    let program = environment.program();
    program.get_prefer("/app/two/ann", LONG_WAIT).expect(200);
    for (query, words) in [
        ("", "\"first\" listens on"),
        ("?container=side", "\"second\" listens on"),
        ("?container=prepare", "prepared"),
    ] {
        body_with(&program, &format!("/app/two/ann/logs{query}"), words);
    }
    let text = refused(
        &program,
        "/app/two/ann/logs?container=x",
        422,
        "query_invalid",
    );
    assert!(
        text.ends_with("containers: app, side; init containers: prepare"),
        "{text}"
    );
}

#[test]
#[ignore = "needs a cluster"]
fn what_has_not_started_and_what_is_gone_is_answered() {
    let environment = TestEnvironment::shared();
    permit(&environment);
    let unpullable = real("x", 1, &[])
        .replace("config-controller-demo:1", "config-controller-none:1")
        .replace("IfNotPresent", "Never");
    environment.offer("none", "none", &unpullable);
    let unschedulable = real("x", 1, &[]).replace("spec:\n", "spec:\n  nodeSelector: {no: such}\n");
    environment.offer("queued", "queued", &unschedulable);
    let failing = [("EXIT_CODE", "3"), ("EXIT_MESSAGE", "no space left")];
    let failing = real("x", 1, &failing).replace(
        "    env:\n",
        "    terminationMessagePolicy: FallbackToLogsOnError\n    env:\n",
    );
    environment.offer("broken", "broken", &failing);
    let program = environment.program();
    for (app_type, phase) in [("none", "pulling"), ("queued", "scheduling")] {
        program.get_prefer(&format!("/app/{app_type}/ann"), "wait=1");
        let text = refused(
            &program,
            &format!("/app/{app_type}/ann/logs"),
            409,
            "not_started",
        );
        assert!(text.contains(phase), "{text}");
    }
    let report = program.get_prefer("/app/broken/ann", LONG_WAIT).expect(202);
    assert_eq!(report["status"], "app_error", "{report}");
    body_with(&program, "/app/broken/ann/logs", "no space left");
    environment.kubectl(&["delete", "pods", "--selector=job-name=broken-ann"]);
    let (head, body) = eventually("the pod is gone", || {
        let (head, body) = log(&program, "/app/broken/ann/logs").finish();
        head.contains("termination-report").then_some((head, body))
    });
    assert!(body.contains("no space left"), "{head}\n{body}");
}

#[test]
#[ignore = "needs a cluster"]
fn a_follow_ends_with_its_pod() {
    let environment = TestEnvironment::shared();
    permit(&environment);
    environment.offer("x", "x", &real("x", 1, &[]));
    let program = environment.program();
    program.get_prefer("/app/x/ann", LONG_WAIT).expect(200);
    let mut follow = log(&program, "/app/x/ann/logs?follow=true");
    follow.until("listens on");
    let begun = Instant::now();
    environment.kubectl(&[
        "delete",
        "pods",
        "--selector=job-name=x-ann",
        "--wait=false",
    ]);
    let body = follow.body();
    assert!(
        body.ends_with('\n') && !body.contains("config-controller ends"),
        "{body}"
    );
    println!(
        "FIGURE a follow ended {:?} after its pod was deleted",
        begun.elapsed()
    );
}

/// The program holds a part of it, never all: neither what the caller has not read, nor what it has.
#[test]
#[ignore = "needs a cluster"]
fn a_hundred_megabytes_to_a_slow_reader_take_no_memory() {
    let environment = TestEnvironment::shared();
    permit(&environment);
    environment.offer("chatty", "chatty", &real("x", 1, &[("LOG_MIB", "100")]));
    let program = environment.program();
    program.get_prefer("/app/chatty/ann", LONG_WAIT).expect(200);
    let before = program.resident_kib();
    let mut follow = log(&program, "/app/chatty/ann/logs?follow=true&tail=100000");
    follow.until("\r\n\r\n");
    let (mut received, mut most) = (0, before);
    let mut buffer = vec![0; 64 * 1024];
    let begun = Instant::now();
    // For 15 s it reads 2 MiB a second, then as fast as it can.
    while received < 60 << 20 && begun.elapsed() < Duration::from_secs(50) {
        let count = follow.stream.read(&mut buffer).expect("it goes on");
        assert!(count > 0, "ended after {received} bytes");
        received += count;
        most = most.max(program.resident_kib());
        let due = Duration::from_micros(received as u64 / 2);
        if let Some(early) = due.checked_sub(begun.elapsed())
            && begun.elapsed() < Duration::from_secs(15)
        {
            std::thread::park_timeout(early);
        }
    }
    println!(
        "FIGURE a slow reader got {received} bytes in {:?}; resident {before} KiB before, at most {most} KiB",
        begun.elapsed()
    );
    assert!(received > 20 << 20, "only {received} bytes");
    assert!(
        most < before + 4096,
        "{before} KiB before, {most} KiB at most"
    );
    drop(follow);
    eventually("its thread has ended", || {
        (program.thread_count("log-reader") == 0).then_some(())
    });
}
