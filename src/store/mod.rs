//! The cache that serves all reads: what the watches report, in memory.
//!
//! [`store`] (pure) holds the objects of one kind and decides which state of an object is newer.
//! `freshness` (pure) computes how old the cache may be, `doubts` tells all reflectors that versions may
//! have gone back. [`events`] (pure) holds Events by object, within bounds; [`templates`] (pure) bounds
//! those of ConfigMaps; [`reports`] hands on what replicas report of uses, [`replicas`] (pure) which ones there are. [`reflector`] is the thread that keeps one store up to date; [`backoff`] (pure)
//! computes its delays after failures. The meaning of objects is not known here.

pub mod backoff;
mod doubts;
pub mod events;
mod freshness;
pub mod reflector;
pub mod replicas;
pub mod reports;
#[allow(clippy::module_inception, reason = "the file is named after its type")]
pub mod store;
pub mod templates;

pub use crate::kube::watch::StoreEvent;
pub use doubts::Doubts;
pub use events::{EventStore, EventWriter};
pub use reflector::{OnChange, Reflector, WatchStats};
pub use replicas::Replicas;
pub use reports::UseReports;
pub use store::{Change, Observer, Sample, Samples, Scanner, Sink, Store, Writer};
pub use templates::{Size, TEMPLATES_BYTES_MAX, TEMPLATES_MAX, TemplateSink, left_out_of};
