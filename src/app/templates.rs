//! What is known of all templates, for `/templates`: [`TemplateEntry`], and [`TemplateAssembler`], which
//! makes the list on the thread of the other lists.
//!
//! It joins the catalog, the reports of [`super::dry_runs`] and the Jobs. When a list is due is decided in
//! [`super::lists`]; the JSON of an entry is made by a function of the HTTP front.

use super::cache::{Cache, Census};
use super::catalog::{Catalog, Offer, SharedCatalog, UnreadKey};
use super::dry_runs::{DryRuns, Report, Verdict};
use super::error::Error;
use super::list::List;
use super::request::ResponseSink;
use crate::budget::Ledger;
use crate::clock::Clock;
use crate::model::job::JobSettings;
use crate::model::names::AppType;
use crate::model::template::TemplateVariable;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Appends the JSON of an entry.
pub type EncodeTemplate = fn(&TemplateEntry<'_>, &mut Vec<u8>);

/// What is known of one template, or of a key that looks like one.
#[derive(Debug)]
pub struct TemplateEntry<'a> {
    /// The app type that it defines, or would define.
    pub app_type: &'a str,
    /// Its ConfigMap.
    pub config_map: &'a str,
    /// Whether instances can be started from it.
    pub verdict: Verdict,
    /// Why not, or what was not tried.
    pub message: Option<&'a str>,
    /// Where the fault is: a line, or the path of a field in the pod template.
    pub place: Option<&'a str>,
    /// What its author should know.
    pub warnings: Vec<&'a str>,
    /// The variables that it uses.
    pub variables: &'a [TemplateVariable],
    /// The settings of its Jobs; none if they are invalid.
    pub settings: Option<&'a JobSettings>,
    /// The revision that instances have that are started now; none if the template is invalid.
    pub revision: Option<&'a str>,
    /// How many instances there are.
    pub instances: InstancesOf,
}

/// The instances of a template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InstancesOf {
    /// Those of its present revision.
    pub current: u64,
    /// All others.
    pub older: u64,
}

/// Makes the list of all templates.
#[derive(Debug)]
pub struct TemplateAssembler {
    /// The templates.
    pub catalog: Arc<SharedCatalog>,
    /// What the API server says of them.
    pub dry_runs: DryRuns,
    /// Who waits for the list.
    pub cache: Cache,
    /// The instances.
    pub census: Census,
    /// The JSON of an entry.
    pub encode: EncodeTemplate,
    /// What the list is charged to.
    pub ledger: Arc<Ledger>,
    /// Where responses go.
    pub sink: Arc<dyn ResponseSink>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl TemplateAssembler {
    /// Makes the list if it is due, and responds to its readers; whether it was due.
    pub fn step(&self) -> bool {
        let index = self.cache.index();
        let Some(mut task) = index.take_due_templates(self.clock.now()) else {
            return false;
        };
        let mut list = self.list();
        if list.as_ref().is_err_and(Error::is_overload) {
            // There is no memory beside the lists that are kept for later readers.
            task.before = None;
            if index.drop_all_lists() {
                list = self.list();
            }
        }
        if list.as_ref().is_err_and(Error::is_overload) {
            index.wait_for_room_for_templates(&mut task, self.clock.now());
        }
        let late = index.finish_templates(list.as_ref().ok(), self.clock.now());
        self.sink.respond_list(&task.readers, &list);
        self.sink.respond_list(&late, &list);
        true
    }

    fn list(&self) -> Result<Arc<List>, Error> {
        let known = Known {
            catalog: self.catalog.current(),
            instances: self.instances(),
        };
        let encode = |name: &String, into: &mut Vec<u8>| {
            let report = |app_type: &AppType| self.dry_runs.report(app_type);
            known.visit(name, report, |entry| (self.encode)(entry, into))
        };
        List::with_newline(&known.names(), encode, &self.ledger).map(Arc::new)
    }

    /// How many instances of each type have which revision.
    fn instances(&self) -> HashMap<Box<str>, HashMap<Box<str>, u64>> {
        let mut counts: HashMap<Box<str>, HashMap<Box<str>, u64>> = HashMap::new();
        for job in self.census.jobs.all() {
            let Some(app_type) = job.app_type() else {
                continue;
            };
            let of_type = match counts.get_mut(app_type) {
                Some(of_type) => of_type,
                None => counts.entry(app_type.into()).or_default(),
            };
            let revision = job.template_revision().unwrap_or_default();
            match of_type.get_mut(revision) {
                Some(count) => *count += 1,
                None => drop(of_type.insert(revision.into(), 1)),
            }
        }
        counts
    }
}

/// What a list of templates is made of.
struct Known {
    catalog: Arc<Catalog>,
    instances: HashMap<Box<str>, HashMap<Box<str>, u64>>,
}

/// Between the parts of a name in the list; no app type has it.
const SEPARATOR: char = '\0';

/// The app type of a name in the list.
#[must_use]
pub fn app_type_in(name: &str) -> &str {
    name.split(SEPARATOR).next().unwrap_or(name)
}

impl Known {
    /// The names of all entries: by app type, of one type the template that is used first.
    fn names(&self) -> BTreeSet<String> {
        let offers = self
            .catalog
            .types()
            .map(|app_type| app_type.as_str().to_owned());
        let unread = self.catalog.unread_keys();
        let unread = unread.map(|UnreadKey { config_map, key }| {
            let stem = stem(&key.key);
            format!("{stem}{SEPARATOR}{config_map}{SEPARATOR}{}", key.key)
        });
        offers.chain(unread).collect()
    }

