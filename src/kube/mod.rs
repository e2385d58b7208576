//! The Kubernetes client: requests, responses, watches and credentials.
//!
//! Pure, and tested with literals:
//!
//! [`types`] and [`containers`] (the objects, only the fields that we read), [`status`] and [`error`] (errors and
//! their classes), [`request`] (requests as values), [`watch`] (list and watch as a state machine),
//! [`kubeconfig`], [`warnings`], [`server_clock`] (the time by the API server's clock).
//!
//! With I/O: [`auth`] (cluster and credentials), [`transport`] (HTTPS; the only file that names the
//! HTTP and TLS libraries), [`client`] (typed calls, one attempt each).
//!
//! Nothing here waits for instances, retries for long, or keeps objects: the
//! coordinator waits and retries, [`crate::store`] keeps objects.

pub mod auth;
mod buffer;
pub mod client;
pub mod containers;
pub mod error;
pub mod kubeconfig;
pub mod metered;
pub mod request;
pub mod server_clock;
pub mod status;
pub mod transport;
pub mod types;
pub mod warnings;
pub mod watch;

pub use client::Client;
pub use error::{Class, Error};
