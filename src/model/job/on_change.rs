//! What becomes of instances when their template changes, and what a Job carries so that it can be made again.
//!
//! Pure. A Job of a type that has anything restarted carries its values; which instances are restarted when is
//! decided in `crate::app::restarts`.

use crate::kube::types::{JOB_VALUES, JOB_VALUES_BYTES_MAX, Job, RESTARTED_FOR};
use crate::model::template::Variables;
use serde_json::{Value, json};

/// What becomes of the instances of a type when its template changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnChange {
    /// They stay as they are.
    #[default]
    Keep,
    /// Each is restarted when nobody uses it.
    RestartIdle,
    /// They are restarted.
    Restart,
}

impl OnChange {
    /// All values, as annotations have them.
    const ALL: [Self; 3] = [Self::Keep, Self::RestartIdle, Self::Restart];

    /// The word in annotations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::RestartIdle => "restart-idle",
            Self::Restart => "restart",
        }
    }

    /// The value of this word.
    ///
    /// # Errors
    /// What was expected instead.
    pub(super) fn parse(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == word);
        found.ok_or_else(|| "keep, restart-idle or restart".to_owned())
    }
}

/// Adds to the annotations of a Job what is needed to make it again.
pub(in crate::model) fn mark(
    annotations: &mut Value,
    variables: &Variables,
    restarted_for: Option<&str>,
) {
    let pairs: Vec<(&str, &str)> = variables.iter().collect();
    let text = json!(pairs).to_string();
    if text.len() <= JOB_VALUES_BYTES_MAX {
        annotations[JOB_VALUES] = json!(text);
    }
    if let Some(revision) = restarted_for {
        annotations[RESTARTED_FOR] = json!(revision);
    }
}

/// Whether this Job was made since its template had changed to the revision that it has.
#[must_use]
pub fn is_restarted(job: &Job) -> bool {
    let revision = job.metadata.annotations.get(RESTARTED_FOR);
    revision.is_some() && revision == job.template_revision()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::types::Resource as _;

    fn job(annotations: &Value) -> Job {
        let job = json!({"metadata": {"name": "a", "annotations": annotations}, "spec": {"template": {"metadata": {
            "labels": {"config-controller.semafor.ch/instance-type": "t", "config-controller.semafor.ch/instance-name": "n"},
        }}}});
        Job::decode(job.to_string().as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for value in OnChange::ALL {
            assert_eq!(OnChange::parse(value.as_str()), Ok(value));
        }
        let expected = "keep, restart-idle or restart";
        assert_eq!(OnChange::parse("Restart"), Err(expected.to_owned()));
    }

    #[test]
    fn a_restarted_job_says_so_of_its_own_revision() {
        let of = |template: &str, restarted: &str| {
            is_restarted(&job(&json!({
                "config-controller.semafor.ch/template-revision": template,
                RESTARTED_FOR: restarted,
            })))
        };
        assert!(of("r2", "r2"));
        assert!(!of("r3", "r2"));
        assert!(!is_restarted(&job(&json!({}))));
    }
}
