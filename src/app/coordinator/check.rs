//! The invariants of the coordinator, checked after every step by tests and the simulation, in
//! every build; the service never does.

use super::operation::{CallState, Operation, WaitState, Want};
use super::record::Record;
use super::{Coordinator, FOLLOWED_MAX, GONE_MAX, LOST_MAX, Tally};
use crate::model::names::InstanceKey;
use std::collections::HashSet;

impl Coordinator {
    /// Checks what must hold between two steps.
    ///
    /// # Errors
    /// The sentence that does not hold, and for which name.
    pub fn check(&self) -> Result<(), String> {
        let mut handles = HashSet::new();
        let mut numbers = HashSet::new();
        let mut tally = Tally::default();
        for (key, record) in &self.records {
            tally.add(record.tally());
            check_record(key, record)?;
            let is_timed = record
                .wake
                .is_none_or(|at| self.timers.contains(&(at, key.clone())));
            holds(is_timed, key, "its wake-up is not in the timer queue")?;
            let waiters = record.operation.iter().flat_map(|it| &it.waiters);
            for waiter in waiters {
                holds(
                    numbers.insert(waiter.number) && waiter.number < self.next_number,
                    key,
                    "two waiters have one number",
                )?;
                if let Some(handle) = waiter.handle {
                    holds(handles.insert(handle), key, "a waiter is in two records")?;
                    holds(
                        self.waiting.get(&handle) == Some(key),
                        key,
                        "a waiter is not on the list of those who wait",
                    )?;
                }
            }
        }
        let wakes = self.records.values().filter(|it| it.wake.is_some());
        all(
            handles.len() == self.waiting.len(),
            "a request waits that is in no record",
        )?;
        all(
            wakes.count() == self.timers.len(),
            "a timer belongs to no record",
        )?;
        all(
            self.idle_wakes == 0,
            "a record asks again and again to be woken, and has nothing to do",
        )?;
        all(
            tally == self.tally,
            "the counts are not those of the records",
        )?;
        all(
            self.waiting.len() <= self.limits.parked_max
                && tally.in_work <= self.limits.parked_max
                && tally.gone <= GONE_MAX
                && tally.lost <= LOST_MAX
                && tally.followed <= FOLLOWED_MAX,
            "more is held than is allowed",
        )
    }
}

fn check_record(key: &InstanceKey, record: &Record) -> Result<(), String> {
    holds(!record.is_empty(), key, "a record has no reason to live")?;
    let Some(operation) = &record.operation else {
        return Ok(());
    };
    let has_reason = !operation.waiters.is_empty()
        || operation.calling().is_some()
        || record.memory.overdue_at().is_some();
    holds(has_reason, key, "an operation has no reason to live")?;
    holds(
        operation.last.len() <= 1,
        key,
        "more than the last Job is kept",
    )?;
    check_call(key, operation)?;
    for waiter in &operation.waiters {
        let fits = match &waiter.state {
            WaitState::Pod => matches!(waiter.want, Want::Label(_)),
            WaitState::Sent(_) => matches!(waiter.want, Want::Stop { .. }),
            WaitState::Replacement(_) => waiter.want.variables().is_some(),
            WaitState::New => !waiter.want.is_for_instance(),
            WaitState::Next | WaitState::Ready(_) | WaitState::Held(..) => {
                waiter.want.is_for_instance()
            }
        };
        holds(fits, key, "a waiter waits for what it does not want")?;
        let has_caller = waiter.handle.is_some() || waiter.want.is_change();
        holds(has_caller, key, "no caller waits for its response")?;
    }
    Ok(())
}

fn check_call(key: &InstanceKey, operation: &Operation) -> Result<(), String> {
    let is_awaited = !matches!(operation.call, CallState::MustRead);
    holds(is_awaited, key, "a call is due and was not made")
}

fn holds(is: bool, key: &InstanceKey, sentence: &str) -> Result<(), String> {
    all(is, &format!("{key}: {sentence}"))
}

fn all(is: bool, sentence: &str) -> Result<(), String> {
    if is { Ok(()) } else { Err(sentence.to_owned()) }
}
