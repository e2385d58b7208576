//! Which stops a request makes, how many at once, and what its caller hears.

use super::*;
use crate::app::catalog::SharedCatalog;
use crate::app::coordinator::Input as OfCoordinator;
use crate::app::engine::Inputs;
use crate::app::error::Bound;
use crate::app::fixture::{World, handle, key, origin};
use crate::budget::{Account, Division, Ledger};
use serde_json::json;

type Answers = Mutex<Vec<(RequestHandle, Response)>>;

#[derive(Debug, Default)]
struct Sink(Answers, Mutex<usize>);

impl ResponseSink for Sink {
    fn respond(&self, handle: RequestHandle, response: Response) {
        lock(&self.0).push((handle, response));
    }

    fn announce(&self) {
        *lock(&self.1) += 1;
    }
}

/// Only responses to its own stops are kept from the front.
#[test]
fn what_is_not_its_own_is_passed_on() {
    let others = Arc::new(Sink::default());
    let sink = StopSink {
        queue: StopQueue::new(World::new().cache),
        others: Arc::clone(&others) as Arc<dyn ResponseSink>,
    };
    sink.respond(handle(1), Response::Done);
    sink.announce();
    assert_eq!((lock(&others.0).len(), *lock(&others.1)), (1, 1));
}

/// A stopper over a world, and the ends of its ways.
struct Bench {
    world: World,
    catalog: SharedCatalog,
    bounds: WaitingBounds,
    queue: StopQueue,
    stopper: Stopper,
    coordinator: Inputs,
    sink: Sink,
    now: Instant,
}

impl Bench {
    /// With so many instances of `a` and one of `b`, and so many places.
    fn new(count: usize, places: usize) -> Self {
        let mut world = World::new();
        for number in 0..count {
            let name = format!("n{number:04}");
            world.job_of(&key("a", &name), &format!("u-{name}"), json!({}));
        }
        world.job_of(&key("b", "x"), "u-x", json!({}));
        let queue = StopQueue::new(world.cache.clone());
        let (inbox, coordinator) = Inbox::new(2000);
        let bytes = Ledger::of_bytes(1 << 24, Division::UNLIMITED);
        Self {
            now: world.instant(),
            catalog: SharedCatalog::default(),
            bounds: WaitingBounds::new(bytes, places, Division::UNLIMITED),
            stopper: Stopper::new(queue.clone(), inbox),
            queue,
            coordinator,
            sink: Sink::default(),
            world,
        }
    }

    /// A request for all instances of `a` comes.
    fn ask(&self, wait_secs: Option<u64>) {
        let account = Account::Token("ann".into());
        let (places, pages) = (&self.bounds, &self.bounds.pages);
        let request = StopMany {
            handle: handle(1),
            by: origin("ann"),
            selection: Selection {
                types: Some([key("a", "x").app_type].into()),
                ..Selection::default()
            },
            wait: None,
            held: places.hold(&account, Purpose::Write, 10).unwrap(),
            place: pages.hold(account, Purpose::Transfer, 1).unwrap(),
        };
        let until = wait_secs.map(|secs| self.now + Duration::from_secs(secs));
        let deadline = self.now + Duration::from_secs(10);
        self.queue.ask(request, deadline, until);
    }

    /// The stops that are handed to the coordinator.
    fn sent(&self) -> Vec<NewWaiter> {
        self.stopper.step(&Env {
            roster: Roster {
                cache: &self.world.cache,
                census: &self.world.census,
                catalog: &self.catalog,
            },
            bounds: &self.bounds,
            sink: &self.sink,
            now: self.now,
        });
        let inputs = self.coordinator.take(usize::MAX).into_iter();
        let waiters = inputs.map(|input| match input {
            OfCoordinator::Requested(waiter) => waiter,
            other => panic!("{other:?}"),
        });
        waiters.collect()
    }

    fn answer(&self, waiter: NewWaiter, response: Response) {
        let sink = StopSink {
            queue: self.queue.clone(),
            others: Arc::new(Sink::default()),
        };
        sink.respond(waiter.handle, response);
    }

