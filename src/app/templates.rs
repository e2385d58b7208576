//! What is known of all templates, for `/templates`: [`TemplateEntry`], and [`Templates`], which makes the
//! list of them.
//!
//! It joins the catalog, the reports of [`super::dry_runs`] and the Jobs. When a list is due is decided in
//! [`super::lists`], on which thread it is made in [`super::assembler`]; the JSON of an entry is made by a
//! function of the HTTP front. Everything is bounded, so that there always is a list: what does not fit is
//! cut or left out, and the entry says so.

mod room;

use super::cache::Census;
use super::catalog::{Catalog, Offer, SharedCatalog, UnreadKey};
use super::dry_runs::{Report, Reports, Verdict};
use super::error::Error;
use super::list::List;
use super::rights::MissingRights;
use crate::budget::Ledger;
use crate::model::job::JobSettings;
use crate::model::names::AppType;
use crate::model::template::TemplateVariable;
use crate::sorting;
use room::Room;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The bounds on what there is to be listed.
pub use crate::kube::types::UNREAD_KEYS_MAX;
pub use crate::store::TEMPLATES_MAX;
pub use room::ROOMS;

/// How many keys that look like templates and are not read are listed; the log names all.
pub const UNREAD_LISTED_MAX: usize = 256;

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
    pub message: Option<Cow<'a, str>>,
    /// Where the fault is.
    pub place: Option<Cow<'a, str>>,
    /// What its author should know.
    pub warnings: Vec<Cow<'a, str>>,
    /// The variables that it uses.
    pub variables: Vec<ShownVariable<'a>>,
    /// The settings of its Jobs; none if they are invalid.
    pub settings: Option<&'a JobSettings>,
    /// The revision that instances have that are started now; none if the template is invalid.
    pub revision: Option<&'a str>,
    /// How many instances there are.
    pub instances: InstancesOf,
    /// Whether a text was cut, which then ends with [`crate::model::excerpt::MARK`], or one was left out.
    pub is_cut: bool,
}

/// A variable that a template uses.
#[derive(Debug)]
pub struct ShownVariable<'a> {
    /// Its name.
    pub name: &'a str,
    /// What stands for it where it is not given.
    pub default: Option<Cow<'a, str>>,
}

impl<'a> ShownVariable<'a> {
    /// As much of this variable as there is room for; `None` if there is none for its name.
    fn new(variable: &'a TemplateVariable, room: &mut Room) -> Option<Self> {
        let name = &variable.name;
        room.name(name).then(|| Self {
            name,
            default: variable.default.as_deref().and_then(|text| room.text(text)),
        })
    }
}

/// The instances of a template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InstancesOf {
    /// Those of its present revision.
    pub current: u64,
    /// All others.
    pub older: u64,
}

/// What the list of all templates is made of.
#[derive(Debug)]
pub struct Templates {
    /// The templates.
    pub catalog: Arc<SharedCatalog>,
    /// What the API server says of them.
    pub reports: Arc<dyn Reports>,
    /// What does not work for want of rights.
    pub rights: MissingRights,
    /// The JSON of an entry.
    pub encode: EncodeTemplate,
}

impl Templates {
    /// The list of all templates, with these instances. Where it would be too large its texts are cut.
    ///
    /// # Errors
    /// As of [`List::after`].
    pub(super) fn list(&self, census: &Census, ledger: &Arc<Ledger>) -> Result<List, Error> {
        let known = Known {
            catalog: self.catalog.current(),
            instances: instances(census),
            rights: &self.rights,
        };
        let names = known.names();
        let made = |room: usize| {
            let encode = |name: &String, into: &mut Vec<u8>| {
                let report = |of: &AppType, offer: &Arc<Offer>| self.reports.report(of, offer);
                known.visit(name, room, report, |entry| (self.encode)(entry, into))
            };
            List::new(&names, "\n", encode, ledger)
        };
        let [most, less @ ..] = ROOMS;
        let mut less = less.into_iter();
        let mut list = made(most);
        while let (Err(Error::ListTooLarge { .. }), Some(room)) = (&list, less.next()) {
            list = made(room);
        }
        list
    }
}

