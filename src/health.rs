//! Liveness and readiness of the process, computed from what is known of its threads.
//!
//! Pure: inputs come from a [`HealthSource`]. A stale cache does not make a replica unready: all
//! replicas would leave the Service together, just when reads from memory are needed (see `/readyz`
//! in `manifests/README.md`).

use crate::threads::Stuck;
use std::fmt;

/// The inputs of the probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthInputs {
    /// Whether every watch has listed its objects once.
    pub synced: bool,
    /// Whether the process is shutting down.
    pub stopping: bool,
    /// A thread that requests depend on, and that is stuck.
    pub stuck: Option<Stuck>,
}

/// The source of the inputs.
pub trait HealthSource: fmt::Debug + Send + Sync {
    /// The inputs now.
    fn inputs(&self) -> HealthInputs;
}

/// Why a probe fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthError {
    /// The stable code for programs.
    pub code: &'static str,
    /// The sentence for people.
    pub message: String,
}

/// Whether the process is alive; if not, only a restart fixes it.
///
/// # Errors
/// A thread is stuck.
pub fn live(inputs: &HealthInputs) -> Result<(), HealthError> {
    match &inputs.stuck {
        None => Ok(()),
        Some(Stuck { thread, age }) => Err(HealthError {
            code: "internal",
            message: format!(
                "thread \"{thread}\" has not responded for {} s",
                age.as_secs()
            ),
        }),
    }
}

/// Whether the process may receive requests.
///
/// # Errors
/// `draining` while it shuts down, `not_synced` before every watch has listed its objects.
pub fn ready(inputs: &HealthInputs) -> Result<(), HealthError> {
    let (code, message) = if inputs.stopping {
        ("draining", "this replica is shutting down")
    } else if !inputs.synced {
        let message = "this replica has not read the state of the namespace yet";
        ("not_synced", message)
    } else {
        return Ok(());
    };
    Err(HealthError {
        code,
        message: message.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alive_means_that_no_thread_is_stuck() {
        let inputs = |stuck| HealthInputs {
            stuck,
            ..HealthInputs::default()
        };
        assert_eq!(live(&inputs(None)), Ok(()));
        let stuck = Stuck {
            thread: "coordinator".into(),
            age: std::time::Duration::from_secs(61),
        };
        assert_eq!(
            live(&inputs(Some(stuck))).unwrap_err().message,
            "thread \"coordinator\" has not responded for 61 s"
        );
    }

    #[test]
    fn ready_means_synced_and_not_stopping() {
        let inputs = |synced, stopping| HealthInputs {
            synced,
            stopping,
            ..HealthInputs::default()
        };
        assert_eq!(ready(&inputs(true, false)), Ok(()));
        assert_eq!(ready(&inputs(false, false)).unwrap_err().code, "not_synced");
        assert_eq!(ready(&inputs(true, true)).unwrap_err().code, "draining");
    }
}
