//! What an unreliable world does: watches lose events, etcd is restored from an older copy, and a replica
//! stands still.
//!
//! Where events are lost or versions go back, a replica cannot know better than its cache until that
//! has healed. So responses are then compared with all that was ever true, and what must hold is that
//! every cache is up to date at the end, and that calls stay few meanwhile.

use std::time::{Duration, Instant};

use config_controller::app::coordinator::WRITE_WAIT;
use config_controller::clock::Clock;
use config_controller::kube::watch::PAUSE;

use super::promises::{Breach, Floors, Promise, check};
use super::server::lock;
use super::world::World;
use crate::fake_kube::cluster::Backup;

/// What of the world is unreliable in a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreliable {
    /// Nothing.
    Nothing,
    /// Watches lose so many of a thousand events.
    Watches(usize),
    /// etcd is restored from older copies.
    Etcd,
}

impl Unreliable {
    /// Not drawn, so that the events of other schedules stay as they are.
    pub(super) fn of(seed: u64, is_calm: bool) -> Self {
        match seed % 9 {
            _ if is_calm => Self::Nothing,
            2 => Self::Watches(30),
            5 => Self::Watches(200),
            7 => Self::Etcd,
            _ => Self::Nothing,
        }
    }
}

/// How a replica stands still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    began: Instant,
    until: Instant,
}

impl World {
    /// The oldest states that responses to a request of now may be based on.
    pub(super) fn floors_of(&self, number: usize) -> Floors {
        match (&self.replicas[number], self.profile.unreliable) {
            (Some(replica), Unreliable::Nothing) => replica.floors(),
            _ => Floors { jobs: 0, pods: 0 },
        }
    }

    /// A copy of etcd is made, or takes the place of what is stored.
    pub(super) fn back_up_or_restore(&mut self) -> bool {
        if self.profile.unreliable != Unreliable::Etcd {
            return false;
        }
        match self.backup.take() {
            None => {
                let backup = self.server().model.cluster.back_up();
                self.backup = Some(backup);
                self.log(|| "etcd is backed up".to_owned());
            }
            Some(backup) => self.restore(&backup),
        }
        true
    }

    fn restore(&mut self, backup: &Backup) {
        {
            let mut server = lock(&self.server);
            server.restore(backup);
            self.truth.restore(&server.model.cluster);
        }
        let now = self.time.now();
        for waiting in self.waiting.values_mut().chain(self.hung_up.values_mut()) {
            waiting.requested_at = 0;
            // What its call has deleted may be there again.
            waiting.is_last_request = false;
        }
        for replica in self.replicas.iter_mut().flatten() {
            replica.sim.reader.story.is_restored = true;
        }
        self.stopped.clear();
        self.deleted.iter_mut().for_each(Vec::clear);
        for pair in self.profile.pairs.clone() {
            self.reasons.push_back((now, pair));
        }
        let restarts = self.dice.chance(500);
        if restarts {
            let reflectors = self.replicas.iter().flatten();
            let pipes = reflectors.flat_map(|replica| replica.reflectors.iter());
            pipes
                .filter_map(|reflector| reflector.pipe())
                .for_each(|pipe| lock(pipe).lose_connection());
        }
        self.count("restored");
        self.log(|| format!("etcd is restored; the API server restarts: {restarts}"));
    }

    /// Whether that replica stands still.
    pub(super) fn is_paused(&self, number: usize) -> bool {
        self.pauses[number].is_some()
    }

    /// That replica stands still for a while.
    pub(super) fn pause(&mut self, number: usize) -> bool {
        if self.replicas[number].is_none() || self.is_paused(number) {
            return false;
        }
        let secs = self.dice.pick(&[2, 8, 60, 400]);
        let began = self.time.now();
        let until = began + Duration::from_secs(secs);
        self.pauses[number] = Some(Pause { began, until });
        self.count("paused");
        self.log(|| format!("replica {number} stands still for {secs} s"));
        true
    }

    /// Replicas that have stood still for long enough go on; or all, if `is_over`.
    pub(super) fn end_pauses(&mut self, is_over: bool) -> Result<(), Breach> {
        let now = self.time.now();
        for number in 0..self.pauses.len() {
            let Some(pause) = self.pauses[number].filter(|pause| is_over || pause.until <= now)
            else {
                continue;
            };
            self.pauses[number] = None;
            self.log(|| format!("replica {number} goes on"));
            // A change that follows a wait has its time limit from when it can be made.
            for waiting in self.waiting.values_mut().filter(|it| it.replica == number) {
                if waiting.kind.writes_after_its_wait() {
                    waiting.deadline = waiting.deadline.max(now + WRITE_WAIT);
                }
            }
            let Some(replica) = &self.replicas[number] else {
                continue;
            };
            let lasted = now.saturating_duration_since(pause.began);
            for (resource, age) in replica.cache.ages(now) {
                let is_said = lasted < PAUSE || age >= lasted;
                check(Promise::PausesAreSaid, is_said, || {
                    format!("{resource} seem to be {age:?} old after {lasted:?}")
                })?;
            }
        }
        Ok(())
    }
}
