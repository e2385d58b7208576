//! Pure code.

pub mod render;
pub mod template;
pub mod yaml;
