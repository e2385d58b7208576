//! What Kubernetes rejects: a quota that is released a moment after its Job, and denials by policies and
//! webhooks for each verb.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::super::environment::STAND_IN;
use super::super::eventually;
use super::super::program::{Got, PATIENT};
use super::{Fixture, REPLICAS, Report, Scenario};
use crate::fake_kube::http::tls::Tls;

pub(super) const QUOTA: Scenario = Scenario {
    name: "quota",
    must: "under a quota of one Job: DELETE until it is gone, then GET at another replica, 8 of 8 return 200; \
           under a quota of 20: three replicas asked for the same 8 names at once, 24 of 24 return 200",
    settings: PATIENT,
    blind: Duration::ZERO,
    play: use_up_quota,
};

const TRIES: usize = 8;

fn offer(fixture: &Fixture<'_>) {
    fixture.environment.offer("stand-in", "stand-in", STAND_IN);
    for program in &fixture.replicas {
        program.wait_log("app type stand-in is on offer");
    }
}

/// Sets the quota on Jobs, and waits until Kubernetes has counted what there is.
#[track_caller]
fn set_quota(fixture: &Fixture<'_>, jobs: &str) {
    let environment = &fixture.environment;
    let path = environment.all("resourcequotas");
    let quota = json!({"metadata": {"name": "jobs"}, "spec": {"hard": {"count/jobs.batch": jobs}}});
    let got = environment.api.post(&path, &quota);
    if got.code != 201 {
        environment
            .api
            .patch(&format!("{path}/jobs"), &quota)
            .expect(200);
    }
    eventually("the quota is in force", || {
        let quota = environment.api.get(&format!("{path}/jobs")).expect(200);
        (quota["status"]["hard"]["count/jobs.batch"] == jobs).then_some(())
    });
}

fn use_up_quota(fixture: &Fixture<'_>, report: &mut Report) {
    offer(fixture);
    set_quota(fixture, "1");
    let path = "/app/stand-in/only";
    fixture.start(0, path);
    let mut served = 0;
    for number in 0..TRIES {
        let stopped = fixture.ask(number, "DELETE", path, "wait=60");
        report.check(has_code(stopped.as_ref(), 200), || {
            format!("DELETE: {stopped:?}")
        });
        let got = fixture.ask(number + 1, "GET", path, "wait=60");
        served += usize::from(has_code(got.as_ref(), 200));
        report.check(has_code(got.as_ref(), 200), || format!("GET: {got:?}"));
    }
    report
        .seen
        .push(format!("{served} of {TRIES} after a stop"));
    set_quota(fixture, "20");
    let outcomes: Vec<Option<Got>> = std::thread::scope(|scope| {
        let ask = |caller: usize| {
            let path = format!("/app/stand-in/n{}", caller / REPLICAS);
            scope.spawn(move || fixture.ask(caller, "GET", &path, "wait=60"))
        };
        let callers: Vec<_> = (0..TRIES * REPLICAS).map(ask).collect();
        callers
            .into_iter()
            .map(|caller| caller.join().expect("it returns"))
            .collect()
    });
    let served = outcomes
        .iter()
        .filter(|got| has_code(got.as_ref(), 200))
        .count();
    report
        .seen
        .push(format!("{served} of {} at once", outcomes.len()));
    let other = outcomes.iter().find(|got| !has_code(got.as_ref(), 200));
    report.check(other.is_none(), || {
        format!("one of those at once: {other:?}")
    });
}

fn has_code(got: Option<&Got>, code: u16) -> bool {
    got.is_some_and(|got| got.code == code)
}

pub(super) const DENIED: Scenario = Scenario {
    name: "denied",
    must: "a webhook (400, 409, 422, 429, 500, no code) or a policy denies the POST or DELETE of a Job or the \
           PATCH of a pod: 403 `refused` with its sentence; a webhook that is down: 503 with Kubernetes' sentence",
    settings: PATIENT,
    blind: Duration::ZERO,
    play: be_denied,
};

/// The codes with which the webhook denies; 0 stands for none.
const CODES: [u16; 6] = [400, 409, 422, 429, 500, 0];

/// What the service does, by the word in the instance's name that has it denied.
const VERBS: [(&str, &str); 3] = [("create", "GET"), ("delete", "DELETE"), ("patch", "PATCH")];

/// The sentence of each denial.
const SENTENCE: &str = "not on Sundays";

fn be_denied(fixture: &Fixture<'_>, report: &mut Report) {
    offer(fixture);
    let webhook = Webhook::start();
    // Instances that are stopped or labelled exist already.
    let whats = CODES.map(|code| format!("webhook-{code}"));
    let whats: Vec<String> = whats.into_iter().chain(["policy".to_owned()]).collect();
    for what in &whats {
        for verb in ["delete", "patch"] {
            fixture.start(0, &format!("/app/stand-in/{what}-{verb}"));
        }
    }
    add_policy(fixture);
    add_webhooks(fixture, &webhook);
    for what in ["policy-create", "webhook-0-create", "down-create"] {
        eventually("a new rule is in force", || {
            is_denied(fixture, what).then_some(())
        });
    }
    let mut denied = 0;
    for (replica, what) in whats.iter().enumerate() {
        for (verb, method) in VERBS {
            let path = format!("/app/stand-in/{what}-{verb}");
            let got = fixture.ask(replica, method, &path, "wait=10");
            let is_right = got.as_ref().is_some_and(|got| {
                let text = got.body.to_string();
                got.code == 403 && text.contains("\"refused\"") && text.contains(SENTENCE)
            });
            denied += usize::from(is_right);
            report.check(is_right, || {
                format!("{method} {path}: {}", shown(got.as_ref()))
            });
        }
    }
    report.seen.push(format!(
        "{denied} of {} denials are 403 refused",
        whats.len() * VERBS.len()
    ));
    let got = fixture.ask(0, "GET", "/app/stand-in/down-create", "wait=10");
    let is_right = got.as_ref().is_some_and(|got| {
        let text = got.body.to_string();
        got.code == 503 && text.contains("failed calling webhook")
    });
    report.seen.push(format!(
        "webhook down: {}",
        got.as_ref().map_or(0, |got| got.code)
    ));
    report.check(is_right, || {
        format!("webhook down: {}", shown(got.as_ref()))
    });
}

