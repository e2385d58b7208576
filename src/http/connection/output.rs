//! The pending output of one connection, with its deadline. Pure.
//!
//! Small bodies are copied behind their heads, so that pipelined responses are sent in one write. A
//! large body is not copied, even if responses share it, and nothing is queued behind it. Nothing
//! here knows HTTP.

use crate::http::message::{Body, Limits};
use std::time::Instant;

/// Bodies up to this size are copied behind their head.
const COPY_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    written: usize,
    /// Comes after `bytes`.
    tail: Option<Body>,
    tail_written: usize,
    deadline: Option<Instant>,
    /// So many bytes must be sent before each deadline.
    step: usize,
    /// Those that are left before the deadline is extended.
    step_left: usize,
}

impl Output {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The buffer for a head, with capacity for a body of this length.
    pub(super) fn head_buffer(&mut self, body: usize) -> &mut Vec<u8> {
        let body = if body > COPY_BYTES_MAX { 0 } else { body };
        self.bytes.reserve(320 + body);
        &mut self.bytes
    }

    pub(super) fn push_body(&mut self, body: Body) {
        let bytes: &[u8] = &body;
        if bytes.len() > COPY_BYTES_MAX {
            debug_assert!(self.tail.is_none(), "no response is queued behind a tail");
            self.tail = Some(body);
            self.tail_written = 0;
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Bytes that a body takes here: a small one is copied, a large one is kept as it is.
    pub(super) fn body_bytes(body: &Body) -> usize {
        if body.len() > COPY_BYTES_MAX {
            body.held_bytes()
        } else {
            body.len()
        }
    }

    pub(super) fn pieces(&self) -> [&[u8]; 2] {
        let tail = self
            .tail
            .as_ref()
            .map_or(&b""[..], |body| &body[self.tail_written..]);
        [&self.bytes[self.written..], tail]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.written == self.bytes.len() && self.tail.is_none()
    }

    /// Whether no further response may be queued.
    pub(super) fn is_full(&self, limits: &Limits) -> bool {
        self.tail.is_some() || self.bytes.len() - self.written > limits.output_bytes
    }

    /// Starts the write deadline, if it is not running.
    pub(super) fn start_clock(&mut self, now: Instant, limits: &Limits) {
        let all: usize = self.pieces().map(<[u8]>::len).iter().sum();
        let steps = match &self.tail {
            Some(body) if body.is_urgent() => 1,
            _ => Limits::WRITE_STEPS_MAX,
        };
        self.step = all.div_ceil(steps).max(limits.write_step_bytes);
        if self.deadline.is_none() {
            self.deadline = Some(now + limits.write_timeout);
            self.step_left = self.step;
        }
    }

    pub(super) fn advance(&mut self, count: usize, now: Instant, limits: &Limits) {
        let head = count.min(self.bytes.len() - self.written);
        self.written += head;
        self.tail_written += count - head;
        if self.written == self.bytes.len() {
            self.bytes = Vec::new();
            self.written = 0;
        }
        if self
            .tail
            .as_ref()
            .is_some_and(|body| self.tail_written >= body.len())
        {
            self.tail = None;
            self.tail_written = 0;
        }
        self.step_left = self.step_left.saturating_sub(count);
        if self.is_empty() {
            self.deadline = None;
        } else if self.step_left == 0 {
            self.deadline = Some(now + limits.write_timeout);
            self.step_left = self.step;
        }
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity() + self.tail.as_ref().map_or(0, Body::held_bytes)
    }
}