    /// All stops succeed, until none is sent; how many there were.
    fn all_succeed(&self) -> usize {
        let mut count = 0;
        loop {
            let sent = self.sent();
            if sent.is_empty() {
                return count;
            }
            for waiter in sent {
                count += 1;
                self.answer(waiter, Response::Done);
            }
        }
    }

    /// The counts of the response: stopped, stopping, left, failed.
    fn counts(&self) -> Option<[usize; 4]> {
        let (of, response) = lock(&self.sink.0).pop()?;
        assert_eq!(of, handle(1));
        let Response::Stopped(it) = response else {
            panic!("{response:?}");
        };
        assert_eq!(it.first.is_some(), it.failed > 0);
        Some([it.stopped, it.stopping, it.left, it.failed])
    }
}

#[test]
fn each_instance_is_stopped_by_its_uid() {
    let bench = Bench::new(2, 100);
    bench.ask(None);
    let sent = bench.sent();
    let of = |waiter: &NewWaiter| (waiter.key.to_string(), waiter.expectation.clone());
    let expected = ["n0000", "n0001"].map(|name| {
        let mut precondition = Precondition::default();
        precondition.add(&format!("uid:u-{name}"));
        (
            format!("a/{name}"),
            Expectation::Precondition(precondition.into()),
        )
    });
    assert_eq!(sent.iter().map(of).collect::<Vec<_>>(), expected);
    assert!(
        sent.iter()
            .all(|it| matches!(it.want, Want::Stop { until: None }))
    );
    assert_eq!(bench.counts(), None);
    sent.into_iter()
        .for_each(|it| bench.answer(it, Response::Done));
    assert_eq!(bench.all_succeed(), 0);
    assert_eq!(bench.counts(), Some([2, 0, 0, 0]));
    assert_eq!(bench.bounds.places.budget().used(), 0);
    assert_eq!(bench.bounds.bytes.budget().used(), 0);
}

#[test]
fn a_bounded_number_is_under_way_each_with_a_place() {
    let bench = Bench::new(AT_ONCE + 5, 1000);
    bench.ask(None);
    let mut sent = bench.sent();
    assert_eq!(sent.len(), AT_ONCE);
    let held = || bench.bounds.places.budget().used();
    // The first has that of the request.
    assert_eq!((held(), bench.bounds.pages.budget().used()), (AT_ONCE, 0));
    bench.answer(sent.remove(0), Response::Done);
    let next = bench.sent();
    assert_eq!((next.len(), next[0].key.name.as_str()), (1, "n0032"));
    // With fewer places there are fewer, but always one.
    for places in [1, 3] {
        let bench = Bench::new(10, places);
        bench.ask(None);
        assert_eq!(bench.sent().len(), places);
    }
    let bench = Bench::new(10, 1);
    bench.ask(None);
    assert_eq!(
        (bench.all_succeed(), bench.counts()),
        (10, Some([10, 0, 0, 0]))
    );
}

#[test]
fn one_request_stops_a_bounded_number() {
    let bench = Bench::new(STOPS_MAX + 7, 1000);
    bench.ask(None);
    assert_eq!(bench.all_succeed(), STOPS_MAX);
    assert_eq!(bench.counts(), Some([STOPS_MAX, 0, 7, 0]));
}

#[test]
fn what_is_gone_does_not_count_and_what_fails_is_told() {
    let bench = Bench::new(4, 100);
    bench.ask(None);
    let mut sent = bench.sent();
    let name = |at: usize| key("a", &format!("n{at:04}"));
    bench.answer(sent.remove(0), Response::Failed(Error::NoInstance(name(0))));
    bench.answer(
        sent.remove(0),
        Response::Failed(Error::PreconditionFailed(name(1))),
    );
    bench.answer(
        sent.remove(0),
        Response::Failed(Error::TooManyRequests(Bound::Parked)),
    );
    bench.answer(sent.remove(0), Response::Done);
    assert!(bench.sent().is_empty());
    let response = lock(&bench.sink.0).pop().unwrap().1;
    let Response::Stopped(counts) = response else {
        panic!("{response:?}");
    };
    assert_eq!((counts.stopped, counts.failed), (1, 1));
    let (of, error) = *counts.first.unwrap();
    assert_eq!(of, name(2));
    assert!(matches!(error, Error::TooManyRequests(Bound::Parked)));
}

