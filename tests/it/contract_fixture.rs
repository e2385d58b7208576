//! Helpers for rows: requests, responses, and checks of responses.
//!
//! Nothing here panics if a server is wrong: a row returns what it found, and all rows are reported
//! together.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::environment::{Kube, TestEnvironment};
use crate::harness::{
    Client, Pending, Response, TEST_TIMEOUT, TestEnvironment as Fake, is_the_service, wait_timeout,
};

/// What a row comes to: the sentence is what was wrong.
pub(super) type Outcome<T = ()> = Result<T, String>;

/// The headers of a PATCH.
pub(super) const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

/// Requests an immediate response.
pub(super) const NO_WAIT: &[(&str, &str)] = &[("Prefer", "wait=0")];

/// Asks for the longest wait that any row needs.
pub(super) const LONG_WAIT: &[(&str, &str)] = &[("Prefer", "wait=60")];

/// Fails with this sentence unless it holds.
pub(super) fn holds(is: bool, what: impl FnOnce() -> String) -> Outcome {
    if is { Ok(()) } else { Err(what()) }
}

/// Fails unless both are the same.
pub(super) fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Outcome {
    holds(found == expected, || {
        format!("{what}: {found:?} instead of {expected:?}")
    })
}

/// Asks again until there is a value; fails after [`wait_timeout`] with the last reason.
pub(super) fn soon<T>(what: &str, mut probe: impl FnMut() -> Outcome<T>) -> Outcome<T> {
    let deadline = Instant::now() + wait_timeout();
    loop {
        match probe() {
            Ok(found) => return Ok(found),
            Err(last) if Instant::now() >= deadline => {
                return Err(format!(
                    "did not come: {what}; the last that was seen: {last}"
                ));
            }
            // Others may run meanwhile; a server at the other end of a network is spared.
            Err(_) => std::thread::park_timeout(Duration::from_millis(10)),
        }
    }
}

/// One row on one environment. What it starts is stopped when it is over.
pub(super) struct Fixture<'a> {
    environment: &'a dyn TestEnvironment,
    started: RefCell<Vec<String>>,
}

impl<'a> Fixture<'a> {
    pub(super) fn new(environment: &'a dyn TestEnvironment) -> Self {
        Self {
            environment,
            started: RefCell::default(),
        }
    }

    /// The type with instances that become ready.
    pub(super) fn app_type(&self) -> &str {
        self.environment.app_type()
    }

    /// `host:port` of the server.
    pub(super) fn host(&self) -> String {
        self.environment.address().to_string()
    }

    /// What is behind the server.
    pub(super) fn kube(&self) -> &Kube {
        let kube = self.environment.kube();
        kube.expect("a row that reads objects declares that need")
    }

    /// Lets a pause be over sooner, where time can be moved.
    pub(super) fn skip(&self, by: Duration) {
        self.environment.skip(by);
    }

