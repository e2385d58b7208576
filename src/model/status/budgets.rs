//! How long a start may be held up by something before its caller is told that it probably fails.
//!
//! Pure. Which budget runs for what is said by the findings in [`super`]; here stand their
//! names, which settings and annotations share, and how long they are.

use std::time::Duration;

/// Something that may hold a start up, and has a time that it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Budget {
    /// The Job has no pod.
    Creating,
    /// The pod has no node.
    Scheduling,
    /// The node prepares volumes and network.
    Mounting,
    /// The image is being fetched.
    Pulling,
    /// The image could not be fetched; the next try may still succeed.
    PullError,
    /// Init containers run.
    Initialising,
    /// A container cannot be made, or has failed and is run again.
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

    /// The word in annotations, `start-budget.<word>`; in settings it is in upper case with `_`.
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

/// How long each budget is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets([Duration; Budget::ALL.len()]);

impl Default for Budgets {
    fn default() -> Self {
        let mut budgets = Self([Duration::ZERO; Budget::ALL.len()]);
        for budget in Budget::ALL {
            let secs = match budget {
                Budget::Creating => 15,
                // An autoscaler may be at work.
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
    /// How long this one is.
    #[must_use]
    pub fn get(&self, budget: Budget) -> Duration {
        self.0[budget as usize]
    }

    /// Makes this one as long as that.
    pub fn set(&mut self, budget: Budget, limit: Duration) {
        self.0[budget as usize] = limit;
    }
}
