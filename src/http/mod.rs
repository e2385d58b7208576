//! Our own HTTP/1.1 front: from bytes on a socket to a [`message::Request`],
//! and from a [`message::Response`] back to bytes.
//!
//! Inside out: [`message`] holds the values, [`connection`] is one connection
//! as a pure state machine, [`wire`] writes answers, [`mailbox`] carries answers
//! from other threads to the I/O thread that owns the connection, and
//! [`server`] is the only place with sockets and threads.
//!
//! What is absent: no thread per connection, no async runtime, no unbounded
//! queue or buffer (each bound is a field of [`message::Limits`]), and nothing
//! here knows a route, an app or Kubernetes.

// A test that unwraps fails where it should.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod connection;
pub mod mailbox;
pub mod message;
pub mod server;
pub mod token;
pub mod wire;
