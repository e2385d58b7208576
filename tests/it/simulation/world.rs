//! One schedule's world: an API server, its controllers and kubelets, replicas, and those who
//! call them; and what is checked after every step.
//!
//! What happens next is decided in [`super::moves`]. Here is how it happens, and the ledger of who
//! waits for what.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use config_controller::app::desk::Limits;
use config_controller::app::flight::{Intent, Operation};
use config_controller::app::{Answer, Asked, Error, Origin, RequestIds, Token};
use config_controller::clock::Clock;
use config_controller::model::labels::MetaChange;
use config_controller::model::names::{AppType, InstanceKey, InstanceName};
use config_controller::model::template::Variables;
use serde_json::{Map, Value, json};

use super::broken::Broken;
use super::dice::{Dice, Time};
use super::promises::{self, Breach, Floors, Promise, check};
use super::replica::{Replica, UnderWay, WAITS};
use super::server::{Server, lock};
use super::truth::{Pair, Truth};
use crate::fake_kube::FakeKube;
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::dynamics::fate::Fate;
use crate::harness::{NAMESPACE, PREFIX};

/// Calls that a replica may make for a name within [`CALLS_WINDOW`] without a reason from outside.
const CALLS_MAX: usize = 6;

/// The time for which calls are counted.
const CALLS_WINDOW: Duration = Duration::from_secs(1);

/// How long a start that was given up may take to be stopped.
const GIVE_UP_TIME: Duration = Duration::from_secs(10);

/// How often time stands still for the reflectors, so that a jump does not pass for a silence.
const BREATH: Duration = Duration::from_secs(30);

/// What a caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Ensure,
    /// The instance if it is there; it is not started.
    Find,
    /// The instance, or its stop where it is not ready in time.
    EnsureOrStop,
    Stop,
    /// A stop that is answered when the Job is gone.
    StopAndWait,
    Label,
}

impl Wish {
    /// Whether it may start the instance.
    fn starts(self) -> bool {
        matches!(self, Self::Ensure | Self::EnsureOrStop)
    }

    /// Whether it stops the instance, whatever happens.
    fn stops(self) -> bool {
        matches!(self, Self::Stop | Self::StopAndWait)
    }
}

/// A request that waits for its answer.
#[derive(Clone, Debug)]
struct Waiting {
    pair: Pair,
    replica: usize,
    wish: Wish,
    deadline: Instant,
    floors: Floors,
    /// The revision at which it was made.
    asked: u64,
    /// Of a stop: nobody has wanted the instance since it was asked for.
    is_last_word: bool,
}

/// How a schedule is to be.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    /// How many replicas.
    pub(super) replicas: usize,
    /// Which instances there may be.
    pub(super) pairs: Vec<Pair>,
    /// Nothing goes wrong but pods.
    pub(super) is_calm: bool,
    /// Of a thousand requests to the API server so many meet a fault.
    pub(super) faults_per_thousand: usize,
    /// How many moves until all goes well again.
    pub(super) moves: usize,
    /// Of the desks.
    pub(super) limits: Limits,
    /// What is wrong with the API server on purpose.
    pub(super) broken: Broken,
}

/// What has come up, so that a simulation in which nothing happens is noticed.
pub(super) type Tally = BTreeMap<String, u64>;

/// Everything.
pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) profile: Profile,
    pub(super) time: Time,
    pub(super) server: Arc<Mutex<Server>>,
    /// `None` where a replica is down.
    pub(super) replicas: Vec<Option<Replica>>,
    pub(super) truth: Truth,
    pub(super) tally: Tally,
    /// What has happened, where somebody wants to read it.
    pub(super) story: Option<Vec<String>>,
    ids: RequestIds,
    serial: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// Who has hung up; an answer may have been on its way.
    hung_up: BTreeSet<u64>,
    /// The instances whose last word was a stop that was answered.
    stopped: BTreeMap<Pair, bool>,
    /// By replica the Jobs whose deletion it has answered, as long as it must remember them.
    deleted: Vec<Vec<(Pair, String)>>,
    /// When each replica made calls for each name, and what gave it reasons to.
    calls: BTreeMap<(usize, InstanceKey), VecDeque<Instant>>,
    reasons: VecDeque<(Instant, Pair)>,
    /// Lists that went back to an older state, so far.
    stale_lists: u64,
}

