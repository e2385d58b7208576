//! The order of admissions: by example, and in random schedules of three replicas over one API server.

use super::*;
use crate::app::fixture::{decode, t0};
use crate::random::Random;
use serde_json::json;

/// A Job that has ended.
static ENDED: OnceLock<Job> = OnceLock::new();

/// A Job as the API server has it.
#[derive(Clone, Debug)]
struct Made {
    uid: String,
    owner: &'static str,
    /// Text of its caps; none: made before there were any.
    caps: Option<&'static str>,
    is_admitted: bool,
    has_ended: bool,
    is_deleting: bool,
    version: usize,
}

impl Made {
    fn new(number: usize, caps: Option<&'static str>) -> Self {
        Self {
            uid: format!("u{number}"),
            owner: "",
            caps,
            is_admitted: caps.is_none(),
            has_ended: false,
            is_deleting: false,
            version: 0,
        }
    }

    fn job(&self) -> Job {
        const OURS: &str = "config-controller.semafor.ch/";
        let mut annotations = vec![
            ("instance-type", "hello"),
            ("instance-name", self.uid.as_str()),
        ];
        if let Some(caps) = self.caps {
            let marker = [job::UNDECIDED, job::ADMITTED][usize::from(self.is_admitted)];
            annotations.extend([("admission", marker), ("caps", caps)]);
        }
        if !self.owner.is_empty() {
            annotations.push(("owner", self.owner));
        }
        let pairs = annotations
            .into_iter()
            .map(|(key, value)| (format!("{OURS}{key}"), value));
        let mut job = if self.has_ended {
            ENDED.get_or_init(|| {
                decode(&json!({
                    "metadata": {"name": "n", "annotations": {format!("{OURS}instance-type"): "hello"}},
                    "spec": {"template": {}},
                    "status": {"conditions": [{"type": "Complete", "status": "True"}]},
                }))
            })
            .clone()
        } else {
            Job::default()
        };
        job.metadata.name = format!("hello-{}", self.uid).into();
        job.metadata.uid = self.uid.as_str().into();
        job.metadata.annotations = pairs.collect();
        job.metadata.deletion_timestamp = self.is_deleting.then(t0);
        job.suspend = !self.is_admitted;
        job
    }

    fn is_running(&self) -> bool {
        self.is_admitted && !self.has_ended
    }
}

fn apply(admissions: &mut Admissions, made: &Made) -> Vec<String> {
    let keys = admissions.apply(&StoreEvent::Apply(made.job()));
    keys.iter().map(|key| key.name.to_string()).collect()
}

fn of(admissions: &Admissions, uid: &str) -> String {
    match admissions.of(&uid.into()) {
        Admission::Refuse(full) => format!("refuse {} {}", full.scope.as_str(), full.admitted),
        other => format!("{other:?}").to_lowercase(),
    }
}

#[test]
fn the_order_of_creation_decides() {
    let mut admissions = Admissions::default();
    let caps = Some("type=2");
    assert_eq!(of(&admissions, "u1"), "wait", "not delivered yet");
    let mut first = Made::new(1, caps);
    let mut second = Made::new(2, caps);
    let third = Made::new(3, caps);
    assert_eq!(apply(&mut admissions, &first), ["u1"]);
    assert_eq!(apply(&mut admissions, &second), ["u2"]);
    assert_eq!(apply(&mut admissions, &third), [""; 0]);
    assert_eq!(of(&admissions, "u1"), "admit");
    assert_eq!(of(&admissions, "u2"), "admit");
    assert_eq!(of(&admissions, "u3"), "wait");
    second.is_admitted = true;
    assert_eq!(apply(&mut admissions, &second), [""; 0]);
    assert_eq!(of(&admissions, "u2"), "decided");
    first.is_admitted = true;
    assert_eq!(apply(&mut admissions, &first), ["u3"]);
    assert_eq!(of(&admissions, "u3"), "refuse type 2");
    // Named once; and what has ended makes room.
    second.has_ended = true;
    assert_eq!(apply(&mut admissions, &second), [""; 0]);
    assert_eq!(of(&admissions, "u3"), "admit");
}

