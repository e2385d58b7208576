//! Whether the objects that templates need exist: ConfigMaps, Secrets (also for pulling images) and
//! PersistentVolumeClaims. Where the service account may not look, that is said once for each kind.

use super::report::{CheckResult, Report};
use super::templates::Rendered;
use crate::kube::error::Verb;
use crate::kube::types::{CONFIG_MAPS, Collection};
use crate::kube::{self, Client};
use crate::model::references::{self, Kind, Reference};
use std::collections::BTreeMap;

const SECRETS: Collection = Collection {
    prefix: "api/v1",
    plural: "secrets",
};
const PERSISTENT_VOLUME_CLAIMS: Collection = Collection {
    prefix: "api/v1",
    plural: "persistentvolumeclaims",
};

/// Adds a row for each object that a template needs and that is not there.
pub(super) fn check(client: &Client, templates: &[Rendered], report: &mut Report) {
    let mut search = Search {
        client,
        may_get: BTreeMap::new(),
        found: BTreeMap::new(),
    };
    for rendered in templates {
        for Reference { kind, name, path } in references::of(&rendered.pod) {
            if !search.may_get(kind, report) {
                continue;
            }
            match search.exists(kind, &name) {
                Ok(true) => {}
                Ok(false) => {
                    let text = format!("{path}: {} {name} does not exist", kind.as_str());
                    rendered.add(CheckResult::Worse, &text, &path, report);
                }
                Err(error) => {
                    let text = format!("{path}: not looked for: {error}");
                    rendered.add(CheckResult::Worse, &text, &path, report);
                }
            }
        }
    }
}

/// What was found; each is asked for once.
struct Search<'a> {
    client: &'a Client,
    may_get: BTreeMap<Kind, bool>,
    found: BTreeMap<(Kind, String), bool>,
}

impl Search<'_> {
    fn may_get(&mut self, kind: Kind, report: &mut Report) -> bool {
        *self.may_get.entry(kind).or_insert_with(|| {
            let plural = collection(kind).plural;
            let may = self.client.may(Verb::Get, "", plural, true);
            let why = match may {
                Ok(true) => return true,
                Ok(false) => "the service account may not get them".to_owned(),
                Err(error) => error.to_string(),
            };
            report.add(CheckResult::Worse, plural, format!("not looked for: {why}"));
            false
        })
    }

    fn exists(&mut self, kind: Kind, name: &str) -> Result<bool, kube::Error> {
        let key = (kind, name.to_owned());
        if let Some(exists) = self.found.get(&key) {
            return Ok(*exists);
        }
        let exists = self.client.exists(collection(kind), name)?;
        self.found.insert(key, exists);
        Ok(exists)
    }
}

const fn collection(kind: Kind) -> Collection {
    match kind {
        Kind::ConfigMap => CONFIG_MAPS,
        Kind::PersistentVolumeClaim => PERSISTENT_VOLUME_CLAIMS,
        Kind::Secret => SECRETS,
    }
}
