//! What is fuzzed: everything that reads bytes from outside. Pure.
//!
//! Each target takes any bytes, checks the invariants, and returns whether the input was valid, so
//! that a run with only invalid inputs is noticed. `tests/it/fuzz.rs` runs them over mutations of
//! the corpora beside this file; a fuzzer could call them unchanged.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use config_controller::http::connection::{Connection, Step};
use config_controller::http::message::{Body, Limits, Method, Refusal, Request, Response};
use config_controller::http::wire::Heads;
use config_controller::http::{body, origin, prefer, router};
use config_controller::kube::kubeconfig::{self, Login, Secret};
use config_controller::kube::types::{self, ConfigMap, Job, Pod, Resource};
use config_controller::kube::watch::{Input, Lines, Next, Watch};
use config_controller::model::job::{self, JobParts, JobSettings};
use config_controller::model::labels;
use config_controller::model::names::InstanceKey;
use config_controller::model::template::RENDERED_BYTES_MAX;
use config_controller::model::template::{Template, Variables};
use config_controller::model::{references, validation};
use serde_json::Value;

/// What one connection made of its bytes.
#[derive(Debug, Default, PartialEq)]
struct Talk {
    requests: Vec<Request>,
    refusal: Option<Refusal>,
    output: Vec<u8>,
}

impl Talk {
    /// What was written, readable where a test fails.
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }
}

/// The service's limits, smaller, so that small inputs reach them.
fn limits() -> Arc<Limits> {
    Arc::new(Limits {
        head_bytes: 512,
        header_count: 12,
        body_bytes: 1024,
        output_bytes: 256,
        linger_bytes: 256,
        ..Limits::default()
    })
}

/// Feeds `bytes` to a connection, at most `piece` at a time, and responses all that it asks.
fn talk(bytes: &[u8], piece: usize) -> Talk {
    let (limits, now) = (limits(), Instant::now());
    let mut heads = Heads::new(SystemTime::UNIX_EPOCH);
    let mut connection = Connection::new(IpAddr::from([127, 0, 0, 1]), limits, now);
    let mut talk = Talk::default();
    let mut fed = 0;
    while fed < bytes.len() {
        let count = piece.min(connection.read_capacity()).min(bytes.len() - fed);
        assert!(count > 0 || connection.is_closed(), "it is stuck");
        if count == 0 {
            break;
        }
        connection.receive(&bytes[fed..fed + count]);
        fed += count;
        while go_on(&mut connection, &mut talk, &mut heads, now) {}
        // Memory grows with what has arrived, never with what was announced.
        assert!(connection.held_bytes() <= 4 * fed + 1024, "held bytes");
    }
    connection.peer_closed();
    while go_on(&mut connection, &mut talk, &mut heads, now) {}
    assert!(connection.is_closed(), "the peer has closed");
    talk
}

/// One step of the loop around a connection; false when there is nothing to do.
fn go_on(connection: &mut Connection, talk: &mut Talk, heads: &mut Heads, now: Instant) -> bool {
    match connection.next(now) {
        Step::Request(request) => {
            assert_eq!(talk.refusal, None, "a refusal is the last response");
            check_request(&request);
            let echo = Response::with_type(200, "text/plain", Body::Owned(request.body.clone()));
            let responded = connection.respond(echo, false, heads, now);
            responded.expect("the response can be sent");
            talk.requests.push(*request);
            true
        }
        Step::Refused(refusal) => {
            assert_eq!(talk.refusal.replace(refusal), None, "two refusals");
            let responded = connection.respond(refusal.response(), true, heads, now);
            responded.expect("the response can be sent");
            true
        }
        Step::Wait if !connection.is_flushed() => {
            let pieces = connection.output().concat();
            connection.written(pieces.len(), now);
            talk.output.extend(pieces);
            true
        }
        Step::Wait if connection.wants_half_close() => {
            connection.half_closed(now);
            true
        }
        Step::Wait => {
            assert!(
                talk.refusal.is_none() || !connection.awaits_response(),
                "a refusal ends the connection"
            );
            false
        }
    }
}

