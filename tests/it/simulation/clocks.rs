//! Clocks that differ: those of replicas, which may jump, and those of nodes, by which kubelets write
//! times. The API server's is the true time, and the controllers' is the same.
//!
//! Delays are promised by the true time. How far clocks differ is drawn from numbers of its own, so that
//! the events of all schedules stay as they are.

use config_controller::app::Response;
use config_controller::app::api_call::{Action, StopCause};
use config_controller::model::status::Prognosis;
use serde_json::Value;

use super::dice::Dice;
use super::promises::{Breach, Promise, check, late_ms};
use super::truth::{InstanceHistory, ObjectHistory, Pair, has_ended, ready_address};
use super::unreliable::Unreliable;
use super::world::{World, key_of};
use crate::harness::PREFIX;

/// How far a replica's clock may be ahead, in seconds.
const OF_REPLICAS: [i64; 10] = [0, 0, 1, -1, 62, 70, -300, 3600, -3600, 86_400];

/// How far a node's clock may be ahead, in seconds.
const OF_NODES: [i64; 7] = [0, 0, 2, -2, 5, 600, -600];

/// Timestamps are cut to seconds, and a single response shows the time within half a second.
pub(super) const SLACK_MS: i64 = 1700;

/// The least time after which a start has probably failed.
const LEAST_BUDGET_MS: i64 = 15_000;

/// The clocks of a schedule.
#[derive(Debug)]
pub(super) struct Clocks {
    dice: Dice,
    differ: bool,
}

impl Clocks {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0xc10c);
        let differ = dice.chance(750);
        Self { dice, differ }
    }

    /// How far the clock of a replica that starts is ahead.
    pub(super) fn of_replica(&mut self) -> i64 {
        self.draw(&OF_REPLICAS)
    }

    fn draw(&mut self, of: &[i64]) -> i64 {
        let drawn = self.dice.pick(of);
        if self.differ { drawn } else { 0 }
    }
}

impl World {
    /// Sets the clocks of all nodes.
    pub(super) fn set_node_clocks(&mut self) {
        for pair in self.profile.pairs.clone() {
            let ahead = self.clocks.draw(&OF_NODES);
            let node = format!("node-of-{}", key_of(&pair).job_name());
            self.log(|| format!("the clock of {node} is {ahead} s ahead"));
            let dynamics = &mut self.server().model.dynamics;
            dynamics.set_node_clock(node, ahead * 1000);
        }
    }

    /// The clock of a replica may be set.
    pub(super) fn jump_clocks(&mut self) {
        if !self.clocks.dice.chance(30) {
            return;
        }
        let number = self.clocks.dice.roll(self.replicas.len());
        let ahead = self.clocks.of_replica();
        if let Some(replica) = &self.replicas[number] {
            replica.time.set_ahead(ahead);
            self.log(|| format!("the clock of replica {number} is now {ahead} s ahead"));
        }
    }

    /// [`Promise::DelayIsKept`]: it is not replaced sooner.
    pub(super) fn delay_is_kept(
        &self,
        number: usize,
        pair: &Pair,
        action: &Action,
    ) -> Result<(), Breach> {
        let Action::DeleteJob {
            uid,
            cause: StopCause::Replaced,
            ..
        } = action
        else {
            return Ok(());
        };
        let history = self.truth.history(pair);
        let jobs = history.into_iter().flat_map(|history| &history.jobs);
        let Some(job) = jobs.rev().find(|job| *job.uid == *uid.to_string()) else {
            return Ok(());
        };
        let floors = self.floors_of(number);
        let seen = job.since(floors.jobs).next();
        let seen = seen.filter(|it| it.revision <= floors.jobs);
        let seen = seen.and_then(|state| state.object.as_deref());
        let is_end_seen = seen.is_some_and(has_ended);
        let failed = failed_ms(job, history, Some(floors.pods).filter(|_| !is_end_seen));
        let failed = failed.filter(|_| !self.is_restored());
        let Some((first_ms, _)) = failed else {
            return Ok(());
        };
        let now_ms = self.server().model.cluster.clock().now_ms();
        let until_ms = first_ms + delays_ms(job).0;
        let slack_ms = SLACK_MS + history.map_or(0, late_ms);
        check(Promise::DelayIsKept, until_ms - slack_ms <= now_ms, || {
            format!("{uid} failed at {first_ms}, and is replaced at {now_ms}, not {until_ms}")
        })
    }

