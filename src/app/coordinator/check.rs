//! The invariants of the coordinator, checked after every step by tests and the simulation, in
//! every build; the service never does.

use super::operation::{CallState, WaitState, Waiter, Want};
use super::record::Record;
use super::{Coordinator, FOLLOWED_MAX, GONE_MAX, LOST_MAX, Tally};
use std::collections::HashSet;

/// An invariant, and the message of its violation.
type Rule<'a> = (bool, &'a str);

impl Coordinator {
    /// Checks what must hold between two steps.
    ///
    /// # Errors
    /// The violated invariant, and the name.
    pub fn check(&self) -> Result<(), String> {
        let mut handles = HashSet::new();
        let mut numbers = HashSet::new();
        let mut tally = Tally::default();
        for (key, record) in &self.records {
            tally.add(record.tally());
            let timer = record.wake.map(|at| (at, key.clone()));
            let is_timed = timer.is_none_or(|timer| self.timers.contains(&timer));
            let mut rules = vec![(is_timed, "its wake-up is not in the timer queue")];
            for waiter in record.operation.iter().flat_map(|it| &it.waiters) {
                rules.extend([
                    (numbers.insert(waiter.number), "two waiters have one number"),
                    (
                        waiter.number < self.next_number,
                        "a waiter has the number of one that is still to come",
                    ),
                ]);
                if let Some(handle) = waiter.handle {
                    let is_listed = self.waiting.get(&handle) == Some(key);
                    rules.extend([
                        (handles.insert(handle), "a waiter is in two records"),
                        (
                            is_listed,
                            "a waiter is not in the table of waiting requests",
                        ),
                    ]);
                }
            }
            let broken = check_record(record).and_then(|()| hold(&rules));
            broken.map_err(|message| format!("{key}: {message}"))?;
        }
        let wakes = self.records.values().filter(|it| it.wake.is_some());
        hold(&[
            (
                handles.len() == self.waiting.len(),
                "a waiting request is in no record",
            ),
            (
                wakes.count() == self.timers.len(),
                "a timer belongs to no record",
            ),
            (
                self.idle_wakes == 0,
                "a record asks again and again to be woken, and has nothing to do",
            ),
            (
                tally == self.tally,
                "the counts are not those of the records",
            ),
            (
                self.waiting.len() <= self.limits.parked_max,
                "too many requests wait",
            ),
            (
                tally.in_work <= self.limits.parked_max,
                "too many names are in work",
            ),
            (tally.gone <= GONE_MAX, "too many failures are remembered"),
            (tally.lost <= LOST_MAX, "too many reports are kept"),
            (
                tally.followed <= FOLLOWED_MAX,
                "too many starts are followed",
            ),
        ])
    }
}

fn check_record(record: &Record) -> Result<(), String> {
    let mut rules = vec![(!record.is_empty(), "an empty record is kept")];
    if let Some(operation) = &record.operation {
        let has_reason = !operation.waiters.is_empty()
            || operation.calling().is_some()
            || record.memory.overdue_at().is_some();
        let is_called = !matches!(operation.call, CallState::MustRead);
        rules.extend([
            (has_reason, "an operation has no reason to live"),
            (operation.last.len() <= 1, "more than the last Job is kept"),
            (is_called, "a call is due and was not made"),
        ]);
        rules.extend(operation.waiters.iter().flat_map(rules_of_waiter));
    }
    hold(&rules)
}

fn rules_of_waiter(waiter: &Waiter) -> [Rule<'static>; 2] {
    let fits = match &waiter.state {
        WaitState::Pod => matches!(waiter.want, Want::Label(_)),
        WaitState::Sent(_) => matches!(waiter.want, Want::Stop { .. }),
        WaitState::Replacement(_) => waiter.want.variables().is_some(),
        WaitState::New => !waiter.want.is_for_instance(),
        WaitState::Next | WaitState::Ready(_) | WaitState::Held(..) => {
            waiter.want.is_for_instance()
        }
    };
    let has_caller = waiter.handle.is_some() || waiter.want.is_change();
    [
        (fits, "a waiter waits for what it does not want"),
        (has_caller, "no caller waits for its response"),
    ]
}

fn hold(rules: &[Rule<'_>]) -> Result<(), String> {
    match rules.iter().find(|(holds, _)| !holds) {
        Some((_, message)) => Err((*message).to_owned()),
        None => Ok(()),
    }
}
