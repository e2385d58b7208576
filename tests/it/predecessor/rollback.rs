//! The roll-back: 2.7.1 replaces this service, on instances that this service has started.
//!
//! It knows an instance by the Job name `<type>-<name>`. Names that are no valid part of a Job name
//! (upper case, `@`, …) have a derived one. 2.7.1 refuses them, so after a roll-back it cannot stop
//! such instances (`kubectl delete job` can).

use serde_json::json;

use super::original::success;
use super::{BARE, both, made, patched, see_label, see_names, uid};
use crate::fake_kube::dynamics::pod_script::{Exit, PodScript};
use crate::harness::{NAMESPACE, PREFIX, TEMPLATE, TestEnvironment, eventually};

#[test]
fn it_finds_lists_labels_and_stops_our_instances() {
    for name in [
        "ann",
        "ann.of.cleves",
        "0f8fad5b-d9cb-469f-a165-70867728950e",
    ] {
        let (environment, original) = both(TEMPLATE, PodScript::default());
        let (path, job) = (format!("/app/page/{name}"), format!("page-{name}"));
        let ip = environment.start_instance(&path);
        let before = uid(&environment, &job);
        assert_eq!(original.get("page", name), (200, json!({"ip": ip})));
        patched(environment.client(), &path, &json!({"username": "bob"}));
        let labels = json!({"connected": "true", "sessionID": "s-1"});
        assert_eq!(original.patch("page", name, &labels), success());
        for client in [environment.replica(0), environment.replica(1)] {
            see_label(client, &path, "connected", "true");
            let found = client.get(&path).expect(200);
            assert_eq!((200, found), original.get("page", name));
            let list = client.get("/app/page").expect(200);
            assert_eq!((200, list), original.list("page"));
        }
        assert_eq!((uid(&environment, &job), made(&environment)), (before, 1));
        assert_eq!(original.delete("page", name), success());
        see_names(environment.replica(0), "page", &[]);
        see_names(environment.replica(1), "page", &[]);
        environment.wait_no_jobs();
        assert_eq!(original.list("page"), (200, json!([])));
    }
}

#[test]
fn waiters_of_this_service_are_answered_when_it_stops_the_instance() {
    let (environment, original) = both(BARE, PodScript::by_hand());
    let paths = ["/app/page/ann"; 4];
    let callers: Vec<_> = [0, 1, 0, 1]
        .iter()
        .zip(paths)
        .map(|(replica, path)| environment.replica(*replica).begin_get(path))
        .collect();
    environment.wait_pod("page-ann");
    for client in [environment.replica(0), environment.replica(1)] {
        eventually("they wait", || {
            let metrics = client.get("/metrics").text;
            let waiting = metrics.contains("config_controller_waiting_requests 2\n");
            waiting.then_some(())
        });
        // A request that takes its turn: from here on they wait for this very Job.
        patched(client, "/app/page/ann", &json!({"k": "v"}));
    }
    assert_eq!(original.delete("page", "ann"), success());
    for caller in callers {
        let message = caller.finish().expect_error(409, "stopped");
        assert!(message.contains("retry"), "{message}");
    }
    assert_eq!(made(&environment), 1);
}

#[test]
fn it_reports_our_failed_start() {
    let pod_script = PodScript {
        exit: Some(Exit::at_once(3)),
        ..PodScript::default()
    };
    let (environment, original) = both(BARE, pod_script);
    let failed = environment.get("/app/page/ann").expect(202);
    assert_eq!(failed["status"], "app_error");
    let (code, body) = original.get("page", "ann");
    assert_eq!((code, body), (202, json!({"status": "app_error"})));
    let (_, list) = original.list("page");
    assert_eq!(list[0]["errored"], true);
    assert_eq!(list[0]["start"], json!(0));
    assert_eq!(environment.get("/app/page").expect(200), list);
    assert_eq!(original.delete("page", "ann"), success());
    see_names(environment.replica(1), "page", &[]);
}

