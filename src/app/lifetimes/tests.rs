use super::*;
use crate::app::fixture::key;
use crate::random::Random;

/// Instances with timeouts at some replicas, and one clock.
struct World {
    now: Instant,
    replicas: Vec<Lifetimes>,
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn uid(number: usize) -> Uid {
    format!("uid-{number}").as_str().into()
}

/// A replica whose first report was delivered.
fn known(now: Instant) -> Lifetimes {
    let mut lifetimes = Lifetimes::new(now);
    lifetimes.report_delivered();
    lifetimes
}

impl Lifetimes {
    /// When something is due next.
    fn next_wake(&self) -> Option<Instant> {
        let look = self.looks.first().map(|(at, _)| *at);
        look.into_iter().chain(self.report_at()).min()
    }
}

impl World {
    /// So many replicas, which all know `count` instances with this timeout.
    fn new(replicas: usize, count: usize, timeout: Duration) -> Self {
        let now = Instant::now();
        let mut world = Self {
            now,
            replicas: (0..replicas).map(|_| known(now)).collect(),
        };
        for replica in &mut world.replicas {
            for number in 0..count {
                let key = key("scim", &format!("n{number}"));
                replica.add(&key, &uid(number), timeout, now);
            }
        }
        world
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
    }

    /// Delivers the report of one replica to the others, if one is due; whether it was.
    fn deliver(&mut self, from: usize) -> bool {
        let Some(text) = self.replicas[from].report(self.now, false) else {
            return false;
        };
        for (to, replica) in self.replicas.iter_mut().enumerate() {
            if to != from {
                replica.heard(uses::read(&text), self.now);
            }
        }
        true
    }

