//! Reading: get, list with pages of one version, and the events of a watch.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::resource::Resource;
use super::selector::Selector;
use super::status::{self, Refusal};
use super::{Change, Cluster, Key};

/// The parameters of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListOptions {
    /// Selects the objects.
    pub(crate) selector: Selector,
    /// At most this many items; 0 is all.
    pub(crate) limit: usize,
    /// Where the last page ended.
    pub(crate) continue_token: String,
    /// `resourceVersion`: nothing, `0`, or a version.
    pub(crate) version: String,
    /// Whether the list is of that version, not of a later one.
    pub(crate) exact: bool,
}

/// One line of a watch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WatchEvent {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`, `ERROR`.
    pub(crate) kind: &'static str,
    /// The object, or the `Status` of an error.
    pub(crate) object: Value,
}

impl WatchEvent {
    /// The line as it is sent, with its newline.
    pub(crate) fn line(&self) -> String {
        format!("{}\n", json!({"type": self.kind, "object": self.object}))
    }

    /// An ERROR event.
    pub(crate) fn error(refusal: &Refusal) -> Self {
        Self {
            kind: "ERROR",
            object: refusal.status.clone(),
        }
    }

    /// A bookmark: no object, only the version that the watch has reached.
    pub(crate) fn bookmark(resource: Resource, revision: u64) -> Self {
        let mut object = json!({
            "kind": resource.kind(), "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": revision.to_string()},
        });
        match resource {
            Resource::Pods => {
                object["spec"] = json!({"containers": null});
                object["status"] = json!({});
            }
            Resource::Jobs => {
                object["spec"] = json!({"template": {
                    "metadata": {},
                    "spec": {"containers": null},
                }});
                object["status"] = json!({});
            }
            Resource::Leases => object["spec"] = json!({}),
            _ => {}
        }
        Self {
            kind: "BOOKMARK",
            object,
        }
    }
}

