//! What is kept of a text or a list that others write: decoders that cut it while they read.
//!
//! Kubernetes bounds an object as a whole (1.5 MiB in etcd) and few of its fields, and a store holds
//! thousands of objects. What a field means is not known here.

use super::scalars::from_text;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// How much of a name is kept, in bytes: Kubernetes' own bound, which it does not check everywhere.
pub const NAME_BYTES_MAX: usize = 253;

/// How much of a container's name is kept, in bytes: Kubernetes' own bound.
pub const CONTAINER_NAME_BYTES_MAX: usize = 63;

/// How much of a reason is kept, in bytes: one word.
pub const REASON_BYTES_MAX: usize = 64;

/// How much of one message is kept, in bytes: the kubelet's bound of a termination message.
pub const MESSAGE_BYTES_MAX: usize = 4096;

/// How many containers and how many init containers of a pod are read: its first ones.
pub const CONTAINERS_MAX: usize = 32;

/// A text, cut after so many bytes, but not within a character.
pub(super) struct Text<const MAX: usize>(pub(super) Box<str>);

impl<'de, const MAX: usize> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a string", |text| {
            Some(Self(text[..text.floor_char_boundary(MAX)].into()))
        })
    }
}

/// A name, cut to [`NAME_BYTES_MAX`].
pub(super) type Name = Text<NAME_BYTES_MAX>;

/// The name of a container.
pub(super) type ContainerName = Text<CONTAINER_NAME_BYTES_MAX>;

/// A reason, cut to [`REASON_BYTES_MAX`], or none.
pub(super) fn reason<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Box<str>>, D::Error> {
    let text: Option<Text<REASON_BYTES_MAX>> = Deserialize::deserialize(deserializer)?;
    Ok(text.map(|text| text.0))
}

/// A message, cut to [`MESSAGE_BYTES_MAX`], or none.
pub(super) fn message<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Box<str>>, D::Error> {
    let text: Option<Text<MESSAGE_BYTES_MAX>> = Deserialize::deserialize(deserializer)?;
    Ok(text.map(|text| text.0))
}

/// Reads the elements of a list one by one; `null` is an empty list.
pub(super) fn fold<'de, T: Deserialize<'de>, A, D: Deserializer<'de>>(
    deserializer: D,
    start: A,
    add: impl FnMut(&mut A, T),
) -> Result<A, D::Error> {
    deserializer.deserialize_option(Fold(start, add, PhantomData))
}

/// Reads at most so many elements of a list, the first ones.
pub(super) fn first<'de, T: Deserialize<'de>, const MAX: usize, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    fold(deserializer, Vec::new(), |list, element| {
        if list.len() < MAX {
            list.push(element);
        }
    })
}

struct Fold<A, F, T>(A, F, PhantomData<T>);

impl<'de, T: Deserialize<'de>, A, F: FnMut(&mut A, T)> Visitor<'de> for Fold<A, F, T> {
    type Value = A;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_none<E>(self) -> Result<A, E> {
        Ok(self.0)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<A, D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<S: SeqAccess<'de>>(mut self, mut list: S) -> Result<A, S::Error> {
        while let Some(element) = list.next_element()? {
            (self.1)(&mut self.0, element);
        }
        Ok(self.0)
    }
}
