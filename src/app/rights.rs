//! Rights that this service can do without, and has turned out not to have: what does not work then is said where
//! authors of templates look.
//!
//! Only kept here: whoever makes a call finds out, and the log has the error itself.

use crate::model::job::{JobSettings, OnChange};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is not done without the rights on Leases.
const NO_LEASES: &str = "idle-timeout has no effect, nor has restart-idle: the service cannot list, watch, create and patch Leases in its own namespace, so nothing is stopped as idle (its log has the error)";

/// The rights that are missing; clones share them.
#[derive(Clone, Debug, Default)]
pub struct MissingRights {
    leases: Arc<AtomicBool>,
}

impl MissingRights {
    /// Whether those on Leases are missing.
    #[must_use]
    pub fn leases(&self) -> bool {
        self.leases.load(Ordering::Relaxed)
    }

    /// Notes whether those on Leases are missing; returns whether that is new.
    #[must_use]
    pub fn note_leases(&self, are_missing: bool) -> bool {
        self.leases.swap(are_missing, Ordering::Relaxed) != are_missing
    }

    /// What the author of a template with these settings should know.
    #[must_use]
    pub fn warning(&self, settings: &JobSettings) -> Option<&'static str> {
        let is_about_uses =
            settings.idle_timeout.is_some() || settings.on_change == OnChange::RestartIdle;
        (is_about_uses && self.leases()).then_some(NO_LEASES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn who_has_a_timeout_is_warned_while_rights_are_missing() {
        let rights = MissingRights::default();
        let settings = |idle_timeout| JobSettings {
            idle_timeout,
            ..JobSettings::default()
        };
        let timed = settings(Some(Duration::from_secs(60)));
        assert_eq!(rights.warning(&timed), None);
        assert!(rights.note_leases(true) && rights.clone().leases());
        assert!(!rights.note_leases(true), "that is known");
        assert_eq!(rights.warning(&timed), Some(NO_LEASES));
        assert_eq!(rights.warning(&settings(None)), None);
        assert!(rights.note_leases(false));
        assert_eq!(rights.warning(&timed), None);
    }
}
