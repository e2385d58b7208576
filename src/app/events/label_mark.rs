//! [`LabelMark`]: what is kept of the labels that an instance had, so that a change of them is noticed.
//!
//! Pure. When readers get an event is decided in [`super`].

use crate::model::labels::MetaLabels;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// The labels of an instance, in so few bytes that none are added to what is kept of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LabelMark(u32);

impl LabelMark {
    /// No reader was told of any.
    pub(super) const UNKNOWN: Self = Self(0);

    /// Readers are being told of them.
    pub(super) const SHOWN: Self = Self(1);

    /// There are none.
    const NONE: Self = Self(2);

    pub(super) fn of(labels: &MetaLabels) -> Self {
        if labels.is_empty() {
            return Self::NONE;
        }
        let mut hasher = DefaultHasher::new();
        labels.hash(&mut hasher);
        Self(((hasher.finish() >> 32) as u32).max(3))
    }

    /// A reader is told of them, whichever they are.
    pub(super) fn is_shown(&mut self) {
        if *self == Self::UNKNOWN {
            *self = Self::SHOWN;
        }
    }

    /// Whether a reader may know of labels that are not these.
    pub(super) fn may_differ(self, now: Self) -> bool {
        self != now && self != Self::UNKNOWN && self != Self::NONE
    }
}
