//! Rows about operation: many waiting requests, Kubernetes away, shutdown, the Role of
//! 2.7.1, and instances of 2.7.1.

use serde_json::{Value, json};

use super::environment::Need::{Edit, Objects, Types};
use super::fixture::{
    Fixture, JSON, LONG_WAIT, Outcome, Reply, SUCCESS, begin, exchange, holds, keys, same, soon,
};
use super::{Row, fake, fixture};
use crate::end_to_end::program::Program;
use crate::fake_kube::dynamics::pod_script::PodScript;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{Connection, PREFIX, TestEnvironment as Fake};
use crate::watch::ROLE_OF_THE_ORIGINAL;

pub(super) const ROWS: &[Row] = &[
    fake(
        "V10",
        "with Kubernetes away every response is JSON, and no connection is cut",
        kubernetes_away,
    ),
    fake(
        "W20",
        "DELETE, PATCH, lists, /app and /release are JSON for every response of Kubernetes; 2.7.1 returns 500 as text",
        kubernetes_unavailable,
    ),
    fixture(
        "V11",
        "while 200 requests wait, /info is answered before any of them",
        &[Types],
        two_hundred_wait,
    ),
    fixture(
        "W3",
        "60 waiting requests do not delay /info, lists and ready instances; in 2.7.1 40 of them occupy all threads",
        &[Types],
        sixty_wait,
    ),
    fake(
        "W22",
        "1,000 GETs of a ready instance make no call to Kubernetes; 2.7.1 makes three each, with new clients and pools",
        reads_cost_nothing,
    ),
    fake(
        "S6",
        "waiting requests and bodies are bounded: 429 and 413; 2.7.1 has no bounds",
        bounds,
    ),
    fixture(
        "V12",
        "an instance of 2.7.1 is listed, found again, labelled and deleted; ours has what 2.7.1 looks for",
        &[Types, Objects, Edit],
        upgrade_and_roll_back,
    ),
    fake(
        "V13",
        "on SIGTERM all waiting requests get their 202 as JSON, idle connections get their 5 s, and the program ends with 0",
        sigterm,
    ),
    fake(
        "V14",
        "everything works with the rights of 2.7.1's Role: nothing is refused but watches, and events and leases, which are used only where they may be",
        rights_of_the_original,
    ),
    fake(
        "A14",
        "without the right to watch it logs that once for each resource, and polls",
        polling_is_logged_once,
    ),
];

