//! All flights by name: the one machine behind every start, stop and wait.
//!
//! Pure: [`Coordinator::step`] takes what happened and the time, and puts out calls to
//! Kubernetes and answers for tokens; [`Coordinator::next_wake`] says when it wants to be
//! called at the latest. The engine runs it on one thread; the simulation runs the
//! very same coordinator with a manual clock.

use super::cache::{Cache, Observed};
use super::catalog::Catalog;
use super::error::{Bound, Error};
use super::flight::{self, Context, Effect, Ensure, Flight, Label, Outcome, Stop};
use super::history::History;
use super::{Answer, Origin, RequestHandle};
use crate::kube::types::Uid;
use crate::model::names::InstanceKey;
use std::collections::{BTreeSet, HashMap};
use std::time::{Instant, SystemTime};

/// Bounds of the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests that may wait at the same time, and names that may be in work: a name can
    /// outlive its callers, but never without bound.
    pub parked_max: usize,
    /// Requests that may wait for one name at the same time.
    pub parked_per_key_max: usize,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A request about one name.
    Asked(InstanceKey, Wish),
    /// The caller of this token hung up.
    Abandoned(RequestHandle),
    /// A call about this name has ended.
    Completed(InstanceKey, Outcome),
    /// The cache of these names has changed.
    Changed(Vec<InstanceKey>),
    /// The service ends: answer all who wait, but for changes that can still be made until then.
    Drain(Instant),
}

/// What a request asks for.
#[derive(Clone, Debug)]
pub enum Wish {
    /// The instance, started if need be.
    Ensure(Ensure),
    /// That it stops.
    Stop(Stop),
    /// Other meta labels.
    Label(Label),
}

impl Wish {
    fn token(&self) -> RequestHandle {
        match self {
            Self::Ensure(ensure) => ensure.token,
            Self::Stop(stop) => stop.token,
            Self::Label(label) => label.token,
        }
    }
}

/// What time it is and what is known.
#[derive(Clone, Copy, Debug)]
pub struct Now<'a> {
    /// Monotonic time.
    pub now: Instant,
    /// Time of day.
    pub wall: SystemTime,
    /// What this replica knows of the cluster.
    pub cache: &'a Cache,
    /// What is on offer.
    pub catalog: &'a Catalog,
}

/// A pod that is being deleted.
#[derive(Debug)]
struct Leaving {
    pod: Uid,
    /// When this replica first saw that.
    since: Instant,
    overdue_at: Instant,
}

/// All flights.
#[derive(Debug)]
pub struct Coordinator {
    limits: Limits,
    flights: HashMap<InstanceKey, Flight>,
    /// Which name a waiting request belongs to.
    tokens: HashMap<RequestHandle, InstanceKey>,
    /// When each flight wants to be woken; the flights of one moment in any order.
    wakes: BTreeSet<(Instant, InstanceKey)>,
    wake_of: HashMap<InstanceKey, Instant>,
    /// By name the pod that is being deleted; as many as there are pods on their way out.
    leaving: HashMap<InstanceKey, Leaving>,
    history: History,
    /// Nobody waits any more.
    drained: bool,
    /// How many wishes of its own the coordinator has had.
    own_wishes: u64,
}

