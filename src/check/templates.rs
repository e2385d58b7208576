//! What `check` says of templates: their own errors, and what the API server would report of them as far
//! as [`crate::model::validation`] knows. Pure: ConfigMaps and texts in, rows out.

use super::report::{CheckResult, Origin, Report};
use crate::app::catalog::{Catalog, NO_PROBE, Note, Offer};
use crate::app::dry_runs::{EXAMPLE, Report as DryRun, Verdict};
use crate::kube::types::{ConfigMap, Pairs, TEMPLATE_SUFFIX, UNREAD_KEYS_MAX};
use crate::model::job::{JobSettings, find_setting, setting_key};
use crate::model::names::AppType;
use crate::model::template::{Place, Places, RenderError, Template, Variables};
use crate::model::validation::{self, Finding, Problem, WRONG_TYPE};
use serde_json::Value;
use std::sync::Arc;

/// A template as a request would render it.
pub(super) struct Rendered {
    item: Item,
    /// The pod template.
    pub(super) pod: Value,
    places: Places,
}

impl Rendered {
    /// Adds a row about a field, by its path in the pod template.
    pub(super) fn add(&self, result: CheckResult, text: &str, path: &str, report: &mut Report) {
        let place = self.places.find(path);
        self.item.add(result, text, Some(place), report);
    }
}

/// The dry run of a template at a cluster; `None` if there is no cluster.
pub(super) type TryNow<'a> = &'a dyn Fn(&AppType, &Arc<Offer>) -> Option<DryRun>;

/// Adds rows about all templates of these ConfigMaps, which were read at that place. Returns those that can be
/// rendered.
pub(super) fn check(
    config_maps: &[Arc<ConfigMap>],
    place: &Origin,
    defaults: &JobSettings,
    try_now: TryNow<'_>,
    report: &mut Report,
) -> Vec<Rendered> {
    let mut all = Vec::new();
    let (catalog, notes) = Catalog::read(config_maps, defaults);
    for note in notes {
        match note {
            Note::Read {
                app_type,
                config_map,
                ..
            } => {
                let Some((app_type, offer)) = catalog.find(app_type.as_str()) else {
                    continue;
                };
                let item = Item::new(app_type, &config_map, place);
                all.extend(item.check(app_type, offer, try_now, report));
            }
            Note::Duplicate {
                app_type,
                used,
                ignored,
            } => Item::new(&app_type, &ignored, place).add(
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
                let mut origin = place.clone();
                origin.config_map = Some(config_map.to_string());
                origin.key = Some(key.to_string());
                let what = format!("key {key} of {config_map}");
                report.add_at(CheckResult::Worse, what, why, &origin);
            }
            Note::UnreadSetting { config_map, why } => {
                let mut origin = place.clone();
                origin.config_map = Some(config_map.to_string());
                let what = format!("ConfigMap {config_map}");
                report.add_at(CheckResult::Worse, what, why, &origin);
            }
            Note::Gone(_) => {}
        }
    }
    for config_map in config_maps {
        if config_map.unread.len() == UNREAD_KEYS_MAX {
            let what = format!("ConfigMap {}", config_map.metadata.name);
            let text = format!("only the first {UNREAD_KEYS_MAX} keys that are not read are named");
            report.add_at(CheckResult::Worse, what, text, place);
        }
    }
    all
}

