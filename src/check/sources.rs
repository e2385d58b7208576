//! What `check` reads without a cluster: files, folders and standard input, as ConfigMaps and templates.
//!
//! This file opens them and finds their documents; what a template must be is decided elsewhere.

use super::report::{CheckResult, Origin, Report};
use crate::kube::types::{ConfigMap, Resource as _, TEMPLATE_SUFFIX};
use crate::yaml;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Maximum size of a file, in bytes; Kubernetes stores objects of up to 1.5 MiB.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Maximum number of files of a folder.
pub const FILES_MAX: usize = 1000;

/// Standard input as an argument.
const STDIN: &str = "-";

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// The ConfigMaps of all manifests.
    pub(super) config_maps: Vec<Arc<ConfigMap>>,
    /// Where each was read first, by name.
    pub(super) origins: BTreeMap<String, Origin>,
    /// Files that are templates themselves, with their text.
    pub(super) templates: Vec<(Origin, String)>,
}

impl Sources {
    /// Reads these files and folders; problems go to the report.
    pub(super) fn read(paths: &[String], report: &mut Report) -> Self {
        let mut sources = Self::default();
        for path in paths {
            if path == STDIN {
                sources.take(path, read(std::io::stdin()), false, report);
            } else if Path::new(path).is_dir() {
                sources.folder(path, report);
            } else {
                let text = File::open(path).map_err(|error| error.to_string());
                sources.take(path, text.and_then(read), false, report);
            }
        }
        sources
    }

    /// All of them as ConfigMaps: a file that is a template itself is one, of the type that its name says.
    pub(super) fn all_config_maps(self) -> Vec<Arc<ConfigMap>> {
        let mut all = self.config_maps;
        for (origin, text) in self.templates {
            let file = origin.file.unwrap_or_default();
            let stem = Path::new(&file).file_stem().and_then(|stem| stem.to_str());
            let key = format!("{}{TEMPLATE_SUFFIX}", stem.unwrap_or_default());
            let value = json!({"metadata": {"name": file}, "data": {key: text}});
            let decoded = ConfigMap::decode(value.to_string().as_bytes());
            all.extend(decoded.ok().flatten().map(Arc::new));
        }
        all
    }

    /// Reads the manifests of a folder, in the order of their names.
    fn folder(&mut self, path: &str, report: &mut Report) {
        let files = match manifests_in(Path::new(path)) {
            Ok(files) => files,
            Err(error) => {
                return report.add(CheckResult::Bad, path, format!("cannot be read: {error}"));
            }
        };
        if files.len() > FILES_MAX {
            let text =
                format!("it has more than {FILES_MAX} manifests; check its folders one by one");
            return report.add(CheckResult::Bad, path, text);
        }
        let before = self.config_maps.len();
        for file in files {
            let text = File::open(&file).map_err(|error| error.to_string());
            self.take(&file, text.and_then(read), true, report);
        }
        if self.config_maps.len() == before {
            let text = "no file in it that ends with .yaml, .yml or .json contains a ConfigMap";
            report.add(CheckResult::Bad, path, text);
        }
    }

