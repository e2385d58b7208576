//! Instances that nobody uses: the thread of each replica that stops them, one step at a time, and what it must
//! not do.
//!
//! The thread, the reports and their watch are the service's own. Time passes between the steps of a thread and
//! not within one, so what a replica could know at a step is what was written before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config_controller::app::cache::Ready;
use config_controller::app::catalog::Offer;
use config_controller::app::coordinator::Input;
use config_controller::app::dry_runs::{Report, Reports};
use config_controller::app::engine::{Inbox, Inputs};
use config_controller::app::idle::{IdleStopper, Progress, Reporting, STEP_EVERY};
use config_controller::app::restarter::Restarter;
use config_controller::app::rights::MissingRights;
use config_controller::app::uses::Uses;
use config_controller::clock::Clock;
use config_controller::kube::Client;
use config_controller::kube::types::{Job, USES, Uid};
use config_controller::metrics::Metrics;
use config_controller::model::job::idle_timeout;
use config_controller::model::names::AppType;
use config_controller::model::uses::{self, Mark, Use};
use config_controller::store::UseReports;
use serde_json::Value;

use super::defects::Defect;
use super::promises::{Breach, Promise, check};
use super::replica::Replica;
use super::server::{Server, lock};
use super::truth::{ObjectHistory, has_ended};
use super::world::{World, key_of};
use crate::fake_kube::cluster::resource::Resource;
use crate::harness::NAMESPACE;

/// How long an instance may be unused, where the templates say so.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Templates are not tried.
#[derive(Debug)]
struct NoReports;

impl Reports for NoReports {
    fn report(&self, _: &AppType, _: &Arc<Offer>) -> Option<Arc<Report>> {
        None
    }
}

/// The thread of a replica.
pub(super) struct Idle {
    stopper: IdleStopper,
    progress: Progress,
    /// What it has sent to the coordinator.
    sent: Inputs,
    uses: Uses,
    name: String,
    /// When its next step is due.
    pub(super) wakes: Instant,
}

/// What has really happened.
#[derive(Default)]
pub(super) struct UseTruth {
    /// Through which replica each Job was used, and when.
    uses: BTreeMap<Uid, Vec<(usize, Instant)>>,
    /// What each Lease says, and since when.
    published: BTreeMap<String, (Instant, String)>,
}

impl Idle {
    /// The thread of this replica, before its first step.
    pub(super) fn new(
        number: usize,
        replica: &Replica,
        (client, reports): (&Client, &UseReports),
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let (inbox, sent) = Inbox::new(1024);
        let (now, rights) = (clock.now(), MissingRights::default());
        let uses = Uses::new(now, rights.clone());
        let name = format!("replica-{number}");
        let stopper = IdleStopper {
            uses: uses.clone(),
            reports: reports.clone(),
            reporting: Reporting {
                client: client.clone(),
                replica: name.as_str().into(),
                pod: None,
                uses_of: NAMESPACE.into(),
                metrics: Arc::new(Metrics::new(1, &[])),
            },
            jobs: replica.census.jobs.clone(),
            cache: replica.cache.clone(),
            inbox,
            clock: Arc::clone(clock),
            rights,
            restarter: Restarter {
                catalog: Arc::clone(&replica.catalog),
                reports: Arc::new(NoReports),
                idle_after: IDLE_TIMEOUT,
            },
        };
        Self {
            stopper,
            progress: Progress::default(),
            sent,
            uses,
            name,
            wakes: now,
        }
    }

    /// Where its replica notes uses.
    pub(super) fn uses(&self) -> Uses {
        self.uses.clone()
    }

    /// One step; returns what it has sent to the coordinator.
    fn step(&mut self, now: Instant) -> Vec<Input> {
        self.stopper.step(&mut self.progress);
        self.wakes = now + STEP_EVERY;
        self.sent.take(1024)
    }
}

/// The text of the Lease of this name.
fn text_of(server: &Server, name: &str) -> Option<String> {
    let mut leases = server.model.cluster.objects(Resource::Leases, NAMESPACE);
    let (_, lease) = leases.find(|(key, _)| key.2 == name)?;
    let text: &Value = &lease["metadata"]["annotations"][USES];
    text.as_str().map(str::to_owned)
}

/// The moment of a use that was reported at `written` as so many seconds ago.
fn moment(written: Instant, age: i64) -> Option<Instant> {
    let by = Duration::from_secs(age.unsigned_abs());
    if age > 0 {
        written.checked_sub(by)
    } else {
        Some(written + by)
    }
}

impl World {
    /// A request through this replica has found this instance.
    pub(super) fn used(&mut self, number: usize, ready: &Ready) {
        let Some(replica) = self.replicas[number].as_ref() else {
            return;
        };
        if replica.idle.is_none() {
            return;
        }
        if self.profile.defect != Defect::ForgetsUses {
            let _ = replica.app.found(ready, true);
        }
        let uses = self.use_truth.uses.entry(ready.version.uid.clone());
        uses.or_default().push((number, self.time.now()));
    }

