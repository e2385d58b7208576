//! `check --render`: the Job that a request would make, without making it.

use crate::app::api_call::NewJob;
use crate::app::catalog::{Catalog, Offer};
use crate::app::rendering::Renderer;
use crate::app::{Origin, RequestId};
use crate::kube::types::{ConfigMap, Resource as _, TEMPLATE_SUFFIX};
use crate::model::job::JobSettings;
use crate::model::names::{AppType, InstanceKey};
use crate::model::template::Variables;
use crate::sorting;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// The name of the instance, where the request has none.
const NAME: &str = "example";

/// A ConfigMap, and the file that it was read from.
pub(super) type Source = (Arc<ConfigMap>, Option<String>);

/// A file that is a template itself as a ConfigMap, of the type that its name says.
pub(super) fn as_config_map(file: &str, text: &str) -> Option<Arc<ConfigMap>> {
    let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str());
    let key = format!("{}{TEMPLATE_SUFFIX}", stem.unwrap_or_default());
    let value = json!({"metadata": {"name": file}, "data": {key: text}});
    let decoded = ConfigMap::decode(value.to_string().as_bytes());
    decoded.ok().flatten().map(Arc::new)
}

/// The manifest of the Job that this request (`TYPE?query` or `TYPE/NAME?query`) would make, in JSON.
///
/// # Errors
/// Why there would be none.
pub(super) fn job(
    request: &str,
    sources: &[Source],
    defaults: &JobSettings,
) -> Result<String, String> {
    let (path, query) = request.split_once('?').unwrap_or((request, ""));
    let (app_type, name) = path.split_once('/').unwrap_or((path, NAME));
    let decode = |text| percent_decode_str(text).decode_utf8_lossy();
    let key = InstanceKey::new(&decode(app_type), &decode(name));
    let key = key.map_err(|error| error.to_string())?;
    let starts = key.name.check_in_urls();
    starts.map_err(|error| error.to_string())?;
    check_files(&key.app_type, sources)?;
    let config_maps: Vec<Arc<ConfigMap>> = sources.iter().map(|(it, _)| Arc::clone(it)).collect();
    let (catalog, _) = Catalog::read(&config_maps, defaults);
    let Some(offer) = catalog.get(&key.app_type) else {
        let known: Vec<&str> = catalog.types().map(AppType::as_str).collect();
        let known = known.join(", ");
        return Err(format!(
            "unknown app type \"{}\"; known types: {known}",
            key.app_type
        ));
    };
    let problem = || offer.problem().unwrap_or_default();
    let Offer {
        template: Ok(template),
        settings: Ok(settings),
        ..
    } = offer
    else {
        return Err(problem());
    };
    let variables = Variables::from_query(query).map_err(|error| error.to_string())?;
    let new = NewJob {
        is_restart: false,
        template: Arc::clone(template),
        settings: settings.clone(),
        template_revision: offer.revision.clone().unwrap_or_default(),
        variables: Arc::new(variables),
        failures: 0,
        by: Origin {
            caller: "check".into(),
            owner: None,
            request: RequestId::default(),
            trace: None,
        },
        held: None,
    };
    let manifest = Renderer::default().manifest(&key, &new);
    let manifest = manifest.map_err(|error| error.to_string())?;
    let manifest: Value = serde_json::from_slice(&manifest).map_err(|error| error.to_string())?;
    Ok(format!("{manifest:#}\n"))
}

/// Files may be for several namespaces, so none of those that define a type comes first.
fn check_files(app_type: &AppType, sources: &[Source]) -> Result<(), String> {
    let key = format!("{app_type}{TEMPLATE_SUFFIX}");
    let defining = sources.iter().filter(|(it, _)| it.data.contains_key(&key));
    let files = sorting::set(defining.filter_map(|(_, file)| file.as_deref()));
    if files.len() < 2 {
        return Ok(());
    }
    let files: Vec<&str> = files.into_iter().collect();
    let files = files.join(" and ");
    Err(format!(
        "the type is defined in {files}; name only one of them"
    ))
}
