//! Kubernetes unreachable, slow, or failing: reads continue, failed starts have a Retry-After, and
//! everything works again after the outage.

use std::time::Duration;

use serde_json::json;

use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{NAMESPACE, ROLE, TemporaryFolder, TestEnvironment, eventually};

#[test]
fn reads_are_served_while_the_api_server_is_unreachable() {
    let environment = TestEnvironment::new();
    let ip = environment.start_instance("/app/hello/ann");
    environment.kube.stop_listening();
    let ready = format!(r#"{{"ip":"{ip}"}}"#);
    let client = environment.client();
    let starting = client.begin_get("/app/hello/new");
    let patching = client.begin_patch("/app/hello/ann", &json!({"k": "v"}));
    let deleting = client.begin("DELETE", "/app/hello/ann", &[], "");
    let mut reads = 0;
    while !starting.is_answered() {
        environment.get("/app/hello/ann").expect_text(200, &ready);
        environment.get("/app").expect_text(200, r#"["hello"]"#);
        environment.get("/readyz").expect(200);
        reads += 1;
    }
    assert!(reads > 0);
    let refused = starting.finish();
    refused.expect_error(503, "kubernetes_unavailable");
    assert!(refused.header("retry-after").parse::<u64>().is_ok());
    for refused in [patching, deleting] {
        let refused = refused.finish();
        refused.expect_detail(503, "error", "kubernetes_unavailable");
    }
    environment.kube.start_listening();
    environment.wait_found("/app/hello/new");
    environment.get("/app/hello/ann").expect_text(200, &ready);
}

#[test]
fn a_stale_cache_reports_its_age() {
    let environment = TestEnvironment::new();
    let ip = environment.start_instance("/app/hello/ann");
    environment.count_from_here();
    assert_eq!(environment.get("/app/hello/ann").header("x-view-age"), "");
    environment.kube.stop_listening();
    eventually("the watches are known to be cut", || {
        environment.advance(Duration::from_secs(6));
        let response = environment.get("/app/hello/ann");
        response.expect_text(200, &format!(r#"{{"ip":"{ip}"}}"#));
        let age = response.header("x-view-age").parse::<u64>();
        age.is_ok_and(|age| age >= 6).then_some(())
    });
    environment.kube.start_listening();
    eventually("the cache is fresh again", || {
        let response = environment.get("/app/hello/ann");
        (response.header("x-view-age").is_empty()).then_some(())
    });
}

/// An API server that has just started returns 403 until its RBAC is loaded.
#[test]
fn a_403_after_an_outage_is_retried() {
    let environment = TestEnvironment::new();
    let ip = environment.start_instance("/app/hello/ann");
    environment.kube.stop_listening();
    let forbidden = FaultRule::new("*", "*", Fault::Forbidden).times(6);
    environment.kube.fault(forbidden);
    environment.kube.start_listening();
    let starting = environment.client().begin_get("/app/hello/new");
    let again = environment.get("/app/hello/ann");
    again.expect_text(200, &format!(r#"{{"ip":"{ip}"}}"#));
    starting.finish().expect(200);
    // Lists and watches are as before: what is done at the API is seen.
    environment.delete("/app/hello/ann").expect(200);
    eventually("the list is as it should be", || {
        let list = environment.get("/app/hello").expect(200);
        (list.as_array().map(Vec::len) == Some(1)).then_some(())
    });
}

#[test]
fn a_missing_permission_is_reported() {
    let role = ROLE.replace("[create, delete, get, list, patch, watch]", "[list, watch]");
    assert_ne!(role, ROLE);
    let environment = TestEnvironment::builder().role(&role).start();
    let refused = environment.get("/app/hello/ann");
    let message = refused.expect_error(500, "not_permitted");
    assert!(!message.contains("system:"), "{message}");
    environment.kube.set_role("default", Some(ROLE));
    environment.get("/app/hello/ann").expect(200);
}

#[test]
fn throttled_and_failed_calls_are_retried() {
    for fault in [
        Fault::TooManyRequests {
            retry_after_secs: 0,
        },
        Fault::Status(500),
        Fault::Status(503),
        Fault::Drop,
        Fault::Raw(429, ""),
        Fault::Raw(429, "<html>slow down</html>"),
        Fault::Raw(418, r#"{"kind":"Status","reason":"Teapot","message":"no"}"#),
        Fault::Raw(302, ""),
        Fault::Raw(400, "<html>400 Bad Request</html>"),
        Fault::Raw(404, "404 page not found"),
        Fault::Raw(200, ""),
        Fault::Raw(200, "<html>200 OK</html>"),
        Fault::Raw(200, "{}"),
        Fault::Raw(200, r#"{"kind":"Job","metadata":{"name":"hello-a"#),
        Fault::SpoilAnswer,
        Fault::Endless,
    ] {
        let environment = TestEnvironment::new();
        let fault_name = format!("{fault:?}");
        for (verb, resource) in [
            ("create", "jobs"),
            ("list", "jobs"),
            ("patch", "pods"),
            ("delete", "jobs"),
        ] {
            let rule = FaultRule::new(verb, resource, fault.clone());
            environment.kube.fault(rule.times(2));
        }
        let missing = environment.delete("/app/hello/nobody");
        assert_eq!(missing.status, 404, "{fault_name}");
        let started = environment.get("/app/hello/ann");
        assert_eq!(started.status, 200, "{fault_name}");
        let patched = environment.patch("/app/hello/ann", &json!({"k": "v"}));
        assert_eq!(patched.status, 200, "{fault_name}");
        let stopped = environment.delete("/app/hello/ann");
        assert_eq!(stopped.status, 200, "{fault_name}");
        // Those two are carried out.
        let posts = match fault {
            Fault::SpoilAnswer | Fault::Endless => 1..=2,
            _ => 3..=3,
        };
        let posted = environment.kube.count("create", "jobs");
        assert!(posts.contains(&posted), "{fault_name}: {posted} POSTs");
    }
}

#[test]
fn calls_that_keep_failing_are_503_at_the_deadline() {
    let environment = TestEnvironment::builder()
        .setting("START_WAIT", "2s")
        .start();
    environment
        .kube
        .fault(FaultRule::new("create", "jobs", Fault::Status(503)));
    let refused = environment.get("/app/hello/ann");
    refused.expect_error(503, "kubernetes_unavailable");
    assert!(refused.header("retry-after").parse::<u64>().is_ok());
    assert!(environment.kube.count("create", "jobs") > 1);
    environment.kube.clear_faults();
    environment.get("/app/hello/ann").expect(200);
}

/// A webhook that is down, slow or broken: only Kubernetes says which one.
#[test]
fn a_webhook_that_cannot_be_called_is_named_in_the_response() {
    let environment = TestEnvironment::builder()
        .setting("START_WAIT", "1s")
        .start();
    environment.start_instance("/app/hello/bob");
    for why in [
        "Post \"https://w.demo.svc:443/?timeout=10s\": dial tcp 10.0.0.7:443: connect: connection refused",
        "Post \"https://w.demo.svc:443/?timeout=1s\": context deadline exceeded",
        "the server could not find the requested resource",
    ] {
        let broken = || Fault::BrokenWebhook(why.to_owned());
        for verb in ["create", "patch", "delete"] {
            environment.kube.fault(FaultRule::new(verb, "*", broken()));
        }
        let client = environment.client();
        let stopping = client.begin("DELETE", "/app/hello/bob", &[], "");
        eventually("the deadline of the DELETE is over", || {
            environment.advance(Duration::from_secs(1));
            stopping.is_answered().then_some(())
        });
        let stopped = stopping.finish();
        let started = environment.get("/app/hello/ann");
        let messages = [
            started.expect_error(503, "kubernetes_unavailable"),
            stopped.expect_detail(503, "error", "kubernetes_unavailable"),
        ];
        for message in messages {
            let named = r#"failed calling webhook "fake.example.com": failed to call webhook: "#;
            assert!(message.contains(&format!("{named}{why}")), "{message}");
        }
        environment.kube.clear_faults();
    }
    environment.get("/app/hello/ann").expect(200);
}

#[test]
fn a_rotated_token_is_read_again() {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    environment.kube.rotate_token();
    environment.give_token();
    environment.kube.cut_connections();
    environment.get("/app/hello/bob").expect(200);
    environment.delete("/app/hello/ann").expect(200);
    eventually("the watches go on", || {
        let list = environment.get("/app/hello").expect(200);
        (list.as_array().map(Vec::len) == Some(1)).then_some(())
    });
}

/// The plugin runs because one request got a 401; all others use the token that is there.
#[test]
fn a_slow_exec_plugin_blocks_no_other_request() {
    let folder = TemporaryFolder::new();
    let path = folder.path("kubeconfig").display().to_string();
    let mut environment = TestEnvironment::builder()
        .setting("KUBECONFIG", &path)
        .unstarted()
        .start();
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": environment.kube.token()},
    });
    folder.write("credential", &credential.to_string());
    // It runs as long as there is a file `blocker`.
    let script = format!(
        "cd {}; if [ -e blocker ]; then : >running; fi; \
         while [ -e blocker ]; do sleep 0.05; done; cat credential",
        folder.path("").display()
    );
    let plugin = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "/bin/sh",
        "args": ["-c", script],
        "interactiveMode": "Never",
    }});
    let kubeconfig = environment
        .kube
        .kubeconfig_for(NAMESPACE, &plugin.to_string());
    folder.write("kubeconfig", &kubeconfig);
    environment.add_replica();
    environment.wait_ready(0);
    let blocker = folder.write("blocker", "");
    let rejected = FaultRule::new("create", "jobs", Fault::Unauthorized).times(1);
    environment.kube.fault(rejected);
    let waiting = environment.client().begin_get("/app/hello/ann");
    eventually("the plugin runs", || {
        folder.path("running").exists().then_some(())
    });
    environment.get("/app/hello/bob").expect(200);
    assert!(!waiting.is_answered());
    std::fs::remove_file(blocker).expect("the blocker exists");
    waiting.finish().expect(200);
}

#[test]
fn an_expired_token_is_reported_until_it_is_replaced() {
    let environment = TestEnvironment::new();
    let ip = environment.start_instance("/app/hello/ann");
    environment.kube.rotate_token();
    environment.kube.cut_connections();
    environment
        .get("/app/hello/bob")
        .expect_error(503, "kubernetes_unavailable");
    // Nor is it a matter of rights when the file is gone.
    let token = environment.folder.path("token");
    std::fs::remove_file(token).expect("there is a token");
    environment
        .get("/app/hello/bob")
        .expect_error(503, "kubernetes_unavailable");
    let again = environment.get("/app/hello/ann");
    again.expect_text(200, &format!(r#"{{"ip":"{ip}"}}"#));
    environment.give_token();
    environment.get("/app/hello/bob").expect(200);
}

#[test]
fn before_the_first_sync_responses_are_503() {
    let mut environment = TestEnvironment::builder().unstarted().start();
    environment.kube.stop_listening();
    environment.add_replica();
    for path in ["/app", "/app/hello", "/app/hello/ann"] {
        let refused = environment.get(path);
        refused.expect_error(503, "not_synced");
        assert_eq!(refused.header("retry-after"), "1");
    }
    let refused = environment.patch("/app/hello/ann", &json!({"k": "v"}));
    refused.expect_detail(503, "error", "not_synced");
    environment.get("/livez").expect(200);
    environment.get("/info").expect(200);
    environment.get("/readyz").expect_error(503, "not_synced");
    environment.kube.start_listening();
    environment.wait_ready(0);
    environment.get("/app/hello/ann").expect(200);
}

/// Longer than all its time limits together, and half a minute more: no outage takes a worker so long.
#[test]
fn a_stuck_worker_fails_the_liveness_probe() {
    let environment = TestEnvironment::new();
    let never = Fault::Delay(Duration::from_secs(3600));
    environment
        .kube
        .fault(FaultRule::new("create", "jobs", never));
    let client = environment.client();
    let _starting = client.begin_get("/app/hello/ann");
    eventually("a worker makes the call", || {
        (environment.kube.count("create", "jobs") > 0).then_some(())
    });
    environment.get("/livez").expect(200);
    environment.advance(Duration::from_secs(211));
    eventually("the probe names the worker", || {
        let response = environment.get("/livez");
        let names_it = response.text.contains(r#"thread \"worker-"#);
        (response.status == 503 && names_it).then_some(())
    });
    environment.kube.cut_connections();
    environment.kube.clear_faults();
}

#[test]
fn an_outage_of_two_minutes_fails_no_liveness_probe() {
    const STEP: Duration = Duration::from_secs(5);
    let environment = TestEnvironment::new();
    environment.get("/app/hello/ann").expect(200);
    environment.kube.stop_listening();
    environment.kube.cut_connections();
    let client = environment.client();
    let _stop = client.begin("DELETE", "/app/hello/ann", &[], "");
    for number in 0..24 {
        // Its response takes the coordinator's thread a moment, in which the others run, too.
        let path = format!("/app/hello/n{number}");
        let start = client.begin("GET", &path, &[("Prefer", "wait=1")], "");
        environment.advance(STEP);
        let status = start.finish().status;
        assert!([202, 503].contains(&status), "{status}");
        // On a busy machine a thread may not have run since the clock moved. One that is stuck does not
        // recover while the clock stands still.
        eventually("every thread has run", || {
            (environment.get("/livez").status == 200).then_some(())
        });
    }
    environment.kube.start_listening();
    environment.advance(STEP);
    eventually("starts work again", || {
        (environment.get("/app/hello/bob").status == 200).then_some(())
    });
}