    /// Runs the steps of idle threads that are due.
    pub(super) fn run_idle(&mut self) -> Result<(), Breach> {
        for number in 0..self.replicas.len() {
            if !self.is_paused(number) {
                self.step_idle(number)?;
            }
        }
        Ok(())
    }

    fn step_idle(&mut self, number: usize) -> Result<(), Breach> {
        let now = self.time.now();
        let is_off = self.profile.defect == Defect::LetsAllLive;
        let replica = self.replicas[number].as_mut();
        let Some(idle) = replica.and_then(|it| it.idle.as_mut()) else {
            return Ok(());
        };
        if idle.wakes > now || is_off {
            return Ok(());
        }
        let (name, lists) = (idle.name.clone(), lock(&self.server).stale_lists);
        let sent = idle.step(now);
        let text = text_of(&lock(&self.server), &name);
        let is_consistent = lock(&self.server).stale_lists == lists;
        let before = self.use_truth.published.get(&name);
        if let Some(text) = text.filter(|text| before.is_none_or(|(_, before)| before != text)) {
            self.all_is_reported(number, &text)?;
            self.log(|| format!("replica {number} reports {text}"));
            self.count("reports");
            self.use_truth.published.insert(name.clone(), (now, text));
        }
        for input in sent {
            if let Input::Idle(key, uid, _) = &input {
                self.log(|| format!("replica {number} finds {key} idle ({uid})"));
                self.count("idle");
                if is_consistent {
                    self.is_unused(&name, uid, number)?;
                }
            }
            if let Some(replica) = &mut self.replicas[number] {
                replica.give(input);
            }
        }
        Ok(())
    }

    /// A report has all uses through its replica within the last timeout.
    fn all_is_reported(&self, number: usize, text: &str) -> Result<(), Breach> {
        let now = self.time.now();
        let reported: Vec<Use> = uses::read(text).collect();
        let Some(replica) = &self.replicas[number] else {
            return Ok(());
        };
        for (uid, uses) in &self.use_truth.uses {
            let jobs = replica.census.jobs.all();
            // What has ended, or is being stopped, is no longer timed.
            let is_timed = |job: &Job| idle_timeout(job).is_some() && !job.metadata.is_deleting();
            let mut jobs = jobs.iter().filter(|job| is_timed(job));
            let is_there = jobs.any(|job| job.metadata.uid == *uid);
            let began = replica.sim.began.unwrap_or(now);
            let is_recent = |at: Instant| {
                at >= began && now.saturating_duration_since(at) + STEP_EVERY < IDLE_TIMEOUT
            };
            let mut here = uses
                .iter()
                .filter(|(by, at)| *by == number && is_recent(*at));
            let is_named = reported.iter().any(|one| match one {
                Use::All(_) => true,
                Use::One(mark, _) => *mark == Mark::of(uid),
            });
            let is_missing = is_there && !is_named && here.next().is_some();
            check(Promise::UsesAreReported, !is_missing, || {
                format!("{uid} is not in {text}")
            })?;
        }
        Ok(())
    }

    /// What the replica of this number has used itself, or could know from others, was longer ago.
    fn is_unused(&self, own: &str, uid: &Uid, number: usize) -> Result<(), Breach> {
        let now = self.time.now();
        let is_over = |at: Instant| at + IDLE_TIMEOUT <= now;
        let uses = self.use_truth.uses.get(uid);
        let mut here = uses.into_iter().flatten().filter(|(by, _)| *by == number);
        let recent = here.find(|(_, at)| !is_over(*at));
        check(Promise::UsedLives, recent.is_none(), || {
            format!("{uid} was used through replica {number} itself")
        })?;
        for (name, (written, text)) in &self.use_truth.published {
            let of_uid = uses::read(text).filter_map(|one| match one {
                Use::All(age) => Some(age),
                Use::One(mark, age) => (mark == Mark::of(uid)).then_some(age),
            });
            let mut moments = of_uid.filter_map(|age| moment(*written, age));
            let recent = name != own && moments.any(|at| !is_over(at));
            check(Promise::UsedLives, !recent, || {
                format!("{uid} was used: {name} has said {text}")
            })?;
        }
        Ok(())
    }

    /// Checks that nothing is left that nobody has used for long.
    pub(super) fn unused_have_ended(&self) -> Result<(), Breach> {
        if !self.profile.idles {
            return Ok(());
        }
        for pair in &self.profile.pairs {
            if self.profile.is_stuck(&key_of(pair).job_name()) {
                continue;
            }
            let history = self.truth.history(pair);
            let live_jobs = history.into_iter().flat_map(|history| history.live_jobs());
            // What has ended is kept for those who ask why.
            let runs = |job: &&ObjectHistory| job.now().is_some_and(|job| !has_ended(job));
            let live = live_jobs.filter(runs).count();
            check(Promise::UnusedEnds, live == 0, || {
                format!("{pair:?} still runs")
            })?;
        }
        Ok(())
    }
}
