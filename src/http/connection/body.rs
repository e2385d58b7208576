//! Bodies: by length, or chunked (RFC 9112 §6, §7.1). Pure.
//!
//! Memory grows with what has arrived, never with what was announced. Chunk extensions are skipped
//! and trailer fields dropped, both within bounds. How a body is framed is decided in
//! [`super::head`].

use super::scan::Scan;
use crate::http::message::{Limits, Refusal};

/// Bytes of one chunk-size line, with extensions and CRLF.
const CHUNK_LINE_BYTES_MAX: usize = 1024;

/// Digits of a chunk size; 16 hold 64 bits.
const CHUNK_SIZE_DIGITS_MAX: usize = 16;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After this many bytes; 0 also if the head has no framing field (RFC 9112 §6.3 rule 7).
    Length(u64),
    Chunked,
}

/// Whether a body is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Partial,
    Complete,
}

/// Extracts a body from the bytes that arrive.
#[derive(Debug)]
pub(super) enum Decoder {
    /// So many bytes are still to come.
    Length(usize),
    Chunked(Chunked),
}

#[derive(Debug)]
pub(super) struct Chunked {
    state: ChunkState,
    /// Bytes of all extensions so far.
    extension_bytes: usize,
}

#[derive(Debug)]
enum ChunkState {
    Size,
    /// So many bytes of this chunk are still to come.
    Data(usize),
    /// The CRLF after the data.
    DataEnd,
    Trailers(Scan),
}

impl Decoder {
    /// # Errors
    /// [`Refusal::BodyTooLarge`] when the announced length is above the limit.
    pub(super) fn new(framing: Framing, limits: &Limits) -> Result<Self, Refusal> {
        match framing {
            Framing::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= limits.body_bytes => Ok(Self::Length(length)),
                _ => Err(Refusal::BodyTooLarge),
            },
            Framing::Chunked => Ok(Self::Chunked(Chunked {
                state: ChunkState::Size,
                extension_bytes: 0,
            })),
        }
    }

    /// Appends what belongs to the body from `input` to `body`; returns how many
    /// bytes of `input` were used.
    pub(super) fn decode(
        &mut self,
        input: &[u8],
        body: &mut Vec<u8>,
        limits: &Limits,
    ) -> Result<(usize, Progress), Refusal> {
        match self {
            Self::Length(left) => {
                let used = input.len().min(*left);
                body.extend_from_slice(&input[..used]);
                *left -= used;
                let progress = if *left == 0 {
                    Progress::Complete
                } else {
                    Progress::Partial
                };
                Ok((used, progress))
            }
            Self::Chunked(chunked) => chunked.decode(input, body, limits),
        }
    }
}

impl Chunked {
    fn decode(
        &mut self,
        input: &[u8],
        body: &mut Vec<u8>,
        limits: &Limits,
    ) -> Result<(usize, Progress), Refusal> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match &mut self.state {
                ChunkState::Size => {
                    let Some((line, length)) = take_line(rest)? else {
                        return Ok((used, Progress::Partial));
                    };
                    used += length;
                    let size = self.read_size(line, body.len(), limits)?;
                    self.state = match size {
                        0 => ChunkState::Trailers(Scan::default()),
                        size => ChunkState::Data(size),
                    };
                }
                ChunkState::Data(left) => {
                    let count = rest.len().min(*left);
                    body.extend_from_slice(&rest[..count]);
                    used += count;
                    *left -= count;
                    if *left > 0 {
                        return Ok((used, Progress::Partial));
                    }
                    self.state = ChunkState::DataEnd;
                }
                ChunkState::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        used += 2;
                        self.state = ChunkState::Size;
                    }
                    [] | [b'\r'] => return Ok((used, Progress::Partial)),
                    _ => return Err(Refusal::BadRequest("a chunk is longer than its size")),
                },
                ChunkState::Trailers(scan) => {
                    let Some(length) = scan.advance(rest, limits).map_err(trailer_refusal)? else {
                        return Ok((used, Progress::Partial));
                    };
                    check_trailers(&rest[..length], limits)?;
                    return Ok((used + length, Progress::Complete));
                }
            }
        }
    }

    /// `chunk-size [ chunk-ext ]` (RFC 9112 §7.1): hexadecimal digits only, then
    /// nothing, or extensions, which are ignored (§7.1.1).
    fn read_size(
        &mut self,
        line: &[u8],
        body_bytes: usize,
        limits: &Limits,
    ) -> Result<usize, Refusal> {
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
        let digits = digits.count();
        let (size, extension) = line.split_at(digits);
        if digits == 0 || digits > CHUNK_SIZE_DIGITS_MAX {
            return Err(Refusal::BadRequest("malformed chunk size"));
        }
        if !extension.is_empty() && extension.trim_ascii_start().first() != Some(&b';') {
            return Err(Refusal::BadRequest("malformed chunk size"));
        }
        let is_text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
        if !extension.iter().all(is_text) {
            return Err(Refusal::BadRequest("malformed chunk extension"));
        }
        self.extension_bytes += extension.len();
        if self.extension_bytes > limits.head_bytes {
            return Err(Refusal::BadRequest("too many chunk extensions"));
        }
        let size = std::str::from_utf8(size).expect("digits are UTF-8");
        let size = u64::from_str_radix(size, 16).expect("at most 16 digits");
        match usize::try_from(size) {
            Ok(size) if size <= limits.body_bytes.saturating_sub(body_bytes) => Ok(size),
            _ => Err(Refusal::BodyTooLarge),
        }
    }
}

/// The first line of `bytes` without its CRLF, and its length with it.
fn take_line(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Refusal> {
    let window = &bytes[..bytes.len().min(CHUNK_LINE_BYTES_MAX)];
    match window.iter().position(|&byte| byte == b'\n') {
        Some(at) => match window[..at].strip_suffix(b"\r") {
            Some(line) => Ok(Some((line, at + 1))),
            None => Err(Refusal::BadRequest("a line ends without CRLF")),
        },
        None if window.len() < CHUNK_LINE_BYTES_MAX => Ok(None),
        None => Err(Refusal::BadRequest("a chunk-size line is too long")),
    }
}

/// Trailer fields obey the syntax of fields (RFC 9112 §7.1.2); they are dropped.
fn check_trailers(bytes: &[u8], limits: &Limits) -> Result<(), Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; Limits::HEADER_COUNT_MAX];
    let count = limits.header_count.min(Limits::HEADER_COUNT_MAX);
    match httparse::parse_headers(bytes, &mut fields[..count]) {
        Ok(httparse::Status::Complete((length, _))) if length == bytes.len() => Ok(()),
        Err(httparse::Error::TooManyHeaders) => Err(Refusal::HeadTooLarge),
        _ => Err(Refusal::BadRequest("malformed trailer field")),
    }
}

/// A section of trailer fields has no request line that could be too long.
fn trailer_refusal(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::TargetTooLong => Refusal::HeadTooLarge,
        Refusal::BadRequest(_) => Refusal::BadRequest("malformed trailer field"),
        other => other,
    }
}
