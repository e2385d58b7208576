//! Rows about starts that do not succeed, and errors of a GET.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::environment::Need::Types;
use super::fixture::{
    Fixture, JSON, LONG_WAIT, NO_WAIT, Outcome, Reply, SUCCESS, begin, begin_hello, exchange,
    get_hello, holds, keys, same, soon,
};
use super::{Row, fake, fixture};
use crate::fake_kube::dynamics::pod_script::{Exit, PodScript};
use crate::fake_kube::dynamics::pods::PodMove;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{Connection, PREFIX, TEMPLATE, TestEnvironment as Fake};
use crate::raw_kube::RawKube;

pub(super) const ROWS: &[Row] = &[
    fixture(
        "B3.4-app_error",
        "a container that ended with another code than 0 is 202 app_error, without waiting further",
        &[Types],
        app_error,
    ),
    fixture(
        "A1",
        "each error of a start has the status of its cause, where 2.7.1 returns 404 for all; always an object with status, msg and code",
        &[Types],
        statuses_of_errors,
    ),
    fake(
        "A1-403",
        "403 refused for a quota and for an admission webhook, with their own sentence",
        refused_by_kubernetes,
    ),
    fixture(
        "A3",
        "a 202 has phase, reason, msg and since beside the word, and for a container that ended its exitCode",
        &[Types],
        a_202_has_phase_reason_and_message,
    ),
    fake(
        "A3-log",
        "a container that ended is reported with its termination message",
        last_words,
    ),
    fixture(
        "W7",
        "a repeated failure report is delayed by 1 s and more; 2.7.1 returns it at once, 20 times a second",
        &[Types],
        a_failure_report_is_held,
    ),
    fixture(
        "W9",
        "a failing pull is reported with its reason, and in the end as app_error; 2.7.1 reports pulling_image for ever",
        &[Types],
        a_failing_pull,
    ),
    fixture(
        "W14",
        "a template without metadata, or whose labels are null, starts; 2.7.1 returns 404 `'labels'`",
        &[Types],
        templates_without_labels,
    ),
    fake(
        "A8",
        "a failed instance keeps its failure report for restart-delay and is then replaced; `restart-failed: never` keeps it until DELETE",
        failed_instances,
    ),
    fake(
        "W6",
        "a finished instance is replaced by the next GET; in 2.7.1 exit 0 is pulling_image for ever, and a failure app_error for ever",
        finished_instances,
    ),
    fake(
        "A17-409",
        "a request that waits for an instance that is stopped meanwhile gets 409 stopped",
        stopped_meanwhile,
    ),
    fake(
        "A17-429",
        "one waiting request more than the bound is 429 too_many_requests with Retry-After",
        too_many_wait,
    ),
    fake(
        "A17-limit",
        "a request that waits for an instance which a cap keeps from running, and which is stopped, gets 429 limit_reached with Retry-After",
        capped_and_stopped,
    ),
    fake(
        "A17-draining",
        "once the drain delay is over, every request is 503 draining with Retry-After, in the shape of its route",
        draining,
    ),
    fake(
        "A17-503",
        "before the first sync /app, lists and instances are 503 not_synced with Retry-After, never an empty array",
        before_the_first_sync,
    ),
    fake(
        "S5",
        "an error reveals nothing of the API server's headers, hosts and users; 2.7.1 shows them all",
        nothing_leaks,
    ),
];

/// Every response comes within this, unless it is held on purpose.
const AT_ONCE: Duration = Duration::from_secs(30);

fn app_error(fixture: &Fixture) -> Outcome {
    let path = fixture.path_of("failing", &fixture.name("bad"));
    let begun = Instant::now();
    let response = fixture.ask("GET", &path, &[("Prefer", "wait=120")], "")?;
    let response = response.json(202)?;
    same("status", &response["status"], &json!("app_error"))?;
    let took = begun.elapsed();
    holds(took < AT_ONCE, || format!("it took {took:?}"))
}

