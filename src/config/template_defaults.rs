//! Settings for templates that do not say otherwise: how long a phase of a start may take, and when instances end.
//!
//! Pure, a part of [`super`]. What the annotations of a template make of it is in [`crate::model::job`].

use super::Reader;
use crate::model::job::{
    Caps, IDLE_TIMEOUT_MIN, JobSettings, MAX_LIFETIME_MIN, parse_cap, parse_lifetime,
};
use crate::model::status::{Budget, Budgets};
use std::time::Duration;

impl Reader<'_> {
    pub(super) fn template_defaults(&mut self) -> JobSettings {
        JobSettings {
            idle_timeout: self.lifetime("INSTANCE_IDLE_TIMEOUT", IDLE_TIMEOUT_MIN),
            max_lifetime: self.lifetime("INSTANCE_MAX_LIFETIME", MAX_LIFETIME_MIN),
            ttl_after_finished: self.lifetime("INSTANCE_TTL_AFTER_FINISHED", Duration::ZERO),
            caps: Caps {
                of_all: self.cap("MAX_INSTANCES"),
                ..Caps::default()
            },
            budgets: self.start_budgets(),
            ..JobSettings::default()
        }
    }

    fn start_budgets(&mut self) -> Budgets {
        let mut budgets = Budgets::default();
        for budget in Budget::ALL {
            let name = budget.as_str().to_ascii_uppercase().replace('-', "_");
            budgets.set(budget, self.duration(&format!("START_BUDGET_{name}")));
        }
        budgets
    }

    /// How many instances may run, if there is a cap.
    pub(super) fn cap(&mut self, name: &str) -> Option<u32> {
        let text = self.text(name);
        parse_cap(&text).unwrap_or_else(|expected| {
            self.unexpected(name, &text, &expected);
            None
        })
    }

    /// A duration after which instances end, if there is one.
    fn lifetime(&mut self, name: &str, least: Duration) -> Option<Duration> {
        let text = self.text(name);
        parse_lifetime(&text, least).unwrap_or_else(|expected| {
            self.unexpected(name, &text, &expected);
            None
        })
    }
}
