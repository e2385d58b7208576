//! [`PodContainers`]: which containers a pod has, for who reads their logs.
//!
//! The cache keeps no names of containers that run for the first time, so the pod is read when they are
//! needed. What a log is read of is decided in [`crate::app`].

use super::status::null_is_default;
use super::types::Uid;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The annotation that names the container that is meant where none is.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The containers of a pod, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PodContainers {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Metadata {
    uid: Uid,
    #[serde(deserialize_with = "null_is_default")]
    annotations: BTreeMap<Box<str>, Box<str>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(deserialize_with = "null_is_default")]
    containers: Vec<Named>,
    #[serde(deserialize_with = "null_is_default")]
    init_containers: Vec<Named>,
    #[serde(deserialize_with = "null_is_default")]
    ephemeral_containers: Vec<Named>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Named {
    name: Box<str>,
}

fn names(all: &[Named]) -> String {
    let names: Vec<&str> = all.iter().map(|it| &*it.name).collect();
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
        let Spec {
            containers,
            init_containers,
            ephemeral_containers,
        } = &self.spec;
        let all = [containers, init_containers, ephemeral_containers];
        let find = |name: &str| {
            let all = all.into_iter().flatten();
            all.map(|it| &*it.name).find(|known| *known == name)
        };
        if let Some(name) = name {
            return find(name).ok_or_else(|| {
                let mut text = format!("there is no container '{name}'; containers: ");
                text += &names(&[&containers[..], ephemeral_containers].concat());
                if !init_containers.is_empty() {
                    text += "; init containers: ";
                    text += &names(init_containers);
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
}
