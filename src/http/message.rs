//! Values of the HTTP front: requests, responses, refusals, limits.
//!
//! What handlers and the connection machine exchange lives here. Pure: no sockets, files, threads,
//! environment or wall clock, so that handlers can be tested with plain values. Bytes of the
//! protocol are read in [`crate::http::connection`] and written in [`crate::http::wire`].

mod body;
mod charge;
pub mod field;
mod limits;
mod refusal;

pub use body::Body;
pub use limits::Limits;
pub use refusal::Refusal;

use crate::app::RequestId;
use crate::app::cache::InstanceVersion;
use crate::traces::Context;
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

/// The method of a request. Methods are case-sensitive (RFC 9110 §9.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
    /// Any other token, as it was received.
    Other(Box<str>),
}

impl Method {
    /// The method with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            other => Self::Other(other.into()),
        }
    }

    /// The name as it stands in a request line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(name) => name,
            method => method.known().unwrap_or_default(),
        }
    }

    /// The name of a method of HTTP; callers could make up others without end.
    #[must_use]
    pub const fn known(&self) -> Option<&'static str> {
        Some(match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Other(_) => return None,
        })
    }
}

/// The protocol version of a request; others are refused with 505.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// Header fields of a request, in the order of arrival.
///
/// All text is kept in one buffer, so that a head costs two allocations.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    text: Vec<u8>,
    /// Start of the name, start of the value, end of the value.
    spans: Vec<[u32; 3]>,
}

/// Hides credentials, so that no log line can show them.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = |name: &str| {
            ["authorization", "proxy-authorization", "cookie"]
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known))
        };
        let mut map = f.debug_map();
        for (name, value) in self.iter() {
            if secret(name) {
                map.entry(&name, &"[hidden]");
            } else {
                map.entry(&name, &String::from_utf8_lossy(value));
            }
        }
        map.finish()
    }
}

impl Headers {
    /// No fields yet, with capacity for `fields` fields of `bytes` bytes in total.
    #[must_use]
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self {
            text: Vec::with_capacity(bytes),
            spans: Vec::with_capacity(fields),
        }
    }

    /// Appends a field.
    ///
    /// # Panics
    /// When all fields together are longer than 4 GiB, which
    /// [`Limits::head_bytes`] rules out.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        let at = |index: usize| u32::try_from(index).expect("heads are bounded far below 4 GiB");
        let start = at(self.text.len());
        self.text.extend_from_slice(name.as_bytes());
        let middle = at(self.text.len());
        self.text.extend_from_slice(value);
        self.spans.push([start, middle, at(self.text.len())]);
    }

    /// How much memory they take, in bytes.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.text.capacity() + self.spans.capacity() * size_of::<[u32; 3]>()
    }

    /// All fields in the order of arrival, names as they were received.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.spans.iter().map(|&[start, middle, end]| {
            let name = &self.text[start as usize..middle as usize];
            let value = &self.text[middle as usize..end as usize];
            let name = std::str::from_utf8(name).expect("pushed as a str");
            (name, value)
        })
    }

    /// The values of all fields with this name, in any case.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let is_it = move |&&[start, middle, _]: &&[u32; 3]| {
            self.text[start as usize..middle as usize].eq_ignore_ascii_case(name.as_bytes())
        };
        let value = |&[_, middle, end]: &[u32; 3]| &self.text[middle as usize..end as usize];
        self.spans.iter().filter(is_it).map(value)
    }

    /// The first value with this name, in any case.
    #[must_use]
    pub fn get_bytes<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.get_all(name).next()
    }

    /// As [`Headers::get_bytes`], where the value is UTF-8; a value that is not
    /// counts as absent.
    #[must_use]
    pub fn get<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.get_bytes(name)
            .and_then(|value| std::str::from_utf8(value).ok())
    }
}

/// A complete request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path as it was received, still percent-encoded; starts with `/`, or
    /// is `*` for `OPTIONS *`. Bytes outside ASCII are possible (UTF-8).
    pub path: String,
    /// What follows the first `?`, as it was received.
    pub query: Option<String>,
    /// The authority of an absolute-form target, which replaces `Host`
    /// (RFC 9112 §3.2.2); see [`Request::host`].
    pub authority: Option<String>,
    /// The version of the protocol.
    pub version: Version,
    /// The header fields.
    pub headers: Headers,
    /// The body, without transfer coding; trailer fields are dropped.
    pub body: Vec<u8>,
    /// The address of the peer; IPv4 in IPv6 is shown as IPv4.
    pub peer: IpAddr,
    /// Whether the request came through TLS.
    pub secure: bool,
    /// Its ID in the log and in `X-Request-Id`; set by the server before it calls the handler.
    pub id: RequestId,
    /// Its span, where there are traces; [`crate::http::dispatcher`] gives it.
    pub trace: Option<Context>,
}

impl Request {
    /// An HTTP/1.1 request for `target` (path and query) without headers and body, from 127.0.0.1
    /// until its connection says from where.
    #[must_use]
    pub fn new(method: Method, target: &str) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (target.to_owned(), None),
        };
        Self {
            method,
            path,
            query,
            authority: None,
            version: Version::Http11,
            headers: Headers::default(),
            body: Vec::new(),
            peer: IpAddr::from([127, 0, 0, 1]),
            secure: false,
            id: RequestId::default(),
            trace: None,
        }
    }

    /// The host (and port) that the caller meant: that of an absolute-form
    /// target, else the `Host` field.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.authority
            .as_deref()
            .or_else(|| self.headers.get("host"))
    }
}

/// A name or value of a header field of a response.
pub type Text = Cow<'static, str>;

/// A response. `Date`, `Content-Length`, `Connection`, `X-Request-Id` and the fields of its instance are
/// added on writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code, 200 to 599.
    pub status: u16,
    /// Header fields in the order in which they are written. A name or value that cannot be sent
    /// (controls, CR, LF, outside ASCII) is a bug of the service: the response becomes a 500.
    pub headers: Vec<(Text, Text)>,
    /// The body; not sent for HEAD, 204 and 304.
    pub body: Body,
    /// The instance that it is about, if its caller is to know which.
    pub instance: Option<InstanceVersion>,
    /// The address of that instance, if it is ready.
    pub address: Option<IpAddr>,
    /// The ID of its request; set by the server.
    pub request_id: Option<RequestId>,
}

impl Response {
    /// A response without headers and body.
    #[must_use]
    pub const fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Body::Static(b""),
            instance: None,
            address: None,
            request_id: None,
        }
    }

    /// A response whose body is this JSON text.
    #[must_use]
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::with_type(status, "application/json", Body::Owned(body.into()))
    }

    /// A response with a body of this media type.
    #[must_use]
    pub fn with_type(status: u16, media_type: &'static str, body: Body) -> Self {
        // Room for most responses, in one allocation.
        let mut headers = Vec::with_capacity(4);
        headers.push(("content-type".into(), media_type.into()));
        Self {
            status,
            headers,
            body,
            instance: None,
            address: None,
            request_id: None,
        }
    }

    /// The same response with one more header field.
    #[must_use]
    pub fn header(mut self, name: impl Into<Text>, value: impl Into<Text>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

#[cfg(test)]
mod tests;
