//! Rows about PATCH of an instance: meta labels (part B section 3.5).

use serde_json::{Value, json};

use super::ground::Need::{Edit, Objects, Types};
use super::http::MISSING_BODY;
use super::scene::{JSON, Outcome, PATIENT, SUCCESS, Scene, holds, keys, same, soon};
use super::{Body, Exchange, Row, ask, exchanges, scene};
use crate::harness::PREFIX;

pub(super) const ROWS: &[Row] = &[
    scene(
        "B3.5-ok",
        "a PATCH that is taken is 200 {\"status\":\"Success\"}, also that of {}",
        &[],
        success,
    ),
    scene(
        "B3.5-label",
        "each pair becomes the label meta-<key> of the pod, and not of the Job",
        &[Objects],
        labels_of_the_pod,
    ),
    scene(
        "B3.5-none",
        "a PATCH of what is not there is 404, and creates nothing",
        &[],
        never_creates,
    ),
    scene(
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
    scene(
        "B3.5-json_invalid",
        "broken JSON is 422 json_invalid, with the place and the reason",
        &[],
        json_invalid,
    ),
    scene(
        "B3.5-content-type",
        "application/json and …+json are JSON; any other type makes the body a string, thus 422 dict_type",
        &[],
        content_types,
    ),
    exchanges(
        "B3.5-order",
        "what is wrong with a body is told before the instance is looked for",
        &[
            patch("[]", NOT_A_DICT_ARRAY),
            patch(
                "{\"ip\":\"6.6.6.6\"}",
                Body::Detail("error", "reserved_key"),
            ),
            ask(
                "PATCH",
                "/app/<type>/<new>",
                404,
                Body::Detail("error", "not_found"),
            )
            .sending(JSON, "{}"),
        ],
    ),
    scene(
        "B3.5-null",
        "null removes a label, in whatever form it was kept",
        &[],
        null_removes,
    ),
    scene(
        "A5",
        "a pair that is no valid label reads back the same from GET and lists; strings, numbers and booleans are taken as their text",
        &[],
        reads_back,
    ),
    scene(
        "A6",
        "ip, addr, name, hostname, errored and start are reserved: 422 that names the key; sessionID can be set",
        &[],
        reserved_keys,
    ),
    scene(
        "V5",
        "PATCH, then GET sees the label, each time; a PATCH of {} is 200, and one of a missing instance 404",
        &[],
        patch_then_get,
    ),
    scene(
        "V5-failed",
        "a PATCH of a failed pod is 200, and its label is listed",
        &[Types],
        patch_of_a_failed_pod,
    ),
    scene(
        "W17",
        "20 PATCHes at once all hold; in 2.7.1 those that meet another change of the pod are 404 and lost",
        &[],
        concurrent_patches,
    ),
    scene(
        "W17-others",
        "a PATCH holds beside a change by others, where 2.7.1 sends the whole pod with its old version",
        &[Edit],
        concurrent_changes,
    ),
    scene(
        "W18",
        "one value that is no label loses nothing: all pairs are there; 2.7.1 rejects the whole request",
        &[],
        one_bad_value,
    ),
    scene(
        "S3",
        "a PATCH never replaces the address or the name of an instance, where 2.7.1 sends users wherever `ip` says",
        &[],
        labels_replace_nothing,
    ),
    scene(
        "S3-by-hand",
        "a label `meta-ip` that somebody has set on the pod is not shown; 2.7.1 answers it as the address",
        &[Edit],
        labels_by_hand,
    ),
];

/// A PATCH of what does not exist whose body is refused.
const fn patch(body: &'static str, answer: Body) -> Exchange {
    ask("PATCH", "/app/<type>/<new>", 422, answer).sending(JSON, body)
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
fn started(scene: &Scene, stem: &str) -> Outcome<(String, String)> {
    let path = scene.path(stem);
    let ip = scene.start(&path)?;
    Ok((path, ip))
}

fn set(scene: &Scene, path: &str, body: &Value) -> Outcome {
    scene.patch(path, body)?.exactly(200, SUCCESS).map(drop)
}

fn success(scene: &Scene) -> Outcome {
    let (path, ip) = started(scene, "ok")?;
    set(scene, &path, &json!({"username": "bob"}))?;
    set(scene, &path, &json!({}))?;
    let found = format!(r#"{{"ip":"{ip}","username":"bob"}}"#);
    scene.get(&path)?.exactly(200, &found).map(drop)
}

fn labels_of_the_pod(scene: &Scene) -> Outcome {
    let name = scene.name("label");
    let path = scene.path_of(scene.app_type(), &name);
    scene.start(&path)?;
    set(scene, &path, &json!({"username": "bob"}))?;
    let key = format!("{PREFIX}meta-username");
    let job = format!("{}-{name}", scene.app_type());
    let pod = scene.kube().pod_of(&job).ok_or("there is no pod")?;
    same(
        "on the pod",
        &pod["metadata"]["labels"][&key],
        &json!("bob"),
    )?;
    let job = scene.kube().get("jobs", &job).ok_or("there is no Job")?;
    for labels in [
        &job["metadata"]["labels"],
        &job["spec"]["template"]["metadata"]["labels"],
    ] {
        same("on the Job", &labels[&key], &Value::Null)?;
    }
    Ok(())
}

fn never_creates(scene: &Scene) -> Outcome {
    for app_type in [scene.app_type(), "no-such-type"] {
        let name = scene.name("missing");
        let path = scene.path_of(app_type, &name);
        let patched = scene.patch(&path, &json!({"connected": "false"}))?;
        patched.detail(404, "error", "not_found")?;
        let listed = scene.entry(app_type, &name).is_ok();
        holds(!listed, || format!("{path} was made"))?;
    }
    Ok(())
}

fn all_or_nothing(scene: &Scene) -> Outcome {
    let (path, ip) = started(scene, "all")?;
    for value in [json!({"x": 1}), json!(["x"])] {
        let refused = scene.patch(&path, &json!({"good": "1", "nested": value}))?;
        let sentence = refused.detail(422, "error", "reserved_key")?;
        holds(sentence.contains("'nested'"), || sentence)?;
    }
    let bare = format!(r#"{{"ip":"{ip}"}}"#);
    scene.get(&path)?.exactly(200, &bare)?;
    set(scene, &path, &json!({"good": "1", "odd": "no label!"}))?;
    let found = format!(r#"{{"ip":"{ip}","good":"1","odd":"no label!"}}"#);
    scene.get(&path)?.exactly(200, &found).map(drop)
}

fn json_invalid(scene: &Scene) -> Outcome {
    for body in ["{a}", "{not json", "{'a': 1}"] {
        let path = format!("{}/{}", scene.list(), scene.name("x"));
        let told = scene.ask("PATCH", &path, JSON, body)?.json(422)?;
        same("its keys", keys(&told), vec!["detail"])?;
        same("problems", told["detail"].as_array().map(Vec::len), Some(1))?;
        let problem = &told["detail"][0];
        let expected = vec!["type", "loc", "msg", "input", "ctx"];
        same("the keys of the problem", keys(problem), expected)?;
        same("type", &problem["type"], &json!("json_invalid"))?;
        same("loc", &problem["loc"], &json!(["body", 1]))?;
        same("msg", &problem["msg"], &json!("JSON decode error"))?;
        same("input", &problem["input"], &json!({}))?;
        same("the keys of ctx", keys(&problem["ctx"]), vec!["error"])?;
        let reason = problem["ctx"]["error"].as_str().unwrap_or_default();
        holds(!reason.is_empty(), || told.to_string())?;
    }
    Ok(())
}

fn content_types(scene: &Scene) -> Outcome {
    let (path, ip) = started(scene, "type")?;
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
        scene
            .ask("PATCH", &path, &headers, &body)?
            .exactly(200, SUCCESS)?;
        let found = format!(r#"{{"ip":"{ip}","n":"{number}"}}"#);
        scene.get(&path)?.exactly(200, &found)?;
    }
    let refused = r#"{"detail":[{"type":"dict_type","loc":["body"],"msg":"Input should be a valid dictionary","input":"{\"n\":\"x\"}"}]}"#;
    for headers in [
        &[("Content-Type", "text/plain")][..],
        &[("Content-Type", "application/x-www-form-urlencoded")],
        &[("Content-Type", "text/json")],
        &[],
    ] {
        let answer = scene.ask("PATCH", &path, headers, r#"{"n":"x"}"#)?;
        answer.exactly(422, refused)?;
    }
    Ok(())
}

fn null_removes(scene: &Scene) -> Outcome {
    let (path, ip) = started(scene, "null")?;
    let body = json!({"a": "1", "b": "no label!", "key with spaces": "x", "c": "3"});
    set(scene, &path, &body)?;
    let gone = json!({"a": null, "b": null, "key with spaces": null, "never": null});
    set(scene, &path, &gone)?;
    let found = format!(r#"{{"ip":"{ip}","c":"3"}}"#);
    scene.get(&path)?.exactly(200, &found).map(drop)
}

fn reads_back(scene: &Scene) -> Outcome {
    let name = scene.name("odd");
    let path = scene.path_of(scene.app_type(), &name);
    scene.start(&path)?;
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
    set(scene, &path, &odd)?;
    let found = scene.get(&path)?.json(200)?;
    let entry = scene.entry(scene.app_type(), &name)?;
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
        set(scene, &path, &json!({"mail": value}))?;
        let found = scene.get(&path)?.json(200)?;
        same("mail", &found["mail"], &json!(value))?;
    }
    Ok(())
}

/// The keys that PATCH may not set.
const RESERVED: [&str; 6] = ["ip", "addr", "name", "hostname", "errored", "start"];

fn reserved_keys(scene: &Scene) -> Outcome {
    let (path, ip) = started(scene, "reserved")?;
    for key in RESERVED {
        let refused = scene.patch(&path, &json!({"good": "1", key: "6.6.6.6"}))?;
        let sentence = refused.detail(422, "error", "reserved_key")?;
        holds(sentence.contains(&format!("'{key}'")), || sentence)?;
    }
    set(scene, &path, &json!({"sessionID": "s1"}))?;
    let found = format!(r#"{{"ip":"{ip}","sessionID":"s1"}}"#);
    scene.get(&path)?.exactly(200, &found).map(drop)
}

fn patch_then_get(scene: &Scene) -> Outcome {
    let (path, _) = started(scene, "seen")?;
    for round in 0..20 {
        let value = json!(format!("v{round}"));
        set(scene, &path, &json!({"username": &value}))?;
        let found = scene.get(&path)?.json(200)?;
        same("what GET says", &found["username"], &value)?;
    }
    set(scene, &path, &json!({}))?;
    let missing = scene.patch(&scene.path("missing"), &json!({"a": "b"}))?;
    missing.detail(404, "error", "not_found").map(drop)
}

fn patch_of_a_failed_pod(scene: &Scene) -> Outcome {
    let name = scene.name("failed");
    let failed = scene.path_of("failing", &name);
    // The Job's verdict may be seen before its pod is: the exit code tells that the pod is.
    soon("the end of the pod", || {
        let told = scene.get(&failed)?.json(202)?;
        same("the word", &told["status"], &json!("app_error"))?;
        same("the exit code", &told["exitCode"], &json!(1))
    })?;
    set(scene, &failed, &json!({"username": "bob"}))?;
    let entry = scene.entry("failing", &name)?;
    same("the label", &entry["username"], &json!("bob"))
}

/// So many PATCHes at once, each with a key of its own.
const AT_ONCE: usize = 20;

/// They are written one after the other, which takes longer than a PATCH waits by itself where the
/// API server is slow.
const IN_TURN: &[(&str, &str)] = &[JSON[0], PATIENT[0]];

/// Sends them, with `between` after each, and checks that all of them hold.
fn all_hold(scene: &Scene, path: &str, between: impl Fn(usize)) -> Outcome {
    let body = |n: usize| json!({format!("k{n}"): format!("v{n}")}).to_string();
    let asked: Outcome<Vec<_>> = (0..AT_ONCE)
        .map(|n| {
            let asked = scene.begin("PATCH", path, IN_TURN, &body(n));
            between(n);
            asked
        })
        .collect();
    for one in asked? {
        one.finish()?.exactly(200, SUCCESS)?;
    }
    let found = scene.get(path)?.json(200)?;
    for n in 0..AT_ONCE {
        let key = format!("k{n}");
        same(&key, &found[&key], &json!(format!("v{n}")))?;
    }
    Ok(())
}

fn concurrent_patches(scene: &Scene) -> Outcome {
    let (path, _) = started(scene, "both")?;
    all_hold(scene, &path, |_| ())
}

fn concurrent_changes(scene: &Scene) -> Outcome {
    let name = scene.name("both");
    let path = scene.path_of(scene.app_type(), &name);
    scene.start(&path)?;
    let job = format!("{}-{name}", scene.app_type());
    let pod = scene.kube().pod_of(&job).ok_or("there is no pod")?;
    let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
    all_hold(scene, &path, |n| {
        let change = json!({"metadata": {"annotations": {"example.org/n": n.to_string()}}});
        scene.kube().patch("pods", pod, &change);
    })
}

fn one_bad_value(scene: &Scene) -> Outcome {
    let (path, _) = started(scene, "bad")?;
    let long = "x".repeat(64);
    let body = json!({
        "connected": "true", "username": "bob@x.ch", "long": long, "number": 7, "flag": true,
    });
    set(scene, &path, &body)?;
    let found = scene.get(&path)?.json(200)?;
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

fn labels_replace_nothing(scene: &Scene) -> Outcome {
    let (path, ip) = started(scene, "mine")?;
    for (key, value) in [("ip", "6.6.6.6"), ("name", "other"), ("addr", "6.6.6.6")] {
        let refused = scene.patch(&path, &json!({key: value}))?;
        refused.detail(422, "error", "reserved_key")?;
        let bare = format!(r#"{{"ip":"{ip}"}}"#);
        scene.get(&path)?.exactly(200, &bare)?;
    }
    Ok(())
}

fn labels_by_hand(scene: &Scene) -> Outcome {
    let name = scene.name("mine");
    let path = scene.path_of(scene.app_type(), &name);
    let ip = scene.start(&path)?;
    let job = format!("{}-{name}", scene.app_type());
    let pod = scene.kube().pod_of(&job).ok_or("there is no pod")?;
    let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
    let by_hand = json!({"metadata": {"labels": {
        format!("{PREFIX}meta-ip"): "6.6.6.6",
        format!("{PREFIX}meta-name"): "other",
        format!("{PREFIX}meta-seen"): "yes",
    }}});
    scene.kube().patch("pods", pod, &by_hand);
    soon("the change is seen", || {
        let found = scene.get(&path)?.json(200)?;
        same("the change", &found["seen"], &json!("yes"))
    })?;
    let expected = format!(r#"{{"ip":"{ip}","seen":"yes"}}"#);
    scene.get(&path)?.exactly(200, &expected)?;
    let entry = scene.entry(scene.app_type(), &name)?;
    same("its address", &entry["ip"], &json!(ip))
}
