//! [`StartQueue`]: the starts that wait for a place, in the order of their arrival at this replica.
//!
//! Pure. A start needs a place under each cap that holds for it, and one of the starts that this replica has in
//! progress (`MAX_STARTING`). Whether there is a place under a cap is read from [`crate::app::admissions`]; what
//! this replica is about to take is added. A place goes to the first start that can use it: whoever comes later
//! does not overtake, and who waits for another cap, or whose calls fail, does not hold others up. Taking it is left to the
//! admission of its Job, which other replicas may win: then the start is in the queue again, where it was.
//!
//! A start whose caller was answered that it is queued goes on for a while without it, so that who asks again and
//! again is not overtaken, and a place that becomes free is used at once.

use crate::app::admissions::{Admissions, Claim, Full, Refusal, Scope};
use crate::kube::types::Uid;
use crate::model::names::InstanceKey;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::num::NonZeroU32;

/// The starts that wait for a place, and those that are about to have one.
#[derive(Debug, Default)]
pub(super) struct StartQueue {
    max_starting: Option<usize>,
    tickets: BTreeMap<Number, Ticket>,
    numbers: HashMap<InstanceKey, Number>,
    given: Given,
    next: u64,
    /// The changes of admissions, and the starts in progress, that this was computed for.
    of: Option<(u64, usize)>,
    /// Those that have something to do since then.
    woken: Vec<InstanceKey>,
}

/// The place of a start in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Number {
    is_behind: bool,
    arrival: u64,
}

/// A start that asks for a place.
#[derive(Debug)]
pub(super) struct Start {
    /// The places that it needs.
    pub(super) claim: Claim,
    /// Whether one of its callers waits for a place under a cap; others are refused where there is none.
    pub(super) is_patient: bool,
    /// Whether it takes the place of one that was stopped for it: it comes before all others.
    pub(super) is_first: bool,
}

/// What is given to tickets.
#[derive(Debug, Default)]
struct Given {
    /// The places that are free for them, or being taken, and that the watch does not show as taken.
    taken: HashMap<Scope, usize>,
    /// How many tickets may begin and have not yet.
    called: usize,
}

impl Given {
    fn take(&mut self, claim: &Claim) {
        for (scope, _, _) in claim.scopes() {
            *self.taken.entry(scope).or_default() += 1;
        }
    }
}

#[derive(Debug)]
struct Ticket {
    key: InstanceKey,
    claim: Claim,
    state: State,
    /// Whether one of its callers waits for a place under a cap.
    is_patient: bool,
    /// Why it waits; `None`: it may begin.
    blocked: Option<Blocked>,
}

impl Ticket {
    fn new(key: &InstanceKey, start: Start, state: State) -> Self {
        Self {
            key: key.clone(),
            claim: start.claim,
            state,
            is_patient: start.is_patient,
            blocked: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Requests wait.
    Waiting,
    /// They do, but the Job cannot be created now: calls fail, or the one before is not gone.
    Paused,
    /// The Job is being created, or waits for its admission.
    Begun(Option<Uid>),
}

/// Why a start waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Blocked {
    /// So many starts are in progress.
    Starting(usize),
    /// A cap is reached, or the places left are for those before it.
    Full(Scope, Full),
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting(max) => {
                write!(
                    f,
                    "as many starts are in progress as MAX_STARTING says ({max})"
                )
            }
            Self::Full(_, full) => full.fmt(f),
        }
    }
}

/// What a start may do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Begin.
    Begin,
    /// Wait.
    Wait,
    /// Wait, if its caller wants to wait for a place under a cap; else this is why there is none.
    Refused(Refusal),
}

/// What a name has to do with the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Requests wait for a Job to be created, which can be done now.
    Start,
    /// They do, and it cannot be done now.
    Pause,
    /// Its Job is being created, or waits for its admission.
    Begun,
    Nothing,
}

/// What places there are.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) admissions: &'a Admissions,
    /// How many starts of this replica are in progress.
    pub(super) starting: usize,
}

/// The place of a start that waits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Queued {
    /// 1: it is the next one to get such a place.
    pub(super) position: NonZeroU32,
    pub(super) blocked: Blocked,
}

impl StartQueue {
    /// An empty one.
    #[must_use]
    pub(super) fn new(max_starting: Option<usize>) -> Self {
        Self {
            max_starting,
            ..Self::default()
        }
    }

