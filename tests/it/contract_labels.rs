//! Rows about PATCH of an instance: meta labels (part B section 3.5).

use serde_json::{Value, json};

use super::environment::Need::{Edit, Objects, Types};
use super::fixture::{Fixture, JSON, LONG_WAIT, Outcome, SUCCESS, holds, keys, same, soon};
use super::http::MISSING_BODY;
use super::{Body, Exchange, Row, ask, exchanges, fixture};
use crate::harness::PREFIX;

pub(super) const ROWS: &[Row] = &[
    fixture(
        "B3.5-ok",
        "a PATCH that is taken is 200 {\"status\":\"Success\"}, also that of {}",
        &[],
        success,
    ),
    fixture(
        "B3.5-label",
        "each pair becomes the label meta-<key> of the pod, and not of the Job",
        &[Objects],
        labels_of_the_pod,
    ),
    fixture(
        "B3.5-none",
        "a PATCH of what is not there is 404, and creates nothing",
        &[],
        never_creates,
    ),
    fixture(
        "B3.5-refused",
        "a value that is an object or an array is 422 and nothing is changed; one that is no label is taken all the same",
        &[],
        all_or_nothing,
    ),
    exchanges(
        "B3.5-dict_type",
        "an array, a string or a number is 422 dict_type, byte for byte, with what was sent as `input`",
        &[
            patch("[]", NOT_A_DICT_ARRAY),
            patch("[1,\"ä\"]", NOT_A_DICT_ITEMS),
            patch("\"x\"", NOT_A_DICT_STRING),
            patch("7", NOT_A_DICT_NUMBER),
            patch("true", NOT_A_DICT_TRUE),
        ],
    ),
    exchanges(
        "B3.5-missing",
        "no body, or null, is 422 missing, byte for byte",
        &[
            patch("", Body::Exactly(MISSING_BODY)),
            patch("null", Body::Exactly(MISSING_BODY)),
            patch(" null\n", Body::Exactly(MISSING_BODY)),
        ],
    ),
    fixture(
        "B3.5-json_invalid",
        "broken JSON is 422 json_invalid, with the place and the reason",
        &[],
        json_invalid,
    ),
    fixture(
        "B3.5-content-type",
        "application/json and …+json are JSON; any other type makes the body a string, thus 422 dict_type",
        &[],
        content_types,
    ),
    exchanges(
        "B3.5-order",
        "an invalid body is reported before the instance is looked up",
        &[
            patch("[]", NOT_A_DICT_ARRAY),
            patch(
                "{\"ip\":\"6.6.6.6\"}",
                Body::Detail("error", "reserved_key"),
            ),
            patch("{\"a\":[]}", Body::Detail("error", "value_invalid")),
            patch("{\"\":1}", Body::Detail("error", "key_invalid")),
            ask(
                "PATCH",
                "/app/<type>/<new>",
                404,
                Body::Detail("error", "not_found"),
            )
            .sending(JSON, "{}"),
        ],
    ),
    fixture(
        "B3.5-null",
        "null removes a label, in whatever form it was kept",
        &[],
        null_removes,
    ),
    fixture(
        "A5",
        "a pair that is no valid label reads back the same from GET and lists; strings, numbers and booleans are taken as their text",
        &[],
        reads_back,
    ),
    fixture(
        "A5-digits",
        "a number is kept digit for digit; a body may begin with a byte order mark",
        &[],
        digits,
    ),
    fixture(
        "A5-limit",
        "an instance has at most 64 labels with 16 KiB of keys and values: what would exceed that is 422 labels_limit and changes nothing; removing is always possible",
        &[],
        limits,
    ),
    fixture(
        "A6",
        "ip, addr, name, hostname, errored and start are reserved: 422 that names the key; sessionID can be set",
        &[],
        reserved_keys,
    ),
    fixture(
        "V5",
        "PATCH, then GET sees the label, each time; a PATCH of {} is 200, and one of a missing instance 404",
        &[],
        patch_then_get,
    ),
    fixture(
        "V5-failed",
        "a PATCH of a failed pod is 200, and its label is listed",
        &[Types],
        patch_of_a_failed_pod,
    ),
    fixture(
        "W17",
        "20 PATCHes at once all hold; in 2.7.1 those that meet another change of the pod are 404 and lost",
        &[],
        concurrent_patches,
    ),
    fixture(
        "W17-others",
        "a PATCH holds beside a change by others, where 2.7.1 sends the whole pod with its old version",
        &[Edit],
        concurrent_changes,
    ),
    fixture(
        "W18",
        "one value that is no label loses nothing: all pairs are there; 2.7.1 rejects the whole request",
        &[],
        one_bad_value,
    ),
    fixture(
        "S3",
        "a PATCH never replaces the address or the name of an instance, where 2.7.1 sends users to the value of `ip`",
        &[],
        labels_replace_nothing,
    ),
    fixture(
        "S3-by-hand",
        "a label `meta-ip` that another client has set on the pod is not shown; 2.7.1 returns it as the address",
        &[Edit],
        labels_by_hand,
    ),
];