fn statuses_of_errors(fixture: &Fixture) -> Outcome {
    for (app_type, status, code) in [
        ("no-such-type", 404, "unknown_type"),
        ("broken", 422, "template_invalid"),
        ("python", 422, "template_invalid"),
        ("refused", 422, "template_invalid"),
        ("needy", 422, "variable_missing"),
    ] {
        let path = fixture.path_of(app_type, &fixture.name("wrong"));
        fixture.get(&path)?.error(status, code)?;
        let listed = fixture.entries(app_type)?;
        same("nothing is left of it", listed, Vec::new())?;
    }
    let name = fixture.name("taken");
    fixture.start(&fixture.path_of("a", &format!("b-{name}")))?;
    fixture
        .get(&format!("/app/a-b/{name}"))?
        .error(409, "name_taken")
        .map(drop)
}

fn refused_by_kubernetes() -> Outcome {
    let environment = Fake::new();
    for (fault, words) in [
        (
            Fault::Refused("exceeded quota: jobs, requested: count/jobs.batch=1".to_owned()),
            "exceeded quota: jobs, requested: count/jobs.batch=1",
        ),
        (
            Fault::Webhook("admission webhook \"w\" denied the request: no".to_owned()),
            "denied the request: no",
        ),
    ] {
        environment
            .kube
            .fault(FaultRule::new("create", "jobs", fault));
        let message = get_hello(&environment, &[("Prefer", "wait=1")])?.error(403, "refused")?;
        holds(message.contains(words), || message)?;
        environment.kube.clear_faults();
    }
    get_hello(&environment, LONG_WAIT)?.is(200).map(drop)
}

fn a_202_has_phase_reason_and_message(fixture: &Fixture) -> Outcome {
    let path = fixture.path_of("failing", &fixture.name("says"));
    // The Job's own failure report may be seen before the end of its pod; the next response has the latter.
    let response = soon("the end of the container", || {
        let response = fixture.get(&path)?.json(202)?;
        same("status", &response["status"], &json!("app_error"))?;
        same("the exit code", &response["exitCode"], &json!(1))?;
        Ok(response)
    })?;
    let expected = ["status", "phase", "reason", "msg", "since", "exitCode"];
    holds(keys(&response).starts_with(&expected), || {
        response.to_string()
    })?;
    same("the reason", &response["reason"], &json!("Error"))?;
    for field in ["phase", "msg"] {
        holds(response[field].is_string(), || response.to_string())?;
    }
    let since = response["since"].as_str().unwrap_or_default();
    let since = since.parse::<jiff::Timestamp>();
    holds(since.is_ok(), || response.to_string())?;
    let path = fixture.path_of("unschedulable", &fixture.name("says"));
    soon("the scheduler's sentence", || {
        let response = fixture.ask("GET", &path, NO_WAIT, "")?.json(202)?;
        same("the phase", &response["phase"], &json!("scheduling"))?;
        same("the reason", &response["reason"], &json!("Unschedulable"))?;
        let message = response["msg"].as_str().unwrap_or_default();
        holds(message.contains("nodes are available"), || {
            response.to_string()
        })
    })
}

fn exit(code: i64) -> Exit {
    Exit {
        after_ms: 0,
        code,
        reason: String::new(),
        message: "no licence".to_owned(),
    }
}

/// Pods that end with that code before they are ready.
fn exits(code: i64) -> PodScript {
    PodScript {
        exit: Some(exit(code)),
        never_ready: true,
        ..PodScript::default()
    }
}

fn last_words() -> Outcome {
    let environment = Fake::by_hand();
    let waiting = begin_hello(&environment)?;
    environment.move_pod("hello-ann", &PodMove::Run);
    // The container has ended, and the Job does not report it yet.
    environment.kube.set_auto(false);
    environment.move_pod("hello-ann", &PodMove::Exit(exit(7)));
    let response = waiting.finish()?.json(202)?;
    same("status", &response["status"], &json!("app_error"))?;
    same("the reason", &response["reason"], &json!("Error"))?;
    same("the exit code", &response["exitCode"], &json!(7))?;
    same("log", &response["log"], &json!("no licence"))
}

