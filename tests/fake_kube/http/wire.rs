//! Decodes [`Request`]s and encodes [`Response`]s.

use std::io::{self, Read, Write};

use crate::fake_kube::api::{Request, Response};

/// The largest request head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The largest body; the real API server accepts 3 MiB.
pub(crate) const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// The most header lines.
const HEADERS_MAX: usize = 100;

/// The result of reading from a connection.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A request, and whether the connection can be used again.
    Request(Box<Request>, bool),
    /// The client closed the connection between two requests.
    Closed,
    /// Not HTTP, or too large: respond with this code and close.
    Broken(u16),
}

#[derive(Default)]
struct Head {
    request: Request,
    body_bytes: usize,
    chunked: bool,
    keep_alive: bool,
    expects_continue: bool,
}

/// Reads the next request. `pending` holds bytes that were read beyond it.
pub(crate) fn read_request(
    stream: &mut (impl Read + Write),
    pending: &mut Vec<u8>,
) -> io::Result<Incoming> {
    let (head, head_bytes) = loop {
        match parse_head(pending) {
            Ok(Some(found)) => break found,
            Ok(None) if pending.len() > HEAD_BYTES_MAX => return Ok(Incoming::Broken(431)),
            Ok(None) => {}
            Err(code) => return Ok(Incoming::Broken(code)),
        }
        if read_more(stream, pending)? == 0 {
            return Ok(Incoming::Closed);
        }
    };
    pending.drain(..head_bytes);
    if head.body_bytes > BODY_BYTES_MAX {
        // A client that is still sending would not see the response.
        let mut rest = head.body_bytes.min(2 * BODY_BYTES_MAX);
        while rest > pending.len() {
            rest -= pending.len();
            pending.clear();
            if read_more(stream, pending)? == 0 {
                break;
            }
        }
        return Ok(Incoming::Broken(413));
    }
    if head.expects_continue {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        stream.flush()?;
    }
    let mut request = head.request;
    request.body = if head.chunked {
        match read_chunks(stream, pending)? {
            Some(body) => body,
            None => return Ok(Incoming::Broken(400)),
        }
    } else {
        while pending.len() < head.body_bytes {
            if read_more(stream, pending)? == 0 {
                return Ok(Incoming::Closed);
            }
        }
        pending.drain(..head.body_bytes).collect()
    };
    Ok(Incoming::Request(Box::new(request), head.keep_alive))
}

fn read_more(stream: &mut impl Read, pending: &mut Vec<u8>) -> io::Result<usize> {
    let mut block = [0_u8; 8192];
    loop {
        match stream.read(&mut block) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => {
                let count = read?;
                pending.extend_from_slice(&block[..count]);
                return Ok(count);
            }
        }
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, u16> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let size = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(431),
        Err(_) => return Err(400),
    };
    let target = parsed.path.unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut head = Head {
        keep_alive: parsed.version == Some(1),
        ..Head::default()
    };
    head.request.method = parsed.method.unwrap_or("").to_owned();
    head.request.path = decode(path, false);
    head.request.query = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key, true), decode(value, true))
        })
        .collect();
    for header in parsed.headers.iter() {
        let value = String::from_utf8_lossy(header.value).into_owned();
        match header.name.to_ascii_lowercase().as_str() {
            "content-length" => head.body_bytes = value.trim().parse().map_err(|_| 400_u16)?,
            "transfer-encoding" => head.chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => head.keep_alive = !value.eq_ignore_ascii_case("close"),
            "expect" => head.expects_continue = value.eq_ignore_ascii_case("100-continue"),
            "content-type" => head.request.content_type = Some(value),
            "authorization" => head.request.authorization = Some(value),
            "user-agent" => head.request.user_agent = value,
            "traceparent" => head.request.traceparent = value,
            _ => {}
        }
    }
    Ok(Some((head, size)))
}

fn read_chunks(stream: &mut impl Read, pending: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        match httparse::parse_chunk_size(pending) {
            Ok(httparse::Status::Complete((start, length))) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if body.len().saturating_add(length) > BODY_BYTES_MAX {
                    return Ok(None);
                }
                while pending.len() < start + length + 2 {
                    if read_more(stream, pending)? == 0 {
                        return Ok(None);
                    }
                }
                body.extend_from_slice(&pending[start..start + length]);
                pending.drain(..start + length + 2);
                if length == 0 {
                    return Ok(Some(body));
                }
            }
            Ok(httparse::Status::Partial) => {
                if read_more(stream, pending)? == 0 {
                    return Ok(None);
                }
            }
            Err(_) => return Ok(None),
        }
    }
}

/// Percent-decoding; `+` is a space in queries only.
fn decode(text: &str, in_query: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |from: usize| {
            let pair = bytes.get(from..from + 2)?;
            u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()
        };
        match (bytes[at], hex(at + 1)) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) if in_query => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn reason(code: u16) -> &'static str {
    match code {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}

/// Writes a whole response.
pub(crate) fn write_response(
    stream: &mut impl Write,
    response: &Response,
    date: &str,
    keep_alive: bool,
) -> io::Result<()> {
    // Probes return plain text; all others return JSON.
    let (kind, body) = match response.body.as_str() {
        Some(word) => ("text/plain; charset=utf-8", word.to_owned()),
        None if response.code == 204 => ("text/plain", String::new()),
        None => ("application/json", format!("{}\n", response.body)),
    };
    let mut head = format!(
        "HTTP/1.1 {} {}\r\nDate: {date}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n",
        response.code,
        reason(response.code),
        body.len()
    );
    for (name, value) in &response.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !keep_alive {
        head.push_str("Connection: close\r\n");
    }
    head.push_str("\r\n");
    head.push_str(&body);
    stream.write_all(head.as_bytes())?;
    stream.flush()
}

/// Writes the head of a watch.
pub(crate) fn write_watch_head(stream: &mut impl Write, date: &str) -> io::Result<()> {
    write_stream_head(stream, date, "application/json")
}

/// Writes the head of a log.
pub(crate) fn write_log_head(stream: &mut impl Write, date: &str) -> io::Result<()> {
    write_stream_head(stream, date, "text/plain")
}

fn write_stream_head(stream: &mut impl Write, date: &str, kind: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.flush()
}

/// Writes one chunk; an empty one ends the body.
pub(crate) fn write_chunk(stream: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    stream.write_all(&chunk)?;
    stream.flush()
}

/// How many bytes a body without an end sends at most, should the client never close.
const ENDLESS_BYTES_MAX: usize = 512 << 20;

/// Writes a head and a list that does not end: an error once the client has closed.
pub(crate) fn write_endless(stream: &mut impl Write, date: &str) -> io::Result<()> {
    write_watch_head(stream, date)?;
    write_chunk(stream, br#"{"kind":"List","metadata":{},"items":[{}"#)?;
    let items = br#",{"metadata":{"name":"x"}}"#.repeat(2_000);
    for _ in 0..ENDLESS_BYTES_MAX / items.len() {
        write_chunk(stream, &items)?;
    }
    Ok(())
}
