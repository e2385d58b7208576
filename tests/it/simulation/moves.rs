//! What happens next: the moves of a schedule, drawn from its seed, and its end.
//!
//! Three kinds of moves are perturbations that were shown to find real bugs in controllers (Sieve,
//! OSDI '22): [`World::make_stale`], [`World::stop_between_writes`] (intermediate states) and
//! [`World::hide_events`] (unobserved states).

use std::time::Duration;

use config_controller::app::coordinator::Limits;
use config_controller::clock::Clock;
use serde_json::Value;

use super::broken::Broken;
use super::callers::Wish;
use super::dice::Dice;
use super::promises::{Breach, Promise, check};
use super::replica::UnderWay;
use super::server::{Cut, lock};
use super::truth::Pair;
use super::world::{Profile, World, key_of, what};
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::cluster::write::DeleteOptions;
use crate::fake_kube::cluster::{Key, is_deleting, meta};
use crate::fake_kube::dynamics::has_condition;
use crate::fake_kube::dynamics::pod_script::{Exit, PodScript, PodScriptRule};
use crate::fake_kube::dynamics::pods::PodMove;
use crate::harness::NAMESPACE;

/// Instances of a schedule. The two of the last one have the same Job name.
const PAIRS: [&[(&str, &str)]; 4] = [
    &[("hello", "ann")],
    &[("hello", "ann"), ("loop", "ann")],
    &[("hello", "ann"), ("brief", "ann"), ("hello", "bob")],
    &[("hello", "x-ann"), ("hello-x", "ann")],
];

impl Profile {
    /// How a schedule with this seed is.
    pub(super) fn draw(dice: &mut Dice, broken: Broken) -> Self {
        let is_calm = dice.chance(150);
        let pairs = dice.pick(&PAIRS).iter();
        let limits = if dice.chance(150) { (6, 3) } else { (40, 20) };
        Self {
            replicas: 1 + dice.roll(3),
            pairs: pairs
                .map(|(t, n)| ((*t).to_owned(), (*n).to_owned()))
                .collect(),
            is_calm,
            faults_per_thousand: if is_calm {
                0
            } else {
                dice.pick(&[0, 20, 80, 250])
            },
            moves: 60 + dice.roll(120),
            limits: Limits {
                parked_max: limits.0,
                parked_per_key_max: limits.1,
            },
            broken,
        }
    }
}

impl World {
    /// Something happens.
    pub(super) fn a_move(&mut self) -> Result<(), Breach> {
        for _ in 0..20 {
            let happened = match self.dice.roll(100) {
                0..14 => self.somebody_asks()?,
                14..16 => self.hang_up(),
                16..30 => {
                    let number = self.any_replica();
                    self.run_coordinator(number)?
                }
                30..41 => self.a_call_arrives()?,
                41..52 => self.an_answer_arrives(),
                52..72 => self.somebody_reflects()?,
                72..82 => self.controllers_step(),
                82..92 => self.a_pod_moves(),
                92..96 => {
                    let millis = self.dice.pick(&[1, 50, 200, 1000, 1500, 3000]);
                    self.tell(|| format!("{millis} ms pass"));
                    self.pass(Duration::from_millis(millis)).map(|()| true)?
                }
                96 => {
                    let secs = self.dice.pick(&[5, 10, 15, 40, 95, 310, 700]);
                    self.tell(|| format!("{secs} s pass"));
                    self.pass(Duration::from_secs(secs)).map(|()| true)?
                }
                97 => self.somebody_interferes(),
                _ => !self.profile.is_calm && self.perturb()?,
            };
            if happened {
                return self.look();
            }
        }
        self.look()
    }

    fn any_replica(&mut self) -> usize {
        self.dice.roll(self.replicas.len())
    }

    fn any_pair(&mut self) -> Pair {
        let at = self.dice.roll(self.profile.pairs.len());
        self.profile.pairs[at].clone()
    }

    fn somebody_asks(&mut self) -> Result<bool, Breach> {
        let (number, pair) = (self.any_replica(), self.any_pair());
        let waits = [None, None, Some(0), Some(1), Some(5), Some(30)];
        let wait = self.dice.pick(&waits).map(Duration::from_secs);
        let wish = match self.dice.roll(10) {
            0 => Wish::Stop,
            1 => self.dice.pick(&[Wish::Stop, Wish::StopAndWait]),
            2 => Wish::Label,
            3 => self.dice.pick(&[Wish::Find, Wish::EnsureOrStop]),
            _ => Wish::Ensure,
        };
        self.ask(number, &pair, wish, wait)
    }

    fn a_call_arrives(&mut self) -> Result<bool, Breach> {
        let (number, roll) = (self.any_replica(), self.dice.roll(64));
        let calls = self.replicas[number]
            .as_ref()
            .map_or(0, |replica| replica.calls.len());
        if calls == 0 {
            return Ok(false);
        }
        self.carry(number, roll % calls)
    }

