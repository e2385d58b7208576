//! Caps: never more instances than allowed, whoever starts them, and nobody refused for nothing.

use crate::fake_kube::api::Logged;
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{
    NAMESPACE, PREFIX, ROLE, TEMPLATE, TemporaryFolder, TestEnvironment, apply_templates,
    eventually,
};
use serde_json::{Value, json};

/// So many replicas, and annotations of the type.
fn replicas(count: usize, annotations: &[(&str, &str)]) -> TestEnvironment {
    let mut builder = TestEnvironment::builder();
    for (setting, value) in annotations {
        builder = builder.annotation(setting, value);
    }
    grown(builder.start(), count)
}

fn grown(mut environment: TestEnvironment, count: usize) -> TestEnvironment {
    for _ in 1..count {
        let replica = environment.add_replica();
        environment.wait_ready(replica);
    }
    environment
}

/// The status codes of a GET of each of these at the same time, one replica after the other; what is refused says
/// so.
fn get_all(environment: &TestEnvironment, count: usize, paths: &[(String, &str)]) -> Vec<u16> {
    let mut pending = Vec::new();
    for (number, (path, owner)) in paths.iter().enumerate() {
        let replica = environment.replica(number % count);
        let header = [("Instance-Owner", *owner)];
        let headers = if owner.is_empty() { &[][..] } else { &header };
        pending.push(replica.begin("GET", path, headers, ""));
    }
    let responses = pending.into_iter().map(|it| it.finish());
    let codes = responses.map(|response| {
        if response.status != 200 {
            let text = response.expect_error(429, "limit_reached");
            assert!(
                text.contains("; retry when an instance has ended"),
                "{text}"
            );
        }
        response.status
    });
    codes.collect()
}

fn count(codes: &[u16], code: u16) -> usize {
    codes.iter().filter(|it| **it == code).count()
}

fn named(range: std::ops::Range<usize>, owner: &'static str) -> Vec<(String, &'static str)> {
    let paths = range.map(|number| (format!("/app/hello/i{number}"), owner));
    paths.collect()
}

fn suspended(environment: &TestEnvironment) -> Vec<Value> {
    let jobs = environment.kube.all(Resource::Jobs, NAMESPACE);
    let mut suspended = Vec::new();
    for job in jobs {
        if job["spec"]["suspend"] == true {
            suspended.push(job["metadata"]["name"].clone());
        }
    }
    suspended
}

#[test]
fn of_100_callers_exactly_20_get_an_instance() {
    let environment = replicas(3, &[("max-instances", "20")]);
    let codes = get_all(&environment, 3, &named(0..100, ""));
    assert_eq!((count(&codes, 200), count(&codes, 429)), (20, 80));
    eventually("the others are gone", || {
        (environment.jobs().len() == 20).then_some(())
    });
    assert!(suspended(&environment).is_empty());
    let text = environment.get("/metrics").text;
    assert!(
        text.contains("config_controller_stops_total{cause=\"limit\",type=\"hello\"}"),
        "{text}"
    );
    let refused = "config_controller_starts_refused_total{scope=\"type\"} ";
    let refused = text.lines().find_map(|line| line.strip_prefix(refused));
    let refused = refused.and_then(|count| count.parse::<usize>().ok());
    assert!(
        refused.is_some_and(|count| (1..=34).contains(&count)),
        "{text}"
    );
    // One that is there is found at every replica, and a place that becomes free is given away.
    let there = codes.iter().position(|code| *code == 200);
    let there = there.expect("20 are there");
    environment
        .replica(2)
        .get(&format!("/app/hello/i{there}"))
        .expect(200);
    environment
        .delete(&format!("/app/hello/i{there}"))
        .expect(200);
    eventually("there is a place", || {
        (environment.replica(1).get("/app/hello/new").status == 200).then_some(())
    });
    assert_eq!(environment.jobs().len(), 20);
}

