//! Which Events are read: about what, and for what reason.
//!
//! They are decoded in `wire.rs`; what a reason means for an instance is decided in [`crate::model::status`].

/// The kinds of objects that we read Events of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegardingKind {
    /// A Job.
    Job,
    /// A pod.
    Pod,
    /// Anything else; its Events are dropped while decoding.
    #[default]
    Other,
}

/// The reasons of the Events that we read; others are dropped while decoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventReason {
    /// Job: a pod of it was rejected.
    FailedCreate,
    /// Pod: a volume cannot be mounted.
    FailedMount,
    /// Pod: a volume cannot be attached to the node.
    FailedAttachVolume,
    /// Pod: a raw block volume cannot be mapped.
    FailedMapVolume,
    /// Pod: its sandbox or its network cannot be set up.
    FailedCreatePodSandBox,
    /// Pod: an image cannot be pulled (`Failed` in the API, which also has other meanings).
    FailedPull,
    /// Pod: a probe fails.
    Unhealthy,
    /// Anything else.
    #[default]
    Other,
}

impl EventReason {
    /// As Kubernetes spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FailedCreate => "FailedCreate",
            Self::FailedMount => "FailedMount",
            Self::FailedAttachVolume => "FailedAttachVolume",
            Self::FailedMapVolume => "FailedMapVolume",
            Self::FailedCreatePodSandBox => "FailedCreatePodSandBox",
            Self::FailedPull => "Failed",
            Self::Unhealthy => "Unhealthy",
            Self::Other => "",
        }
    }
}

/// How much of an Event's message is kept, in bytes; Kubernetes itself writes no longer messages.
pub const EVENT_MESSAGE_BYTES_MAX: usize = 1024;
