//! [`Stuck`]: one name whose calls fail and whose pods hang for as long as the schedule lasts, while all
//! others must go on.
//!
//! Lists and watches show it as ever. What must always hold holds for it, too. While each of the others is
//! started and stopped at the end, callers of the stuck name wait at every replica.

use config_controller::kube::request::Request;

use super::callers::RequestKind;
use super::dice::Dice;
use super::profile::Profile;
use super::promises::Breach;
use super::replica::WAITS;
use super::world::{World, key_of};
use crate::fake_kube::faults::Fault;

/// A Job name, and the fault that each call for it and its pods meets.
#[derive(Clone, Debug)]
pub(super) struct Stuck {
    /// The name.
    pub(super) job: String,
    fault: Fault,
}

impl Stuck {
    /// Draws the fault.
    pub(super) fn draw(job: &str, dice: &mut Dice) -> Self {
        let faults = [
            Fault::Status(500),
            Fault::Status(503),
            Fault::Raw(403, "<html>no</html>"),
            Fault::TooManyRequests {
                retry_after_secs: 1,
            },
            Fault::Drop,
            Fault::LoseAnswer,
            Fault::Forbidden,
            Fault::Null,
        ];
        Self {
            job: job.to_owned(),
            fault: faults[dice.roll(faults.len())].clone(),
        }
    }

    /// The fault of this request.
    pub(super) fn fault(&self, request: &Request) -> Option<Fault> {
        let is_it = request.name.as_deref().is_some_and(|name| self.has(name));
        is_it.then(|| self.fault.clone())
    }

    /// Whether the object of that name is the Job or one of its pods.
    fn has(&self, name: &str) -> bool {
        let rest = name.strip_prefix(&*self.job);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }
}

impl Profile {
    /// Whether what has that name fails for ever.
    pub(super) fn is_stuck(&self, name: &str) -> bool {
        self.stuck.as_ref().is_some_and(|stuck| stuck.has(name))
    }
}

impl World {
    /// Requests a start and a stop of the stuck name at each replica, which wait for as long as they can: every
    /// call for them fails meanwhile.
    pub(super) fn request_what_is_stuck(&mut self) -> Result<(), Breach> {
        let mut pairs = self.profile.pairs.clone();
        pairs.retain(|pair| self.profile.is_stuck(&key_of(pair).job_name()));
        for pair in &pairs {
            for number in 0..self.replicas.len() {
                for kind in [RequestKind::Ensure, RequestKind::StopAndWait] {
                    self.send_request(number, pair, kind, Some(WAITS.start_wait_max))?;
                }
            }
        }
        Ok(())
    }
}