#[test]
fn each_cap_counts_its_own_and_all_must_have_a_place() {
    let mut admissions = Admissions::default();
    let caps = Some("type=4 owner=1 all=3");
    let owned = |number, owner| Made {
        owner,
        ..Made::new(number, caps)
    };
    // Without the annotation: from before there was a cap.
    apply(&mut admissions, &Made::new(1, None));
    let mut ann = owned(2, "ann");
    apply(&mut admissions, &ann);
    apply(&mut admissions, &owned(3, "ann"));
    apply(&mut admissions, &owned(4, "bob"));
    apply(&mut admissions, &owned(5, ""));
    assert_eq!(of(&admissions, "u2"), "admit");
    assert_eq!(of(&admissions, "u3"), "wait");
    assert_eq!(of(&admissions, "u4"), "wait", "u3 may take the third place");
    // The one without an owner is another's than ann's and bob's.
    assert_eq!(of(&admissions, "u5"), "refuse owner 1");
    ann.is_admitted = true;
    apply(&mut admissions, &ann);
    assert_eq!(of(&admissions, "u3"), "refuse owner 1");
    assert_eq!(of(&admissions, "u4"), "wait");
    admissions.apply(&StoreEvent::Delete {
        name: "hello-u3".into(),
        uid: "u3".into(),
        version: "9".into(),
    });
    assert_eq!(of(&admissions, "u4"), "admit");
}

#[test]
fn what_is_refused_or_ended_counts_no_longer_whatever_comes_after() {
    let mut admissions = Admissions::default();
    let caps = Some("all=1");
    let mut first = Made::new(1, caps);
    apply(&mut admissions, &first);
    apply(&mut admissions, &Made::new(2, caps));
    first.is_deleting = true;
    assert_eq!(apply(&mut admissions, &first), ["u2"]);
    assert_eq!(of(&admissions, "u1"), "decided");
    // A patch of a Job that is being deleted passes, and no pod comes.
    first.is_admitted = true;
    apply(&mut admissions, &first);
    assert_eq!(of(&admissions, "u2"), "admit");
}

#[test]
fn what_a_list_brings_undecided_has_no_place_in_the_order() {
    let mut admissions = Admissions::default();
    let caps = Some("type=2");
    let (known, new) = (Made::new(1, caps), [2, 3].map(|it| Made::new(it, caps)));
    apply(&mut admissions, &Made::new(9, None));
    apply(&mut admissions, &known);
    admissions.apply(&StoreEvent::Init);
    for made in new.iter().chain([&known]) {
        admissions.apply(&StoreEvent::InitApply(made.job()));
    }
    // The watch has it meanwhile, and the list not yet.
    apply(&mut admissions, &Made::new(4, caps));
    admissions.apply(&StoreEvent::InitDone("5".into()));
    // u9 is gone, and the place of u1 is kept.
    assert_eq!(of(&admissions, "u1"), "admit");
    assert_eq!(of(&admissions, "u2"), "waitwithoutplace");
    assert_eq!(of(&admissions, "u3"), "waitwithoutplace");
    assert_eq!(of(&admissions, "u4"), "waitwithoutplace");
    for number in [1, 3, 4] {
        let uid = format!("u{number}").as_str().into();
        let (name, version) = ("n".into(), "6".into());
        admissions.apply(&StoreEvent::Delete { name, uid, version });
    }
    assert_eq!(of(&admissions, "u2"), "admit");
    assert_eq!(admissions.jobs.len(), 1);
    assert_eq!((admissions.scopes.len(), admissions.groups.len()), (3, 1));
}

#[test]
fn what_a_restored_etcd_brings_back_counts_again() {
    let mut admissions = Admissions::default();
    let caps = Some("type=1");
    let admitted = Made {
        is_admitted: true,
        ..Made::new(1, caps)
    };
    let (undecided, waiting) = (Made::new(1, caps), Made::new(2, caps));
    let ended = Made {
        has_ended: true,
        ..admitted.clone()
    };
    let refused = Made {
        is_deleting: true,
        ..undecided.clone()
    };
    apply(&mut admissions, &admitted);
    apply(&mut admissions, &ended);
    apply(&mut admissions, &waiting);
    assert_eq!(of(&admissions, "u2"), "admit");
    list(&mut admissions, [&admitted, &waiting]);
    assert_eq!(of(&admissions, "u2"), "refuse type 1");
    // From before its admission: it is decided again.
    assert_eq!(list(&mut admissions, [&undecided, &waiting]), ["u1"]);
    assert_eq!(of(&admissions, "u1"), "waitwithoutplace");
    assert_eq!(of(&admissions, "u2"), "wait");
    apply(&mut admissions, &refused);
    assert_eq!(of(&admissions, "u2"), "admit");
    assert_eq!(list(&mut admissions, [&undecided, &waiting]), ["u1"]);
    assert_eq!(of(&admissions, "u2"), "wait");
}