/// What we keep in annotations 2.7.1 does not see, and does not lose either.
#[test]
fn its_patch_keeps_annotations_it_does_not_read() {
    let (environment, original) = both(BARE, PodScript::default());
    environment.start_instance("/app/page/ann");
    let odd = json!({"mail": "bob@example.ch", "a key with spaces": "x"});
    patched(environment.client(), "/app/page/ann", &odd);
    assert!(original.get("page", "ann").1["mail"].is_null());
    let plain = json!({"connected": "true"});
    assert_eq!(original.patch("page", "ann", &plain), success());
    for client in [environment.replica(0), environment.replica(1)] {
        see_label(client, "/app/page/ann", "connected", "true");
        see_label(client, "/app/page/ann", "mail", "bob@example.ch");
        see_label(client, "/app/page/ann", "a key with spaces", "x");
    }
}

/// 2.7.1 writes the label and leaves our annotation: what it wrote is newer, since we remove
/// the one form when we write the other.
#[test]
fn its_label_replaces_our_value() {
    let (environment, original) = both(BARE, PodScript::default());
    environment.start_instance("/app/page/ann");
    patched(
        environment.client(),
        "/app/page/ann",
        &json!({"username": "bob@example.ch"}),
    );
    let plain = json!({"username": "bob"});
    assert_eq!(original.patch("page", "ann", &plain), success());
    for client in [environment.replica(0), environment.replica(1)] {
        see_label(client, "/app/page/ann", "username", "bob");
        assert_eq!(client.get("/app/page").expect(200)[0]["username"], "bob");
    }
    // And our value over it, in either form.
    for value in ["bob@example.ch", "bobby"] {
        patched(
            environment.client(),
            "/app/page/ann",
            &json!({"username": value}),
        );
        see_label(environment.replica(1), "/app/page/ann", "username", value);
    }
    assert_eq!(original.get("page", "ann").1["username"], "bobby");
}

/// Not found, not stopped, and not started a second time either: Kubernetes refuses the name.
/// Its list shows it, since the list goes by labels.
#[test]
fn a_name_that_only_this_service_accepts_is_unknown_to_it() {
    let (environment, original) = both(BARE, PodScript::default());
    let ip = environment.start_instance("/app/page/Ann_B");
    let (code, refused) = original.get("page", "Ann_B");
    assert_eq!(code, 404, "{refused}");
    let message = refused["msg"].as_str().expect("an error has a sentence");
    assert!(message.starts_with("(422)\nReason: Invalid\n"), "{message}");
    let gone = (404, json!({"detail": {"status": "No job found"}}));
    assert_eq!(original.delete("page", "Ann_B"), gone);
    assert_eq!(original.list("page").1[0]["name"], "Ann_B");
    assert_eq!(
        environment.get("/app/page/Ann_B").expect(200)["ip"],
        json!(ip)
    );
    assert_eq!(made(&environment), 1);
}

/// Our Jobs are found by `job-name`, also where the label value with the name is derived.
#[test]
fn a_name_that_is_an_invalid_label_value_is_found_by_its_job() {
    let (environment, original) = both(BARE, PodScript::default());
    let ip = environment.start_instance("/app/page/-ann");
    assert_eq!(environment.jobs(), ["page--ann"]);
    assert_eq!(original.get("page", "-ann"), (200, json!({"ip": ip})));
    let shown = original.list("page").1[0]["name"].clone();
    assert_ne!(shown, "-ann", "its list cannot give the name back");
    assert_eq!(original.delete("page", "-ann"), success());
    see_names(environment.replica(1), "page", &[]);
}

/// The pod of our Job has the labels by which 2.7.1 and its users select.
#[test]
fn our_pods_have_its_labels() {
    let environment = TestEnvironment::builder().template("page", BARE).start();
    environment.start_instance("/app/page/ann");
    let pod = environment
        .kube
        .pod_of(NAMESPACE, "page-ann")
        .expect("a pod");
    let labels = &pod["metadata"]["labels"];
    assert_eq!(labels["job-name"], "page-ann");
    assert_eq!(labels[format!("{PREFIX}instance-type")], "page");
    assert_eq!(labels[format!("{PREFIX}instance-name")], "ann");
}
