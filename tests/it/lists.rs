//! Lists: their entity tags, and readers that come with changes. Their bodies are rows of the
//! contract (`contract_reads`).

use serde_json::json;

use crate::harness::{Pending, Response, TestEnvironment};

const PATH: &str = "/app/hello";

fn ask(environment: &TestEnvironment, method: &str, condition: &str) -> Response {
    let headers = [("If-None-Match", condition)];
    let client = environment.client();
    client.begin(method, PATH, &headers, "").finish()
}

fn started() -> TestEnvironment {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    environment
}

#[test]
fn a_poller_gets_the_list_once_and_304_until_it_changes() {
    let environment = started();
    let first = environment.get(PATH);
    first.expect(200);
    let etag = first.header("etag").to_owned();
    assert_eq!(first.header("cache-control"), "no-cache");
    for _ in 0..3 {
        let same = ask(&environment, "GET", &format!("\"other\", W/{etag}"));
        assert_eq!((same.status, same.text.as_str()), (304, ""));
        assert_eq!(same.header("etag"), etag);
        assert_eq!(same.header("cache-control"), "no-cache");
        assert_eq!(same.header("content-length"), "");
    }
    environment
        .patch("/app/hello/ann", &json!({"username": "ann"}))
        .expect(200);
    let changed = ask(&environment, "GET", &etag);
    assert_eq!(changed.expect(200)[0]["username"], "ann");
    assert_ne!(changed.header("etag"), etag);
}

#[test]
fn head_has_the_head_of_the_list() {
    let environment = started();
    let list = environment.get(PATH);
    let head = ask(&environment, "HEAD", "\"other\"");
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    for name in ["etag", "cache-control", "content-type", "content-length"] {
        assert_eq!(head.header(name), list.header(name), "{name}");
    }
    let same = ask(&environment, "HEAD", list.header("etag"));
    assert_eq!((same.status, same.text.as_str()), (304, ""));
}

#[test]
fn replicas_agree_on_the_tag() {
    let mut environment = started();
    let other = environment.add_replica();
    environment.wait_ready(other);
    let tag = |replica| {
        let list = environment.replica(replica).get(PATH);
        list.expect(200);
        list.header("etag").to_owned()
    };
    assert_eq!(tag(0), tag(other));
}

#[test]
fn readers_that_come_with_a_change_all_see_it() {
    let environment = started();
    environment.get(PATH).expect(200);
    for round in 0..20 {
        let name = format!("v{round}");
        environment
            .patch("/app/hello/ann", &json!({"username": name}))
            .expect(200);
        let readers: Vec<Pending> = (0..20)
            .map(|_| environment.client().begin_get(PATH))
            .collect();
        let mut tags: Vec<String> = readers
            .into_iter()
            .map(|reader| {
                let list = reader.finish();
                assert_eq!(list.expect(200)[0]["username"], name);
                list.header("etag").to_owned()
            })
            .collect();
        tags.dedup();
        assert_eq!(tags.len(), 1, "{tags:?}");
    }
}

#[test]
fn a_stop_is_seen_by_the_next_list() {
    let environment = started();
    for round in 0..10 {
        environment.start_instance("/app/hello/bob");
        assert_eq!(
            environment.get(PATH).expect(200).as_array().map(Vec::len),
            Some(2)
        );
        environment.delete("/app/hello/bob").expect(200);
        let list = environment.get(PATH).expect(200);
        let of_bob = list.as_array().expect("a list");
        let is_ready = |entry: &serde_json::Value| entry["errored"] == false;
        let ready: Vec<_> = of_bob.iter().filter(|entry| is_ready(entry)).collect();
        assert_eq!(ready.len(), 1, "round {round}: {list}");
    }
}
