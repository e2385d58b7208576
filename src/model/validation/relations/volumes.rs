//! Rules over several fields of a volume's source.

use super::super::{Validator, fields, formats, quoted};
use super::{Fields, is_set, text};
use serde_json::Value;

/// Checks a source of this type.
pub(super) fn check(validator: &mut Validator, type_name: &str, map: &Fields) {
    match type_name {
        "FCVolumeSource" if is_set(map, "targetWWNs") && !map.contains_key("lun") => {
            let text = "Required value: lun is required if targetWWNs is specified";
            validator.fault_of("lun", text);
        }
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
