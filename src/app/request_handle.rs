//! [`RequestHandle`]: the name of one request that waits for its answer.
//!
//! A plain value. Whoever holds it can have the request answered through the
//! [`AnswerSink`](super::AnswerSink); a token whose connection has gone, or whose
//! request has been answered, is recognised there and ignored.

/// Names one request: the I/O thread that owns its connection, the place of the
/// connection there, and the number of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestHandle {
    /// The I/O thread, counted from 0.
    pub io: u32,
    /// The place of the connection in that thread's table; places are reused.
    pub slot: u32,
    /// The number of the request within that thread; never reused.
    pub serial: u64,
}

impl RequestHandle {
    /// The I/O thread that there never is: such a token names a wish of the coordinator's own.
    const OWN: u32 = u32::MAX;

    /// The name of a wish of the coordinator's own, which nobody waits for.
    pub(super) const fn own(serial: u64) -> Self {
        Self {
            io: Self::OWN,
            slot: 0,
            serial,
        }
    }

    /// Whether it names a wish of the coordinator's own.
    pub(super) const fn is_own(self) -> bool {
        self.io == Self::OWN
    }
}
