//! [`Expectation`]: what a request expects of the instance that is there.
//!
//! Pure. [`super::coordinator`] decides what a request gets whose expectation is not met, and sees to it
//! that a precondition is not held against an old cache alone.

use crate::kube::types::{Fingerprint, Job, Pod, UID_BYTES_MAX, Uid};
use std::sync::Arc;

/// What a request expects of the instance that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Expectation {
    /// Nothing.
    #[default]
    None,
    /// To be made with the values of this revision (`Prefer: match=values`).
    Values(Arc<str>),
    /// To be the one that the caller knows (`If-Match`).
    Precondition(Arc<Precondition>),
}

/// Whether an instance is made with the values that a request expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValuesMatch {
    /// It is.
    Same,
    /// It is made with others.
    Other,
    /// The request expects none, or the instance does not say: an older version has made it.
    Unknown,
}

/// Which instances a change may change: those with one of these UIDs or fingerprints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    /// Any that exists.
    is_any: bool,
    uids: Vec<Uid>,
    fingerprints: Vec<Fingerprint>,
}

/// Why a precondition holds, or that it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// It does not.
    No,
    /// For this Job, whatever its state.
    ForJob,
    /// For this Job in this state.
    ForState,
}

/// What a tag begins with that names a UID.
const UID: &str = "uid:";

impl Precondition {
    /// That there is an instance.
    #[must_use]
    pub fn any() -> Self {
        Self {
            is_any: true,
            ..Self::default()
        }
    }

    /// Adds an entity tag, without its quotes: a fingerprint, or `uid:` and a UID. Another one matches
    /// nothing.
    pub fn add(&mut self, tag: &str) {
        let uid = tag.strip_prefix(UID);
        let uid = uid.filter(|uid| !uid.is_empty() && uid.len() <= UID_BYTES_MAX);
        self.uids.extend(uid.map(Uid::from));
        self.fingerprints.extend(Fingerprint::parse(tag));
    }

    fn holds(&self, job: &Job, pod: Option<&Pod>) -> Holds {
        if self.is_any || self.uids.contains(&job.metadata.uid) {
            Holds::ForJob
        } else if pod.is_some_and(|pod| self.fingerprints.contains(&pod.fingerprint)) {
            Holds::ForState
        } else {
            Holds::No
        }
    }
}

impl Expectation {
    /// Whether this Job is made with the expected values.
    #[must_use]
    pub fn compare_values(&self, job: &Job) -> ValuesMatch {
        match (self, job.values_revision()) {
            (Self::Values(expected), Some(revision)) if **expected == *revision => {
                ValuesMatch::Same
            }
            (Self::Values(_), Some(_)) => ValuesMatch::Other,
            (Self::Values(_), None) | (Self::None | Self::Precondition(_), _) => {
                ValuesMatch::Unknown
            }
        }
    }

    /// Whether it is a precondition of a change.
    #[must_use]
    pub const fn is_precondition(&self) -> bool {
        matches!(self, Self::Precondition(_))
    }

    /// Whether the precondition of a change holds for this Job and its pod; none holds for every Job.
    #[must_use]
    pub fn holds(&self, job: Option<&Job>, pod: Option<&Pod>) -> Holds {
        match (self, job) {
            (Self::Precondition(precondition), Some(job)) => precondition.holds(job, pod),
            (Self::Precondition(_), None) => Holds::No,
            (Self::None | Self::Values(_), _) => Holds::ForJob,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::types::Resource as _;
    use serde_json::json;

    fn job(uid: &str) -> Job {
        let job = json!({"metadata": {"name": "j", "uid": uid}, "spec": {"template": {"metadata": {
            "labels": {"config-controller.semafor.ch/instance-type": "t", "config-controller.semafor.ch/instance-name": "n"},
        }}}});
        Job::decode(job.to_string().as_bytes()).unwrap().unwrap()
    }

    fn holds(tags: &[&str], uid: &str, pod: Option<&Pod>) -> Holds {
        let mut precondition = Precondition::default();
        tags.iter().for_each(|tag| precondition.add(tag));
        Expectation::Precondition(precondition.into()).holds(Some(&job(uid)), pod)
    }

    #[test]
    fn a_precondition_holds_for_a_job_or_a_state() {
        let uid = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
        let of_uid = format!("uid:{uid}");
        let digits = "00112233445566778899aabbccddeeff";
        let pod = Pod {
            fingerprint: Fingerprint::parse(digits).unwrap(),
            ..Pod::default()
        };
        for (tags, expected) in [
            (&[][..], Holds::No),
            (&["x", uid, "uid:", "uid:x", "UID:0"], Holds::No),
            (&[digits], Holds::ForState),
            (&["x", digits], Holds::ForState),
            (&[&of_uid], Holds::ForJob),
            (&[digits, &of_uid], Holds::ForJob),
        ] {
            assert_eq!(holds(tags, uid, Some(&pod)), expected, "{tags:?}");
        }
        assert_eq!(holds(&[digits], uid, None), Holds::No);
        assert_eq!(holds(&[&of_uid], uid, None), Holds::ForJob);
        let any = Expectation::Precondition(Precondition::any().into());
        assert_eq!(any.holds(Some(&job(uid)), None), Holds::ForJob);
        assert_eq!(any.holds(None, None), Holds::No);
        assert_eq!(Expectation::None.holds(None, None), Holds::ForJob);
    }

    /// A longer UID is kept cut, but does not match what is cut alike.
    #[test]
    fn a_uid_that_is_too_long_matches_nothing() {
        let long = "u".repeat(UID_BYTES_MAX);
        let tag = |uid: &str| format!("uid:{uid}");
        assert_eq!(holds(&[&tag(&long)], &long, None), Holds::ForJob);
        assert_eq!(
            holds(&[&tag(&(long.clone() + "x"))], &long, None),
            Holds::No
        );
    }
}