/// Lists these, and returns which can be decided or placed.
fn list<'a>(admissions: &mut Admissions, made: impl IntoIterator<Item = &'a Made>) -> Vec<String> {
    let made = made
        .into_iter()
        .map(|it| StoreEvent::InitApply(it.job()))
        .collect();
    let events: Vec<StoreEvent<Job>> = made;
    let mut keys = admissions.apply(&StoreEvent::Init);
    for event in events.into_iter().chain([StoreEvent::InitDone("5".into())]) {
        keys.extend(admissions.apply(&event));
    }
    keys.iter().map(|key| key.name.to_string()).collect()
}

fn uids(numbers: impl IntoIterator<Item = usize>) -> HashSet<Uid> {
    let uids = numbers.into_iter().map(|it| format!("u{it}"));
    uids.map(|uid| uid.as_str().into()).collect()
}

#[test]
fn a_list_of_the_version_of_its_creation_gives_a_job_its_place() {
    let mut admissions = Admissions::default();
    let caps = Some("type=1");
    let mut made = [2, 1, 3].map(|it| Made::new(it, caps));
    let other = Made::new(4, Some("owner=1"));
    assert_eq!(
        list(&mut admissions, made.iter().chain([&other])),
        ["u2", "u1", "u3", "u4"]
    );
    for uid in ["u1", "u2", "u3", "u4"] {
        assert_eq!(of(&admissions, uid), "waitwithoutplace");
    }
    let place = |admissions: &mut Admissions, uid: &str, there: &[usize]| {
        let keys = admissions.place(&uid.into(), &uids(there.iter().copied()));
        let keys: Vec<String> = keys.iter().map(|key| key.name.to_string()).collect();
        keys.join(" ")
    };
    // A list without the Job itself says nothing, and one of a Job that is not known neither.
    assert_eq!(place(&mut admissions, "u1", &[]), "");
    assert_eq!(place(&mut admissions, "u7", &[7]), "");
    assert_eq!(of(&admissions, "u1"), "waitwithoutplace");
    assert_eq!(place(&mut admissions, "u3", &[0, 1, 2, 3]), "");
    assert_eq!(of(&admissions, "u3"), "wait");
    assert_eq!(place(&mut admissions, "u2", &[0, 1, 2]), "");
    assert_eq!(place(&mut admissions, "u1", &[0, 1]), "u1");
    assert_eq!(of(&admissions, "u1"), "admit");
    // Later ones do not count before it, whatever becomes of them.
    apply(&mut admissions, &Made::new(5, None));
    assert_eq!(of(&admissions, "u1"), "admit");
    assert_eq!(of(&admissions, "u5"), "decided");
    made[1].is_admitted = true;
    assert_eq!(apply(&mut admissions, &made[1]), ["u2", "u3"]);
    assert_eq!(of(&admissions, "u2"), "refuse type 1");
    assert_eq!(of(&admissions, "u3"), "refuse type 1");
}

#[test]
fn too_many_later_jobs_give_no_place() {
    for (count, expected) in [(LATER_MAX, "admit"), (LATER_MAX + 1, "waitwithoutplace")] {
        let mut admissions = Admissions::default();
        let caps = Some("type=1");
        let made: Vec<Made> = (0..=count).map(|it| Made::new(it, caps)).collect();
        list(&mut admissions, &made);
        admissions.place(&"u0".into(), &uids([0]));
        assert_eq!(of(&admissions, "u0"), expected);
    }
}

/// What it has not brought yet may come before.
#[test]
fn nothing_is_decided_by_a_list_that_is_not_complete() {
    let mut admissions = Admissions::default();
    let made = Made::new(2, Some("type=1"));
    admissions.apply(&StoreEvent::Init);
    assert_eq!(admissions.apply(&StoreEvent::InitApply(made.job())), []);
    assert_eq!(of(&admissions, "u2"), "wait");
    assert_eq!(admissions.place(&"u2".into(), &uids([1, 2])), []);
    admissions.apply(&StoreEvent::InitApply(Made::new(1, None).job()));
    let keys = admissions.apply(&StoreEvent::InitDone("5".into()));
    assert_eq!(keys.len(), 1);
    assert_eq!(of(&admissions, "u2"), "refuse type 1");
}

