//! [`Fingerprint`]: what callers get of a pod, as a short value that changes with it.
//!
//! Pure. It is computed when a pod is decoded, so a read costs nothing. All replicas compute the same
//! one. What it is good for (entity tags, preconditions) is decided in [`crate::app`] and
//! [`crate::http`].

use super::scalars::{bytes_of_hex, hex_digits};
use super::{META_ANNOTATION, META_LABEL, ObjectMeta, Uid};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::net::IpAddr;

/// A digest of the UID of a pod's Job, of its address and of its meta labels: the first 128 bits of a
/// SHA-256. Callers set labels, and none may find two sets with the same one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint([u8; Self::BYTES]);

impl Fingerprint {
    const BYTES: usize = 16;

    /// That of a pod with this owner, address and metadata. Labels that are not kept do not count; no
    /// caller gets them.
    pub(super) fn of(owner: Option<&Uid>, ip: Option<IpAddr>, metadata: &ObjectMeta) -> Self {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        add(&owner.map(ToString::to_string).unwrap_or_default());
        add(&ip.map(|ip| ip.to_string()).unwrap_or_default());
        let labels = metadata.labels.iter();
        let annotations = metadata.annotations.iter();
        let pairs = labels
            .filter(|(key, _)| key.starts_with(META_LABEL))
            .chain(annotations.filter(|(key, _)| key.starts_with(META_ANNOTATION)));
        for (key, value) in pairs {
            add(key);
            add(value);
        }
        let mut bytes = [0; Self::BYTES];
        bytes.copy_from_slice(&hash.finalize()[..Self::BYTES]);
        Self(bytes)
    }

    /// The one that is printed like this.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        bytes_of_hex(text.bytes()).map(Self)
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = hex_digits(&self.0);
        f.write_str(std::str::from_utf8(&digits).expect("digits are ASCII"))
    }
}
