//! 2.7.1 as its clients see it: its paths, methods, bodies and errors, in front of [`Predecessor`].
//! The rows of the contract run on it, to show that those about faults of 2.7.1 fail.
//!
//! Written from the contract's description (part B) alone, as `original` is. Omitted: its pages of
//! documentation, and the `server` header, since each row would fail for that reason alone (A18).

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::original::{Predecessor, Reply};

/// How many requests it works on at a time: its threads (W3).
const THREADS: usize = 40;
/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(5);
/// When `/create` gives up.
const CREATE_MAX: Duration = Duration::from_secs(300);

/// A listening 2.7.1; it stops listening when it is dropped.
#[derive(Debug)]
pub(crate) struct Front {
    address: SocketAddr,
    service: Arc<Service>,
}

#[derive(Debug)]
struct Service {
    original: Predecessor,
    /// Threads that are free.
    places: Mutex<usize>,
    freed: Condvar,
    is_over: AtomicBool,
}

impl Front {
    pub(crate) fn start(original: Predecessor) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let service = Arc::new(Service {
            original,
            places: Mutex::new(THREADS),
            freed: Condvar::new(),
            is_over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&service);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let own = Arc::clone(&shared);
                // A client that goes away is its right.
                std::thread::spawn(move || own.converse(stream));
            }
        });
        Self { address, service }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.service.is_over.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

/// A request.
#[derive(Debug, Default)]
struct Asked {
    method: String,
    /// As it was sent.
    path: String,
    query: Option<String>,
    host: String,
    content_type: String,
    closes: bool,
    length: usize,
    body: Vec<u8>,
}

/// A response: status, media type, one more header, body.
struct Response(u16, &'static str, Option<(&'static str, String)>, String);

fn of_json(reply: Reply) -> Response {
    let (code, body) = reply;
    if body == "Internal Server Error" {
        // An uncaught exception.
        let text = "Internal Server Error".to_owned();
        return Response(500, "text/plain; charset=utf-8", None, text);
    }
    Response(code, "application/json", None, body.to_string())
}

fn detail(code: u16, words: &str) -> Response {
    of_json((code, json!({ "detail": words })))
}

impl Service {
    fn converse(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(IDLE))?;
        let mut pending = Vec::new();
        while let Some(asked) = read(&mut stream, &mut pending)? {
            let Response(code, kind, header, body) = self.response(&asked);
            let reason = match code {
                200 => "OK",
                422 => "Unprocessable Content",
                _ => "Status",
            };
            let mut head = format!(
                "HTTP/1.1 {code} {reason}\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\ncontent-length: {}\r\n",
                body.len()
            );
            if !body.is_empty() {
                head.push_str(&format!("content-type: {kind}\r\n"));
            }
            if let Some((name, value)) = header {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            if asked.closes {
                head.push_str("connection: close\r\n");
            }
            head.push_str("\r\n");
            if asked.method != "HEAD" {
                head.push_str(&body);
            }
            stream.write_all(head.as_bytes())?;
            if asked.closes {
                break;
            }
        }
        Ok(())
    }

    fn response(&self, asked: &Asked) -> Response {
        let path = decoded(&asked.path);
        let Some(route) = route(&path) else {
            let bare = path.trim_end_matches('/');
            if bare.len() < path.len() && route(bare).is_some() {
                return redirect(asked);
            }
            return detail(404, "Not Found");
        };
        let is_instance = matches!(route.as_slice(), ["app", _, _]);
        let methods: &[&str] = if is_instance {
            &["GET", "PATCH", "DELETE"]
        } else {
            &["GET"]
        };
        if !methods.contains(&asked.method.as_str()) {
            let Response(code, kind, _, body) = detail(405, "Method Not Allowed");
            return Response(code, kind, Some(("allow", "GET".to_owned())), body);
        }
        self.enter();
        let reply = self.reply(&route, asked);
        self.leave();
        of_json(reply)
    }

