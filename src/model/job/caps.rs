//! How many instances may run: the caps of a type, what a Job carries of them, and whether it was admitted.
//!
//! Pure. A Job that a cap holds for is created suspended, with the annotations [`ADMISSION`] and [`CAPS`]: what
//! held when it was created decides, whichever replica does. Which Job is admitted is computed in
//! `crate::app::admissions`.

use crate::kube::types::Job;
use serde_json::{Value, json};
use std::fmt;

/// Annotation of a Job that a cap holds for: whether it may run.
pub const ADMISSION: &str = "config-controller.semafor.ch/admission";

/// Its value until that is decided.
pub const UNDECIDED: &str = "undecided";

/// Its value once the Job may run.
pub const ADMITTED: &str = "admitted";

/// Annotation of a Job: the caps that held when it was created.
const CAPS: &str = "config-controller.semafor.ch/caps";

/// Annotation (raw) and label of a Job and its pod: whose instance it is.
pub(super) const OWNER: &str = "config-controller.semafor.ch/owner";

/// The largest cap.
pub const CAP_MAX: u32 = 1_000_000;

/// What a cap counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CapScope {
    /// The instances of a type.
    Type,
    /// The instances of a type that one owner has.
    Owner,
    /// All instances.
    All,
}

impl CapScope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Type, Self::Owner, Self::All];

    /// The word for it in metrics and in the annotation of Jobs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Owner => "owner",
            Self::All => "all",
        }
    }

    /// The annotation or the setting that sets the cap.
    #[must_use]
    pub const fn setting(self) -> &'static str {
        match self {
            Self::Type => "max-instances",
            Self::Owner => "max-per-owner",
            Self::All => "MAX_INSTANCES",
        }
    }
}

/// The caps that hold for instances of a type; `None`: there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// `max-instances`: of the type.
    pub of_type: Option<u32>,
    /// `max-per-owner`: of the type and one owner.
    pub per_owner: Option<u32>,
    /// `MAX_INSTANCES`: of all types together.
    pub of_all: Option<u32>,
}

impl Caps {
    /// The caps, and what each counts.
    pub fn iter(&self) -> impl Iterator<Item = (CapScope, u32)> + use<> {
        let caps = [self.of_type, self.per_owner, self.of_all];
        let all = CapScope::ALL.into_iter().zip(caps);
        all.filter_map(|(scope, cap)| Some((scope, cap?)))
    }

    /// Whether no cap holds.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Those that a Job carries.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        let text = job.metadata.annotations.get(CAPS).unwrap_or_default();
        let find = |scope: CapScope| {
            let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
            let mut found = pairs.filter(|(name, _)| *name == scope.as_str());
            found.next().and_then(|(_, cap)| cap.parse().ok())
        };
        Self {
            of_type: find(CapScope::Type),
            per_owner: find(CapScope::Owner),
            of_all: find(CapScope::All),
        }
    }

    /// Makes a Job wait for its admission, if a cap holds for it.
    pub(super) fn suspend(&self, metadata: &mut Value, spec: &mut Value) {
        if self.is_empty() {
            return;
        }
        spec["suspend"] = json!(true);
        metadata["annotations"][ADMISSION] = json!(UNDECIDED);
        metadata["annotations"][CAPS] = json!(self.to_string());
    }
}

/// As the annotation of Jobs has them: `type=20 owner=3`.
impl fmt::Display for Caps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (scope, cap)) in self.iter().enumerate() {
            let between = if number > 0 { " " } else { "" };
            write!(f, "{between}{}={cap}", scope.as_str())?;
        }
        Ok(())
    }
}

/// A cap, or that there is none.
///
/// # Errors
/// What was expected instead.
pub fn parse_cap(text: &str) -> Result<Option<u32>, String> {
    if text == NO_CAP {
        return Ok(None);
    }
    let cap = text.parse().ok().filter(|cap| (1..=CAP_MAX).contains(cap));
    let expected = || format!("a whole number from 1 to {CAP_MAX}, or {NO_CAP}");
    cap.map(Some).ok_or_else(expected)
}

/// That there is no cap.
pub(super) const NO_CAP: &str = "none";

/// Whether this Job waits for its admission. One that others have suspended, or started, does not.
#[must_use]
pub fn is_undecided(job: &Job) -> bool {
    job.suspend && job.metadata.annotations.get(ADMISSION) == Some(UNDECIDED)
}

/// Whose instance it is; `None` if nobody's in particular.
#[must_use]
pub fn owner(job: &Job) -> Option<&str> {
    job.metadata.annotations.get(OWNER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_is_a_number_from_1_or_none() {
        assert_eq!(parse_cap("none"), Ok(None));
        assert_eq!(parse_cap("1"), Ok(Some(1)));
        assert_eq!(parse_cap("1000000"), Ok(Some(CAP_MAX)));
        for wrong in ["0", "-1", "1000001", "1.5", "", "never"] {
            let expected = "a whole number from 1 to 1000000, or none";
            assert_eq!(parse_cap(wrong), Err(expected.into()), "{wrong}");
        }
    }

    #[test]
    fn a_job_carries_the_caps_that_hold_for_it_and_is_suspended() {
        let caps = Caps {
            of_type: Some(20),
            per_owner: Some(3),
            of_all: None,
        };
        let mut made =
            json!({"metadata": {"name": "n", "annotations": {}}, "spec": {"template": {}}});
        let mut spec = made["spec"].take();
        caps.suspend(&mut made["metadata"], &mut spec);
        made["spec"] = spec;
        let annotations = &made["metadata"]["annotations"];
        assert_eq!(annotations[CAPS], "type=20 owner=3");
        let job: Job = serde_json::from_value(made.clone()).unwrap();
        assert_eq!(Caps::of(&job), caps);
        assert!(is_undecided(&job));
        for (path, value) in [
            ("/spec/suspend", json!(false)),
            (
                "/metadata/annotations/config-controller.semafor.ch~1admission",
                json!(ADMITTED),
            ),
        ] {
            let mut other = made.clone();
            *other.pointer_mut(path).unwrap() = value;
            let job: Job = serde_json::from_value(other).unwrap();
            assert!(!is_undecided(&job), "{path}");
        }
        let (mut metadata, mut spec) = (json!({}), json!({}));
        Caps::default().suspend(&mut metadata, &mut spec);
        assert_eq!((metadata, spec), (json!({}), json!({})));
        assert_eq!(Caps::of(&Job::default()), Caps::default());
    }
}
