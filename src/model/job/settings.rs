//! What template authors decide about the Jobs of a type, from annotations of its ConfigMap.
//!
//! Pure. Which annotation holds for which type is in [`super::annotations`]; what the manifest of a Job makes of
//! these settings is in [`super`].

use super::annotations::{Annotations, START_BUDGET};
use super::caps::{Caps, parse_cap};
use super::on_change::OnChange;
use crate::model::duration::parse_duration;
use crate::model::status::{Budget, Budgets};
use std::time::Duration;

/// Delay before the first replacement of a failed instance.
pub const RESTART_DELAY: Duration = Duration::from_secs(10);

/// Longest delay before a replacement, after consecutive failures.
pub const RESTART_DELAY_MAX: Duration = Duration::from_secs(300);

/// What ends after no time, or is not done.
pub const NEVER: &str = "never";

/// The shortest `max-lifetime`: Kubernetes counts whole seconds, and would end a Job without one at once.
pub const MAX_LIFETIME_MIN: Duration = Duration::from_secs(1);
/// The shortest time without use after which an instance may be stopped: replicas publish uses once a second at most.
pub const IDLE_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// Settings of a template's Jobs, from annotations of its ConfigMap:
/// `config-controller.semafor.ch/<setting>` for all of its types,
/// `<type>.config-controller.semafor.ch/<setting>` or
/// `config-controller.semafor.ch/type.<type>.<setting>` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSettings {
    /// `backoff-limit`: how often Kubernetes itself retries.
    pub backoff_limit: Option<u32>,
    /// `idle-timeout`: how long an instance may be unused before it is stopped, at least [`IDLE_TIMEOUT_MIN`].
    pub idle_timeout: Option<Duration>,
    /// `max-lifetime`: when Kubernetes stops the Job.
    pub max_lifetime: Option<Duration>,
    /// `ttl-after-finished`: when Kubernetes deletes the finished Job.
    pub ttl_after_finished: Option<Duration>,
    /// `max-instances`, `max-per-owner` and the setting `MAX_INSTANCES`: how many instances may run.
    pub caps: Caps,
    /// `on-change`: what becomes of instances when their template changes.
    pub on_change: OnChange,
    /// `restart-failed`: whether the next GET replaces a failed instance; `never` keeps it until DELETE.
    pub restart_failed: bool,
    /// `restart-delay`: how long a failed instance is kept, doubled with each consecutive failure.
    pub restart_delay: Duration,
    /// `min-ready`: how long the app must have been ready to count as ready.
    pub min_ready: Duration,
    /// `start-budget.<phase>`: when a start without progress is reported as failing.
    pub budgets: Budgets,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            backoff_limit: None,
            idle_timeout: None,
            max_lifetime: None,
            ttl_after_finished: None,
            caps: Caps::default(),
            on_change: OnChange::Keep,
            restart_failed: true,
            restart_delay: RESTART_DELAY,
            min_ready: Duration::ZERO,
            budgets: Budgets::default(),
        }
    }
}

/// The time after which something ends, at least that long; `None` if it never does.
///
/// # Errors
/// What was expected instead.
pub fn parse_lifetime(text: &str, least: Duration) -> Result<Option<Duration>, String> {
    if text == NEVER {
        return Ok(None);
    }
    match parse_duration(text) {
        Some(duration) if duration < least => Err(format!("at least {least:?}, or {NEVER}")),
        Some(duration) => Ok(Some(duration)),
        None => Err(format!(
            "a duration such as 10m or 2h, of at most 30 days, or {NEVER}"
        )),
    }
}