impl Cluster {
    /// One object, or 404.
    pub(crate) fn get(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<Value>, Refusal> {
        self.object(&(resource, namespace.to_owned(), name.to_owned()))
            .cloned()
            .ok_or_else(|| status::not_found(resource, name))
    }

    /// A list, or one page of it. A namespace that does not exist has no objects.
    pub(crate) fn list(
        &self,
        resource: Resource,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<Value, Refusal> {
        let (revision, after) = self.list_start(options)?;
        let all = self.state_at(resource, namespace, revision)?;
        let mut items = Vec::new();
        let mut last: Option<&Key> = None;
        let mut left = 0_usize;
        for (key, object) in &all {
            if after
                .as_ref()
                .is_some_and(|(ns, name)| (&key.1, &key.2) <= (ns, name))
            {
                continue;
            }
            // Any object after a full page counts, selected or not. The real API server does not
            // look further ahead either, so a last page may be empty.
            if options.limit > 0 && items.len() == options.limit {
                left += 1;
            } else if options.selector.matches(object) {
                items.push(without_kind(object));
                last = Some(key);
            }
        }
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if let (Some(key), true) = (last, left > 0) {
            metadata["continue"] = json!(continue_token(revision, key));
            if options.selector.is_empty() {
                metadata["remainingItemCount"] = json!(left);
            }
        }
        Ok(json!({
            "kind": format!("{}List", resource.kind()),
            "apiVersion": resource.api_version(),
            "metadata": metadata,
            "items": items,
        }))
    }

    /// The version of a list, and the object after which it starts.
    fn list_start(
        &self,
        options: &ListOptions,
    ) -> Result<(u64, Option<(String, String)>), Refusal> {
        if !options.continue_token.is_empty() {
            if !options.version.is_empty() && options.version != "0" {
                return Err(status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            let token = read_continue(&options.continue_token).ok_or_else(|| {
                status::bad_request(
                    "invalid continue token: continue key is not valid: illegal base64 data",
                )
            })?;
            let (revision, ns, name) = token;
            let start = Some((ns, name));
            return match revision {
                // A token without a version continues with the current state.
                None => Ok((self.revision(), start)),
                Some(old) if old < self.compacted() => Err(self.expired_continue(start)),
                Some(revision) => Ok((revision, start)),
            };
        }
        let wanted = parse_version(&options.version)
            .map_err(|why| status::bad_request(format!("invalid resource version: {why}")))?;
        if wanted > self.revision() {
            return Err(status::version_too_large(wanted, self.revision()));
        }
        if !options.exact || wanted == 0 {
            return Ok((self.revision(), None));
        }
        if wanted < self.compacted() {
            let why = "The resourceVersion for the provided list is too old.";
            return Err(status::expired(why));
        }
        Ok((wanted, None))
    }

    /// 410 for an old continue token, with a new one that gives up consistency.
    fn expired_continue(&self, start: Option<(String, String)>) -> Refusal {
        let mut refusal = status::expired(
            "The provided continue parameter is too old to display a consistent list result. \
             You can start a new list without the continue parameter, or use the continue token \
             in this response to retrieve the remainder of the results. Continuing with the \
             provided token results in an inconsistent list - objects that were created, \
             modified, or deleted between the time the first chunk was returned and now may show \
             up in the list.",
        );
        if let Some((ns, name)) = start {
            let token = json!({"v": "meta.k8s.io/v1", "rv": -1, "start": [ns, name]});
            refusal.status["metadata"]["continue"] =
                json!(URL_SAFE_NO_PAD.encode(token.to_string()));
        }
        refusal
    }

    /// The objects as of a version that the history still covers.
    pub(crate) fn state_at(
        &self,
        resource: Resource,
        namespace: &str,
        revision: u64,
    ) -> Result<BTreeMap<Key, Arc<Value>>, Refusal> {
        if revision < self.compacted() {
            return Err(too_old(revision, self.compacted()));
        }
        let mut state: BTreeMap<Key, Arc<Value>> = self
            .objects(resource, namespace)
            .map(|(key, object)| (key.clone(), Arc::clone(object)))
            .collect();
        for change in self.changes_after(revision).rev() {
            if !concerns(change, resource, namespace) {
                continue;
            }
            match &change.listed {
                Some(listed) => state.insert(change.key.clone(), Arc::clone(listed)),
                None => state.remove(&change.key),
            };
        }
        Ok(state)
    }

    /// Where a watch starts: the events that it sends immediately, and the version at which it
    /// continues. Without a version, all objects are sent as ADDED.
    pub(crate) fn watch_start(
        &self,
        resource: Resource,
        namespace: &str,
        selector: &Selector,
        version: &str,
    ) -> Result<(Vec<WatchEvent>, u64), Refusal> {
        let wanted = parse_version(version).map_err(status::unclassified)?;
        if wanted > 0 {
            return Ok((Vec::new(), wanted));
        }
        let present = self
            .objects(resource, namespace)
            .filter(|(_, object)| selector.matches(object))
            .map(|(_, object)| WatchEvent {
                kind: "ADDED",
                object: Value::clone(object),
            })
            .collect();
        Ok((present, self.revision()))
    }

    /// The events of a watch after `revision`. Leaving the selector is DELETED,
    /// entering it is ADDED. Err is the 410 of a version that is too old.
    pub(crate) fn watch_events(
        &self,
        resource: Resource,
        namespace: &str,
        selector: &Selector,
        revision: u64,
    ) -> Result<Vec<WatchEvent>, Refusal> {
        if revision < self.compacted() {
            return Err(too_old(revision, self.compacted()));
        }
        Ok(self
            .changes_after(revision)
            .filter(|change| concerns(change, resource, namespace))
            .filter_map(|change| event_of(change, selector))
            .collect())
    }
}

fn concerns(change: &Change, resource: Resource, namespace: &str) -> bool {
    change.key.0 == resource && (namespace.is_empty() || change.key.1 == namespace)
}

fn event_of(change: &Change, selector: &Selector) -> Option<WatchEvent> {
    let before = change.before.as_deref().filter(|o| selector.matches(o));
    let after = change.after.as_deref().filter(|o| selector.matches(o));
    let (kind, mut object) = match (before, after) {
        (None, None) => return None,
        (None, Some(now)) => ("ADDED", now.clone()),
        (Some(_), Some(now)) => ("MODIFIED", now.clone()),
        (Some(was), None) => ("DELETED", was.clone()),
    };
    object["metadata"]["resourceVersion"] = json!(change.revision.to_string());
    Some(WatchEvent { kind, object })
}

/// The items of a list have neither kind nor apiVersion; the list has both.
fn without_kind(object: &Value) -> Value {
    let mut item = object.clone();
    if let Some(map) = item.as_object_mut() {
        map.shift_remove("kind");
        map.shift_remove("apiVersion");
    }
    item
}

fn too_old(wanted: u64, oldest: u64) -> Refusal {
    status::expired(format!("too old resource version: {wanted} ({oldest})"))
}

fn parse_version(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let why = "invalid syntax";
    text.parse().map_err(|_| {
        format!(
            "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}"
        )
    })
}

fn continue_token(revision: u64, last: &Key) -> String {
    let token = json!({"v": "meta.k8s.io/v1", "rv": revision, "start": [last.1, last.2]});
    URL_SAFE_NO_PAD.encode(token.to_string())
}

fn read_continue(token: &str) -> Option<(Option<u64>, String, String)> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let token: Value = serde_json::from_slice(&bytes).ok()?;
    let start = |at: usize| token["start"][at].as_str().map(str::to_owned);
    Some((token["rv"].as_u64(), start(0)?, start(1)?))
}