/// How many instances of each type have which revision.
fn instances(census: &Census) -> HashMap<Box<str>, HashMap<Box<str>, u64>> {
    let mut counts: HashMap<Box<str>, HashMap<Box<str>, u64>> = HashMap::new();
    for job in census.jobs.all() {
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

/// What a list of templates is made of.
struct Known<'a> {
    catalog: Arc<Catalog>,
    instances: HashMap<Box<str>, HashMap<Box<str>, u64>>,
    rights: &'a MissingRights,
}

/// Between the parts of a name in the list; no app type has it.
const SEPARATOR: char = '\0';

/// The app type of a name in the list.
#[must_use]
pub fn app_type_in(name: &str) -> &str {
    name.split(SEPARATOR).next().unwrap_or(name)
}

impl Known<'_> {
    /// The names of all entries: by app type, of one type the template that is used first.
    fn names(&self) -> BTreeSet<String> {
        let offers = self
            .catalog
            .types()
            .map(|app_type| app_type.as_str().to_owned());
        let unread = self.catalog.unread_keys().take(UNREAD_LISTED_MAX);
        let unread = unread.map(|UnreadKey { config_map, key }| {
            let stem = stem(&key.key);
            format!("{stem}{SEPARATOR}{config_map}{SEPARATOR}{}", key.key)
        });
        sorting::set(offers.chain(unread))
    }

    /// Calls `visit` with the entry of this name, whose texts have so much room; returns whether there is
    /// one.
    fn visit(
        &self,
        name: &str,
        room: usize,
        report: impl Fn(&AppType, &Arc<Offer>) -> Option<Arc<Report>>,
        visit: impl FnOnce(&TemplateEntry<'_>),
    ) -> bool {
        let Some((app_type, rest)) = name.split_once(SEPARATOR) else {
            let Some((app_type, offer)) = self.catalog.find(name) else {
                return false;
            };
            let report = report(app_type, offer).unwrap_or_else(|| Arc::new(Report::untried()));
            let (of, mut own) = ((app_type, &**offer), offer.warnings());
            let warning = offer.settings.as_ref().ok();
            let warning = warning.and_then(|settings| self.rights.warning(settings));
            own.extend(warning.map(str::to_owned));
            visit(&self.entry(of, &report, &own, Room::new(room)));
            return true;
        };
        let unread = rest
            .split_once(SEPARATOR)
            .and_then(|(config_map, key)| self.catalog.unread_key(config_map, key));
        let Some(unread) = unread else {
            return false;
        };
        let (message, mut room) = (unread.to_string(), Room::new(room));
        visit(&TemplateEntry {
            app_type,
            config_map: unread.config_map,
            verdict: Verdict::Invalid,
            message: room.text(&message),
            place: room.text(&unread.key.key),
            warnings: Vec::new(),
            variables: Vec::new(),
            settings: None,
            revision: None,
            instances: InstancesOf::default(),
            is_cut: room.is_cut(),
        });
        true
    }

    fn entry<'a>(
        &self,
        (app_type, offer): (&'a AppType, &'a Offer),
        report: &'a Report,
        own_warnings: &'a [String],
        mut room: Room,
    ) -> TemplateEntry<'a> {
        let message = report.message.as_deref();
        let message = message.and_then(|text| room.text(text));
        let place = report.place.as_deref().and_then(|text| room.text(text));
        let own = own_warnings.iter().map(String::as_str);
        let warnings = own.chain(report.warnings.iter().map(|text| &**text));
        let warnings = warnings.filter_map(|text| room.text(text)).collect();
        let template = offer.template.as_deref().ok();
        let mut variables = Vec::new();
        for variable in template.map_or(&[][..], |template| template.variables()) {
            variables.extend(ShownVariable::new(variable, &mut room));
        }
        let revision = offer.revision.as_deref();
        TemplateEntry {
            app_type: app_type.as_str(),
            config_map: &offer.config_map().metadata.name,
            verdict: report.verdict,
            message,
            place,
            warnings,
            variables,
            settings: offer.settings.as_ref().ok(),
            revision,
            instances: self.count(app_type, revision),
            is_cut: room.is_cut(),
        }
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
