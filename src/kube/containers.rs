//! [`PodContainers`]: which containers a pod has, and whether they run, for who reads their logs.
//!
//! The cache keeps no names of containers that run for the first time, so the pod is read when they are
//! needed. What a log is read of is decided in [`crate::app`].

use super::status::null_is_default;
use super::types::Uid;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// The annotation that names the container that is meant where none is.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The containers of a pod, by name.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodContainers {
    metadata: Metadata,
    spec: Lists,
    status: Lists,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    uid: Uid,
    #[serde(deserialize_with = "null_is_default")]
    annotations: BTreeMap<Box<str>, Box<str>>,
}

/// The containers in the specification of a pod, or their statuses.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Lists {
    #[serde(alias = "containerStatuses", deserialize_with = "null_is_default")]
    containers: Vec<Named>,
    #[serde(alias = "initContainerStatuses", deserialize_with = "null_is_default")]
    init_containers: Vec<Named>,
    #[serde(
        alias = "ephemeralContainerStatuses",
        deserialize_with = "null_is_default"
    )]
    ephemeral_containers: Vec<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: Box<str>,
    /// Of a status.
    state: Option<Box<RawValue>>,
}

impl Lists {
    fn find(&self, name: &str) -> Option<&Named> {
        let Self {
            containers,
            init_containers,
            ephemeral_containers,
        } = self;
        let all = [containers, init_containers, ephemeral_containers];
        let mut all = all.into_iter().flatten();
        all.find(|known| &*known.name == name)
    }
}

fn names<'a>(all: impl Iterator<Item = &'a Named>) -> String {
    let names: Vec<&str> = all.map(|it| &*it.name).collect();
    names.join(", ")
}

impl PodContainers {
    /// The UID of the pod.
    #[must_use]
    pub const fn uid(&self) -> &Uid {
        &self.metadata.uid
    }

    /// The container of that name, or else the one that is meant: that of the annotation
    /// `kubectl.kubernetes.io/default-container`, or the first of the app.
    ///
    /// # Errors
    /// Which there are.
    pub fn choose(&self, name: Option<&str>) -> Result<&str, String> {
        let Lists {
            containers,
            init_containers,
            ephemeral_containers,
        } = &self.spec;
        let find = |name: &str| self.spec.find(name).map(|it| &*it.name);
        if let Some(name) = name {
            return find(name).ok_or_else(|| {
                let mut text = format!("there is no container '{name}'; containers: ");
                text += &names(containers.iter().chain(ephemeral_containers));
                if !init_containers.is_empty() {
                    text += "; init containers: ";
                    text += &names(init_containers.iter());
                }
                text
            });
        }
        let wanted = self.metadata.annotations.get(DEFAULT_CONTAINER);
        let wanted = wanted.and_then(|name| find(name));
        let first = || containers.first().map(|it| &*it.name);
        let found = wanted.or_else(first);
        found.ok_or_else(|| "the pod has no container".into())
    }

    /// The state of the container of that name while it runs, as text that differs with each run.
    #[must_use]
    pub fn running(&self, name: &str) -> Option<&str> {
        let state = self.status.find(name)?.state.as_deref()?.get();
        // In a text it would be escaped.
        state.contains(r#""running":"#).then_some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(annotations: &Value, name: Option<&str>, expected: Result<&str, &str>) {
        let pod = json!({
            "metadata": {"uid": "u", "annotations": annotations},
            "spec": {
                "containers": [{"name": "app"}, {"name": "side"}],
                "initContainers": [{"name": "prepare"}, {"name": "proxy", "restartPolicy": "Always"}],
            },
        });
        let pod: PodContainers = serde_json::from_value(pod).unwrap();
        let found = pod.choose(name);
        assert_eq!(found, expected.map_err(str::to_owned));
    }

    #[test]
    fn the_container_is_that_of_the_request_or_the_annotation_or_the_first_of_the_app() {
        let annotated = |name: &str| json!({DEFAULT_CONTAINER: name});
        check(&Value::Null, None, Ok("app"));
        check(&annotated("side"), None, Ok("side"));
        check(&annotated("gone"), None, Ok("app"));
        check(&annotated("side"), Some("prepare"), Ok("prepare"));
        let text =
            "there is no container 'x'; containers: app, side; init containers: prepare, proxy";
        check(&Value::Null, Some("x"), Err(text));
        let none: PodContainers = serde_json::from_value(json!({})).unwrap();
        assert!(none.choose(None).is_err());
    }

    #[test]
    fn a_container_that_runs_has_a_state_of_its_own_in_each_run() {
        let state = |state: Value| {
            let statuses = json!([{"name": "side", "state": {}}, {"name": "app", "state": state}]);
            let pod =
                json!({"status": {"initContainerStatuses": statuses, "containerStatuses": null}});
            let pod: PodContainers = serde_json::from_value(pod).unwrap();
            assert_eq!(pod.running("side"), None);
            assert_eq!(pod.running("gone"), None);
            pod.running("app").map(str::to_owned)
        };
        let run = |time: &str| state(json!({"running": {"startedAt": time}}));
        assert!(run("2026-01-01T00:00:00Z").is_some());
        assert_ne!(run("2026-01-01T00:00:00Z"), run("2026-01-01T00:00:01Z"));
        for other in [
            json!({"waiting": {"reason": "running"}}),
            json!({"terminated": {"message": "was \"running\""}}),
        ] {
            assert_eq!(state(other), None);
        }
    }
}