    /// What is due at a replica, in words.
    fn due(&mut self, replica: usize) -> Vec<String> {
        let due = self.replicas[replica].due(self.now, 99, |_| false);
        let words = due.into_iter().map(|due| match due {
            Due::Soon(key, _, left) => format!("{} ends in {} s", key.name, left.as_secs()),
            Due::Idle(key, _) => format!("{} is idle", key.name),
        });
        words.collect()
    }
}

#[test]
fn an_unused_instance_is_announced_once_and_then_idle() {
    let mut world = World::new(1, 1, secs(400));
    world.advance(secs(359));
    assert_eq!(world.due(0), [""; 0]);
    assert_eq!(world.replicas[0].next_wake(), Some(world.now + secs(1)));
    world.advance(secs(1));
    assert_eq!(world.due(0), ["n0 ends in 40 s"]);
    world.advance(secs(71));
    assert_eq!(world.due(0), [""; 0]);
    assert!(!world.replicas[0].is_idle(&uid(0), world.now));
    world.advance(secs(1));
    assert_eq!(world.due(0), ["n0 is idle"]);
    assert!(world.replicas[0].is_idle(&uid(0), world.now));
    // As long as it is there.
    world.advance(DELIVERY);
    assert_eq!(world.due(0), ["n0 is idle"]);
    world.replicas[0].remove(&uid(0));
    world.advance(secs(1000));
    assert_eq!(world.due(0), [""; 0]);
    assert_eq!(world.replicas[0].next_wake(), None);
}

#[test]
fn a_use_moves_the_end_and_the_announcement() {
    let mut world = World::new(1, 1, secs(400));
    world.advance(secs(360));
    assert_eq!(world.due(0), ["n0 ends in 40 s"]);
    world.replicas[0].used(&uid(0), world.now, world.now);
    assert_eq!(world.replicas[0].left(&uid(0), world.now), Some(secs(400)));
    world.advance(secs(360));
    assert_eq!(world.due(0), ["n0 ends in 40 s"]);
    world.advance(secs(72));
    assert_eq!(world.due(0), ["n0 is idle"]);
}

#[test]
fn the_announcement_comes_a_tenth_before_the_end_within_bounds() {
    for (timeout, before) in [(2, 1), (40, 20), (60, 30), (299, 30), (300, 30), (600, 60)] {
        assert_eq!(announced_before(secs(timeout)), secs(before), "{timeout}");
    }
    for (timeout, every) in [(1, 1), (4, 1), (20, 5), (120, 30), (86_400, 30)] {
        assert_eq!(report_interval(secs(timeout)), secs(every), "{timeout}");
    }
}

#[test]
fn a_use_at_one_replica_counts_at_all() {
    let mut world = World::new(2, 2, secs(20));
    for _ in 0..10 {
        world.advance(secs(10));
        world.replicas[0].used(&uid(0), world.now, world.now);
        assert!(world.deliver(0));
        for replica in 0..2 {
            assert!(!world.replicas[replica].is_idle(&uid(0), world.now));
            drop(world.due(replica));
        }
    }
    assert!(world.replicas[1].is_idle(&uid(1), world.now));
    world.advance(secs(28));
    assert!(world.replicas[1].is_idle(&uid(0), world.now));
}

#[test]
fn reports_are_made_for_news_only_and_not_too_often() {
    let mut world = World::new(2, 3, secs(20));
    let mut reports = 0;
    assert!(!world.deliver(0));
    for _ in 0..100 {
        world.advance(secs(1));
        world.replicas[0].used(&uid(0), world.now, world.now);
        reports += usize::from(world.deliver(0));
    }
    // 0.2 a second.
    assert_eq!(reports, 20);
    world.advance(secs(5));
    assert!(world.deliver(0));
    world.advance(secs(5));
    assert!(!world.deliver(0));
}

#[test]
fn a_lost_report_is_made_up_for_by_the_next() {
    let mut world = World::new(2, 2, secs(40));
    world.advance(secs(30));
    world.replicas[0].used(&uid(0), world.now, world.now);
    // It does not arrive.
    assert!(world.replicas[0].report(world.now, false).is_some());
    world.advance(secs(10));
    world.replicas[0].used(&uid(1), world.now, world.now);
    assert!(world.deliver(0));
    world.advance(secs(35));
    assert!(!world.replicas[1].is_idle(&uid(0), world.now));
    // One that is known to be lost is made again without further news.
    world.replicas[0].report_failed(world.now);
    assert!(!world.deliver(0), "not at once");
    world.advance(REPORT_EVERY[0]);
    assert!(world.deliver(0));
}

/// An earlier process of its name may have taken uses with it.
#[test]
fn a_replica_that_starts_says_that_all_were_used() {
    let mut world = World::new(2, 1, secs(8));
    world.advance(secs(11));
    assert!(world.replicas[1].is_idle(&uid(0), world.now - secs(11) + secs(12)));
    world.replicas[0] = Lifetimes::new(world.now);
    assert!(!world.deliver(0), "it knows no instance with a timeout");
    let all = [(key("scim", "n0"), &uid(0), secs(8))];
    world.replicas[0].set(all, world.now);
    assert!(world.deliver(0));
    assert_eq!(world.due(1), [""; 0]);
    assert!(!world.replicas[1].is_idle(&uid(0), world.now + secs(11)));
    assert!(world.replicas[1].is_idle(&uid(0), world.now + secs(12)));
    world.replicas[0].report_delivered();
    world.advance(secs(8));
    assert!(!world.deliver(0));
    // What is gone is forgotten.
    world.replicas[0].set::<Duration>([], world.now);
    assert_eq!(world.replicas[0].left(&uid(0), world.now), None);
}

/// Otherwise what was used in the last moments of a replica would end too early.
#[test]
fn a_replica_that_ends_reports_at_once() {
    let mut world = World::new(1, 1, secs(60));
    world.replicas[0].used(&uid(0), world.now, world.now);
    assert!(world.deliver(0));
    assert_eq!(
        world.replicas[0].report(world.now, true),
        None,
        "nothing was used since"
    );
    world.replicas[0].used(&uid(0), world.now + secs(1), world.now);
    assert_eq!(world.replicas[0].report(world.now + secs(1), false), None);
    assert!(
        world.replicas[0]
            .report(world.now + secs(1), true)
            .is_some()
    );
}

#[test]
fn a_use_may_last() {
    let mut world = World::new(2, 1, secs(20));
    let until = world.now + secs(7200);
    world.replicas[0].used(&uid(0), until, world.now);
    assert!(world.deliver(0));
    // A shorter one changes nothing.
    world.replicas[0].used(&uid(0), world.now, world.now);
    for replica in &mut world.replicas {
        assert_eq!(replica.lasting(world.now)[&uid(0)], until);
    }
    world.advance(secs(7200));
    for replica in &mut world.replicas {
        assert!(replica.lasting(world.now).is_empty());
    }
    world.advance(secs(20));
    assert!(!world.replicas[0].is_idle(&uid(0), world.now));
    assert!(!world.replicas[1].is_idle(&uid(0), world.now));
    world.advance(secs(7));
    assert!(world.replicas[0].is_idle(&uid(0), world.now));
    assert!(world.replicas[1].is_idle(&uid(0), world.now));
}

#[test]
fn instances_that_are_gone_are_forgotten() {
    let mut world = World::new(1, 3, secs(20));
    let now = world.now;
    let replica = &mut world.replicas[0];
    replica.used(&uid(1), now + secs(60), now);
    let (two, new) = (key("scim", "n2"), key("scim", "n9"));
    let left = [(two, &uid(2), secs(20)), (new, &uid(9), secs(8))];
    replica.set(left, now);
    assert_eq!(replica.left(&uid(2), now), Some(secs(20)));
    assert_eq!(replica.left(&uid(9), now), Some(secs(8)));
    assert_eq!(replica.left(&uid(1), now), None);
    assert!(replica.lasting(now).is_empty());
    assert_eq!(replica.interval(), Some(secs(2)));
    replica.set::<Duration>([], now);
    assert_eq!(replica.interval(), None);
}

#[test]
fn what_is_claimed_for_the_future_is_bounded() {
    let mut world = World::new(1, 1, secs(20));
    let claim = |age| [Use::One(Mark::of(&uid(0)), age)];
    world.replicas[0].heard(claim(i64::MAX), world.now);
    world.replicas[0].heard(claim(i64::MIN), world.now);
    world.advance(USE_LONGEST + secs(27));
    assert!(world.replicas[0].is_idle(&uid(0), world.now));
}

#[test]
fn after_a_pause_all_count_as_used() {
    let mut world = World::new(1, 2, secs(20));
    world.advance(secs(100));
    world.replicas[0].all_used(world.now);
    assert_eq!(world.due(0), [""; 0]);
    assert!(!world.replicas[0].is_idle(&uid(0), world.now));
    assert_eq!(world.replicas[0].left(&uid(1), world.now), Some(secs(20)));
    world.advance(secs(27));
    assert_eq!(world.due(0).len(), 2);
}

#[test]
fn a_replica_that_cannot_name_its_uses_spares_all() {
    let mut world = World::new(1, 2, secs(20));
    world.advance(secs(26));
    world.replicas[0].heard([Use::All(3)], world.now);
    world.advance(secs(2));
    assert_eq!(world.due(0), [""; 0]);
    assert_eq!(world.replicas[0].left(&uid(1), world.now), Some(secs(15)));
}

#[test]
fn who_is_connected_uses_it() {
    let mut world = World::new(1, 2, secs(20));
    let first = key("scim", "n0");
    for _ in 0..50 {
        world.advance(secs(2));
        let now = world.now;
        for due in world.replicas[0].due(now, 99, |key| *key == first) {
            let (Due::Soon(key, ..) | Due::Idle(key, _)) = due;
            assert_ne!(key, first);
        }
    }
    assert!(!world.replicas[0].is_idle(&uid(0), world.now));
    assert!(world.replicas[0].is_idle(&uid(1), world.now));
}

/// A label may be removed by others than through a request.
#[test]
fn who_was_connected_has_the_whole_timeout_from_then_on() {
    let timeout = secs(900);
    let mut world = World::new(1, 1, timeout);
    let connected = |world: &mut World, is_connected| {
        world.advance(secs(1));
        let now = world.now;
        world.replicas[0].due(now, 99, |_| is_connected)
    };
    for _ in 0..800 {
        assert_eq!(connected(&mut world, true), []);
    }
    for passed in 1..=900 {
        connected(&mut world, false);
        assert!(!world.replicas[0].is_idle(&uid(0), world.now), "{passed} s");
    }
    world.advance(REPORT_EVERY[1] + DELIVERY);
    assert!(world.replicas[0].is_idle(&uid(0), world.now));
}

#[test]
fn what_is_due_comes_in_parts() {
    let mut world = World::new(1, 5, secs(20));
    world.advance(secs(100));
    let now = world.now;
    let mut parts = || world.replicas[0].due(now, 2, |_| false).len();
    assert_eq!([parts(), parts(), parts(), parts()], [2, 2, 1, 0]);
}

#[test]
fn what_cannot_be_reported_is_tried_soon_and_then_as_often_as_ever() {
    let mut world = World::new(1, 1, secs(20));
    let now = world.now;
    world.replicas[0].used(&uid(0), now, now);
    let mut tries = Vec::new();
    for second in 0..30 {
        world.advance(secs(1));
        let now = world.now;
        if world.replicas[0].report(now, false).is_some() {
            tries.push(second);
            world.replicas[0].report_failed(now);
        }
    }
    assert_eq!(tries, [0, 1, 3, 7, 12, 17, 22, 27]);
    world.replicas[0].report_delivered();
    world.replicas[0].report_failed(world.now);
    world.advance(secs(1));
    let now = world.now;
    assert!(world.replicas[0].report(now, false).is_some());
}

/// However uses, delayed reports and looks fall: what was used within its timeout is not idle anywhere, and what
/// is not used ends everywhere. A use that comes after the timeout may come too late.
#[test]
fn nothing_that_is_used_is_idle_and_nothing_else_lives() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let timeout = secs(8 + random.below(100) as u64);
        let mut world = World::new(3, 4, timeout);
        let (mut used, mut late) = ([world.now; 4], [None; 4]);
        // What is under way: to whom, from when on, what.
        let mut reports: Vec<(usize, Instant, String)> = Vec::new();
        for _ in 0..400 {
            world.advance(Duration::from_millis(500));
            let now = world.now;
            if random.below(3) == 0 {
                let (replica, number) = (random.below(3), random.below(3));
                world.replicas[replica].used(&uid(number), now, now);
                let unused = now.saturating_duration_since(used[number]);
                late[number] = (unused >= timeout).then_some(now).or(late[number]);
                used[number] = now;
            }
            for from in 0..3 {
                if let Some(text) = world.replicas[from].report(now, false) {
                    for to in (0..3).filter(|to| *to != from) {
                        let late = Duration::from_millis(500 * random.below(3) as u64);
                        reports.push((to, now + late, text.clone()));
                    }
                }
            }
            let (arrived, rest) = reports.into_iter().partition(|(_, at, _)| *at <= now);
            reports = rest;
            let arrived: Vec<_> = arrived;
            for (to, _, text) in arrived {
                world.replicas[to].heard(uses::read(&text), now);
            }
            for replica in &mut world.replicas {
                for due in replica.due(now, 99, |_| false) {
                    if let Due::Idle(key, _) = due {
                        let number = key.name.as_str()[1..].parse::<usize>().unwrap();
                        let unused = now.saturating_duration_since(used[number]);
                        let delay = report_interval(timeout) + DELIVERY;
                        let is_late = late[number].is_some_and(|at| now < at + delay);
                        assert!(unused >= timeout || is_late, "{seed}: {key} {unused:?}");
                    }
                }
            }
        }
        world.advance(timeout * 2 + DELIVERY);
        for replica in &world.replicas {
            assert!((0..4).all(|number| replica.is_idle(&uid(number), world.now)));
        }
    }
}

