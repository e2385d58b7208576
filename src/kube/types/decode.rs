//! From the API server's JSON to our structs.
//!
//! Unknown fields are skipped without being allocated, `null` counts as missing. An object that
//! cannot be decoded is reported with its name and the reason, and does not affect the others of
//! its list or watch. Pages and events are decoded as a whole, and object by object only if that
//! fails; no object becomes a tree of values, which takes many times its bytes. The shapes of
//! single objects are in `types/wire.rs`.

use super::bounded::{self, Name};
use super::{ObjectMeta, Resource, ResourceVersion, Uid};
use crate::kube::status::Status;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _};
use serde_json::value::RawValue;

/// One page of a list.
#[derive(Debug)]
pub struct Page<K> {
    /// The objects that are ours.
    pub items: Vec<K>,
    /// Version of the list, at which a watch continues.
    pub version: ResourceVersion,
    /// The token for the next page, if there is one.
    pub continue_token: Option<String>,
    /// Objects that could not be decoded, at most [`SKIPPED_MAX`].
    pub skipped: Vec<Skipped>,
    /// Size of the response, in bytes.
    pub bytes: usize,
}

/// How many objects of one page are reported as skipped.
pub const SKIPPED_MAX: usize = 100;

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
    match serde_json::from_slice::<ListWire<Ours<K>>>(body) {
        Ok(wire) => Ok(wire.page(body, Vec::new())),
        Err(error) if error.is_data() => decode_list_singly(body),
        Err(error) => Err(error),
    }
}

/// Objects of a list that are ours.
struct Ours<K>(Vec<K>);

impl<'de, K: Resource> Deserialize<'de> for Ours<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items = bounded::fold(deserializer, Vec::new(), |items, object: K| {
            items.extend(Some(object).filter(K::is_ours));
        });
        items.map(Self)
    }
}

/// As [`Ours`], and those that cannot be decoded.
struct Singly<K>(Vec<K>, Vec<Skipped>);

impl<'de, K: Resource> Deserialize<'de> for Singly<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let start = Self(Vec::new(), Vec::new());
        bounded::fold(
            deserializer,
            start,
            |items, object: &RawValue| match K::decode(object.get().as_bytes()) {
                Ok(object) => items.0.extend(object),
                Err(error) if items.1.len() < SKIPPED_MAX => {
                    items.1.push(skipped(object, &error));
                }
                Err(_) => {}
            },
        )
    }
}

fn decode_list_singly<K: Resource>(body: &[u8]) -> Result<Page<K>, serde_json::Error> {
    let mut wire: ListWire<Singly<K>> = serde_json::from_slice(body)?;
    let Singly(items, skipped) = wire.items.take().unwrap_or(Singly(Vec::new(), Vec::new()));
    let ours = ListWire {
        metadata: wire.metadata,
        items: Some(Ours(items)),
    };
    Ok(ours.page(body, skipped))
}

/// Reads a list of at most one object.
///
/// # Errors
/// When it is not JSON, not a list, or its object cannot be decoded.
pub fn decode_found<K: DeserializeOwned>(body: &[u8]) -> Result<Found<K>, serde_json::Error> {
    let wire: ListWire<First<'_>> = serde_json::from_slice(body)?;
    let metadata = wire.metadata.unwrap_or_default();
    let first = wire.items.and_then(|items| items.0);
    // Via text, since decoders of objects are large code.
    let read = |object: &RawValue| serde_json::from_str(object.get());
    Ok(Found {
        object: first.map(read).transpose()?,
        version: metadata.resource_version.unwrap_or_default(),
    })
}

/// The first object of a list.
struct First<'a>(Option<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for First<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        bounded::fold(deserializer, Self(None), |first, object| {
            first.0.get_or_insert(object);
        })
    }
}

/// How much of the name and of the reason of a skipped object is logged, in bytes.
const SKIPPED_TEXT_BYTES_MAX: usize = 300;

fn skipped(object: &RawValue, error: &serde_json::Error) -> Skipped {
    let name = NameWire::of(object.get()).name;
    let mut reason = error.to_string();
    reason.truncate(reason.floor_char_boundary(SKIPPED_TEXT_BYTES_MAX));
    Skipped {
        name: name.map_or_else(|| "?".into(), |name| name.0.into()),
        reason,
    }
}