/// The API server: all Jobs, and each change of one in its order.
#[derive(Default)]
struct Server {
    jobs: BTreeMap<usize, Made>,
    log: Vec<(usize, Option<Made>)>,
    made: usize,
}

impl Server {
    fn create(&mut self, caps: Option<&'static str>, owner: &'static str) -> usize {
        self.made += 1;
        let number = self.made;
        let made = Made {
            owner,
            ..Made::new(number, caps)
        };
        self.jobs.insert(number, made);
        self.changed(number);
        number
    }

    fn changed(&mut self, number: usize) {
        let version = self.log.len() + 1;
        let job = self.jobs.get_mut(&number);
        let job = job.map(|job| {
            job.version = version;
            job.clone()
        });
        self.log.push((number, job));
    }

    fn edit(&mut self, number: usize, act: impl FnOnce(&mut Made)) {
        if let Some(job) = self.jobs.get_mut(&number) {
            act(job);
            self.changed(number);
        }
    }

    fn delete(&mut self, number: usize) {
        if self.jobs.remove(&number).is_some() {
            self.changed(number);
        }
    }

    /// Those that were there after so many changes.
    fn at(&self, changes: usize) -> HashSet<Uid> {
        let mut there = BTreeSet::new();
        for (number, job) in &self.log[..changes] {
            match job {
                Some(_) => there.insert(*number),
                None => there.remove(number),
            };
        }
        uids(there)
    }

    fn running(&self, owner: Option<&str>) -> usize {
        let jobs = self.jobs.values();
        let of = |job: &&Made| job.is_running() && owner.is_none_or(|owner| job.owner == owner);
        jobs.filter(of).count()
    }
}

#[derive(Default)]
struct Replica {
    admissions: Admissions,
    /// So many changes were delivered.
    at: usize,
    /// What it has seen of each.
    seen: BTreeMap<usize, Made>,
    /// Its own Jobs, and how many changes there were when each was created.
    own: Vec<(usize, usize)>,
    is_stopped: bool,
}

impl Replica {
    fn deliver(&mut self, server: &Server) {
        let Some((number, job)) = server.log.get(self.at) else {
            return;
        };
        self.at += 1;
        match job {
            Some(job) => {
                self.seen.insert(*number, job.clone());
                apply(&mut self.admissions, job);
            }
            None => {
                self.seen.remove(number);
                self.admissions.apply(&StoreEvent::Delete {
                    name: "n".into(),
                    uid: format!("u{number}").as_str().into(),
                    version: "1".into(),
                });
            }
        }
    }

    fn list(&mut self, server: &Server) {
        list(&mut self.admissions, server.jobs.values());
        (self.at, self.seen) = (server.log.len(), server.jobs.clone());
    }

    fn sees_running(&self) -> usize {
        self.seen.values().filter(|job| job.is_running()).count()
    }

    /// Asks what was there when this Job was created, if a list has brought it.
    fn place(&mut self, server: &Server, number: usize, created: usize) {
        let uid = format!("u{number}").as_str().into();
        if self.admissions.of(&uid) == Admission::WaitWithoutPlace {
            self.admissions.place(&uid, &server.at(created));
        }
    }

    /// Decides on this Job, or does nothing; refuses it where that is not known, if `is_late`. Returns whether it
    /// was refused for a full cap.
    fn decide(&self, server: &mut Server, number: usize, is_late: bool) -> Option<Full> {
        let seen = self.seen.get(&number)?;
        let of = self.admissions.of(&seen.uid.as_str().into());
        let full = match of {
            Admission::Admit => {
                let is_undecided = |job: &Made| !job.is_admitted;
                if server.jobs.get(&number).is_some_and(is_undecided) {
                    server.edit(number, |job| job.is_admitted = true);
                }
                return None;
            }
            Admission::Refuse(full) => Some(full),
            Admission::Wait | Admission::WaitWithoutPlace if is_late => None,
            Admission::Wait | Admission::WaitWithoutPlace | Admission::Decided => return None,
        };
        // The version is the precondition.
        let is_same = |job: &Made| job.version == seen.version;
        if server.jobs.get(&number).is_some_and(is_same) {
            server.delete(number);
            return full;
        }
        None
    }
}

/// What may go wrong in a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Faults {
    Nothing,
    /// Lists are made.
    Lists,
    /// Lists are made, a replica stops, and others are late.
    All,
}

