//! Writing answers: from our [`Response`] to the bytes of its head.
//!
//! The only file that names `tiny_http`. Its answer type and writer make the
//! status line and the header fields; what it insists on and we do not want (a
//! `Server` field, contract A18) or does not let us say (`Connection`) is put
//! right here, in one place. Pure: the time of day is an argument. Bodies are
//! not copied through here, since they may be shared.

use crate::http::message::{Response, Text};
use std::time::SystemTime;
use tiny_http::{HTTPVersion, Header, StatusCode};

/// The line that the writer puts first unless the answer has such a field.
/// Its place is where our `Connection` field goes.
const SERVER_LINE: &[u8] = b"Server: tiny-http (Rust)\r\n";

/// The status line of 422 as the writer has it, and as RFC 9110 §15.5.21 and the contract (B2)
/// have it.
const UNPROCESSABLE: (&[u8], &[u8]) = (
    b"HTTP/1.1 422 Unprocessable Entity\r\n",
    b"HTTP/1.1 422 Unprocessable Content\r\n",
);

/// What the head says about the connection (RFC 9112 §9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It goes on, and the peer expects so: nothing is said.
    Implied,
    /// It goes on, which an HTTP/1.0 peer must be told.
    KeepAlive,
    /// It ends after this answer.
    Close,
}

/// An answer that cannot be written: a header name or value that must not be
/// sent. The bug is ours; the caller gets a 500.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadHeader {
    /// The name of the field, as it was given.
    pub name: String,
}

impl std::fmt::Display for BadHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "header field {:?} cannot be sent", self.name)
    }
}

impl std::error::Error for BadHeader {}

/// How many heads are kept, each for bodies of another length (modulo this).
const KEPT_HEADS: usize = 8;

/// A longer head is not kept.
const KEPT_HEAD_BYTES_MAX: usize = 512;

/// Makes heads. The last ones are kept for a second (that of their `Date`, RFC 9110 §6.6.1), since
/// the answers of a second are mostly alike, and a head costs as much as finding what it is about.
#[derive(Debug)]
pub struct Heads {
    second: u64,
    date: Header,
    kept: [Option<Kept>; KEPT_HEADS],
}

/// A head without its last line, and what it was made for.
#[derive(Debug)]
struct Kept {
    status: u16,
    headers: Vec<(Text, Text)>,
    length: usize,
    persistence: Persistence,
    bytes: Box<[u8]>,
}

impl Kept {
    fn is_for(&self, response: &Response, persistence: Persistence) -> bool {
        self.status == response.status
            && self.length == response.body.len()
            && self.persistence == persistence
            && self.headers == response.headers
    }
}

impl Heads {
    /// Heads of this time of day.
    #[must_use]
    pub fn new(now: SystemTime) -> Self {
        let second = second_of(now);
        Self {
            second,
            date: date_field(second),
            kept: Default::default(),
        }
    }

    /// Moves on to this time of day.
    pub fn update(&mut self, now: SystemTime) {
        if second_of(now) != self.second {
            *self = Self::new(now);
        }
    }