/// A PATCH of what does not exist whose body is refused.
const fn patch(body: &'static str, response: Body) -> Exchange {
    ask("PATCH", "/app/<type>/<new>", 422, response).sending(JSON, body)
}

const NOT_A_DICT_ARRAY: Body = Body::Exactly(
    r#"{"detail":[{"type":"dict_type","loc":["body"],"msg":"Input should be a valid dictionary","input":[]}]}"#,
);
const NOT_A_DICT_ITEMS: Body = Body::Exactly(
    r#"{"detail":[{"type":"dict_type","loc":["body"],"msg":"Input should be a valid dictionary","input":[1,"ä"]}]}"#,
);
const NOT_A_DICT_STRING: Body = Body::Exactly(
    r#"{"detail":[{"type":"dict_type","loc":["body"],"msg":"Input should be a valid dictionary","input":"x"}]}"#,
);
const NOT_A_DICT_NUMBER: Body = Body::Exactly(
    r#"{"detail":[{"type":"dict_type","loc":["body"],"msg":"Input should be a valid dictionary","input":7}]}"#,
);
const NOT_A_DICT_TRUE: Body = Body::Exactly(
    r#"{"detail":[{"type":"dict_type","loc":["body"],"msg":"Input should be a valid dictionary","input":true}]}"#,
);

/// A ready instance: its path and its address.
fn started(fixture: &Fixture, stem: &str) -> Outcome<(String, String)> {
    let path = fixture.path(stem);
    let ip = fixture.start(&path)?;
    Ok((path, ip))
}

fn set(fixture: &Fixture, path: &str, body: &Value) -> Outcome {
    fixture.patch(path, body)?.exactly(200, SUCCESS).map(drop)
}

