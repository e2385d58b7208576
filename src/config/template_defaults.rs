//! Settings for templates that do not say otherwise: how long a phase of a start may take, and when instances end.
//!
//! Pure, a part of [`super`]. What the annotations of a template make of it is in [`crate::model::job`].

use super::Reader;
use crate::model::duration::parse_duration;
use crate::model::job::{JobSettings, MAX_LIFETIME_MIN, NEVER};
use crate::model::status::{Budget, Budgets};
use std::time::Duration;

impl Reader<'_> {
    pub(super) fn template_defaults(&mut self) -> JobSettings {
        JobSettings {
            max_lifetime: self.max_lifetime(),
            ttl_after_finished: self.lifetime("INSTANCE_TTL_AFTER_FINISHED"),
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

    fn max_lifetime(&mut self) -> Option<Duration> {
        let name = "INSTANCE_MAX_LIFETIME";
        let most = self.lifetime(name);
        if most.is_some_and(|most| most < MAX_LIFETIME_MIN) {
            let text = self.text(name);
            self.unexpected(name, &text, "at least 1s, or never");
        }
        most
    }

    /// A duration after which instances end, if there is one.
    fn lifetime(&mut self, name: &str) -> Option<Duration> {
        let text = self.text(name);
        if text == NEVER {
            return None;
        }
        let duration = parse_duration(&text);
        if duration.is_none() {
            self.unexpected(
                name,
                &text,
                "a duration such as 10m or 2h, of at most 30 days, or never",
            );
        }
        duration
    }
}