impl Coordinator {
    /// A coordinator at which nobody waits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            flights: HashMap::new(),
            tokens: HashMap::new(),
            wakes: BTreeSet::new(),
            wake_of: HashMap::new(),
            leaving: HashMap::new(),
            history: History::default(),
            drained: false,
            own_wishes: 0,
        }
    }

    /// How many requests wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.tokens.len()
    }

    /// Who waits for the instance of this name.
    pub fn callers(&self, key: &InstanceKey) -> impl Iterator<Item = &Origin> {
        self.flights.get(key).into_iter().flat_map(Flight::origins)
    }

    /// What is remembered of names.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// When to call [`Coordinator::tick`] at the latest.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Takes one thing that happened.
    pub fn step(&mut self, input: Input, now: &Now<'_>, out: &mut Vec<Effect>) {
        let before = out.len();
        match input {
            Input::Asked(key, wish) => self.asked(key, wish, now, out),
            Input::Abandoned(token) => {
                if let Some(key) = self.tokens.remove(&token) {
                    self.with_flight(&key, now, out, |flight, _, _| flight.leave(token));
                }
            }
            Input::Completed(key, outcome) => {
                self.note(&key, now);
                self.with_flight(&key, now, out, |flight, context, out| {
                    flight.completed(outcome, context, out);
                });
            }
            Input::Changed(keys) => {
                for key in keys {
                    self.note(&key, now);
                    self.pass_on_labels(&key, now);
                    self.with_flight(&key, now, out, Flight::wake);
                }
            }
            Input::Drain(until) => {
                self.drained = true;
                let keys: Vec<InstanceKey> = self.flights.keys().cloned().collect();
                for key in keys {
                    self.with_flight(&key, now, out, |flight, context, out| {
                        flight.drain(until, context, out);
                    });
                }
            }
        }
        self.keep_wanted(before, out);
    }

    /// Wakes the flights whose time has come.
    pub fn tick(&mut self, now: &Now<'_>, out: &mut Vec<Effect>) {
        let before = out.len();
        while let Some((at, key)) = self.wakes.first().cloned() {
            if at > now.now {
                break;
            }
            self.set_wake(&key, None);
            self.note(&key, now);
            if self.overdue_at(&key).is_some_and(|at| at <= now.now) {
                self.own_flight(&key);
            }
            self.with_flight(&key, now, out, Flight::wake);
            // A flight that has nothing to do at its own wake-up would be asked for ever.
            if self.wake_of.get(&key).is_some_and(|next| *next <= now.now) {
                self.set_wake(&key, Some(now.now + MINIMUM_NAP));
            }
        }
        self.keep_wanted(before, out);
    }

    fn asked(&mut self, key: InstanceKey, wish: Wish, now: &Now<'_>, out: &mut Vec<Effect>) {
        let token = wish.token();
        let admitted = self.admit(&key);
        self.tokens.insert(token, key.clone());
        if let Err(error) = admitted {
            out.push(Effect::Answer(token, Answer::Failed(error)));
            return;
        }
        self.flights
            .entry(key.clone())
            .or_insert_with(|| Flight::new(key.clone()));
        self.note(&key, now);
        self.with_flight(&key, now, out, |flight, context, out| match wish {
            Wish::Ensure(ensure) => flight.join_ensure(ensure, context, out),
            Wish::Stop(stop) => flight.join_stop(stop, context, out),
            Wish::Label(label) => flight.join_label(label, context, out),
        });
    }

    fn admit(&self, key: &InstanceKey) -> Result<(), Error> {
        if self.drained {
            return Err(Error::Draining);
        }
        if self.tokens.len() >= self.limits.parked_max {
            return Err(Error::TooManyRequests(Bound::Parked));
        }
        if !self.has_room(key) {
            return Err(Error::TooManyRequests(Bound::Parked));
        }
        let waiting = self.flights.get(key).map_or(0, Flight::waiting);
        if waiting >= self.limits.parked_per_key_max {
            return Err(Error::TooManyRequests(Bound::ParkedPerKey));
        }
        Ok(())
    }

    /// Whether there may be a flight of this name. Each has at most one call under way, so this
    /// bounds the calls as well.
    fn has_room(&self, key: &InstanceKey) -> bool {
        self.flights.len() < self.limits.parked_max || self.flights.contains_key(key)
    }

    /// Remembers what the cache shows of a name now.
    fn note(&mut self, key: &InstanceKey, now: &Now<'_>) {
        let seen = now.cache.see(key);
        let instance = match &seen {
            Observed::Instance(instance) => Some(&**instance),
            Observed::Absent | Observed::NameConflict => None,
        };
        let settings = now.catalog.settings(&key.app_type);
        self.history.note(key, instance, settings, now.wall);
        let Some(pod) = instance.and_then(|instance| instance.leaving.as_ref()) else {
            self.leaving.remove(key);
            return;
        };
        let before = self.leaving.get(key);
        let since = before
            .filter(|before| before.pod == pod.metadata.uid)
            .map_or(now.now, |before| before.since);
        let leaving = Leaving {
            pod: pod.metadata.uid.clone(),
            since,
            overdue_at: flight::overdue_at(pod, since),
        };
        self.leaving.insert(key.clone(), leaving);
    }

    fn overdue_at(&self, key: &InstanceKey) -> Option<Instant> {
        self.leaving.get(key).map(|leaving| leaving.overdue_at)
    }

    /// The flight of a name that the coordinator itself has something to do for, if there is room.
    fn own_flight(&mut self, key: &InstanceKey) -> Option<&mut Flight> {
        if self.drained || !self.has_room(key) {
            return None;
        }
        let new = || Flight::new(key.clone());
        Some(self.flights.entry(key.clone()).or_insert_with(new))
    }

    /// Has the meta labels of a pod that was replaced set on its successor.
    fn pass_on_labels(&mut self, key: &InstanceKey, now: &Now<'_>) {
        let Observed::Instance(instance) = now.cache.see(key) else {
            return;
        };
        let Some(change) = self.history.inheritance(key, &instance) else {
            return;
        };
        let wish = self.own_wishes + 1;
        let Some(flight) = self.own_flight(key) else {
            return;
        };
        if !flight.has_own_label() {
            flight.add_label(Label {
                token: RequestHandle::own(wish),
                change,
                deadline: now.now + OWN_LABEL_TIME,
            });
            self.own_wishes = wish;
        }
    }

    /// Runs `act` on the flight of `key`, if there is one, and takes note of its next wake-up.
    fn with_flight(
        &mut self,
        key: &InstanceKey,
        now: &Now<'_>,
        out: &mut Vec<Effect>,
        act: impl FnOnce(&mut Flight, &Context<'_>, &mut Vec<Effect>),
    ) {
        let overdue = self.overdue_at(key);
        let Some(flight) = self.flights.get_mut(key) else {
            self.set_wake(key, overdue);
            return;
        };
        let context = Context {
            now: now.now,
            wall: now.wall,
            cache: now.cache,
            catalog: now.catalog,
            history: &self.history,
            is_overdue: overdue.is_some_and(|at| at <= now.now),
        };
        act(flight, &context, out);
        if flight.is_over() {
            self.flights.remove(key);
            self.set_wake(key, overdue);
        } else {
            // One that is overdue already has its flight, which knows when to try again.
            let overdue = overdue.filter(|at| *at > now.now);
            let wake = flight.next_wake(&context).into_iter().chain(overdue).min();
            self.set_wake(key, wake);
        }
    }

    fn set_wake(&mut self, key: &InstanceKey, at: Option<Instant>) {
        if let Some(old) = self.wake_of.remove(key) {
            self.wakes.remove(&(old, key.clone()));
        }
        if let Some(at) = at {
            self.wake_of.insert(key.clone(), at);
            self.wakes.insert((at, key.clone()));
        }
    }

    /// Takes answered requests off the list, and drops answers to requests whose callers hung up.
    fn keep_wanted(&mut self, before: usize, out: &mut Vec<Effect>) {
        let mut at = 0;
        out.retain(|effect| {
            at += 1;
            match effect {
                Effect::Answer(token, _) if at > before => self.tokens.remove(token).is_some(),
                _ => true,
            }
        });
    }
}

/// How long a label of the coordinator's own is tried; the next change of the pod tries again.
const OWN_LABEL_TIME: std::time::Duration = std::time::Duration::from_secs(10);

/// How soon a flight is woken again that did nothing at its own wake-up.
const MINIMUM_NAP: std::time::Duration = std::time::Duration::from_millis(10);

#[cfg(test)]
mod tests;
