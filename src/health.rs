//! Liveness and readiness of the process, computed from what is known of its threads.
//!
//! Pure: inputs come from a [`HealthSource`]. A stale cache does not make a replica unready: all
//! replicas would leave the Service together, just when reads from memory are needed (see `/readyz`
//! in the README).

use std::fmt;
use std::time::Duration;

/// The inputs of the probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthInputs {
    /// Whether every watch has listed its objects once.
    pub synced: bool,
    /// Whether the process is shutting down.
    pub stopping: bool,
    /// The threads that must send a heartbeat.
    pub heartbeats: Vec<ThreadHeartbeat>,
}

/// The last heartbeat of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadHeartbeat {
    /// The name of the thread, as the error shows it.
    pub thread: &'static str,
    /// The time since its last heartbeat.
    pub age: Duration,
    /// The age above which the thread counts as stuck.
    pub age_max: Duration,
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
/// The thread with a heartbeat that is too old.
pub fn live(inputs: &HealthInputs) -> Result<(), HealthError> {
    let is_stuck = |one: &&ThreadHeartbeat| one.age > one.age_max;
    match inputs.heartbeats.iter().find(is_stuck) {
        None => Ok(()),
        Some(stuck) => Err(HealthError {
            code: "internal",
            message: format!(
                "thread \"{}\" has not responded for {} s",
                stuck.thread,
                stuck.age.as_secs()
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
    fn a_thread_is_stuck_once_its_heartbeat_is_older_than_the_bound() {
        let age_max = Duration::from_secs(60);
        let inputs = |age| HealthInputs {
            heartbeats: vec![ThreadHeartbeat {
                thread: "coordinator",
                age,
                age_max,
            }],
            ..HealthInputs::default()
        };
        assert_eq!(live(&inputs(age_max)), Ok(()));
        let error = live(&inputs(age_max + Duration::from_secs(1))).unwrap_err();
        assert_eq!(
            error.message,
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
