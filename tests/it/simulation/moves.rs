//! The random events of a schedule, drawn from its seed, and its end.
//!
//! Three kinds of events are perturbations known to find real bugs in controllers (Sieve,
//! OSDI '22): [`World::make_stale`], [`World::stop_between_writes`] (intermediate states) and
//! [`World::hide_events`] (unobserved states).

use std::time::Duration;

use config_controller::clock::Clock;
use serde_json::{Value, json};

use super::callers::RequestKind;
use super::dice::Dice;
use super::promises::{Breach, Promise, check};
use super::replica::InFlight;
use super::server::{Cut, lock};
use super::truth::Pair;
use super::world::{World, key_of, what};
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::cluster::write::{DeleteOptions, Part};
use crate::fake_kube::cluster::{Key, is_deleting, meta};
use crate::fake_kube::dynamics::has_condition;
use crate::fake_kube::dynamics::pod_script::{Exit, PodScript, PodScriptRule};
use crate::fake_kube::dynamics::pods::PodMove;
use crate::harness::NAMESPACE;

impl World {
    /// Runs one random event.
    pub(super) fn random_event(&mut self) -> Result<(), Breach> {
        for _ in 0..20 {
            let happened = match self.dice.weighted(&self.profile.weights.events) {
                0 => self.random_request()?,
                1 => self.hang_up(),
                2 => {
                    let number = self.any_replica();
                    self.run_coordinator(number)?
                }
                3 => self.deliver_random_call()?,
                4 => self.deliver_random_result(),
                5 => self.run_random_reflector()?,
                6 => self.step_controllers(),
                7 => self.move_random_pod(),
                8 => {
                    let millis = self.dice.pick(&[1, 50, 200, 1000, 1500, 3000]);
                    self.log(|| format!("{millis} ms pass"));
                    self.pass(Duration::from_millis(millis)).map(|()| true)?
                }
                9 => {
                    let secs = self.dice.pick(&[5, 10, 15, 40, 95, 310, 700]);
                    self.log(|| format!("{secs} s pass"));
                    self.pass(Duration::from_secs(secs)).map(|()| true)?
                }
                10 => self.delete_random_object(),
                _ => !self.profile.is_calm && self.perturb()?,
            };
            if happened {
                return self.observe();
            }
        }
        self.observe()
    }

    fn any_replica(&mut self) -> usize {
        self.dice.roll(self.replicas.len())
    }

    fn any_pair(&mut self) -> Pair {
        let at = self.dice.roll(self.profile.pairs.len());
        self.profile.pairs[at].clone()
    }

    fn random_request(&mut self) -> Result<bool, Breach> {
        let (number, pair) = (self.any_replica(), self.any_pair());
        let waits = [None, None, Some(0), Some(1), Some(5), Some(30)];
        let wait = self.dice.pick(&waits).map(Duration::from_secs);
        let kind = match self.dice.roll(10) {
            0 => RequestKind::Stop,
            1 => self
                .dice
                .pick(&[RequestKind::Stop, RequestKind::StopAndWait]),
            2 => RequestKind::Label,
            3 => self.dice.pick(&[
                RequestKind::Find,
                RequestKind::EnsureOrStop,
                RequestKind::Confirm,
            ]),
            _ => RequestKind::Ensure,
        };
        let sent = self.send_request(number, &pair, kind, wait)?;
        if kind == RequestKind::Label && self.profile.is_crowded {
            for _ in 0..self.serial % 5 {
                self.send_request(number, &pair, kind, wait)?;
            }
        }
        if kind == RequestKind::Label && self.profile.is_fenced {
            for other in (0..self.replicas.len()).filter(|other| *other != number) {
                self.send_request(other, &pair, kind, wait)?;
            }
        }
        Ok(sent)
    }

    fn deliver_random_call(&mut self) -> Result<bool, Breach> {
        let (number, roll) = (self.any_replica(), self.dice.roll(64));
        let calls = self.replicas[number]
            .as_ref()
            .map_or(0, |replica| replica.calls.len());
        if calls == 0 {
            return Ok(false);
        }
        self.deliver_call(number, roll % calls)
    }

