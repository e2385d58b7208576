//! Request heads, read strictly. Pure.
//!
//! `httparse` reads lines and fields. What it accepts is refused here if RFC 9112 forbids it, or if
//! two readers could understand it differently. Each rule names its section; rules that a recipient
//! may relax are not relaxed. Where a head ends is found in [`super::scan`].

use super::body::Framing;
use crate::http::message::{Headers, Limits, Method, Refusal, Request, Version};
use crate::http::wire::Persistence;
use std::mem::MaybeUninit;

/// Empty lines before a request line that are ignored (RFC 9112 §2.2 asks for one).
pub(super) const BLANK_LINES_MAX: u8 = 4;

/// A request head, parsed.
#[derive(Debug)]
pub(super) struct Head {
    /// The request, without its body; the connection knows who has sent it.
    pub(super) request: Box<Request>,
    pub(super) framing: Framing,
    pub(super) expects_continue: bool,
    pub(super) persistence: Persistence,
}

/// Reads a head that ends with its empty line.
pub(super) fn parse(bytes: &[u8], limits: &Limits) -> Result<Head, Refusal> {
    let mut fields = [const { MaybeUninit::uninit() }; Limits::HEADER_COUNT_MAX];
    let count = limits.header_count.min(Limits::HEADER_COUNT_MAX);
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(bytes, &mut fields[..count]) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(Refusal::BadRequest("malformed request head")),
        Err(error) => return Err(refusal_of(error, bytes)),
    }
    let version = match parsed.version {
        Some(0) => Version::Http10,
        _ => Version::Http11,
    };
    let method = Method::from_name(parsed.method.unwrap_or_default());
    let mut request = request_for(method, parsed.path.unwrap_or_default())?;
    let facts = Facts::gather(parsed.headers)?;
    facts.check_host(version)?;
    let framing = facts.framing(version)?;
    facts.check_coding(framing)?;
    let text = parsed.headers.iter();
    let text = text.map(|field| field.name.len() + field.value.len()).sum();
    request.version = version;
    request.headers = Headers::with_capacity(parsed.headers.len(), text);
    for field in &*parsed.headers {
        request.headers.push(field.name, field.value);
    }
    Ok(Head {
        expects_continue: facts.expects_continue(version, framing)?,
        persistence: facts.persistence(version),
        request: Box::new(request),
        framing,
    })
}

fn refusal_of(error: httparse::Error, bytes: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::HeadTooLarge,
        httparse::Error::Version if names_another_version(bytes) => Refusal::VersionNotSupported,
        httparse::Error::Version => Refusal::BadRequest("malformed protocol version"),
        // Also obs-fold (RFC 9112 §5.2), an empty name, whitespace before the
        // colon (§5.1) and a field without a colon.
        httparse::Error::HeaderName => Refusal::BadRequest("malformed header field name"),
        // NUL, bare CR and other controls (RFC 9110 §5.5, RFC 9112 §2.2).
        httparse::Error::HeaderValue => Refusal::BadRequest("malformed header field value"),
        _ => Refusal::BadRequest("malformed request line"),
    }
}

/// Whether the request line ends with `HTTP/` digit `.` digit (RFC 9112 §2.3) of an unsupported
/// version, as the preface of HTTP/2 does (RFC 9113 §3.4).
fn names_another_version(bytes: &[u8]) -> bool {
    let line = bytes
        .split(|&byte| byte == b'\r')
        .next()
        .unwrap_or_default();
    let last = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    match last.strip_prefix(b"HTTP/") {
        Some(b"1.0" | b"1.1") => false,
        Some([major, b'.', minor]) => major.is_ascii_digit() && minor.is_ascii_digit(),
        _ => false,
    }
}

/// The request with this target (RFC 9112 §3.2), without fields.
fn request_for(method: Method, target: &str) -> Result<Request, Refusal> {
    if method.as_str() == "CONNECT" {
        // §3.2.3: authority-form; and RFC 9110 §9.3.6: a tunnel, not for us.
        return Err(Refusal::NotImplemented("CONNECT is not supported"));
    }
    if target.contains('#') {
        return Err(Refusal::BadRequest(
            "a request target must not have a fragment",
        ));
    }
    // §3.2.4: asterisk-form is for OPTIONS only.
    if target == "*" && method != Method::Options {
        return Err(Refusal::BadRequest(
            "the request target * is for OPTIONS only",
        ));
    }
    if target == "*" || target.starts_with('/') {
        return Ok(Request::new(method, target));
    }
    // §3.2.2: absolute-form must be accepted by every server.
    let rest = strip_scheme(target).ok_or(Refusal::BadRequest("malformed request target"))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path_and_query) = rest.split_at(end);
    // Userinfo is an error (RFC 9110 §4.2.4), and so is an empty host (§4.2.1).
    if authority.is_empty() || !is_host(authority.as_bytes()) {
        return Err(Refusal::BadRequest("malformed authority in the target"));
    }
    let mut request = Request::new(method, path_and_query);
    if request.path.is_empty() {
        request.path.push('/');
    }
    request.authority = Some(authority.to_owned());
    Ok(request)
}

/// Schemes are case-insensitive (RFC 3986 §3.1).
fn strip_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    let known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    known.then_some(rest)
}

/// Whether every byte is allowed in `uri-host [ ":" port ]` (RFC 9110 §7.2,
/// RFC 3986 §3.2.2). Userinfo, blanks, paths and commas of joined fields are not;
/// an empty host is.
fn is_host(text: &[u8]) -> bool {
    text.iter()
        .all(|&byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(&byte))
}

