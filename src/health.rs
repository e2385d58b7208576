//! Is the process alive, and may it get requests: verdicts over signs of life.
//!
//! Pure. An old view is no reason to be unready: that would empty the Service on all
//! replicas at once, just when reads from memory are needed (see `/readyz` in the README).

use std::fmt;
use std::time::Duration;

/// What is known of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signs {
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

/// Where the signs come from.
pub trait Vitals: fmt::Debug + Send + Sync {
    /// The signs now.
    fn signs(&self) -> Signs;
}

/// Why a probe fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ailment {
    /// The stable word.
    pub code: &'static str,
    /// The sentence for people.
    pub message: String,
}

/// Whether the process is alive; if not, only a restart helps.
///
/// # Errors
/// The thread that has not come round.
pub fn live(signs: &Signs) -> Result<(), Ailment> {
    match signs.beats.iter().find(|beat| beat.since > beat.latest) {
        None => Ok(()),
        Some(beat) => Err(Ailment {
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
pub fn ready(signs: &Signs) -> Result<(), Ailment> {
    if signs.stopping {
        return Err(Ailment {
            code: "draining",
            message: "this replica is about to end".into(),
        });
    }
    if !signs.synced {
        let message = "the state of the namespace has not been read yet".into();
        return Err(Ailment {
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
        let signs = |since| Signs {
            beats: vec![Beat {
                thread: "desk",
                since,
                latest,
            }],
            ..Signs::default()
        };
        assert_eq!(live(&signs(latest)), Ok(()));
        let ailment = live(&signs(latest + Duration::from_secs(1))).unwrap_err();
        assert_eq!(
            ailment.message,
            "the thread desk has not come round for 61 s"
        );
    }

    #[test]
    fn ready_means_synced_and_not_stopping() {
        let signs = |synced, stopping| Signs {
            synced,
            stopping,
            ..Signs::default()
        };
        assert_eq!(ready(&signs(true, false)), Ok(()));
        assert_eq!(ready(&signs(false, false)).unwrap_err().code, "not_synced");
        assert_eq!(ready(&signs(true, true)).unwrap_err().code, "draining");
    }
}