/// What holds for every request that is accepted, and for the code that reads it.
fn check_request(request: &Request) {
    let limits = limits();
    assert!(request.path.starts_with('/') || request.path == "*");
    assert!(request.headers.iter().count() <= limits.header_count);
    assert!(request.body.len() <= limits.body_bytes);
    for (name, value) in request.headers.iter() {
        assert!(!name.is_empty() && !name.contains([' ', '\r', '\n', ':']));
        assert!(!value.iter().any(|byte| b"\r\n\0".contains(byte)));
    }
    if let Some(endpoint) = router::route(&request.method, &request.path).endpoint() {
        let _ = origin::refusal(endpoint.effect, &request.headers);
    }
    let _ = prefer::wait(&request.headers);
    let _ = body::object(request.headers.get("content-type"), &request.body, 2);
    if let Some(query) = &request.query {
        let _ = Variables::from_query(query);
    }
}

/// A connection: heads, bodies, pipelines. The result is the same for every way to split the bytes.
pub(crate) fn connection(bytes: &[u8]) -> bool {
    let whole = talk(bytes, usize::MAX);
    for piece in [1, 7] {
        let cut = talk(bytes, piece);
        assert_eq!(whole.requests, cut.requests, "pieces of {piece}");
        assert_eq!(whole.refusal, cut.refusal, "pieces of {piece}");
        assert_eq!(whole.text(), cut.text(), "pieces of {piece}");
    }
    // `A / HTTP/1.0` and its two line ends are the shortest request.
    assert!(whole.requests.len() <= bytes.len() / 16);
    assert!(whole.output.is_empty() || whole.output.starts_with(b"HTTP/1.1 "));
    !whole.requests.is_empty()
}

/// A query string, as values for a template.
pub(crate) fn query(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let _ = router::route(&Method::Get, &format!("/app/{text}"));
    let Ok(variables) = Variables::from_query(&text) else {
        return false;
    };
    let names: BTreeSet<&str> = variables.iter().map(|(name, _)| name).collect();
    assert_eq!(
        names.len(),
        variables.iter().count(),
        "a name is there twice"
    );
    let size = |(name, value): (&str, &str)| name.len() + value.len();
    assert!(variables.iter().map(size).sum::<usize>() <= text.len());
    let escaped = |text: &str| -> String { text.bytes().map(|b| format!("%{b:02X}")).collect() };
    let pairs = variables.iter();
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
        .collect();
    if let Ok(again) = Variables::from_query(&pairs.join("&")) {
        assert_eq!(again, variables, "written out and read again");
    }
    variables.iter().next().is_some()
}

/// The values as a query string in the first line, then a template.
pub(crate) fn template(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let (query, template) = text.split_once('\n').unwrap_or(("", &text));
    let variables = Variables::from_query(query).unwrap_or_default();
    let template = match Template::parse("fuzz", template) {
        Ok(template) => template,
        Err(error) => {
            assert!(error.to_string().len() <= 2 * text.len() + 1024, "{error}");
            return false;
        }
    };
    let rendered = template.render(&variables);
    assert_eq!(rendered, template.render(&variables), "rendered again");
    match rendered {
        Ok(rendered) => {
            assert!(text_bytes(&rendered) <= RENDERED_BYTES_MAX);
            let containers = rendered["spec"]["containers"].as_array();
            let containers = containers.expect("containers are a list");
            assert!(!containers.is_empty() && containers.iter().all(Value::is_object));
            check_manifest(rendered);
            check_findings(&template, &variables);
            true
        }
        Err(error) => {
            assert!(error.to_string().len() <= 2 * text.len() + 1024, "{error}");
            false
        }
    }
}

/// Every pod template that was rendered can become a Job with our labels.
fn check_manifest(pod_template: Value) {
    let key = InstanceKey::new("fuzz", "n").expect("valid names");
    let parts = JobParts {
        variables: &Variables::default(),
        is_restart: false,
        key: &key,
        settings: &JobSettings::default(),
        started_by: "fuzz",
        owner: None,
        template_revision: "0",
        values_revision: "0",
        failures: 0,
    };
    let job = job::manifest(pod_template, &parts);
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels[labels::INSTANCE_NAME], "n");
}

