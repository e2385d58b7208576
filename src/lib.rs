//! config-controller.

pub mod app;
pub mod clock;
pub mod config;
pub mod health;
pub mod http;
pub mod kube;
pub mod logging;
pub mod model;
pub mod service;
pub mod shutdown;
pub mod store;
pub mod threads;
