//! `/instances`: the list of all instances, page by page, while they start, change and end.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::dynamics::pod_script::{Exit, PodScript};
use crate::fake_kube::dynamics::pods::PodMove;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{
    Client, NAMESPACE, Response, TEMPLATE, TemporaryFolder, TestEnvironment, apply_templates,
    eventually,
};

/// Types and names of all instances, page by page, with the query of each page.
fn names(client: Client, query: &str) -> Vec<String> {
    let (mut found, mut next) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/instances?{query}{next}")).expect(200);
        for item in page["instances"].as_array().expect("a list") {
            let text = |name: &str| item[name].as_str().expect("a text").to_owned();
            found.push(text("type") + "/" + &text("name"));
        }
        match page["continue"].as_str() {
            Some(it) => next = format!("&continue={it}"),
            None => return found,
        }
    }
}

/// The one instance of this name.
fn item(environment: &TestEnvironment, query: &str) -> Value {
    let page = environment.get(&format!("/instances?{query}")).expect(200);
    page["instances"][0].clone()
}

/// Callers of it get an error, and the stream has reported `failed`: the list and the metrics agree.
#[test]
fn a_start_over_its_budget_is_listed_and_counted_as_failed() {
    let environment = TestEnvironment::builder()
        .pod_script(PodScript::by_hand())
        .setting("START_BUDGET_PULL_ERROR", "100s")
        .start();
    environment.get_at_once("/app/hello/ann").expect(202);
    environment.fail_pull("hello-ann");
    let status = |expected: &str| {
        eventually(expected, || {
            let item = item(&environment, "");
            (item["status"] == expected && item["reason"] == "ErrImagePull").then_some(())
        });
        let line = format!(r#"config_controller_instances{{type="hello",status="{expected}"}} 1"#);
        eventually(&line, || {
            environment
                .get("/metrics")
                .text
                .contains(&line)
                .then_some(())
        });
    };
    status("starting");
    environment.advance(Duration::from_secs(102));
    status("failed");
    let failed = environment.get("/instances?status=failed").expect(200);
    assert_eq!(failed["instances"][0]["name"], "ann");
    environment.make_ready("hello-ann");
    eventually("it is ready all the same", || {
        (item(&environment, "")["status"] == "ready").then_some(())
    });
}

#[test]
fn an_instance_is_listed_from_its_start_to_its_stop() {
    let environment = TestEnvironment::builder()
        .pod_script(PodScript::by_hand())
        .template("other", TEMPLATE)
        .start();
    assert_eq!(names(environment.client(), ""), [""; 0]);
    environment.get_at_once("/app/hello/ann").expect(202);
    environment.wait_pod("hello-ann");
    let status = |expected: &str| {
        eventually(expected, || {
            let item = item(&environment, "type=hello");
            (item["status"] == expected).then_some(item)
        })
    };
    let starting = status("starting");
    assert_eq!(starting["ip"], Value::Null);
    assert!(starting["phase"].is_string() && starting["reason"].is_string());
    environment.make_ready("hello-ann");
    let ready = status("ready");
    let found = environment.get("/app/hello/ann");
    assert_eq!(found.expect(200)["ip"], ready["ip"]);
    assert_eq!(found.header("instance-id"), ready["uid"]);
    assert_eq!(
        [&ready["stale"], &ready["restarts"]],
        [&json!(false), &json!(0)]
    );
    environment
        .patch("/app/hello/ann", &json!({"team": "a"}))
        .expect(200);
    // A replica shows its own writes at once.
    assert_eq!(
        item(&environment, "label=team=a")["labels"],
        json!({"team": "a"})
    );
    assert_eq!(names(environment.client(), "label=team=b"), [""; 0]);
    environment.delete("/app/hello/ann").expect(200);
    assert_eq!(item(&environment, "")["status"], "stopping");
}

/// What its pod has said counts for as long as there is its Job, in lists and metrics as in events and responses.
#[test]
fn how_an_instance_ended_is_listed_after_its_pod_is_gone() {
    let mut environment = TestEnvironment::builder()
        .pod_script(PodScript::by_hand())
        .annotation("restart-failed", "never")
        .start();
    let second = environment.add_replica();
    environment.wait_ready(second);
    for (name, code, status, reason) in [
        ("well", 0, "finished", "Completed"),
        ("badly", 3, "failed", "Error"),
    ] {
        environment
            .get_at_once(&format!("/app/hello/{name}"))
            .expect(202);
        let job = format!("hello-{name}");
        environment.make_ready(&job);
        environment.wait_found(&format!("/app/hello/{name}"));
        environment.move_pod(&job, &PodMove::Exit(Exit::at_once(code)));
        let query = format!("/instances?status={status}");
        let listed = |replica: usize, has_ended: &dyn Fn(&Value) -> bool| {
            eventually(status, || {
                let page = environment.replica(replica).get(&query).expect(200);
                let item = page["instances"].get(0)?.clone();
                has_ended(&item).then_some(item)
            })
        };
        let ended = [0, 1].map(|replica| listed(replica, &|item| item["reason"] == reason));
        // Its Job has ended, too.
        eventually("its Job has ended", || {
            let conditions = environment.wait_job(&job)["status"]["conditions"].clone();
            (!conditions.is_null()).then_some(())
        });
        let pod = environment.wait_pod(&job);
        (environment.kube)
            .delete(Resource::Pods, NAMESPACE, &pod, "Background")
            .expect("it was there");
        for (replica, before) in ended.iter().enumerate() {
            let after = listed(replica, &|item| item["start"].is_null());
            for field in ["reason", "message", "since"] {
                assert_eq!(after[field], before[field], "{name}, replica {replica}");
            }
        }
        let counted = format!(r#"config_controller_instances{{type="hello",status="{status}"}} 1"#);
        assert!(environment.get("/metrics").text.contains(&counted));
    }
}

#[test]
fn those_of_a_status_are_as_many_as_the_metric_says_until_they_are_gone() {
    let environment = TestEnvironment::new();
    for name in ["a", "b", "c"] {
        environment.start_instance(&format!("/app/hello/{name}"));
    }
    assert_eq!(names(environment.client(), "status=ready").len(), 3);
    let metrics = environment.get("/metrics").text;
    let line = r#"config_controller_instances{type="hello",status="ready"} 3"#;
    assert!(metrics.contains(line), "{metrics}");
    environment.delete("/app/hello/b").expect(200);
    eventually("it is gone", || {
        (names(environment.client(), "") == ["hello/a", "hello/c"]).then_some(())
    });
}

#[test]
fn a_change_of_the_template_makes_instances_stale() {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    assert_eq!(item(&environment, "")["stale"], false);
    let edited = TEMPLATE.replace("app:1", "app:2");
    apply_templates(&environment.kube, "apps", &[("hello", &edited)], json!({}));
    eventually("it is stale", || {
        (item(&environment, "")["stale"] == true).then_some(())
    });
}

#[test]
fn pages_and_their_tags_are_those_of_each_replica() {
    let mut environment = TestEnvironment::builder()
        .template("other", TEMPLATE)
        .start();
    for path in ["/app/hello/a", "/app/hello/b", "/app/other/a"] {
        environment.start_instance(path);
    }
    let other = environment.add_replica();
    environment.wait_ready(other);
    let all = ["hello/a", "hello/b", "other/a"];
    for limit in 1..=3 {
        // Each page of another replica than the one before.
        let first = environment
            .get(&format!("/instances?limit={limit}"))
            .expect(200);
        let next = first["continue"]
            .as_str()
            .map(|it| format!("continue={it}"));
        let rest = next.map(|next| names(environment.replica(other), &next));
        assert_eq!(rest.unwrap_or_default(), all[limit..]);
    }
    let tag = |replica: usize| {
        let page = environment.replica(replica).get("/instances?limit=2");
        page.expect(200);
        page.header("etag").to_owned()
    };
    assert_eq!(tag(0), tag(other));
    let headers = [("If-None-Match", &*tag(0))];
    let client = environment.client();
    let same = client.begin("GET", "/instances?limit=2", &headers, "");
    assert_eq!(same.finish().status, 304);
    let head = client.begin("HEAD", "/instances", &[], "").finish();
    assert_eq!((head.status, head.text.as_str()), (200, ""));
}

#[test]
fn many_readers_get_the_newest_page() {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    for round in 0..10 {
        let change = json!({ "round": round.to_string() });
        environment.patch("/app/hello/ann", &change).expect(200);
        let paths = (0..100).map(|n| format!("/instances?limit={}", 1 + n % 10));
        let readers: Vec<_> = paths
            .map(|path| environment.client().begin_get(&path))
            .collect();
        let seen: BTreeSet<String> = readers
            .into_iter()
            .map(|reader| reader.finish().expect(200)["instances"][0]["labels"].to_string())
            .collect();
        assert_eq!(seen, BTreeSet::from([change.to_string()]));
    }
}

/// A DELETE of many, which waits so long for their end if it does.
fn stop(client: Client, query: &str, wait: Option<u32>) -> Response {
    let wait = wait.map(|secs| format!("wait={secs}"));
    let headers = wait.iter().map(|wait| ("Prefer", wait.as_str()));
    let headers: Vec<(&str, &str)> = headers.collect();
    let target = format!("/instances{query}");
    client.begin("DELETE", &target, &headers, "").finish()
}

fn counts(stopped: usize, stopping: usize, left: usize) -> Value {
    json!({"stopped": stopped, "stopping": stopping, "left": left, "failed": 0})
}

#[test]
fn all_that_match_are_stopped_and_no_others() {
    let environment = TestEnvironment::builder()
        .template("other", TEMPLATE)
        .start();
    for number in 0..40 {
        environment.start_instance(&format!("/app/hello/n{number}"));
    }
    environment.start_instance("/app/other/a");
    environment.start_instance("/app/other/b");
    environment
        .patch("/app/other/b", &json!({"team": "x"}))
        .expect(200);
    let response = stop(environment.client(), "?label=team=x&type=other", None);
    assert_eq!(response.expect(200), counts(1, 0, 0));
    let response = stop(environment.client(), "?type=hello", Some(60));
    assert_eq!(response.expect(200), counts(40, 0, 0));
    assert_eq!(names(environment.client(), "status=ready"), ["other/a"]);
    eventually("only one is there", || {
        (environment.jobs() == ["other-a"]).then_some(())
    });
    assert_eq!(environment.kube.count("delete", "jobs"), 41);
    let response = stop(environment.client(), "?type=hello", Some(60));
    assert_eq!(response.expect(200), counts(0, 0, 0));
}

#[test]
fn without_a_filter_nothing_is_stopped() {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    for (query, message) in [
        (
            "",
            "the query restricts nothing, so nothing was stopped; add type, label or status, as in DELETE /instances?type=hello",
        ),
        (
            "?limit=1",
            "the parameter 'limit' is unknown here; remove it: there are type, label and status",
        ),
        (
            "?type=hello&status=on",
            "status 'on' is none of starting, ready, failed, finished, stopping",
        ),
    ] {
        let response = stop(environment.client(), query, None);
        assert_eq!(
            response.expect_detail(422, "error", "query_invalid"),
            message
        );
    }
    let headers = [("Sec-Fetch-Site", "cross-site")];
    let client = environment.client();
    let foreign = client.begin("DELETE", "/instances?type=hello", &headers, "");
    let _ = foreign.finish().expect_detail(403, "error", "forbidden");
    assert_eq!(environment.kube.count("delete", "*"), 0);
}

#[test]
fn a_pod_that_does_not_end_is_told_when_the_wait_is_over() {
    let lingers = PodScript {
        lingers: true,
        ..PodScript::default()
    };
    let environment = TestEnvironment::builder().pod_script(lingers).start();
    environment.start_instance("/app/hello/ann");
    let response = stop(environment.client(), "?type=hello", Some(1));
    assert_eq!(response.expect(202), counts(1, 1, 0));
    // Without a wait those that are being stopped do not count.
    let response = stop(environment.client(), "?type=hello", None);
    assert_eq!(response.expect(200), counts(0, 0, 0));
}

#[test]
fn what_kubernetes_refuses_is_told() {
    let environment = TestEnvironment::new();
    for name in ["a", "b", "c"] {
        environment.start_instance(&format!("/app/hello/{name}"));
    }
    let refuses = FaultRule::new("delete", "jobs", Fault::Webhook("not today".into()));
    environment.kube.fault(refuses.clone().times(1));
    let response = stop(environment.client(), "?type=hello", None);
    let body = response.expect(202);
    assert_eq!([&body["stopped"], &body["failed"]], [2, 1]);
    assert_eq!(body["first"]["code"], "refused");
    let left = names(environment.client(), "status=ready");
    assert_eq!(body["first"]["instance"], left.join(" "));
    // Now none can be.
    environment.kube.fault(refuses);
    let response = stop(environment.client(), "?status=ready", None);
    let message = response.expect_detail(403, "error", "refused");
    assert!(message.contains("not today"), "{message}");
    environment.kube.clear_faults();
    let response = stop(environment.client(), "?status=ready", None);
    assert_eq!(response.expect(200), counts(1, 0, 0));
}

#[test]
fn a_bound_token_lists_and_stops_its_types_only() {
    let folder = TemporaryFolder::new();
    let (portal, daemon) = ("portal-0123456789abcdef", "daemon-0123456789abcdef");
    let text = format!("{portal} portal\n{daemon} daemon hello\n");
    let file = folder.write("tokens", &text);
    let environment = TestEnvironment::builder()
        .template("other", TEMPLATE)
        .setting("AUTH", "token")
        .setting("AUTH_TOKENS_FILE", &file.display().to_string())
        .start();
    let ask = |token: &str, method: &str, target: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        let client = environment.client();
        client.begin(method, target, &headers, "").finish()
    };
    for path in ["/app/hello/a", "/app/other/a"] {
        ask(portal, "GET", path).expect(200);
    }
    let listed = |token: &str| {
        let page = ask(token, "GET", "/instances").expect(200);
        page["instances"].as_array().map(Vec::len)
    };
    assert_eq!((listed(portal), listed(daemon)), (Some(2), Some(1)));
    ask(daemon, "GET", "/instances?type=other").expect_error(403, "forbidden");
    let refused = ask(daemon, "DELETE", "/instances?type=other");
    let _ = refused.expect_detail(403, "error", "forbidden");
    let stopped = ask(daemon, "DELETE", "/instances?status=ready");
    assert_eq!(stopped.expect(200), counts(1, 0, 0));
    assert_eq!(environment.kube.count("delete", "jobs"), 1);
    let stopped = ask(portal, "DELETE", "/instances?status=ready");
    assert_eq!(stopped.expect(200), counts(1, 0, 0));
    assert_eq!(ask(daemon, "GET", "/instances?limit=x").status, 422);
}
