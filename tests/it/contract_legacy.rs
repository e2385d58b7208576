//! Rows about the routes of old clients: `/create` and `/release` (part B sections 3.7 and 3.8).

use std::time::Duration;

use serde_json::json;

use super::environment::Need::{Edit, Objects, Types};
use super::fixture::{
    Asked, Fixture, NO_WAIT, Outcome, SUCCESS, begin, exchange, holds, same, soon,
};
use super::http::MISSING_SESSION;
use super::{Body, Row, ask, exchanges, fake, fixture};
use crate::harness::TestEnvironment as Fake;

pub(super) const ROWS: &[Row] = &[
    exchanges(
        "B3.7-missing",
        "/create without sessionID is 422 missing, byte for byte",
        &[
            ask("GET", "/create/<type>", 422, MISSING),
            ask("GET", "/create/<type>?", 422, MISSING),
            ask(
                "GET",
                "/create/<type>?sessionid=a&x=sessionID",
                422,
                MISSING,
            ),
            ask("GET", "/create/no-such-type", 422, MISSING),
        ],
    ),
    exchanges(
        "B3.7-empty",
        "an empty sessionID is there, and is no name; in 2.7.1 it is 200 with an error text",
        &[
            ask(
                "GET",
                "/create/<type>?sessionID=",
                422,
                Body::Error("bad_name"),
            ),
            ask(
                "GET",
                "/create/<type>?sessionID",
                422,
                Body::Error("bad_name"),
            ),
        ],
    ),
    fixture(
        "B3.7-ok",
        "/create is 200 {\"hostname\":ip,\"addr\":ip} of the instance whose name is the sessionID",
        &[],
        create,
    ),
    fixture(
        "B3.7-variables",
        "all query parameters of /create are variables, sessionID among them",
        &[Types, Objects],
        create_variables,
    ),
    exchanges(
        "B3.7-error",
        "an error of /create has the status and the body of a GET's",
        &[
            ask(
                "GET",
                "/create/no-such-type?sessionID=<new>",
                404,
                Body::Error("unknown_type"),
            ),
            ask(
                "GET",
                "/create/<type>?sessionID=..",
                422,
                Body::Error("bad_name"),
            ),
            ask(
                "GET",
                "/create/<type>?sessionID=a%2Fb",
                422,
                Body::Error("bad_name"),
            ),
            ask(
                "GET",
                "/create/<type>?sessionID=keep?x",
                422,
                Body::Error("bad_name"),
            ),
        ],
    ),
    fake(
        "B3.7-408",
        "after 300 s /create is 408 {\"status\":\"Could not provision app\"}, and the instance is deleted",
        create_gives_up,
    ),
    fake(
        "B3.7-loop",
        "/create waits without asking Kubernetes again and again",
        create_waits_quietly,
    ),
    fixture(
        "A13",
        "/create is 502 start_failed when the failure report is in, and has A1's statuses, where 2.7.1 returns 200 for all",
        &[Types],
        create_reports_failures,
    ),
    fixture(
        "W19",
        "an error of /create is no address: not 200 with the error text as hostname and addr, as in 2.7.1",
        &[],
        errors_are_no_addresses,
    ),
    fixture(
        "V9",
        "/create without sessionID is 422, with it 200; /release by name and by the sessionID of PATCH",
        &[],
        create_and_release,
    ),
    fixture(
        "B3.8-name",
        "/release of a name stops that instance: 200 {\"status\":\"Success\"}",
        &[],
        release_by_name,
    ),
    fixture(
        "B3.8-session",
        "/release of a sessionID that PATCH has set stops that instance; an address is no name",
        &[],
        release_by_session,
    ),
    exchanges(
        "B3.8-none",
        "/release of what is not there is 404 with the words `Not found`",
        &[
            ask(
                "GET",
                "/release/<new>",
                404,
                Body::Detail("Not found", "not_found"),
            ),
            ask(
                "GET",
                "/release/10.1.2.3",
                404,
                Body::Detail("Not found", "not_found"),
            ),
        ],
    ),
    fixture(
        "B3.8-template-gone",
        "an instance whose template is gone can be released; in 2.7.1 it cannot",
        &[Edit],
        release_without_a_template,
    ),
];

const MISSING: Body = Body::Exactly(MISSING_SESSION);

/// The path of a /create, and of the instance that it makes.
fn creating(fixture: &Fixture, app_type: &str, stem: &str) -> (String, String, String) {
    let name = fixture.name(stem);
    let create = format!("/create/{app_type}?sessionID={name}");
    let path = fixture.path_of(app_type, &name);
    (name, create, path)
}

