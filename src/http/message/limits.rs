//! [`Limits`]: every bound of the server in one struct.
//!
//! Pure. Nothing is enforced here: bounds of one connection are enforced in
//! [`crate::http::connection`], bounds of all connections in [`crate::http::server`].

use std::time::Duration;

/// The bounds of the server; the defaults are those of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in total; one more gets a 503 and is closed.
    pub connections: usize,
    /// Connections of one peer: an IPv4 address, or a /64 of IPv6; one more gets
    /// a 429 and is closed.
    pub connections_per_peer: usize,
    /// How long a connection may be idle between requests.
    pub idle_timeout: Duration,
    /// From the first byte of a head to its last; then 408.
    pub head_timeout: Duration,
    /// Bytes of a request head, also of the trailer fields and of all chunk
    /// extensions of one body; then 431 (414 within the request line).
    pub head_bytes: usize,
    /// Header fields of a request, at most [`Limits::HEADER_COUNT_MAX`]; then 431.
    pub header_count: usize,
    /// From the end of a head to the last byte of its body; then 408.
    pub body_timeout: Duration,
    /// Bytes of a body without transfer coding; then 413.
    pub body_bytes: usize,
    /// Within this time a peer must read [`Limits::write_step_bytes`] of a response, or its rest, and
    /// of a long one its [`Limits::WRITE_STEPS_MAX`]th part, or all of it if it is urgent
    /// ([`Body::is_urgent`](super::Body::is_urgent)); otherwise the connection is closed.
    pub write_timeout: Duration,
    /// See [`Limits::write_timeout`].
    pub write_step_bytes: usize,
    /// While more bytes than this wait to be sent, no further request of that connection is begun.
    pub output_bytes: usize,
    /// After a response that ends a connection: how long reading continues, so that a reset does not
    /// overtake the response (RFC 9112 §9.6).
    pub linger_timeout: Duration,
    /// See [`Limits::linger_timeout`]: bytes that are read and dropped.
    pub linger_bytes: usize,
}

impl Limits {
    /// The largest effective [`Limits::header_count`].
    pub const HEADER_COUNT_MAX: usize = 256;

    /// Times [`Limits::write_timeout`] is the longest that a response is sent: an old list stays in
    /// memory as long, and there must be room for a current one.
    pub const WRITE_STEPS_MAX: usize = 6;

    /// Lowers the bound on connections to `room`, and the bound per peer in proportion: otherwise
    /// one peer could use all connections.
    pub fn fit(&mut self, room: usize) {
        if room < self.connections {
            let per_peer = self.connections_per_peer.saturating_mul(room) / self.connections;
            self.connections_per_peer = per_peer.max(1);
            self.connections = room;
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4_300,
            connections_per_peer: 2_800,
            idle_timeout: Duration::from_secs(75),
            head_timeout: Duration::from_secs(5),
            head_bytes: 16 * 1024,
            header_count: 100,
            body_timeout: Duration::from_secs(10),
            body_bytes: 64 * 1024,
            write_timeout: Duration::from_secs(10),
            write_step_bytes: 64 * 1024,
            output_bytes: 64 * 1024,
            linger_timeout: Duration::from_secs(1),
            linger_bytes: 64 * 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_few_files_one_peer_cannot_use_all_connections() {
        let mut limits = Limits::default();
        limits.fit(192);
        assert_eq!(
            (limits.connections, limits.connections_per_peer),
            (192, 125)
        );
        let before = Limits::default();
        let mut limits = before.clone();
        limits.fit(before.connections);
        assert_eq!(limits, before, "room enough");
        limits.fit(0);
        assert_eq!(limits.connections_per_peer, 1);
    }
}
