//! The OpenAPI document, the router, the errors and real responses agree.
//!
//! [`check`] compares one response with the document. It is used here for each operation, and by
//! the rows of the contract for every response of this service.

mod examples;
mod exchanges;
pub(crate) mod schema;

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use config_controller::http::auth::Access;
use config_controller::http::endpoints::ENDPOINTS;
use config_controller::http::message::{Method, Refusal};
use config_controller::http::openapi::DOCUMENT;
use config_controller::http::origin::Effect;
use config_controller::http::router::{self, Routed};
use config_controller::metrics::STATUS_CODES;
use serde_json::{Value, json};

use crate::fake_kube::dynamics::pod_script::PodScript;
use crate::harness::{
    Client, ROLE, Response, TEMPLATE, TemporaryFolder, TestEnvironment, eventually, repository,
};
use crate::logs::READ_LOGS;
use exchanges::EXCHANGES;
use schema::{faults, resolved};

static PARSED: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(&DOCUMENT).expect("the document is JSON"));

/// Headers of HTTP itself, which no operation has to name.
const OF_HTTP: [&str; 7] = [
    "allow",
    "connection",
    "content-length",
    "content-type",
    "date",
    "location",
    "transfer-encoding",
];

/// Checks a response against the document's description of that request.
///
/// # Errors
/// The difference, as one line.
pub(crate) fn check(method: &str, target: &str, response: &Response) -> Result<(), String> {
    let path = target.split('?').next().unwrap_or_default();
    let routed = router::route(&Method::from_name(method), path);
    let status = response.status;
    let endpoint = match routed {
        Routed::To(endpoint, _) | Routed::BadName(endpoint, _) => endpoint,
        Routed::Redirect(_) if status == 307 => return Ok(()),
        Routed::NotFound if response.text == r#"{"detail":"Not Found"}"# => return Ok(()),
        Routed::MethodNotAllowed(_) if status == 405 => return Ok(()),
        // Denied, which the document describes once for all operations.
        _ => return refused(response),
    };
    let operation = &PARSED["paths"][endpoint.path][method.to_ascii_lowercase()];
    let named = &operation["responses"][status.to_string()];
    let documented = if named.is_null() {
        &operation["responses"]["default"]
    } else {
        named
    };
    if named.is_null() && !is_of_the_front(response) {
        return Err(format!("the document knows no {status} of {method} {path}"));
    }
    described(resolved(&PARSED, documented), response)
}

/// Whether the front itself returns this status for any request.
fn is_of_the_front(response: &Response) -> bool {
    Refusal::ALL
        .iter()
        .any(|refusal| refusal.status() == response.status)
}

fn refused(response: &Response) -> Result<(), String> {
    let name = match response.status {
        401 => "Unauthorized",
        429 => "TooMany",
        503 => "Unavailable",
        _ if is_of_the_front(response) => "Refused",
        status => return Err(format!("{status} is no response where there is no route")),
    };
    described(&PARSED["components"]["responses"][name], response)
}

