//! Names, labels, templates, Jobs and statuses: pure computation over values.
//!
//! Nothing here reads a clock, a file, a socket or the environment, and nothing imports other modules
//! but the Kubernetes types and YAML. Callers decide when to compute.

pub mod duration;
pub mod excerpt;
pub mod job;
pub mod labels;
pub mod names;
pub mod references;
pub mod rendezvous;
pub mod revision;
pub mod spelling;
pub mod status;
pub mod template;
pub mod uses;
pub mod validation;