fn success(fixture: &Fixture) -> Outcome {
    let (path, ip) = started(fixture, "ok")?;
    set(fixture, &path, &json!({"username": "bob"}))?;
    set(fixture, &path, &json!({}))?;
    let found = format!(r#"{{"ip":"{ip}","username":"bob"}}"#);
    fixture.get(&path)?.exactly(200, &found).map(drop)
}

fn labels_of_the_pod(fixture: &Fixture) -> Outcome {
    let name = fixture.name("label");
    let path = fixture.path_of(fixture.app_type(), &name);
    fixture.start(&path)?;
    set(fixture, &path, &json!({"username": "bob"}))?;
    let key = format!("{PREFIX}meta-username");
    let job = format!("{}-{name}", fixture.app_type());
    let pod = fixture.kube().pod_of(&job).ok_or("there is no pod")?;
    same(
        "on the pod",
        &pod["metadata"]["labels"][&key],
        &json!("bob"),
    )?;
    let job = fixture.kube().get("jobs", &job).ok_or("there is no Job")?;
    for labels in [
        &job["metadata"]["labels"],
        &job["spec"]["template"]["metadata"]["labels"],
    ] {
        same("on the Job", &labels[&key], &Value::Null)?;
    }
    Ok(())
}

fn never_creates(fixture: &Fixture) -> Outcome {
    for app_type in [fixture.app_type(), "no-such-type"] {
        let name = fixture.name("missing");
        let path = fixture.path_of(app_type, &name);
        let patched = fixture.patch(&path, &json!({"connected": "false"}))?;
        patched.detail(404, "error", "not_found")?;
        let listed = fixture.entry(app_type, &name).is_ok();
        holds(!listed, || format!("{path} was made"))?;
    }
    Ok(())
}

fn all_or_nothing(fixture: &Fixture) -> Outcome {
    let (path, ip) = started(fixture, "all")?;
    for value in [json!({"x": 1}), json!(["x"])] {
        let refused = fixture.patch(&path, &json!({"good": "1", "nested": value}))?;
        let message = refused.detail(422, "error", "value_invalid")?;
        holds(message.contains("'nested'"), || message)?;
    }
    let bare = format!(r#"{{"ip":"{ip}"}}"#);
    fixture.get(&path)?.exactly(200, &bare)?;
    set(fixture, &path, &json!({"good": "1", "odd": "no label!"}))?;
    let found = format!(r#"{{"ip":"{ip}","good":"1","odd":"no label!"}}"#);
    fixture.get(&path)?.exactly(200, &found).map(drop)
}

fn json_invalid(fixture: &Fixture) -> Outcome {
    for body in ["{a}", "{not json", "{'a': 1}"] {
        let path = format!("{}/{}", fixture.list(), fixture.name("x"));
        let response = fixture.ask("PATCH", &path, JSON, body)?.json(422)?;
        same("its keys", keys(&response), vec!["detail"])?;
        same(
            "problems",
            response["detail"].as_array().map(Vec::len),
            Some(1),
        )?;
        let problem = &response["detail"][0];
        let expected = vec!["type", "loc", "msg", "input", "ctx"];
        same("the keys of the problem", keys(problem), expected)?;
        same("type", &problem["type"], &json!("json_invalid"))?;
        same("loc", &problem["loc"], &json!(["body", 1]))?;
        same("msg", &problem["msg"], &json!("JSON decode error"))?;
        same("input", &problem["input"], &json!({}))?;
        same("the keys of ctx", keys(&problem["ctx"]), vec!["error"])?;
        let reason = problem["ctx"]["error"].as_str().unwrap_or_default();
        holds(!reason.is_empty(), || response.to_string())?;
    }
    Ok(())
}

fn content_types(fixture: &Fixture) -> Outcome {
    let (path, ip) = started(fixture, "type")?;
    for (number, taken) in [
        "application/json",
        "application/json; charset=utf-8",
        "application/merge-patch+json",
        "Application/JSON",
    ]
    .into_iter()
    .enumerate()
    {
        let body = format!(r#"{{"n":"{number}"}}"#);
        let headers = [("Content-Type", taken)];
        fixture
            .ask("PATCH", &path, &headers, &body)?
            .exactly(200, SUCCESS)?;
        let found = format!(r#"{{"ip":"{ip}","n":"{number}"}}"#);
        fixture.get(&path)?.exactly(200, &found)?;
    }
    let refused = r#"{"detail":[{"type":"dict_type","loc":["body"],"msg":"Input should be a valid dictionary","input":"{\"n\":\"x\"}"}]}"#;
    for headers in [
        &[("Content-Type", "text/plain")][..],
        &[("Content-Type", "application/x-www-form-urlencoded")],
        &[("Content-Type", "text/json")],
        &[],
    ] {
        let response = fixture.ask("PATCH", &path, headers, r#"{"n":"x"}"#)?;
        response.exactly(422, refused)?;
    }
    Ok(())
}

fn digits(fixture: &Fixture) -> Outcome {
    let (path, ip) = started(fixture, "digits")?;
    let numbers = [
        ("a", "12345678901234567890123"),
        ("b", "1e3"),
        ("c", "1.10"),
        ("d", "-0"),
    ];
    let sent = numbers.map(|(key, number)| format!(r#""{key}": {number}"#));
    let body = format!("\u{feff}{{{}}}", sent.join(", "));
    fixture
        .ask(
            "PATCH",
            &path,
            &[("Content-Type", "application/json")],
            &body,
        )?
        .exactly(200, SUCCESS)?;
    let kept = numbers.map(|(key, number)| format!(r#""{key}":"{number}""#));
    let found = format!(r#"{{"ip":"{ip}",{}}}"#, kept.join(","));
    fixture.get(&path)?.exactly(200, &found).map(drop)
}

fn null_removes(fixture: &Fixture) -> Outcome {
    let (path, ip) = started(fixture, "null")?;
    let body = json!({"a": "1", "b": "no label!", "key with spaces": "x", "c": "3"});
    set(fixture, &path, &body)?;
    let gone = json!({"a": null, "b": null, "key with spaces": null, "never": null});
    set(fixture, &path, &gone)?;
    let found = format!(r#"{{"ip":"{ip}","c":"3"}}"#);
    fixture.get(&path)?.exactly(200, &found).map(drop)
}

fn reads_back(fixture: &Fixture) -> Outcome {
    let name = fixture.name("odd");
    let path = fixture.path_of(fixture.app_type(), &name);
    fixture.start(&path)?;
    let odd = json!({
        "mail": "bob@example.ch",
        "note": "-leading and trailing-",
        "long": "x".repeat(200),
        "empty": "",
        "a key with spaces": "v",
        "käse": "Zürich",
        "quoted": "\"\\\n\t",
        "number": 7, "fraction": 1.5, "flag": true, "other": false,
    });
    set(fixture, &path, &odd)?;
    let found = fixture.get(&path)?.json(200)?;
    let entry = fixture.entry(fixture.app_type(), &name)?;
    for (key, value) in odd.as_object().into_iter().flatten() {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        same(key, &found[key], &json!(text))?;
        same(key, &entry[key], &json!(text))?;
    }
    // A value that changes its form leaves nothing of the old one.
    for value in ["plain", "with space", "plain-again"] {
        set(fixture, &path, &json!({"mail": value}))?;
        let found = fixture.get(&path)?.json(200)?;
        same("mail", &found["mail"], &json!(value))?;
    }
    Ok(())
}

fn limits(fixture: &Fixture) -> Outcome {
    let refused = |path: &str, body: &Value, bound: &str| {
        let response = fixture.patch(path, body)?;
        let message = response.detail(422, "error", "labels_limit")?;
        holds(message.contains(bound), || message)
    };
    let pairs =
        |count: usize| -> Value { (0..count).map(|n| (format!("k{n}"), json!("v"))).collect() };
    // A body that exceeds a bound by itself, even for an instance that does not exist.
    let missing = fixture.path("missing");
    refused(&missing, &pairs(65), "at most 64 labels")?;
    refused(&missing, &json!({"k": "x".repeat(16_384)}), "16384 bytes")?;

    let (path, _) = started(fixture, "limit")?;
    set(fixture, &path, &pairs(64))?;
    refused(&path, &json!({"k0": "other", "one more": "v"}), "65 labels")?;
    same("k0", &fixture.get(&path)?.json(200)?["k0"], &json!("v"))?;
    set(
        fixture,
        &path,
        &json!({"k0": "other", "k1": null, "one more": "v"}),
    )?;
    refused(&path, &json!({"k2": "x".repeat(16_300)}), "16384 bytes")?;
    set(fixture, &path, &json!({"k2": "x".repeat(15_000)}))?;
    refused(&path, &json!({"k3": "x".repeat(1_500)}), "16384 bytes")?;
    set(
        fixture,
        &path,
        &json!({"k2": null, "k3": "x".repeat(1_500)}),
    )?;
    let found = fixture.get(&path)?.json(200)?;
    same("the number of labels", &keys(&found).len(), &64)?;
    same("k3", &found["k3"], &json!("x".repeat(1_500)))
}

/// The keys that PATCH may not set.
const RESERVED: [&str; 6] = ["ip", "addr", "name", "hostname", "errored", "start"];

fn reserved_keys(fixture: &Fixture) -> Outcome {
    let (path, ip) = started(fixture, "reserved")?;
    for key in RESERVED {
        let refused = fixture.patch(&path, &json!({"good": "1", key: "6.6.6.6"}))?;
        let message = refused.detail(422, "error", "reserved_key")?;
        holds(message.contains(&format!("'{key}'")), || message)?;
    }
    set(fixture, &path, &json!({"sessionID": "s1"}))?;
    let found = format!(r#"{{"ip":"{ip}","sessionID":"s1"}}"#);
    fixture.get(&path)?.exactly(200, &found).map(drop)
}

fn patch_then_get(fixture: &Fixture) -> Outcome {
    let (path, _) = started(fixture, "seen")?;
    for round in 0..20 {
        let value = json!(format!("v{round}"));
        set(fixture, &path, &json!({"username": &value}))?;
        let found = fixture.get(&path)?.json(200)?;
        same("what GET returns", &found["username"], &value)?;
    }
    set(fixture, &path, &json!({}))?;
    let missing = fixture.patch(&fixture.path("missing"), &json!({"a": "b"}))?;
    missing.detail(404, "error", "not_found").map(drop)
}

fn patch_of_a_failed_pod(fixture: &Fixture) -> Outcome {
    let name = fixture.name("failed");
    let failed = fixture.path_of("failing", &name);
    // The failure of the Job may be seen before its pod is: the exit code shows that the pod is.
    soon("the end of the pod", || {
        let response = fixture.get(&failed)?.json(202)?;
        same("status", &response["status"], &json!("app_error"))?;
        same("the exit code", &response["exitCode"], &json!(1))
    })?;
    set(fixture, &failed, &json!({"username": "bob"}))?;
    let entry = fixture.entry("failing", &name)?;
    same("the label", &entry["username"], &json!("bob"))
}

/// So many PATCHes at once, each with a key of its own.
const AT_ONCE: usize = 20;

/// They are written one after the other, which takes longer than a PATCH waits by itself where the
/// API server is slow.
const IN_TURN: &[(&str, &str)] = &[JSON[0], LONG_WAIT[0]];

/// Sends them, with `between` after each, and checks that all of them hold.
fn all_hold(fixture: &Fixture, path: &str, between: impl Fn(usize)) -> Outcome {
    let body = |n: usize| json!({format!("k{n}"): format!("v{n}")}).to_string();
    let asked: Outcome<Vec<_>> = (0..AT_ONCE)
        .map(|n| {
            let asked = fixture.begin("PATCH", path, IN_TURN, &body(n));
            between(n);
            asked
        })
        .collect();
    for one in asked? {
        one.finish()?.exactly(200, SUCCESS)?;
    }
    let found = fixture.get(path)?.json(200)?;
    for n in 0..AT_ONCE {
        let key = format!("k{n}");
        same(&key, &found[&key], &json!(format!("v{n}")))?;
    }
    Ok(())
}

fn concurrent_patches(fixture: &Fixture) -> Outcome {
    let (path, _) = started(fixture, "both")?;
    all_hold(fixture, &path, |_| ())
}

fn concurrent_changes(fixture: &Fixture) -> Outcome {
    let name = fixture.name("both");
    let path = fixture.path_of(fixture.app_type(), &name);
    fixture.start(&path)?;
    let job = format!("{}-{name}", fixture.app_type());
    let pod = fixture.kube().pod_of(&job).ok_or("there is no pod")?;
    let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
    all_hold(fixture, &path, |n| {
        let change = json!({"metadata": {"annotations": {"example.org/n": n.to_string()}}});
        fixture.kube().patch("pods", pod, &change);
    })
}

fn one_bad_value(fixture: &Fixture) -> Outcome {
    let (path, _) = started(fixture, "bad")?;
    let long = "x".repeat(64);
    let body = json!({
        "connected": "true", "username": "bob@x.ch", "long": long, "number": 7, "flag": true,
    });
    set(fixture, &path, &body)?;
    let found = fixture.get(&path)?.json(200)?;
    for (key, value) in [
        ("connected", "true"),
        ("username", "bob@x.ch"),
        ("long", &long),
        ("number", "7"),
        ("flag", "true"),
    ] {
        same(key, &found[key], &json!(value))?;
    }
    Ok(())
}

fn labels_replace_nothing(fixture: &Fixture) -> Outcome {
    let (path, ip) = started(fixture, "mine")?;
    for (key, value) in [("ip", "6.6.6.6"), ("name", "other"), ("addr", "6.6.6.6")] {
        let refused = fixture.patch(&path, &json!({key: value}))?;
        refused.detail(422, "error", "reserved_key")?;
        let bare = format!(r#"{{"ip":"{ip}"}}"#);
        fixture.get(&path)?.exactly(200, &bare)?;
    }
    Ok(())
}

fn labels_by_hand(fixture: &Fixture) -> Outcome {
    let name = fixture.name("mine");
    let path = fixture.path_of(fixture.app_type(), &name);
    let ip = fixture.start(&path)?;
    let job = format!("{}-{name}", fixture.app_type());
    let pod = fixture.kube().pod_of(&job).ok_or("there is no pod")?;
    let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
    let by_hand = json!({"metadata": {"labels": {
        format!("{PREFIX}meta-ip"): "6.6.6.6",
        format!("{PREFIX}meta-name"): "other",
        format!("{PREFIX}meta-seen"): "yes",
    }}});
    fixture.kube().patch("pods", pod, &by_hand);
    soon("the change is seen", || {
        let found = fixture.get(&path)?.json(200)?;
        same("the change", &found["seen"], &json!("yes"))
    })?;
    let expected = format!(r#"{{"ip":"{ip}","seen":"yes"}}"#);
    fixture.get(&path)?.exactly(200, &expected)?;
    let entry = fixture.entry(fixture.app_type(), &name)?;
    same("its address", &entry["ip"], &json!(ip))
}