fn create(fixture: &Fixture) -> Outcome {
    let (name, create, path) = creating(fixture, fixture.app_type(), "create");
    let made = fixture.get(&create)?.is(200)?;
    let text = made.text().to_owned();
    let ip = made.json(200)?["addr"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let expected = format!(r#"{{"hostname":"{ip}","addr":"{ip}"}}"#);
    same("its body", text, expected.clone())?;
    let entry = fixture.entry(fixture.app_type(), &name)?;
    same("its address", &entry["ip"], &json!(ip))?;
    // Both routes find it again, with any labels.
    fixture.patch(&path, &json!({"username": "bob"}))?.is(200)?;
    fixture.get(&create)?.exactly(200, &expected)?;
    let found = fixture.get(&path)?.json(200)?;
    same("its address", &found["ip"], &json!(ip))
}

fn create_variables(fixture: &Fixture) -> Outcome {
    let (name, create, _) = creating(fixture, "vars", "create");
    fixture
        .get(&format!("{create}&X=a&X=b&E=&P=1+2"))?
        .is(200)?;
    let job = fixture.kube().get("jobs", &format!("vars-{name}"));
    let job = job.ok_or("there is no Job")?;
    let env = &job["spec"]["template"]["spec"]["containers"][0]["env"];
    for (variable, value) in [
        ("sessionID", name.as_str()),
        ("X", "b"),
        ("E", ""),
        ("P", "1 2"),
    ] {
        let pairs = env.as_array().into_iter().flatten();
        let own: Vec<&str> = pairs
            .filter(|pair| pair["name"] == variable)
            .map(|pair| pair["value"].as_str().unwrap_or_default())
            .collect();
        same(variable, own, vec![value])?;
    }
    Ok(())
}

/// A /create of an instance with a manually advanced pod.
fn waiting_create() -> Outcome<(Fake, Asked)> {
    let environment = Fake::by_hand();
    environment.count_from_here();
    let path = "/create/hello?sessionID=ann";
    let waiting = begin(environment.address(0), "GET", path, &[], "")?;
    environment.wait_pod("hello-ann");
    // Time is moved only when the service has seen the pod: without one the start budget is short.
    soon("its pod is seen", || {
        let response = exchange(environment.address(0), "GET", "/app/hello/ann", NO_WAIT, "")?;
        same("phase", &response.json(202)?["phase"], &json!("scheduling"))
    })?;
    Ok((environment, waiting))
}

/// Wakes the service, so that it looks at its clock.
fn wake(environment: &Fake) -> Outcome {
    let missing = exchange(
        environment.address(0),
        "DELETE",
        "/app/hello/nobody",
        &[],
        "",
    )?;
    missing.is(404).map(drop)
}

fn create_gives_up() -> Outcome {
    let (environment, waiting) = waiting_create()?;
    environment.advance(Duration::from_secs(299));
    wake(&environment)?;
    holds(!waiting.is_answered(), || "it waits for 300 s".to_owned())?;
    same("DELETEs", environment.kube.count("delete", "jobs"), 0)?;
    environment.advance(Duration::from_secs(2));
    soon("it is answered", || {
        wake(&environment)?;
        holds(waiting.is_answered(), || "it waits still".to_owned())
    })?;
    let response = waiting.finish()?;
    response.exactly(408, r#"{"status":"Could not provision app"}"#)?;
    soon("the instance is deleted", || {
        let going = environment.job("hello-ann");
        let going = going.is_none_or(|job| job["metadata"]["deletionTimestamp"].is_string());
        holds(going, || "the Job is there".to_owned())
    })
}

fn create_waits_quietly() -> Outcome {
    let (environment, waiting) = waiting_create()?;
    for _ in 0..30 {
        environment.advance(Duration::from_secs(1));
        wake(&environment)?;
    }
    holds(!waiting.is_answered(), || "it waits".to_owned())?;
    same("POSTs", environment.kube.count("create", "jobs"), 1)?;
    let all = environment.kube.requests();
    let more = all.iter().filter(|one| one.name.starts_with("hello-ann"));
    same("calls about it beside that", more.count(), 0)?;
    // A list of one object only asks for the version: the watches are compared with it.
    let lists = all
        .iter()
        .filter(|one| one.verb == "list" && one.name.is_empty() && one.limit != 1);
    same("lists", lists.count(), 0)?;
    environment.make_ready("hello-ann");
    waiting.finish()?.is(200).map(drop)
}

fn create_reports_failures(fixture: &Fixture) -> Outcome {
    for (app_type, status, code) in [
        ("failing", 502, "start_failed"),
        ("broken", 422, "template_invalid"),
        ("refused", 422, "template_invalid"),
        ("needy", 422, "variable_missing"),
        ("no-such-type", 404, "unknown_type"),
    ] {
        let (_, create, _) = creating(fixture, app_type, "create");
        fixture.get(&create)?.error(status, code)?;
    }
    let name = fixture.name("taken");
    fixture.start(&fixture.path_of("a", &format!("b-{name}")))?;
    let taken = fixture.get(&format!("/create/a-b?sessionID={name}"))?;
    taken.error(409, "name_taken").map(drop)
}

fn errors_are_no_addresses(fixture: &Fixture) -> Outcome {
    let (_, create, _) = creating(fixture, "no-such-type", "create");
    fixture.get(&create)?.error(404, "unknown_type")?;
    let response = fixture.get(&create)?.json(404)?;
    for field in ["hostname", "addr"] {
        holds(response[field].is_null(), || response.to_string())?;
    }
    Ok(())
}

/// Checks that an instance is on its way out, or gone.
fn is_released(fixture: &Fixture, app_type: &str, name: &str) -> Outcome {
    soon("it is gone", || {
        let listed = fixture.entry(app_type, name).is_ok();
        holds(!listed, || format!("{name} is listed"))
    })
}

fn create_and_release(fixture: &Fixture) -> Outcome {
    let (name, create, path) = creating(fixture, fixture.app_type(), "session");
    fixture
        .get(&format!("/create/{}", fixture.app_type()))?
        .exactly(422, MISSING_SESSION)?;
    fixture.get(&create)?.is(200)?;
    let session = fixture.name("sid");
    let body = json!({"sessionID": session});
    fixture.patch(&path, &body)?.exactly(200, SUCCESS)?;
    // Its sessionID is another now, and its name still is its name.
    fixture
        .get(&format!("/release/{name}"))?
        .exactly(200, SUCCESS)?;
    is_released(fixture, fixture.app_type(), &name)?;
    let (name, create, path) = creating(fixture, fixture.app_type(), "session");
    fixture.get(&create)?.is(200)?;
    fixture.patch(&path, &body)?.exactly(200, SUCCESS)?;
    fixture
        .get(&format!("/release/{session}"))?
        .exactly(200, SUCCESS)?;
    is_released(fixture, fixture.app_type(), &name)
}

fn release_by_name(fixture: &Fixture) -> Outcome {
    for (stem, in_path) in [("plain", "plain"), ("Not dns_", "Not%20dns_")] {
        let unique = fixture.name("r");
        let path = fixture.path_of(fixture.app_type(), &format!("{in_path}{unique}"));
        fixture.start(&path)?;
        let released = fixture.get(&format!("/release/{in_path}{unique}"))?;
        released.exactly(200, SUCCESS)?;
        is_released(fixture, fixture.app_type(), &format!("{stem}{unique}"))?;
    }
    Ok(())
}

fn release_by_session(fixture: &Fixture) -> Outcome {
    let name = fixture.name("by");
    let path = fixture.path_of(fixture.app_type(), &name);
    let ip = fixture.start(&path)?;
    let session = format!("{} with space@x", fixture.name("sid"));
    let body = json!({"sessionID": session});
    fixture.patch(&path, &body)?.exactly(200, SUCCESS)?;
    let by_address = fixture.get(&format!("/release/{ip}"))?;
    by_address.detail(404, "Not found", "not_found")?;
    let in_path = session.replace(' ', "%20");
    fixture
        .get(&format!("/release/{in_path}"))?
        .exactly(200, SUCCESS)?;
    is_released(fixture, fixture.app_type(), &name)
}

fn release_without_a_template(fixture: &Fixture) -> Outcome {
    let app_type = fixture.name("fleeting");
    let template = super::types::TYPES[0].1;
    let data = json!({format!("{app_type}.yaml"): template});
    fixture.kube().offer(&app_type, &data, &json!({}));
    let name = fixture.name("left");
    let path = fixture.path_of(&app_type, &name);
    let is_listed = || -> Outcome<bool> {
        let types = fixture.get("/app")?.json(200)?;
        Ok(types.to_string().contains(&app_type))
    };
    let outcome = soon("the type is offered", || {
        holds(is_listed()?, || "it is not listed".to_owned())
    })
    .and_then(|()| fixture.start(&path));
    fixture.kube().delete("configmaps", &app_type);
    outcome?;
    soon("the type is gone", || {
        holds(!is_listed()?, || "it is listed".to_owned())
    })?;
    fixture
        .get(&format!("/release/{name}"))?
        .exactly(200, SUCCESS)?;
    is_released(fixture, &app_type, &name)
}
