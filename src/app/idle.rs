//! The end of instances that nobody uses: the thread that takes up uses, reports them to other replicas, and passes
//! what is idle to the coordinator, which stops it.
//!
//! [`super::lifetimes`] decides; here are its inputs, and what follows. Threads that serve requests only note uses
//! ([`Uses`]). Before anything is stopped, the reports of all replicas are listed
//! once more: the watch may lag behind.

use super::cache::Cache;
use super::coordinator::Input;
use super::engine::Inbox;
use super::lifetimes::{Due, REPORT_EVERY, Timeouts};
use super::restarter::{Known, Restarter};
use super::restarts::Seen;
use super::rights::MissingRights;
use super::uses::Uses;
use crate::clock::Clock;
use crate::kube::request::{Scope, UseReport};
use crate::kube::types::{Job, Lease, Page, USES_OF, Uid};
use crate::kube::{self, Class, Client};
use crate::metrics::Metrics;
use crate::model::job::{OnChange, idle_timeout};
use crate::model::names::InstanceKey;
use crate::model::uses;
use crate::shutdown::Stop;
use crate::store::Scanner;
use crate::store::reports::{REPLICAS_MAX, UseReports};
use crate::threads::{self, Heartbeats, OnDeath};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The meta label whose value `true` says that an instance is in use.
pub const CONNECTED: &str = "connected";

/// The time between two steps. A new instance may have a shorter timeout than all before, and what is used here must
/// be reported before another replica takes it for idle; so this does not depend on what is known.
pub const STEP_EVERY: Duration = REPORT_EVERY[0];

/// So many instances are stopped or announced in one step; the others in the next.
const DUE_AT_ONCE: usize = 128;

/// The thread was paused if it steps so much later than it meant to.
const PAUSE: Duration = Duration::from_secs(2);

/// The rights to read Leases count as missing when no watch of them is open for so long.
const CLOSED_LONG: Duration = Duration::from_secs(10);

/// A replica that has written that it is there waits so long before it does again.
const JOIN_PAUSE: Duration = Duration::from_secs(30);

/// How long a call may take, and so a step of the thread.
const STEP_LONGEST: Duration = Duration::from_secs(60);

/// How this replica reports uses.
#[derive(Debug)]
pub struct Reporting {
    /// Calls Kubernetes in the namespace of this replica.
    pub client: Client,
    /// Its name, which is that of its Lease.
    pub replica: Box<str>,
    /// The UID of its pod, if that is known.
    pub pod: Option<Box<str>>,
    /// The namespace of the instances.
    pub uses_of: Box<str>,
    /// Counts reports.
    pub metrics: Arc<Metrics>,
}

impl Reporting {
    /// Which Leases replicas of this service have.
    #[must_use]
    pub fn scope(&self) -> Scope {
        let selector = format!("{USES_OF}={}", self.uses_of);
        Scope::labelled(self.client.namespace(), &selector)
    }

    /// Writes this text; or none, and what was written last stays.
    fn send(&self, text: &str, goes_on: bool) -> Result<(), kube::Error> {
        self.client.report_uses(&UseReport {
            name: &self.replica,
            uses_of: &self.uses_of,
            uses: text,
            goes_on,
            pod: self.pod.as_deref(),
        })
    }

    fn list(&self) -> Result<Page<Lease>, kube::Error> {
        let most = u32::try_from(REPLICAS_MAX).unwrap_or(u32::MAX);
        self.client.list(&self.scope(), None, most, false)
    }
}

/// The thread.
#[derive(Debug)]
pub struct IdleStopper {
    /// What is used.
    pub uses: Uses,
    /// What other replicas report.
    pub reports: UseReports,
    /// How this one does.
    pub reporting: Reporting,
    /// All Jobs.
    pub jobs: Scanner<Job>,
    /// Finds instances.
    pub cache: Cache,
    /// The way to the coordinator.
    pub inbox: Inbox,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Whether the rights on Leases are missing.
    pub rights: MissingRights,
    /// What is restarted since its template has changed.
    pub restarter: Restarter,
}

/// What the thread knows from one step to the next.
#[derive(Debug, Default)]
pub struct Progress {
    /// When the next step was meant to begin.
    wakes: Option<Instant>,
    /// Why the last report failed, which was logged.
    failed: Option<Class>,
    /// How often Jobs had changed when they were looked through last.
    jobs: Option<u64>,
    /// From when this replica may write again that it is there.
    joins_from: Option<Instant>,
    /// What may be restarted.
    restarts: Known,
}

/// What was sent in a step.
#[derive(Clone, Copy, Debug)]
enum Sent {
    /// There was nothing to report.
    Nothing,
    /// A report.
    Report,
}

