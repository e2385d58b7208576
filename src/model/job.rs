//! The manifest of an instance's Job, from a rendered pod template and a key, and the settings that
//! template authors can make by annotations.
//!
//! Pure. Every field that a Job has beyond the template is set here, with its reason. When Jobs are
//! created, replaced and deleted is decided in [`crate::app`], not here.

mod annotations;

pub use annotations::{
    Annotations, UNREAD_SETTINGS_MAX, find_setting, setting_key, unread_settings,
};

use super::duration::parse_duration;
use super::labels;
use super::names::{self, InstanceKey};
use super::status::{Budget, Budgets};
use crate::kube::types::Job;
use annotations::START_BUDGET;
use serde_json::{Value, json};
use std::time::Duration;

/// Delay before the first replacement of a failed instance.
pub const RESTART_DELAY: Duration = Duration::from_secs(10);

/// Longest delay before a replacement, after consecutive failures.
pub const RESTART_DELAY_MAX: Duration = Duration::from_secs(300);

/// What ends after no time, or is not done.
pub const NEVER: &str = "never";

/// The shortest `max-lifetime`: Kubernetes counts whole seconds, and would end a Job without one at once.
pub const MAX_LIFETIME_MIN: Duration = Duration::from_secs(1);

/// Settings of a template's Jobs, from annotations of its ConfigMap:
/// `config-controller.semafor.ch/<setting>` for all of its types,
/// `<type>.config-controller.semafor.ch/<setting>` or
/// `config-controller.semafor.ch/type.<type>.<setting>` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSettings {
    /// `backoff-limit`: how often Kubernetes itself retries.
    pub backoff_limit: Option<u32>,
    /// `max-lifetime`: when Kubernetes stops the Job.
    pub max_lifetime: Option<Duration>,
    /// `ttl-after-finished`: when Kubernetes deletes the finished Job.
    pub ttl_after_finished: Option<Duration>,
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
            max_lifetime: None,
            ttl_after_finished: None,
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
        let lifetime = |setting: &str, default, least| match find(setting) {
            None => Ok(default),
            Some((key, value)) => parse_lifetime(value, least).map_err(|expected| {
                format!("the annotation {key} is '{value}'; expected {expected}")
            }),
        };
        let backoff_limit = match find("backoff-limit") {
            None => None,
            Some((key, value)) => Some(value.parse().map_err(|_| {
                format!("the annotation {key} is '{value}'; expected a whole number of 0 or more")
            })?),
        };
        let restart_failed = match find("restart-failed") {
            None => true,
            Some((_, NEVER)) => false,
            Some((_, "after-delay")) => true,
            Some((key, value)) => {
                return Err(format!(
                    "the annotation {key} is '{value}'; expected {NEVER} or after-delay"
                ));
            }
        };
        for budget in Budget::ALL {
            if let Some(limit) = duration(&format!("{START_BUDGET}{}", budget.as_str()))? {
                budgets.set(budget, limit);
            }
        }
        Ok(Self {
            backoff_limit,
            max_lifetime: lifetime("max-lifetime", defaults.max_lifetime, MAX_LIFETIME_MIN)?,
            ttl_after_finished: lifetime(
                "ttl-after-finished",
                defaults.ttl_after_finished,
                Duration::ZERO,
            )?,
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

/// Annotation of a Job: how long its app must have been ready to count as ready.
const MIN_READY: &str = "config-controller.semafor.ch/min-ready";

/// The input of a manifest besides the pod template.
#[derive(Clone, Copy, Debug)]
pub struct JobParts<'a> {
    /// The instance.
    pub key: &'a InstanceKey,
    /// The template's settings.
    pub settings: &'a JobSettings,
    /// The caller that requested the start.
    pub started_by: &'a str,
    /// The revision of the template; see [`super::revision`].
    pub template_revision: &'a str,
    /// The revision of the values.
    pub values_revision: &'a str,
    /// Consecutive failures of this name before this Job.
    pub failures: u32,
}

/// The manifest of the Job: the rendered pod template, our labels, and two kinds of fields. Some
/// ensure that one name never has two running pods, others that a failure is known immediately.
#[must_use]
pub fn manifest(mut template: Value, parts: &JobParts<'_>) -> Value {
    // A value can make this key of the template, which then holds anything.
    mark(object_at(&mut template, "metadata"), parts);
    let never = template["spec"]["restartPolicy"] == "Never";
    keep_last_output(&mut template["spec"]);
    // By default the replacement starts while the old pod is still terminating: two pods of one name.
    let mut spec = json!({"podReplacementPolicy": "Failed"});
    if never {
        // An eviction must not count as a failure, which would end the Job.
        spec["podFailurePolicy"] = json!({"rules": [{
            "action": "Ignore",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        }]});
    }
    let default_limit = never.then_some(0);
    if let Some(limit) = parts.settings.backoff_limit.or(default_limit) {
        spec["backoffLimit"] = json!(limit);
    }
    if let Some(lifetime) = parts.settings.max_lifetime {
        spec["activeDeadlineSeconds"] = json!(lifetime.as_secs().max(1));
    }
    if let Some(ttl) = parts.settings.ttl_after_finished {
        spec["ttlSecondsAfterFinished"] = json!(ttl.as_secs());
    }
    spec["template"] = template;
    let mut metadata = json!({"name": parts.key.job_name()});
    mark(&mut metadata, parts);
    metadata["annotations"][labels::STARTED_BY] = json!(parts.started_by);
    if parts.failures > 0 {
        metadata["annotations"][labels::FAILURES] = json!(parts.failures.to_string());
    }
    let min_ready = parts.settings.min_ready;
    if !min_ready.is_zero() {
        metadata["annotations"][MIN_READY] = json!(format!("{}ms", min_ready.as_millis()));
    }
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})
}