fn a_failure_report_is_held(fixture: &Fixture) -> Outcome {
    let path = fixture.path_of("failing", &fixture.name("held"));
    let ask = || fixture.ask("GET", &path, LONG_WAIT, "")?.json(202);
    let is_failure = |response: &Value| response["status"] == "app_error";
    soon("the failure report", || {
        let response = ask()?;
        holds(is_failure(&response), || response.to_string())
    })?;
    for _ in 0..2 {
        let begun = Instant::now();
        let response = ask()?;
        let took = begun.elapsed();
        holds(is_failure(&response), || response.to_string())?;
        let held = took >= Duration::from_secs(1);
        holds(held, || format!("it came again after {took:?}"))?;
        holds(took < AT_ONCE, || format!("it was held for {took:?}"))?;
    }
    Ok(())
}

fn a_failing_pull(fixture: &Fixture) -> Outcome {
    let path = fixture.path_of("unpullable", &fixture.name("pull"));
    let ask = || {
        fixture
            .ask("GET", &path, &[("Prefer", "wait=1")], "")?
            .json(202)
    };
    soon("the reason", || {
        let response = ask()?;
        same(
            "the reason",
            &response["reason"],
            &json!("ImagePullBackOff"),
        )?;
        let word = response["status"].as_str().unwrap_or_default();
        let known = ["pulling_image", "app_error"].contains(&word);
        holds(known, || response.to_string())
    })?;
    // A pull may still succeed for a while, which passes sooner where time can be moved.
    fixture.skip(Duration::from_secs(60));
    soon("the failure report", || {
        let response = ask()?;
        same("status", &response["status"], &json!("app_error"))?;
        same(
            "the reason",
            &response["reason"],
            &json!("ImagePullBackOff"),
        )
    })
}

fn templates_without_labels(fixture: &Fixture) -> Outcome {
    for app_type in ["ready", "bare"] {
        let name = fixture.name("bare");
        fixture.start(&fixture.path_of(app_type, &name))?;
        let entry = fixture.entry(app_type, &name)?;
        same("it is ready", &entry["errored"], &json!(false))?;
    }
    Ok(())
}

fn failed(environment: &Fake) -> Outcome {
    let response = get_hello(environment, LONG_WAIT)?.json(202)?;
    same("status", &response["status"], &json!("app_error"))
}

fn failed_instances() -> Outcome {
    let environment = Fake::builder().pod_script(exits(3)).start();
    failed(&environment)?;
    environment
        .kube
        .set_pod_script("hello-ann", PodScript::default());
    failed(&environment)?;
    same("POSTs so far", environment.kube.count("create", "jobs"), 1)?;
    environment.advance(Duration::from_secs(12));
    get_hello(&environment, LONG_WAIT)?.is(200)?;
    same("POSTs", environment.kube.count("create", "jobs"), 2)?;

    let kept = Fake::builder()
        .annotation("restart-failed", "never")
        .pod_script(exits(3))
        .start();
    failed(&kept)?;
    kept.kube.set_pod_script("hello-ann", PodScript::default());
    kept.advance(Duration::from_secs(3600));
    failed(&kept)?;
    let path = "/app/hello/ann";
    exchange(kept.address(0), "DELETE", path, &[], "")?.exactly(200, SUCCESS)?;
    get_hello(&kept, LONG_WAIT)?.is(200).map(drop)
}