impl World {
    pub(super) fn new(seed: u64, mut dice: Dice, profile: Profile, story: bool) -> Self {
        let time = Time::new();
        let fake = FakeKube::builder().manual_clock().fate(Fate::by_hand());
        let mut model = fake.model();
        let templates = templates(&profile.pairs);
        let made = model
            .cluster
            .create(Resource::ConfigMaps, NAMESPACE, templates, false);
        made.expect("the ConfigMap of a schedule is valid");
        let server = Server::new(model, dice.next(), time.clone(), profile.broken);
        let count = profile.replicas;
        let mut world = Self {
            dice,
            profile,
            time,
            server: Arc::new(Mutex::new(server)),
            replicas: (0..count).map(|_| None).collect(),
            truth: Truth::default(),
            tally: Tally::new(),
            story: story.then(Vec::new),
            ids: RequestIds::new(seed, 0),
            serial: 0,
            waiting: BTreeMap::new(),
            hung_up: BTreeSet::new(),
            stopped: BTreeMap::new(),
            deleted: vec![Vec::new(); count],
            calls: BTreeMap::new(),
            reasons: VecDeque::new(),
            stale_lists: 0,
        };
        for number in 0..count {
            world.boot(number);
        }
        world
    }

    /// The API server, which nobody else has at this moment.
    pub(super) fn server(&self) -> MutexGuard<'_, Server> {
        lock(&self.server)
    }

    /// Notes what happens.
    pub(super) fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            let passed = self.time.passed().as_secs_f64();
            story.push(format!("{passed:9.3} s  {}", what()));
        }
    }

    /// Counts that something came up.
    pub(super) fn count(&mut self, what: &str) {
        match self.tally.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(self.tally.insert(what.to_owned(), 1)),
        }
    }

    /// A replica starts, and knows nothing.
    pub(super) fn boot(&mut self, number: usize) {
        let seed = self.dice.next();
        let replica = Replica::new(&self.server, &self.time, self.profile.limits, seed);
        self.replicas[number] = Some(replica);
        self.deleted[number].clear();
        self.tell(|| format!("replica {number} starts"));
    }

    /// A replica is killed: what it knows, and who waits there, is lost. A call that was on its
    /// way may still arrive.
    pub(super) fn kill(&mut self, number: usize) {
        let Some(mut replica) = self.replicas[number].take() else {
            return;
        };
        for at in 0..replica.calls.len() {
            if self.dice.chance(500) {
                replica.carry(at);
            }
        }
        self.waiting.retain(|_, waiting| waiting.replica != number);
        self.calls.retain(|(of, _), _| *of != number);
        self.tell(|| format!("replica {number} is killed"));
    }

    /// Learns what was written since the last time, and checks what must always hold.
    pub(super) fn look(&mut self) -> Result<(), Breach> {
        let touched = {
            let server = lock(&self.server);
            self.truth.absorb(&server.model.cluster)
        };
        let now = self.time.now();
        for pair in touched {
            self.reasons.push_back((now, pair.clone()));
            let Some(line) = self.truth.line(&pair) else {
                continue;
            };
            promises::one_name_one_instance(line)?;
            let came_back = self.stopped.get(&pair) == Some(&true) && line.live_jobs().count() > 0;
            check(Promise::StopLasts, !came_back, || {
                format!("{pair:?} lives again")
            })?;
        }
        let lists = self.server().stale_lists;
        if lists != self.stale_lists {
            self.stale_lists = lists;
            // A list that is older than a deletion brings back what was deleted.
            self.deleted.iter_mut().for_each(Vec::clear);
        }
        self.lower_floors();
        Ok(())
    }

    fn lower_floors(&mut self) {
        for waiting in self.waiting.values_mut() {
            if let Some(replica) = &self.replicas[waiting.replica] {
                waiting.floors.lower(replica.floors());
            }
        }
    }

    /// How long a request waits at most.
    fn wait_of(wish: Wish, wait: Option<Duration>) -> Duration {
        let wait = wait.unwrap_or(WAITS.start_wait).min(WAITS.start_wait_max);
        match wish {
            Wish::Ensure | Wish::Find => wait,
            Wish::EnsureOrStop => wait + GIVE_UP_TIME,
            Wish::Stop => WAITS.start_wait,
            Wish::StopAndWait | Wish::Label => wait.max(WAITS.start_wait),
        }
    }

    /// Somebody asks a replica for something; false where it is down.
    pub(super) fn ask(
        &mut self,
        number: usize,
        pair: &Pair,
        wish: Wish,
        wait: Option<Duration>,
    ) -> Result<bool, Breach> {
        let Some(replica) = &self.replicas[number] else {
            return Ok(false);
        };
        let wait = match wish {
            Wish::Stop => None,
            // Without a wish to wait it would be a plain stop.
            Wish::StopAndWait => wait
                .filter(|wait| !wait.is_zero())
                .or(Some(WAITS.start_wait)),
            _ => wait,
        };
        self.serial += 1;
        let serial = self.serial;
        let token = Token {
            io: 0,
            slot: 0,
            serial,
        };
        let asked = Asked {
            token,
            key: key_of(pair),
            by: Origin {
                who: "sim".into(),
                request: self.ids.make(),
            },
            wait,
        };
        let floors = replica.floors();
        let app = &replica.app;
        let ensure = |asked, intent| match app.ensure(asked, Variables::default(), intent) {
            Ok(ready) => Some(Answer::Ready(ready)),
            Err(Some(error)) => Some(Answer::Failed(error)),
            Err(None) => None,
        };
        let answered = match wish {
            Wish::Ensure => ensure(asked, Intent::Start),
            Wish::Find => ensure(asked, Intent::Find),
            Wish::EnsureOrStop => ensure(asked, Intent::StartOrStop),
            Wish::Stop | Wish::StopAndWait => app.stop(asked).err().map(Answer::Failed),
            Wish::Label => app.label(asked, label_of(serial)).err().map(Answer::Failed),
        };
        let waiting = Waiting {
            pair: pair.clone(),
            replica: number,
            wish,
            deadline: self.time.now() + Self::wait_of(wish, wait),
            floors,
            asked: self.truth.revision(),
            is_last_word: wish.stops() && !self.is_wanted(number, pair),
        };
        self.tell(|| format!("{serial}: {wish:?} {pair:?} of replica {number}, wait {wait:?}"));
        if wish.starts() {
            self.stopped.insert(pair.clone(), false);
            let stops = self
                .waiting
                .values_mut()
                .filter(|other| other.pair == *pair);
            stops.for_each(|stop| stop.is_last_word = false);
        }
        self.reasons.push_back((self.time.now(), pair.clone()));
        self.waiting.insert(serial, waiting);
        if let Some(answer) = answered {
            self.answered(token, &answer)?;
        }
        Ok(true)
    }

    /// Whether somebody waits for the instance, or another replica is about to make its Job.
    fn is_wanted(&self, number: usize, pair: &Pair) -> bool {
        let key = key_of(pair);
        let mut waiting = self.waiting.values();
        let others = self.replicas.iter().enumerate();
        let mut others = others.filter(|(other, _)| *other != number);
        waiting.any(|other| other.wish.starts() && other.pair == *pair)
            || others.any(|(_, replica)| {
                let calls = replica.iter().flat_map(|replica| &replica.calls);
                let mut creating = calls.filter(|call| call.will_create(&key));
                creating.next().is_some()
            })
    }

    /// Somebody who waits hangs up; false where nobody waits.
    pub(super) fn hang_up(&mut self) -> bool {
        let at = self.dice.roll(self.waiting.len());
        let Some((&serial, _)) = self.waiting.iter().nth(at) else {
            return false;
        };
        let Some(waiting) = self.waiting.remove(&serial) else {
            return false;
        };
        if let Some(replica) = &self.replicas[waiting.replica] {
            replica.app.abandon(Token {
                io: 0,
                slot: 0,
                serial,
            });
        }
        self.hung_up.insert(serial);
        self.tell(|| format!("{serial}: hangs up"));
        true
    }

    /// The desk of a replica runs; what comes of it is checked.
    pub(super) fn run_desk(&mut self, number: usize) -> Result<bool, Breach> {
        let Some(replica) = &mut self.replicas[number] else {
            return Ok(false);
        };
        let out = replica.run_desk();
        let happened = !out.answers.is_empty() || !out.calls.is_empty();
        for (token, answer) in &out.answers {
            self.answered(*token, answer)?;
        }
        for call in out.calls {
            self.tell(|| {
                format!(
                    "replica {number} calls: {} of {}",
                    verb_of(&call.operation),
                    call.key
                )
            });
            self.called(number, &call.key)?;
            if let Some(replica) = &mut self.replicas[number] {
                replica.calls.push(UnderWay::There(call));
            }
        }
        self.check_desk(number)?;
        Ok(happened)
    }

    /// What must hold of a desk that has taken all that came in.
    fn check_desk(&self, number: usize) -> Result<(), Breach> {
        let Some(replica) = &self.replicas[number] else {
            return Ok(());
        };
        let mine = || self.waiting.values().filter(|w| w.replica == number);
        let (parked, known) = (mine().count(), replica.waiting());
        check(Promise::AnsweredOnce, parked == known, || {
            format!("{parked} wait for an answer of replica {number}, which knows of {known}")
        })?;
        let parked_max = self.profile.limits.parked_max;
        let within = parked <= parked_max && replica.calls.len() <= parked_max;
        check(Promise::Bounded, within, || {
            format!("{parked} wait, {} calls", replica.calls.len())
        })?;
        promises::answered_in_time(mine().map(|w| w.deadline), self.time.now())?;
        for waiting in mine().filter(|w| matches!(w.wish, Wish::Ensure | Wish::Find)) {
            let is_ready = replica.view.ready(&key_of(&waiting.pair)).is_some();
            check(Promise::NobodyWaitsForWhatIsReady, !is_ready, || {
                format!("{waiting:?}")
            })?;
        }
        Ok(())
    }

    /// The API server gets a replica's call in that place; false where it has got it already.
    pub(super) fn carry(&mut self, number: usize, at: usize) -> Result<bool, Breach> {
        let Some(replica) = &mut self.replicas[number] else {
            return Ok(false);
        };
        let target = match &replica.calls[at] {
            UnderWay::There(call) => target_of(&call.operation),
            UnderWay::Back(..) => return Ok(false),
        };
        let before = lock(&self.server).model.cluster.revision();
        replica.carry(at);
        let key = replica.calls[at].key().clone();
        self.tell(|| format!("the API server gets replica {number}'s call for {key}"));
        let server = lock(&self.server);
        for change in server.model.cluster.changes_after(before) {
            promises::call_hits_its_target(target.as_deref(), change.before.as_deref())?;
        }
        Ok(true)
    }

    /// A desk wants this call made.
    fn called(&mut self, number: usize, key: &InstanceKey) -> Result<(), Breach> {
        let now = self.time.now();
        let under_way = self.replicas[number]
            .iter()
            .flat_map(|replica| &replica.calls);
        let same = under_way.filter(|call| call.key() == key).count();
        check(Promise::OneCallAName, same == 0, || {
            format!("{same} calls for {key} already")
        })?;
        let is_recent = |at: Instant| now.saturating_duration_since(at) < CALLS_WINDOW;
        while self.reasons.front().is_some_and(|(at, _)| !is_recent(*at)) {
            self.reasons.pop_front();
        }
        let reasons = self.reasons.iter();
        let reasons = reasons
            .filter(|(_, pair)| key_of(pair).job_name() == key.job_name())
            .count();
        let calls = self.calls.entry((number, key.clone())).or_default();
        calls.push_back(now);
        while calls.front().is_some_and(|at| !is_recent(*at)) {
            calls.pop_front();
        }
        let made = calls.len();
        check(
            Promise::CallsAreBounded,
            made <= CALLS_MAX + reasons,
            || format!("{made} calls for {key} within {CALLS_WINDOW:?}, for {reasons} reasons"),
        )
    }

    /// An answer reaches its caller, and is compared with what was.
    fn answered(&mut self, token: Token, answer: &Answer) -> Result<(), Breach> {
        self.look()?;
        let serial = token.serial;
        if self.hung_up.remove(&serial) {
            return Ok(());
        }
        let Some(waiting) = self.waiting.remove(&serial) else {
            return check(Promise::AnsweredOnce, false, || {
                format!("{serial} does not wait")
            });
        };
        let word = word_of(answer);
        self.tell(|| format!("{serial}: is answered {word}"));
        self.count(&format!("{:?} {word}", waiting.wish));
        let line = self.truth.line(&waiting.pair);
        let now_ms = self.server().model.cluster.clock().now_ms();
        let floors = waiting.floors;
        match answer {
            Answer::Ready(ready) => {
                promises::ready_is_true(line, ready.ip, floors)?;
                self.deletion_is_remembered(&waiting, &ready.ip.to_string())?;
            }
            Answer::Progress(progress) if progress.is_verdict => {
                promises::verdict_is_true(line, &progress.finding, floors, now_ms)?;
            }
            Answer::Failed(Error::Stopped) => promises::stopped_is_true(line, floors)?,
            Answer::Failed(Error::NoInstance(_)) if waiting.wish.stops() => {
                promises::stop_finds_nothing_only_if_so(line, waiting.asked)?;
                self.stop_is_answered(&waiting);
            }
            Answer::Done if waiting.wish.stops() => {
                let must_be_gone = waiting.wish == Wish::StopAndWait;
                promises::stop_is_done(line, waiting.asked, must_be_gone)?;
                self.stop_is_answered(&waiting);
            }
            Answer::Failed(error) => self.error_is_fair(error)?,
            Answer::Done | Answer::Progress(_) | Answer::Reviewed(_) => {}
        }
        Ok(())
    }

    fn error_is_fair(&self, error: &Error) -> Result<(), Breach> {
        let defect = matches!(error, Error::Internal);
        check(Promise::NoDefectIsTold, !defect, || error.to_string())?;
        let fair = matches!(
            error,
            Error::NoInstance(_)
                | Error::NameTaken(_)
                | Error::NotSynced
                | Error::TooManyRequests(_)
        );
        check(
            Promise::CalmHasNoErrors,
            fair || !self.profile.is_calm,
            || error.to_string(),
        )
    }

    fn stop_is_answered(&mut self, stop: &Waiting) {
        if stop.is_last_word {
            self.stopped.insert(stop.pair.clone(), true);
        }
        if let Some(line) = self.truth.line(&stop.pair) {
            let old = line
                .jobs
                .iter()
                .filter(|job| job.first().revision <= stop.asked);
            let gone = old.map(|job| (stop.pair.clone(), job.uid.clone()));
            self.deleted[stop.replica].extend(gone);
        }
    }

    fn deletion_is_remembered(&self, waiting: &Waiting, ip: &str) -> Result<(), Breach> {
        let pods = self
            .truth
            .line(&waiting.pair)
            .into_iter()
            .flat_map(|line| &line.pods);
        let owners = pods.filter(|pod| {
            let mut states = pod.since(0).filter_map(|state| state.object.as_deref());
            states.any(|pod| pod["status"]["podIP"] == ip)
        });
        let deleted = &self.deleted[waiting.replica];
        let mut known = owners.filter(|pod| {
            let mut deleted = deleted.iter();
            deleted.any(|(pair, uid)| *pair == waiting.pair && pod.owner.as_ref() == Some(uid))
        });
        let handed_out = known.next().map(|pod| pod.uid.clone());
        check(Promise::DeletionIsRemembered, handed_out.is_none(), || {
            format!("pod {handed_out:?}")
        })
    }

    /// Time passes. Desks come round when they want to; reflectors at least every [`BREATH`].
    pub(super) fn pass(&mut self, duration: Duration) -> Result<(), Breach> {
        let end = self.time.now() + duration;
        self.run_all_desks()?;
        if self.profile.is_calm {
            self.finish_calls()?;
        }
        let mut breath = self.time.now() + BREATH;
        loop {
            let wakes = self
                .replicas
                .iter()
                .flatten()
                .filter_map(Replica::next_wake);
            let next = wakes.min().map_or(end, |wake| wake.min(end)).min(breath);
            self.move_to(next);
            if next == breath {
                breath += BREATH;
                self.pump()?;
            }
            self.run_all_desks()?;
            if self.profile.is_calm {
                self.finish_calls()?;
            }
            if next == end {
                return Ok(());
            }
        }
    }

    fn move_to(&mut self, at: Instant) {
        self.time.move_to(at);
        let server = self.server();
        let clock = server.model.cluster.clock();
        let passed = i64::try_from(self.time.passed().as_millis()).expect("it is less than an age");
        let behind = BEGIN_MS + passed - clock.now_ms();
        clock.advance(Duration::from_millis(u64::try_from(behind).unwrap_or(0)));
    }

    pub(super) fn run_all_desks(&mut self) -> Result<bool, Breach> {
        let mut happened = false;
        for number in 0..self.replicas.len() {
            happened |= self.run_desk(number)?;
        }
        Ok(happened)
    }

    /// One reflector of a replica does one thing, if it has something to do.
    pub(super) fn reflect(&mut self, number: usize, which: usize) -> Result<bool, Breach> {
        let Some(replica) = &mut self.replicas[number] else {
            return Ok(false);
        };
        let looping = &mut replica.loops[which];
        let can_go = {
            let server = lock(&self.server);
            looping.can_go(&server, self.time.now())
        };
        if can_go {
            looping.go();
            self.look()?;
        }
        Ok(can_go)
    }

    /// All reflectors do what they can.
    pub(super) fn pump(&mut self) -> Result<bool, Breach> {
        let mut happened = false;
        for number in 0..self.replicas.len() {
            for which in 0..3 {
                while self.reflect(number, which)? {
                    happened = true;
                }
            }
            self.run_desk(number)?;
        }
        Ok(happened)
    }

    /// All calls that are under way, and those that follow from them, come to their end, and all
    /// watches say what there is to say. In a calm world that takes no time.
    pub(super) fn finish_calls(&mut self) -> Result<bool, Breach> {
        let mut happened = false;
        loop {
            let mut more = self.pump()?;
            more |= self.run_all_desks()?;
            for number in 0..self.replicas.len() {
                while self.replicas[number]
                    .as_ref()
                    .is_some_and(|replica| !replica.calls.is_empty())
                {
                    self.carry(number, 0)?;
                    if let Some(replica) = &mut self.replicas[number] {
                        replica.bring_back(0);
                    }
                    more = true;
                }
                self.look()?;
            }
            if !more {
                return Ok(happened);
            }
            happened = true;
        }
    }

    /// Who waits, and what else is under way.
    pub(super) fn unfinished(&self) -> usize {
        let calls = self
            .replicas
            .iter()
            .flatten()
            .map(|replica| replica.calls.len());
        self.waiting.len() + calls.sum::<usize>()
    }

    /// Whether somebody waits with this number.
    pub(super) fn waits(&self, serial: u64) -> bool {
        self.waiting.contains_key(&serial)
    }

    /// The number of the request that was made last.
    pub(super) fn last_serial(&self) -> u64 {
        self.serial
    }
}

