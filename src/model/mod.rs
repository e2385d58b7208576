//! What instances, templates and their states are: pure computation over values.
//!
//! Nothing here reads a clock, a file, a socket or the environment, and nothing
//! imports from outside but the Kubernetes types and YAML. Whoever calls decides when.

pub mod duration;
pub mod job;
pub mod labels;
pub mod names;
pub mod status;
pub mod template;
