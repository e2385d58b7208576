//! The bodies of responses, and the memory that they take while they are read and decoded.
//!
//! Small ones are free: each connection has one. A larger one takes from a [`Budget`] that all
//! share, at once and before it is read further, what it may need: its length if the server has said
//! it, else the bound of one response. So those that are being read never wait for each other, one
//! always goes on, and the others wait until their own time limits.

use super::Response;
use crate::budget::{Budget, Charge};
use crate::kube::buffer;
use crate::kube::error::Failure;
use crate::kube::types::{OBJECT_BYTES_MAX, Timestamp};
use crate::kube::warnings;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::http;

/// Largest response, in bytes. An object alone always fits, and so does a page of a list with one.
pub const RESPONSE_BYTES_MAX: usize = OBJECT_BYTES_MAX;

/// Bytes of all larger responses that are read or decoded at the same time: two of the largest, so
/// that one that comes slowly does not hold up all others. That is a fifth of the memory limit in
/// our manifests.
pub const RESPONSES_BYTES_MAX: usize = 2 * RESPONSE_BYTES_MAX;

/// A response up to this size takes nothing from the budget, in bytes: an object or some. There are
/// no more of them than connections. Of an error no more is read.
pub const SMALL_BYTES: usize = 256 * 1024;

/// Reads a response to its end; one that does not fit waits for others until the deadline.
pub(super) fn read_whole(
    response: http::Response<ureq::Body>,
    budget: &Arc<Budget>,
    deadline: Instant,
) -> Result<Response, Failure> {
    let retry_after = response.headers().get("retry-after");
    let retry_after = retry_after
        .and_then(|secs| secs.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let date = response.headers().get("date");
    let date = date.and_then(|date| Timestamp::parse_date(date.to_str().ok()?));
    let warnings = response.headers().get_all("warning").iter();
    let warnings = warnings::parse(warnings.map(http::HeaderValue::as_bytes));
    let status = response.status();
    let length = response.body().content_length();
    let length = length.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    let mut reader = response.into_body().into_reader();
    let mut body = Vec::new();
    let mut read_to = |size: usize, body: &mut Vec<u8>| {
        let more = (size - body.len()) as u64;
        let read = reader.by_ref().take(more).read_to_end(body);
        read.map_err(|error| super::failure(error.into()))
    };
    read_to(SMALL_BYTES, &mut body)?;
    let mut charge = None;
    if body.len() == SMALL_BYTES && status.is_success() {
        let needed = length.unwrap_or(RESPONSE_BYTES_MAX).max(SMALL_BYTES);
        if needed > RESPONSE_BYTES_MAX {
            return Err(too_large());
        }
        charge = Some(charged(budget, needed, deadline)?);
        body = buffer::large(&body);
        // One more byte shows that it is too large.
        read_to(RESPONSE_BYTES_MAX + 1, &mut body)?;
        if body.len() > RESPONSE_BYTES_MAX {
            return Err(too_large());
        }
    }
    Ok(Response {
        status: status.as_u16(),
        body,
        retry_after,
        date,
        warnings,
        charge,
    })
}

fn too_large() -> Failure {
    Failure::TooLarge(format!("more than {RESPONSE_BYTES_MAX} bytes"))
}

/// Waits for the memory of so many bytes.
pub(super) fn charged(
    budget: &Arc<Budget>,
    bytes: usize,
    deadline: Instant,
) -> Result<Charge, Failure> {
    budget.wait_for(bytes, deadline).ok_or_else(|| {
        let (used, max) = (budget.used(), budget.max());
        Failure::TimedOut(format!(
            "no memory for a response of up to {bytes} bytes: others hold {used} of {max}"
        ))
    })
}
