//! Talking to the Kubernetes API server: what we say, what we hear, and how.
//!
//! Pure, and tested with literals: [`types`] (the objects, only the fields that
//! we read), [`status`] and [`error`] (what went wrong, and its class),
//! [`request`] (what is sent), [`watch`] (list and watch as a state machine),
//! [`kubeconfig`] (the file of that name). With the outside: [`auth`] (which
//! cluster, which credentials), [`transport`] (HTTPS; the only file that names
//! the HTTP and TLS libraries), [`client`] (typed calls, one attempt each).
//!
//! Nothing here waits, repeats for long, or remembers objects: waiting belongs
//! to the coordinator, remembering to [`crate::store`].

pub mod auth;
pub mod client;
pub mod error;
pub mod kubeconfig;
pub mod metered;
pub mod request;
pub mod status;
pub mod transport;
pub mod types;
pub mod watch;

pub use client::Client;
pub use error::{Class, Error};
