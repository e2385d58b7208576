//! [`Expectation`]: what a request expects of the instance that is there.
//!
//! Pure. [`super::coordinator`] decides what a request gets whose expectation is not met.

use crate::kube::types::Job;
use std::sync::Arc;

/// What a request expects of the instance that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Expectation {
    /// Nothing.
    #[default]
    None,
    /// To be made with the values of this revision (`Prefer: match=values`).
    Values(Arc<str>),
}

/// Whether an instance is made with the values that a request expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValuesMatch {
    /// It is.
    Same,
    /// It is made with others.
    Other,
    /// The request expects none, or the instance does not say: an older version has made it.
    Unknown,
}

impl Expectation {
    /// Whether this Job is made with the expected values.
    #[must_use]
    pub fn compare_values(&self, job: &Job) -> ValuesMatch {
        match (self, job.values_revision()) {
            (Self::Values(expected), Some(revision)) if **expected == *revision => {
                ValuesMatch::Same
            }
            (Self::Values(_), Some(_)) => ValuesMatch::Other,
            (Self::Values(_), None) | (Self::None, _) => ValuesMatch::Unknown,
        }
    }
}
