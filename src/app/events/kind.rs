//! [`EventKind`]: what has happened to an instance, in one word.
//!
//! Pure. When there is such an event is decided in [`super`].

/// What has happened, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// This replica has asked for the Job. If Kubernetes refuses it nothing follows.
    Requested,
    /// This replica has created the Job.
    Created,
    /// The start is in another phase, or for another reason; or the instance is no longer ready.
    Starting,
    /// It is ready.
    Ready,
    /// It has failed, or probably has.
    Failed,
    /// It has ended by itself, or its lifetime is over.
    Finished,
    /// Others have ended it.
    Disrupted,
    /// Its labels have changed.
    Labelled,
    /// Nobody uses it, and it will be stopped soon.
    IdleSoon,
    /// Its Job is being deleted.
    Stopping,
    /// Its Job no longer exists.
    Gone,
}

impl EventKind {
    /// The name of the event in streams.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Finished => "finished",
            Self::Disrupted => "disrupted",
            Self::Labelled => "labelled",
            Self::IdleSoon => "idle-soon",
            Self::Stopping => "stopping",
            Self::Gone => "gone",
        }
    }

    /// Whether a start ends with it.
    #[must_use]
    pub const fn ends_start(self) -> bool {
        matches!(self, Self::Ready | Self::Failed)
    }

    /// The place in [`crate::app::index::STATUS_WORDS`] of the status that follows from it, if one
    /// does.
    pub(super) const fn status(self) -> Option<usize> {
        match self {
            Self::Requested | Self::Labelled | Self::IdleSoon | Self::Gone => None,
            Self::Created | Self::Starting => Some(0),
            Self::Ready => Some(1),
            Self::Failed => Some(2),
            Self::Finished | Self::Disrupted => Some(3),
            Self::Stopping => Some(4),
        }
    }
}
