//! Budgets: how long a start may stay in a state before it is reported as failing.
//!
//! Pure. This file has their names, which settings and annotations share, and their durations. Which
//! budget applies is decided by the findings in [`super`], not here.

use std::time::Duration;

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
        match self {
            Self::Creating => "creating",
            Self::Scheduling => "scheduling",
            Self::Mounting => "mounting",
            Self::Pulling => "pulling",
            Self::PullError => "pull-error",
            Self::Initialising => "initialising",
            Self::Starting => "starting",
            Self::Readying => "readying",
        }
    }
}

/// Duration of each budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets([Duration; Budget::ALL.len()]);

impl Default for Budgets {
    fn default() -> Self {
        let mut budgets = Self([Duration::ZERO; Budget::ALL.len()]);
        for budget in Budget::ALL {
            let secs = match budget {
                Budget::Creating => 15,
                // An autoscaler may be adding a node.
                Budget::Scheduling => 600,
                Budget::Mounting | Budget::Pulling | Budget::Initialising | Budget::Readying => 300,
                Budget::PullError | Budget::Starting => 10,
            };
            budgets.set(budget, Duration::from_secs(secs));
        }
        budgets
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
