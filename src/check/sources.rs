//! What `check` reads without a cluster: files, folders and standard input, as ConfigMaps and templates, one
//! after the other.
//!
//! What a user names is never skipped without a row. Of a folder, what is not ours is; but what cannot be
//! read and could be ours gets a row, too. This file opens files; what is in them is decided in `documents`
//! and `config_maps`.

use super::config_maps;
use super::documents::{self, CONFIG_MAP, Document, FILE_BYTES_MAX, LISTS, Step};
use super::report::{CheckResult, Origin, Report};
use crate::kube::types::{ConfigMap, Resource as _};
use crate::sorting;
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Maximum number of files of a folder.
pub const FILES_MAX: usize = 1000;

/// How many folders of a folder are named.
const NAMED_MAX: usize = 5;

/// Standard input as an argument.
const STDIN: &str = "-";

/// What was found.
#[derive(Debug)]
pub(super) enum Found {
    /// A ConfigMap, and the namespace that its manifest names.
    ConfigMap(Arc<ConfigMap>, Option<String>),
    /// The text of a file that is a template itself.
    Template(String),
}

/// Takes what was found, and where.
pub(super) type Take<'a> = &'a mut dyn FnMut(Found, Origin, &mut Report);

/// Reads these files and folders; problems go to the report.
pub(super) fn read(paths: &[String], report: &mut Report, take: Take<'_>) {
    for path in paths {
        let reader = Reader {
            report: &mut *report,
            take: &mut *take,
            of_folder: path != STDIN && Path::new(path).is_dir(),
            config_maps: 0,
            templates: 0,
        };
        reader.read(path);
    }
}

/// Reads one argument.
struct Reader<'a> {
    report: &'a mut Report,
    take: Take<'a>,
    of_folder: bool,
    config_maps: usize,
    /// Those of ConfigMaps, and keys that look like some.
    templates: usize,
}