/// All three caps in one decision.
#[test]
fn owners_have_places_of_their_own_and_all_types_together_too() {
    let mut environment = TestEnvironment::builder()
        .annotation("max-instances", "9")
        .annotation("max-per-owner", "3")
        .setting("MAX_INSTANCES", "8");
    environment = environment.template("other", TEMPLATE);
    let environment = grown(environment.start(), 2);
    for owner in ["ann", "bob"] {
        let from = owner.len() * 100 + usize::from(owner == "bob") * 50;
        let codes = get_all(&environment, 2, &named(from..from + 10, owner));
        assert_eq!((count(&codes, 200), count(&codes, 429)), (3, 7), "{owner}");
    }
    let job = environment.jobs().pop().expect("some are there");
    let job = environment.wait_job(&job);
    let owner = format!("{PREFIX}owner");
    for metadata in [&job["metadata"], &job["spec"]["template"]["metadata"]] {
        let owner = &metadata["annotations"][&owner];
        assert!(*owner == "ann" || *owner == "bob", "{metadata}");
        assert_eq!(metadata["labels"][format!("{PREFIX}owner")], *owner);
    }
    // Without a name there is one owner more; and another type has two places of eight left.
    let codes = get_all(&environment, 2, &named(0..1, ""));
    assert_eq!(codes, [200]);
    let others: Vec<(String, &str)> = (0..5)
        .map(|number| (format!("/app/other/o{number}"), "cat"))
        .collect();
    let codes = get_all(&environment, 2, &others);
    assert_eq!((count(&codes, 200), count(&codes, 429)), (1, 4));
    let refused = environment.get("/app/other/more");
    let text = refused.expect_error(429, "limit_reached");
    let expected = "8 instances of all app types run, and MAX_INSTANCES is 8";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn an_owner_is_one_name() {
    let environment = TestEnvironment::new();
    for wrong in ["", "a b", "n\u{e4}me", &"n".repeat(64)] {
        let header = [("Instance-Owner", wrong)];
        let got = environment
            .client()
            .begin("GET", "/app/hello/ann", &header, "")
            .finish();
        got.expect_error(400, "bad_request");
    }
    assert!(environment.jobs().is_empty());
}

/// A Job of another client, with these labels and annotations of ours.
fn foreign(name: &str, annotations: &[(&str, &str)]) -> Value {
    let names = json!({
        format!("{PREFIX}instance-type"): "hello",
        format!("{PREFIX}instance-name"): name,
    });
    let mut job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": format!("hello-{name}"), "annotations": names},
        "spec": {"suspend": true, "template": {
            "metadata": {"labels": names},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "i"}]},
        }},
    });
    for (key, value) in annotations {
        job["metadata"]["annotations"][format!("{PREFIX}{key}")] = json!(value);
    }
    job
}

#[test]
fn jobs_that_others_suspend_are_never_touched_and_count() {
    let environment = replicas(2, &[("max-instances", "2")]);
    let made = environment.kube.apply(NAMESPACE, &foreign("queued", &[]));
    made.expect("a Job is taken");
    environment.wait_job("hello-queued");
    eventually("it is seen", || {
        let found = environment.replica(1).get("/app/hello").text;
        found.contains("queued").then_some(())
    });
    let before = environment.wait_job("hello-queued")["spec"].clone();
    let codes = get_all(&environment, 2, &named(0..5, ""));
    assert_eq!((count(&codes, 200), count(&codes, 429)), (1, 4));
    assert_eq!(suspended(&environment), ["hello-queued"]);
    assert_eq!(environment.wait_job("hello-queued")["spec"], before);
}

/// Their replica was killed after its POST, so nobody has decided.
#[test]
fn what_stays_undecided_is_decided_by_any_replica() {
    let environment = replicas(2, &[("max-instances", "2")]);
    environment.start_instance("/app/hello/ann");
    let undecided = [("admission", "undecided"), ("caps", "type=2")];
    for name in ["left", "late"] {
        let made = environment
            .kube
            .apply(NAMESPACE, &foreign(name, &undecided));
        made.expect("a Job is taken");
    }
    eventually("one runs and the other is gone", || {
        let is_over = suspended(&environment).is_empty() && environment.jobs().len() == 2;
        is_over.then_some(())
    });
    assert_eq!(environment.jobs(), ["hello-ann", "hello-left"]);
    environment.get("/app/hello/left").expect(200);
    environment
        .get("/app/hello/late")
        .expect_error(429, "limit_reached");
}

/// The response to a watch from a version that etcd has compacted.
const EXPIRED: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","reason":"Expired","code":410}"#;

/// Lists have no order of creation, so the creator asks what was there before its Job.
#[test]
fn what_lists_bring_is_decided_in_its_order() {
    let environment = replicas(1, &[("max-instances", "1")]);
    let kube = &environment.kube;
    kube.fault(FaultRule::new("watch", "jobs", Fault::Raw(410, EXPIRED)));
    kube.cut_connections();
    eventually("the watch is too old", || {
        let requests = kube.requests();
        let refused = |it: &&Logged| it.verb == "watch" && it.resource == "jobs" && it.code == 410;
        requests.iter().find(refused).map(drop)
    });
    let names = ["ann", "bob", "cat"];
    let pending = names.map(|name| {
        environment
            .client()
            .begin_get(&format!("/app/hello/{name}"))
    });
    let responses = pending.map(|pending| pending.finish());
    let refused = responses.iter().filter(|it| it.status != 200);
    let refused: Vec<String> = refused
        .map(|it| it.expect_error(429, "limit_reached"))
        .collect();
    assert_eq!(refused.len(), 2);
    for text in refused {
        let cap = "1 instances of this app type run, and max-instances is 1";
        assert!(text.starts_with(cap), "{text}");
    }
}