    fn deliver_random_result(&mut self) -> bool {
        let (number, roll) = (self.any_replica(), self.dice.roll(64));
        let is_paused = self.is_paused(number);
        let Some(replica) = self.replicas[number].as_mut().filter(|_| !is_paused) else {
            return false;
        };
        if replica.calls.is_empty() {
            return false;
        }
        let at = roll % replica.calls.len();
        let key = replica.calls[at].key().clone();
        let came = replica.deliver_result(at);
        if came {
            self.log(|| format!("replica {number} gets the result of its call for {key}"));
        }
        came
    }

    fn run_random_reflector(&mut self) -> Result<bool, Breach> {
        let number = self.any_replica();
        let which = self.dice.pick(&[0, 1, 1, 1, 2, 2, 2]);
        let of_leases = self.profile.idles && self.dice.chance(200);
        let which = if of_leases { 3 } else { which };
        let most = self.dice.pick(&[1, 1, 30]);
        let mut done = 0;
        while done < most && self.reflect(number, which)? {
            done += 1;
        }
        Ok(done > 0)
    }

    fn step_controllers(&mut self) -> bool {
        let moved = {
            let mut server = lock(&self.server);
            let model = &mut server.model;
            model.dynamics.step(&mut model.cluster)
        };
        if moved {
            self.log(|| "the controllers take a step".to_owned());
        }
        moved
    }

    fn any_object(&mut self, resource: Resource) -> Option<(Key, Value)> {
        let roll = self.dice.roll(1 << 20);
        let server = self.server();
        let objects = server.model.cluster.objects(resource, NAMESPACE);
        let keys: Vec<&Key> = objects.map(|(key, _)| key).collect();
        let key = (*keys.get(roll % keys.len().max(1))?).clone();
        let object = server.model.cluster.object(&key)?;
        Some((key, Value::clone(object)))
    }

    fn move_random_pod(&mut self) -> bool {
        let Some((key, pod)) = self.any_object(Resource::Pods) else {
            return false;
        };
        let Some(next) = pod_move(&mut self.dice, &pod) else {
            return false;
        };
        let moved = {
            let mut server = lock(&self.server);
            let model = &mut server.model;
            model.dynamics.make_move(&mut model.cluster, &key, &next)
        };
        if moved {
            self.log(|| format!("pod {}: {next:?}", key.2));
        }
        moved
    }

    /// Deletes a random Job or pod, as another tool would.
    fn delete_random_object(&mut self) -> bool {
        let resource = self.dice.pick(&[Resource::Jobs, Resource::Pods]);
        let how = self
            .dice
            .pick(&["Foreground", "Foreground", "Background", "Orphan"]);
        let Some((key, _)) = self.any_object(resource) else {
            return false;
        };
        let options = DeleteOptions {
            propagation: Some(how.to_owned()),
            ..DeleteOptions::default()
        };
        let deleted = self.server().model.cluster.delete(&key, &options).is_ok();
        self.log(|| format!("another client deletes {key:?} ({how})"));
        deleted
    }

    /// The garbage collector, whose view is behind, lets a Job that is being deleted go before its pods.
    fn lose_a_job(&mut self) -> bool {
        let Some((key, job)) = self.any_object(Resource::Jobs) else {
            return false;
        };
        if !is_deleting(&job) {
            return false;
        }
        let finalizers = json!({"metadata": {"finalizers": null}});
        let freed = {
            let cluster = &mut self.server().model.cluster;
            cluster
                .merge_patch(&key, &finalizers, Part::Main, false)
                .is_ok()
        };
        self.count("orphaned");
        self.log(|| format!("{key:?} goes before its pods"));
        freed
    }