impl Reader<'_> {
    fn read(mut self, path: &str) {
        let rows_before = self.report.0.len();
        if path == STDIN {
            self.take(path, read_text(std::io::stdin()));
        } else if self.of_folder {
            self.folder(path);
        } else {
            self.take(path, open(Path::new(path)));
        }
        let rows = &self.report.0[rows_before..];
        if self.templates > 0 || rows.iter().any(|row| row.result != CheckResult::Good) {
            return;
        }
        let (result, text) = match (self.of_folder, self.config_maps) {
            (false, 0) => (CheckResult::Bad, "it contains no ConfigMap"),
            (true, 0) => (
                CheckResult::Bad,
                "no file in it that ends with .yaml, .yml or .json contains a ConfigMap or is a pod template",
            ),
            _ => (
                CheckResult::Worse,
                "no ConfigMap in it has a key that ends with .yaml",
            ),
        };
        self.report.add(result, path, text);
    }

    /// Reads the manifests of a folder, in the order of their names.
    fn folder(&mut self, path: &str) {
        let Content { files, folders } = match content_of(Path::new(path)) {
            Ok(content) => content,
            Err(error) => return self.fail(path, &format!("cannot be read: {error}")),
        };
        if files.len() > FILES_MAX {
            let text = format!("it has more than {FILES_MAX} manifests; name some of them");
            return self.fail(path, &text);
        }
        for file in files {
            self.take(&file.to_string_lossy(), open(&file));
        }
        if !folders.is_empty() {
            let named = folders.iter().take(NAMED_MAX).map(String::as_str);
            let mut named: Vec<&str> = named.collect();
            if folders.len() > NAMED_MAX {
                named.push("…");
            }
            let text = format!("its folders are not read: {}", named.join(", "));
            self.report.add(CheckResult::Good, path, text);
        }
    }

    /// Takes what a file holds.
    fn take(&mut self, path: &str, text: Result<String, String>) {
        let text = match text {
            Ok(text) => text,
            Err(error) => return self.fail(path, &format!("cannot be read: {error}")),
        };
        let documents = documents::documents(&text);
        let is_manifest = documents.iter().any(|document| document.kind.is_some());
        if !is_manifest && (!self.of_folder || documents::is_template(&text, &documents)) {
            self.templates += 1;
            let origin = Origin {
                file: Some(path.to_owned()),
                ..Origin::default()
            };
            return (self.take)(Found::Template(text), origin, self.report);
        }
        for document in &documents {
            let origin = Origin {
                file: Some(path.to_owned()),
                document: Some(document.number).filter(|_| documents.len() > 1),
                ..Origin::default()
            };
            self.document(document, is_manifest, origin);
        }
    }

    fn document(&mut self, document: &Document, of_manifest: bool, mut origin: Origin) {
        let path = origin.file.clone().unwrap_or_default();
        match (&document.value, document.kind.as_deref()) {
            (Ok(value), Some(kind)) => {
                let object = Object {
                    value,
                    path: Vec::new(),
                    document,
                };
                self.manifest(kind, &object, &origin);
            }
            (Ok(_), None) if of_manifest => {
                let text = "the document has no kind, as manifests have; add `kind: ConfigMap`, or move it to a file of its own";
                self.report.add_at(CheckResult::Bad, path, text, &origin);
            }
            // Values of a chart and the like.
            (Ok(_), None) => {}
            (Err(error), kind) => {
                origin.line = Some(error.line + document.lines_before);
                let text = error.kind.to_string();
                if document.may_be_ours() {
                    self.report.add_at(CheckResult::Bad, path, text, &origin);
                } else if !error.kind.is_bound() {
                    let kind = kind.unwrap_or_default();
                    let text = format!("a {kind} that cannot be read: {text}");
                    self.report.add_at(CheckResult::Worse, path, text, &origin);
                }
            }
        }
    }

    /// Takes the ConfigMaps of an object. The parser bounds how deep lists are nested.
    fn manifest(&mut self, kind: &str, object: &Object<'_>, origin: &Origin) {
        if kind == CONFIG_MAP {
            return self.config_map(object, origin);
        }
        if !LISTS.contains(&kind) {
            return;
        }
        let items = object.value["items"].as_array();
        for (place, item) in items.into_iter().flatten().enumerate() {
            let of_list = (kind != LISTS[0]).then_some(CONFIG_MAP);
            let kind = item["kind"].as_str().or(of_list);
            let item = Object {
                value: item,
                path: [&object.path[..], &[Step::Key("items"), Step::Item(place)]].concat(),
                document: object.document,
            };
            self.manifest(kind.unwrap_or_default(), &item, origin);
        }
    }

    fn config_map(&mut self, object: &Object<'_>, origin: &Origin) {
        let value = object.value;
        let path = origin.file.clone().unwrap_or_default();
        let name = value["metadata"]["name"].as_str();
        let origin = Origin {
            config_map: name.map(str::to_owned),
            ..origin.clone()
        };
        let rows_before = self.report.0.len();
        for problem in config_maps::problems(value) {
            let steps = problem.path.iter().map(|step| Step::Key(step));
            let steps: Vec<Step<'_>> = object.path.iter().copied().chain(steps).collect();
            let place = object.document.place(&steps);
            // The line is that of the file: a key of the ConfigMap would make it one of its text.
            let origin = Origin {
                line: place.map(|place| place.0),
                column: place.map(|place| place.1),
                ..origin.clone()
            };
            let what = name.map_or_else(|| path.clone(), |name| format!("ConfigMap {name}"));
            self.report
                .add_at(problem.result, what, problem.text, &origin);
        }
        match ConfigMap::decode(value.to_string().as_bytes()) {
            Ok(Some(config_map)) => {
                self.config_maps += 1;
                self.templates += config_map.data.len() + config_map.unread.len();
                let namespace = value["metadata"]["namespace"].as_str().map(str::to_owned);
                let found = Found::ConfigMap(Arc::new(config_map), namespace);
                (self.take)(found, origin, self.report);
            }
            // It has been said.
            _ if self.report.0.len() > rows_before => {}
            Ok(None) => self.fail(&path, "the ConfigMap has no metadata"),
            Err(error) => self.fail(&path, &format!("invalid ConfigMap: {error}")),
        }
    }

    fn fail(&mut self, path: &str, text: &str) {
        self.report.add(CheckResult::Bad, path, text);
    }
}

/// An object of a document.
struct Object<'a> {
    value: &'a Value,
    path: Vec<Step<'a>>,
    document: &'a Document,
}

/// What a folder holds, sorted.
struct Content {
    /// Its manifests, at most one more than [`FILES_MAX`].
    files: Vec<PathBuf>,
    /// The names of its folders, at most one more than [`NAMED_MAX`].
    folders: Vec<String>,
}

fn content_of(folder: &Path) -> std::io::Result<Content> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        if path.is_dir() {
            if !is_hidden && folders.len() <= NAMED_MAX {
                folders.push(name.to_string_lossy().into_owned());
            }
        } else if matches!(extension, Some("yaml" | "yml" | "json")) && !is_special(&path) {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            break;
        }
    }
    sorting::sort_by(&mut files, Ord::cmp);
    sorting::sort_by(&mut folders, Ord::cmp);
    Ok(Content { files, folders })
}

/// Whether it is a pipe, a device or the like. A link that leads nowhere is not: opening it says so.
fn is_special(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| !found.is_file())
}

fn open(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string());
    file.and_then(read_text)
}

fn read_text(from: impl Read) -> Result<String, String> {
    let mut text = String::new();
    from.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
    }
    Ok(text)
}
