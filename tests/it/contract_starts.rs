//! Rows about GET of an instance that can be started (part B section 3.4).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::environment::Need::{Objects, Types};
use super::fixture::{
    Fixture, LONG_WAIT, NO_WAIT, Outcome, SUCCESS, begin_hello, exchange, get_hello, holds, keys,
    same, soon,
};
use super::{Body, Row, ask, exchanges, fake, fixture};
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::dynamics::pod_script::PodScript;
use crate::harness::{NAMESPACE, TestEnvironment as Fake};

pub(super) const ROWS: &[Row] = &[
    fixture(
        "B3.4-once",
        "whatever there is of an instance, a GET makes no second one",
        &[Objects],
        one_job,
    ),
    fixture(
        "B3.4-ready",
        "ready is 200 {\"ip\":…} and nothing but ip and meta labels, without a wait",
        &[],
        ready,
    ),
    fixture(
        "V3",
        "the query is form-decoded, all of it is variables: + is a space, empty values stay, the last duplicate wins",
        &[Types, Objects],
        variables,
    ),
    fixture(
        "B3.4-node_not_ready",
        "nothing scheduled yet is 202 node_not_ready, at the end of the wait",
        &[Types],
        node_not_ready,
    ),
    fixture(
        "B3.4-pulling_image",
        "scheduled and not ready is 202 pulling_image, at the end of the wait",
        &[Types],
        pulling_image,
    ),
    fixture(
        "V4",
        "a GET that cannot be answered takes 10 s, for node_not_ready and for pulling_image",
        &[Types],
        a_long_poll_takes_ten_seconds,
    ),
    exchanges(
        "B3.4-error",
        "an error is {\"status\":\"error\",\"msg\":…} at top level, with a code",
        &[
            ask(
                "GET",
                "/app/no-such-type/<new>",
                404,
                Body::Error("unknown_type"),
            ),
            ask(
                "GET",
                "/app/no-such-type/<new>?a=1&a=2",
                404,
                Body::Error("unknown_type"),
            ),
        ],
    ),
    fixture(
        "B3.4-hang-up",
        "a caller that hangs up leaves its start behind",
        &[Objects],
        hang_up,
    ),
    fixture(
        "A4",
        "any name without / and control characters works in GET, lists, PATCH and DELETE; 2.7.1 refuses what is not DNS-1123",
        &[],
        any_name,
    ),
    fixture(
        "W1",
        "a 24-character base64 session id of Keycloak starts an instance; in 2.7.1 each such name is 404",
        &[],
        session_names,
    ),
    fixture(
        "W4",
        "two GETs at once get the same instance; in 2.7.1 the second is 404 for the 409 of its own POST",
        &[],
        two_at_once,
    ),
    fake(
        "W4-at-once",
        "two GETs before there is a pod are both answered with it; 2.7.1 returns the second at once with the 409 as 404",
        two_before_the_pod,
    ),
    fake(
        "W5",
        "a GET after the first 10 s without a pod is 202 again; in 2.7.1 it creates again and is 404",
        polls_without_a_pod,
    ),
    fake(
        "W2",
        "a Job without pods is starting, is listed and can be deleted; in 2.7.1 GET and DELETE are 404 for ever",
        a_job_without_pods,
    ),
    fake(
        "W10",
        "the address of a terminating pod is never returned; 2.7.1 counts dying pods and DELETED events",
        dying_pods_do_not_count,
    ),
    fake(
        "A7",
        "a start during a stop waits until that Job is gone, and makes a new one; 2.7.1 returns 404",
        start_during_a_stop,
    ),
    fixture(
        "W16",
        "type `a`, name `b-c` and type `a-b`, name `c` do not meet: 409 name_taken; in 2.7.1 they share a Job",
        &[Types],
        two_pairs_one_job_name,
    ),
    fake(
        "A16",
        "Prefer: wait=N sets how long a GET waits, up to a cap",
        prefer_wait,
    ),
];

/// The Job of an instance with a name that is a valid part of a Job name.
fn job_uid(fixture: &Fixture, name: &str) -> Outcome<Value> {
    let job = format!("{}-{name}", fixture.app_type());
    let job = fixture.kube().get("jobs", &job);
    Ok(job.ok_or("there is no Job")?["metadata"]["uid"].clone())
}

fn one_job(fixture: &Fixture) -> Outcome {
    let name = fixture.name("once");
    let path = fixture.path_of(fixture.app_type(), &name);
    let first = fixture.start(&path)?;
    let uid = job_uid(fixture, &name)?;
    for _ in 0..3 {
        let again = fixture.get(&path)?.json(200)?;
        same("its address", &again["ip"], &json!(first))?;
    }
    same("its Job", job_uid(fixture, &name)?, uid)
}

