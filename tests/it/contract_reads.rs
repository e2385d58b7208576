//! Rows about what is read: `/info`, `/app`, and the lists of instances (part B sections 3.1 to 3.3).

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::environment::Need::{Edit, Objects, Types};
use super::fixture::{Fixture, NO_WAIT, Outcome, SUCCESS, exchange, holds, keys, same, soon};
use super::{Body, Row, ask, exchanges, fake, fixture};
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::dynamics::pod_script::PodScript;
use crate::fake_kube::dynamics::pods::PodMove;
use crate::harness::{
    NAMESPACE, PREFIX, TEMPLATE, TestEnvironment as Fake, apply_templates, eventually, name_of,
};

pub(super) const ROWS: &[Row] = &[
    fixture(
        "B3.1",
        "GET /info is {\"status\":\"UP\",\"hostname\":…,\"rev\":…}, and rev names config-controller",
        &[],
        info,
    ),
    fixture(
        "B3.2",
        "GET /app lists the `.yaml` keys of all ConfigMaps of the selector",
        &[Objects],
        types_are_those_of_the_config_maps,
    ),
    fake(
        "V1",
        "GET /app with the keys scim.yaml and zeta.yaml is [\"scim\",\"zeta\"]",
        two_keys,
    ),
    fixture(
        "B3.2-query",
        "query parameters of GET /app are ignored",
        &[],
        a_query_of_app_is_ignored,
    ),
    fake(
        "B3.2-error",
        "with Kubernetes away GET /app and the lists are arrays still, where 2.7.1 returns 500 as text",
        reads_without_kubernetes,
    ),
    fixture(
        "A10",
        "startable types once, sorted; a broken template stays listed, where 2.7.1 lists whatever keys there are",
        &[Types],
        types_are_sorted,
    ),
    fixture(
        "W12",
        "a ConfigMap without data harms nothing; 2.7.1 returns 500 to /app and /release, and 404 to starts",
        &[Types, Edit],
        a_config_map_without_data,
    ),
    fixture(
        "W15",
        "keys that are not .yaml are no types, and a type is listed once; 2.7.1 lists them verbatim and repeatedly",
        &[Types, Edit],
        odd_keys,
    ),
    fixture(
        "B3.3-entry",
        "an entry of a ready instance, byte for byte: its fields in order, start as a float, meta labels last",
        &[Objects],
        a_ready_entry,
    ),
    fixture(
        "V2",
        "the types of an entry: ip a string, errored false, start a float of seconds",
        &[],
        types_of_an_entry,
    ),
    fixture(
        "B3.3-pending",
        "an entry of an instance that is not ready, byte for byte: ip null, errored true, start the integer 0",
        &[Types],
        a_pending_entry,
    ),
    fixture(
        "B3.3-failed",
        "a failed instance is listed as errored",
        &[Types],
        a_failed_entry,
    ),
    fixture(
        "B3.3-meta",
        "meta labels are strings, and come after the fields of the instance",
        &[],
        meta_labels_are_strings,
    ),
    fixture(
        "B3.3-session",
        "sessionID is the name until it is set, and keeps its place",
        &[],
        session_id,
    ),
    exchanges(
        "B3.3-unknown",
        "an unknown type has no instances: [] and never 404",
        &[
            ask("GET", "/app/no-such-type", 200, Body::Exactly("[]")),
            ask("GET", "/api/no-such-type", 200, Body::Exactly("[]")),
            ask("GET", "/app/No%20such_type", 200, Body::Exactly("[]")),
        ],
    ),
    fixture(
        "B3.3-api",
        "GET /api/{type} is the same as GET /app/{type}",
        &[],
        api_is_app,
    ),
    fake(
        "A9",
        "one entry an instance, of its newest pod that is not terminating; 2.7.1 lists each pod",
        one_entry_an_instance,
    ),
    fake(
        "W8",
        "with several pods in a Job the newest decides, and labels are read from and written to it; 2.7.1 takes the first by name, which may be dead",
        the_newest_pod_decides,
    ),
    fixture(
        "W11",
        "an instance that is pending hides no other; 2.7.1 ends the list at the first one without conditions",
        &[Types],
        pending_hides_nothing,
    ),
    fixture(
        "W13",
        "a pod with our type label and no name label is no instance; 2.7.1 returns the list with 500",
        &[Edit],
        a_pod_without_a_name,
    ),
];

