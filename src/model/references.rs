//! What a pod template needs of its namespace: the objects that its pod reads or mounts.
//!
//! Pure. Whether they exist is not known here.

use super::template::PLACEHOLDER;
use serde_json::Value;

/// A kind of object that a pod can need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A ConfigMap.
    ConfigMap,
    /// A PersistentVolumeClaim.
    PersistentVolumeClaim,
    /// A Secret.
    Secret,
}

impl Kind {
    /// As in manifests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::Secret => "Secret",
        }
    }
}

/// An object that a pod needs, by its name in the namespace of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The kind.
    pub kind: Kind,
    /// The name.
    pub name: String,
    /// The field with the name, as in `spec.volumes[0].secret.secretName`.
    pub path: String,
}

/// The objects that a pod of this template needs, in the order of its fields. Those that may be missing
/// (`optional: true`), and names that are not known yet, are left out.
#[must_use]
pub fn of(template: &Value) -> Vec<Reference> {
    let mut finder = Finder(Vec::new());
    let spec = &template["spec"];
    let path = "spec";
    for (place, volume) in items(spec, "volumes") {
        finder.volume(volume, &format!("{path}.volumes[{place}]"));
    }
    for list in ["initContainers", "containers"] {
        for (place, container) in items(spec, list) {
            finder.container(container, &format!("{path}.{list}[{place}]"));
        }
    }
    for (place, secret) in items(spec, "imagePullSecrets") {
        let path = format!("{path}.imagePullSecrets[{place}]");
        finder.add(Kind::Secret, secret, "name", &path);
    }
    finder.0
}

fn items<'a>(parent: &'a Value, field: &str) -> impl Iterator<Item = (usize, &'a Value)> {
    parent[field].as_array().into_iter().flatten().enumerate()
}

struct Finder(Vec<Reference>);

impl Finder {
    fn add(&mut self, kind: Kind, source: &Value, field: &str, path: &str) {
        let name = source[field].as_str().unwrap_or_default();
        if !name.is_empty() && !name.contains(PLACEHOLDER) && source["optional"] != true {
            self.0.push(Reference {
                kind,
                name: name.to_owned(),
                path: format!("{path}.{field}"),
            });
        }
    }

    fn volume(&mut self, volume: &Value, path: &str) {
        for (field, kind, name) in [
            ("secret", Kind::Secret, "secretName"),
            ("configMap", Kind::ConfigMap, "name"),
            (
                "persistentVolumeClaim",
                Kind::PersistentVolumeClaim,
                "claimName",
            ),
        ] {
            self.add(kind, &volume[field], name, &format!("{path}.{field}"));
        }
        for (place, source) in items(&volume["projected"], "sources") {
            let path = format!("{path}.projected.sources[{place}]");
            for (field, kind) in [("secret", Kind::Secret), ("configMap", Kind::ConfigMap)] {
                self.add(kind, &source[field], "name", &format!("{path}.{field}"));
            }
        }
    }

    fn container(&mut self, container: &Value, path: &str) {
        for (place, source) in items(container, "envFrom") {
            let path = format!("{path}.envFrom[{place}]");
            for (field, kind) in [
                ("secretRef", Kind::Secret),
                ("configMapRef", Kind::ConfigMap),
            ] {
                self.add(kind, &source[field], "name", &format!("{path}.{field}"));
            }
        }
        for (place, variable) in items(container, "env") {
            let (source, path) = (
                &variable["valueFrom"],
                format!("{path}.env[{place}].valueFrom"),
            );
            for (field, kind) in [
                ("secretKeyRef", Kind::Secret),
                ("configMapKeyRef", Kind::ConfigMap),
            ] {
                self.add(kind, &source[field], "name", &format!("{path}.{field}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_that_must_exist_are_found_with_their_places() {
        let template = json!({"spec": {
            "volumes": [
                {"name": "a", "secret": {"secretName": "s1"}},
                {"name": "b", "secret": {"secretName": "s2", "optional": true}},
                {"name": "c", "configMap": {"name": "c1"}},
                {"name": "d", "persistentVolumeClaim": {"claimName": "p1"}},
                {"name": "e", "projected": {"sources": [{"configMap": {"name": "c2"}}, {"secret": {"name": "s3"}}]}},
                {"name": "f", "secret": {"secretName": format!("{PLACEHOLDER}0")}},
            ],
            "initContainers": [{"envFrom": [{"secretRef": {"name": "s4"}}, {"configMapRef": {"name": "c3"}}]}],
            "containers": [{"env": [
                {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s5", "key": "k"}}},
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "c4", "key": "k"}}},
                {"name": "C", "value": "s6"},
            ]}],
            "imagePullSecrets": [{"name": "s7"}, {}],
        }});
        let found: Vec<String> = of(&template)
            .iter()
            .map(|it| {
                let path = it.path.strip_prefix("spec.").unwrap();
                format!("{} {} {path}", it.kind.as_str(), it.name)
            })
            .collect();
        let expected = [
            "Secret s1 volumes[0].secret.secretName",
            "ConfigMap c1 volumes[2].configMap.name",
            "PersistentVolumeClaim p1 volumes[3].persistentVolumeClaim.claimName",
            "ConfigMap c2 volumes[4].projected.sources[0].configMap.name",
            "Secret s3 volumes[4].projected.sources[1].secret.name",
            "Secret s4 initContainers[0].envFrom[0].secretRef.name",
            "ConfigMap c3 initContainers[0].envFrom[1].configMapRef.name",
            "Secret s5 containers[0].env[0].valueFrom.secretKeyRef.name",
            "ConfigMap c4 containers[0].env[1].valueFrom.configMapKeyRef.name",
            "Secret s7 imagePullSecrets[0].name",
        ];
        assert_eq!(found, expected);
        assert_eq!(of(&json!({})), []);
    }
}
