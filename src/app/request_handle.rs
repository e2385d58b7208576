//! [`RequestHandle`]: which request waits for a response.
//!
//! A value, so that whatever keeps waiting requests need not know what they are. Where its parts
//! come from is in [`crate::http::server`].

/// Where the response to one waiting request goes: the I/O thread that owns its connection, the
/// index of the connection there, and the number of the request. Its holder can respond through the
/// [`ResponseSink`](super::request::ResponseSink). A handle of a closed connection or of an answered
/// request is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestHandle {
    /// The I/O thread, counted from 0.
    pub io: u32,
    /// The connection's index in that thread's table; reused by later connections.
    pub slot: u32,
    /// The number of the request within that thread; never reused.
    pub serial: u64,
}
