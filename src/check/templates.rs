//! What `check` says of templates: their own errors, and what the API server would report of them as far
//! as [`crate::model::validation`] knows. Pure: ConfigMaps and texts in, rows out.

use super::report::{CheckResult, Origin, Report};
use crate::app::catalog::{Catalog, NO_PROBE, Note, Offer};
use crate::app::dry_runs::EXAMPLE;
use crate::kube::types::{ConfigMap, Pairs, TEMPLATE_SUFFIX};
use crate::model::job::{find_setting, setting_key};
use crate::model::names::AppType;
use crate::model::status::Budgets;
use crate::model::template::{Place, Places, RenderError, Template, Variables};
use crate::model::validation::{self, TEMPLATE_PATH};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Adds rows about all templates of these ConfigMaps; `origins` say where each was read.
pub(super) fn check(
    config_maps: &[Arc<ConfigMap>],
    origins: &BTreeMap<String, Origin>,
    budgets: Budgets,
    report: &mut Report,
) {
    let (catalog, notes) = Catalog::read(config_maps, budgets);
    for note in notes {
        match note {
            Note::Read {
                app_type,
                config_map,
                ..
            } => {
                let Some(offer) = catalog.get(&app_type) else {
                    continue;
                };
                let item = Item::new(&app_type, &config_map, origins);
                item.check(&app_type, offer, report);
            }
            Note::Duplicate {
                app_type,
                used,
                ignored,
            } => Item::new(&app_type, &ignored, origins).add(
                CheckResult::Worse,
                &format!("not used: ConfigMap {used} already defines this type"),
                None,
                report,
            ),
            Note::Unread {
                config_map,
                key,
                why,
            } => {
                let mut origin = origins.get(&*config_map).cloned().unwrap_or_default();
                origin.config_map = Some(config_map.to_string());
                origin.key = Some(key.to_string());
                let what = format!("key {key} of {config_map}");
                report.add_at(CheckResult::Worse, what, why, &origin);
            }
            Note::Gone(_) => {}
        }
    }
    if catalog.types().next().is_none() {
        let text = "none found: no ConfigMap has a key that ends with .yaml";
        report.add(CheckResult::Worse, "templates", text);
    }
}

/// Adds rows about a file that is a template itself.
pub(super) fn check_text(origin: &Origin, text: &str, report: &mut Report) {
    let item = Item {
        what: origin.file.clone().unwrap_or_default(),
        origin: origin.clone(),
    };
    match Template::parse(&item.what, text) {
        Ok(template) => {
            item.check_template("TYPE", &template, &Pairs::default(), report);
            if !template.may_have_probe() {
                item.add(CheckResult::Worse, NO_PROBE, None, report);
            }
        }
        Err(error) => {
            let (line, column) = (error.line, None);
            item.add(
                CheckResult::Bad,
                &error.to_string(),
                Some(Place { line, column }),
                report,
            );
        }
    }
}

/// What rows are about.
struct Item {
    what: String,
    origin: Origin,
}

impl Item {
    fn new(app_type: &AppType, config_map: &str, origins: &BTreeMap<String, Origin>) -> Self {
        let mut origin = origins.get(config_map).cloned().unwrap_or_default();
        origin.config_map = Some(config_map.to_owned());
        origin.key = Some(format!("{app_type}{TEMPLATE_SUFFIX}"));
        Self {
            what: format!("template {app_type} of {config_map}"),
            origin,
        }
    }

    fn add(&self, result: CheckResult, text: &str, place: Option<Place>, report: &mut Report) {
        let mut origin = self.origin.clone();
        origin.line = place.map(|place| place.line);
        origin.column = place.and_then(|place| place.column);
        report.add_at(result, self.what.as_str(), text, &origin);
    }

    fn check(&self, app_type: &AppType, offer: &Offer, report: &mut Report) {
        if let Some(problem) = offer.problem() {
            let error = offer.template.as_ref().err();
            let place = error.map(|error| Place {
                line: error.line,
                column: None,
            });
            return self.add(CheckResult::Bad, &problem, place, report);
        }
        if let Ok(template) = &offer.template {
            let annotations = &offer.config_map().metadata.annotations;
            self.check_template(app_type.as_str(), template, annotations, report);
        }
        for warning in offer.warnings() {
            self.add(CheckResult::Worse, &warning, None, report);
        }
    }

    /// Adds rows about a template that can be read.
    fn check_template(
        &self,
        app_type: &str,
        template: &Template,
        annotations: &Pairs,
        report: &mut Report,
    ) {
        let good = |report: &mut Report| {
            self.add(
                CheckResult::Good,
                &required_variables(template),
                None,
                report,
            );
        };
        match inspect(template, app_type, annotations) {
            Ok((pod, places)) => {
                let findings = validation::validate(&pod);
                if !findings.iter().any(|finding| finding.is_fault) {
                    good(report);
                }
                for finding in findings {
                    let result = match finding.is_fault {
                        true => CheckResult::Bad,
                        false => CheckResult::Worse,
                    };
                    let path = finding.path.strip_prefix(TEMPLATE_PATH).unwrap_or_default();
                    self.add(
                        result,
                        &finding.to_string(),
                        Some(places.find(path)),
                        report,
                    );
                }
            }
            Err(Unrendered::NeedsValues(text)) => {
                good(report);
                self.add(CheckResult::Worse, &text, None, report);
            }
            Err(Unrendered::Invalid(text, place)) => {
                self.add(CheckResult::Bad, &text, place, report);
            }
        }
    }
}

/// Why a template was not rendered.
enum Unrendered {
    /// It needs values, or others; holds how to give them.
    NeedsValues(String),
    /// It cannot be rendered with its own defaults.
    Invalid(String, Option<Place>),
}

/// The pod template that a request makes: with the values of the annotation for that, else without any. If
/// it needs some, each is unknown.
fn inspect(
    template: &Template,
    app_type: &str,
    annotations: &Pairs,
) -> Result<(Value, Places), Unrendered> {
    let example = find_setting(annotations, app_type, EXAMPLE);
    let variables = match &example {
        Some((key, query)) => {
            let variables = Variables::from_query(query);
            let invalid = |error| Unrendered::NeedsValues(format!("the annotation {key}: {error}"));
            Some(variables.map_err(invalid)?)
        }
        None => Some(Variables::default()).filter(|none| template.check(none).is_ok()),
    };
    match template.inspect(variables.as_ref()) {
        Ok(Some(inspected)) => Ok(inspected),
        Ok(None) => Err(Unrendered::NeedsValues(format!(
            "only its control lines and expressions are checked, since its lines depend on values; give some in the annotation {} of its ConfigMap, such as `name=value&other=value`",
            setting_key(app_type, EXAMPLE)
        ))),
        Err(error) => Err(match (example, error) {
            (Some((key, _)), error) => Unrendered::NeedsValues(format!(
                "it cannot be rendered with the values of the annotation {key}: {error}"
            )),
            (None, RenderError::Invalid(error)) => {
                let (line, column) = (error.line, None);
                Unrendered::Invalid(error.to_string(), Some(Place { line, column }))
            }
            (None, error) => Unrendered::Invalid(error.to_string(), None),
        }),
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