/// The fields that decide about framing and the connection.
#[derive(Debug, Default)]
struct Facts<'a> {
    host: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
    codings: Option<Vec<&'a [u8]>>,
    /// Whether a content coding other than `identity` is named.
    is_coded: bool,
    close: bool,
    keep_alive: bool,
    expect: bool,
    expect_other: bool,
}

impl<'a> Facts<'a> {
    fn gather(fields: &[httparse::Header<'a>]) -> Result<Self, Refusal> {
        let mut facts = Self::default();
        for field in fields {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            match field.name.len() {
                // RFC 9112 §3.2: more than one Host line is refused.
                4 if is("host") => {
                    set_once(&mut facts.host, field.value, "more than one Host field")?;
                }
                // RFC 9112 §6.3 rule 5 allows a list of equal values. Two readers could understand
                // it differently, so only one line with one value is accepted.
                14 if is("content-length") => {
                    let twice = "more than one Content-Length field";
                    set_once(&mut facts.length, field.value, twice)?;
                }
                17 if is("transfer-encoding") => {
                    let codings = facts.codings.get_or_insert_default();
                    codings.extend(
                        field
                            .value
                            .split(|&byte| byte == b',')
                            .map(<[u8]>::trim_ascii),
                    );
                }
                16 if is("content-encoding") => {
                    let codings = field.value.split(|&byte| byte == b',');
                    facts.is_coded |= codings.map(<[u8]>::trim_ascii).any(|coding| {
                        !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")
                    });
                }
                10 if is("connection") => facts.note_connection(field.value),
                6 if is("expect") => {
                    facts.expect = true;
                    facts.expect_other |= !field.value.eq_ignore_ascii_case(b"100-continue");
                }
                _ => {}
            }
        }
        Ok(facts)
    }

    fn note_connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// RFC 9112 §3.2: an HTTP/1.1 request without Host is refused, and so is an
    /// invalid value.
    fn check_host(&self, version: Version) -> Result<(), Refusal> {
        match self.host {
            None if version >= Version::Http11 => Err(Refusal::BadRequest("missing Host field")),
            Some(host) if !is_host(host) => Err(Refusal::BadRequest("malformed Host field")),
            _ => Ok(()),
        }
    }

    /// RFC 9112 §6.1 and §6.3.
    fn framing(&self, version: Version) -> Result<Framing, Refusal> {
        match (&self.codings, self.length) {
            // §6.1: may be refused, ought to be handled as an error.
            (Some(_), Some(_)) => Err(Refusal::BadRequest(
                "both Content-Length and Transfer-Encoding",
            )),
            // §6.1: the framing of such a message is faulty.
            (Some(_), None) if version < Version::Http11 => {
                Err(Refusal::BadRequest("Transfer-Encoding in HTTP/1.0"))
            }
            (Some(codings), None) => framing_of_codings(codings),
            (None, Some(length)) => framing_of_length(length),
            (None, None) => Ok(Framing::Length(0)),
        }
    }

    /// RFC 9110 §15.5.16: bodies are read as they are sent; without one the field says nothing.
    fn check_coding(&self, framing: Framing) -> Result<(), Refusal> {
        if self.is_coded && framing != Framing::Length(0) {
            return Err(Refusal::ContentEncoding);
        }
        Ok(())
    }

    /// RFC 9110 §10.1.1: other expectations are refused with 417, those of
    /// HTTP/1.0 are ignored, and without a body no 100 is sent.
    fn expects_continue(&self, version: Version, framing: Framing) -> Result<bool, Refusal> {
        if version < Version::Http11 {
            return Ok(false);
        }
        if self.expect_other {
            return Err(Refusal::ExpectationFailed);
        }
        Ok(self.expect && framing != Framing::Length(0))
    }

    /// RFC 9112 §9.3: `close` wins; HTTP/1.0 stays open only with `keep-alive`.
    fn persistence(&self, version: Version) -> Persistence {
        match version {
            _ if self.close => Persistence::Close,
            Version::Http11 => Persistence::Implied,
            Version::Http10 if self.keep_alive => Persistence::KeepAlive,
            Version::Http10 => Persistence::Close,
        }
    }
}

fn set_once<'a>(
    place: &mut Option<&'a [u8]>,
    value: &'a [u8],
    twice: &'static str,
) -> Result<(), Refusal> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Refusal::BadRequest(twice)),
    }
}

/// RFC 9112 §6.1: only `chunked`, once and last, frames a request. Where it is last behind unknown
/// codings, the same section requires 501.
fn framing_of_codings(codings: &[&[u8]]) -> Result<Framing, Refusal> {
    let chunked = |coding: &&[u8]| coding.eq_ignore_ascii_case(b"chunked");
    match codings {
        [only] if chunked(only) => Ok(Framing::Chunked),
        [before @ .., last] if chunked(last) && !before.iter().any(chunked) => {
            if before.iter().any(|coding| coding.is_empty()) {
                return Err(Refusal::BadRequest("malformed Transfer-Encoding field"));
            }
            Err(Refusal::NotImplemented(
                "only the transfer coding chunked is supported",
            ))
        }
        _ => Err(Refusal::BadRequest("the transfer coding is not chunked")),
    }
}

/// RFC 9110 §8.6: digits only; what does not fit in 64 bits is refused as too large.
fn framing_of_length(text: &[u8]) -> Result<Framing, Refusal> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::BadRequest("malformed Content-Length field"));
    }
    let text = std::str::from_utf8(text).expect("digits are UTF-8");
    text.parse()
        .map(Framing::Length)
        .map_err(|_| Refusal::BodyTooLarge)
}
