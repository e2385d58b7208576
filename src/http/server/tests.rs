//! The front through real sockets, on a port of 127.0.0.1 that is free.
//!
//! Nothing here sleeps: tests wait for a condition, and fail after [`TIMEOUT`].

mod bounds;
mod drain;
mod harness;
mod kernel;
mod request_ids;
mod serving;
mod streams;
mod threads;
mod tls;