    fn an_answer_arrives(&mut self) -> bool {
        let (number, roll) = (self.any_replica(), self.dice.roll(64));
        let Some(replica) = &mut self.replicas[number] else {
            return false;
        };
        if replica.calls.is_empty() {
            return false;
        }
        let at = roll % replica.calls.len();
        let key = replica.calls[at].key().clone();
        let came = replica.bring_back(at);
        if came {
            self.tell(|| format!("replica {number} has its answer about {key}"));
        }
        came
    }

    fn somebody_reflects(&mut self) -> Result<bool, Breach> {
        let number = self.any_replica();
        let which = self.dice.pick(&[0, 1, 1, 1, 2, 2, 2]);
        let most = self.dice.pick(&[1, 1, 30]);
        let mut done = 0;
        while done < most && self.reflect(number, which)? {
            done += 1;
        }
        Ok(done > 0)
    }

    fn controllers_step(&mut self) -> bool {
        let moved = {
            let mut server = lock(&self.server);
            let model = &mut server.model;
            model.dynamics.step(&mut model.cluster)
        };
        if moved {
            self.tell(|| "the controllers make a step".to_owned());
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

    fn a_pod_moves(&mut self) -> bool {
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
            self.tell(|| format!("pod {}: {next:?}", key.2));
        }
        moved
    }

    /// Somebody deletes a Job or a pod with other tools.
    fn somebody_interferes(&mut self) -> bool {
        let resource = self.dice.pick(&[Resource::Jobs, Resource::Pods]);
        let how = self.dice.pick(&["Foreground", "Background"]);
        let Some((key, _)) = self.any_object(resource) else {
            return false;
        };
        let options = DeleteOptions {
            propagation: Some(how.to_owned()),
            ..DeleteOptions::default()
        };
        let deleted = self.server().model.cluster.delete(&key, &options).is_ok();
        self.tell(|| format!("somebody deletes {key:?} ({how})"));
        deleted
    }

    fn perturb(&mut self) -> Result<bool, Breach> {
        let number = self.any_replica();
        let secs = self.dice.pick(&[1, 3, 8]);
        let until = self.time.now() + Duration::from_secs(secs);
        Ok(match self.dice.roll(9) {
            0 | 1 => self.make_stale(number),
            2 | 3 => self.stop_between_writes(number),
            4 | 5 => self.hide_events(number)?,
            6 if self.replicas[number].is_none() => {
                self.boot(number);
                true
            }
            6 => self.cut_a_watch(number),
            7 => {
                self.server().away_until = Some(until);
                self.tell(|| format!("the API server is away for {secs} s"));
                true
            }
            _ => {
                self.server().forbidden_until = Some(until);
                self.tell(|| format!("everything is forbidden for {secs} s"));
                true
            }
        })
    }

    /// **Stale**: the cache of one replica lags from here on. (That it goes back to an older
    /// version is among the faults of lists and watches.)
    fn make_stale(&mut self, number: usize) -> bool {
        let which = self.dice.pick(&[1, 2]);
        let secs = self.dice.pick(&[1, 5, 20, 60]);
        let until = self.time.now() + Duration::from_secs(secs);
        let pipe = self.replicas[number]
            .as_ref()
            .and_then(|replica| replica.loops[which].pipe());
        let Some(pipe) = pipe else {
            return false;
        };
        lock(pipe).frozen_until = Some(until);
        self.count("stale");
        self.tell(|| {
            format!(
                "replica {number} hears nothing for {secs} s of {}",
                what(which)
            )
        });
        true
    }

    /// **Intermediate**: a replica is killed between two of its own writes, preferably when one of
    /// them is on its way. It starts again at once, or later.
    fn stop_between_writes(&mut self, number: usize) -> bool {
        let Some(replica) = &self.replicas[number] else {
            self.boot(number);
            return true;
        };
        let between = replica
            .calls
            .iter()
            .any(|call| matches!(call, UnderWay::Back(..)));
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

    /// **Unobserved**: a watch breaks, much happens, and history forgets it before the replica
    /// asks again: it must list.
    fn hide_events(&mut self, number: usize) -> Result<bool, Breach> {
        let which = self.dice.pick(&[1, 2]);
        if !self.cut(number, which, Cut::Lost) {
            return Ok(false);
        }
        for _ in 0..self.dice.roll(12) {
            let _ = self.a_pod_moves() | self.controllers_step();
        }
        if self.dice.chance(300) {
            let _ = self.somebody_interferes();
        }
        self.look()?;
        self.server().compact();
        self.count("unobserved");
        self.tell(|| "history is forgotten".to_owned());
        Ok(true)
    }

    fn cut_a_watch(&mut self, number: usize) -> bool {
        let which = self.dice.roll(3);
        let cut = self.dice.pick(&[Cut::Closed, Cut::Lost, Cut::WithinLine]);
        self.cut(number, which, cut)
    }

    fn cut(&mut self, number: usize, which: usize, cut: Cut) -> bool {
        let pipe = self.replicas[number]
            .as_ref()
            .and_then(|replica| replica.loops[which].pipe());
        let Some(pipe) = pipe else {
            return false;
        };
        lock(pipe).cut = Some(cut);
        self.tell(|| format!("replica {number}'s watch of {} ends: {cut:?}", what(which)));
        true
    }
}

/// What may become of a pod next.
fn pod_move(dice: &mut Dice, pod: &Value) -> Option<PodMove> {
    let phase = pod["status"]["phase"].as_str().unwrap_or("Pending");
    if is_deleting(pod) {
        return dice.chance(800).then_some(PodMove::Terminate);
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

/// How long all goes well before it is asked whether all is well.
const CALM: Duration = Duration::from_secs(150);

/// The end of a schedule: nothing goes wrong any more.
impl World {
    /// All comes to rest, every cache is the truth, each name can be started and stopped, and
    /// nothing is left behind.
    pub(super) fn end(&mut self) -> Result<(), Breach> {
        self.tell(|| "from here on nothing goes wrong any more".to_owned());
        self.mend();
        let end = self.time.now() + CALM;
        while self.time.now() < end {
            self.settle()?;
            self.pass(Duration::from_secs(5))?;
        }
        self.settle()?;
        let unfinished = self.unfinished();
        check(Promise::ComesToRest, unfinished == 0, || {
            format!("{unfinished} wait or are under way")
        })?;
        self.views_are_true()?;
        let pairs = self.profile.pairs.clone();
        for pair in &pairs {
            self.comes_about(pair, Wish::Stop)?;
        }
        for pair in &pairs {
            for wish in [Wish::Ensure, Wish::Ensure, Wish::Stop] {
                self.comes_about(pair, wish)?;
            }
        }
        self.views_are_true()?;
        let left = |resource| {
            let server = lock(&self.server);
            let objects = server.model.cluster.objects(resource, NAMESPACE);
            objects.map(|(key, _)| key.2.clone()).collect::<Vec<_>>()
        };
        let left = [left(Resource::Jobs), left(Resource::Pods)].concat();
        check(Promise::NothingIsLeft, left.is_empty(), || {
            format!("{left:?}")
        })
    }

    fn mend(&mut self) {
        for number in 0..self.replicas.len() {
            if self.replicas[number].is_none() {
                self.boot(number);
            }
            let loops = self.replicas[number]
                .iter()
                .flat_map(|replica| &replica.loops);
            loops
                .filter_map(|looping| looping.pipe())
                .for_each(|pipe| lock(pipe).mend());
        }
        let mut server = lock(&self.server);
        server.mend();
        server.model.dynamics.set_pod_script(PodScriptRule {
            name: "*".to_owned(),
            pod_script: PodScript::default(),
        });
    }

    /// All that can happen without time passing happens.
    fn settle(&mut self) -> Result<(), Breach> {
        loop {
            {
                let mut server = lock(&self.server);
                let model = &mut server.model;
                model.dynamics.settle(&mut model.cluster);
            }
            self.look()?;
            let happened = self.finish_calls()?;
            if !happened {
                return Ok(());
            }
        }
    }

    fn views_are_true(&self) -> Result<(), Breach> {
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
            let seen = replica.cache.jobs.snapshot();
            let seen: Vec<_> = seen.iter().map(|job| shown(&job.metadata)).collect();
            check(Promise::ViewIsTruth, seen == jobs, || {
                format!("{seen:?}, not {jobs:?}")
            })?;
            let seen = replica.cache.pods.snapshot();
            let seen: Vec<_> = seen.iter().map(|pod| shown(&pod.metadata)).collect();
            check(Promise::ViewIsTruth, seen == pods, || {
                format!("{seen:?}, not {pods:?}")
            })?;
        }
        Ok(())
    }

    /// Somebody asks for the instance or for its stop, and gets it.
    fn comes_about(&mut self, pair: &Pair, wish: Wish) -> Result<(), Breach> {
        let number = self.any_replica();
        let before = self.server().requests;
        let is_ready = |world: &Self| {
            let replica = world.replicas[number].as_ref();
            replica.is_some_and(|replica| replica.cache.ready(&key_of(pair)).is_some())
        };
        let was_ready = is_ready(self);
        let asked = self.ask(number, pair, wish, None)?;
        let serial = self.last_serial();
        if was_ready && wish == Wish::Ensure {
            let free = !self.waits(serial) && self.server().requests == before;
            check(Promise::ReadsCostNothing, free, || format!("{pair:?}"))?;
        }
        for _ in 0..8 {
            self.settle()?;
            self.pass(Duration::from_millis(500))?;
        }
        self.settle()?;
        let done = asked && !self.waits(serial) && is_ready(self) == (wish == Wish::Ensure);
        check(Promise::StartsAndStops, done, || {
            format!("{wish:?} of {pair:?}")
        })
    }
}

fn shown(metadata: &config_controller::kube::types::ObjectMeta) -> (String, String) {
    (
        metadata.name.to_string(),
        metadata.resource_version.to_string(),
    )
}
