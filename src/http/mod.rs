//! The HTTP front: from bytes on a socket to the app, and from its responses back to bytes.
//!
//! The lower half knows no endpoint and no app. [`message`] holds the values, [`connection`] is one
//! connection as a pure state machine, and [`wire`] writes responses. [`mailbox`] carries the app's
//! responses from other threads to the I/O thread that owns the connection. [`tls`] lies between
//! socket and connection where the port is HTTPS. [`server`] is the only place with sockets and
//! threads.
//!
//! The upper half is pure but for the calls into [`crate::app`]. [`dispatcher`] takes each request
//! through [`router`] (which row of [`endpoints`]), [`hosts`] (the name it was sent to), [`auth`],
//! [`origin`] (the site of the page that sent it) and its handler in [`handlers`]. Handlers use [`prefer`] and
//! [`body`] (contents of a request), [`problem`] (the body of an error), [`timing`] (the duration
//! of each phase of a start), [`openapi`] (all of this as a document, and as a page) and [`status_page`] (the
//! page of the service itself). Their texts are `packed` in the program.
//!
//! What is absent: no thread per connection, no async runtime, no unbounded queue or
//! buffer (each bound is a field of [`message::Limits`]).

pub mod auth;
pub mod body;
pub mod conditional;
pub mod connection;
pub mod dispatcher;
pub mod endpoints;
pub mod handlers;
pub mod hosts;
pub mod listener;
pub mod mailbox;
pub mod message;
pub mod openapi;
pub mod origin;
mod packed;
pub mod prefer;
pub mod problem;
pub mod router;
pub mod selection;
pub mod server;
pub mod status_page;
pub mod timing;
pub mod tls;
pub mod wire;