/// How long the app of this Job must have been ready to count as ready; the template may have changed since.
#[must_use]
pub fn min_ready(job: &Job) -> Duration {
    let text = job.metadata.annotations.get(MIN_READY);
    text.and_then(parse_duration).unwrap_or_default()
}

/// Adds type, name and revisions of the instance to this metadata, a map.
fn mark(metadata: &mut Value, parts: &JobParts<'_>) {
    let (app_type, name) = (parts.key.app_type.as_str(), parts.key.name.as_str());
    let labels = object_at(metadata, "labels");
    labels[labels::INSTANCE_TYPE] = json!(names::label_value(app_type));
    labels[labels::INSTANCE_NAME] = json!(names::label_value(name));
    let annotations = object_at(metadata, "annotations");
    annotations[labels::INSTANCE_TYPE] = json!(app_type);
    annotations[labels::INSTANCE_NAME] = json!(name);
    annotations[labels::TEMPLATE_REVISION] = json!(parts.template_revision);
    annotations[labels::VALUES_REVISION] = json!(parts.values_revision);
}

/// The object under `field`, created if it is missing, `null` (contract W14) or something else.
fn object_at<'a>(parent: &'a mut Value, field: &str) -> &'a mut Value {
    let slot = &mut parent[field];
    if !slot.is_object() {
        *slot = json!({});
    }
    slot
}

