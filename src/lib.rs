//! config-controller.