/// What can be read of an object that cannot be decoded.
#[derive(Default, serde::Deserialize)]
struct NamedWire {
    metadata: Option<NameWire>,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct NameWire {
    name: Option<Name>,
    uid: Option<Uid>,
    resource_version: Option<ResourceVersion>,
}

impl NameWire {
    /// As far as it can be read.
    fn of(object: &str) -> Self {
        let named: NamedWire = serde_json::from_str(object).unwrap_or_default();
        named.metadata.unwrap_or_default()
    }
}

/// Reads an object that a call returns: the one of this name and, where it is known, this UID.
///
/// # Errors
/// When it is anything else.
pub fn decode_object<K: Resource>(
    body: &[u8],
    name: &str,
    uid: Option<&Uid>,
) -> Result<K, serde_json::Error> {
    let object: K = serde_json::from_slice(body)?;
    let metadata = object.metadata();
    let is_it = *metadata.name == *name && uid.is_none_or(|uid| metadata.uid == *uid);
    if !is_it || metadata.uid.is_empty() || metadata.resource_version.is_empty() {
        let text = "not the object that was asked for, or without UID or resourceVersion";
        return Err(serde_json::Error::custom(text));
    }
    Ok(object)
}

/// Reads UID and version of one object.
///
/// # Errors
/// When it is not JSON, or has neither of them.
pub fn decode_state(body: &[u8]) -> Result<(Uid, ResourceVersion), serde_json::Error> {
    let named: NamedWire = serde_json::from_slice(body)?;
    let metadata = named.metadata.unwrap_or_default();
    let state = metadata.uid.zip(metadata.resource_version);
    state.ok_or_else(|| serde_json::Error::custom("no UID or no resourceVersion"))
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
    let OtherEventWire { kind, object } = serde_json::from_slice(line)?;
    let (Some(kind), Some(object)) = (kind, object) else {
        return Err(serde_json::Error::custom(error));
    };
    if &*kind.0 == "ERROR" {
        let status: Status = serde_json::from_str(object.get())?;
        return Ok(WatchEvent::Error(status.bounded()));
    }
    let NameWire {
        name,
        uid,
        resource_version,
    } = NameWire::of(object.get());
    let version = resource_version.unwrap_or_default();
    Ok(match &*kind.0 {
        "BOOKMARK" => WatchEvent::Bookmark(version),
        // What it was does not matter any more, only which one it was; without that, a list tells.
        "DELETED" => {
            let (Some(name), Some(uid)) = (name, uid) else {
                return Err(serde_json::Error::custom(error));
            };
            WatchEvent::Gone(Box::new(ObjectMeta {
                name: name.0,
                uid,
                resource_version: version,
                ..ObjectMeta::default()
            }))
        }
        _ => WatchEvent::Skipped(skipped(object, error), version),
    })
}

/// An event, whatever it is about.
#[derive(serde::Deserialize)]
struct OtherEventWire<'a> {
    #[serde(rename = "type")]
    kind: Option<Name>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

/// An event of an object.
#[derive(serde::Deserialize)]
struct EventWire<K> {
    #[serde(rename = "type")]
    kind: ObjectEvent,
    object: K,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum ObjectEvent {
    Added,
    Modified,
    Deleted,
}

#[derive(serde::Deserialize)]
struct ListWire<T> {
    metadata: Option<ListMetaWire>,
    items: Option<T>,
}

impl<K> ListWire<Ours<K>> {
    fn page(self, body: &[u8], skipped: Vec<Skipped>) -> Page<K> {
        let metadata = self.metadata.unwrap_or_default();
        Page {
            items: self.items.map(|items| items.0).unwrap_or_default(),
            version: metadata.resource_version.unwrap_or_default(),
            continue_token: metadata.continue_token.filter(|token| !token.is_empty()),
            skipped,
            bytes: body.len(),
        }
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetaWire {
    resource_version: Option<ResourceVersion>,
    #[serde(rename = "continue")]
    continue_token: Option<String>,
}