/// The moment at which the fake's clock begins, in milliseconds since 1970.
const BEGIN_MS: i64 = 1_767_225_600_000;

/// The service's own name for a pair.
pub(super) fn key_of(pair: &Pair) -> InstanceKey {
    InstanceKey {
        app_type: AppType::new(&*pair.0).expect("a type of a schedule is one"),
        name: InstanceName::new(&*pair.1).expect("a name of a schedule is one"),
    }
}

fn label_of(serial: u64) -> MetaChange {
    let mut body = Map::new();
    let key = if serial % 3 == 0 { "user" } else { "session" };
    body.insert(key.to_owned(), json!(serial.to_string()));
    MetaChange::from_body(&body).expect("a label of a schedule is one")
}

/// The UID of the object that a call is to change; `None` for a new one.
fn target_of(operation: &Operation) -> Option<String> {
    match operation {
        Operation::Create { .. } | Operation::Read => None,
        Operation::Delete { uid, .. }
        | Operation::Remove { uid, .. }
        | Operation::Label { uid, .. } => Some(uid.to_string()),
    }
}

/// What a call does, in a word, and to which Job.
fn verb_of(operation: &Operation) -> String {
    match operation {
        Operation::Create { .. } => "create".to_owned(),
        Operation::Read => "read".to_owned(),
        Operation::Delete { uid, .. } => format!("delete {uid}"),
        Operation::Remove { pod, .. } => format!("removal of pod {pod}"),
        Operation::Label { pod, .. } => format!("label {pod}"),
    }
}