#[test]
fn a_cap_admits_nobody_while_more_run_from_before_it() {
    let environment = replicas(2, &[]);
    for number in 0..6 {
        environment.start_instance(&format!("/app/hello/old{number}"));
    }
    let annotations = json!({format!("{PREFIX}max-instances"): "4"});
    apply_templates(
        &environment.kube,
        "templates",
        &[("hello", TEMPLATE)],
        annotations,
    );
    eventually("the cap is known", || {
        let text = environment.get("/templates").text;
        text.contains("\"max-instances\":4").then_some(())
    });
    eventually("the other replica knows it", || {
        let text = environment.replica(1).get("/templates").text;
        text.contains("\"max-instances\":4").then_some(())
    });
    for left in [6, 5, 4] {
        let codes = get_all(&environment, 2, &named(0..4, ""));
        assert_eq!(count(&codes, 429), 4);
        eventually("only the old ones are there", || {
            (environment.jobs().len() == left).then_some(())
        });
        environment
            .delete(&format!("/app/hello/old{left}").replace('6', "0"))
            .expect(200);
        eventually("one more is gone", || {
            (environment.jobs().len() == left - 1).then_some(())
        });
    }
    eventually("there is a place", || {
        (environment.get("/app/hello/new").status == 200).then_some(())
    });
}

#[test]
fn without_the_right_to_patch_jobs_capped_types_do_not_start() {
    let role = ROLE.replace(
        "[create, delete, get, list, patch, watch]",
        "[create, delete, get, list, watch]",
    );
    let environment = TestEnvironment::builder()
        .role(&role)
        .annotation("max-instances", "2")
        .start();
    let refused = environment.get("/app/hello/ann");
    let text = refused.expect_error(500, "not_permitted");
    assert!(
        text.contains("its Role needs the verb patch on jobs"),
        "{text}"
    );
    eventually("the Job is gone", || {
        environment.jobs().is_empty().then_some(())
    });
}

/// The owner is the token's name, unless the token may name another.
#[test]
fn only_tokens_with_the_right_name_owners() {
    const PORTAL: &str = "Bearer portal-0123456789abcdef";
    const DAEMON: &str = "Bearer daemon-0123456789abcdef";
    let folder = TemporaryFolder::new();
    let token = |header: &str| header.trim_start_matches("Bearer ").to_owned();
    let text = format!(
        "{} portal * owner\n{} daemon\n",
        token(PORTAL),
        token(DAEMON)
    );
    let file = folder.write("tokens", &text);
    let environment = TestEnvironment::builder()
        .setting("AUTH", "token")
        .setting("AUTH_TOKENS_FILE", &file.display().to_string())
        .start();
    let get = |token: &str, name: &str, owner: Option<&str>| {
        let mut headers = vec![("Authorization", token)];
        headers.extend(owner.map(|owner| ("Instance-Owner", owner)));
        let path = format!("/app/hello/{name}");
        environment
            .client()
            .begin("GET", &path, &headers, "")
            .finish()
    };
    get(PORTAL, "named", Some("ann")).expect(200);
    get(PORTAL, "own", None).expect(200);
    get(DAEMON, "others", None).expect(200);
    for name in ["new", "named"] {
        let text = get(DAEMON, name, Some("ann")).expect_error(403, "forbidden");
        assert!(text.contains("must have the right 'owner'"), "{text}");
    }
    let headers = [("Authorization", PORTAL)];
    let list = environment
        .client()
        .begin("GET", "/instances", &headers, "");
    let list = list.finish().expect(200);
    let items = list["instances"].as_array().expect("a list");
    let owners: Vec<(&Value, &Value)> =
        items.iter().map(|it| (&it["name"], &it["owner"])).collect();
    let of = |name: &str| {
        owners
            .iter()
            .find(|(it, _)| *it == name)
            .map(|(_, owner)| *owner)
    };
    assert_eq!(of("named"), Some(&json!("ann")));
    assert_eq!(of("own"), Some(&json!("portal")));
    assert_eq!(of("others"), Some(&json!("daemon")));
}