/// Holds headers and body to a Response Object.
fn described(documented: &Value, response: &Response) -> Result<(), String> {
    let mut wrong = Vec::new();
    let declared = documented["headers"].as_object();
    let find = |name: &str| {
        let mut all = declared.into_iter().flatten();
        all.find(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    for (name, value) in response.headers() {
        match find(name) {
            Some((_, header)) => {
                let schema = &resolved(&PARSED, header)["schema"];
                let value = match schema["type"].as_str() {
                    Some("integer") => value
                        .parse::<u64>()
                        .map_or_else(|_| json!(value), Value::from),
                    _ => json!(value),
                };
                wrong.extend(faults(&PARSED, schema, &value, name));
            }
            None if OF_HTTP.contains(&name.as_str()) => {}
            None => wrong.push(format!("the header {name} is not described")),
        }
    }
    for (name, header) in declared.into_iter().flatten() {
        let required = resolved(&PARSED, header)["required"] == true;
        if required && response.header(&name.to_ascii_lowercase()).is_empty() {
            wrong.push(format!("the header {name} is missing"));
        }
    }
    if !response.text.is_empty() {
        let kind = response.header("content-type").split(';').next();
        let media = &documented["content"][kind.unwrap_or_default()];
        match kind {
            _ if media.is_null() => wrong.push(format!("no body of type {kind:?} is described")),
            Some("application/json") => {
                wrong.extend(faults(&PARSED, &media["schema"], &response.json(), "body"));
            }
            _ => {}
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("against the document: {}", wrong.join("; ")))
}

/// Operations as path, method and object.
fn operations() -> Vec<(&'static str, &'static str, &'static Value)> {
    let paths = PARSED["paths"].as_object().expect("paths");
    let all = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().expect("a path item").iter();
        methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    });
    all.collect()
}

#[test]
fn each_route_and_method_is_in_the_document_and_vice_versa() {
    let routed: BTreeSet<(&str, String)> = ENDPOINTS
        .iter()
        .flat_map(|endpoint| {
            let methods = endpoint.methods.iter().map(Method::as_str);
            methods.map(|method| (endpoint.path, method.to_ascii_lowercase()))
        })
        .collect();
    let written = operations().into_iter();
    let written: BTreeSet<(&str, String)> = written
        .map(|(path, method, _)| (path, method.to_owned()))
        .collect();
    assert_eq!(written, routed);
    for endpoint in &ENDPOINTS {
        for method in endpoint.methods {
            let method = method.as_str().to_ascii_lowercase();
            let needs_none = PARSED["paths"][endpoint.path][&method]["security"].is_array();
            let open = endpoint.access == Access::Open;
            assert_eq!(needs_none, open, "{method} {}", endpoint.path);
        }
    }
    assert_eq!(PARSED["info"]["version"], env!("CARGO_PKG_VERSION"));
}

/// Redirects and unsupported methods have no operation.
#[test]
fn metrics_have_a_label_for_each_status_code_of_the_document() {
    let mut documented = BTreeSet::from([307, 405]);
    for (_, _, operation) in operations() {
        let responses = operation["responses"].as_object().expect("responses");
        documented.extend(responses.keys().filter_map(|code| code.parse::<u16>().ok()));
    }
    assert_eq!(BTreeSet::from(STATUS_CODES), documented);
}

/// What stands in the path is what the operation's parameters are.
#[test]
fn each_operation_has_its_parameters_and_a_name_of_its_own() {
    let mut names = BTreeSet::new();
    for (path, method, operation) in operations() {
        let in_path = path.split('/').filter_map(|part| {
            let name = part.strip_prefix('{')?.strip_suffix('}')?;
            Some(name.to_owned())
        });
        let parameters = operation["parameters"].as_array().expect("parameters");
        let written = parameters.iter().map(|one| resolved(&PARSED, one));
        let written = written.filter(|one| one["in"] == "path");
        let written = written.map(|one| one["name"].as_str().expect("a name").to_owned());
        assert_eq!(
            in_path.collect::<BTreeSet<_>>(),
            written.collect::<BTreeSet<_>>(),
            "{method} {path}"
        );
        let name = operation["operationId"].as_str().expect("a name");
        assert!(names.insert(name), "{name} is there twice");
        let responses = operation["responses"].as_object().expect("responses");
        assert!(responses.contains_key("default"), "{method} {path}");
    }
}

/// Status and code of every error that our sources write: `(404, "unknown_type", …`.
fn written_codes() -> BTreeSet<(u64, String)> {
    let mut found: BTreeSet<(u64, String)> = Refusal::ALL
        .iter()
        .map(|refusal| (u64::from(refusal.status()), refusal.code().to_owned()))
        .collect();
    let source = |path: &str| {
        let text = std::fs::read_to_string(repository().join(path)).expect("a source of ours");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        code.split_whitespace().collect::<String>()
    };
    for part in source("src/http/problem.rs").split('(') {
        if let Some((status, rest)) = part.split_once(",\"")
            && let Ok(status) = status.parse()
            && let Some((code, _)) = rest.split_once('"')
        {
            found.insert((status, code.to_owned()));
        }
    }
    let from_problem = found.len() - Refusal::ALL.len();
    assert!(from_problem > 10, "the errors of problem.rs are found");
    // All that fails a probe is 503.
    for part in source("src/health.rs").split("code:\"").skip(1) {
        let code = part.split('"').next().expect("a word");
        found.insert((503, code.to_owned()));
    }
    // Of `/create`, and of requests that are strict.
    for (status, code) in [
        (502, "start_failed"),
        (503, "start_failed"),
        (503, "not_ready"),
    ] {
        found.insert((status, code.to_owned()));
    }
    found
}

/// The codes that a schema allows, wherever in it they stand.
fn codes_in(schema: &Value, found: &mut BTreeSet<String>) {
    let code = &resolved(&PARSED, schema)["properties"]["code"];
    let own = &schema["properties"]["code"];
    let words = [&code["const"]]
        .into_iter()
        .chain(own["enum"].as_array().into_iter().flatten());
    found.extend(words.filter_map(Value::as_str).map(str::to_owned));
    if !schema["properties"]["detail"].is_null() {
        codes_in(&schema["properties"]["detail"], found);
    }
    for part in schema["anyOf"].as_array().into_iter().flatten() {
        codes_in(part, found);
    }
}

#[test]
fn exactly_the_errors_of_the_service_are_described() {
    let written = written_codes();
    let schema = &PARSED["components"]["schemas"]["ErrorCode"];
    let codes = schema["x-codes"].as_array().expect("the codes");
    // Generators of clients read only this.
    let words: Value = codes.iter().map(|code| code["code"].clone()).collect();
    assert_eq!(schema["enum"], words);
    let mut described = BTreeSet::new();
    for code in codes {
        assert!(code["description"].is_string(), "{code}");
        for status in code["status"].as_array().expect("statuses") {
            let word = code["code"].as_str().expect("a word");
            described.insert((status.as_u64().expect("a number"), word.to_owned()));
        }
    }
    assert_eq!(described, written);
    let mut used = BTreeSet::new();
    for (path, method, operation) in operations() {
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let content = &resolved(&PARSED, response)["content"]["application/json"];
            let mut codes = BTreeSet::new();
            codes_in(&content["schema"], &mut codes);
            for code in codes {
                let all = written.iter().filter(|(_, known)| *known == code);
                let of_code: Vec<u64> = all.map(|(status, _)| *status).collect();
                match status.parse::<u64>() {
                    Ok(status) => {
                        assert!(of_code.contains(&status), "{method} {path} {status} {code}");
                        used.insert((status, code));
                    }
                    Err(_) => used.extend(of_code.into_iter().map(|of| (of, code.clone()))),
                }
            }
        }
    }
    let unused: Vec<_> = written.difference(&used).collect();
    assert!(unused.is_empty(), "no operation has {unused:?}");
}