    fn perturb(&mut self) -> Result<bool, Breach> {
        let number = self.any_replica();
        let secs = self.dice.pick(&[1, 3, 8]);
        let until = self.time.now() + Duration::from_secs(secs);
        Ok(
            match self.dice.weighted(&self.profile.weights.perturbations) {
                10 => self.pause(number),
                11 | 12 => self.back_up_or_restore(),
                0 | 1 => self.make_stale(number),
                2 | 3 => self.stop_between_writes(number),
                4 | 5 => self.hide_events(number)?,
                6 if self.replicas[number].is_none() => {
                    self.boot(number);
                    true
                }
                6 => self.cut_a_watch(number),
                9 => self.lose_a_job(),
                7 => {
                    self.server().away_until = Some(until);
                    self.log(|| format!("the API server is unreachable for {secs} s"));
                    true
                }
                _ => {
                    self.server().forbidden_until = Some(until);
                    self.log(|| format!("everything is forbidden for {secs} s"));
                    true
                }
            },
        )
    }

    /// **Stale**: the cache of one replica lags from now on. (Going back to an older version is one of
    /// the faults of lists and watches.)
    fn make_stale(&mut self, number: usize) -> bool {
        let which = self.dice.pick(&[1, 2]);
        let secs = self.dice.pick(&[1, 5, 20, 60]);
        let until = self.time.now() + Duration::from_secs(secs);
        let pipe = self.replicas[number]
            .as_ref()
            .and_then(|replica| replica.reflectors[which].pipe());
        let Some(pipe) = pipe else {
            return false;
        };
        lock(pipe).frozen_until = Some(until);
        self.count("stale");
        self.log(|| {
            format!(
                "replica {number} receives nothing for {secs} s about {}",
                what(which)
            )
        });
        true
    }

    /// **Intermediate**: a replica is killed between two of its own writes, preferably while one of
    /// them is in flight. It restarts immediately, or later.
    fn stop_between_writes(&mut self, number: usize) -> bool {
        let Some(replica) = &self.replicas[number] else {
            self.boot(number);
            return true;
        };
        let between = replica
            .calls
            .iter()
            .any(|call| matches!(call, InFlight::Completed(..)));
        if !between && self.dice.chance(600) {
            return false;
        }
        self.count(if between { "intermediate" } else { "killed" });
        self.kill(number);
        if self.dice.chance(700) {
            self.boot(number);
        }
        true
    }

    /// **Unobserved**: a watch breaks, many changes follow, and the history is compacted before the
    /// replica reconnects, so that it must list.
    fn hide_events(&mut self, number: usize) -> Result<bool, Breach> {
        let which = self.dice.pick(&[1, 2]);
        if !self.cut(number, which, Cut::Lost) {
            return Ok(false);
        }
        for _ in 0..self.dice.roll(12) {
            let _ = self.move_random_pod() | self.step_controllers();
        }
        if self.dice.chance(300) {
            let _ = self.delete_random_object();
        }
        self.observe()?;
        self.server().compact();
        self.count("unobserved");
        self.log(|| "the history is compacted".to_owned());
        Ok(true)
    }

    fn cut_a_watch(&mut self, number: usize) -> bool {
        let which = self.dice.roll(self.watches());
        let cut = self.dice.pick(&[Cut::Closed, Cut::Lost, Cut::WithinLine]);
        self.cut(number, which, cut)
    }

    fn cut(&mut self, number: usize, which: usize, cut: Cut) -> bool {
        let pipe = self.replicas[number]
            .as_ref()
            .and_then(|replica| replica.reflectors[which].pipe());
        let Some(pipe) = pipe else {
            return false;
        };
        lock(pipe).cut = Some(cut);
        self.log(|| format!("replica {number}'s watch of {} ends: {cut:?}", what(which)));
        true
    }
}

/// Whether the kubelet of this pod never ends it: one of eight.
fn hangs(pod: &Value) -> bool {
    let sum: u32 = meta(pod, "uid").bytes().map(u32::from).sum();
    sum.is_multiple_of(8)
}