    /// [`Promise::DelayIsKept`]: it is not kept longer. Without faults no time passes before a replica knows of a change.
    pub(super) fn delay_ends(&self, pair: &Pair, response: &Response) -> Result<(), Breach> {
        let Response::Progress { progress, .. } = response else {
            return Ok(());
        };
        let is_final = progress.finding.prognosis == Prognosis::Terminal;
        let history = self
            .truth
            .history(pair)
            .filter(|_| is_final && progress.is_failure_report && self.profile.is_calm);
        let live = history.and_then(|history| history.live_jobs().next());
        let failed = live.and_then(|job| failed_ms(job, history, None).zip(Some(job)));
        let Some(((_, last_ms), job)) = failed else {
            return Ok(());
        };
        let now_ms = self.server().model.cluster.clock().now_ms();
        let until_ms = last_ms + delays_ms(job).1;
        check(Promise::DelayIsKept, now_ms <= until_ms + SLACK_MS, || {
            format!(
                "{} failed at {last_ms}, and is kept at {now_ms}, beyond {until_ms}",
                job.uid
            )
        })
    }

    fn is_restored(&self) -> bool {
        self.profile.unreliable == Unreliable::Etcd
    }
}

/// When this Job failed, if it has: the first sign of it, and when its condition said so. `unseen`: a replica
/// does not know the condition, but pods as of this revision.
fn failed_ms(
    job: &ObjectHistory,
    history: Option<&InstanceHistory>,
    unseen: Option<u64>,
) -> Option<(i64, i64)> {
    let now = job.now()?;
    let conditions = now["status"]["conditions"].as_array().into_iter().flatten();
    let ends =
        |condition: &&Value| matches!(condition["type"].as_str(), Some("FailureTarget" | "Failed"));
    let end = conditions.clone().find(ends)?;
    if end["reason"] == "DeadlineExceeded" {
        return None;
    }
    let condition_ms = job.first_ms(has_ended)?;
    let is_over = |pod: &Value| {
        let state = &pod["status"]["containerStatuses"][0]["state"];
        let is_bad = |state: &Value| !state.is_null() && state["exitCode"] != 0;
        is_bad(&state["terminated"])
            || !state["waiting"]["message"].is_null()
            || pod["status"]["phase"] == "Failed"
    };
    let pods = history.into_iter().flat_map(|history| &history.pods);
    let pods = pods.filter(|pod| pod.owner.as_ref() == Some(&job.uid));
    let first = pods.clone().filter_map(|pod| pod.first_ms(is_over)).min();
    let first_ms = first.map_or(condition_ms, |first| first.min(condition_ms));
    // What is not ready for so long has probably failed, and counts from then on for a replica that has not
    // seen it go on: it may replace it, and cannot know better.
    let late_ms = unseen.map(|floor| {
        let is_ready = |pod: &Value| ready_address(pod).is_some();
        let unready = |pod: &Value| !is_ready(pod);
        let was_ready = pods.clone().any(|pod| pod.has_been(floor, is_ready));
        let mut lasting = pods.filter_map(|pod| pod.lasting_ms(floor, unready));
        let begun = if was_ready {
            lasting.next_back()
        } else {
            Some(job.first().at_ms)
        };
        begun.map(|begun| begun + LEAST_BUDGET_MS)
    });
    let late_ms = late_ms.flatten();
    let first_ms = late_ms.map_or(first_ms, |late_ms| first_ms.min(late_ms));
    Some((first_ms, condition_ms))
}

/// The restart delay of this Job, at least and at most, in milliseconds.
fn delays_ms(job: &ObjectHistory) -> (i64, i64) {
    let annotations = job.now().map(|job| &job["metadata"]["annotations"]);
    let text = |what: &str| annotations?[format!("{PREFIX}{what}")].as_str();
    let base = if text("instance-type") == Some("brief") {
        2_000
    } else {
        10_000
    };
    let failures: u32 = text("failures")
        .and_then(|count| count.parse().ok())
        .unwrap_or(0);
    // After a long run it is the first failure.
    let lasted_ms = job
        .first_ms(has_ended)
        .map_or(0, |end| end - job.first().at_ms);
    let longest = (base << failures.min(8)).min(300_000);
    let least = if lasted_ms >= 590_000 { base } else { longest };
    (least, longest)
}
