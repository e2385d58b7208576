//! What is to become of a Job that waits for its admission, and why it is refused.
//!
//! Plain values and their texts. How they are computed is in [`super`].

use crate::model::job::CapScope;
use std::fmt;

/// What is to become of a Job that waits for its admission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may run.
    Admit,
    /// There is no place for it.
    Refuse(Full),
    /// It depends on Jobs that are not decided yet, or the watch has not delivered it.
    Wait,
    /// The same, and it has no place: which Jobs come before it is not known.
    WaitWithoutPlace,
    /// It is decided, or gone.
    Decided,
}

/// A cap that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// What it counts.
    pub scope: CapScope,
    /// The cap.
    pub cap: u32,
    /// How many are admitted and have not ended.
    pub admitted: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = match self.scope {
            CapScope::Type => "instances of this app type",
            CapScope::Owner => "instances of this app type and owner",
            CapScope::All => "instances of all app types",
        };
        let Self {
            scope,
            cap,
            admitted,
        } = self;
        let setting = scope.setting();
        write!(f, "{admitted} {of} run, and {setting} is {cap}")
    }
}

/// Why a Job was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A cap is reached.
    Full(Full),
    /// So many starts wait for a place before it.
    Behind(usize),
    /// Whether there is a place was not known in time: others before it were not decided.
    Undecided,
    /// The service may not patch Jobs, so it can admit none.
    NotPermitted,
}

impl Refusal {
    /// In one word.
    #[must_use]
    pub const fn scope(&self) -> &'static str {
        match self {
            Self::Full(full) => full.scope.as_str(),
            Self::Behind(_) => "behind",
            Self::Undecided => "undecided",
            Self::NotPermitted => "not_permitted",
        }
    }

    /// What a caller can do, as the end of a sentence.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Full(_) | Self::Behind(_) | Self::Undecided => {
                "; retry when an instance has ended, or wait for a place (Prefer: wait=60)"
            }
            Self::NotPermitted => "",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(full) => full.fmt(f),
            Self::Behind(waiting) => write!(
                f,
                "the number of instances is limited, and others wait for a place before this one ({waiting})"
            ),
            Self::Undecided => f.write_str(
                "the number of instances is limited, and starts before this one were not decided in time",
            ),
            Self::NotPermitted => f.write_str(
                "the number of instances is limited, and config-controller may not patch Jobs: its Role needs the verb patch on jobs",
            ),
        }
    }
}