/// A random next transition of a pod.
fn pod_move(dice: &mut Dice, pod: &Value) -> Option<PodMove> {
    let phase = pod["status"]["phase"].as_str().unwrap_or("Pending");
    if is_deleting(pod) {
        return match dice.roll(100) {
            0..10 => Some(PodMove::LoseNode),
            // Its kubelet hangs, as long as the faults last.
            _ if hangs(pod) => None,
            10..80 => Some(PodMove::Terminate),
            _ => None,
        };
    }
    if matches!(phase, "Succeeded" | "Failed") {
        return None;
    }
    let exit = |code: i64| {
        PodMove::Exit(Exit {
            after_ms: 0,
            code,
            reason: String::new(),
            message: String::new(),
        })
    };
    let waits = |reason: &str, message: &str| PodMove::Wait(reason.to_owned(), message.to_owned());
    if !has_condition(pod, "PodScheduled") {
        return Some(match dice.roll(10) {
            0 => PodMove::Unschedulable("0/1 nodes are available".to_owned()),
            1..5 => PodMove::Ready(true),
            _ => PodMove::Schedule,
        });
    }
    if phase == "Pending" {
        return Some(match dice.roll(16) {
            0 if pod["status"]["podIP"].is_null() => PodMove::Mount,
            1 if pod["status"]["podIP"].is_null() => PodMove::Pull,
            2 => waits("ErrImagePull", "dial tcp: i/o timeout"),
            3 => waits("ImagePullBackOff", "Back-off pulling image"),
            4 => waits("ErrImagePull", "unexpected status: 404 Not Found"),
            5 => waits("CreateContainerConfigError", "secret not found"),
            6 => waits("InvalidImageName", "couldn't parse image name"),
            7..9 => PodMove::Run,
            _ => PodMove::Ready(true),
        });
    }
    Some(match dice.roll(16) {
        0 => exit(0),
        1 => exit(1),
        2 => exit(137),
        3 => PodMove::Evict,
        4 => PodMove::EvictByKubelet("The node was low on resource: memory.".to_owned()),
        5 | 6 => PodMove::Ready(false),
        7 => PodMove::Run,
        _ if has_condition(pod, "Ready") => return None,
        _ => PodMove::Ready(true),
    })
}

/// How long the schedule runs without faults before the final checks.
const CALM: Duration = Duration::from_secs(150);

/// The end of a schedule, without faults.
impl World {
    /// Checks that everything settles, every cache is up to date, each name can be started and
    /// stopped, and nothing is left behind.
    pub(super) fn end(&mut self) -> Result<(), Breach> {
        self.log(|| "from now on there are no faults".to_owned());
        self.end_faults();
        self.end_pauses(true)?;
        let end = self.time.now() + CALM;
        while self.time.now() < end {
            self.settle()?;
            self.pass(Duration::from_secs(5))?;
        }
        self.settle()?;
        let unfinished = self.unfinished();
        check(Promise::Settles, unfinished == 0, || {
            format!("{unfinished} requests, calls and starts are unfinished")
        })?;
        self.unused_have_ended()?;
        self.caches_are_current()?;
        let mut pairs = self.profile.pairs.clone();
        pairs.retain(|pair| !self.profile.is_stuck(&key_of(pair).job_name()));
        self.request_what_is_stuck()?;
        for pair in &pairs {
            self.check_request(pair, RequestKind::Stop)?;
        }
        for pair in &pairs {
            for kind in [RequestKind::Ensure, RequestKind::Ensure, RequestKind::Stop] {
                self.check_request(pair, kind)?;
            }
        }
        self.caches_are_current()?;
        let left = |resource| {
            let server = lock(&self.server);
            let objects = server.model.cluster.objects(resource, NAMESPACE);
            // Another client has taken a pod from its Job, beside which there was another one.
            let is_released = |pod: &Value| pod["metadata"]["ownerReferences"].is_null();
            let objects = objects.filter(|(key, _)| !self.profile.is_stuck(&key.2));
            let left = objects.filter(|(_, it)| resource == Resource::Jobs || !is_released(it));
            left.map(|(key, _)| key.2.clone()).collect::<Vec<_>>()
        };
        let left = [left(Resource::Jobs), left(Resource::Pods)].concat();
        check(Promise::NothingIsLeft, left.is_empty(), || {
            format!("{left:?}")
        })
    }

