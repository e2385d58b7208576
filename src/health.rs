//! Is the process alive, and may it get requests: verdicts over inputs of life.
//!
//! Pure. An old cache is no reason to be unready: that would empty the Service on all
//! replicas at once, just when reads from memory are needed (see `/readyz` in the README).

use std::fmt;
use std::time::Duration;

/// What is known of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthInputs {
    /// Whether all that there is has been seen once.
    pub synced: bool,
    /// Whether the process is ending.
    pub stopping: bool,
    /// The threads that must come round.
    pub beats: Vec<Beat>,
}

/// The heartbeat of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// What the thread is called.
    pub thread: &'static str,
    /// How long ago it last came round.
    pub since: Duration,
    /// After how long it is taken for dead.
    pub latest: Duration,
}

/// Where the inputs come from.
pub trait HealthSource: fmt::Debug + Send + Sync {
    /// The inputs now.
    fn inputs(&self) -> HealthInputs;
}

/// Why a probe fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthError {
    /// The stable word.
    pub code: &'static str,
    /// The sentence for people.
    pub message: String,
}

/// Whether the process is alive; if not, only a restart helps.
///
/// # Errors
/// The thread that has not come round.
pub fn live(inputs: &HealthInputs) -> Result<(), HealthError> {
    match inputs.beats.iter().find(|beat| beat.since > beat.latest) {
        None => Ok(()),
        Some(beat) => Err(HealthError {
            code: "internal",
            message: format!(
                "the thread {} has not come round for {} s",
                beat.thread,
                beat.since.as_secs()
            ),
        }),
    }
}

/// Whether the process may get requests.
///
/// # Errors
/// That it has not yet seen all there is, or that it is ending.
pub fn ready(inputs: &HealthInputs) -> Result<(), HealthError> {
    if inputs.stopping {
        return Err(HealthError {
            code: "draining",
            message: "this replica is about to end".into(),
        });
    }
    if !inputs.synced {
        let message = "the state of the namespace has not been read yet".into();
        return Err(HealthError {
            code: "not_synced",
            message,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_does_not_come_round_is_told_at_the_bound() {
        let latest = Duration::from_secs(60);
        let inputs = |since| HealthInputs {
            beats: vec![Beat {
                thread: "coordinator",
                since,
                latest,
            }],
            ..HealthInputs::default()
        };
        assert_eq!(live(&inputs(latest)), Ok(()));
        let ailment = live(&inputs(latest + Duration::from_secs(1))).unwrap_err();
        assert_eq!(
            ailment.message,
            "the thread coordinator has not come round for 61 s"
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
