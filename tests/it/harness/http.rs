//! The tests' own HTTP client: it sends bytes, reads bytes, and knows nothing of the service.
//!
//! A request that waits is a [`Pending`], not a thread. So 100 of them cost nothing, and a test
//! sees whether one has its response yet.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

use super::TEST_TIMEOUT;

/// A plain HTTP client for one address; each request has a connection of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    address: SocketAddr,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        self.begin("GET", path, &[], "").finish()
    }

    #[track_caller]
    pub(crate) fn delete(&self, path: &str) -> Response {
        self.begin("DELETE", path, &[], "").finish()
    }

    #[track_caller]
    pub(crate) fn patch(&self, path: &str, body: &Value) -> Response {
        self.begin_patch(path, body).finish()
    }

    /// Sends a PATCH; its response may come later.
    #[track_caller]
    pub(crate) fn begin_patch(&self, path: &str, body: &Value) -> Pending {
        let json = [("Content-Type", "application/json")];
        self.begin("PATCH", path, &json, &body.to_string())
    }

    /// Sends a GET; its response may come later.
    #[track_caller]
    pub(crate) fn begin_get(&self, path: &str) -> Pending {
        self.begin("GET", path, &[], "")
    }

    /// Sends anything; the response may come later.
    #[track_caller]
    pub(crate) fn begin(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Pending {
        self.try_begin(method, path, headers, body)
            .expect("the service takes a request")
    }

    /// As [`Client::begin`], where the service may be gone.
    pub(crate) fn try_begin(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> std::io::Result<Pending> {
        let mut connection = Connection::open(self.address)?;
        let mut all = vec![("Connection", "close")];
        all.extend_from_slice(headers);
        connection.send(method, path, &all, body)?;
        Ok(Pending {
            connection,
            request: format!("{method} {path}"),
        })
    }
}

/// A connection that stays open between requests.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    received: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, TEST_TIMEOUT)?;
        stream.set_read_timeout(Some(TEST_TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            address,
            received: Vec::new(),
        })
    }

    /// Sends a request.
    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> std::io::Result<()> {
        let mut text = format!("{method} {path} HTTP/1.1\r\n");
        if headers.iter().all(|(name, _)| *name != "Host") {
            let _ = write!(text, "Host: {}\r\n", self.address);
        }
        for (name, value) in headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        if !body.is_empty() {
            let _ = write!(text, "Content-Length: {}\r\n", body.len());
        }
        text.push_str("\r\n");
        text.push_str(body);
        self.stream.write_all(text.as_bytes())
    }

    /// Sends bytes, as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads one response, with its body if the head announces one.
    pub(crate) fn read(&mut self, to_head: bool) -> std::io::Result<Response> {
        loop {
            if let Some((response, length)) = Response::parse(&self.received, to_head) {
                self.received.drain(..length);
                return Ok(response);
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.received.extend_from_slice(&buffer[..read]),
                // A read with a time limit ends so when the process was stopped and continued.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A request that was sent.
#[derive(Debug)]
pub(crate) struct Pending {
    connection: Connection,
    request: String,
}

impl Pending {
    /// Whether (the beginning of) a response has come.
    pub(crate) fn is_answered(&self) -> bool {
        let stream = &self.connection.stream;
        stream.set_nonblocking(true).expect("a socket's mode");
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false).expect("a socket's mode");
        !matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Waits for the response.
    #[track_caller]
    pub(crate) fn finish(self) -> Response {
        let request = self.request.clone();
        match self.try_finish() {
            Ok(response) => response,
            Err(error) => panic!("{request} is not answered: {error}"),
        }
    }

    /// Waits for the response, where the service may go away instead.
    pub(crate) fn try_finish(mut self) -> std::io::Result<Response> {
        let to_head = self.request.starts_with("HEAD ");
        self.connection.read(to_head)
    }
}

/// A response.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) text: String,
    headers: Vec<(String, String)>,
}

impl Response {
    /// The first response in these bytes, and how many of them it is; None while it is not complete.
    fn parse(bytes: &[u8], to_head: bool) -> Option<(Self, usize)> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&bytes[..end]).expect("a head is text");
        let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let status = status.and_then(|code| code.parse().ok());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut response = Self {
            status: status.expect("a response has a status"),
            text: String::new(),
            headers,
        };
        let length = response.header("content-length").parse().unwrap_or(0);
        let length = if to_head { 0 } else { length };
        let body = bytes.get(end..end + length)?;
        response.text = String::from_utf8(body.to_vec()).expect("a body is text");
        Some((response, end + length))
    }

    /// A header's value; the empty text if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// All headers, names in lower case.
    pub(crate) fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        match serde_json::from_str(&self.text) {
            Ok(value) => value,
            Err(error) => panic!("no JSON ({error}): {} {:?}", self.status, self.text),
        }
    }

    /// The body of a response with this status; anything else fails the test.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }

    /// Checks status and exact text.
    #[track_caller]
    pub(crate) fn expect_text(&self, status: u16, text: &str) {
        assert_eq!((self.status, self.text.as_str()), (status, text));
    }

    /// Checks that this is an error of a GET with that code; returns its sentence.
    #[track_caller]
    pub(crate) fn expect_error(&self, status: u16, code: &str) -> String {
        let body = self.expect(status);
        assert_eq!(
            (&body["status"], &body["code"]),
            (&json!("error"), &json!(code))
        );
        message(&body)
    }

    /// Checks that this is an error of a PATCH or DELETE; returns its sentence.
    #[track_caller]
    pub(crate) fn expect_detail(&self, status: u16, word: &str, code: &str) -> String {
        let body = &self.expect(status)["detail"];
        assert_eq!(
            (&body["status"], &body["code"]),
            (&json!(word), &json!(code))
        );
        message(body)
    }
}

#[track_caller]
fn message(body: &Value) -> String {
    let text = body["msg"].as_str();
    text.expect("an error has a sentence").to_owned()
}