fn finished_instances() -> Outcome {
    // Completed while a request waits: it is answered immediately.
    let environment = Fake::builder().pod_script(exits(0)).start();
    let response = get_hello(&environment, LONG_WAIT)?.json(202)?;
    same("status", &response["status"], &json!("app_error"))?;
    same("the reason", &response["reason"], &json!("Completed"))?;
    // Completed after a while: the next GET has a new one.
    let environment = Fake::new();
    let first = environment.start_instance("/app/hello/ann");
    environment.advance(Duration::from_secs(60));
    environment.move_pod("hello-ann", &PodMove::Exit(exit(0)));
    soon("its end is seen", || {
        let list = exchange(environment.address(0), "GET", "/app/hello", &[], "")?.json(200)?;
        same("errored", &list[0]["errored"], &json!(true))
    })?;
    let found = get_hello(&environment, LONG_WAIT)?.json(200)?;
    holds(found["ip"] != first.as_str(), || found.to_string())
}

fn stopped_meanwhile() -> Outcome {
    let environment = Fake::by_hand();
    let address = environment.address(0);
    let waiting = begin(address, "GET", "/app/hello/ann", LONG_WAIT, "")?;
    environment.wait_pod("hello-ann");
    soon("the instance is known", || {
        let response = get_hello(&environment, NO_WAIT)?.json(202)?;
        same("the phase", &response["phase"], &json!("scheduling"))
    })?;
    exchange(address, "DELETE", "/app/hello/ann", &[], "")?.exactly(200, SUCCESS)?;
    let message = waiting.finish()?.error(409, "stopped")?;
    holds(message.contains("retry"), || message)
}

fn too_many_wait() -> Outcome {
    let environment = Fake::builder()
        .pod_script(PodScript::by_hand())
        .setting("PARKED_PER_KEY_MAX", "1")
        .start();
    let waiting = begin_hello(&environment)?;
    environment.wait_pod("hello-ann");
    let refused = get_hello(&environment, &[])?.has("retry-after", "1")?;
    refused.error(429, "too_many_requests")?;
    environment.make_ready("hello-ann");
    waiting.finish()?.is(200).map(drop)
}

fn capped_and_stopped() -> Outcome {
    let environment = Fake::new();
    let admin = RawKube::plain(
        &environment.kube.url(),
        Some(&environment.kube.admin_token()),
    );
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "hello-ann"},
        "spec": {"suspend": true, "template": {
            "metadata": {"labels": {
                format!("{PREFIX}instance-name"): "ann",
                format!("{PREFIX}instance-type"): "hello",
            }},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "a"}]},
        }},
    });
    let made = admin.post("/apis/batch/v1/namespaces/default/jobs", &job);
    same("the Job is made", made.code, 201)?;
    soon("it is reported", || {
        let response = get_hello(&environment, NO_WAIT)?.json(202)?;
        same("the reason", &response["reason"], &json!("Suspended"))
    })?;
    let await_waiters = |count: usize| {
        soon("so many wait", || {
            let response = environment.get("/metrics").text;
            let wanted = format!("config_controller_waiting_requests {count}\n");
            holds(response.contains(&wanted), || response)
        })
    };
    // One that was answered just now may still be counted.
    await_waiters(0)?;
    let waiting = begin_hello(&environment)?;
    await_waiters(1)?;
    exchange(environment.address(0), "DELETE", "/app/hello/ann", &[], "")?.exactly(200, SUCCESS)?;
    let response = waiting.finish()?.has("retry-after", "1")?;
    response.error(429, "limit_reached")?;
    get_hello(&environment, LONG_WAIT)?.is(200).map(drop)
}

/// When a replica has ended at the latest; it ends when its last connection has.
const DRAIN: Duration = Duration::from_secs(60);