    /// Whether a start with this claim needs a ticket.
    #[must_use]
    pub(super) fn is_needed(&self, claim: &Claim) -> bool {
        self.max_starting.is_some() || !claim.caps.is_empty()
    }

    /// Whether the start of this name may begin now.
    pub(super) fn ask(&mut self, key: &InstanceKey, start: Start, places: Places<'_>) -> Turn {
        let known = self.numbers.get(key).copied();
        let number = known.unwrap_or_else(|| self.next_number(start.is_first));
        let before = self.tickets.get_mut(&number);
        let is_as_before = before.is_some_and(|ticket| {
            let is_same = ticket.claim == start.claim && ticket.is_patient == start.is_patient;
            is_same && ticket.state == State::Waiting
        });
        if !is_as_before {
            // Who comes last changes nothing for those before.
            let is_last = known.is_none() && !start.is_first;
            if is_last {
                self.refresh(places);
            }
            let mut given = std::mem::take(&mut self.given);
            let mut ticket = Ticket::new(key, start, State::Waiting);
            if is_last {
                ticket.blocked = self.look(number, &ticket, places, &mut given);
            } else {
                self.of = None;
            }
            self.given = given;
            self.tickets.insert(number, ticket);
            self.numbers.insert(key.clone(), number);
        }
        self.refresh(places);
        match self.tickets.get(&number).map(|ticket| &ticket.blocked) {
            Some(None) => Turn::Begin,
            Some(Some(Blocked::Full(scope, full))) => {
                Turn::Refused(self.refusal(number, scope, *full))
            }
            Some(Some(Blocked::Starting(_))) | None => Turn::Wait,
        }
    }

    /// What this start needs is kept for it until it asks: it takes the place of one that is being stopped.
    pub(super) fn reserve(&mut self, key: &InstanceKey, start: Start) {
        if !self.numbers.contains_key(key) && self.is_needed(&start.claim) {
            let number = self.next_number(start.is_first);
            self.numbers.insert(key.clone(), number);
            self.tickets
                .insert(number, Ticket::new(key, start, State::Paused));
            self.of = None;
        }
    }

    fn next_number(&mut self, is_first: bool) -> Number {
        self.next += 1;
        Number {
            is_behind: !is_first,
            arrival: self.next,
        }
    }

    fn refusal(&self, number: Number, scope: &Scope, full: Full) -> Refusal {
        if full.admitted >= usize::try_from(full.cap).unwrap_or(usize::MAX) {
            return Refusal::Full(full);
        }
        Refusal::Behind(self.before(number, scope))
    }

    /// How many wait before this one for a place of that kind.
    fn before(&self, number: Number, scope: &Scope) -> usize {
        let before = self.tickets.range(..number);
        let waits = |ticket: &Ticket| {
            !matches!(ticket.state, State::Begun(_)) && ticket.claim.is_for(scope)
        };
        before.filter(|(_, ticket)| waits(ticket)).count()
    }

    /// What stands in the way of this one, after what is given to others; if nothing does, it is given a place.
    fn look(
        &self,
        number: Number,
        ticket: &Ticket,
        places: Places<'_>,
        given: &mut Given,
    ) -> Option<Blocked> {
        let mut scopes = ticket.claim.scopes();
        let full = scopes.find_map(|(scope, kind, cap)| {
            let (admitted, undecided) = places.admissions.count(&scope);
            let taken = given.taken.get(&scope).copied().unwrap_or_default();
            let is_full = admitted + undecided + taken >= usize::try_from(cap).ok()?;
            let full = Full {
                scope: kind,
                cap,
                admitted,
            };
            is_full.then_some(Blocked::Full(scope, full))
        });
        // Where nobody waits before it, the admission of its Job says exactly whether there is a place.
        let full = full.filter(|full| match full {
            Blocked::Full(scope, _) => ticket.is_patient || self.before(number, scope) > 0,
            Blocked::Starting(_) => true,
        });
        let max = self.max_starting;
        let max = max.filter(|max| places.starting + given.called >= *max);
        let blocked = full.or_else(|| max.map(Blocked::Starting));
        if blocked.is_none() {
            given.take(&ticket.claim);
            given.called += usize::from(ticket.state != State::Paused);
        }
        blocked
    }