#[test]
fn whoever_waits_hears_when_all_are_gone_or_how_many_are_not() {
    let mut bench = Bench::new(2, 100);
    // One is being stopped already.
    let deleting = json!({"metadata": {"deletionTimestamp": "2026-05-01T10:00:03Z"}});
    bench
        .world
        .job_of(&key("a", "n0001"), "u-n0001", deleting.clone());
    bench.ask(None);
    assert_eq!(
        (bench.all_succeed(), bench.counts()),
        (1, Some([1, 0, 0, 0]))
    );
    bench.ask(Some(30));
    assert_eq!((bench.all_succeed(), bench.counts()), (1, None));
    assert_eq!(bench.stopper.next_look(), Some(bench.now + LOOK_PERIOD));
    bench.world.job_gone_of(&key("a", "n0000"), "u-n0000");
    bench.now += LOOK_PERIOD;
    assert_eq!((bench.all_succeed(), bench.counts()), (0, None));
    // What has its name next is another.
    bench.world.job_of(&key("a", "n0001"), "u-new", json!({}));
    assert_eq!(
        (bench.all_succeed(), bench.counts()),
        (0, None),
        "not looked at yet"
    );
    bench.now += LOOK_PERIOD;
    assert_eq!(
        (bench.all_succeed(), bench.counts()),
        (0, Some([1, 0, 0, 0]))
    );
    bench.ask(Some(5));
    assert_eq!(bench.all_succeed(), 1);
    bench.now += Duration::from_secs(5);
    assert_eq!(
        (bench.all_succeed(), bench.counts()),
        (0, Some([1, 1, 0, 0]))
    );
    assert_eq!(bench.stopper.next_look(), None);
}

#[test]
fn nothing_more_is_stopped_when_time_is_up_the_caller_gone_or_the_replica_ends() {
    let begun = || {
        let bench = Bench::new(AT_ONCE + 5, 1000);
        bench.ask(Some(30));
        let sent = bench.sent();
        (bench, sent)
    };
    let (mut bench, sent) = begun();
    bench.now += Duration::from_secs(10);
    sent.into_iter()
        .for_each(|it| bench.answer(it, Response::Done));
    assert_eq!((bench.all_succeed(), bench.counts()), (0, None));
    bench.now += Duration::from_secs(20);
    assert_eq!(
        (bench.all_succeed(), bench.counts()),
        (0, Some([AT_ONCE, AT_ONCE, 5, 0]))
    );
    let (bench, sent) = begun();
    bench.queue.abandon(handle(1));
    sent.into_iter()
        .for_each(|it| bench.answer(it, Response::Done));
    assert_eq!((bench.all_succeed(), bench.counts()), (0, None));
    assert_eq!(bench.bounds.places.budget().used(), 0);
    let (bench, mut sent) = begun();
    bench.queue.drain();
    bench.answer(sent.remove(0), Response::Failed(Error::Draining));
    sent.into_iter()
        .for_each(|it| bench.answer(it, Response::Done));
    let (stopped, left) = (AT_ONCE - 1, 5 + 1);
    assert_eq!(
        (bench.all_succeed(), bench.counts()),
        (0, Some([stopped, stopped, left, 0]))
    );
}

#[test]
fn without_memory_nothing_is_stopped() {
    let mut bench = Bench::new(100, 100);
    bench.bounds.bytes = Ledger::of_bytes(10_000, Division::UNLIMITED);
    bench.ask(None);
    assert!(bench.sent().is_empty());
    let response = lock(&bench.sink.0).pop().unwrap().1;
    assert!(
        matches!(response, Response::Failed(Error::Overloaded)),
        "{response:?}"
    );
    // The responses of others go their own way.
    let others = Arc::new(Sink::default());
    let sink = StopSink {
        queue: bench.queue.clone(),
        others: Arc::clone(&others) as Arc<dyn ResponseSink>,
    };
    sink.respond(handle(3), Response::Done);
    assert_eq!(lock(&others.0).len(), 1);
}