impl Faults {
    /// How many kinds of events there are.
    fn kinds(self) -> usize {
        match self {
            Self::Nothing => 12,
            Self::Lists => 13,
            Self::All => 16,
        }
    }
}

/// Three replicas and one API server.
fn schedule(seed: u64, faults: Faults) -> (usize, usize) {
    const CAPS: &str = "type=4 owner=3";
    let mut random = Random::new(seed);
    let mut server = Server::default();
    let mut replicas: [Replica; 3] = Default::default();
    let before = random.below(6);
    for _ in 0..before {
        server.create(None, "");
    }
    let (mut refused, mut most) = (0, 0);
    for _ in 0..400 {
        let which = random.below(3);
        let replica = &mut replicas[which];
        if replica.is_stopped {
            continue;
        }
        match random.below(faults.kinds()) {
            0 | 1 => {
                let number = server.create(Some(CAPS), random.pick(&["ann", "bob"]));
                replica.own.push((number, server.log.len()));
            }
            2..=6 => (0..3).for_each(|_| replica.deliver(&server)),
            7..=9 => refused += decide_own(&mut random, &mut server, replica, faults),
            10 => {
                let running = server.jobs.iter().filter(|(_, job)| job.is_running());
                let running: Vec<usize> = running.map(|(number, _)| *number).collect();
                if !running.is_empty() {
                    server.edit(random.pick(&running), |job| job.has_ended = true);
                }
            }
            11 => {
                let ended = server.jobs.iter().find(|(_, job)| job.has_ended);
                if let Some(number) = ended.map(|(number, _)| *number) {
                    server.delete(number);
                }
            }
            12 => replica.list(&server),
            13 if which == 0 => replica.is_stopped = random.below(20) == 0,
            14 | 15 if !server.jobs.is_empty() => {
                let all: Vec<usize> = server.jobs.keys().copied().collect();
                replica.decide(&mut server, random.pick(&all), true);
            }
            _ => {}
        }
        let running = server.running(None);
        most = most.max(running);
        assert!(running <= before.max(4), "seed {seed}: {running} run");
        for owner in ["ann", "bob"] {
            assert!(server.running(Some(owner)) <= 3, "seed {seed}: {owner}");
        }
    }
    if faults != Faults::All {
        assert!(
            finish(&mut server, replicas),
            "seed {seed}: some wait for ever"
        );
    }
    (refused, most)
}

/// Decides on its own Jobs, and returns how many were refused for a full cap: never for nothing.
fn decide_own(
    random: &mut Random,
    server: &mut Server,
    replica: &mut Replica,
    faults: Faults,
) -> usize {
    let mut refused = 0;
    for (number, created) in std::mem::take(&mut replica.own) {
        let is_late = faults == Faults::All && random.below(8) == 0;
        if random.below(2) == 0 {
            replica.place(server, number, created);
        }
        if let Some(full) = replica.decide(server, number, is_late) {
            refused += 1;
            let seen = replica.sees_running();
            assert!(full.scope != CapScope::Type || seen >= 4, "{full:?}");
        }
        if server.jobs.contains_key(&number) {
            replica.own.push((number, created));
        }
    }
    refused
}

/// All changes are delivered, and all decisions made; returns whether none is left.
fn finish(server: &mut Server, mut replicas: [Replica; 3]) -> bool {
    let mut before = None;
    while before != Some(server.log.len()) {
        before = Some(server.log.len());
        for replica in &mut replicas {
            while replica.at < server.log.len() {
                replica.deliver(server);
            }
            for (number, created) in std::mem::take(&mut replica.own) {
                replica.place(server, number, created);
                replica.decide(server, number, false);
                replica.own.push((number, created));
            }
        }
    }
    server.jobs.values().all(|job| job.is_admitted)
}

#[test]
fn never_more_than_the_cap_are_admitted_whatever_happens() {
    let mut full = 0;
    for seed in 0..200 {
        let (_, most) = schedule(seed, Faults::All);
        full += usize::from(most >= 4);
    }
    assert!(full > 150, "only {full} schedules reached the cap");
}

#[test]
fn nobody_is_refused_for_nothing_while_nobody_is_stopped() {
    let mut refused = 0;
    for seed in 0..60 {
        refused += schedule(seed, Faults::Nothing).0;
        refused += schedule(seed, Faults::Lists).0;
    }
    assert!(refused > 400, "only {refused} were refused");
}