    /// An unused name.
    pub(super) fn name(&self, stem: &str) -> String {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, Ordering::SeqCst);
        format!("{stem}-{:x}-{count}", std::process::id())
    }

    /// The path of this instance, which is stopped in the end.
    pub(super) fn path_of(&self, app_type: &str, segment: &str) -> String {
        let path = format!("/app/{app_type}/{segment}");
        self.started.borrow_mut().push(path.clone());
        path
    }

    /// The path of a new instance that becomes ready.
    pub(super) fn path(&self, stem: &str) -> String {
        self.path_of(self.app_type(), &self.name(stem))
    }

    /// The list that instances of that path are in.
    pub(super) fn list(&self) -> String {
        format!("/app/{}", self.app_type())
    }

    /// Sends anything.
    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Outcome<Reply> {
        exchange(self.environment.address(), method, path, headers, body)
    }

    pub(super) fn get(&self, path: &str) -> Outcome<Reply> {
        self.ask("GET", path, &[], "")
    }

    pub(super) fn delete(&self, path: &str) -> Outcome<Reply> {
        self.ask("DELETE", path, &[], "")
    }

    pub(super) fn patch(&self, path: &str, body: &Value) -> Outcome<Reply> {
        self.ask("PATCH", path, JSON, &body.to_string())
    }

    /// Sends a request, whose response may come later.
    pub(super) fn begin(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Outcome<Asked> {
        begin(self.environment.address(), method, path, headers, body)
    }

    /// Starts an instance; returns its address.
    pub(super) fn start(&self, path: &str) -> Outcome<String> {
        let body = soon("the instance is ready", || {
            self.ask("GET", path, LONG_WAIT, "")?.json(200)
        })?;
        let ip = body["ip"].as_str();
        let ip = ip.ok_or_else(|| format!("a ready instance has no ip: {body}"))?;
        Ok(ip.to_owned())
    }

    /// The entry of this name in the list of a type.
    pub(super) fn entry(&self, app_type: &str, name: &str) -> Outcome<Value> {
        let found = self.entries(app_type)?;
        let mut own = found.iter().filter(|entry| entry["name"] == name);
        match (own.next(), own.next()) {
            (Some(entry), None) => Ok(entry.clone()),
            (None, _) => Err(format!("{name} is not listed: {}", json!(found))),
            (Some(_), Some(_)) => Err(format!("{name} is listed twice: {}", json!(found))),
        }
    }

    /// The list of a type.
    pub(super) fn entries(&self, app_type: &str) -> Outcome<Vec<Value>> {
        let reply = self.get(&format!("/app/{app_type}"))?;
        match reply.json(200)? {
            Value::Array(entries) => Ok(entries),
            other => Err(format!("a list is no array: {other}")),
        }
    }

    /// Sends these bytes and returns all that comes until the server closes.
    pub(super) fn raw(&self, bytes: &str) -> Outcome<String> {
        let mut stream = self.connect()?;
        let with_request = |error: std::io::Error| format!("{bytes:?}: {error}");
        stream.write_all(bytes.as_bytes()).map_err(with_request)?;
        let mut response = String::new();
        stream.read_to_string(&mut response).map_err(with_request)?;
        Ok(response)
    }

    /// A plain connection.
    pub(super) fn connect(&self) -> Outcome<TcpStream> {
        let address = self.environment.address();
        let open = || {
            let stream = TcpStream::connect_timeout(&address, TEST_TIMEOUT)?;
            stream.set_read_timeout(Some(TEST_TIMEOUT))?;
            Ok(stream)
        };
        open().map_err(|error: std::io::Error| format!("{address}: {error}"))
    }
}

impl Drop for Fixture<'_> {
    fn drop(&mut self) {
        for path in self.started.borrow().iter() {
            // It may never have come so far, or the server may be gone.
            let _ = self.delete(path);
        }
    }
}

