//! `config-controller check`: verifies the permissions of the service and the templates, and reports
//! a table.
//!
//! With files as arguments it checks only those, without a cluster: manifests with ConfigMaps, or
//! plain templates. It changes nothing, in the cluster or elsewhere. The catalog and [`crate::model`]
//! read templates, as they do for the service; no rule about templates belongs here.

use crate::app::catalog::{Catalog, NO_PROBE, Note, Offer};
use crate::clock::Clock;
use crate::config::{Auth, Config};
use crate::kube::error::Verb;
use crate::kube::request::Scope;
use crate::kube::types::{ConfigMap, Resource as _};
use crate::kube::watch::PageLimit;
use crate::kube::{self, Client};
use crate::model::status::Budgets;
use crate::model::template::Template;
use crate::service;
use serde::Deserialize as _;
use serde_json::Value;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

/// Maximum size of a file, in bytes; Kubernetes stores objects of up to 1.5 MiB.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The effect of a missing permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// The service cannot work; holds the fix.
    Broken(&'static str),
    /// The service works with a limitation; holds which.
    Less(&'static str),
}

const BROKEN: Without = Without::Broken("grant it to the service account");
const POLLED: Without = Without::Less("changes are detected by a list every POLL");
const UNCHECKED: Without = Without::Less(
    "an API server whose own cache is wrong is noticed late; only lists are compared",
);
const SILENT: Without =
    Without::Less("messages say less about why a pod is rejected, not mounted or not ready");

/// A permission that the service uses: verb, API group, resource, and the effect if it is missing.
pub type Right = (Verb, &'static str, &'static str, Without);

/// The permissions that the service uses in its namespace; our Role grants exactly these.
pub const RIGHTS: &[Right] = &[
    (Verb::Create, "batch", "jobs", BROKEN),
    (Verb::Delete, "batch", "jobs", BROKEN),
    (Verb::Get, "batch", "jobs", UNCHECKED),
    (Verb::List, "batch", "jobs", BROKEN),
    (Verb::Watch, "batch", "jobs", POLLED),
    (Verb::Get, "", "configmaps", UNCHECKED),
    (Verb::List, "", "configmaps", BROKEN),
    (Verb::Watch, "", "configmaps", POLLED),
    (
        Verb::Delete,
        "",
        "pods",
        Without::Less("a pod on a dead node keeps its instance name occupied"),
    ),
    (Verb::Get, "", "pods", UNCHECKED),
    (Verb::List, "", "pods", BROKEN),
    (Verb::Patch, "", "pods", BROKEN),
    (Verb::Watch, "", "pods", POLLED),
    (Verb::List, "", "events", SILENT),
    (Verb::Watch, "", "events", SILENT),
];

/// Also used with `AUTH=kubernetes`. A Role cannot grant it: the resource has no namespace.
const REVIEWS: Right = (
    Verb::Create,
    "authentication.k8s.io",
    "tokenreviews",
    Without::Broken("apply manifests/auth-delegator"),
);

/// Result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckResult {
    /// No problem.
    Good,
    /// A warning: the service works, with a limitation.
    Worse,
    /// An error that must be fixed.
    Bad,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Result of the check.
    pub result: CheckResult,
    /// The checked item.
    pub what: String,
    /// Details; may be empty.
    pub text: String,
}

/// All rows, in the order of the checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(pub Vec<Row>);

impl Report {
    /// Whether no row is an error.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.0.iter().all(|row| row.result != CheckResult::Bad)
    }

    fn add(&mut self, result: CheckResult, what: impl Into<String>, text: impl Into<String>) {
        self.0.push(Row {
            result,
            what: what.into(),
            text: text.into(),
        });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|row| row.what.chars().count()).max();
        let width = width.unwrap_or_default();
        for row in &self.0 {
            let word = match row.result {
                CheckResult::Good => "ok  ",
                CheckResult::Worse => "warn",
                CheckResult::Bad => "FAIL",
            };
            // Names and messages are untrusted: they must not start a new line.
            let what = row.what.escape_debug().to_string().replace("\\'", "'");
            let text = row.text.replace(char::is_control, " ");
            writeln!(f, "{}", format!("{word}  {what:width$}  {text}").trim_end())?;
        }
        Ok(())
    }
}

/// Checks the configured cluster: our permissions in the namespace, and its templates.
///
/// # Errors
/// If the cluster configuration is invalid.
pub fn cluster(config: &Config, clock: &Arc<dyn Clock>) -> Result<Report, service::Error> {
    let (transport, namespace, origin) = service::connect(config, clock)?;
    let client = Client::new(transport, &namespace);
    let mut report = Report::default();
    report.add(
        CheckResult::Good,
        format!("namespace {namespace}"),
        format!("of {origin}"),
    );
    for right in RIGHTS {
        if let Err(error) = check_permission(&client, *right, true, &mut report) {
            // The other permissions would fail in the same way.
            report.add(CheckResult::Bad, "the API server", error.to_string());
            return Ok(report);
        }
    }
    if matches!(config.auth, Auth::Kubernetes { .. })
        && let Err(error) = check_permission(&client, REVIEWS, false, &mut report)
    {
        report.add(CheckResult::Bad, "the API server", error.to_string());
    }
    match config_maps(&client, &config.configmap_selector) {
        Ok(config_maps) => check_templates(&config_maps, config.start_budgets, &mut report),
        Err(error) => report.add(CheckResult::Bad, "the templates", error.to_string()),
    }
    Ok(report)
}