    /// Calls `visit` with the entry of this name; returns whether there is one.
    fn visit(
        &self,
        name: &str,
        report: impl Fn(&AppType) -> Option<Arc<Report>>,
        visit: impl FnOnce(&TemplateEntry<'_>),
    ) -> bool {
        let Some((app_type, rest)) = name.split_once(SEPARATOR) else {
            let Some((app_type, offer)) = self.catalog.find(name) else {
                return false;
            };
            self.visit_offer(app_type, offer, report(app_type).as_deref(), visit);
            return true;
        };
        let unread = rest
            .split_once(SEPARATOR)
            .and_then(|(config_map, key)| self.catalog.unread_key(config_map, key));
        let Some(unread) = unread else {
            return false;
        };
        visit(&TemplateEntry {
            app_type,
            config_map: unread.config_map,
            verdict: Verdict::Invalid,
            message: Some(&unread.to_string()),
            place: Some(&unread.key.key),
            warnings: Vec::new(),
            variables: &[],
            settings: None,
            revision: None,
            instances: InstancesOf::default(),
        });
        true
    }

    fn visit_offer(
        &self,
        app_type: &AppType,
        offer: &Offer,
        report: Option<&Report>,
        visit: impl FnOnce(&TemplateEntry<'_>),
    ) {
        let untried = Report::untried();
        let report = report.unwrap_or(&untried);
        let own = offer.warnings();
        let warnings = own.iter().map(String::as_str);
        let warnings = warnings.chain(report.warnings.iter().map(|text| &**text));
        let template = offer.template.as_deref().ok();
        let revision = offer.revision.as_deref();
        visit(&TemplateEntry {
            app_type: app_type.as_str(),
            config_map: &offer.config_map().metadata.name,
            verdict: report.verdict,
            message: report.message.as_deref(),
            place: report.place.as_deref(),
            warnings: warnings.collect(),
            variables: template.map_or(&[], |template| template.variables()),
            settings: offer.settings.as_ref().ok(),
            revision,
            instances: self.count(app_type, revision),
        });
    }

    fn count(&self, app_type: &AppType, revision: Option<&str>) -> InstancesOf {
        let of_type = self.instances.get(app_type.as_str());
        let mut instances = InstancesOf::default();
        for (of, count) in of_type.into_iter().flatten() {
            if revision == Some(&**of) {
                instances.current += count;
            } else {
                instances.older += count;
            }
        }
        instances
    }
}

/// What a key would define if it were read.
fn stem(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(stem, _)| stem)
}
