//! config-controller.

pub mod clock;
pub mod model;
pub mod shutdown;
