//! [`RequestHandle`]: where the response to one waiting request goes.
//!
//! A plain value. Whoever holds it can respond through the
//! [`ResponseSink`](super::request::ResponseSink), which ignores a handle whose connection has
//! gone or whose request has its response already.

/// One request: the I/O thread that owns its connection, the slot of the connection there, and the
/// number of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestHandle {
    /// The I/O thread, counted from 0.
    pub io: u32,
    /// The connection's index in that thread's table; reused by later connections.
    pub slot: u32,
    /// The number of the request within that thread; never reused.
    pub serial: u64,
}
