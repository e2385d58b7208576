//! The manifest of an instance's Job, from a rendered pod template, a key, and the settings of template authors.
//!
//! Pure. Every field that a Job has beyond the template is set here, with its reason. When Jobs are
//! created, replaced and deleted is decided in [`crate::app`], not here.

mod annotations;
mod caps;
mod on_change;
mod settings;

pub use annotations::{
    Annotations, UNREAD_SETTINGS_MAX, find_setting, setting_key, unread_settings,
};
pub use caps::{
    ADMISSION, ADMITTED, CAP_MAX, CapScope, Caps, UNDECIDED, is_undecided, owner, parse_cap,
};
pub(super) use on_change::mark as carry_values;
pub use on_change::{OnChange, is_restarted};
pub use settings::{
    IDLE_TIMEOUT_MIN, JobSettings, MAX_LIFETIME_MIN, NEVER, RESTART_DELAY, RESTART_DELAY_MAX,
    parse_lifetime,
};

use super::duration::parse_duration;
use super::labels;
use super::names::{self, InstanceKey};
use super::status::has_job_ended;
use super::template::Variables;
use crate::kube::types::Job;
use serde_json::{Value, json};
use std::time::Duration;

/// Annotation of a Job: how long its app must have been ready to count as ready.
const MIN_READY: &str = "config-controller.semafor.ch/min-ready";

/// Annotation of a Job: how long it may be unused.
const IDLE_TIMEOUT: &str = "config-controller.semafor.ch/idle-timeout";

/// The input of a manifest besides the pod template.
#[derive(Clone, Copy, Debug)]
pub struct JobParts<'a> {
    /// The instance.
    pub key: &'a InstanceKey,
    /// The template's settings.
    pub settings: &'a JobSettings,
    /// The caller that requested the start.
    pub started_by: &'a str,
    /// Whose instance it is, if it is anybody's.
    pub owner: Option<&'a str>,
    /// The revision of the template; see [`super::revision`].
    pub template_revision: &'a str,
    /// The revision of the values.
    pub values_revision: &'a str,
    /// Consecutive failures of this name before this Job.
    pub failures: u32,
    /// The values.
    pub variables: &'a Variables,
    /// Whether it takes the place of one of another revision of the template.
    pub is_restart: bool,
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
    if let Some(timeout) = parts.settings.idle_timeout {
        metadata["annotations"][IDLE_TIMEOUT] = json!(format!("{}ms", timeout.as_millis()));
    }
    if parts.settings.on_change != OnChange::Keep {
        let restarted_for = parts.is_restart.then_some(parts.template_revision);
        let annotations = &mut metadata["annotations"];
        carry_values(annotations, parts.variables, restarted_for);
    }
    parts.settings.caps.suspend(&mut metadata, &mut spec);
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})
}

/// How long the app of this Job must have been ready to count as ready; the template may have changed since.
#[must_use]
pub fn min_ready(job: &Job) -> Duration {
    let text = job.metadata.annotations.get(MIN_READY);
    text.and_then(parse_duration).unwrap_or_default()
}

/// How long this Job may be unused, if there is a limit and it has not ended: what its template said when it was
/// made, so that all replicas agree. What has ended takes nothing, and its report is kept for its own time.
#[must_use]
pub fn idle_timeout(job: &Job) -> Option<Duration> {
    let text = job.metadata.annotations.get(IDLE_TIMEOUT);
    let timeout = text.and_then(parse_duration);
    timeout.filter(|it| *it >= IDLE_TIMEOUT_MIN && !has_job_ended(job))
}

/// Adds type, name and revisions of the instance to this metadata, a map.
fn mark(metadata: &mut Value, parts: &JobParts<'_>) {
    let (app_type, name) = (parts.key.app_type.as_str(), parts.key.name.as_str());
    let labels = object_at(metadata, "labels");
    labels[labels::INSTANCE_TYPE] = json!(names::label_value(app_type));
    labels[labels::INSTANCE_NAME] = json!(names::label_value(name));
    if let Some(owner) = parts.owner {
        labels[caps::OWNER] = json!(names::label_value(owner));
    }
    let annotations = object_at(metadata, "annotations");
    if let Some(owner) = parts.owner {
        annotations[caps::OWNER] = json!(owner);
    }
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
    use crate::kube::types::Resource as _;
    use crate::model::names::{AppType, InstanceName};
    use crate::model::template::Template;
    use std::sync::LazyLock;

    static NO_VALUES: LazyLock<Variables> = LazyLock::new(Variables::default);

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
            owner: None,
            template_revision: "7e",
            values_revision: "ab",
            failures: 0,
            variables: &NO_VALUES,
            is_restart: false,
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
    fn the_job_remembers_how_long_it_may_be_unused() {
        let template = json!({"spec": {"restartPolicy": "Never", "containers": []}});
        let with = |idle_timeout| {
            let settings = JobSettings {
                idle_timeout,
                ..JobSettings::default()
            };
            idle_timeout_of(&made(template.clone(), "n1", &settings, 0))
        };
        assert_eq!(
            with(Some(Duration::from_secs(900))),
            Some(Duration::from_secs(900))
        );
        assert_eq!(with(None), None);
        let mut others = made(template, "n1", &JobSettings::default(), 0);
        others["metadata"]["annotations"][IDLE_TIMEOUT] = "999ms".into();
        assert_eq!(
            idle_timeout_of(&others),
            None,
            "it would be stopped before its callers have its address"
        );
    }

    fn idle_timeout_of(job: &Value) -> Option<Duration> {
        let job = Job::decode(job.to_string().as_bytes()).unwrap().unwrap();
        idle_timeout(&job)
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
}
