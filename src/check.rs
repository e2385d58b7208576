//! `config-controller check`: verifies the permissions of the service and the templates, and reports
//! a table.
//!
//! With files as arguments it checks only those, without a cluster: manifests with ConfigMaps, or
//! plain templates. It changes nothing, in the cluster or elsewhere. The catalog and [`crate::model`]
//! read templates, as they do for the service; no rule about templates belongs here.
//!
//! `sources` reads files, `rights` asks for permissions, `templates` (pure) says what is wrong with a
//! template, `report` prints.

mod cluster;
mod references;
mod render;
mod report;
mod rights;
mod sources;
mod templates;

pub use report::{CheckResult, Origin, Report, Row};
pub use rights::{RIGHTS, Right, Without};
pub use sources::{FILE_BYTES_MAX, FILES_MAX};

use crate::app::catalog::Catalog;
use crate::clock::Clock;
use crate::config::{Auth, CheckArguments, Config};
use crate::kube::Client;
use crate::service;
use sources::Sources;
use std::sync::Arc;

/// What the program prints, and whether nothing must be fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// A table, JSON, or a Job.
    pub text: String,
    /// Whether the program ends with exit code 0.
    pub is_good: bool,
}

/// Runs the command.
///
/// # Errors
/// If the cluster configuration is invalid.
pub fn run(
    config: &Config,
    arguments: &CheckArguments,
    clock: &Arc<dyn Clock>,
) -> Result<Output, service::Error> {
    if let Some(request) = &arguments.render {
        return render(config, arguments, request, clock);
    }
    let report = if arguments.files.is_empty() {
        cluster(config, clock)?
    } else {
        files(config, &arguments.files)
    };
    Ok(output(&report, arguments))
}

fn output(report: &Report, arguments: &CheckArguments) -> Output {
    Output {
        is_good: report.is_good(),
        text: match arguments.json {
            true => report.to_json(),
            false => report.to_string(),
        },
    }
}

/// Prints the Job that a request would make, of the templates of files or of the cluster.
fn render(
    config: &Config,
    arguments: &CheckArguments,
    request: &str,
    clock: &Arc<dyn Clock>,
) -> Result<Output, service::Error> {
    let mut report = Report::default();
    let config_maps = if arguments.files.is_empty() {
        let (transport, namespace, _) = service::connect(config, clock)?;
        let client = Client::new(transport, &namespace);
        cluster::config_maps(&client, &config.configmap_selector).unwrap_or_else(|error| {
            report.add(CheckResult::Bad, "the templates", error.to_string());
            Vec::new()
        })
    } else {
        Sources::read(&arguments.files, &mut report).all_config_maps()
    };
    if !report.is_good() {
        return Ok(output(&report, arguments));
    }
    let (catalog, _) = Catalog::read(&config_maps, config.start_budgets);
    Ok(match render::job(request, &catalog) {
        Ok(text) => Output {
            text,
            is_good: true,
        },
        Err(problem) => {
            report.add(CheckResult::Bad, request, problem);
            output(&report, arguments)
        }
    })
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
        if let Err(error) = rights::check(&client, *right, true, &mut report) {
            // The other permissions would fail in the same way.
            report.add(CheckResult::Bad, "the API server", error.to_string());
            return Ok(report);
        }
    }
    if matches!(config.auth, Auth::Kubernetes { .. })
        && let Err(error) = rights::check(&client, rights::REVIEWS, false, &mut report)
    {
        report.add(CheckResult::Bad, "the API server", error.to_string());
    }
    cluster::check_templates(&client, config, clock, &mut report);
    Ok(report)
}

/// Checks only these files: manifests with ConfigMaps (with or without our label) or plain
/// templates; folders of manifests; `-` for standard input.
#[must_use]
pub fn files(config: &Config, paths: &[String]) -> Report {
    let mut report = Report::default();
    let sources = Sources::read(paths, &mut report);
    for (origin, text) in &sources.templates {
        templates::check_text(origin, text, &mut report);
    }
    if !sources.config_maps.is_empty() {
        let (config_maps, origins) = (&sources.config_maps, &sources.origins);
        let budgets = config.start_budgets;
        templates::check(config_maps, origins, budgets, &|_, _| None, &mut report);
    }
    report
}