fn draining() -> Outcome {
    let mut environment = Fake::builder().pod_script(PodScript::by_hand()).start();
    let address = environment.address(0);
    let requests = [
        ("GET", "/app/hello/new"),
        ("GET", "/create/hello?sessionID=new"),
        ("PATCH", "/app/hello/new"),
        ("DELETE", "/app/hello/new"),
    ];
    // Connections that are open by then: no others are taken.
    let mut open = Vec::new();
    for (method, path) in requests {
        let mut connection = Connection::open(address).map_err(|error| error.to_string())?;
        let sent = connection.send("GET", "/info", &[], "");
        let response = sent.and_then(|()| connection.read(false));
        let status = response.map_err(|error| error.to_string())?.status;
        same("a response before", status, 200)?;
        open.push((method, path, connection));
    }
    let waiting = begin(address, "GET", "/app/hello/ann", LONG_WAIT, "")?;
    environment.wait_pod("hello-ann");
    let service = environment.take_service();
    let ending = std::thread::spawn(move || service.drain(Duration::ZERO, DRAIN));
    let response = waiting.finish()?.has("connection", "close")?.json(202)?;
    same("status", &response["status"], &json!("node_not_ready"))?;
    for (method, path, mut connection) in open {
        let body = if method == "PATCH" { "{}" } else { "" };
        let sent = connection.send(method, path, JSON, body);
        let response = sent.and_then(|()| connection.read(false));
        let response = response.map_err(|error| format!("{method} {path}: {error}"))?;
        let response = Reply::new(format!("{method} {path}"), response)?.has("retry-after", "1")?;
        match method {
            "GET" => response.error(503, "draining")?,
            _ => response.detail(503, "error", "draining")?,
        };
    }
    let ended = ending.join().map_err(|_| "the end panics")?;
    same("the end", ended, Ok(()))?;
    same(
        "instances",
        environment.jobs(),
        vec!["hello-ann".to_owned()],
    )
}

fn before_the_first_sync() -> Outcome {
    let mut environment = Fake::builder().unstarted().start();
    environment.kube.stop_listening();
    environment.add_replica();
    let address = environment.address(0);
    for path in [
        "/app",
        "/app/hello",
        "/api/hello",
        "/app/hello/ann",
        "/create/hello?sessionID=ann",
    ] {
        let refused = exchange(address, "GET", path, &[], "")?;
        refused.has("retry-after", "1")?.error(503, "not_synced")?;
    }
    for (method, path) in [
        ("DELETE", "/app/hello/ann"),
        ("PATCH", "/app/hello/ann"),
        ("GET", "/release/ann"),
    ] {
        let body = if method == "PATCH" { "{}" } else { "" };
        let refused = exchange(address, method, path, JSON, body)?;
        refused.detail(503, "error", "not_synced")?;
    }
    exchange(address, "GET", "/info", &[], "")?.is(200)?;
    environment.kube.start_listening();
    environment.wait_ready(0);
    get_hello(&environment, LONG_WAIT)?.is(200).map(drop)
}

fn nothing_leaks() -> Outcome {
    let refused_template = TEMPLATE.replace("Never", "Always");
    let environment = Fake::builder()
        .template("bad", &refused_template)
        // Longer than a call takes on a slow machine; otherwise there is nothing to report yet.
        .setting("START_WAIT", "3s")
        .start();
    let host = environment.kube.address().to_string();
    let port = environment.kube.address().port().to_string();
    let secrets = [
        host.as_str(),
        port.as_str(),
        "system:serviceaccount",
        "HTTPHeaderDict",
        "resourceVersion",
        "Audit-Id",
        "default-token",
    ];
    let ask = |path: &str| exchange(environment.address(0), "GET", path, &[], "");
    let mut replies = vec![ask("/app/bad/x")?, ask("/app/nope/x")?];
    environment
        .kube
        .fault(FaultRule::new("create", "jobs", Fault::Forbidden));
    replies.push(ask("/app/hello/a")?);
    environment.kube.clear_faults();
    environment
        .kube
        .fault(FaultRule::new("create", "jobs", Fault::Status(500)));
    replies.push(ask("/app/hello/b")?);
    environment.kube.clear_faults();
    environment.kube.stop_listening();
    replies.push(ask("/app/hello/c")?);
    for reply in replies {
        holds(reply.status() >= 400, || reply.text().to_owned())?;
        let leaked = secrets
            .iter()
            .find(|secret| reply.text().contains(**secret));
        holds(leaked.is_none(), || format!("{leaked:?}: {}", reply.text()))?;
    }
    Ok(())
}
