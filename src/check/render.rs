//! `check --render`: the Job that a request would make, without making it.

use crate::app::api_call::NewJob;
use crate::app::catalog::{Catalog, Offer};
use crate::app::rendering::Renderer;
use crate::app::{Origin, RequestId};
use crate::model::names::{AppType, InstanceKey, InstanceName};
use crate::model::template::Variables;
use serde_json::Value;
use std::sync::Arc;

/// The name of the instance, where the request has none.
const NAME: &str = "example";

/// The manifest of the Job that this request (`TYPE?query` or `TYPE/NAME?query`) would make, in JSON.
///
/// # Errors
/// Why there would be none.
pub(super) fn job(request: &str, catalog: &Catalog) -> Result<String, String> {
    let (path, query) = request.split_once('?').unwrap_or((request, ""));
    let (app_type, name) = path.split_once('/').unwrap_or((path, NAME));
    let key = InstanceKey {
        app_type: AppType::new(app_type).map_err(|error| error.to_string())?,
        name: InstanceName::new(name).map_err(|error| error.to_string())?,
    };
    let Some(offer) = catalog.get(&key.app_type) else {
        let known: Vec<&str> = catalog.types().map(AppType::as_str).collect();
        let known = known.join(", ");
        return Err(format!(
            "unknown app type \"{app_type}\"; known types: {known}"
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
        template: Arc::clone(template),
        settings: settings.clone(),
        variables: Arc::new(variables),
        failures: 0,
        by: Origin {
            caller: "check".into(),
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
