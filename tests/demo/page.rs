//! One response to one HTTP request: a text as a page, to whatever is requested.
//!
//! The demo app shows its instance with it, and the sandbox its pods. The size and the duration of a
//! request are bounded; connections are the caller's. No server library: the image of the demo app
//! has a bound that few would leave room in.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long one request may take.
pub(crate) const REQUEST_MAX: Duration = Duration::from_millis(500);

/// Bytes of a request's head at most.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Reads one request and sends what `text` returns then.
pub(crate) fn respond(mut connection: TcpStream, text: impl FnOnce() -> String) -> io::Result<()> {
    let deadline = Instant::now() + REQUEST_MAX;
    connection.set_write_timeout(Some(REQUEST_MAX))?;
    let mut head = Vec::new();
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || head.len() > HEAD_BYTES_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        connection.set_read_timeout(Some(left))?;
        let mut buffer = [0; 1024];
        match connection.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => head.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let text = text();
    let length = text.len();
    let body = if head.starts_with(b"HEAD ") {
        ""
    } else {
        &text
    };
    write!(
        connection,
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}