fn check_permission(
    client: &Client,
    (verb, group, resource, without): Right,
    in_namespace: bool,
    report: &mut Report,
) -> Result<(), kube::Error> {
    let may = client.may(verb, group, resource, in_namespace)?;
    let (result, text) = match (may, without) {
        (true, _) => (CheckResult::Good, String::new()),
        (false, Without::Broken(remedy)) => (CheckResult::Bad, format!("missing: {remedy}")),
        (false, Without::Less(how)) => (CheckResult::Worse, format!("missing: {how}")),
    };
    let of = if group.is_empty() { "" } else { "." };
    let verb = verb.as_str();
    report.add(result, format!("{verb} {resource}{of}{group}"), text);
    Ok(())
}

fn config_maps(client: &Client, selector: &str) -> Result<Vec<Arc<ConfigMap>>, kube::Error> {
    let scope = Scope::labelled(client.namespace(), selector);
    let mut all = Vec::new();
    let (mut next, mut limit) = (None, PageLimit::default());
    loop {
        let page = match client.list::<ConfigMap>(&scope, next.as_deref(), limit.get(), false) {
            Err(error) if limit.failed(&error) => continue,
            page => page?,
        };
        limit.succeeded(page.bytes);
        all.extend(page.items.into_iter().map(Arc::new));
        next = page.continue_token;
        if next.is_none() {
            return Ok(all);
        }
    }
}

fn check_templates(config_maps: &[Arc<ConfigMap>], budgets: Budgets, report: &mut Report) {
    let (catalog, notes) = Catalog::read(config_maps, budgets);
    for note in notes {
        match note {
            Note::Read {
                app_type,
                config_map,
                problem,
            } => {
                let what = format!("template {app_type} of {config_map}");
                let offer = catalog.get(&app_type);
                let template = offer.and_then(|offer| offer.template.as_deref().ok());
                let variables = template.map(required_variables).unwrap_or_default();
                match problem {
                    Some(problem) => report.add(CheckResult::Bad, what, problem),
                    None => {
                        report.add(CheckResult::Good, what.as_str(), variables);
                        for warning in offer.map(Offer::warnings).unwrap_or_default() {
                            report.add(CheckResult::Worse, what.as_str(), warning);
                        }
                    }
                }
            }
            Note::Duplicate {
                app_type,
                used,
                ignored,
            } => report.add(
                CheckResult::Worse,
                format!("template {app_type} of {ignored}"),
                format!("not used: ConfigMap {used} already defines this type"),
            ),
            Note::Gone(_) => {}
        }
    }
    if catalog.types().next().is_none() {
        let text = "none found: no ConfigMap has a key that ends with .yaml";
        report.add(CheckResult::Worse, "templates", text);
    }
}

/// The variables that a caller must provide.
fn required_variables(template: &Template) -> String {
    let variables = template.variables().iter();
    let required: Vec<&str> = variables
        .filter(|variable| variable.required)
        .map(|variable| variable.name.as_str())
        .collect();
    if required.is_empty() {
        return String::new();
    }
    format!("requires {}", required.join(", "))
}

/// Checks only these files: manifests with ConfigMaps (with or without our label) or plain
/// templates.
#[must_use]
pub fn files(config: &Config, paths: &[String]) -> Report {
    let mut report = Report::default();
    let mut config_maps = Vec::new();
    for path in paths {
        match read(Path::new(path)) {
            Ok(text) => check_text(path, &text, &mut config_maps, &mut report),
            Err(error) => report.add(CheckResult::Bad, path, format!("cannot be read: {error}")),
        }
    }
    if !config_maps.is_empty() {
        check_templates(&config_maps, config.start_budgets, &mut report);
    }
    report
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
    }
    Ok(text)
}

/// A file is a manifest if each of its documents has a `kind`. Otherwise it is a template, which need
/// not be YAML before its control lines are evaluated.
fn check_text(path: &str, text: &str, config_maps: &mut Vec<Arc<ConfigMap>>, report: &mut Report) {
    let documents: Result<Vec<Value>, _> = serde_yaml::Deserializer::from_str(text)
        .map(Value::deserialize)
        .collect();
    let documents = documents.unwrap_or_default();
    let is_manifest = |document: &Value| document["kind"].is_string();
    let manifests: Vec<&Value> = documents.iter().filter(|one| !one.is_null()).collect();
    if manifests.is_empty() || !manifests.iter().all(|one| is_manifest(one)) {
        match Template::parse(path, text) {
            Ok(template) => {
                report.add(CheckResult::Good, path, required_variables(&template));
                if !template.may_have_probe() {
                    report.add(CheckResult::Worse, path, NO_PROBE);
                }
            }
            Err(error) => report.add(CheckResult::Bad, path, error.to_string()),
        }
        return;
    }
    let mut found = 0;
    for manifest in manifests
        .into_iter()
        .filter(|one| one["kind"] == "ConfigMap")
    {
        found += 1;
        match ConfigMap::decode(manifest.to_string().as_bytes()) {
            Ok(Some(config_map)) => config_maps.push(Arc::new(config_map)),
            Ok(None) => report.add(CheckResult::Bad, path, "the ConfigMap has no metadata"),
            Err(error) => report.add(
                CheckResult::Bad,
                path,
                format!("invalid ConfigMap: {error}"),
            ),
        }
    }
    if found == 0 {
        report.add(CheckResult::Bad, path, "it contains no ConfigMap");
    }
}
