//! `config-controller check`: verifies the permissions of the service and the templates, and reports
//! a table.
//!
//! With files as arguments it checks only those, without a cluster: manifests with ConfigMaps, or
//! plain templates. It changes nothing, in the cluster or elsewhere. The catalog and [`crate::model`]
//! read templates, as they do for the service; no rule about templates belongs here.
//!
//! `sources` reads files and `documents` and `config_maps` (pure) say what is in them, `rights` asks for
//! permissions, `templates` (pure) says what is wrong with a template, `report` prints.

mod cluster;
mod config_maps;
mod documents;
mod references;
mod render;
mod report;
mod rights;
mod sources;
mod templates;
mod together;

pub use documents::FILE_BYTES_MAX;
pub use report::{CheckResult, Origin, Report, Row};
pub use rights::{OWN_RIGHTS, RIGHTS, Right, Without};
pub use sources::FILES_MAX;

use crate::clock::Clock;
use crate::config::{Auth, CheckArguments, Config};
use crate::kube::Client;
use crate::service;
use sources::Found;
use std::sync::Arc;
use together::Together;

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
    let mut config_maps = Vec::new();
    if arguments.files.is_empty() {
        let service::Connected {
            transport,
            namespaces,
            ..
        } = service::connect(config, clock)?;
        let namespace = namespaces.served;
        let client = Client::new(transport, &namespace);
        match cluster::config_maps(&client, &config.configmap_selector, &mut report) {
            Ok(all) => config_maps.extend(all.into_iter().map(|one| (one, None))),
            Err(error) => report.add(CheckResult::Bad, "the templates", error.to_string()),
        }
    } else {
        sources::read(
            &arguments.files,
            &mut report,
            &mut |found, Origin { file, .. }, _| {
                let file = file.unwrap_or_default();
                let config_map = match found {
                    Found::ConfigMap(config_map, _) => Some(config_map),
                    Found::Template(text) => render::as_config_map(&file, &text),
                };
                config_maps.extend(config_map.map(|one| (one, Some(file))));
            },
        );
    }
    if !report.is_good() {
        return Ok(output(&report, arguments));
    }
    Ok(
        match render::job(request, &config_maps, &config.template_defaults) {
            Ok(text) => Output {
                text,
                is_good: true,
            },
            Err(problem) => {
                report.add(CheckResult::Bad, request, problem);
                output(&report, arguments)
            }
        },
    )
}

/// Checks the configured cluster: our permissions in the namespace, and its templates.
///
/// # Errors
/// If the cluster configuration is invalid.
pub fn cluster(config: &Config, clock: &Arc<dyn Clock>) -> Result<Report, service::Error> {
    let service::Connected {
        transport,
        namespaces,
        origin,
    } = service::connect(config, clock)?;
    let own = Client::new(Arc::clone(&transport) as Arc<_>, &namespaces.own);
    let client = Client::new(transport, &namespaces.served);
    let mut report = Report::default();
    report.add(
        CheckResult::Good,
        format!("namespace {}", namespaces.served),
        format!("of {origin}"),
    );
    let of_instances = RIGHTS.iter().map(|right| (&client, right));
    let all = of_instances.chain(OWN_RIGHTS.iter().map(|right| (&own, right)));
    let mut may_admit = true;
    for (client, right) in all.chain([(&client, &rights::LOGS)]) {
        match rights::check(client, *right, true, &mut report) {
            Ok(may) => may_admit &= may || !rights::is_for_caps(*right),
            Err(error) => {
                // The other permissions would fail in the same way.
                report.add(CheckResult::Bad, "the API server", error.to_string());
                return Ok(report);
            }
        }
    }
    if matches!(config.auth, Auth::Kubernetes { .. })
        && let Err(error) = rights::check(&client, rights::REVIEWS, false, &mut report)
    {
        report.add(CheckResult::Bad, "the API server", error.to_string());
    }
    let is_capped = cluster::check_templates(&client, config, clock, &mut report);
    if is_capped && !may_admit {
        let text = "missing: types with max-instances or max-per-owner, and all with MAX_INSTANCES, do not start";
        report.add(
            CheckResult::Worse,
            "caps",
            format!("patch jobs.batch {text}"),
        );
    }
    Ok(report)
}

/// Checks only these files: manifests with ConfigMaps (with or without our label) or plain
/// templates; folders of manifests; `-` for standard input. Each ConfigMap is checked on its own.
#[must_use]
pub fn files(config: &Config, paths: &[String]) -> Report {
    let mut report = Report::default();
    let defaults = &config.template_defaults;
    let mut together = Together::default();
    let take: sources::Take<'_> = &mut |found, origin, report| match found {
        Found::Template(text) => templates::check_text(&origin, &text, report),
        Found::ConfigMap(config_map, namespace) => {
            let one = std::slice::from_ref(&config_map);
            templates::check(one, &origin, defaults, &|_, _| None, report);
            together.add(&config_map, namespace, &origin, report);
        }
    };
    sources::read(paths, &mut report, take);
    report
}
