//! The app types of the sandbox, as ConfigMaps: those of `manifests/demo`, or one's own from files.
//!
//! A file is a manifest with ConfigMaps, or one pod template, as `config-controller check` takes them.
//! Each ConfigMap gets the label that makes it one of templates. What is in a template is for the
//! service to judge, as in a cluster.

use config_controller::kube::types::TEMPLATE_SUFFIX;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// The demo's app types, as a cluster has them.
const DEMO: &str = include_str!("../../manifests/demo/apps.yaml");

/// Bytes of a file at most; Kubernetes stores objects of up to 1.5 MiB.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The label of ConfigMaps that hold templates.
const LABEL: &str = "config-controller.semafor.ch/template";

/// Reads these files, or the demo where there are none. An error is one sentence.
pub(crate) fn config_maps(files: &[String]) -> Result<Vec<Value>, String> {
    if files.is_empty() {
        return manifest(DEMO).ok_or_else(|| "The demo is no manifest.".to_owned());
    }
    let mut all = Vec::new();
    for file in files {
        all.extend(of_file(file)?);
    }
    for (number, config_map) in all.iter_mut().enumerate() {
        label(config_map, number);
    }
    if types(&all).is_empty() {
        return Err(format!(
            "{} holds no template: the keys of a ConfigMap that end with {TEMPLATE_SUFFIX} are app types.",
            files.join(", ")
        ));
    }
    Ok(all)
}

/// The app types that they hold, sorted.
pub(crate) fn types(config_maps: &[Value]) -> Vec<String> {
    let keys = config_maps.iter().filter_map(|one| one["data"].as_object());
    let keys = keys.flat_map(|data| data.keys());
    let mut types: Vec<String> = keys
        .filter_map(|key| key.strip_suffix(TEMPLATE_SUFFIX).map(str::to_owned))
        .collect();
    types.sort_unstable();
    types.dedup();
    types
}

fn of_file(file: &str) -> Result<Vec<Value>, String> {
    let failed = |error: std::io::Error| format!("{file} cannot be read: {error}.");
    let mut text = String::new();
    let opened = File::open(file).map_err(failed)?;
    let limited = opened.take(FILE_BYTES_MAX + 1);
    { limited }.read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{file} is larger than {FILE_BYTES_MAX} bytes."));
    }
    if let Some(found) = manifest(&text) {
        return match found.is_empty() {
            false => Ok(found),
            true => Err(format!(
                "{file} contains no ConfigMap: give one whose keys end with {TEMPLATE_SUFFIX}, or a file that is a pod template."
            )),
        };
    }
    // A pod template, whose control lines need not be YAML.
    let stem = Path::new(file).file_stem().unwrap_or_default();
    let key = format!("{}{TEMPLATE_SUFFIX}", stem.to_string_lossy());
    if !key
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    {
        return Err(format!(
            "{file} is a pod template, so its name is that of the app type: rename it to letters, digits, '-', '_' and '.'."
        ));
    }
    Ok(vec![
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {key: text}}),
    ])
}

/// The ConfigMaps of a text whose documents are all objects of Kubernetes; of another text, nothing.
fn manifest(text: &str) -> Option<Vec<Value>> {
    let mut found = Vec::new();
    let mut is_manifest = false;
    for document in text.split("\n---") {
        let document: Value = serde_yaml::from_str(document.trim_start_matches("---")).ok()?;
        if document.is_null() {
            continue;
        }
        is_manifest = true;
        match document["kind"].as_str()? {
            "ConfigMap" => found.push(document),
            "List" | "ConfigMapList" => {
                let items = document["items"].as_array().into_iter().flatten();
                found.extend(items.filter(|item| item["kind"] == "ConfigMap").cloned());
            }
            _ => {}
        }
    }
    is_manifest.then_some(found)
}

/// Makes a ConfigMap one of templates in our namespace; the number is for one without a name.
fn label(config_map: &mut Value, number: usize) {
    let metadata = &mut config_map["metadata"];
    let name = metadata["name"].as_str().map(str::to_owned);
    *metadata = json!({
        "name": name.unwrap_or_else(|| format!("templates-{number}")),
        "labels": {LABEL: "true"},
        "annotations": metadata["annotations"],
    });
}