/// What a caller hears, in a word.
fn word_of(answer: &Answer) -> String {
    match answer {
        Answer::Ready(_) => "ready".to_owned(),
        Answer::Progress(progress) if progress.is_verdict => "app_error".to_owned(),
        Answer::Progress(_) => "progress".to_owned(),
        Answer::Done => "done".to_owned(),
        Answer::Failed(error) => {
            let text = format!("{error:?}");
            text.split(['(', ' ']).next().unwrap_or("").to_owned()
        }
        Answer::Reviewed(_) => "reviewed".to_owned(),
    }
}

/// The ConfigMap with the templates of these types.
fn templates(pairs: &[Pair]) -> Value {
    let mut data = json!({});
    for (app_type, _) in pairs {
        let policy = if app_type == "loop" {
            "OnFailure"
        } else {
            "Never"
        };
        data[format!("{app_type}.yaml")] = json!(format!(
            "spec:\n  restartPolicy: {policy}\n  containers:\n  - name: app\n    image: app:1\n"
        ));
    }
    let brief = |setting: &str| format!("brief.{PREFIX}{setting}");
    json!({
        "metadata": {
            "name": "templates",
            "labels": {format!("{PREFIX}template"): "true"},
            "annotations": {brief("max-lifetime"): "20s", brief("restart-delay"): "2s"},
        },
        "data": data,
    })
}