    /// Looks anew who may begin, if there is something new.
    pub(super) fn refresh(&mut self, places: Places<'_>) {
        let of = Some((places.admissions.changes(), places.starting));
        if self.of == of || self.tickets.is_empty() {
            return;
        }
        self.of = of;
        self.woken.clear();
        let mut given = Given::default();
        for ticket in self.tickets.values() {
            if let State::Begun(uid) = &ticket.state
                && !uid.as_ref().is_some_and(|uid| places.admissions.knows(uid))
            {
                given.take(&ticket.claim);
            }
        }
        let look = |(number, ticket): (&Number, &Ticket)| match ticket.state {
            State::Begun(_) => None,
            State::Paused if number.is_behind => None,
            _ => self.look(*number, ticket, places, &mut given),
        };
        let looked: Vec<Option<Blocked>> = self.tickets.iter().map(look).collect();
        self.given = given;
        for (ticket, blocked) in self.tickets.values_mut().zip(looked) {
            let is_refused = matches!(blocked, Some(Blocked::Full(..))) && !ticket.is_patient;
            if ticket.state == State::Waiting && (blocked.is_none() || is_refused) {
                self.woken.push(ticket.key.clone());
            }
            ticket.blocked = blocked;
        }
    }

    /// The names that have something to do, each once.
    pub(super) fn woken(&mut self, places: Places<'_>) -> Vec<InstanceKey> {
        self.refresh(places);
        std::mem::take(&mut self.woken)
    }

    /// The Job of this name is being created; or was, with this UID.
    pub(super) fn begun(&mut self, key: &InstanceKey, uid: Option<Uid>) {
        let number = self.numbers.get(key);
        let Some(ticket) = number.and_then(|number| self.tickets.get_mut(number)) else {
            return;
        };
        ticket.state = State::Begun(uid);
        ticket.blocked = None;
        // What was given to it is taken now.
        self.of = None;
    }

    /// What this name has to do with the queue from now on.
    pub(super) fn settle(&mut self, key: &InstanceKey, wish: Wish) {
        let Some(number) = self.numbers.get(key).copied() else {
            return;
        };
        let Some(ticket) = self.tickets.get_mut(&number) else {
            return;
        };
        let next = match (wish, &ticket.state) {
            (Wish::Begun, State::Begun(_))
            | (Wish::Start, State::Waiting)
            | (Wish::Pause, State::Paused) => return,
            (Wish::Begun, _) => State::Begun(None),
            (Wish::Start, _) => State::Waiting,
            (Wish::Pause, _) => State::Paused,
            (Wish::Nothing, _) => {
                self.remove(number);
                return;
            }
        };
        ticket.state = next;
        self.of = None;
    }

    fn remove(&mut self, number: Number) {
        self.of = None;
        if let Some(ticket) = self.tickets.remove(&number) {
            self.numbers.remove(&ticket.key);
        }
    }

    /// The place of this name, if it waits for one.
    #[must_use]
    pub(super) fn queued(&self, key: &InstanceKey) -> Option<Queued> {
        let number = self.numbers.get(key)?;
        let ticket = self.tickets.get(number)?;
        let blocked = ticket.blocked.clone()?;
        let before = match &blocked {
            Blocked::Full(scope, _) => self.before(*number, scope),
            Blocked::Starting(_) => {
                let before = self.tickets.range(..number);
                let waits = |ticket: &Ticket| !matches!(ticket.state, State::Begun(_));
                before.filter(|(_, ticket)| waits(ticket)).count()
            }
        };
        Some(Queued {
            position: NonZeroU32::MIN.saturating_add(u32::try_from(before).unwrap_or(u32::MAX)),
            blocked,
        })
    }

    /// Whether no start waits for a place, or is about to have one.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// Whether this name waits for a place.
    #[must_use]
    pub(super) fn waits(&self, key: &InstanceKey) -> bool {
        let number = self.numbers.get(key);
        let ticket = number.and_then(|number| self.tickets.get(number));
        ticket.is_some_and(|ticket| !matches!(ticket.state, State::Begun(_)))
    }

    /// How many wait for a place.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        let waits = |ticket: &&Ticket| !matches!(ticket.state, State::Begun(_));
        self.tickets.values().filter(waits).count()
    }

    /// Checks what must hold between two steps.
    ///
    /// # Errors
    /// The violated invariant.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let is_known =
            |(number, ticket): (&Number, &Ticket)| self.numbers.get(&ticket.key) == Some(number);
        if self.tickets.len() != self.numbers.len() || !self.tickets.iter().all(is_known) {
            return Err("a ticket of the queue of starts is not in its tables");
        }
        Ok(())
    }
}
