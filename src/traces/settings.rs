//! What traces need to know: where they go, what they say of us, how many there may be.
//!
//! Values only; `config` makes them of the variables `OTEL_*`, and [`super`] uses them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Where traces go, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The whole URL that takes them, `http` or `https`.
    pub endpoint: String,
    /// Sent with each batch.
    pub headers: Headers,
    /// How long sending one batch may take.
    pub timeout: Duration,
    /// PEM file with the CA of the receiver; there where the URL is `https`.
    pub certificate: Option<PathBuf>,
    /// The attribute `service.name`.
    pub service_name: String,
    /// Attributes of this process; they win over ours.
    pub resource: Vec<(String, String)>,
    /// Which traces are recorded.
    pub sampler: Sampler,
    /// Spans that may wait to be sent.
    pub queue_max: usize,
    /// Maximum number of spans in one batch.
    pub batch_max: usize,
    /// How long a span waits for others at most.
    pub delay: Duration,
}

/// Header fields; they may be credentials, so they are not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(name, _)| name);
        f.debug_set().entries(names).finish()
    }
}

/// Which traces are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Where the caller names a span, whether that is recorded decides.
    pub by_parent: bool,
    /// What decides else.
    pub root: Root,
}

/// Which traces that begin here are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// All.
    All,
    /// None.
    None,
    /// This share of them.
    Share(Share),
}

/// A number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(f64);

/// What is from 0 to 1 is a number, and equals itself.
impl Eq for Share {}

/// All.
impl Default for Share {
    fn default() -> Self {
        Self(1.0)
    }
}

impl Share {
    /// The share, if it is one.
    #[must_use]
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self(share))
    }

    /// From 0 to 1.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}