impl IdleStopper {
    /// Starts the thread; what it returns is set when the last report was sent, after `stop`.
    ///
    /// # Errors
    /// When the system cannot create it.
    pub fn start(self, stop: Stop, heartbeats: &Heartbeats, on_death: OnDeath) -> io::Result<Stop> {
        let reported = Stop::new();
        let last = reported.clone();
        let heartbeat = heartbeats.register("idle", self.clock.now());
        threads::spawn("idle".into(), on_death, move || {
            let mut progress = Progress::default();
            loop {
                heartbeat.beat(self.clock.now(), STEP_LONGEST);
                self.step(&mut progress);
                heartbeat.idle();
                if stop.wait(STEP_EVERY) {
                    break;
                }
            }
            // What was used last would otherwise end too early.
            self.know_jobs(&mut progress, self.clock.now());
            self.take();
            let _ = self.report(true);
            self.leave();
            last.set();
        })?;
        Ok(reported)
    }

    /// One step: what was used is noted and reported, and what is due is passed to the coordinator.
    pub fn step(&self, progress: &mut Progress) {
        let now = self.clock.now();
        let is_late = |meant: Instant| now.saturating_duration_since(meant) > PAUSE;
        if progress.wakes.is_some_and(is_late) {
            self.uses.lifetimes().all_used(now);
        }
        self.know_jobs(progress, now);
        self.take();
        let reported = self.report(false).and_then(|sent| match sent {
            Sent::Nothing => self.join(progress, now),
            Sent::Report => Ok(sent),
        });
        self.note_report(&reported, progress);
        let due = self
            .uses
            .lifetimes()
            .due(now, DUE_AT_ONCE, |key| self.is_in_use(key));
        let may_stop = reported.is_ok() && self.reports.is_open() && !self.rights.leases();
        let mut idle = Vec::new();
        for one in due {
            match one {
                Due::Idle(key, uid) => idle.push((key, uid)),
                Due::Soon(key, uid, left) if may_stop => {
                    self.inbox.send(Input::IdleSoon(key, uid, left));
                }
                Due::Soon(..) => {}
            }
        }
        if !idle.is_empty() && may_stop {
            self.stop(idle);
        }
        self.restart(progress, may_stop, now);
        progress.wakes = Some(self.clock.now() + STEP_EVERY);
    }

    /// Adds new instances with a timeout, and removes those that are gone. Of those that may be restarted when nobody
    /// uses them all uses count.
    fn know_jobs(&self, progress: &mut Progress, now: Instant) {
        let is_changed = self.restarter.look(&mut progress.restarts);
        let changes = self.jobs.changes();
        if progress.jobs.replace(changes) == Some(changes) && !is_changed {
            return;
        }
        let known = &progress.restarts;
        let is_known = |job: &Job| idle_timeout(job).is_some() || known.has_type_of(job);
        let mut jobs = self.jobs.filter(is_known);
        let mut waits = false;
        let tracked = jobs.iter().filter(|job| !job.metadata.is_deleting());
        let tracked = tracked.filter_map(|job| {
            let timeouts = Timeouts {
                idle: idle_timeout(job),
                restart: self.restarter.restarts_after(known, job),
            };
            waits |= timeouts.restart.is_some();
            let is_any = timeouts.idle.is_some() || timeouts.restart.is_some();
            let key = super::keys::key_of(job).filter(|_| is_any)?;
            Some((key, &job.metadata.uid, timeouts))
        });
        self.uses.lifetimes().set(tracked, now);
        self.uses.note_all(waits);
        jobs.retain(|job| known.has_type_of(job));
        progress.restarts.jobs = jobs;
    }

    /// Has instances restarted whose template has changed; those that wait until nobody uses them only if it is
    /// known how they are used.
    fn restart(&self, progress: &mut Progress, knows_uses: bool, now: Instant) {
        if progress.restarts.jobs.is_empty() || !self.cache.is_synced() {
            return;
        }
        let is_unused = |seen: &Seen| {
            if self.is_in_use(&seen.key) {
                self.uses.lifetimes().in_use(&seen.uid, now);
            }
            knows_uses && self.uses.may_restart(&seen.uid, now)
        };
        let mut has_heard = None;
        for (app_type, kind, all) in progress.restarts.outdated(&self.cache, is_unused) {
            let restarts = &mut progress.restarts.restarts;
            let if_unused = kind.on_change == OnChange::RestartIdle;
            for seen in restarts.next(&app_type, &kind.revision, &all, now) {
                if if_unused
                    && !(*has_heard.get_or_insert_with(|| self.hear_all())
                        && self.uses.may_restart(&seen.uid, self.clock.now()))
                {
                    continue;
                }
                let revisions = restarts.begin(seen, (&kind.revision, if_unused), now);
                let (key, uid) = (seen.key.clone(), seen.uid.clone());
                self.inbox
                    .send(Input::Outdated(key, uid, seen.version.clone(), revisions));
            }
        }
    }

