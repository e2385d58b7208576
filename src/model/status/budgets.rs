//! Budgets: how long a start may stay in a state before it is reported as failing.
//!
//! Pure. This file has their names, which settings and annotations share, their durations, and when one
//! is used up. Which budget applies is decided by the findings in [`super`], not here.

use super::{Finding, Prognosis, TERMINATION_REPORT_WAIT};
use crate::kube::types::{Job, Timestamp};
use std::time::{Duration, Instant};

/// A state of a start that may only last for a limited time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Budget {
    /// The Job has no pod.
    Creating,
    /// The pod has no node.
    Scheduling,
    /// The node prepares volumes and network.
    Mounting,
    /// The image is being pulled.
    Pulling,
    /// An image pull failed; Kubernetes retries it.
    PullError,
    /// Init containers run.
    Initialising,
    /// A container cannot be created, or has failed and is restarted.
    Starting,
    /// The readiness probe has not passed.
    Readying,
}

impl Budget {
    /// All of them, in the order of a start.
    pub const ALL: [Self; 8] = [
        Self::Creating,
        Self::Scheduling,
        Self::Mounting,
        Self::Pulling,
        Self::PullError,
        Self::Initialising,
        Self::Starting,
        Self::Readying,
    ];

    /// The name in annotations, `start-budget.<name>`; settings use it in upper case with `_`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// Its name, and its default duration in seconds.
    fn row(self) -> (&'static str, u64) {
        match self {
            Self::Creating => ("creating", 15),
            // An autoscaler may be adding a node.
            Self::Scheduling => ("scheduling", 600),
            Self::Mounting => ("mounting", 300),
            Self::Pulling => ("pulling", 300),
            Self::PullError => ("pull-error", 10),
            Self::Initialising => ("initialising", 300),
            Self::Starting => ("starting", 10),
            Self::Readying => ("readying", 300),
        }
    }
}

/// Duration of each budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets([Duration; Budget::ALL.len()]);

impl Default for Budgets {
    fn default() -> Self {
        Self(Budget::ALL.map(|budget| Duration::from_secs(budget.row().1)))
    }
}

impl Budgets {
    /// Duration of this budget.
    #[must_use]
    pub fn get(&self, budget: Budget) -> Duration {
        self.0[budget as usize]
    }

    /// Sets the duration of this budget.
    pub fn set(&mut self, budget: Budget, limit: Duration) {
        self.0[budget as usize] = limit;
    }
}

/// The Job controller's back-off before it creates the next pod: 10 s after the first failed pod,
/// doubled with each, at most 10 min.
pub(super) fn controller_pause(job: &Job) -> Duration {
    match job.status.failed {
        0 => Duration::ZERO,
        failed => Duration::from_secs(600.min(10 << failed.min(7) >> 1)),
    }
}

/// When a state began, on the monotonic clock of this replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// When this replica first observed it.
    pub seen: Instant,
    /// Start of its budget.
    pub budget: Instant,
}

impl Finding {
    /// Start of the budget, if Kubernetes has a timestamp for it.
    #[must_use]
    pub const fn budget_from(&self) -> Option<Timestamp> {
        match self.prognosis {
            Prognosis::Retryable { from, .. } => from,
            Prognosis::AwaitingReason | Prognosis::Terminal => None,
        }
    }

    /// When this finding becomes a failure report; `None` means never.
    #[must_use]
    pub fn report_at(&self, begun: Begun, budgets: &Budgets) -> Option<Instant> {
        match self.prognosis {
            Prognosis::Terminal => Some(begun.seen),
            Prognosis::AwaitingReason => begun.seen.checked_add(TERMINATION_REPORT_WAIT),
            Prognosis::Retryable { budget, pause, .. } => begun
                .budget
                .checked_add(budgets.get(budget?))?
                .checked_add(pause),
        }
    }
}