/// Requests to this service; each response is checked against the document.
struct Held {
    client: Client,
    seen: BTreeSet<(String, String, u16)>,
}

impl Held {
    fn new(environment: &TestEnvironment) -> Self {
        Self {
            client: environment.client(),
            seen: BTreeSet::new(),
        }
    }

    #[track_caller]
    fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response {
        let response = self.client.begin(method, target, headers, body).finish();
        self.hold(method, target, &response);
        response
    }

    #[track_caller]
    fn hold(&mut self, method: &str, target: &str, response: &Response) {
        if let Err(why) = check(method, target, response) {
            let begin: String = response.text.chars().take(500).collect();
            panic!("{method} {target}: {} {begin}: {why}", response.status);
        }
        let routed = router::route(
            &Method::from_name(method),
            target.split('?').next().unwrap_or_default(),
        );
        if let Routed::To(endpoint, _) = routed {
            let path = endpoint.path.to_owned();
            let method = method.to_ascii_lowercase();
            self.seen.insert((path, method, response.status));
        }
    }
}

const FAILS: &str = "\
metadata: {annotations: {fake-kube/exit-code: \"3\"}}
spec:
  restartPolicy: Never
  containers: [{name: app, image: example/app:1}]
";

/// Each operation, with each of its good responses, and the errors that are easily had.
#[test]
fn real_responses_match_the_document() {
    let needs = TEMPLATE.replace("app:1", "app:${alternatives['tag']}");
    let environment = TestEnvironment::builder()
        .template("needs", &needs)
        .template("broken", "spec: [")
        .template("fails", FAILS)
        .annotation("idle-timeout", "1h")
        .role(&format!("{ROLE}---\n{READ_LOGS}"))
        .start();
    let mut held = Held::new(&environment);
    for (method, target, header, body) in EXCHANGES {
        let headers = if header.0.is_empty() {
            &[][..]
        } else {
            &[*header]
        };
        held.ask(method, target, headers, body);
    }
    for endpoint in ENDPOINTS.iter().filter(|one| one.effect == Effect::Safe) {
        let target = endpoint.path.replace("{type}", "hello");
        let target = target.replace("{name}", "ann");
        for method in endpoint.methods {
            held.ask(method.as_str(), &target, &[], "");
        }
    }
    let comes_back = [
        ("Accept", "text/event-stream"),
        ("Last-Event-ID", "r.1.7.end"),
    ];
    held.ask("GET", "/app/hello/ann", &comes_back, "");
    starts_and_stops_that_take_longer(&mut held.seen);
    let good: BTreeSet<(String, String, u16)> = operations()
        .into_iter()
        .flat_map(|(path, method, operation)| {
            let all = operation["responses"]
                .as_object()
                .expect("responses")
                .keys();
            let good = all.filter_map(|status| status.parse().ok().filter(|code| *code < 300));
            good.map(move |code| (path.to_owned(), method.to_owned(), code))
        })
        .collect();
    let missing: Vec<_> = good.difference(&held.seen).collect();
    assert!(missing.is_empty(), "not seen: {missing:?}");
}

