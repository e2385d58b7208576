//! How settings depend on each other: values that are good alone and contradict each other.
//!
//! Pure, a part of [`super`], which checks each setting alone.

use super::{Config, Reader};
use crate::app::lifetimes::{RESTART_IDLE_AFTER, USE_LONGEST};
use std::time::Duration;

/// How many of the largest requests the budget of bytes must have room for: what a request holds while
/// it waits is a multiple of what it has sent.
const REQUESTS_HELD_MIN: usize = 4;

impl Reader<'_> {
    /// Reports each contradiction, as a problem of one of its settings.
    pub(super) fn check_relations(&mut self, config: &Config) {
        if config.front.idle_timeout <= Duration::from_secs(5) {
            let text = self.text("IDLE_TIMEOUT");
            let expected = "more than 5s, because clients keep idle connections for 4 s";
            self.unexpected("IDLE_TIMEOUT", &text, expected);
        }
        if config.waits.start_wait > config.waits.start_wait_max {
            self.above("START_WAIT", "START_WAIT_MAX");
        }
        if config.drain_delay > config.drain {
            self.above("DRAIN_DELAY", "DRAIN");
        }
        let (front, waiting) = (&config.front, &config.waiting);
        // Of a pair, a default that is never reached is no contradiction.
        for (part, of_part, whole, of_whole) in [
            (
                "CONNECTIONS_PER_PEER_MAX",
                front.connections_per_peer,
                "CONNECTIONS_MAX",
                front.connections,
            ),
            // Each waiting request has a connection.
            (
                "PARKED_MAX",
                waiting.parked_max,
                "CONNECTIONS_MAX",
                front.connections,
            ),
            (
                "PARKED_PER_KEY_MAX",
                waiting.parked_per_key_max,
                "PARKED_MAX",
                waiting.parked_max,
            ),
        ] {
            if of_part > of_whole && self.raw(part).is_some() {
                self.above(part, whole);
            }
        }
        let least = REQUESTS_HELD_MIN * (front.head_bytes + front.body_bytes);
        if config.held_bytes_max < least {
            let held = self.text("HELD_BYTES_MAX");
            let expected = format!(
                "at least {least}, {REQUESTS_HELD_MIN} times HEAD_BYTES_MAX and BODY_BYTES_MAX together: raise it, or lower those"
            );
            self.unexpected("HELD_BYTES_MAX", &held, &expected);
        }
        if config.relist < Duration::from_secs(5) {
            let text = self.text("RELIST");
            self.unexpected("RELIST", &text, "at least 5s");
        }
        if config.heartbeat_max > USE_LONGEST {
            let text = self.text("HEARTBEAT_MAX");
            self.unexpected("HEARTBEAT_MAX", &text, "at most 168h");
        }
        if !RESTART_IDLE_AFTER.contains(&config.restart_idle_after) {
            let text = self.text("RESTART_IDLE_AFTER");
            self.unexpected("RESTART_IDLE_AFTER", &text, "1s to 168h");
        }
        for (name, value) in [
            ("POLL", config.poll),
            ("HEAD_TIMEOUT", config.front.head_timeout),
            ("BODY_TIMEOUT", config.front.body_timeout),
        ] {
            if value.is_zero() {
                let text = self.text(name);
                self.unexpected(name, &text, "at least 1ms");
            }
        }
    }

    /// A setting is larger than another one permits.
    pub(super) fn above(&mut self, name: &str, bound: &str) {
        let (value, limit) = (self.text(name), self.text(bound));
        let expected = format!("at most {bound}, which is '{limit}': lower it, or raise {bound}");
        self.unexpected(name, &value, &expected);
    }
}
