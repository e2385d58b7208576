//! What `check` asks a cluster about templates: their dry runs, and the objects that they need.
//!
//! What follows from a dry run is decided in [`crate::app::dry_runs`], as for the service.

use super::report::{CheckResult, Origin, Report};
use super::{references, templates};
use crate::app::catalog::SharedCatalog;
use crate::app::dry_runs::{DryRuns, Verdict};
use crate::app::rendering::Renderer;
use crate::clock::Clock;
use crate::config::Config;
use crate::kube::request::Scope;
use crate::kube::types::{ConfigMap, JOBS, Skipped};
use crate::kube::watch::PageLimit;
use crate::kube::{self, Class, Client};
use crate::sorting;
use crate::store::left_out_of;
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// The name of the Job that is tried to see whether the namespace exists.
const PROBE: &str = "config-controller-check";

/// Adds rows about the templates of the namespace; returns whether one has a cap.
pub(super) fn check_templates(
    client: &Client,
    config: &Config,
    clock: &Arc<dyn Clock>,
    report: &mut Report,
) -> bool {
    if !namespace_exists(client) {
        report.fail_first("it does not exist; create it, or set JOB_NAMESPACE to another");
        return false;
    }
    let mut config_maps = match config_maps(client, &config.configmap_selector, report) {
        Ok(config_maps) => config_maps,
        Err(error) => {
            let text = format!(
                "{error}; CONFIGMAP_SELECTOR is {}",
                config.configmap_selector
            );
            report.add(CheckResult::Bad, "the templates", text);
            return false;
        }
    };
    sorting::sort_by(&mut config_maps, |a, b| {
        a.metadata.name.cmp(&b.metadata.name)
    });
    if let Some((kept, text)) = left_out_of(config_maps.iter().map(Arc::as_ref)) {
        report.add(CheckResult::Bad, "the templates", text);
        config_maps.truncate(kept);
    }
    let defaults = &config.template_defaults;
    let dry_runs = DryRuns::new(
        Arc::new(SharedCatalog::new(defaults.clone())),
        client.clone(),
        Renderer::default(),
        Arc::clone(clock),
        Arc::new(|| {}),
    );
    let untried = RefCell::new(None);
    let is_capped = Cell::new(false);
    let try_now: templates::TryNow<'_> = &|app_type, offer| {
        let settings = offer.settings.as_ref().ok();
        let has_caps = settings.is_some_and(|it| it.caps.iter().next().is_some());
        is_capped.set(is_capped.get() || has_caps);
        let tried = dry_runs.try_now(app_type, offer);
        if tried.verdict == Verdict::Valid {
            untried.borrow_mut().clone_from(&tried.message);
        }
        Some(tried)
    };
    let nowhere = Origin::default();
    let rendered = templates::check(&config_maps, &nowhere, defaults, try_now, report);
    let mut with_templates = config_maps.iter().filter(|it| !it.data.is_empty());
    if with_templates.next().is_none() {
        let text = "none found: no ConfigMap has a key that ends with .yaml";
        report.add(CheckResult::Worse, "templates", text);
    }
    if let Some(why) = untried.into_inner() {
        report.add(CheckResult::Good, "create pods", why);
    }
    references::check(client, &rendered, report);
    is_capped.get()
}

/// Lists of a namespace that does not exist are empty, and rights may be had there: only a new object is
/// refused.
fn namespace_exists(client: &Client) -> bool {
    let container = json!({"name": "none", "image": "none"});
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": PROBE},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    });
    let (tried, _) = client.try_create(JOBS, PROBE, job.to_string().into_bytes());
    !matches!(tried, Err(error) if error.class() == Class::NotFound)
}

/// The ConfigMaps with templates. Those that cannot be decoded go to the report.
pub(super) fn config_maps(
    client: &Client,
    selector: &str,
    report: &mut Report,
) -> Result<Vec<Arc<ConfigMap>>, kube::Error> {
    let scope = Scope::labelled(client.namespace(), selector);
    let mut all = Vec::new();
    let (mut next, mut limit) = (None, PageLimit::default());
    loop {
        let page = match client.list::<ConfigMap>(&scope, next.as_deref(), limit.get(), false) {
            Err(error) if limit.failed(&error) => continue,
            page => page?,
        };
        limit.succeeded(page.bytes);
        for Skipped { name, reason } in page.skipped {
            let text = format!("it cannot be read: {reason}");
            report.add(CheckResult::Bad, format!("ConfigMap {name}"), text);
        }
        all.extend(page.items.into_iter().map(Arc::new));
        next = page.continue_token;
        if next.is_none() {
            return Ok(all);
        }
    }
}