/// All that is found wrong has a place in the text, with and without values.
fn check_findings(template: &Template, variables: &Variables) {
    for variables in [Some(variables), None] {
        let Ok(Some((pod, places))) = template.inspect(variables) else {
            continue;
        };
        let findings = validation::validate(&pod);
        assert!(findings.len() <= validation::FINDINGS_MAX);
        let paths = findings.into_iter().map(|finding| finding.path);
        let needs = references::of(&pod).into_iter().map(|it| it.path);
        for path in paths.chain(needs) {
            let place = places.find(&path);
            assert!(place.line > 0 && place.column != Some(0), "{path}: {place}");
        }
    }
}

/// Bytes of all keys and strings.
fn text_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(text_bytes).sum(),
        Value::Object(fields) => {
            let sizes = fields.iter().map(|(key, v)| key.len() + text_bytes(v));
            sizes.sum()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// The stream of a watch (and the body of a list), cut anywhere.
pub(crate) fn watch(bytes: &[u8]) -> bool {
    let whole = lines_of(bytes, bytes.len().max(1));
    for piece in [1, 7] {
        assert_eq!(whole, lines_of(bytes, piece), "pieces of {piece}");
    }
    let jobs = follow::<Job>(bytes, &whole);
    let pods = follow::<Pod>(bytes, &whole);
    let config_maps = follow::<ConfigMap>(bytes, &whole);
    jobs || pods || config_maps
}

fn lines_of(bytes: &[u8], piece: usize) -> Vec<Vec<u8>> {
    let mut lines = Lines::default();
    let mut found = Vec::new();
    for piece in bytes.chunks(piece) {
        lines.push(piece, || Ok(None)).expect("no line is too long");
        while let Some(line) = lines.next_line() {
            assert!(!line.is_empty() && !line.contains(&b'\n'));
            found.push(line.to_vec());
        }
    }
    found
}

/// Passes all lines to a watch, which may list and open again; returns whether an event was valid.
fn follow<K: Resource>(bytes: &[u8], lines: &[Vec<u8>]) -> bool {
    let now = Instant::now();
    let mut watch = Watch::new(Duration::from_secs(2), None, 0);
    let mut understood = types::decode_list::<K>(bytes).is_ok();
    for line in lines {
        open(&mut watch, now);
        let event = types::decode_event::<K>(line).map_err(|error| error.to_string());
        understood |= event.is_ok();
        let step = watch.step(Input::Event(event), now);
        assert!(step.effects.len() <= 4, "{:?}", step.effects);
        assert!(
            matches!(step.next, Next::Read | Next::BackOff { .. }),
            "{:?}",
            step.next
        );
    }
    understood
}

/// Brings a watch to where it reads.
fn open(watch: &mut Watch, now: Instant) {
    const EMPTY: &[u8] = br#"{"metadata":{"resourceVersion":"1"},"items":[]}"#;
    let mut next = watch.step::<Job>(Input::Woken, now).next;
    for _ in 0..4 {
        next = match next {
            Next::Read => return,
            Next::List { .. } => {
                let page = types::decode_list::<Job>(EMPTY).expect("a list");
                watch.step(Input::Listed(Ok(page)), now).next
            }
            Next::Open { .. } => watch.step::<Job>(Input::Opened(Ok(())), now).next,
            Next::Probe => {
                watch
                    .step::<Job>(Input::Probed(Ok("1".into()), "1".into()), now)
                    .next
            }
            Next::Check { .. } | Next::Wait(_) | Next::BackOff { .. } => {
                watch.step::<Job>(Input::Woken, now).next
            }
        };
    }
    assert_eq!(next, Next::Read, "it lists, opens and reads");
}

/// A kubeconfig.
pub(crate) fn kubeconfig(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let file = kubeconfig::File::parse(&text, Path::new("/folder"));
    match file.and_then(|file| kubeconfig::select(&[file])) {
        Ok(selected) => {
            assert!(!selected.server.is_empty());
            if let Login::Token(_) = selected.login {
                let mut other = selected.clone();
                other.login = Login::Token(Secret("another".to_owned()));
                let shown = format!("{selected:?}");
                assert_eq!(shown, format!("{other:?}"), "a token is not shown");
            }
            true
        }
        Err(problems) => {
            assert!(!problems.is_empty() && problems.len() <= 16);
            for problem in problems {
                assert!(!problem.is_empty());
                assert!(problem.len() <= text.len() + 1024, "{problem}");
            }
            false
        }
    }
}
