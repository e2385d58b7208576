//! [`Signals`]: what the probes of this process look at.
//!
//! Values only; what follows from them is decided in [`crate::health`].

use crate::app::App;
use crate::clock::Clock;
use crate::health::{HealthInputs, HealthSource};
use crate::threads::Heartbeats;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The health inputs of this process.
pub(super) struct Signals {
    pub(super) app: App,
    pub(super) stopping: AtomicBool,
    pub(super) heartbeats: Heartbeats,
    pub(super) clock: Arc<dyn Clock>,
}

/// Only the name: the program would otherwise have in it how all parts are printed, which nobody asks for.
impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signals")
    }
}

impl HealthSource for Signals {
    fn inputs(&self) -> HealthInputs {
        HealthInputs {
            synced: self.app.is_synced(),
            stopping: self.stopping.load(Ordering::SeqCst),
            stuck: self.heartbeats.stuck(self.clock.now()),
        }
    }
}