    /// Appends the head of `response` to `out`, up to and with the empty line.
    ///
    /// The head has `Date` and, unless the status forbids it, `Content-Length`
    /// with the length of the body, also when the body will not be sent (HEAD), and
    /// last `X-Request-Id`, where the request has a name.
    ///
    /// # Errors
    /// [`BadHeader`] when a name or value must not be sent; `out` is unchanged.
    pub fn write(
        &mut self,
        out: &mut Vec<u8>,
        response: &Response,
        persistence: Persistence,
    ) -> Result<(), BadHeader> {
        let length = response.body.len();
        let place = &mut self.kept[length % KEPT_HEADS];
        match place
            .as_ref()
            .filter(|kept| kept.is_for(response, persistence))
        {
            Some(kept) => out.extend_from_slice(&kept.bytes),
            None => {
                let start = out.len();
                write_fields(out, response, persistence, &self.date)?;
                let bytes = &out[start..];
                *place = (bytes.len() <= KEPT_HEAD_BYTES_MAX).then(|| Kept {
                    status: response.status,
                    headers: response.headers.clone(),
                    length,
                    persistence,
                    bytes: bytes.into(),
                });
            }
        }
        if let Some(id) = &response.request_id {
            out.extend_from_slice(b"X-Request-Id: ");
            out.extend_from_slice(id.as_str().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

fn second_of(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn date_field(second: u64) -> Header {
    let text = i64::try_from(second)
        .ok()
        .and_then(|second| jiff::Timestamp::from_second(second).ok())
        .and_then(|time| {
            jiff::fmt::rfc2822::DateTimePrinter::new()
                .timestamp_to_rfc9110_string(&time)
                .ok()
        })
        .unwrap_or_else(|| "Thu, 01 Jan 1970 00:00:00 GMT".to_owned());
    Header::from_bytes(&b"Date"[..], text).expect("a date is ASCII")
}

/// Appends the status line and all fields but the name of the request.
fn write_fields(
    out: &mut Vec<u8>,
    response: &Response,
    persistence: Persistence,
    date: &Header,
) -> Result<(), BadHeader> {
    let mut fields = Vec::with_capacity(response.headers.len() + 1);
    fields.push(date.clone());
    for (name, value) in &response.headers {
        let field = checked_field(name, value).ok_or_else(|| BadHeader {
            name: name.to_string(),
        })?;
        fields.push(field);
    }
    let status = StatusCode(response.status);
    let length = response.body.len();
    let message = tiny_http::Response::new(status, fields, std::io::empty(), Some(length), None)
        .with_chunked_threshold(usize::MAX);
    let start = out.len();
    message
        .raw_print(&mut *out, HTTPVersion(1, 1), &[], true, None)
        .expect("writing into memory cannot fail");
    set_connection(out, start, persistence);
    if response.status == 422 {
        set_reason(out, start);
    }
    if may_have_length(response.status) {
        out.truncate(out.len() - b"\r\n".len());
    } else {
        remove_length(out, start);
    }
    Ok(())
}

/// The field, if its name is a token and its value visible ASCII, blanks and
/// tabs, without blanks at its ends (RFC 9110 §5.1, §5.5), and if it is not one
/// of those that the engine writes.
fn checked_field(name: &str, value: &str) -> Option<Header> {
    let engines = [
        "connection",
        "content-length",
        "date",
        "server",
        "x-request-id",
    ];
    let hop = ["transfer-encoding", "trailer", "upgrade"];
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_text = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
    let sendable = !name.is_empty()
        && name.bytes().all(is_token)
        && value.bytes().all(is_text)
        && value.trim_matches([' ', '\t']).len() == value.len()
        && !engines
            .iter()
            .chain(&hop)
            .any(|known| known.eq_ignore_ascii_case(name));
    if sendable {
        Header::from_bytes(name, value).ok()
    } else {
        None
    }
}

/// Puts the `Connection` field, if any, where the writer has put `Server`.
fn set_connection(out: &mut Vec<u8>, start: usize, persistence: Persistence) {
    let line: &[u8] = match persistence {
        Persistence::Implied => b"",
        Persistence::KeepAlive => b"Connection: keep-alive\r\n",
        Persistence::Close => b"Connection: close\r\n",
    };
    let status_line = out[start..]
        .iter()
        .position(|&byte| byte == b'\n')
        .expect("a head has a status line");
    let at = start + status_line + 1;
    assert!(
        out[at..].starts_with(SERVER_LINE),
        "the writer's first field is Server"
    );
    out.splice(at..at + SERVER_LINE.len(), line.iter().copied());
}

/// Puts the reason phrase of today in the place of an older one.
fn set_reason(out: &mut Vec<u8>, start: usize) {
    let (old, new) = UNPROCESSABLE;
    assert!(
        out[start..].starts_with(old),
        "the writer's own status line"
    );
    out.splice(start..start + old.len(), new.iter().copied());
}

/// 1xx and 204 have no `Content-Length`, and that of a 304 would have to be
/// that of the 200 (RFC 9110 §8.6).
fn may_have_length(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 304)
}

/// Whether answers of this status have a body at all (RFC 9112 §6.3 rule 1).
#[must_use]
pub fn may_have_body(status: u16) -> bool {
    may_have_length(status)
}

/// Takes out the field that the writer puts last, and the empty line behind it.
fn remove_length(out: &mut Vec<u8>, start: usize) {
    const NAME: &[u8] = b"\r\nContent-Length: ";
    let at = out[start..]
        .windows(NAME.len())
        .rposition(|window| window == NAME)
        .expect("the writer puts Content-Length last");
    out.truncate(start + at + b"\r\n".len());
}

#[cfg(test)]
mod tests;
