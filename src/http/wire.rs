//! Writing responses: from our [`Response`] to the bytes of its head.
//!
//! The only file that names `tiny_http`, which provides header fields and reason phrases. Its
//! writer is not used: it adds fields that we do not want (`Server`, contract A18) and omits
//! `Connection`. Editing its output would depend on details that an update may change. Pure: the
//! time of day is an argument. Bodies do not pass through here, since they may be shared.

use crate::app::cache::InstanceVersion;
use crate::http::message::{Response, Text, field};
use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};
use tiny_http::{Header, StatusCode};

/// The `Connection` field of a head (RFC 9112 §9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It stays open, which is the default: no field.
    Implied,
    /// It stays open, which needs a field in HTTP/1.0.
    KeepAlive,
    /// It ends after this response.
    Close,
}

/// How the end of a body is told (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By its length, which is known.
    Length,
    /// By a last chunk.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// A response that cannot be written, since a header name or value must not be sent. That is a bug
/// of the service; the caller gets a 500.
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

/// Makes heads. The last ones are kept for the second of their `Date` (RFC 9110 §6.6.1). Most
/// responses of a second are alike, and making a head costs as much as handling its request.
#[derive(Debug)]
pub struct Heads {
    second: u64,
    /// The value of `Date`.
    date: String,
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
    /// Heads for this time of day.
    #[must_use]
    pub fn new(now: SystemTime) -> Self {
        let second = second_of(now);
        Self {
            second,
            date: date_of(second),
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
    /// The head has `Date`. At its end are `Instance-Id`, `ETag` and `X-Instance-Address`, if it is
    /// about an instance, and `X-Request-Id`, if the request has an ID: they differ where the rest is
    /// alike. Unless the status forbids it, `Content-Length` is the length of the body, also when the
    /// body is not sent (HEAD).
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
                write_fields(out, response, Framing::Length, persistence, &self.date)?;
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
        write_end(out, response);
        Ok(())
    }

    /// As [`Heads::write`], of a response whose length is not known.
    ///
    /// # Errors
    /// As of [`Heads::write`].
    pub fn begin_stream(
        &self,
        out: &mut Vec<u8>,
        response: &Response,
        framing: Framing,
        persistence: Persistence,
    ) -> Result<(), BadHeader> {
        write_fields(out, response, framing, persistence, &self.date)?;
        write_end(out, response);
        Ok(())
    }
}

/// Appends what differs where the rest of a head is alike, and the empty line.
fn write_end(out: &mut Vec<u8>, response: &Response) {
    if let Some(instance) = &response.instance {
        write_instance(out, instance);
    }
    // As the host of a URL (RFC 3986 §3.2.2), for proxies: a port follows at once.
    let _ = match response.address {
        Some(IpAddr::V4(ip)) => write!(out, "X-Instance-Address: {ip}\r\n"),
        Some(IpAddr::V6(ip)) => write!(out, "X-Instance-Address: [{ip}]\r\n"),
        None => Ok(()),
    };
    if let Some(id) = &response.request_id {
        out.extend_from_slice(b"X-Request-Id: ");
        out.extend_from_slice(id.as_str().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// The last second of the year 9999, after which a date cannot be written.
const LAST_SECOND: u64 = 253_402_300_799;

fn second_of(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn date_of(second: u64) -> String {
    let second = second.min(LAST_SECOND);
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second))
}

/// Appends the status line and all fields but the request ID.
fn write_fields(
    out: &mut Vec<u8>,
    response: &Response,
    framing: Framing,
    persistence: Persistence,
    date: &str,
) -> Result<(), BadHeader> {
    let mut fields = Vec::with_capacity(response.headers.len());
    for (name, value) in &response.headers {
        let field = checked_field(name, value).ok_or_else(|| BadHeader {
            name: name.to_string(),
        })?;
        fields.push(field);
    }
    let status = response.status;
    let status_line = format!("HTTP/1.1 {status} {}\r\n", reason_phrase(status));
    out.extend_from_slice(status_line.as_bytes());
    match persistence {
        Persistence::Implied => {}
        Persistence::KeepAlive => write_field(out, "Connection", "keep-alive"),
        Persistence::Close => write_field(out, "Connection", "close"),
    }
    write_field(out, "Date", date);
    for field in fields {
        write_field(out, field.field.as_str().as_str(), field.value.as_str());
    }
    match framing {
        Framing::Length if may_have_body(status) => {
            write_field(out, "Content-Length", &response.body.len().to_string());
        }
        Framing::Chunked => write_field(out, "Transfer-Encoding", "chunked"),
        Framing::Length | Framing::UntilClose => {}
    }
    Ok(())
}

/// Appends which instance a response is about, and the entity tag of its state.
fn write_instance(out: &mut Vec<u8>, instance: &InstanceVersion) {
    // Kubernetes promises no more of a UID than that it is a text.
    let start = out.len();
    let _ = write!(out, "Instance-Id: {}\r\n", instance.uid);
    let value = &out[start + "Instance-Id: ".len()..out.len() - "\r\n".len()];
    if value.is_empty() || !value.iter().all(u8::is_ascii_graphic) {
        out.truncate(start);
    }
    if let Some(fingerprint) = &instance.fingerprint {
        let _ = write!(out, "ETag: \"{fingerprint}\"\r\n");
    }
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// The reason phrase of a status code. That of 422 is the one of RFC 9110 §15.5.21 and the contract
/// (B2), which is newer than the library.
fn reason_phrase(status: u16) -> &'static str {
    match status {
        422 => "Unprocessable Content",
        status => StatusCode(status).default_reason_phrase(),
    }
}

/// The field, if it can be sent (RFC 9110 §5.1, §5.5): the name is a token; the value is visible
/// ASCII, blanks and tabs, without blanks at its ends. `None` also for fields that are written
/// here.
fn checked_field(name: &str, value: &str) -> Option<Header> {
    let ours = [
        "connection",
        "content-length",
        "date",
        "instance-id",
        "server",
        "x-instance-address",
        "x-request-id",
    ];
    let hop = ["transfer-encoding", "trailer", "upgrade"];
    let sendable = field::is_name(name)
        && field::is_value(value)
        && value.trim_matches([' ', '\t']).len() == value.len()
        && !ours
            .iter()
            .chain(&hop)
            .any(|known| known.eq_ignore_ascii_case(name));
    if !sendable {
        return None;
    }
    Header::from_bytes(name, value).ok()
}

/// Whether responses with this status code have a body (RFC 9112 §6.3 rule 1). The others have no
/// `Content-Length` either: that of a 304 would have to be that of the 200 (RFC 9110 §8.6).
#[must_use]
pub fn may_have_body(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 304)
}

#[cfg(test)]
mod tests;