fn ready(fixture: &Fixture) -> Outcome {
    let path = fixture.path("ready");
    let ip = fixture.start(&path)?;
    let bare = format!(r#"{{"ip":"{ip}"}}"#);
    fixture.get(&path)?.exactly(200, &bare)?;
    // A caller that does not wait gets it, too.
    fixture
        .ask("GET", &path, NO_WAIT, "")?
        .exactly(200, &bare)?;
    let body = json!({"username": "bob"});
    fixture.patch(&path, &body)?.exactly(200, SUCCESS)?;
    let found = format!(r#"{{"ip":"{ip}","username":"bob"}}"#);
    fixture
        .get(&format!("{path}?utcOffset=120&"))?
        .exactly(200, &found)?;
    Ok(())
}

fn variables(fixture: &Fixture) -> Outcome {
    let name = fixture.name("vars");
    let path = fixture.path_of("vars", &name);
    let query = "utcOffset=120&X=a&X=b&E=&PLUS=1+2&ENC=%2B%26%3D%C3%A4&FLAG&";
    fixture.start(&format!("{path}?{query}"))?;
    let job = fixture.kube().get("jobs", &format!("vars-{name}"));
    let job = job.ok_or("there is no Job")?;
    let env = &job["spec"]["template"]["spec"]["containers"][0]["env"];
    let expected = [
        ("FIXED", "fixed"),
        ("utcOffset", "120"),
        ("X", "b"),
        ("E", ""),
        ("PLUS", "1 2"),
        ("ENC", "+&=ä"),
        ("FLAG", ""),
    ];
    let pairs = env.as_array().into_iter().flatten().map(|pair| {
        let text = |key: &str| pair[key].as_str().unwrap_or_default().to_owned();
        (text("name"), text("value"))
    });
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    same(
        "the variables",
        pairs.collect::<Vec<_>>(),
        expected.to_vec(),
    )
}

/// Waits for a second without success, and gets this word.
fn waits_until_the_deadline(
    fixture: &Fixture,
    app_type: &str,
    word: &str,
    phases: &[&str],
) -> Outcome {
    let path = fixture.path_of(app_type, &fixture.name("vain"));
    soon("the pod has come so far", || {
        let begun = Instant::now();
        let response = fixture.ask("GET", &path, &[("Prefer", "wait=1")], "")?;
        let body = response.json(202)?;
        holds(begun.elapsed() >= Duration::from_secs(1), || {
            format!("answered after {:?}: {body}", begun.elapsed())
        })?;
        same("status", &body["status"], &json!(word))?;
        let phase = body["phase"].as_str().unwrap_or_default();
        holds(phases.contains(&phase), || body.to_string())?;
        let begins = ["status", "phase", "reason", "msg"];
        holds(keys(&body).starts_with(&begins), || body.to_string())
    })
}

fn node_not_ready(fixture: &Fixture) -> Outcome {
    waits_until_the_deadline(fixture, "unschedulable", "node_not_ready", &["scheduling"])
}

fn pulling_image(fixture: &Fixture) -> Outcome {
    waits_until_the_deadline(fixture, "unready", "pulling_image", &["readying"])
}

/// Less than a busy machine needs; more than the client's own 300 s it must never be.
const LONG_POLL_MAX: Duration = Duration::from_secs(60);

fn a_long_poll_takes_ten_seconds(fixture: &Fixture) -> Outcome {
    let words = [
        ("unschedulable", "node_not_ready"),
        ("unready", "pulling_image"),
    ];
    let begun = Instant::now();
    let mut asked = Vec::new();
    for (app_type, word) in words {
        let path = fixture.path_of(app_type, &fixture.name("poll"));
        asked.push((fixture.begin("GET", &path, &[], "")?, word));
    }
    for (one, word) in asked {
        let response = one.finish()?.json(202)?;
        let took = begun.elapsed();
        same("status", &response["status"], &json!(word))?;
        let in_time = took >= Duration::from_secs(9) && took < LONG_POLL_MAX;
        holds(in_time, || format!("{word} took {took:?}"))?;
    }
    Ok(())
}

fn hang_up(fixture: &Fixture) -> Outcome {
    let name = fixture.name("gone");
    let path = fixture.path_of(fixture.app_type(), &name);
    drop(fixture.begin("GET", &path, &[], "")?);
    soon("the Job is made all the same", || job_uid(fixture, &name))?;
    soon("it becomes ready", || {
        let entry = fixture.entry(fixture.app_type(), &name)?;
        same("errored", &entry["errored"], &json!(false))
    })
}

/// Starts, labels, lists and stops an instance by this name, given as it is and as in a path.
fn lives(fixture: &Fixture, name: &str, segment: &str) -> Outcome {
    let app_type = fixture.app_type();
    let path = fixture.path_of(app_type, segment);
    let ip = fixture.start(&path)?;
    let body = json!({"username": "bob"});
    fixture.patch(&path, &body)?.exactly(200, SUCCESS)?;
    let found = json!({"ip": ip, "username": "bob"}).to_string();
    fixture.get(&path)?.exactly(200, &found)?;
    let entry = fixture.entry(app_type, name)?;
    for field in ["name", "sessionID", "hostname"] {
        same(field, &entry[field], &json!(name))?;
    }
    fixture.delete(&path)?.exactly(200, SUCCESS)?;
    soon("it is gone", || {
        let listed = fixture.entry(app_type, name).is_ok();
        holds(!listed, || format!("{name} is still listed"))
    })
}

fn any_name(fixture: &Fixture) -> Outcome {
    let unique = fixture.name("n");
    let long = "n".repeat(253 - unique.len());
    // What stands before and after it, as it is; and what stands before it in a path.
    for (before, after, in_path) in [
        ("Abc_9-XY", "", "Abc_9-XY"),
        ("-leading.and", "trailing_", "-leading.and"),
        ("with space", "", "with%20space"),
        ("Zürich", "", "Z%C3%BCrich"),
        ("a,b=c!", "", "a,b=c!"),
        ("dots.in.it", "", "dots.in.it"),
        ("", long.as_str(), ""),
    ] {
        let name = format!("{before}{unique}{after}");
        lives(fixture, &name, &format!("{in_path}{unique}{after}"))?;
    }
    Ok(())
}

fn session_names(fixture: &Fixture) -> Outcome {
    // 24 characters as Keycloak 26.5 makes them, some with an end that is no label value.
    for stem in ["kS3xJ_-0dQwEr7", "_Zy9-AbCdEfGh1", "-0aB1cD2eF3gH4"] {
        let unique = fixture.name("S");
        let sid = format!("{stem}{unique}");
        lives(fixture, &sid, &sid)?;
    }
    Ok(())
}

fn two_at_once(fixture: &Fixture) -> Outcome {
    let name = fixture.name("twice");
    let path = fixture.path_of(fixture.app_type(), &name);
    let asked: Outcome<Vec<_>> = (0..2)
        .map(|_| fixture.begin("GET", &path, LONG_WAIT, ""))
        .collect();
    let mut found = Vec::new();
    for one in asked? {
        found.push(one.finish()?.json(200)?["ip"].clone());
    }
    same("both get the same", &found[0], &found[1])?;
    let entry = fixture.entry(fixture.app_type(), &name)?;
    same("which is that of the only one", &entry["ip"], &found[0])
}

fn two_before_the_pod() -> Outcome {
    let environment = Fake::new();
    environment.kube.set_auto(false);
    let ask = || begin_hello(&environment);
    let first = ask()?;
    environment.wait_job("hello-ann");
    let second = ask()?;
    // Only when the second has been looked at may there be a pod.
    soon("the Job is asked for a second time, or both wait", || {
        let tried = environment.kube.count("create", "jobs") > 1;
        let waiting = environment.get("/metrics").text;
        let both = waiting.contains("config_controller_waiting_requests 2\n");
        holds(tried || both, || waiting)
    })?;
    environment.kube.set_auto(true);
    let found = [first, second].map(|one| one.finish()?.json(200));
    let [first, second] = found;
    same("both get the same", &first?["ip"], &second?["ip"])
}

fn polls_without_a_pod() -> Outcome {
    let environment = Fake::new();
    environment.kube.set_auto(false);
    for _ in 0..3 {
        let response = get_hello(&environment, &[("Prefer", "wait=1")])?.json(202)?;
        same("status", &response["status"], &json!("node_not_ready"))?;
    }
    environment.kube.set_auto(true);
    get_hello(&environment, LONG_WAIT)?.is(200)?;
    same("POSTs", environment.kube.count("create", "jobs"), 1)
}

fn a_job_without_pods() -> Outcome {
    let environment = Fake::new();
    let refusal = "pods \"hello-ann\" is forbidden: exceeded quota: pods";
    environment.kube.refuse_pods(Some(refusal));
    let response = get_hello(&environment, NO_WAIT)?.json(202)?;
    same("status", &response["status"], &json!("node_not_ready"))?;
    let list = "/app/hello";
    let listed = soon("it is listed", || {
        let list = exchange(environment.address(0), "GET", list, &[], "")?.json(200)?;
        same("entries", list.as_array().map(Vec::len), Some(1))?;
        Ok(list[0].clone())
    })?;
    same("it is not ready", &listed["errored"], &json!(true))?;
    let path = "/app/hello/ann";
    let deleted = exchange(environment.address(0), "DELETE", path, &[], "")?;
    deleted.exactly(200, SUCCESS)?;
    soon("the Job is gone", || {
        same("Jobs", environment.jobs().len(), 0)
    })?;
    environment.kube.refuse_pods(None);
    get_hello(&environment, LONG_WAIT)?.is(200).map(drop)
}

/// A ready instance with a pod that only the test removes; its address and the name of its pod.
pub(super) fn lingering() -> Outcome<(Fake, String, String)> {
    let environment = Fake::by_hand();
    let asked = begin_hello(&environment)?;
    environment.make_ready("hello-ann");
    let found = asked.finish()?.json(200)?;
    let pod = environment.wait_pod("hello-ann");
    let ip = found["ip"].as_str().ok_or("it has an address")?;
    Ok((environment, ip.to_owned(), pod))
}

/// Stops that instance.
pub(super) fn stop(environment: &Fake) -> Outcome {
    let response = exchange(environment.address(0), "DELETE", "/app/hello/ann", &[], "")?;
    response.exactly(200, SUCCESS).map(drop)
}

/// Neither a GET that does not wait nor the list returns the address.
fn is_not_shown(environment: &Fake, ip: &str) -> Outcome {
    let response = get_hello(environment, NO_WAIT)?.json(202)?;
    holds(!response.to_string().contains(ip), || response.to_string())?;
    let list = exchange(environment.address(0), "GET", "/app/hello", &[], "")?.is(200)?;
    holds(!list.text().contains(ip), || list.text().to_owned())
}

fn dying_pods_do_not_count() -> Outcome {
    // The Job is on its way out, and its pod does not know yet.
    let (environment, ip, pod) = lingering()?;
    environment.kube.set_auto(false);
    stop(&environment)?;
    is_not_shown(&environment, &ip)?;
    // Now the pod is on its way out, too.
    environment.kube.set_auto(true);
    is_deleted(&environment, &pod)?;
    is_not_shown(&environment, &ip)
}

/// Waits until the garbage collector has come to the pod of a Job that was deleted.
fn is_deleted(environment: &Fake, pod: &str) -> Outcome {
    soon("the pod is being deleted", || {
        let pod = environment.kube.get(Resource::Pods, NAMESPACE, pod);
        let pod = pod.ok_or("the pod is gone already")?;
        let going = pod["metadata"]["deletionTimestamp"].is_string();
        holds(going, || "it is not".to_owned())
    })
}

fn start_during_a_stop() -> Outcome {
    let (environment, ip, pod) = lingering()?;
    stop(&environment)?;
    let waiting = begin_hello(&environment)?;
    let response = get_hello(&environment, NO_WAIT)?.json(202)?;
    same("status", &response["status"], &json!("node_not_ready"))?;
    same("the phase", &response["phase"], &json!("stopping"))?;
    holds(!waiting.is_answered(), || "it waits".to_owned())?;
    is_deleted(&environment, &pod)?;
    holds(!waiting.is_answered(), || "it waits still".to_owned())?;
    // From now on pods go, and become ready, by themselves.
    environment
        .kube
        .set_pod_script("hello-ann", PodScript::default());
    let found = waiting.finish()?.json(200)?;
    holds(found["ip"] != ip.as_str(), || found.to_string())?;
    same("POSTs", environment.kube.count("create", "jobs"), 2)
}

fn two_pairs_one_job_name(fixture: &Fixture) -> Outcome {
    let name = fixture.name("c");
    let (longer, shorter) = (format!("b-{name}"), name);
    fixture.start(&fixture.path_of("a", &longer))?;
    let other = format!("/app/a-b/{shorter}");
    fixture.get(&other)?.error(409, "name_taken")?;
    fixture
        .patch(&other, &json!({"k": "v"}))?
        .detail(404, "error", "not_found")?;
    fixture
        .delete(&other)?
        .detail(404, "No job found", "not_found")?;
    let found = fixture.entry("a", &longer)?;
    same("the first is untouched", keys(&found).len(), 7)?;
    let listed = fixture.entry("a-b", &shorter).is_ok();
    holds(!listed, || "the other is not listed".to_owned())
}

fn prefer_wait() -> Outcome {
    let environment = Fake::builder()
        .pod_script(PodScript::by_hand())
        .setting("START_WAIT", "100ms")
        .setting("START_WAIT_MAX", "2s")
        .start();
    for (prefer, wait) in [
        ("wait=1", 1),
        ("respond-async, wait=1", 1),
        ("wait=3600", 2),
    ] {
        let begun = Instant::now();
        let response = get_hello(&environment, &[("Prefer", prefer)])?;
        response.is(202)?;
        let took = begun.elapsed();
        // Without the header it were 100 ms, without the cap an hour.
        let in_time = took >= Duration::from_secs(wait) && took < LONG_POLL_MAX;
        holds(in_time, || format!("{prefer} took {took:?}"))?;
    }
    Ok(())
}
