//! The settings of tracing: endpoint, resource attributes, sampler and limits.
//!
//! Only values: [`crate::config`] parses them from the variables `OTEL_*`, [`super`] uses them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of the exporter and sampler.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Full URL of the collector, `http` or `https`.
    pub endpoint: String,
    /// Sent with each batch.
    pub headers: Headers,
    /// Timeout for sending one batch.
    pub timeout: Duration,
    /// PEM file with the CA of the collector; set if the URL is `https`.
    pub certificate: Option<PathBuf>,
    /// The attribute `service.name`.
    pub service_name: String,
    /// Resource attributes; they take precedence over the built-in ones.
    pub resource: Vec<(String, String)>,
    /// Which traces are recorded.
    pub sampler: Sampler,
    /// Maximum number of waiting spans.
    pub queue_max: usize,
    /// Maximum number of spans in one batch.
    pub batch_max: usize,
    /// How long spans wait for their batch to fill.
    pub delay: Duration,
}

/// Header names and values; `Debug` hides the values, which may be credentials.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(name, _)| name);
        f.debug_set().entries(names).finish()
    }
}

/// Which traces are recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Whether the caller's sampling decision takes precedence.
    pub by_parent: bool,
    /// The share of traces that is recorded, from 0 to 1: of those without a parent, or of all.
    pub share: f64,
}
