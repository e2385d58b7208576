//! [`Assembler`]: makes the lists that callers wait for, on a thread of its own.
//!
//! It reads entries from the stores and encodes those that have changed. The JSON of an entry is
//! made by a function of the HTTP front. Which list is due is decided in [`super::lists`], how one is
//! put together in [`super::list`].

use super::cache::{Cache, Census, Entry};
use super::error::Error;
use super::keys::own_key_of;
use super::list::List;
use super::lists::{Changes, ListOf, Task};
use super::pages::{PAGE_BYTES_MAX, PageForm, Roster};
use super::request::ResponseSink;
use super::stops::{Env, Stopper};
use super::templates::Templates;
use crate::budget::{Division, Ledger, WaitingBounds};
use crate::clock::Clock;
use crate::kube::types::Job;
use crate::model::names::{AppType, InstanceKey, InstanceName};
use crate::sorting;
use crate::threads::{self, Heartbeats, OnDeath};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Appends the JSON of an entry.
pub type Encode = fn(&Entry, &mut Vec<u8>);

/// How long the thread sleeps while nobody waits for a list. After each sleep it drops unread lists.
const NAP: Duration = Duration::from_secs(60);

/// Makes lists.
#[derive(Debug)]
pub struct Assembler {
    /// The instances.
    pub cache: Cache,
    /// All of them.
    pub census: Census,
    /// The JSON of an instance.
    pub encode: Encode,
    /// The JSON of a page of all instances.
    pub page: PageForm,
    /// The templates.
    pub templates: Templates,
    /// What the lists are charged to.
    pub bounds: WaitingBounds,
    /// Stops many instances, on the same thread.
    pub stopper: Stopper,
    /// Where responses go.
    pub sink: Arc<dyn ResponseSink>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Assembler {
    /// Starts the thread, which ends with the process.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(self, heartbeats: &Heartbeats, on_death: &OnDeath) -> std::io::Result<()> {
        let heartbeat = heartbeats.register("lists", self.clock.now());
        let run = move || {
            loop {
                heartbeat.beat(self.clock.now(), Duration::ZERO);
                if !self.step() {
                    heartbeat.idle();
                    let (look, now) = (self.stopper.next_look(), self.clock.now());
                    let nap = look.map_or(NAP, |at| at.saturating_duration_since(now).min(NAP));
                    self.cache.index().wait_for_readers(&*self.clock, nap);
                }
            }
        };
        threads::spawn("lists".into(), Arc::clone(on_death), run)?;
        Ok(())
    }

    /// Goes on with the stops of many instances, makes the list that is due, and responds to its readers;
    /// whether there was something to do.
    pub fn step(&self) -> bool {
        let index = self.cache.index();
        let has_come = self.stopper.step(&Env {
            roster: self.roster(),
            bounds: &self.bounds,
            sink: &*self.sink,
            now: self.clock.now(),
        });
        let Some(mut task) = index.take_due(self.clock.now()) else {
            return has_come;
        };
        let list = self.list(&mut task);
        if list.as_ref().is_err_and(Error::is_overload) {
            index.wait_for_room(&mut task, self.clock.now());
        }
        let late = index.finish(&task.of, list.as_ref().ok(), self.clock.now());
        self.sink.respond_list(&task.readers, &list);
        self.sink.respond_list(&late, &list);
        true
    }

    /// The list of this task. If there is no memory for it beside those that are kept for later
    /// readers, the one before makes room, and then those of the other types.
    fn list(&self, task: &mut Task) -> Result<Arc<List>, Error> {
        let index = self.cache.index();
        let mut list = self.next(task);
        if list.as_ref().is_err_and(Error::is_overload) && index.drop_last_list(&task.of) {
            task.before = None;
            list = self.next(task);
        }
        if list.as_ref().is_err_and(Error::is_overload) && index.drop_all_lists() {
            list = self.next(task);
        }
        list
    }

    fn next(&self, task: &Task) -> Result<Arc<List>, Error> {
        let changed = match (&task.changes, &task.before) {
            (Changes::Of(names), Some(before)) if names.is_empty() => {
                return Ok(Arc::clone(before));
            }
            (Changes::Of(names), Some(before)) => Some((names, before)),
            _ => None,
        };
        let list = match (&task.of, changed) {
            (ListOf::Instances(app_type), Some((names, before))) => {
                before.after(names, self.encode_of(app_type), &self.bounds.bytes)
            }
            (of, _) => self.all(of, &self.bounds.bytes),
        };
        list.map(Arc::new)
    }

    /// The list with all of its entries.
    fn all(&self, of: &ListOf, ledger: &Arc<Ledger>) -> Result<List, Error> {
        match of {
            ListOf::Instances(app_type) => {
                List::new(&self.names(app_type), "", self.encode_of(app_type), ledger)
            }
            ListOf::Templates => self.templates.list(&self.census, ledger),
            ListOf::Page(query) => {
                let room = self.bounds.bytes.shared_max() / 4 * 3;
                let room = (ledger, PAGE_BYTES_MAX.min(room));
                self.roster().page(query, &self.page, room)
            }
        }
    }

    fn roster(&self) -> Roster<'_> {
        Roster {
            cache: &self.cache,
            census: &self.census,
            catalog: &self.templates.catalog,
        }
    }

    fn encode_of(&self, app_type: &AppType) -> impl Fn(&InstanceName, &mut Vec<u8>) -> bool {
        move |name, into| self.entry(app_type, name, into)
    }

    /// Appends the JSON of an instance; returns whether there is one. A name that clients would change in
    /// a URL is not listed: whoever cleans up would stop another.
    fn entry(&self, app_type: &AppType, name: &InstanceName, into: &mut Vec<u8>) -> bool {
        let key = InstanceKey {
            app_type: app_type.clone(),
            name: name.clone(),
        };
        let is_listed = name.check_in_urls().is_ok();
        let entry = is_listed.then(|| self.cache.entry(&key)).flatten();
        entry.inspect(|entry| (self.encode)(entry, into)).is_some()
    }

    /// Checks that readers get the present state of all entries. To be called between two steps by
    /// tests and the simulation; the service never does.
    ///
    /// # Errors
    /// A message with the list that is out of date.
    pub fn check(&self) -> Result<(), String> {
        for (of, list) in self.cache.index().lists() {
            let unlimited = Ledger::of_bytes(usize::MAX / 4, Division::UNLIMITED);
            let now = self.all(&of, &unlimited);
            let now = now.map_err(|error| format!("there is no list of {of:?}: {error}"))?;
            if list.bytes()[..] != now.bytes()[..] {
                let [read, now] = [&list, &now].map(|list| String::from_utf8_lossy(list.bytes()));
                return Err(format!("readers of {of:?} get {read}, not {now}"));
            }
        }
        Ok(())
    }

    /// The names of all instances of a type.
    fn names(&self, app_type: &AppType) -> BTreeSet<InstanceName> {
        let is_it = |job: &Job| job.app_type() == Some(app_type.as_str());
        let jobs = self.census.jobs.filter(is_it);
        let names = jobs.iter().filter_map(|job| Some(own_key_of(job)?.name));
        sorting::set(names)
    }
}