/// The 202 of a start and of a stop, and the 408 of `/create`.
fn starts_and_stops_that_take_longer(seen: &mut BTreeSet<(String, String, u16)>) {
    let lingers = PodScript {
        lingers: true,
        ..PodScript::by_hand()
    };
    let environment = TestEnvironment::builder().pod_script(lingers).start();
    let mut held = Held::new(&environment);
    for prefer in ["wait=0", "strict, wait=0"] {
        held.ask("GET", "/app/hello/ann", &[("Prefer", prefer)], "");
    }
    environment.make_ready("hello-ann");
    eventually("it is ready", || {
        let response = held.ask("GET", "/app/hello/ann", &[("Prefer", "wait=0")], "");
        (response.status == 200).then_some(())
    });
    let pending =
        environment
            .client()
            .begin("DELETE", "/app/hello/ann", &[("Prefer", "wait=1")], "");
    let response = pending.finish();
    held.hold("DELETE", "/app/hello/ann", &response);
    let target = "/instances?type=hello";
    held.ask("DELETE", target, &[("Prefer", "wait=1")], "");
    let pending = environment
        .client()
        .begin_get("/create/hello?sessionID=late");
    environment.wait_pod("hello-late");
    // Time is moved only when the service has seen the pod: without one the start budget is short.
    eventually("its pod is seen", || {
        let response = held.ask("GET", "/app/hello/late", &[("Prefer", "wait=0")], "");
        response.text.contains("scheduling").then_some(())
    });
    environment.advance(Duration::from_secs(301));
    let response = pending.finish();
    assert_eq!(response.status, 408, "{}", response.text);
    held.hold("GET", "/create/hello?sessionID=late", &response);
    seen.extend(held.seen);
}