/// Makes the last log lines of a failed container available without permission to read logs.
fn keep_last_output(spec: &mut Value) {
    for field in ["containers", "initContainers"] {
        let containers = spec.get_mut(field).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter(|it| it.is_object()) {
            let policy = &mut container["terminationMessagePolicy"];
            if policy.is_null() {
                *policy = json!("FallbackToLogsOnError");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::types::Pairs;
    use crate::kube::types::Resource as _;
    use crate::model::names::{AppType, InstanceName};
    use crate::model::template::{Template, Variables};

    fn key(name: &str) -> InstanceKey {
        InstanceKey {
            app_type: AppType::new("scim").unwrap(),
            name: InstanceName::new(name).unwrap(),
        }
    }

    fn parts<'a>(key: &'a InstanceKey, settings: &'a JobSettings) -> JobParts<'a> {
        JobParts {
            key,
            settings,
            started_by: "10.0.0.1",
            template_revision: "7e",
            values_revision: "ab",
            failures: 0,
        }
    }

    fn made(template: Value, name: &str, settings: &JobSettings, failures: u32) -> Value {
        let key = key(name);
        let parts = parts(&key, settings);
        manifest(template, &JobParts { failures, ..parts })
    }

    #[test]
    fn a_job_has_the_template_our_labels_and_the_fields_that_ensure_one_pod() {
        let template = json!({
            "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "i"}]},
        });
        let expected = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": "scim-n1",
                "labels": {
                    "config-controller.semafor.ch/instance-type": "scim",
                    "config-controller.semafor.ch/instance-name": "n1",
                },
                "annotations": {
                    "config-controller.semafor.ch/instance-type": "scim",
                    "config-controller.semafor.ch/instance-name": "n1",
                    "config-controller.semafor.ch/started-by": "10.0.0.1",
                    "config-controller.semafor.ch/template-revision": "7e",
                    "config-controller.semafor.ch/values-revision": "ab",
                },
            },
            "spec": {
                "podReplacementPolicy": "Failed",
                "podFailurePolicy": {"rules": [{
                    "action": "Ignore",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                }]},
                "backoffLimit": 0,
                "template": {
                    "metadata": {
                        "labels": {
                            "a": "b",
                            "config-controller.semafor.ch/instance-type": "scim",
                            "config-controller.semafor.ch/instance-name": "n1",
                        },
                        "annotations": {
                            "c": "d",
                            "config-controller.semafor.ch/instance-type": "scim",
                            "config-controller.semafor.ch/instance-name": "n1",
                            "config-controller.semafor.ch/template-revision": "7e",
                            "config-controller.semafor.ch/values-revision": "ab",
                        },
                    },
                    "spec": {
                        "restartPolicy": "Never",
                        "containers": [{
                            "name": "app",
                            "image": "i",
                            "terminationMessagePolicy": "FallbackToLogsOnError",
                        }],
                    },
                },
            },
        });
        assert_eq!(made(template, "n1", &JobSettings::default(), 0), expected);
    }

    #[test]
    fn metadata_and_labels_are_made_where_they_are_missing() {
        let spec = json!({"containers": [{"name": "a"}]});
        for (template, others) in [
            (json!({}), json!({})),
            (json!({"metadata": null}), json!({})),
            (json!({"metadata": ["made by a value"]}), json!({})),
            (json!({"metadata": {"labels": null}}), json!({})),
            (json!({"metadata": {"labels": {}}}), json!({})),
            (json!({"metadata": {"name": "x"}}), json!({"name": "x"})),
            (
                json!({"metadata": {"labels": {"a": "b"}}}),
                json!({"labels": {"a": "b"}}),
            ),
        ] {
            let mut template = template;
            template["spec"] = spec.clone();
            let job = made(template, "n1", &JobSettings::default(), 0);
            let metadata = job["spec"]["template"]["metadata"].clone();
            let mut expected = others;
            mark(&mut expected, &parts(&key("n1"), &JobSettings::default()));
            assert_eq!(metadata, expected);
            assert_eq!(metadata["labels"][labels::INSTANCE_NAME], "n1");
        }
    }

    #[test]
    fn a_value_that_makes_a_key_metadata_does_no_harm() {
        let text = "${alternatives['x']}: [a]\nspec:\n  containers: [{name: a}]\n";
        let template = Template::parse("t.yaml", text).unwrap();
        let variables = Variables::from_query("x=metadata").unwrap();
        let rendered = template.render(&variables).unwrap();
        assert_eq!(rendered["metadata"], json!(["a"]));
        let job = made(rendered, "n1", &JobSettings::default(), 0);
        let metadata = &job["spec"]["template"]["metadata"];
        assert_eq!(metadata["labels"][labels::INSTANCE_NAME], "n1");
    }

    #[test]
    fn the_job_remembers_how_long_its_app_must_have_been_ready() {
        let annotations = json!({"metadata": {"name": "c", "annotations": {
            "config-controller.semafor.ch/min-ready": "3s",
        }}});
        let map = crate::kube::types::ConfigMap::decode(annotations.to_string().as_bytes());
        let annotations = map.unwrap().unwrap().metadata.annotations;
        let settings = JobSettings::from_annotations(
            &Annotations::of(&annotations),
            "scim",
            &JobSettings::default(),
        );
        let template = json!({"spec": {"restartPolicy": "Never", "containers": []}});
        let made = made(template, "n1", &settings.unwrap(), 0);
        let job = Job::decode(made.to_string().as_bytes()).unwrap().unwrap();
        assert_eq!(min_ready(&job), Duration::from_secs(3));
    }

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
    fn restart_policy_on_failure_leaves_retries_to_kubernetes() {
        let template = json!({"spec": {"restartPolicy": "OnFailure", "containers": []}});
        let job = made(template, "n1", &JobSettings::default(), 0);
        assert_eq!(job["spec"].get("backoffLimit"), None);
        assert_eq!(job["spec"].get("podFailurePolicy"), None);
        assert_eq!(job["spec"]["podReplacementPolicy"], "Failed");
    }

    #[test]
    fn settings_of_the_template_and_failures_are_written() {
        let settings = JobSettings {
            backoff_limit: Some(2),
            max_lifetime: Some(Duration::from_secs(60)),
            ttl_after_finished: Some(Duration::ZERO),
            ..JobSettings::default()
        };
        let template =
            json!({"metadata": null, "spec": {"restartPolicy": "Never", "containers": []}});
        let job = made(template, "n1", &settings, 3);
        assert_eq!(job["spec"]["backoffLimit"], 2);
        assert_eq!(job["spec"]["activeDeadlineSeconds"], 60);
        assert_eq!(job["spec"]["ttlSecondsAfterFinished"], 0);
        assert_eq!(job["metadata"]["annotations"][labels::FAILURES], "3");
    }

    #[test]
    fn names_that_are_invalid_labels_are_kept_in_annotations() {
        let template = json!({"spec": {"containers": []}});
        let job = made(template, "bob@x.ch", &JobSettings::default(), 0);
        let metadata = &job["spec"]["template"]["metadata"];
        assert_eq!(metadata["annotations"][labels::INSTANCE_NAME], "bob@x.ch");
        let label = metadata["labels"][labels::INSTANCE_NAME].as_str().unwrap();
        assert!(
            names::is_label_value(label) && label.starts_with("bob-x.ch-"),
            "{label}"
        );
    }

    #[test]
    fn a_terminal_policy_of_the_template_is_kept() {
        let container = json!({"name": "a", "terminationMessagePolicy": "File"});
        let template = json!({"spec": {"initContainers": [container], "containers": [{"name": "b", "terminationMessagePolicy": null}]}});
        let job = made(template, "n1", &JobSettings::default(), 0);
        let spec = &job["spec"]["template"]["spec"];
        assert_eq!(
            spec["initContainers"][0]["terminationMessagePolicy"],
            "File"
        );
        assert_eq!(
            spec["containers"][0]["terminationMessagePolicy"],
            "FallbackToLogsOnError"
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