    fn end_faults(&mut self) {
        for number in 0..self.replicas.len() {
            if self.replicas[number].is_none() {
                self.boot(number);
            }
            let reflectors = self.replicas[number]
                .iter()
                .flat_map(|replica| &replica.reflectors);
            reflectors
                .filter_map(|reflector| reflector.pipe())
                .for_each(|pipe| lock(pipe).unfreeze());
        }
        let mut server = lock(&self.server);
        server.end_faults();
        server.model.dynamics.set_pod_script(PodScriptRule {
            name: "*".to_owned(),
            pod_script: PodScript::default(),
        });
        if let Some(stuck) = &self.profile.stuck {
            server.model.dynamics.set_pod_script(PodScriptRule {
                name: stuck.job.clone(),
                pod_script: PodScript::by_hand(),
            });
        }
    }

    /// Runs everything that can happen without time passing.
    fn settle(&mut self) -> Result<(), Breach> {
        loop {
            {
                let mut server = lock(&self.server);
                let model = &mut server.model;
                model.dynamics.settle(&mut model.cluster);
            }
            self.observe()?;
            let happened = self.finish_calls()?;
            if !happened {
                return Ok(());
            }
        }
    }

    fn caches_are_current(&self) -> Result<(), Breach> {
        let server = self.server();
        let truth = |resource| {
            let objects = server.model.cluster.objects(resource, NAMESPACE);
            let objects = objects.map(|(_, object)| {
                (
                    meta(object, "name").to_owned(),
                    meta(object, "resourceVersion").to_owned(),
                )
            });
            objects.collect::<Vec<_>>()
        };
        let (jobs, pods) = (truth(Resource::Jobs), truth(Resource::Pods));
        for replica in self.replicas.iter().flatten() {
            let seen = replica.census.jobs.all();
            let seen: Vec<_> = seen.iter().map(|job| shown(&job.metadata)).collect();
            check(Promise::CacheIsCurrent, seen == jobs, || {
                format!("{seen:?}, not {jobs:?}")
            })?;
            let seen = replica.census.pods.all();
            let seen: Vec<_> = seen.iter().map(|pod| shown(&pod.metadata)).collect();
            check(Promise::CacheIsCurrent, seen == pods, || {
                format!("{seen:?}, not {pods:?}")
            })?;
            replica.check_reader()?;
        }
        Ok(())
    }

    /// Requests the instance or its stop, and checks that it succeeds.
    fn check_request(&mut self, pair: &Pair, kind: RequestKind) -> Result<(), Breach> {
        let number = self.any_replica();
        let before = self.server().requests;
        let is_ready = |world: &Self| {
            let replica = world.replicas[number].as_ref();
            replica.is_some_and(|replica| replica.cache.ready(&key_of(pair)).is_some())
        };
        let was_ready = is_ready(self);
        let sent = self.send_request(number, pair, kind, None)?;
        let serial = self.last_serial();
        if was_ready && kind == RequestKind::Ensure {
            let free = !self.waits(serial) && self.server().requests == before;
            check(Promise::ReadsCostNothing, free, || format!("{pair:?}"))?;
        }
        // Longer than `min-ready`.
        for _ in 0..8 {
            self.settle()?;
            self.pass(Duration::from_millis(500))?;
        }
        self.settle()?;
        let done = sent && !self.waits(serial) && is_ready(self) == (kind == RequestKind::Ensure);
        check(Promise::StartsAndStops, done, || {
            format!("{kind:?} of {pair:?}")
        })
    }
}

fn shown(metadata: &config_controller::kube::types::ObjectMeta) -> (String, String) {
    (
        metadata.name.to_string(),
        metadata.resource_version.to_string(),
    )
}
