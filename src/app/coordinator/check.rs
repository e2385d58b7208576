//! The invariants of the coordinator, checked after every step by tests and the simulation, in
//! every build; the service never does.

use super::operation::{CallState, WaitState, Waiter, Want};
use super::record::Record;
use super::{Coordinator, FOLLOWED_MAX, GONE_MAX, LOST_MAX, Tally};
use crate::app::request_handle::RequestHandle;
use crate::model::names::InstanceKey;
use std::collections::{BTreeMap, HashSet};

impl Coordinator {
    /// Checks what must hold between two steps.
    ///
    /// # Errors
    /// The violated invariant, and the name.
    pub fn check(&self) -> Result<(), String> {
        let mut handles = HashSet::new();
        let mut numbers = HashSet::new();
        let (mut tally, mut growth) = (Tally::default(), BTreeMap::new());
        for (key, record) in &self.records {
            let counts = record.tally(key);
            tally.add(counts);
            if counts.label_growth > 0 {
                *growth.entry(key.app_type.clone()).or_default() += counts.label_growth;
            }
            let broken = self
                .check_waiters(key, record, &mut handles, &mut numbers)
                .and_then(|()| check_record(record));
            broken.map_err(|message| format!("{key}: {message}"))?;
        }
        let woken = self.records.values().filter(|it| it.wake.is_some()).count();
        let waiting = self.waiting.len();
        let limit = self.limits.parked_max;
        hold(
            handles.len() == waiting,
            "a waiting request is in no record",
        )?;
        hold(woken == self.timers.len(), "a timer belongs to no record")?;
        let message = "a record asks again and again to be woken, and has nothing to do";
        hold(self.idle_wakes == 0, message)?;
        hold(
            tally == self.tally && growth == self.label_growth_of,
            "the counts are not those of the records",
        )?;
        hold(tally.in_work <= limit, "too many names are in work")?;
        let max_starting = self.limits.max_starting().unwrap_or(usize::MAX);
        let message = "more starts are in progress than may be";
        hold(tally.starting <= max_starting, message)?;
        self.queue.check().map_err(str::to_owned)?;
        hold(tally.gone <= GONE_MAX, "too many failures are remembered")?;
        hold(tally.lost <= LOST_MAX, "too many reports are kept")?;
        hold(
            tally.followed <= FOLLOWED_MAX,
            "too many starts are followed",
        )
    }

    /// How many requests hold a place: those that wait, and changes whose caller hung up.
    #[must_use]
    pub fn holders(&self) -> usize {
        let operations = self.records.values().filter_map(|it| it.operation.as_ref());
        let waiters = operations.flat_map(|operation| &operation.waiters);
        waiters.filter(|waiter| waiter.held.is_some()).count()
    }

    /// Checks what the coordinator holds of one record and of its waiters; adds their handles and
    /// numbers.
    fn check_waiters(
        &self,
        key: &InstanceKey,
        record: &Record,
        handles: &mut HashSet<RequestHandle>,
        numbers: &mut HashSet<u64>,
    ) -> Result<(), String> {
        let timer = record.wake.map(|at| (at, key.clone()));
        let is_timed = timer.is_none_or(|timer| self.timers.contains(&timer));
        hold(is_timed, "its wake-up is not in the timer queue")?;
        for waiter in record.operation.iter().flat_map(|it| &it.waiters) {
            hold(numbers.insert(waiter.number), "two waiters have one number")?;
            let has_come = waiter.number < self.next_number;
            hold(
                has_come,
                "a waiter has the number of one that is still to come",
            )?;
            if let Some(handle) = waiter.handle {
                hold(handles.insert(handle), "a waiter is in two records")?;
                let is_listed = self.waiting.get(&handle) == Some(key);
                hold(
                    is_listed,
                    "a waiter is not in the table of waiting requests",
                )?;
            }
        }
        Ok(())
    }
}

fn check_record(record: &Record) -> Result<(), String> {
    hold(!record.is_empty(), "an empty record is kept")?;
    let Some(operation) = &record.operation else {
        return Ok(());
    };
    let has_reason = !operation.waiters.is_empty()
        || operation.calling().is_some()
        || record.memory.overdue_at().is_some();
    hold(has_reason, "an operation has no reason to live")?;
    hold(
        operation.last.len() <= 2,
        "more than the last Jobs are kept",
    )?;
    let is_called = !matches!(operation.call, CallState::MustRead);
    hold(is_called, "a call is due and was not made")?;
    operation.waiters.iter().try_for_each(check_waiter)
}

fn check_waiter(waiter: &Waiter) -> Result<(), String> {
    let fits = match &waiter.state {
        WaitState::Pod(_) => matches!(waiter.want, Want::Label(_)),
        WaitState::Sent(_) => waiter.want.is_stop(),
        WaitState::Replacement(_) => waiter.want.variables().is_some(),
        WaitState::New => !waiter.want.is_for_instance() || waiter.is_unread(),
        WaitState::Next | WaitState::Ready(_) | WaitState::Held(..) => {
            waiter.want.is_for_instance()
        }
    };
    hold(fits, "a waiter waits for what it does not want")?;
    let has_caller = waiter.handle.is_some() || waiter.outlives_caller();
    hold(has_caller, "no caller waits for its response")
}

fn hold(holds: bool, message: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(message.to_owned())
    }
}