    /// Takes what a file holds. A file of a folder need not have a ConfigMap.
    fn take(
        &mut self,
        path: &str,
        text: Result<String, String>,
        of_folder: bool,
        report: &mut Report,
    ) {
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                return report.add(CheckResult::Bad, path, format!("cannot be read: {error}"));
            }
        };
        let documents = documents(&text);
        let is_manifest = |document: &Document| match &document.value {
            Ok(value) => value["kind"].is_string(),
            Err(_) => false,
        };
        let parsed = documents.iter().filter(|document| document.value.is_ok());
        let mut parsed = parsed.peekable();
        if parsed.peek().is_none() || !parsed.all(is_manifest) {
            let origin = Origin {
                file: Some(path.to_owned()),
                ..Origin::default()
            };
            if !of_folder {
                self.templates.push((origin, text));
            }
            return;
        }
        let before = self.config_maps.len();
        let mut is_broken = false;
        for document in &documents {
            let mut origin = Origin {
                file: Some(path.to_owned()),
                document: Some(document.number).filter(|_| documents.len() > 1),
                ..Origin::default()
            };
            match &document.value {
                Ok(value) => self.manifest(value, &origin, report),
                Err(error) => {
                    is_broken = true;
                    origin.line = Some(error.line + document.lines_before);
                    report.add_at(CheckResult::Bad, path, error.kind.to_string(), &origin);
                }
            }
        }
        if self.config_maps.len() == before && !is_broken && !of_folder {
            report.add(CheckResult::Bad, path, "it contains no ConfigMap");
        }
    }

    fn manifest(&mut self, value: &Value, origin: &Origin, report: &mut Report) {
        let kind = value["kind"].as_str().unwrap_or_default();
        if kind == "List" || kind == "ConfigMapList" {
            for item in value["items"].as_array().into_iter().flatten() {
                // The items of a typed list have no kind.
                if item["kind"] == "ConfigMap" || kind == "ConfigMapList" {
                    self.config_map(item, origin, report);
                }
            }
        } else if kind == "ConfigMap" {
            self.config_map(value, origin, report);
        }
    }

    fn config_map(&mut self, value: &Value, origin: &Origin, report: &mut Report) {
        let path = origin.file.clone().unwrap_or_default();
        let bad = |text: &str| report.add_at(CheckResult::Bad, path, text, origin);
        match ConfigMap::decode(value.to_string().as_bytes()) {
            Ok(Some(config_map)) => {
                let name = config_map.metadata.name.to_string();
                let origin = Origin {
                    config_map: Some(name.clone()),
                    ..origin.clone()
                };
                self.origins.entry(name).or_insert(origin);
                self.config_maps.push(Arc::new(config_map));
            }
            Ok(None) => bad("the ConfigMap has no metadata"),
            Err(error) => bad(&format!("invalid ConfigMap: {error}")),
        }
    }
}

/// The manifests of a folder, sorted, without its folders.
fn manifests_in(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_manifest = matches!(extension, Some("yaml" | "yml" | "json"));
        if is_manifest && path.is_file() {
            files.push(path.to_string_lossy().into_owned());
        }
        if files.len() > FILES_MAX {
            break;
        }
    }
    files.sort();
    Ok(files)
}

fn read(from: impl Read) -> Result<String, String> {
    let mut text = String::new();
    from.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
    }
    Ok(text)
}

/// A document of a file that is not empty.
struct Document {
    /// Its number, from 1, empty ones included.
    number: usize,
    lines_before: u32,
    value: Result<Value, yaml::Error>,
}

/// The documents of a text, separated as kubectl does: by lines that begin with `---`.
fn documents(text: &str) -> Vec<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut starts = vec![(0, 0)];
    let mut at = 0;
    for (number, line) in (0..).zip(text.split_inclusive('\n')) {
        let rest = line.strip_prefix("---");
        if at > 0
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
        {
            starts.push((at, number));
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).map(|(at, _)| *at).chain([text.len()]);
    let parts = (1..).zip(starts.iter().zip(ends));
    let documents = parts.map(|(number, ((start, lines_before), end))| Document {
        number,
        lines_before: *lines_before,
        value: yaml::parse(&text[*start..end]).and_then(|tree| tree.to_json()),
    });
    documents
        .filter(|it| !matches!(it.value, Ok(Value::Null)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_separated_as_kubectl_does() {
        let text = "---\na: 1\n---\n# nothing\n--- \nb: [\n--- {c: 3}\n...\n";
        let found = documents(text);
        let seen: Vec<_> = found
            .iter()
            .map(|it| {
                (
                    it.number,
                    it.lines_before,
                    it.value.clone().map_err(|error| error.line),
                )
            })
            .collect();
        let json = |text: &str| Ok(serde_json::from_str(text).unwrap());
        assert_eq!(seen.len(), 3, "{seen:?}");
        assert_eq!(seen[0], (1, 0, json("{\"a\":1}")));
        assert_eq!((seen[1].0, seen[1].1), (3, 4));
        assert!(seen[1].2.is_err());
        assert_eq!(seen[2], (4, 6, json("{\"c\":3}")));
        assert!(documents("").is_empty());
        assert!(documents("---\n---\n").is_empty());
    }
}
