//! config-controller.

pub mod clock;
pub mod kube;
pub mod shutdown;
pub mod store;
