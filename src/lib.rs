//! config-controller.

pub mod clock;
pub mod http;
pub mod shutdown;