fn ask(environment: &Fake, method: &str, path: &str) -> Outcome<Reply> {
    let (headers, body) = match method {
        "PATCH" => (JSON, r#"{"k":"v"}"#),
        _ => (&[][..], ""),
    };
    exchange(environment.address(0), method, path, headers, body)
}

fn kubernetes_away() -> Outcome {
    let environment = Fake::new();
    let ip = environment.start_instance("/app/hello/ann");
    environment.kube.stop_listening();
    // One connection for all of it: none of these ends it.
    let mut connection =
        Connection::open(environment.address(0)).map_err(|error| error.to_string())?;
    for (method, path, status) in [
        ("GET", "/app", 200),
        ("GET", "/app/hello/ann", 200),
        ("GET", "/app/hello/new", 503),
        ("PATCH", "/app/hello/ann", 503),
        ("DELETE", "/app/hello/ann", 503),
        ("GET", "/release/ann", 503),
        ("GET", "/release/nobody", 404),
        ("GET", "/app/hello", 200),
        ("GET", "/info", 200),
    ] {
        let body = if method == "PATCH" {
            r#"{"k":"v"}"#
        } else {
            ""
        };
        let sent = connection.send(method, path, JSON, body);
        let response = sent.and_then(|()| connection.read(false));
        let response = response.map_err(|error| format!("{method} {path}: {error}"))?;
        Reply::new(format!("{method} {path}"), response)?.is(status)?;
    }
    ask(&environment, "GET", "/app/hello/new")?.error(503, "kubernetes_unavailable")?;
    ask(&environment, "PATCH", "/app/hello/ann")?.detail(503, "error", "kubernetes_unavailable")?;
    ask(&environment, "DELETE", "/app/hello/ann")?.detail(
        503,
        "error",
        "kubernetes_unavailable",
    )?;
    ask(&environment, "GET", "/release/ann")?.detail(503, "error", "kubernetes_unavailable")?;
    let create = ask(&environment, "GET", "/create/hello?sessionID=new")?;
    create.error(503, "kubernetes_unavailable")?;
    let found = format!(r#"{{"ip":"{ip}"}}"#);
    ask(&environment, "GET", "/app/hello/ann")?.exactly(200, &found)?;
    environment.kube.start_listening();
    soon("all is well again", || {
        ask(&environment, "DELETE", "/app/hello/ann")?
            .is(200)
            .map(drop)
    })
}

fn kubernetes_unavailable() -> Outcome {
    for fault in [Fault::Status(500), Fault::Forbidden, Fault::Unauthorized] {
        let environment = Fake::builder().setting("START_WAIT", "300ms").start();
        exchange(
            environment.address(0),
            "GET",
            "/app/hello/ann",
            LONG_WAIT,
            "",
        )?
        .is(200)?;
        for verb in ["create", "patch", "delete", "list"] {
            environment
                .kube
                .fault(FaultRule::new(verb, "*", fault.clone()));
        }
        for (method, path) in [
            ("PATCH", "/app/hello/ann"),
            ("DELETE", "/app/hello/ann"),
            ("GET", "/release/ann"),
        ] {
            let response = ask(&environment, method, path)?;
            holds([500, 503].contains(&response.status()), || {
                response.text().to_owned()
            })?;
            let status = response.status();
            let detail = response.json(status)?;
            same("it is wrapped", keys(&detail), vec!["detail"])?;
            let word = &detail["detail"]["status"];
            same("its word", word, &json!("error"))?;
        }
        for path in ["/app", "/app/hello"] {
            let list = ask(&environment, "GET", path)?.json(200)?;
            holds(list.is_array(), || list.to_string())?;
        }
    }
    Ok(())
}

/// Asks for the longest wait there is: a slow machine takes a minute for what is done meanwhile.
const LONGEST_WAIT: &[(&str, &str)] = &[("Prefer", "wait=300")];

/// Lets so many wait for so many names, and asks for other things meanwhile.
fn crowd(fixture: &Fixture, waiting: usize, names: usize) -> Outcome {
    let beside = fixture.path("beside");
    fixture.start(&beside)?;
    let names: Vec<String> = (0..names).map(|_| fixture.name("crowd")).collect();
    let asked: Outcome<Vec<_>> = (0..waiting)
        .map(|number| {
            let path = fixture.path_of("unready", &names[number % names.len()]);
            fixture.begin("GET", &path, LONGEST_WAIT, "")
        })
        .collect();
    let asked = asked?;
    for name in &names {
        soon("it is being started", || fixture.entry("unready", name))?;
    }
    for _ in 0..50 {
        fixture.get("/info")?.is(200)?;
        fixture.get(&fixture.list())?.is(200)?;
        fixture.get(&beside)?.is(200)?;
    }
    // Served in turn, these would have been answered by now.
    let early = asked.iter().filter(|one| one.is_answered()).count();
    same("how many were answered before that", early, 0)
}

fn two_hundred_wait(fixture: &Fixture) -> Outcome {
    crowd(fixture, 200, 10)
}

fn sixty_wait(fixture: &Fixture) -> Outcome {
    // A name for each caller: two callers of one name are another row (W4).
    crowd(fixture, 60, 60)
}

fn reads_cost_nothing() -> Outcome {
    let environment = Fake::new();
    environment.start_instance("/app/hello/ann");
    environment.count_from_here();
    for _ in 0..1000 {
        ask(&environment, "GET", "/app/hello/ann")?.is(200)?;
    }
    for path in ["/app", "/app/hello", "/api/hello", "/info"] {
        ask(&environment, "GET", path)?.is(200)?;
    }
    same("calls", environment.kube.count("*", "*"), 0)
}

fn bounds() -> Outcome {
    let environment = Fake::builder()
        .pod_script(PodScript::by_hand())
        .setting("PARKED_MAX", "2")
        .setting("CALLER_SHARE_MAX", "100")
        .setting("BODY_BYTES_MAX", "100")
        .start();
    let address = environment.address(0);
    let mut waiting = Vec::new();
    for name in ["a", "b"] {
        let path = format!("/app/hello/{name}");
        waiting.push(begin(address, "GET", &path, LONG_WAIT, "")?);
        environment.wait_pod(&format!("hello-{name}"));
    }
    let refused = ask(&environment, "GET", "/app/hello/c")?;
    refused
        .has("retry-after", "1")?
        .error(429, "too_many_requests")?;
    let body = format!(r#"{{"k":"{}"}}"#, "v".repeat(100));
    let refused = exchange(address, "PATCH", "/app/hello/a", JSON, &body)?;
    refused.error(413, "body_too_large")?;
    for name in ["a", "b"] {
        environment.make_ready(&format!("hello-{name}"));
    }
    for one in waiting {
        one.finish()?.is(200)?;
    }
    Ok(())
}

/// A Job as 2.7.1 makes it: no metadata of this service on the Job, two labels on the pod template.
fn job_of_the_original(app_type: &str, name: &str) -> Value {
    let template: Value = serde_yaml::from_str(super::types::TYPES[0].1).expect("it is YAML");
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": format!("{app_type}-{name}")},
        "spec": {"template": {
            "metadata": {"labels": {
                format!("{PREFIX}instance-name"): name,
                format!("{PREFIX}instance-type"): app_type,
            }},
            "spec": template["spec"],
        }},
    })
}

fn upgrade_and_roll_back(fixture: &Fixture) -> Outcome {
    let (app_type, name) = (fixture.app_type(), fixture.name("old"));
    let path = fixture.path_of(app_type, &name);
    let job_name = format!("{app_type}-{name}");
    fixture
        .kube()
        .put("jobs", &job_of_the_original(app_type, &name));
    let ip = soon("it is listed", || {
        let entry = fixture.entry(app_type, &name)?;
        same("errored", &entry["errored"], &json!(false))?;
        Ok(entry["ip"].clone())
    })?;
    let uid = |fixture: &Fixture| {
        fixture
            .kube()
            .get("jobs", &job_name)
            .map(|job| job["metadata"]["uid"].clone())
    };
    let before = uid(fixture);
    let bare = json!({"ip": ip}).to_string();
    fixture.get(&path)?.exactly(200, &bare)?;
    same("no new Job is made", uid(fixture), before)?;
    let body = json!({"username": "bob"});
    fixture.patch(&path, &body)?.exactly(200, SUCCESS)?;
    let found = json!({"ip": ip, "username": "bob"}).to_string();
    fixture.get(&path)?.exactly(200, &found)?;
    fixture.delete(&path)?.exactly(200, SUCCESS)?;
    soon("it is gone", || same("the Job", uid(fixture), None))?;

    // The reverse: 2.7.1 finds pods by job-name and by instance-type, and reads these labels.
    let name = fixture.name("new");
    let path = fixture.path_of(app_type, &name);
    fixture.start(&path)?;
    fixture.patch(&path, &body)?.exactly(200, SUCCESS)?;
    let pod = fixture.kube().pod_of(&format!("{app_type}-{name}"));
    let pod = pod.ok_or("there is no pod with that job-name")?;
    let labels = &pod["metadata"]["labels"];
    for (key, value) in [
        ("instance-type", app_type),
        ("instance-name", &name),
        ("meta-username", "bob"),
    ] {
        let found = &labels[format!("{PREFIX}{key}")];
        same(key, found, &json!(value))?;
    }
    Ok(())
}

/// Requests that wait when SIGTERM arrives.
const PARKED: usize = 40;

fn sigterm() -> Outcome {
    let environment = Fake::builder()
        .pod_script(PodScript::by_hand())
        .unstarted()
        .start();
    let settings = [
        ("START_WAIT", "300s"),
        ("DRAIN_DELAY", "1s"),
        ("DRAIN", "60s"),
    ];
    let mut program = Program::start_ready(&environment.kubeconfig(), &settings);
    let address = program.address();
    let asked: Outcome<Vec<_>> = (0..PARKED)
        .map(|number| begin(address, "GET", &format!("/app/hello/n{number}"), &[], ""))
        .collect();
    let asked = asked?;
    // A request waits before its Job is made, so the Jobs show it.
    soon("all wait", || {
        same("Jobs", environment.jobs().len(), PARKED)
    })?;
    program.terminate();
    for one in asked {
        let response = one.finish()?.has("connection", "close")?.json(202)?;
        same("status", &response["status"], &json!("node_not_ready"))?;
    }
    let status = program.ended();
    same("the exit code", status.code(), Some(0))?;
    same("instances go on", environment.jobs().len(), PARKED)
}

/// Starts, labels, lists and stops an instance.
fn whole_life(ask: impl Fn(&str, &str) -> Outcome<Reply>) -> Outcome {
    let found = soon("it is ready", || ask("GET", "/app/hello/ann")?.json(200))?;
    ask("PATCH", "/app/hello/ann")?.exactly(200, SUCCESS)?;
    let labelled = json!({"ip": found["ip"], "k": "v"}).to_string();
    ask("GET", "/app/hello/ann")?.exactly(200, &labelled)?;
    ask("GET", "/app")?.exactly(200, r#"["hello"]"#)?;
    let list = ask("GET", "/app/hello")?.json(200)?;
    same("the list", &list[0]["name"], &json!("ann"))?;
    ask("DELETE", "/app/hello/ann")?.exactly(200, SUCCESS)?;
    soon("it is gone", || {
        ask("GET", "/app/hello")?.exactly(200, "[]").map(drop)
    })?;
    ask("GET", "/create/hello?sessionID=bob")?.is(200)?;
    ask("GET", "/release/bob")?.exactly(200, SUCCESS).map(drop)
}

fn rights_of_the_original() -> Outcome {
    let environment = Fake::builder()
        .role(ROLE_OF_THE_ORIGINAL)
        .setting("POLL", "50ms")
        .start();
    whole_life(|method, path| ask(&environment, method, path))?;
    let requests = environment.kube.requests();
    let refused = requests.iter().filter(|one| one.code == 403);
    // Whether pods may be tried is found out by trying.
    let refused = refused.filter(|one| one.verb != "dry-run");
    let mut others = refused
        .filter(|one| one.verb != "watch" && !matches!(one.resource.as_str(), "events" | "leases"));
    same(
        "refused beside watches",
        others.next().map(|one| format!("{one:?}")),
        None,
    )
}

fn polling_is_logged_once() -> Outcome {
    let environment = Fake::builder()
        .role(ROLE_OF_THE_ORIGINAL)
        .unstarted()
        .start();
    let settings = [("POLL", "50ms")];
    let program = Program::start_ready(&environment.kubeconfig(), &settings);
    whole_life(|method, path| {
        let (headers, body) = match method {
            "PATCH" => (JSON, r#"{"k":"v"}"#),
            _ => (&[][..], ""),
        };
        exchange(program.address(), method, path, headers, body)
    })?;
    // Far longer than POLL: a line for each poll would have appeared again.
    soon("Jobs are listed again and again", || {
        let lists = environment.kube.count("list", "jobs");
        holds(lists > 40, || format!("{lists} lists"))
    })?;
    for (resource, expected) in [("jobs", 1), ("configmaps", 1), ("pods", 0)] {
        let logged = program.count_log(&format!("listing {resource} every"));
        same(resource, logged, expected)?;
    }
    Ok(())
}
