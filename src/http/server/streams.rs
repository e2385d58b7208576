//! Streams: responses whose parts a handler has, one after the other.
//!
//! A handler keeps what is new, and a thread asks it for the next part of each stream once the part
//! before has been sent. So nothing is kept for a peer that reads slowly but one part, and the handler
//! decides what becomes of it. Here is when a stream is asked ([`Streams`]), and what its part becomes
//! ([`Core::pull`]). What parts contain is not known here.

use super::turn::{Core, RESPONSE_HEAD_BYTES, Slot};
use super::{Handler, PART_BYTES_MAX, STREAM_PAUSE_MAX};
use crate::http::message::{Body, Refusal, Response};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// After all streams of a thread have been asked it pauses for so many times as long as that took: they
/// take at most a tenth of its time, and what came meanwhile is sent together.
const PAUSE_FACTOR: u32 = 9;

/// Bytes of a part while there is no room for more: the kernel takes so many of one that reads.
const PART_BYTES_LEAST: usize = 512;

/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// What a handler has of a stream now.
#[derive(Debug, Default)]
pub struct Part {
    /// The response that begins it, with its first bytes.
    pub begins: Option<Response>,
    /// The bytes; none if there is nothing new.
    pub bytes: Body,
    /// Whether nothing follows.
    pub is_last: bool,
    /// Whether the rest is missing: the connection ends here, so that its peer sees it.
    pub is_cut: bool,
}

impl Part {
    /// The end of a stream of which the rest is missing.
    pub const CUT: Self = Self {
        begins: None,
        bytes: Body::Static(b""),
        is_last: false,
        is_cut: true,
    };
}

/// The streams of a thread, and which of them are to be asked.
#[derive(Debug)]
pub(super) struct Streams {
    all: BTreeSet<usize>,
    /// Those that are still to be asked in this pass.
    pass: Vec<usize>,
    has_news: bool,
    /// When this pass has begun.
    begun: Instant,
    /// When the next one may begin at the earliest.
    rests_until: Instant,
    /// When it begins at the latest.
    beats_at: Instant,
}

impl Streams {
    /// None yet.
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            all: BTreeSet::new(),
            pass: Vec::new(),
            has_news: false,
            begun: now,
            rests_until: now,
            beats_at: now,
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// This connection is a stream from now on, or no longer.
    pub(super) fn set(&mut self, index: usize, is_stream: bool) {
        if is_stream {
            self.all.insert(index);
        } else {
            self.all.remove(&index);
        }
    }

    /// There may be something new for all of them.
    pub(super) const fn announce(&mut self) {
        self.has_news = true;
    }

    /// The next stream to be asked now.
    pub(super) fn next(&mut self, now: Instant) -> Option<usize> {
        let is_due = (self.has_news && self.rests_until <= now) || self.beats_at <= now;
        if self.pass.is_empty() && is_due && !self.all.is_empty() {
            self.pass.extend(&self.all);
            self.has_news = false;
            self.begun = now;
            self.beats_at = now + STREAM_PAUSE_MAX;
        }
        self.pass.pop()
    }

    /// Some have been asked; it is `now`.
    pub(super) fn asked(&mut self, now: Instant) {
        if self.pass.is_empty() && self.rests_until <= self.begun {
            let took = now.saturating_duration_since(self.begun);
            self.rests_until = now + (took * PAUSE_FACTOR).min(PAUSE_MAX);
        }
    }

    /// When [`Streams::next`] is to be called again, if there are any.
    pub(super) fn wakes_at(&self, now: Instant) -> Option<Instant> {
        if self.all.is_empty() {
            return None;
        }
        if !self.pass.is_empty() {
            return Some(now);
        }
        let news = self.has_news.then_some(self.rests_until);
        Some(news.map_or(self.beats_at, |at| at.min(self.beats_at)))
    }
}

/// Charges the next part of a stream before it is made, because it would be cut if it could not be charged
/// later; how many bytes it may have. While there is no room, they are so few that they cost nothing, and
/// none until the kernel has sent those before.
fn reserve<P>(slot: &mut Slot<P>) -> usize {
    let reserved = slot.socket.given(RESPONSE_HEAD_BYTES + PART_BYTES_MAX);
    let part = RESPONSE_HEAD_BYTES + PART_BYTES_MAX + slot.socket.bytes_to_send(PART_BYTES_MAX);
    let held = slot.held_bytes(reserved) + part;
    if slot.hold.resize(held).is_ok() {
        slot.socket.reserve(reserved);
        return PART_BYTES_MAX;
    }
    match slot.writable && slot.socket.has_sent_all_but(0) {
        true => PART_BYTES_LEAST,
        false => 0,
    }
}

impl<H: Handler> Core<H> {
    /// Passes on the next part of a stream; whether there was one.
    pub(super) fn pull(&mut self, slot: &mut Slot<H::Pending>) -> bool {
        let is_stream = slot.parked.iter().any(|parked| parked.is_stream);
        let room = if is_stream { reserve(slot) } else { 0 };
        let Some(parked) = slot.parked.as_mut().filter(|_| is_stream) else {
            slot.is_due = false;
            return false;
        };
        if room == 0 {
            return false;
        }
        let (handle, handler) = (parked.handle, &self.shared.handler);
        let is_draining = self.shared.control.draining.load(Ordering::SeqCst);
        let pending = &mut parked.pending;
        let pulled = catch_unwind(AssertUnwindSafe(|| {
            handler.pull(pending, is_draining, room)
        }));
        let Ok(part) = pulled else {
            self.stats().panics.add(1);
            self.drop_parked(slot);
            log::error!("the handler of the stream of {handle:?} panicked");
            self.refuse(slot, Refusal::Panicked);
            return true;
        };
        if part.is_cut {
            self.abort(slot);
            return true;
        }
        slot.is_due = part.begins.is_some() || !part.bytes.is_empty();
        if !slot.is_due {
            slot.socket.flushed();
        }
        let moved = slot.is_due || part.is_last;
        if let Some(response) = part.begins {
            self.begin_stream(slot, response, is_draining);
        }
        slot.connection.add_part(&part.bytes, self.now);
        if part.is_last && slot.parked.take().is_some() {
            self.stats().streams.subtract(1);
            slot.is_due = false;
            // There may be an end to read.
            slot.readable |= slot.read_closed;
            slot.connection.end_stream(is_draining, self.now);
        }
        moved
    }

    fn begin_stream(
        &mut self,
        slot: &mut Slot<H::Pending>,
        mut response: Response,
        is_draining: bool,
    ) {
        response.request_id = slot.request_id.clone();
        let begun = slot
            .connection
            .begin_stream(response, is_draining, &mut self.heads, self.now);
        if let Err(bad_header) = begun {
            log::error!("cannot begin a stream: {bad_header}; sending a 500");
            self.drop_parked(slot);
            self.refuse(slot, Refusal::Panicked);
        }
    }
}
