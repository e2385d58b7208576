//! The storage, by itself.
