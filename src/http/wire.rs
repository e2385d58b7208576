//! Writing answers: from our [`Response`] to the bytes of its head.
//!
//! The only file that names `tiny_http`. Its answer type and writer make the
//! status line and the header fields; what it insists on and we do not want (a
//! `Server` field, contract A18) or does not let us say (`Connection`) is put
//! right here, in one place. Pure: the time of day is an argument. Bodies are
//! not copied through here, since they may be shared.

use crate::http::message::Response;
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

/// The `Date` field (RFC 9110 §6.6.1), made once a second and not for each answer.
#[derive(Clone, Debug)]
pub struct Date {
    second: u64,
    field: Header,
}

impl Date {
    /// The field for this time of day.
    #[must_use]
    pub fn new(now: SystemTime) -> Self {
        let second = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        Self {
            second,
            field: date_field(second),
        }
    }

    /// Moves on to this time of day.
    pub fn update(&mut self, now: SystemTime) {
        let second = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        if second != self.second {
            self.second = second;
            self.field = date_field(second);
        }
    }
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

/// Appends the head of `response` to `out`, up to and with the empty line.
///
/// The head has `Date` and, unless the status forbids it, `Content-Length`
/// with the length of the body, also when the body will not be sent (HEAD), and
/// last `X-Request-Id`, where the request has a name.
///
/// # Errors
/// [`BadHeader`] when a name or value must not be sent; `out` is unchanged.
pub fn write_head(
    out: &mut Vec<u8>,
    response: &Response,
    persistence: Persistence,
    date: &Date,
) -> Result<(), BadHeader> {
    let mut fields = Vec::with_capacity(response.headers.len() + 1);
    fields.push(date.field.clone());
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
    out.reserve(256);
    message
        .raw_print(&mut *out, HTTPVersion(1, 1), &[], true, None)
        .expect("writing into memory cannot fail");
    set_connection(out, start, persistence);
    if response.status == 422 {
        set_reason(out, start);
    }
    if !may_have_length(response.status) {
        remove_length(out, start);
    }
    if let Some(id) = &response.request_id {
        push_last_field(out, b"X-Request-Id: ", id.as_str());
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

/// Puts one more field before the empty line; its value was checked when it was made.
fn push_last_field(out: &mut Vec<u8>, name: &[u8], value: &str) {
    out.truncate(out.len() - b"\r\n".len());
    out.extend_from_slice(name);
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
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

/// Takes out the field that the writer puts last.
fn remove_length(out: &mut Vec<u8>, start: usize) {
    const NAME: &[u8] = b"\r\nContent-Length: ";
    let at = out[start..]
        .windows(NAME.len())
        .rposition(|window| window == NAME)
        .expect("the writer puts Content-Length last");
    out.truncate(start + at);
    out.extend_from_slice(b"\r\n\r\n");
}

#[cfg(test)]
mod tests;