/// Sends a request; the response may come later.
pub(super) fn begin(
    address: std::net::SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Outcome<Asked> {
    let what = format!("{method} {path}");
    match Client::new(address).try_begin(method, path, headers, body) {
        Ok(pending) => Ok(Asked { what, pending }),
        Err(error) => Err(format!("{what} cannot be sent: {error}")),
    }
}

/// Sends a GET of hello/ann with a long wait to a service on the fake.
pub(super) fn begin_hello(environment: &Fake) -> Outcome<Asked> {
    begin(
        environment.address(0),
        "GET",
        "/app/hello/ann",
        LONG_WAIT,
        "",
    )
}

/// Sends a GET of hello/ann to a service on the fake, and waits for the response.
pub(super) fn get_hello(environment: &Fake, headers: &[(&str, &str)]) -> Outcome<Reply> {
    exchange(environment.address(0), "GET", "/app/hello/ann", headers, "")
}

/// Sends a request and waits for the response.
pub(super) fn exchange(
    address: std::net::SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Outcome<Reply> {
    begin(address, method, path, headers, body)?.finish()
}

/// A request that was sent.
pub(super) struct Asked {
    what: String,
    pending: Pending,
}

impl Asked {
    /// Whether a response has come.
    pub(super) fn is_answered(&self) -> bool {
        self.pending.is_answered()
    }

    /// Waits for the response.
    pub(super) fn finish(self) -> Outcome<Reply> {
        match self.pending.try_finish() {
            Ok(response) => Reply::new(self.what, response),
            Err(error) => Err(format!("{} is not answered: {error}", self.what)),
        }
    }
}

/// A response that keeps the rules of all responses ([`Reply::new`]).
pub(super) struct Reply {
    what: String,
    response: Response,
}

impl Reply {
    /// Checks what every response to every request must have (part B section 2, A18).
    pub(super) fn new(what: String, response: Response) -> Outcome<Self> {
        let reply = Self { what, response };
        let text = reply.text();
        let length = reply.header("content-length");
        if !reply.what.starts_with("HEAD ") {
            let expected = text.len().to_string();
            same(&reply.context("its content-length"), length, &expected)?;
        }
        let date = reply.header("date");
        // IMF-fixdate, RFC 9110 §5.6.7.
        holds(date.len() == 29 && date.ends_with(" GMT"), || {
            reply.context(&format!("its date is {date:?}"))
        })?;
        same(
            &reply.context("its server header"),
            reply.header("server"),
            "",
        )?;
        if text.is_empty() {
            return Ok(reply);
        }
        let kind = reply.header("content-type");
        same(&reply.context("its content-type"), kind, "application/json")?;
        // Reading keeps the order of keys, and writing is compact and escapes no UTF-8.
        let value: Value = serde_json::from_str(text)
            .map_err(|error| reply.context(&format!("it is no JSON ({error})")))?;
        same(
            &reply.context("its JSON is not compact"),
            text,
            &value.to_string(),
        )?;
        reply.is_described()?;
        Ok(reply)
    }

    /// Checks that our OpenAPI document knows of such a response; at a URL, or in the place of
    /// our service, may be any server.
    fn is_described(&self) -> Outcome {
        if std::env::var_os("CONTRACT_URL").is_some() || !is_the_service() {
            return Ok(());
        }
        let (method, target) = self.what.split_once(' ').unwrap_or((&self.what, ""));
        crate::openapi::check(method, target, &self.response).map_err(|why| self.context(&why))
    }

    /// A sentence with the request and the response in front.
    fn context(&self, what: &str) -> String {
        let (status, text) = (self.response.status, self.text());
        format!("{}: {status} {text}: {what}", self.what)
    }

    pub(super) fn status(&self) -> u16 {
        self.response.status
    }

    pub(super) fn text(&self) -> &str {
        &self.response.text
    }

    /// A header's value; the empty text if it is not there.
    pub(super) fn header(&self, name: &str) -> &str {
        self.response.header(name)
    }

    /// Checks a header; the empty text is none.
    pub(super) fn has(self, name: &str, value: &str) -> Outcome<Self> {
        same(&self.context(name), self.header(name), value)?;
        Ok(self)
    }

    /// Checks the status.
    pub(super) fn is(self, status: u16) -> Outcome<Self> {
        holds(self.response.status == status, || {
            self.context(&format!("{status} was expected"))
        })?;
        Ok(self)
    }

    /// Checks status and exact body.
    pub(super) fn exactly(self, status: u16, text: &str) -> Outcome<Self> {
        let reply = self.is(status)?;
        same(&reply.context("its body"), reply.text(), text)?;
        Ok(reply)
    }

    /// Checks the status; returns the body.
    pub(super) fn json(self, status: u16) -> Outcome<Value> {
        let reply = self.is(status)?;
        serde_json::from_str(reply.text()).map_err(|error| reply.context(&error.to_string()))
    }

    /// Checks an error of a GET: `{"status":"error","msg":…,"code":…}`; returns its sentence.
    pub(super) fn error(self, status: u16, code: &str) -> Outcome<String> {
        let what = self.context("an error in the plain shape");
        let body = self.json(status)?;
        message(&what, &body, "error", code)
    }

    /// Checks an error of PATCH, DELETE or /release, wrapped in `detail`; returns its sentence.
    pub(super) fn detail(self, status: u16, word: &str, code: &str) -> Outcome<String> {
        let what = self.context("an error wrapped in detail");
        let body = self.json(status)?;
        same(&what, keys(&body), vec!["detail"])?;
        message(&what, &body["detail"], word, code)
    }
}

/// Checks the keys of an error in their order, and its words.
fn message(what: &str, body: &Value, word: &str, code: &str) -> Outcome<String> {
    let expected = ["status", "msg", "code"];
    holds(keys(body).starts_with(&expected), || {
        format!("{what} begins with the keys {expected:?}")
    })?;
    same(what, &body["status"], &json!(word))?;
    same(what, &body["code"], &json!(code))?;
    let text = body["msg"].as_str().filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| format!("{what} has a sentence"))?;
    Ok(text.to_owned())
}

/// The keys of an object in their order.
pub(super) fn keys(object: &Value) -> Vec<&str> {
    let found = object.as_object();
    found.map_or(Vec::new(), |object| {
        object.keys().map(String::as_str).collect()
    })
}

/// The body of a success of PATCH, DELETE and /release.
pub(super) const SUCCESS: &str = r#"{"status":"Success"}"#;