/// Adds rows about a file that is a template itself.
pub(super) fn check_text(origin: &Origin, text: &str, report: &mut Report) {
    let item = Item {
        what: origin.file.clone().unwrap_or_default(),
        origin: origin.clone(),
    };
    match Template::parse(&item.what, text) {
        Ok(template) => {
            item.check_template("TYPE", &template, (&Pairs::default(), None), report);
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
    fn new(app_type: &AppType, config_map: &str, place: &Origin) -> Self {
        let mut origin = place.clone();
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

    fn check(
        self,
        app_type: &AppType,
        offer: &Arc<Offer>,
        try_now: TryNow<'_>,
        report: &mut Report,
    ) -> Option<Rendered> {
        if let Some(problem) = offer.problem() {
            let error = offer.template.as_ref().err();
            let place = error.map(|error| Place {
                line: error.line,
                column: None,
            });
            self.add(CheckResult::Bad, &problem, place, report);
            return None;
        }
        let template = offer.template.as_ref().ok()?;
        let annotations = &offer.config_map().metadata.annotations;
        let tried = try_now(app_type, offer);
        let app_type = app_type.as_str();
        let rendered = self.check_template(app_type, template, (annotations, tried), report);
        for warning in offer.warnings() {
            self.add(CheckResult::Worse, &warning, None, report);
        }
        let (pod, places) = rendered?;
        Some(Rendered {
            item: self,
            pod,
            places,
        })
    }

    /// Adds rows about a template that can be read, from its dry run or without one.
    fn check_template(
        &self,
        app_type: &str,
        template: &Template,
        (annotations, tried): (&Pairs, Option<DryRun>),
        report: &mut Report,
    ) -> Option<(Value, Places)> {
        let (pod, places) = match inspect(template, app_type, annotations) {
            Ok(inspected) => inspected,
            Err(Unrendered::NeedsValues(text)) => {
                self.good(template, report);
                self.add(CheckResult::Worse, &text, None, report);
                return None;
            }
            Err(Unrendered::Invalid(text, place)) => {
                self.add(CheckResult::Bad, &text, place, report);
                return None;
            }
        };
        let findings = validation::validate(&pod);
        match tried {
            Some(tried) if matches!(tried.verdict, Verdict::Valid | Verdict::Invalid) => {
                self.check_dry_run(template, &tried, (&findings, &places), report);
            }
            tried => {
                let why = tried.filter(|tried| tried.verdict == Verdict::Unchecked);
                if let Some(why) = why.and_then(|tried| tried.message) {
                    let text = format!("there was no dry run: {why}");
                    self.add(CheckResult::Worse, &text, None, report);
                }
                self.check_offline(template, &findings, &places, report);
            }
        }
        Some((pod, places))
    }

    fn good(&self, template: &Template, report: &mut Report) {
        let text = required_variables(template);
        self.add(CheckResult::Good, &text, None, report);
    }

    fn check_offline(
        &self,
        template: &Template,
        findings: &[Finding],
        places: &Places,
        report: &mut Report,
    ) {
        if !findings.iter().any(|finding| finding.is_fault) {
            self.good(template, report);
        }
        for finding in findings {
            let result = match finding.is_fault {
                true => CheckResult::Bad,
                false => CheckResult::Worse,
            };
            let place = places.find(&finding.path);
            self.add(result, &finding.to_string(), Some(place), report);
        }
    }

    /// Adds what the API server said. Where it names no place, ours counts.
    fn check_dry_run(
        &self,
        template: &Template,
        tried: &DryRun,
        (findings, places): (&[Finding], &Places),
        report: &mut Report,
    ) {
        if tried.verdict == Verdict::Valid {
            self.good(template, report);
        } else {
            let message = tried.message.as_deref().unwrap_or_default();
            // The name of the Job that was tried is not the author's.
            let message = message
                .split_once("\" is invalid: ")
                .map_or(message, |it| it.1);
            let path = tried.place.as_deref().unwrap_or_default();
            // A decoder's words have neither the place in a list nor the fix.
            let of_decoder = message.contains(" cannot be handled as a ");
            let is_ours = |finding: &&Finding| match &finding.problem {
                Problem::Value(text) if of_decoder => text.starts_with(WRONG_TYPE),
                _ => finding.is_fault && !of_decoder,
            };
            let (message, path) = match findings.iter().find(is_ours) {
                Some(ours) if of_decoder => (&*ours.to_string(), ours.path.as_str()),
                Some(ours) if path.is_empty() => (message, ours.path.as_str()),
                _ => (message, path),
            };
            self.add(CheckResult::Bad, message, Some(places.find(path)), report);
        }
        for warning in &tried.warnings {
            let path = warning
                .split(['"', ':'])
                .nth(usize::from(warning.contains('"')));
            let place = places.find(path.unwrap_or_default());
            // Ours says what was probably meant.
            let ours = findings.iter().map(ToString::to_string);
            let ours = ours.into_iter().find(|text| text.starts_with(&**warning));
            let text = ours.as_deref().unwrap_or(warning);
            self.add(CheckResult::Worse, text, Some(place), report);
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