#[test]
fn responses_without_a_token_are_described_and_both_routes_ask_for_one() {
    let folder = TemporaryFolder::new();
    let file = folder.write("tokens", "0123456789abcdefgh - hello\n");
    let environment = TestEnvironment::builder()
        .setting("AUTH", "token")
        .setting("AUTH_TOKENS_FILE", &file.display().to_string())
        .start();
    let mut held = Held::new(&environment);
    for (path, method, operation) in operations() {
        let target = path.replace("{type}", "hello").replace("{name}", "ann");
        let method = method.to_ascii_uppercase();
        let response = held.ask(&method, &target, &[], "");
        let open = operation["security"].is_array();
        assert_eq!(response.status == 401, !open, "{method} {target}");
    }
    let token = [("Authorization", "Bearer 0123456789abcdefgh")];
    for path in ["/openapi.json", "/docs"] {
        assert_eq!(held.ask("GET", path, &token, "").status, 200);
    }
    for (method, path) in [
        ("GET", "/app/slow"),
        ("GET", "/app/slow/a"),
        ("PATCH", "/app/slow/a"),
        ("PUT", "/app/slow/a/heartbeat"),
        ("DELETE", "/app/slow/a"),
    ] {
        assert_eq!(held.ask(method, path, &token, "").status, 403);
    }
    held.ask("GET", "/nope", &[], "");
}

#[test]
fn the_document_is_served_as_it_is_written() {
    let environment = TestEnvironment::new();
    let response = environment.get("/openapi.json");
    assert_eq!(response.expect(200), *PARSED);
    assert_eq!(response.header("content-type"), "application/json");
    assert_eq!(response.text.lines().count(), 1, "it is compact");
}

#[test]
fn the_page_is_complete_and_loads_nothing() {
    let environment = TestEnvironment::new();
    let page = environment.get("/docs");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    for (path, method, operation) in operations().iter().filter(|one| one.1 != "head") {
        let name = operation["operationId"].as_str().expect("a name");
        let heading = format!("id=\"{name}\"");
        assert!(page.text.contains(&heading), "{method} {path}");
    }
    let codes = PARSED["components"]["schemas"]["ErrorCode"]["enum"].as_array();
    for code in codes.expect("the codes") {
        let row = format!("id=\"code-{}\"", code.as_str().expect("a word"));
        assert!(page.text.contains(&row), "{code}");
    }
    for header in ["X-Request-Id", "traceparent", "If-None-Match"] {
        let row = format!("<tr id=\"request-header-{header}\">");
        assert_eq!(page.text.matches(&row).count(), 1, "{header}");
        // As a header of requests, and as one of responses.
        let cell = format!("<td><code>{header}</code>");
        assert!(page.text.matches(&cell).count() <= 2, "{header}");
    }
    for command in [
        "curl -sS -H &quot;Authorization: Bearer $TOKEN&quot; &quot;$URL/app/hello/ann&quot;",
        "curl -sS -X DELETE -H &quot;Authorization: Bearer $TOKEN&quot; &quot;$URL/app/hello/ann&quot;",
        "-d '{&quot;username&quot;:&quot;ann&quot;,&quot;connected&quot;:true}' &quot;$URL/app/hello/ann&quot;",
        "&quot;$URL/instances?type=hello&quot;",
        "curl -sS &quot;$URL/livez&quot;",
    ] {
        assert!(page.text.contains(command), "{command}");
    }
    for outside in ["://", "src=", "<link", "<script", "@import", "url("] {
        assert!(!page.text.contains(outside), "{outside}");
    }
    // What is linked to is there.
    for link in page.text.split("href=\"#").skip(1) {
        let target = link.split('"').next().expect("an anchor");
        assert!(page.text.contains(&format!("id=\"{target}\"")), "{target}");
    }
}
