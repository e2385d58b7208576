//! From the API server's JSON to our structs.
//!
//! Unknown fields are skipped without being allocated, `null` counts as missing. An object that
//! cannot be decoded is reported with its name and the reason, and does not affect the others of
//! its list or watch. Pages and events are decoded as a whole, and object by object only if that
//! fails. The shapes of single objects are in `types/wire.rs`.

use super::{ObjectMeta, Resource, ResourceVersion};
use crate::kube::status::Status;
use serde::Deserialize;
use serde::de::Error as _;
use serde_json::Value;

/// One page of a list.
#[derive(Debug)]
pub struct Page<K> {
    /// The objects that are ours.
    pub items: Vec<K>,
    /// Version of the list, at which a watch continues.
    pub version: ResourceVersion,
    /// The token for the next page, if there is one.
    pub continue_token: Option<String>,
    /// Objects that could not be decoded.
    pub skipped: Vec<Skipped>,
}

/// The object of one name, or its absence.
#[derive(Debug)]
pub struct Found<K> {
    /// The object, of this service or not; `None` when there is none.
    pub object: Option<K>,
    /// The version of the state that was read.
    pub version: ResourceVersion,
}

/// An object that could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its name, or `?` when that cannot be read either.
    pub name: String,
    /// The reason.
    pub reason: String,
}

/// One line of a watch.
#[derive(Debug)]
pub enum WatchEvent<K> {
    /// The object is new to the watch, or has changed.
    Changed(K),
    /// The object is gone, no longer matches the selector, or does not belong to this service.
    Gone(Box<ObjectMeta>),
    /// Nothing happened up to this version.
    Bookmark(ResourceVersion),
    /// The watch is over.
    Error(Status),
    /// A change of an object that could not be decoded.
    Skipped(Skipped, ResourceVersion),
}

/// Reads one page of a list.
///
/// # Errors
/// When it is not JSON, or not a list.
pub fn decode_list<K: Resource>(body: &[u8]) -> Result<Page<K>, serde_json::Error> {
    match serde_json::from_slice::<ListWire<K>>(body) {
        Ok(wire) => {
            let mut items = wire.items.unwrap_or_default();
            items.retain(K::is_ours);
            Ok(page(wire.metadata, items))
        }
        Err(error) if error.is_data() => decode_list_singly(body),
        Err(error) => Err(error),
    }
}

fn page<K>(metadata: Option<ListMetaWire>, items: Vec<K>) -> Page<K> {
    let metadata = metadata.unwrap_or_default();
    Page {
        items,
        version: metadata.resource_version.unwrap_or_default(),
        continue_token: metadata.continue_token.filter(|token| !token.is_empty()),
        skipped: Vec::new(),
    }
}

fn decode_list_singly<K: Resource>(body: &[u8]) -> Result<Page<K>, serde_json::Error> {
    let wire: ListWire<Value> = serde_json::from_slice(body)?;
    let mut page = page(wire.metadata, Vec::new());
    for value in wire.items.unwrap_or_default() {
        match K::decode(value.to_string().as_bytes()) {
            Ok(object) => page.items.extend(object),
            Err(error) => page.skipped.push(skipped(&value, &error)),
        }
    }
    Ok(page)
}

/// Reads a list of at most one object.
///
/// # Errors
/// When it is not JSON, not a list, or its object cannot be decoded.
pub fn decode_found<K: Resource>(body: &[u8]) -> Result<Found<K>, serde_json::Error> {
    let wire: ListWire<Value> = serde_json::from_slice(body)?;
    let metadata = wire.metadata.unwrap_or_default();
    let first = wire.items.unwrap_or_default().into_iter().next();
    // Via text, since decoders of objects are large code.
    let read = |object: Value| serde_json::from_slice(object.to_string().as_bytes());
    Ok(Found {
        object: first.map(read).transpose()?,
        version: metadata.resource_version.unwrap_or_default(),
    })
}

fn skipped(value: &Value, error: &serde_json::Error) -> Skipped {
    let name = value
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or("?");
    Skipped {
        name: name.into(),
        reason: error.to_string(),
    }
}

/// Reads one line of a watch.
///
/// # Errors
/// When it is not JSON, or not a watch event.
pub fn decode_event<K: Resource>(line: &[u8]) -> Result<WatchEvent<K>, serde_json::Error> {
    let EventWire { kind, object } = match serde_json::from_slice::<EventWire<K>>(line) {
        Ok(wire) => wire,
        Err(error) if error.is_data() => return decode_other_event(line, &error),
        Err(error) => return Err(error),
    };
    Ok(match kind {
        ObjectEvent::Added | ObjectEvent::Modified if object.is_ours() => {
            WatchEvent::Changed(object)
        }
        _ => WatchEvent::Gone(Box::new(object.metadata().clone())),
    })
}

/// An event without an object of the kind that is watched: a bookmark, an error, or what cannot be
/// decoded.
fn decode_other_event<K>(
    line: &[u8],
    error: &serde_json::Error,
) -> Result<WatchEvent<K>, serde_json::Error> {
    let value: Value = serde_json::from_slice(line)?;
    let (Some(Value::String(kind)), Some(object)) = (value.get("type"), value.get("object")) else {
        return Err(serde_json::Error::custom(error));
    };
    let version = object.pointer("/metadata/resourceVersion");
    let version = version.and_then(Value::as_str).unwrap_or_default().into();
    Ok(match kind.as_str() {
        "BOOKMARK" => WatchEvent::Bookmark(version),
        "ERROR" => WatchEvent::Error(Status::deserialize(object)?),
        _ => WatchEvent::Skipped(skipped(object, error), version),
    })
}

/// An event of an object.
#[derive(Deserialize)]
struct EventWire<K> {
    #[serde(rename = "type")]
    kind: ObjectEvent,
    object: K,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum ObjectEvent {
    Added,
    Modified,
    Deleted,
}

#[derive(Deserialize)]
struct ListWire<K> {
    metadata: Option<ListMetaWire>,
    items: Option<Vec<K>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetaWire {
    resource_version: Option<ResourceVersion>,
    #[serde(rename = "continue")]
    continue_token: Option<String>,
}
