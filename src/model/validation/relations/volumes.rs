//! Rules over several fields of a volume's source.

use super::super::{Validator, fields, formats, quoted};
use super::{Fields, is_set, text};
use serde_json::{Value, json};

/// Checks a source of this type.
pub(super) fn check(validator: &mut Validator, type_name: &str, map: &Fields) {
    match type_name {
        "FCVolumeSource" => fibre_channel(validator, map),
        "DownwardAPIVolumeFile" => downward_file(validator, map),
        "EmptyDirVolumeSource" => {
            let size = map.get("sizeLimit").and_then(formats::quantity);
            if size.is_some_and(|size| size < 0.0) {
                let text = "Forbidden: SizeLimit field must be a valid resource quantity";
                validator.fault_of("sizeLimit", text);
            }
        }
        "ISCSIVolumeSource" => {
            let uses_secret = ["chapAuthDiscovery", "chapAuthSession"]
                .iter()
                .any(|field| map.get(*field) == Some(&Value::Bool(true)));
            if uses_secret && !is_set(map, "secretRef") {
                validator.fault_of("secretRef", "Required value");
            }
        }
        "FlockerVolumeSource" => match (is_set(map, "datasetName"), is_set(map, "datasetUUID")) {
            (true, true) => validator.fault(
                "Invalid value: datasetName and datasetUUID can not be specified simultaneously",
            ),
            (false, false) => {
                validator.fault("Required value: one of datasetName and datasetUUID is required");
            }
            _ => {}
        },
        "AzureDiskVolumeSource" => azure_disk(validator, map),
        _ => {}
    }
}

fn fibre_channel(validator: &mut Validator, map: &Fields) {
    let has = |field: &str| {
        map.get(field)
            .is_some_and(|it| !it.is_null() && *it != json!([]))
    };
    let text = match (has("targetWWNs"), has("wwids")) {
        (false, false) => "Required value: must specify either targetWWNs or wwids, but not both",
        (true, true) => "Invalid value: targetWWNs and wwids can not be specified simultaneously",
        (true, false) if !is_set(map, "lun") => {
            let text = "Required value: lun is required if targetWWNs is specified";
            return validator.fault_of("lun", text);
        }
        _ => return,
    };
    validator.fault_of("targetWWNs", text);
}

/// A file knows fewer fields of its pod than a variable does, and no container of its own.
fn downward_file(validator: &mut Validator, map: &Fields) {
    let (field, resource) = (map.get("fieldRef"), map.get("resourceFieldRef"));
    let is_there = |it: &&Value| !it.is_null();
    let text = match (field.filter(is_there), resource.filter(is_there)) {
        (None, None) => "Required value: one of fieldRef and resourceFieldRef is required",
        (Some(_), Some(_)) => {
            "Invalid value: fieldRef and resourceFieldRef can not be specified simultaneously"
        }
        (Some(field), None) => {
            let path = field.as_object().and_then(|it| text(it, "fieldPath"));
            if let Some(path) = path.filter(|path| !path.starts_with("metadata.")) {
                let text = format!(
                    "Unsupported value: {}: expected a field of the metadata",
                    quoted(path)
                );
                validator.fault_of("fieldRef.fieldPath", text);
            }
            return;
        }
        (None, Some(resource)) => {
            if resource
                .as_object()
                .is_some_and(|it| !is_set(it, "containerName"))
            {
                validator.fault_of("resourceFieldRef.containerName", "Required value");
            }
            return;
        }
    };
    validator.fault(text);
}

/// A disk is not managed by default.
fn azure_disk(validator: &mut Validator, map: &Fields) {
    let is_known = map.get("kind").is_none_or(|kind| kind.is_null()) || text(map, "kind").is_some();
    let begin = match text(map, "kind") {
        Some("Managed") => "/subscriptions/",
        _ => "https://",
    };
    if let Some(uri) = text(map, "diskURI").filter(|uri| is_known && !uri.starts_with(begin)) {
        let text = format!("Unsupported value: {}: expected {begin}…", quoted(uri));
        validator.fault_of("diskURI", text);
    }
}

pub(super) fn volume(validator: &mut Validator, map: &Fields) {
    let sources = map
        .iter()
        .filter(|(field, value)| *field != "name" && value.is_object());
    if let Some((second, _)) = sources
        .skip(1)
        .find(|(field, _)| fields::find("Volume", field).is_some())
    {
        validator.fault_of(second, "Forbidden: may not specify more than 1 volume type");
    }
}