/// The value of a setting, or the problem with its annotation.
fn parsed<T>(
    found: Option<(String, &str)>,
    default: T,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, String> {
    let Some((key, value)) = found else {
        return Ok(default);
    };
    let problem = |expected| format!("the annotation {key} is '{value}'; expected {expected}");
    parse(value).map_err(problem)
}

impl JobSettings {
    /// Parses the annotations of a ConfigMap for one of its types; where there is none, the budgets and lifetimes
    /// of `defaults` hold.
    ///
    /// # Errors
    /// The first invalid annotation, with its name and the expected values.
    pub fn from_annotations(
        annotations: &Annotations<'_>,
        app_type: &str,
        defaults: &Self,
    ) -> Result<Self, String> {
        annotations.check_budget_names(app_type)?;
        let mut budgets = defaults.budgets;
        let find = |setting: &str| annotations.find(app_type, setting);
        let duration = |setting: &str| match find(setting) {
            None => Ok(None),
            Some((key, value)) => parse_duration(value).map(Some).ok_or_else(|| {
                format!("the annotation {key} is '{value}'; expected a duration such as 10s or 5m")
            }),
        };
        let lifetime = |setting: &str, default, least| {
            parsed(find(setting), default, |value| parse_lifetime(value, least))
        };
        let cap = |setting: &str| parsed(find(setting), None, parse_cap);
        let caps = Caps {
            of_type: cap("max-instances")?,
            per_owner: cap("max-per-owner")?,
            ..defaults.caps
        };
        let backoff_limit = parsed(find("backoff-limit"), None, |value| {
            let expected = || "a whole number of 0 or more".to_owned();
            value.parse().map(Some).map_err(|_| expected())
        })?;
        let restart_failed = parsed(find("restart-failed"), true, |value| match value {
            NEVER => Ok(false),
            "after-delay" => Ok(true),
            _ => Err(format!("{NEVER} or after-delay")),
        })?;
        let on_change = parsed(find("on-change"), OnChange::Keep, OnChange::parse)?;
        for budget in Budget::ALL {
            if let Some(limit) = duration(&format!("{START_BUDGET}{}", budget.as_str()))? {
                budgets.set(budget, limit);
            }
        }
        Ok(Self {
            backoff_limit,
            idle_timeout: lifetime("idle-timeout", defaults.idle_timeout, IDLE_TIMEOUT_MIN)?,
            max_lifetime: lifetime("max-lifetime", defaults.max_lifetime, MAX_LIFETIME_MIN)?,
            ttl_after_finished: lifetime(
                "ttl-after-finished",
                defaults.ttl_after_finished,
                Duration::ZERO,
            )?,
            caps,
            on_change,
            restart_failed,
            restart_delay: duration("restart-delay")?.unwrap_or(RESTART_DELAY),
            min_ready: duration("min-ready")?.unwrap_or_default(),
            budgets,
        })
    }

    /// What their author should know: settings that do not go well together.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let ttl = self
            .ttl_after_finished
            .filter(|ttl| *ttl < self.restart_delay);
        let text = ttl.map(|ttl| {
            format!(
                "ttl-after-finished ({}s) is shorter than restart-delay ({}s): Kubernetes deletes a failed instance before it may be replaced, and a replica that has not seen its failure starts it again at once",
                ttl.as_secs(),
                self.restart_delay.as_secs()
            )
        });
        text.into_iter().collect()
    }

    /// How long a failed instance is kept, after this many consecutive failures before it.
    #[must_use]
    pub fn delay_after(&self, failures_before: u32) -> Duration {
        let factor = 1_u32 << failures_before.min(16);
        self.restart_delay
            .saturating_mul(factor)
            .min(RESTART_DELAY_MAX.max(self.restart_delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::types::Pairs;
    use serde_json::{Value, json};

    #[test]
    fn a_time_to_live_that_ends_before_the_delay_is_warned_of() {
        let with = |ttl: Option<u64>| JobSettings {
            ttl_after_finished: ttl.map(Duration::from_secs),
            ..JobSettings::default()
        };
        assert_eq!(with(None).warnings(), [""; 0]);
        assert_eq!(with(Some(10)).warnings(), [""; 0]);
        let warnings = with(Some(0)).warnings();
        assert!(
            warnings[0].starts_with("ttl-after-finished (0s) is shorter than restart-delay (10s)"),
            "{warnings:?}"
        );
    }

    #[test]
    fn delays_double_up_to_their_bound() {
        let settings = JobSettings::default();
        let secs = |failures| settings.delay_after(failures).as_secs();
        assert_eq!(
            [secs(0), secs(1), secs(2), secs(4), secs(5), secs(99)],
            [10, 20, 40, 160, 300, 300]
        );
    }

    #[track_caller]
    fn check_settings(annotations: Value, expected: Result<JobSettings, &str>) {
        let pairs: Pairs = serde_json::from_value(annotations).unwrap();
        assert_eq!(
            JobSettings::from_annotations(
                &Annotations::of(&pairs),
                "scim",
                &JobSettings::default()
            ),
            expected.map_err(Into::into)
        );
    }

    #[test]
    fn a_lifetime_lasts_a_second_at_least_or_for_ever() {
        let second = Duration::from_secs(1);
        assert_eq!(parse_lifetime("1s", second), Ok(Some(second)));
        assert_eq!(parse_lifetime("never", second), Ok(None));
        assert_eq!(
            parse_lifetime("0", Duration::ZERO),
            Ok(Some(Duration::ZERO))
        );
        let key = "config-controller.semafor.ch/max-lifetime";
        for (value, expected) in [
            ("999ms", "at least 1s, or never"),
            ("0", "at least 1s, or never"),
            (
                "721h",
                "a duration such as 10m or 2h, of at most 30 days, or never",
            ),
        ] {
            let problem = format!("the annotation {key} is '{value}'; expected {expected}");
            check_settings(json!({ key: value }), Err(&problem));
        }
    }

    #[test]
    fn annotations_of_a_type_override_those_of_all_types() {
        check_settings(json!({}), Ok(JobSettings::default()));
        check_settings(
            json!({
                "config-controller.semafor.ch/restart-delay": "1s",
                "scim.config-controller.semafor.ch/restart-delay": "2s",
                "other.config-controller.semafor.ch/restart-delay": "3s",
                "config-controller.semafor.ch/restart-failed": "never",
            }),
            Ok(JobSettings {
                restart_delay: Duration::from_secs(2),
                restart_failed: false,
                ..JobSettings::default()
            }),
        );
        check_settings(
            json!({"config-controller.semafor.ch/backoff-limit": "-1"}),
            Err(
                "the annotation config-controller.semafor.ch/backoff-limit is '-1'; expected a whole number of 0 or more",
            ),
        );
    }

    #[test]
    fn budgets_are_given_by_phase() {
        let budget = |phase: &str| format!("config-controller.semafor.ch/start-budget.{phase}");
        for known in Budget::ALL {
            let mut budgets = Budgets::default();
            budgets.set(known, Duration::from_secs(90));
            check_settings(
                json!({budget(known.as_str()): "5s", format!("scim.{}", budget(known.as_str())): "90s"}),
                Ok(JobSettings {
                    budgets,
                    ..JobSettings::default()
                }),
            );
        }
        check_settings(
            json!({budget("pulling"): "soon"}),
            Err(
                "the annotation config-controller.semafor.ch/start-budget.pulling is 'soon'; expected a duration such as 10s or 5m",
            ),
        );
        check_settings(
            json!({format!("scim.{}", budget("fetching")): "5s"}),
            Err(
                "the annotation scim.config-controller.semafor.ch/start-budget.fetching names the unknown budget 'fetching'; expected one of creating, scheduling, mounting, pulling, pull-error, initialising, starting, readying",
            ),
        );
        // An annotation of another type does not count.
        check_settings(
            json!({format!("other.{}", budget("fetching")): "5s"}),
            Ok(JobSettings::default()),
        );
    }
}
