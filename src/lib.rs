//! config-controller.

pub mod clock;
pub mod shutdown;