fn info(fixture: &Fixture) -> Outcome {
    let info = fixture.get("/info")?.json(200)?;
    same("its keys", keys(&info), vec!["status", "hostname", "rev"])?;
    same("its status", &info["status"], &json!("UP"))?;
    holds(info["hostname"].is_string(), || info.to_string())?;
    let rev = info["rev"].as_str().unwrap_or_default();
    holds(rev.starts_with("config-controller"), || rev.to_owned())
}

fn types_are_those_of_the_config_maps(fixture: &Fixture) -> Outcome {
    let label = format!("{PREFIX}template");
    let offered = || {
        let config_maps = fixture.kube().list("configmaps");
        let ours = config_maps
            .iter()
            .filter(|map| !map["metadata"]["labels"][&label].is_null());
        let data = ours.filter_map(|map| map["data"].as_object());
        let keys = data.flat_map(|data| data.keys());
        let types = keys.filter_map(|key| key.strip_suffix(".yaml"));
        types.map(str::to_owned).collect::<BTreeSet<String>>()
    };
    soon("both are the same", || {
        let expected = json!(offered()).to_string();
        fixture.get("/app")?.exactly(200, &expected).map(drop)
    })
}

fn two_keys() -> Outcome {
    let environment = Fake::new();
    let types = [("zeta", TEMPLATE), ("scim", TEMPLATE)];
    apply_templates(&environment.kube, "templates", &types, json!({}));
    soon("the ConfigMap is seen", || {
        let response = exchange(environment.address(0), "GET", "/app", &[], "")?;
        response.exactly(200, r#"["scim","zeta"]"#).map(drop)
    })
}

fn a_query_of_app_is_ignored(fixture: &Fixture) -> Outcome {
    soon("both are the same", || {
        let plain = fixture.get("/app")?.is(200)?;
        let asked = fixture.get("/app?type=x&x=%zz&&")?;
        asked.exactly(200, plain.text()).map(drop)
    })
}

fn reads_without_kubernetes() -> Outcome {
    let environment = Fake::new();
    let ip = environment.start_instance("/app/hello/ann");
    environment.kube.stop_listening();
    let read = |path: &str| exchange(environment.address(0), "GET", path, &[], "");
    read("/app")?.exactly(200, r#"["hello"]"#)?;
    let list = read("/app/hello")?.json(200)?;
    same("the list has it", &list[0]["ip"], &json!(ip))?;
    let found = format!(r#"{{"ip":"{ip}"}}"#);
    read("/app/hello/ann")?.exactly(200, &found)?;
    read("/info")?.is(200).map(drop)
}

fn types_are_sorted(fixture: &Fixture) -> Outcome {
    let types = fixture.get("/app")?.json(200)?;
    let types: Vec<&str> = types
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let sorted: BTreeSet<&str> = types.iter().copied().collect();
    same("sorted and unique", &types, &sorted.into_iter().collect())?;
    for (app_type, _) in super::types::TYPES {
        holds(types.contains(app_type), || format!("{app_type} is listed"))?;
    }
    let broken = fixture.get("/app/broken/x")?;
    broken.error(422, "template_invalid").map(drop)
}

/// Waits until the server has seen all ConfigMaps there are now.
fn config_maps_are_seen(fixture: &Fixture, mark: &str) -> Outcome {
    let data = json!({format!("{mark}.yaml"): TEMPLATE});
    fixture.kube().offer(mark, &data, &json!({}));
    soon("the new type is listed", || {
        let types = fixture.get("/app")?.json(200)?;
        let listed = types
            .as_array()
            .is_some_and(|types| types.contains(&json!(mark)));
        holds(listed, || types.to_string())
    })
}

fn a_config_map_without_data(fixture: &Fixture) -> Outcome {
    // It sorts before all others, which is where it does most harm.
    let (empty, mark) = (fixture.name("a-empty"), fixture.name("z-mark"));
    fixture.kube().offer(&empty, &Value::Null, &json!({}));
    let outcome = config_maps_are_seen(fixture, &mark)
        .and_then(|()| fixture.start(&fixture.path("beside-empty")))
        .and_then(|_| {
            let unused = format!("/release/{}", fixture.name("nobody"));
            fixture.get(&unused)?.detail(404, "Not found", "not_found")
        });
    for name in [&empty, &mark] {
        fixture.kube().delete("configmaps", name);
    }
    outcome.map(drop)
}

fn odd_keys(fixture: &Fixture) -> Outcome {
    let (odd, mark) = (fixture.name("odd"), fixture.name("z-mark"));
    let (text, yml) = (format!("{odd}.txt"), format!("{odd}-2.yml"));
    // The type that all use is offered a second time, too.
    let again = format!("{}.yaml", fixture.app_type());
    let data = json!({&text: "x", &yml: TEMPLATE, again: "spec: ["});
    fixture.kube().offer(&odd, &data, &json!({}));
    let outcome = config_maps_are_seen(fixture, &mark).and_then(|()| {
        let types = fixture.get("/app")?.json(200)?;
        let types = types.as_array().cloned().unwrap_or_default();
        let count = |name: &str| types.iter().filter(|listed| **listed == name).count();
        same("how often it is listed", count(fixture.app_type()), 1)?;
        for name in [odd.as_str(), &text, &yml, &format!("{odd}-2")] {
            same(name, count(name), 0)?;
        }
        fixture.start(&fixture.path("beside-odd"))
    });
    for name in [&odd, &mark] {
        fixture.kube().delete("configmaps", name);
    }
    outcome.map(drop)
}

fn a_ready_entry(fixture: &Fixture) -> Outcome {
    let (app_type, name) = (fixture.app_type(), fixture.name("entry"));
    let path = fixture.path_of(app_type, &name);
    let ip = fixture.start(&path)?;
    let body = json!({"username": "bob", "connected": "true"});
    fixture.patch(&path, &body)?.exactly(200, SUCCESS)?;
    let pod = fixture.kube().pod_of(&format!("{app_type}-{name}"));
    let pod = pod.ok_or("the instance has a pod")?;
    let started = pod["status"]["startTime"].as_str().unwrap_or_default();
    let started: jiff::Timestamp = started
        .parse()
        .map_err(|error| format!("{started:?}: {error}"))?;
    let expected = format!(
        r#"{{"ip":"{ip}","name":"{name}","sessionID":"{name}","hostname":"{name}","addr":"{ip}","errored":false,"start":{}.0,"connected":"true","username":"bob"}}"#,
        started.as_second()
    );
    let list = fixture.get(&fixture.list())?.is(200)?;
    holds(list.text().contains(&expected), || {
        format!("{expected} is in {}", list.text())
    })
}

fn types_of_an_entry(fixture: &Fixture) -> Outcome {
    let name = fixture.name("typed");
    let ip = fixture.start(&fixture.path_of(fixture.app_type(), &name))?;
    let entry = fixture.entry(fixture.app_type(), &name)?;
    let fields = [
        "ip",
        "name",
        "sessionID",
        "hostname",
        "addr",
        "errored",
        "start",
    ];
    same("its keys in order", keys(&entry), fields.to_vec())?;
    for (field, expected) in [
        ("ip", json!(ip)),
        ("addr", json!(ip)),
        ("name", json!(name)),
        ("sessionID", json!(name)),
        ("hostname", json!(name)),
        ("errored", json!(false)),
    ] {
        same(field, &entry[field], &expected)?;
    }
    // Not before 2020, and whole seconds.
    let start = entry["start"].as_f64().unwrap_or_default();
    let is_time = entry["start"].is_f64() && start > 1_577_836_800.0 && start.fract() == 0.0;
    holds(is_time, || entry.to_string())
}

fn a_pending_entry(fixture: &Fixture) -> Outcome {
    let name = fixture.name("pending");
    let path = fixture.path_of("unschedulable", &name);
    fixture.ask("GET", &path, NO_WAIT, "")?.is(202)?;
    let expected = format!(
        r#"{{"ip":null,"name":"{name}","sessionID":"{name}","hostname":"{name}","addr":null,"errored":true,"start":0}}"#
    );
    soon("it is listed", || {
        let list = fixture.get("/app/unschedulable")?.is(200)?;
        holds(list.text().contains(&expected), || list.text().to_owned())
    })?;
    let name = fixture.name("unready");
    let path = fixture.path_of("unready", &name);
    fixture.ask("GET", &path, NO_WAIT, "")?.is(202)?;
    soon("it is listed with its address", || {
        let entry = fixture.entry("unready", &name)?;
        same("it has an address", entry["ip"].is_string(), true)?;
        same("both are the same", &entry["ip"], &entry["addr"])?;
        same("it counts as errored", &entry["errored"], &json!(true))?;
        same("it is not ready", &entry["start"], &json!(0))
    })
}

fn a_failed_entry(fixture: &Fixture) -> Outcome {
    let name = fixture.name("failed");
    let path = fixture.path_of("failing", &name);
    soon("the failure report", || {
        let response = fixture.get(&path)?.json(202)?;
        same("status", &response["status"], &json!("app_error"))
    })?;
    let entry = fixture.entry("failing", &name)?;
    same("it is errored", &entry["errored"], &json!(true))?;
    same("it is not ready", &entry["start"], &json!(0))
}

fn meta_labels_are_strings(fixture: &Fixture) -> Outcome {
    let name = fixture.name("meta");
    let path = fixture.path_of(fixture.app_type(), &name);
    fixture.start(&path)?;
    let body = json!({"lastConnection": "1777629600000", "connected": "true"});
    fixture.patch(&path, &body)?.exactly(200, SUCCESS)?;
    let entry = fixture.entry(fixture.app_type(), &name)?;
    let expected = ["start", "connected", "lastConnection"];
    same("the last keys", &keys(&entry)[6..], &expected[..])?;
    same("a flag", &entry["connected"], &json!("true"))?;
    let last = &entry["lastConnection"];
    same("a number", last, &json!("1777629600000"))
}

fn session_id(fixture: &Fixture) -> Outcome {
    let name = fixture.name("session");
    let path = fixture.path_of(fixture.app_type(), &name);
    fixture.start(&path)?;
    let entry = fixture.entry(fixture.app_type(), &name)?;
    same("at first", &entry["sessionID"], &json!(name))?;
    let session = fixture.name("s");
    let body = json!({"sessionID": session});
    fixture.patch(&path, &body)?.exactly(200, SUCCESS)?;
    let entry = fixture.entry(fixture.app_type(), &name)?;
    same("once it is set", &entry["sessionID"], &json!(session))?;
    same("its place", keys(&entry)[2], "sessionID")?;
    same("nothing is added", keys(&entry).len(), 7)
}

fn api_is_app(fixture: &Fixture) -> Outcome {
    let name = fixture.name("api");
    fixture.start(&fixture.path_of(fixture.app_type(), &name))?;
    // Others may start and stop instances between the two.
    soon("both are the same", || {
        let app = fixture.get(&fixture.list())?.is(200)?;
        holds(app.text().contains(&name), || app.text().to_owned())?;
        let api = fixture.get(&format!("/api/{}", fixture.app_type()))?;
        api.exactly(200, app.text()).map(drop)
    })
}

/// An instance with a running pod and earlier pods that the kubelet evicted and that stay as
/// Failed. One of those is the first by name. Returns the address of the last evicted one.
fn dead_pods_first() -> (Fake, String) {
    let pod_script = PodScript {
        exit_on_stop: 143,
        ..PodScript::default()
    };
    let environment = Fake::builder().pod_script(pod_script).start();
    let mut before = environment.start_instance("/app/hello/ann");
    let evicted = PodMove::EvictByKubelet("The node was low on memory.".to_owned());
    // Names of pods are not in the order in which they were made.
    for _ in 0..20 {
        let old = environment.wait_pod("hello-ann");
        environment.move_pod("hello-ann", &evicted);
        let new = eventually("the next pod is ready", || {
            // A Job of 2.7.1 counts an eviction, and then waits.
            environment.advance(Duration::from_secs(1));
            let pod = environment.kube.pod_of(NAMESPACE, "hello-ann")?;
            let is_new = name_of(&pod) != old && pod["status"]["podIP"] != before.as_str();
            (is_new && pod["status"]["podIP"].is_string()).then_some(pod)
        });
        let pods = environment.kube.all(Resource::Pods, NAMESPACE);
        if pods.iter().any(|pod| name_of(pod) < name_of(&new)) {
            return (environment, before);
        }
        before = new["status"]["podIP"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
    }
    panic!("each new pod has a name before those of all others");
}

fn one_entry_an_instance() -> Outcome {
    let (environment, before) = dead_pods_first();
    let pods = environment.kube.all(Resource::Pods, NAMESPACE).len();
    same("several pods", pods > 1, true)?;
    soon("the newest pod is the one that is listed", || {
        let list = exchange(environment.address(0), "GET", "/app/hello", &[], "")?.json(200)?;
        same("entries", list.as_array().map(Vec::len), Some(1))?;
        same("it is ready", &list[0]["errored"], &json!(false))?;
        holds(list[0]["ip"] != before.as_str(), || list.to_string())
    })
}

fn the_newest_pod_decides() -> Outcome {
    let (environment, before) = dead_pods_first();
    let get = || exchange(environment.address(0), "GET", "/app/hello/ann", &[], "");
    let after = soon("the newest pod is ready", || {
        let found = get()?.json(200)?;
        holds(found["ip"] != before.as_str(), || found.to_string())?;
        Ok(found["ip"].clone())
    })?;
    let body = json!({"username": "bob"});
    let patched = environment.patch("/app/hello/ann", &body);
    same("the patch", patched.text.as_str(), SUCCESS)?;
    let expected = json!({"ip": after, "username": "bob"});
    get()?.exactly(200, &expected.to_string())?;
    let pod = environment.kube.pod_of("default", "hello-ann");
    let pod = pod.ok_or("there is a pod")?;
    same("the label is on that pod", &pod["status"]["podIP"], &after)?;
    let label = &pod["metadata"]["labels"][format!("{PREFIX}meta-username")];
    same("the label", label, &json!("bob"))
}

fn pending_hides_nothing(fixture: &Fixture) -> Outcome {
    let (pending, ready) = (fixture.name("a-pending"), fixture.name("b-ready"));
    let path = fixture.path_of("mixed", &pending);
    fixture
        .ask("GET", &format!("{path}?pending"), NO_WAIT, "")?
        .is(202)?;
    let ip = fixture.start(&fixture.path_of("mixed", &ready))?;
    let found = soon("the pending one is listed", || {
        fixture.entry("mixed", &pending)
    })?;
    same("it has no address", &found["ip"], &json!(null))?;
    let found = fixture.entry("mixed", &ready)?;
    same("the other is there", &found["ip"], &json!(ip))
}

fn a_pod_without_a_name(fixture: &Fixture) -> Outcome {
    let name = fixture.name("nameless");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {format!("{PREFIX}instance-type"): fixture.app_type()},
        },
        "spec": {
            "restartPolicy": "Never",
            "nodeSelector": {"example.org/nowhere": "true"},
            "containers": [{"name": "main", "image": "stand-in"}],
        },
    });
    fixture.kube().put("pods", &pod);
    // What comes after it is seen after it, too.
    let other = fixture.name("named");
    let outcome = fixture
        .start(&fixture.path_of(fixture.app_type(), &other))
        .and_then(|_| fixture.entry(fixture.app_type(), &other))
        .and_then(|_| fixture.entries(fixture.app_type()))
        .and_then(|entries| {
            let named = entries.iter().all(|entry| entry["name"].is_string());
            holds(named, || json!(entries).to_string())
        });
    fixture.kube().delete("pods", &name);
    outcome
}