    /// Takes what was used here, and what other replicas report.
    fn take(&self) {
        let (news, now) = (self.reports.take(), self.clock.now());
        let mut lifetimes = self.uses.lifetimes();
        if let Some(at) = news.missed {
            lifetimes.all_used(at);
        }
        for (replica, (text, at)) in &news.texts {
            lifetimes.heard(uses::read(text), *at);
            if *replica != self.reporting.replica {
                self.reporting.metrics.use_report("received");
            }
        }
        for (uid, until) in self.uses.take() {
            lifetimes.used(&uid, until, now);
        }
        self.uses.renew(lifetimes.lasting(now));
    }

    fn report(&self, is_last: bool) -> Result<Sent, kube::Error> {
        let now = self.clock.now();
        let text = self.uses.lifetimes().report(now, is_last);
        let Some(text) = text else {
            return Ok(Sent::Nothing);
        };
        let sent = self.reporting.send(&text, true).map(|()| Sent::Report);
        let result = if sent.is_ok() { "sent" } else { "failed" };
        self.reporting.metrics.use_report(result);
        let mut lifetimes = self.uses.lifetimes();
        match &sent {
            Ok(_) => lifetimes.report_delivered(),
            Err(_) => lifetimes.report_failed(self.clock.now()),
        }
        sent
    }

    /// Writes once that there is this replica, if the others do not know: each ended instance is reported by one of
    /// those that have a Lease.
    fn join(&self, progress: &mut Progress, now: Instant) -> Result<Sent, kube::Error> {
        let is_absent = self.is_listed() == Some(false);
        let is_due = progress.joins_from.is_none_or(|from| from <= now);
        if !is_absent || !is_due || self.reporting.pod.is_none() {
            return Ok(Sent::Nothing);
        }
        progress.joins_from = Some(now + JOIN_PAUSE);
        self.reporting.send("", true).map(|()| Sent::Report)
    }

    /// This replica shuts down: from now on others report in its place.
    fn leave(&self) {
        if self.is_listed() == Some(true) {
            let _ = self.reporting.send("", false);
        }
    }

    /// Whether this replica is among those that all know, if there has been a list of them.
    fn is_listed(&self) -> Option<bool> {
        let replicas = self.reports.replicas();
        let mut names = replicas.names()?;
        Some(names.any(|name| *name == *self.reporting.replica))
    }

    fn note_report(&self, reported: &Result<Sent, kube::Error>, progress: &mut Progress) {
        match reported {
            Ok(Sent::Nothing) => {}
            Ok(Sent::Report) => progress.failed = None,
            Err(error) => {
                if progress.failed.is_none() {
                    log::warn!(
                        "uses of instances could not be reported to other replicas: {error}"
                    );
                }
                progress.failed = Some(error.class());
            }
        }
        let may_not_write = progress.failed == Some(Class::Forbidden);
        let are_missing = may_not_write || self.reports.is_closed_for(CLOSED_LONG);
        if self.rights.note_leases(are_missing) {
            self.cache.index().templates_changed();
        }
    }

    /// Whether its users say that they are connected, or it is starting: a start may take longer than the timeout.
    fn is_in_use(&self, key: &InstanceKey) -> bool {
        self.cache.item(key, None).is_some_and(|item| {
            let connected = item.meta.get(CONNECTED);
            item.is_starting() || connected.is_some_and(|value| value == "true")
        })
    }

    /// Takes what other replicas have reported by now; whether that is known.
    fn hear_all(&self) -> bool {
        match self.reporting.list() {
            Ok(page) => {
                let are_all = page.continue_token.is_none();
                self.reports.listed(page.items, are_all);
            }
            Err(error) => {
                log::debug!("nothing is stopped as idle: {error}");
                return false;
            }
        }
        self.take();
        true
    }

    /// Has these stopped that are still idle after all that other replicas have reported by now.
    fn stop(&self, idle: Vec<(InstanceKey, Uid)>) {
        if !self.hear_all() {
            return;
        }
        let now = self.clock.now();
        for (key, uid) in idle {
            let job = self.cache.jobs.get(&key.job_name());
            let job = job.filter(|job| job.metadata.uid == uid);
            if let Some(job) = job.filter(|_| self.uses.is_idle(&uid, now)) {
                let version = job.metadata.resource_version.clone();
                self.inbox.send(Input::Idle(key, uid, version));
            }
        }
    }
}
