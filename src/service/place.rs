//! Where a replica works: its cluster, its namespaces, and its name among the others.
//!
//! Only found here, before anything starts; what runs there is in [`super`].

use super::Error;
use crate::clock::Clock;
use crate::config::Config;
use crate::kube::auth;
use crate::kube::transport::{self, HttpTransport};
use std::sync::Arc;

/// A cluster that was found.
#[derive(Debug)]
pub struct Connected {
    /// The way to its API server.
    pub transport: Arc<HttpTransport>,
    /// Where the service works.
    pub namespaces: Namespaces,
    /// The source of the configuration, for people.
    pub origin: String,
}

/// Where the service works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespaces {
    /// That of templates and instances (`JOB_NAMESPACE`).
    pub served: String,
    /// That of the replica itself.
    pub own: String,
}

/// A replica, among those that serve the same namespace.
#[derive(Clone, Copy, Debug)]
pub struct Replica<'a> {
    /// Its name, which no other replica has: that of its pod.
    pub name: &'a str,
    /// Where it works.
    pub namespaces: &'a Namespaces,
}

/// Finds the cluster and prepares the client.
///
/// # Errors
/// [`Error::Settings`] with all problems of the cluster configuration.
pub fn connect(config: &Config, clock: &Arc<dyn Clock>) -> Result<Connected, Error> {
    let cluster = auth::resolve(&config.cluster).map_err(Error::Settings)?;
    let settings = transport::Settings {
        connections: config.workers,
        ..transport::Settings::default()
    };
    let transport = HttpTransport::new(&cluster, settings, Arc::clone(clock))
        .map_err(|problem| Error::Settings(vec![problem]))?;
    let own = cluster.namespace;
    Ok(Connected {
        transport: Arc::new(transport),
        namespaces: Namespaces {
            served: config.namespace.clone().unwrap_or_else(|| own.clone()),
            own,
        },
        origin: cluster.origin,
    })
}

/// The name of the pod, which is the name of its host unless its template says otherwise.
pub(super) fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