/// When it may be restarted says nothing of when it ends.
#[test]
fn what_nobody_uses_may_be_restarted_before_it_ends() {
    let (mut replica, mut now) = (Lifetimes::new(Instant::now()), Instant::now());
    let ann = key("scim", "n0");
    let with = |idle: Option<u64>| Timeouts {
        idle: idle.map(secs),
        restart: Some(secs(4)),
    };
    replica.set(
        [
            (ann.clone(), &uid(0), secs(60)),
            (ann.clone(), &uid(1), secs(60)),
        ],
        now,
    );
    now += secs(30);
    let both = [
        (ann.clone(), &uid(0), with(Some(60))),
        (ann.clone(), &uid(1), with(None)),
    ];
    replica.set(both, now);
    assert_eq!(replica.interval(), Some(secs(1)));
    for n in [0, 1] {
        // It counts as used when it becomes outdated, for that alone.
        assert!(!replica.may_restart(&uid(n), now + secs(6)), "{n}");
        assert!(replica.may_restart(&uid(n), now + secs(7)), "{n}");
    }
    assert_eq!(replica.left(&uid(0), now), Some(secs(30)));
    assert_eq!(replica.left(&uid(1), now), None);
    replica.used(&uid(0), now + secs(3), now + secs(3));
    replica.in_use(&uid(1), now + secs(3));
    for n in [0, 1] {
        assert!(!replica.may_restart(&uid(n), now + secs(9)), "{n}");
        assert!(replica.may_restart(&uid(n), now + secs(10)), "{n}");
    }
    replica.all_used(now + secs(20));
    assert!(!replica.may_restart(&uid(0), now + secs(23)));
    assert!(replica.may_restart(&uid(0), now + secs(27)));
    // It is that no longer.
    replica.set([(ann, &uid(0), secs(60))], now);
    assert!(!replica.may_restart(&uid(0), now + secs(99)));
    assert_eq!(replica.interval(), Some(secs(15)));
}