fn shown(got: Option<&Got>) -> String {
    got.map_or_else(
        || "no response".to_owned(),
        |got| format!("{} {}", got.code, got.body),
    )
}

/// Whether a Job of that name is denied, as an administrator sees it.
#[track_caller]
fn is_denied(fixture: &Fixture<'_>, what: &str) -> bool {
    let environment = &fixture.environment;
    let template: Value = serde_yaml::from_str(STAND_IN).expect("a template is YAML");
    let job =
        json!({"metadata": {"name": format!("stand-in-{what}")}, "spec": {"template": template}});
    let path = format!("{}?dryRun=All", environment.all("jobs"));
    environment.api.post(&path, &job).code != 201
}

/// A policy with reason Forbidden. Changes of pods are those of the service alone, since Kubernetes' own would
/// be denied, too.
#[track_caller]
fn add_policy(fixture: &Fixture<'_>) {
    let environment = &fixture.environment;
    let group = "/apis/admissionregistration.k8s.io/v1";
    let ours = "request.userInfo.username.endsWith(':config-controller')";
    let matches = format!(
        "(request.operation == 'CREATE' && request.name.contains('policy-create')) || \
         (request.operation == 'DELETE' && request.name.contains('policy-delete')) || \
         (request.operation == 'UPDATE' && request.name.contains('policy-patch') && {ours})"
    );
    let policy = json!({
        "metadata": {"name": "chaos"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": RULES.map(rule)},
            "matchConditions": [{"name": "ours", "expression": matches}],
            "validations": [{"expression": "false", "message": SENTENCE, "reason": "Forbidden"}],
        },
    });
    let path = format!("{group}/validatingadmissionpolicies");
    environment.api.post(&path, &policy).expect(201);
    let binding = json!({
        "metadata": {"name": "chaos"},
        "spec": {"policyName": "chaos", "validationActions": ["Deny"]},
    });
    let path = format!("{group}/validatingadmissionpolicybindings");
    environment.api.post(&path, &binding).expect(201);
}

/// Group, resource and operations that policy and webhook see.
const RULES: [(&str, &str, &[&str]); 2] = [
    ("batch", "jobs", &["CREATE", "DELETE"]),
    ("", "pods", &["UPDATE"]),
];

fn rule((group, resource, operations): (&str, &str, &[&str])) -> Value {
    json!({"apiGroups": [group], "apiVersions": ["v1"], "resources": [resource], "operations": operations})
}

/// The webhook, and one that is down.
#[track_caller]
fn add_webhooks(fixture: &Fixture<'_>, webhook: &Webhook) {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let down = closed.local_addr().expect("it has an address");
    drop(closed);
    let ours =
        "request.userInfo.username.endsWith(':config-controller') || request.operation == 'CREATE'";
    let one = |name: &str, address: SocketAddr, word: &str| {
        json!({
            "name": format!("{name}.example.com"),
            "clientConfig": {
                "url": format!("https://{address}/"),
                "caBundle": BASE64.encode(&webhook.tls.ca_pem),
            },
            "rules": RULES.map(rule),
            "matchConditions": [
                {"name": "word", "expression": format!("request.name.contains('{word}')")},
                {"name": "ours", "expression": ours},
            ],
            "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
            "timeoutSeconds": 5,
        })
    };
    let object = json!({
        "metadata": {"name": "chaos"},
        "webhooks": [one("denies", webhook.address, "webhook-"), one("down", down, "down-")],
    });
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    fixture.environment.api.post(path, &object).expect(201);
}

/// An admission webhook on loopback that denies with the code in the object's name.
struct Webhook {
    address: SocketAddr,
    tls: Tls,
}

impl Webhook {
    /// Its threads end with the connections, and with the test program.
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let tls = Tls::generate();
        let accepts = tls.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let tls = accepts.clone();
                // A client that hangs up wants no response.
                std::thread::spawn(move || drop(review(client, &tls)));
            }
        });
        Self { address, tls }
    }
}

/// Reads one AdmissionReview, and responds to it.
fn review(client: TcpStream, tls: &Tls) -> std::io::Result<()> {
    let mut reader = BufReader::new(tls.accept(client)?);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line)? > 0 && line.trim_end() != "" {
        let (name, value) = line.split_once(':').unwrap_or(("", ""));
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let request = serde_json::from_slice::<Value>(&body)?["request"].take();
    let body = answer(&request).to_string();
    let mut stream = reader.into_inner();
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length:";
    write!(stream, "{head} {}\r\n\r\n{body}", body.len())?;
    stream.flush()
}

fn answer(request: &Value) -> Value {
    let word = match request["operation"].as_str() {
        Some("CREATE") => "create",
        Some("DELETE") => "delete",
        _ => "patch",
    };
    let name = request["name"].as_str().unwrap_or("");
    let code = CODES
        .iter()
        .find(|code| name.contains(&format!("webhook-{code}-{word}")));
    let mut response = json!({"uid": request["uid"], "allowed": code.is_none()});
    match code {
        None => {}
        Some(0) => response["status"] = json!({"message": SENTENCE}),
        Some(code) => response["status"] = json!({"message": SENTENCE, "code": code}),
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}
