//! From the API server's JSON to our structs.
//!
//! Unknown fields are skipped without being allocated, `null` counts as missing. An object that
//! cannot be decoded is reported with its name and the reason, and does not affect the others of
//! its list or watch. Pages and events are decoded as a whole, and object by object only if that
//! fails. The shapes of single objects are in `types/wire.rs`.

use super::{ObjectMeta, Resource, ResourceVersion};
use crate::kube::status::Status;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::fmt;
use std::marker::PhantomData;

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
    /// The object is new to the watch.
    Added(K),
    /// The object has changed.
    Modified(K),
    /// The object is gone, or no longer matches the selector; its last state.
    Deleted(K),
    /// An object changed that does not (or no longer) belong to this service.
    NotOurs(Box<ObjectMeta>),
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
    let wire = match serde_json::from_slice::<ListWire<Items<K>>>(body) {
        Ok(wire) => wire,
        Err(error) if error.is_data() => return decode_list_singly(body),
        Err(error) => return Err(error),
    };
    let items = wire.items.map(|items| items.0).unwrap_or_default();
    Ok(page(wire.metadata, items))
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
    let wire: ListWire<Vec<Value>> = serde_json::from_slice(body)?;
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
    let wire: ListWire<Vec<Value>> = serde_json::from_slice(body)?;
    let first = wire.items.unwrap_or_default().into_iter().next();
    // Via text, since decoders of objects are large code.
    let read = |object: Value| serde_json::from_slice(object.to_string().as_bytes());
    Ok(Found {
        object: first.map(read).transpose()?,
        version: wire
            .metadata
            .and_then(|metadata| metadata.resource_version)
            .unwrap_or_default(),
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
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    let read = deserializer.deserialize_map(EventVisitor(PhantomData));
    match read.and_then(|event| deserializer.end().map(|()| event)) {
        Ok(event) => Ok(event),
        Err(error) if error.is_data() => decode_broken_event(line, &error),
        Err(error) => Err(error),
    }
}

fn decode_broken_event<K>(
    line: &[u8],
    error: &serde_json::Error,
) -> Result<WatchEvent<K>, serde_json::Error> {
    let value: Value = serde_json::from_slice(line)?;
    let (Some(Value::String(_)), Some(object)) = (value.get("type"), value.get("object")) else {
        return Err(de::Error::custom(error));
    };
    let version = object
        .pointer("/metadata/resourceVersion")
        .and_then(Value::as_str);
    Ok(WatchEvent::Skipped(
        skipped(object, error),
        version.unwrap_or_default().into(),
    ))
}

struct EventVisitor<K>(PhantomData<K>);

impl<'de, K: Resource> Visitor<'de> for EventVisitor<K> {
    type Value = WatchEvent<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a watch event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut kind: Option<String> = None;
        let mut early: Option<Value> = None;
        let mut event = None;
        while let Some(key) = map.next_key::<String>()? {
            match (key.as_str(), &kind) {
                ("type", _) => kind = Some(map.next_value()?),
                ("object", Some(kind)) => {
                    event = Some(map.next_value_seed(EventObject(kind, PhantomData))?)
                }
                ("object", None) => early = Some(map.next_value()?),
                _ => {
                    map.next_value::<de::IgnoredAny>()?;
                }
            }
        }
        if let (Some(kind), Some(value), None) = (&kind, &early, &event) {
            // Via text, since decoders of objects are large code, and this never happens in practice.
            let text = value.to_string();
            let mut object = serde_json::Deserializer::from_slice(text.as_bytes());
            let read = EventObject(kind, PhantomData).deserialize(&mut object);
            event = Some(read.map_err(de::Error::custom)?);
        }
        event.ok_or_else(|| de::Error::custom("a watch event needs a type and an object"))
    }
}

/// Reads the object of a watch event of that type.
struct EventObject<'a, K>(&'a str, PhantomData<K>);

impl<'de, K: Resource> DeserializeSeed<'de> for EventObject<'_, K> {
    type Value = WatchEvent<K>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let make = match self.0 {
            "ADDED" => WatchEvent::Added,
            "MODIFIED" => WatchEvent::Modified,
            "DELETED" => WatchEvent::Deleted,
            "BOOKMARK" => {
                let wire = BookmarkWire::deserialize(deserializer)?;
                let version = wire.metadata.unwrap_or_default().resource_version;
                return Ok(WatchEvent::Bookmark(version.unwrap_or_default()));
            }
            "ERROR" => return Status::deserialize(deserializer).map(WatchEvent::Error),
            other => {
                let expected = &"ADDED, MODIFIED, DELETED, BOOKMARK or ERROR";
                return Err(de::Error::invalid_value(
                    de::Unexpected::Str(other),
                    expected,
                ));
            }
        };
        let object = K::deserialize(deserializer)?;
        if object.is_ours() {
            return Ok(make(object));
        }
        Ok(WatchEvent::NotOurs(Box::new(object.metadata().clone())))
    }
}

#[derive(serde::Deserialize)]
struct ListWire<I> {
    metadata: Option<ListMetaWire>,
    items: Option<I>,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetaWire {
    resource_version: Option<ResourceVersion>,
    #[serde(rename = "continue")]
    continue_token: Option<String>,
}

#[derive(serde::Deserialize)]
struct BookmarkWire {
    metadata: Option<ListMetaWire>,
}

/// The objects of a page that belong to this service. Others are dropped while decoding, so they
/// need no memory.
struct Items<K>(Vec<K>);

impl<'de, K: Resource> Deserialize<'de> for Items<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemsVisitor(PhantomData))
    }
}

struct ItemsVisitor<K>(PhantomData<K>);

impl<'de, K: Resource> Visitor<'de> for ItemsVisitor<K> {
    type Value = Items<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items<K>, A::Error> {
        let mut items = Vec::new();
        while let Some(object) = seq.next_element()? {
            items.extend(Some(object).filter(K::is_ours));
        }
        Ok(Items(items))
    }
}
