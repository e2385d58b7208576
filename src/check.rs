//! `config-controller check`: may we do what we need, and are the templates good; said as a table,
//! before anything is served.
//!
//! With files as arguments it looks at those alone, without a cluster: manifests with ConfigMaps,
//! or bare templates. It changes nothing, in the cluster or elsewhere. What a template is, is
//! decided by the catalog and [`crate::model`], as for the service.

use crate::app::catalog::{Catalog, Note};
use crate::clock::Clock;
use crate::config::{Auth, Config};
use crate::kube::error::Verb;
use crate::kube::request::Scope;
use crate::kube::types::{ConfigMap, Resource as _};
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

/// Longest file that is read, in bytes: Kubernetes stores objects of up to 1.5 MiB.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What a right that is missing means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// The service does not do what it is for; says what to do.
    Broken(&'static str),
    /// It works, less well; says how.
    Less(&'static str),
}

const BROKEN: Without = Without::Broken("grant it to the service account");
const POLLED: Without = Without::Less("changes are detected by a list every POLL");
const SILENT: Without =
    Without::Less("messages say less about why a pod is rejected, not mounted or not ready");

/// One right that the service uses: verb, API group, resource, and what it is without it.
pub type Right = (Verb, &'static str, &'static str, Without);

/// The rights that the service uses in its namespace; our Role grants these and no others.
pub const RIGHTS: &[Right] = &[
    (Verb::Create, "batch", "jobs", BROKEN),
    (Verb::Delete, "batch", "jobs", BROKEN),
    (Verb::Get, "batch", "jobs", BROKEN),
    (Verb::List, "batch", "jobs", BROKEN),
    (Verb::Watch, "batch", "jobs", POLLED),
    (Verb::List, "", "configmaps", BROKEN),
    (Verb::Watch, "", "configmaps", POLLED),
    (
        Verb::Delete,
        "",
        "pods",
        Without::Less("a pod on a dead node keeps its instance name occupied"),
    ),
    (Verb::List, "", "pods", BROKEN),
    (Verb::Patch, "", "pods", BROKEN),
    (Verb::Watch, "", "pods", POLLED),
    (Verb::List, "", "events", SILENT),
    (Verb::Watch, "", "events", SILENT),
];

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// The service works all the same.
    Worse,
    /// To be mended.
    Bad,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// How it is.
    pub verdict: Verdict,
    /// What was looked at.
    pub what: String,
    /// What there is to say of it; may be empty.
    pub text: String,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(pub Vec<Row>);

impl Report {
    /// Whether nothing has to be mended.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.0.iter().all(|row| row.verdict != Verdict::Bad)
    }

    fn add(&mut self, verdict: Verdict, what: impl Into<String>, text: impl Into<String>) {
        self.0.push(Row {
            verdict,
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
            let word = match row.verdict {
                Verdict::Good => "ok  ",
                Verdict::Worse => "warn",
                Verdict::Bad => "FAIL",
            };
            // Names and sentences come from outside: they stay in their line.
            let what = row.what.escape_debug().to_string().replace("\\'", "'");
            let text = row.text.replace(char::is_control, " ");
            writeln!(f, "{}", format!("{word}  {what:width$}  {text}").trim_end())?;
        }
        Ok(())
    }
}

/// Looks at the cluster of these settings: our rights in the namespace, and the templates there.
///
/// # Errors
/// When the settings of the cluster are wrong.
pub fn cluster(config: &Config, clock: &Arc<dyn Clock>) -> Result<Report, service::Error> {
    let (transport, namespace, origin) = service::connect(config, clock)?;
    let client = Client::new(transport, &namespace);
    let mut report = Report::default();
    report.add(
        Verdict::Good,
        format!("namespace {namespace}"),
        format!("of {origin}"),
    );
    for right in RIGHTS {
        if let Err(error) = of_right(&client, *right, true, &mut report) {
            // Of the others there would be nothing else to say.
            report.add(Verdict::Bad, "the API server", error.to_string());
            return Ok(report);
        }
    }
    if matches!(config.auth, Auth::Kubernetes { .. }) {
        let right = (
            Verb::Create,
            "authentication.k8s.io",
            "tokenreviews",
            // No Role can grant what is in no namespace.
            Without::Broken("apply manifests/auth-delegator"),
        );
        if let Err(error) = of_right(&client, right, false, &mut report) {
            report.add(Verdict::Bad, "the API server", error.to_string());
        }
    }
    match config_maps(&client, &config.configmap_selector) {
        Ok(config_maps) => of_templates(&config_maps, config.start_budgets, &mut report),
        Err(error) => report.add(Verdict::Bad, "the templates", error.to_string()),
    }
    Ok(report)
}

fn of_right(
    client: &Client,
    (verb, group, resource, without): Right,
    in_namespace: bool,
    report: &mut Report,
) -> Result<(), kube::Error> {
    let may = client.may(verb, group, resource, in_namespace)?;
    let (verdict, text) = match (may, without) {
        (true, _) => (Verdict::Good, String::new()),
        (false, Without::Broken(remedy)) => (Verdict::Bad, format!("missing: {remedy}")),
        (false, Without::Less(how)) => (Verdict::Worse, format!("missing: {how}")),
    };
    let of = if group.is_empty() { "" } else { "." };
    report.add(verdict, format!("{verb} {resource}{of}{group}"), text);
    Ok(())
}

fn config_maps(client: &Client, selector: &str) -> Result<Vec<Arc<ConfigMap>>, kube::Error> {
    let scope = Scope::labelled(client.namespace(), selector);
    let mut all = Vec::new();
    let mut next = None;
    loop {
        let page = client.list::<ConfigMap>(&scope, next.as_deref())?;
        all.extend(page.items.into_iter().map(Arc::new));
        next = page.continue_token;
        if next.is_none() {
            return Ok(all);
        }
    }
}

fn of_templates(config_maps: &[Arc<ConfigMap>], budgets: Budgets, report: &mut Report) {
    let (catalog, notes) = Catalog::read(config_maps, &Catalog::new(budgets));
    for note in notes {
        match note {
            Note::Read {
                app_type,
                config_map,
                problem,
            } => {
                let what = format!("template {app_type} of {config_map}");
                let variables = catalog.get(&app_type).and_then(|offer| {
                    let template = offer.template.as_ref().ok()?;
                    Some(needs(template))
                });
                match problem {
                    Some(problem) => report.add(Verdict::Bad, what, problem),
                    None => report.add(Verdict::Good, what, variables.unwrap_or_default()),
                }
            }
            Note::Duplicate {
                app_type,
                used,
                ignored,
            } => report.add(
                Verdict::Worse,
                format!("template {app_type} of {ignored}"),
                format!("not used: ConfigMap {used} already defines this type"),
            ),
            Note::Gone(_) => {}
        }
    }
    if catalog.types().next().is_none() {
        let text = "none found: no ConfigMap has a key that ends with .yaml";
        report.add(Verdict::Worse, "templates", text);
    }
}

/// The variables that a start has to give.
fn needs(template: &Template) -> String {
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

/// Looks at these files alone: manifests with ConfigMaps, whatever their labels, or bare templates.
#[must_use]
pub fn files(config: &Config, paths: &[String]) -> Report {
    let mut report = Report::default();
    let mut config_maps = Vec::new();
    for path in paths {
        match read(Path::new(path)) {
            Ok(text) => of_text(path, &text, &mut config_maps, &mut report),
            Err(error) => report.add(Verdict::Bad, path, format!("cannot be read: {error}")),
        }
    }
    if !config_maps.is_empty() {
        of_templates(&config_maps, config.start_budgets, &mut report);
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

/// A file is a manifest where all that is in it has a `kind`; else it is a template, which need
/// not even be YAML before its control lines are gone.
fn of_text(path: &str, text: &str, config_maps: &mut Vec<Arc<ConfigMap>>, report: &mut Report) {
    let documents: Result<Vec<Value>, _> = serde_yaml::Deserializer::from_str(text)
        .map(Value::deserialize)
        .collect();
    let documents = documents.unwrap_or_default();
    let is_manifest = |document: &Value| document["kind"].is_string();
    let manifests: Vec<&Value> = documents.iter().filter(|one| !one.is_null()).collect();
    if manifests.is_empty() || !manifests.iter().all(|one| is_manifest(one)) {
        match Template::parse(path, text) {
            Ok(template) => report.add(Verdict::Good, path, needs(&template)),
            Err(error) => report.add(Verdict::Bad, path, error.to_string()),
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
            Ok(None) => report.add(Verdict::Bad, path, "the ConfigMap has no metadata"),
            Err(error) => report.add(Verdict::Bad, path, format!("invalid ConfigMap: {error}")),
        }
    }
    if found == 0 {
        report.add(Verdict::Bad, path, "it contains no ConfigMap");
    }
}
