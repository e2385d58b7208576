//! The HTTP front: from bytes on a socket to the app, and from its answers back to bytes.
//!
//! Inside out: [`message`] holds the values, [`connection`] is one connection as a
//! pure state machine, [`wire`] writes answers, [`mailbox`] carries answers from other
//! threads to the I/O thread that owns the connection, [`tls`] lies between socket and
//! connection where the port is HTTPS, and [`server`] is the only place with sockets
//! and threads; so far nothing knows an endpoint or an app. Above it, pure but for the
//! calls into [`crate::app`]: [`dispatcher`] takes each request through [`router`] (which row of
//! [`endpoints`]), [`auth`] (authentication), [`origin`] (whose page it came from) and its handler
//! in [`handlers`]. Handlers use [`prefer`] and [`body`] (what a request
//! says), [`problem`] (the body of an error), [`timing`] (where the time of a start went) and
//! [`openapi`] (all of this as a document, and as a page).
//!
//! What is absent: no thread per connection, no async runtime, no unbounded queue or
//! buffer (each bound is a field of [`message::Limits`]).

pub mod auth;
pub mod body;
pub mod connection;
pub mod dispatcher;
pub mod endpoints;
pub mod handlers;
pub mod listener;
pub mod mailbox;
pub mod message;
pub mod openapi;
pub mod origin;
pub mod prefer;
pub mod problem;
pub mod router;
pub mod server;
pub mod timing;
pub mod tls;
pub mod wire;