    /// Waits for a free thread.
    fn enter(&self) {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.freed.wait_while(places, |places| *places == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
    }

    fn leave(&self) {
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.freed.notify_one();
    }

    fn reply(&self, route: &[&str], asked: &Asked) -> Reply {
        let original = &self.original;
        let given = given(asked.query.as_deref().unwrap_or_default());
        match (asked.method.as_str(), route) {
            (_, ["info"]) => {
                let info = json!({"status": "UP", "hostname": "node", "rev": "config-controller"});
                (200, info)
            }
            (_, ["app"]) => original
                .types()
                .map_or_else(|_| crash(), |types| (200, json!(types))),
            (_, ["app" | "api", app_type]) => original.list(app_type),
            ("GET", ["app", app_type, name]) => original.get_with(app_type, name, &given),
            ("DELETE", ["app", app_type, name]) => original.delete(app_type, name),
            (_, ["app", app_type, name]) => match object(&asked.content_type, &asked.body) {
                Ok(object) => original.patch(app_type, name, &object),
                Err(problem) => (422, json!({"detail": [problem]})),
            },
            (_, ["create", app_type]) => self.create(app_type, &given),
            (_, ["release", name]) => self.release(name),
            _ => crash(),
        }
    }

    fn create(&self, app_type: &str, given: &[(String, String)]) -> Reply {
        let Some((_, session)) = given.iter().find(|(name, _)| name == "sessionID") else {
            let problem = missing(json!(["query", "sessionID"]));
            return (422, json!({"detail": [problem]}));
        };
        let begun = Instant::now();
        loop {
            let (code, body) = self.original.get_with(app_type, session, given);
            if code != 202 {
                // Of an error, too, it makes an address (W19).
                let text = if code == 200 {
                    &body["ip"]
                } else {
                    &body["msg"]
                };
                return (200, json!({"hostname": text, "addr": text}));
            }
            if begun.elapsed() > CREATE_MAX || self.is_over.load(Ordering::SeqCst) {
                self.original.delete(app_type, session);
                return (408, json!({"status": "Could not provision app"}));
            }
        }
    }

    fn release(&self, name: &str) -> Reply {
        let Ok(types) = self.original.types() else {
            return crash();
        };
        for app_type in types {
            let (code, list) = self.original.list(&app_type);
            if code != 200 {
                return crash();
            }
            let entries = list.as_array().into_iter().flatten();
            for entry in entries {
                if entry["name"] == name || entry["sessionID"] == name {
                    let name = entry["name"].as_str().unwrap_or_default();
                    return self.original.delete(&app_type, name);
                }
            }
        }
        (404, json!({"detail": {"status": "Not found"}}))
    }
}

fn crash() -> Reply {
    (500, json!("Internal Server Error"))
}

/// The parts of a path that it knows.
fn route(path: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let known = match parts.as_slice() {
        ["app" | "info"] => true,
        ["app" | "api" | "create" | "release", one] => !one.is_empty(),
        ["app", one, two] => !one.is_empty() && !two.is_empty(),
        _ => false,
    };
    known.then_some(parts)
}

fn redirect(asked: &Asked) -> Response {
    let mut path = asked.path.as_str();
    while let Some(shorter) = ["/", "%2F", "%2f"]
        .iter()
        .find_map(|end| path.strip_suffix(end))
    {
        path = shorter;
    }
    let query = asked.query.as_ref();
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    let location = format!("http://{}{path}{query}", asked.host);
    Response(307, "", Some(("location", location)), String::new())
}

/// The body of a PATCH, or what is wrong with it.
fn object(content_type: &str, body: &[u8]) -> Result<Value, Value> {
    if body.is_empty() {
        return Err(missing(json!(["body"])));
    }
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    let subtype = kind.strip_prefix("application/").unwrap_or_default();
    let read = if subtype == "json" || subtype.ends_with("+json") {
        serde_json::from_slice(body)
    } else {
        Ok(json!(String::from_utf8_lossy(body)))
    };
    match read {
        Ok(Value::Null) => Err(missing(json!(["body"]))),
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(other) => Err(json!({
            "type": "dict_type", "loc": ["body"], "msg": "Input should be a valid dictionary",
            "input": other,
        })),
        Err(_) => Err(json!({
            "type": "json_invalid", "loc": ["body", 1], "msg": "JSON decode error", "input": {},
            "ctx": {"error": "Expecting property name enclosed in double quotes"},
        })),
    }
}

#[allow(clippy::needless_pass_by_value)] // It becomes a part of what is returned.
fn missing(place: Value) -> Value {
    json!({"type": "missing", "loc": place, "msg": "Field required", "input": null})
}

/// The parameters of a query as a dict: the last of a name counts, in the place of the first.
fn given(query: &str) -> Vec<(String, String)> {
    let mut given: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (
            decoded(&name.replace('+', " ")),
            decoded(&value.replace('+', " ")),
        );
        match given.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => given.push((name, value)),
        }
    }
    given
}

fn decoded(text: &str) -> String {
    let bytes = percent_encoding::percent_decode_str(text);
    bytes.decode_utf8_lossy().into_owned()
}

/// The next request; None if the client has closed, was idle for too long, or does not send HTTP.
fn read(stream: &mut TcpStream, pending: &mut Vec<u8>) -> std::io::Result<Option<Asked>> {
    loop {
        if let Some((mut asked, start)) = head(pending) {
            let end = start + asked.length;
            if pending.len() >= end {
                asked.body = pending[start..end].to_vec();
                pending.drain(..end);
                return Ok(Some(asked));
            }
        }
        let mut buffer = [0; 16 * 1024];
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(read) => pending.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The head of a request, and where its body begins.
fn head(bytes: &[u8]) -> Option<(Asked, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(start)) = parsed.parse(bytes) else {
        return None;
    };
    let target = parsed.path?;
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    let field = |name: &str| {
        let mut all = parsed.headers.iter();
        let found = all.find(|header| header.name.eq_ignore_ascii_case(name));
        found.map_or(String::new(), |header| {
            String::from_utf8_lossy(header.value).into_owned()
        })
    };
    let asked = Asked {
        method: parsed.method?.to_owned(),
        path: path.to_owned(),
        query,
        host: field("host"),
        content_type: field("content-type"),
        closes: field("connection").eq_ignore_ascii_case("close"),
        length: field("content-length").parse().unwrap_or(0),
        body: Vec::new(),
    };
    Some((asked, start))
}
