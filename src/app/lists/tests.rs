//! Which list is due when, and for whom.

use super::*;
use crate::app::instances::Selection;
use crate::budget::{Account, Division, Ledger, Purpose};

fn hello() -> ListOf {
    instances("hello")
}

fn instances(app_type: &str) -> ListOf {
    ListOf::Instances(AppType::new(app_type).unwrap())
}

fn name(name: &str) -> InstanceName {
    InstanceName::new(name).unwrap()
}

fn reader(serial: u64) -> RequestHandle {
    RequestHandle {
        io: 0,
        slot: 0,
        serial,
    }
}

fn of_hello(name: &str) -> InstanceKey {
    InstanceKey::new("hello", name).unwrap()
}

/// A list with these names.
fn list(names: &[&str]) -> Arc<List> {
    let names = names.iter().map(|text| name(text)).collect();
    let encode = |_: &InstanceName, into: &mut Vec<u8>| {
        into.push(b'1');
        true
    };
    let ledger = Ledger::of_bytes(1000, Division::default());
    Arc::new(List::new(&names, "", encode, &ledger).unwrap())
}

fn of(names: &[&str]) -> Changes {
    Changes::Of(names.iter().map(|text| name(text)).collect())
}

/// Lists with a list of "a" that nothing has changed since, assembled at that time.
fn read(now: Instant) -> Lists {
    let mut lists = Lists::default();
    lists.wait(&hello(), reader(1), now);
    let task = lists.take_due(now).unwrap();
    assert_eq!(
        (task.changes, task.readers),
        (Changes::All, vec![reader(1)])
    );
    assert_eq!(lists.finish(&hello(), Some(&list(&["a"])), now), []);
    lists
}

#[test]
fn a_type_that_nobody_reads_costs_nothing() {
    let mut lists = Lists::default();
    lists.change(&of_hello("a"));
    assert!(lists.read(&hello(), Instant::now()).is_none());
    assert!(lists.kept.is_empty());
}

#[test]
fn a_list_is_read_until_it_changes() {
    let now = Instant::now();
    let mut lists = read(now);
    assert!(lists.read(&hello(), now).is_some());
    assert_eq!(lists.next_due(now), None);
    lists.change(&of_hello("b"));
    assert!(lists.read(&hello(), now).is_none());
    // Without readers it is not assembled.
    assert_eq!(lists.next_due(now), None);
    assert!(lists.take_due(now + PERIOD).is_none());
}

#[test]
fn a_list_is_assembled_once_a_period_for_all_its_readers() {
    let now = Instant::now();
    let mut lists = read(now);
    lists.change(&of_hello("b"));
    lists.wait(&hello(), reader(2), now);
    lists.wait(&hello(), reader(3), now);
    assert_eq!(lists.next_due(now), Some(now + PERIOD));
    assert!(lists.take_due(now).is_none());
    let task = lists.take_due(now + PERIOD).unwrap();
    assert_eq!(task.changes, of(&["b"]));
    assert_eq!(task.readers, [reader(2), reader(3)]);
    assert_eq!(task.before.unwrap().len(), 1);
    // It is being assembled: nobody may get the old one, nor have it assembled twice.
    assert!(lists.read(&hello(), now).is_none());
    assert!(lists.take_due(now + PERIOD).is_none());
}

#[test]
fn readers_that_come_meanwhile_get_the_list_unless_it_has_changed_again() {
    let now = Instant::now();
    for changes in [false, true] {
        let mut lists = read(now);
        lists.change(&of_hello("b"));
        lists.wait(&hello(), reader(2), now);
        let _ = lists.take_due(now + PERIOD).unwrap();
        lists.wait(&hello(), reader(3), now);
        if changes {
            lists.change(&of_hello("a"));
        }
        let late = lists.finish(&hello(), Some(&list(&["a", "b"])), now + PERIOD);
        if changes {
            assert_eq!(late, []);
            let task = lists.take_due(now + 2 * PERIOD).unwrap();
            assert_eq!((task.changes, task.readers), (of(&["a"]), vec![reader(3)]));
        } else {
            assert_eq!(late, [reader(3)]);
            assert!(lists.read(&hello(), now).is_some());
        }
    }
}

#[test]
fn a_reader_of_a_clean_list_gets_it_at_once() {
    let now = Instant::now();
    let mut lists = read(now);
    // It was out of date when the reader looked.
    lists.wait(&hello(), reader(2), now);
    let task = lists.take_due(now).unwrap();
    assert_eq!((task.changes, task.readers), (of(&[]), vec![reader(2)]));
}

#[test]
fn the_longest_overdue_list_comes_first() {
    let now = Instant::now();
    let mut lists = Lists::default();
    let other = instances("other");
    let key = InstanceKey::new("other", "a").unwrap();
    for (of, key, at) in [
        (&other, key, now + PERIOD / 2),
        (&hello(), of_hello("a"), now),
    ] {
        lists.wait(of, reader(1), at);
        let _ = lists.take_due(at).unwrap();
        lists.finish(of, Some(&list(&["a"])), at);
        lists.change(&key);
    }
    lists.wait(&other, reader(2), now + PERIOD);
    lists.wait(&hello(), reader(3), now + PERIOD);
    let first = lists.take_due(now + 2 * PERIOD).unwrap();
    assert_eq!(first.of, hello());
    assert_eq!(lists.take_due(now + 2 * PERIOD).unwrap().of, other);
}

#[test]
fn a_reader_that_hangs_up_has_no_list_made() {
    let now = Instant::now();
    let mut lists = read(now);
    lists.change(&of_hello("a"));
    lists.wait(&hello(), reader(2), now);
    lists.abandon(reader(2));
    assert_eq!(lists.next_due(now), None);
}

#[test]
fn changed_names_are_bounded_by_the_entries_of_the_list() {
    let now = Instant::now();
    let mut lists = read(now);
    let change = |lists: &mut Lists, number: usize| {
        lists.change(&of_hello(&number.to_string()));
    };
    (0..NAMES_MORE_MAX + 1).for_each(|number| change(&mut lists, number));
    assert_ne!(lists.kept[&hello()].changes, Changes::All);
    change(&mut lists, NAMES_MORE_MAX + 1);
    assert_eq!(lists.kept[&hello()].changes, Changes::All);
    change(&mut lists, 0);
    assert_eq!(lists.kept[&hello()].changes, Changes::All);
}

#[test]
fn lists_without_instances_or_readers_are_dropped() {
    let now = Instant::now();
    let mut lists = read(now);
    lists.emptied(&hello());
    assert!(lists.kept.is_empty());

    let mut lists = read(now);
    lists.change(&of_hello("a"));
    lists.wait(&hello(), reader(2), now);
    lists.emptied(&hello());
    let _ = lists.take_due(now + PERIOD).unwrap();
    lists.finish(&hello(), Some(&list(&[])), now);
    assert!(lists.kept.is_empty());

    let mut lists = read(now);
    lists.forget_unread(now + UNREAD_KEPT - PERIOD);
    assert_eq!(lists.kept.len(), 1);
    let _ = lists.read(&hello(), now + PERIOD);
    lists.forget_unread(now + UNREAD_KEPT);
    assert_eq!(lists.kept.len(), 1);
    lists.forget_unread(now + UNREAD_KEPT + PERIOD);
    assert!(lists.kept.is_empty());
}

#[test]
fn without_memory_for_a_list_the_next_is_made_anew_after_the_period() {
    let now = Instant::now();
    let mut lists = read(now);
    lists.change(&of_hello("b"));
    lists.wait(&hello(), reader(2), now);
    let task = lists.take_due(now + PERIOD).unwrap();
    assert_eq!(task.changes, of(&["b"]));
    lists.wait(&hello(), reader(3), now + PERIOD);
    assert_eq!(lists.finish(&hello(), None, now + PERIOD), []);
    assert!(lists.read(&hello(), now + PERIOD).is_none());
    assert!(lists.take_due(now + PERIOD).is_none());
    let task = lists.take_due(now + 2 * PERIOD).unwrap();
    assert_eq!(
        (task.changes, task.readers),
        (Changes::All, vec![reader(3)])
    );
    assert!(task.before.is_none());
}

#[test]
fn readers_wait_for_room_as_long_as_any_of_them() {
    let now = Instant::now();
    let mut lists = read(now);
    lists.change(&of_hello("b"));
    let try_at = |lists: &mut Lists, at: Instant| {
        let mut task = lists.take_due(at).unwrap();
        lists.wait_for_room(&mut task, at);
        assert_eq!(lists.finish(&hello(), None, at), []);
        task.readers
    };
    let begin = now + PERIOD;
    lists.wait(&hello(), reader(2), begin);
    assert_eq!(try_at(&mut lists, begin), []);
    lists.wait(&hello(), reader(3), begin);
    assert_eq!(lists.next_due(begin), Some(begin + ROOM_PERIOD));
    assert_eq!(try_at(&mut lists, begin + ROOM_PERIOD), []);
    lists.abandon(reader(2));
    lists.wait(&hello(), reader(4), begin + ROOM_PERIOD);
    let end = begin + ROOM_WAIT;
    assert_eq!(try_at(&mut lists, end), [reader(3), reader(4)]);
    // Whoever comes later waits as long.
    for serial in [5, 6] {
        let begin = end + ROOM_WAIT * serial;
        lists.wait(&hello(), reader(serial.into()), begin);
        assert_eq!(try_at(&mut lists, begin), []);
        lists.abandon(reader(serial.into()));
        assert_eq!(lists.next_due(begin), None);
    }
    let begin = end + ROOM_WAIT * 9;
    lists.wait(&hello(), reader(9), begin);
    let task = lists.take_due(begin).unwrap();
    lists.finish(&hello(), Some(&list(&["a"])), begin);
    assert_eq!(task.readers, [reader(9)]);
    lists.change(&of_hello("b"));
    lists.wait(&hello(), reader(10), begin);
    assert_eq!(lists.next_due(begin), Some(begin + PERIOD));
}

#[test]
fn lists_are_dropped_to_make_room_and_made_anew() {
    let now = Instant::now();
    let mut lists = read(now);
    let other = instances("other");
    lists.wait(&other, reader(2), now);
    let _ = lists.take_due(now).unwrap();
    assert!(!lists.drop_last(&other), "it has no list yet");
    assert!(lists.drop_all());
    assert!(!lists.drop_all(), "there is none left");
    lists.change(&InstanceKey::new("other", "b").unwrap());
    lists.finish(&other, Some(&list(&["a"])), now);
    assert!(lists.read(&hello(), now).is_none());
    for (of, changes) in [(&other, of(&["b"])), (&hello(), Changes::All)] {
        lists.wait(of, reader(3), now);
        let task = lists.take_due(now + PERIOD).unwrap();
        assert_eq!((&task.of, task.changes), (of, changes));
    }
    assert!(lists.drop_last(&other));
}

/// The first page with so many instances of this type, or of all.
fn page(limit: usize, app_type: Option<&str>) -> Arc<PageQuery> {
    let types = app_type.map(|one| [AppType::new(one).unwrap()].into());
    Arc::new(PageQuery {
        selection: Selection {
            types,
            ..Selection::default()
        },
        limit,
        after: None,
    })
}

fn place(places: &Arc<Ledger>) -> Result<Hold, Full> {
    places.hold(Account::Service, Purpose::Transfer, 1)
}

/// A ledger of so many places of pages, and how many are held.
fn places(max: usize) -> (Arc<Ledger>, impl Fn() -> usize) {
    let places = Ledger::of_places(max, Division::UNLIMITED);
    let counted = Arc::clone(&places);
    (places, move || counted.budget().used())
}

#[test]
fn readers_of_one_page_take_one_place_until_they_are_answered() {
    let now = Instant::now();
    let mut lists = Lists::default();
    let (places, used) = places(1);
    let (one, other) = (page(1, None), page(2, None));
    let mut waits = |query, n| lists.wait_for_page(query, reader(n), place(&places), now);
    assert_eq!(waits(&one, 1), Ok(()));
    assert_eq!(waits(&one, 2), Ok(()), "it needs no further place");
    assert_eq!(waits(&other, 3), Err(Full::Budget));
    lists.abandon(reader(1));
    assert_eq!(used(), 1, "another one waits");
    let task = lists.take_due(now).unwrap();
    assert_eq!((task.readers, used()), (vec![reader(2)], 1));
    lists.finish(&task.of, Some(&List::empty()), now);
    assert_eq!(used(), 0);
    assert!(lists.read(&task.of, now).is_some(), "an empty page is kept");
    lists
        .wait_for_page(&other, reader(4), place(&places), now)
        .unwrap();
    lists.abandon(reader(4));
    assert_eq!(used(), 0);
}

#[test]
fn a_page_changes_with_the_types_that_it_may_have() {
    let now = Instant::now();
    let mut lists = Lists::default();
    let (places, _) = places(10);
    let kept = [
        page(1, None),
        page(1, Some("hello")),
        page(1, Some("other")),
    ];
    for query in &kept {
        lists
            .wait_for_page(query, reader(1), place(&places), now)
            .unwrap();
        let task = lists.take_due(now).unwrap();
        lists.finish(&task.of, Some(&List::empty()), now);
    }
    let mut are_known = |act: &dyn Fn(&mut Lists)| {
        act(&mut lists);
        let of = kept.each_ref().map(|query| ListOf::Page(Arc::clone(query)));
        of.map(|of| lists.read(&of, now).is_some())
    };
    assert_eq!(are_known(&|_| ()), [true; 3]);
    let changed = |lists: &mut Lists| lists.change(&of_hello("a"));
    assert_eq!(are_known(&changed), [false, false, true]);
    let changed = |lists: &mut Lists| lists.templates_changed();
    assert_eq!(are_known(&changed), [false; 3]);
}

#[test]
fn a_bounded_number_of_pages_is_kept_those_that_were_read_last() {
    let now = Instant::now();
    let mut lists = Lists::default();
    let (places, _) = places(1000);
    let at = |n: usize| now + Duration::from_millis(u64::try_from(n).unwrap());
    for n in 0..PAGES_MAX + 10 {
        let place = place(&places);
        lists
            .wait_for_page(&page(n, None), reader(1), place, at(n))
            .unwrap();
        // The first stays in use.
        if n > 0 {
            let task = lists.take_due(at(n)).unwrap();
            lists.finish(&task.of, Some(&List::empty()), at(n));
        }
        if n == 0 {
            let _ = lists.take_due(at(n)).unwrap();
        }
    }
    let is_kept = |n: usize| lists.kept.contains_key(&ListOf::Page(page(n, None)));
    let kept: Vec<usize> = (0..PAGES_MAX + 10).filter(|n| is_kept(*n)).collect();
    let expected: Vec<usize> = [0].into_iter().chain(11..PAGES_MAX + 10).collect();
    assert_eq!((kept, lists.pages), (expected, PAGES_MAX));
    lists.forget_unread(at(PAGES_MAX + 10) + UNREAD_KEPT);
    assert_eq!((lists.kept.len(), lists.pages), (1, 1), "it is in use");
}

#[test]
fn pages_are_made_in_the_order_in_which_they_were_asked_for() {
    let now = Instant::now();
    let mut lists = Lists::default();
    let (places, _) = places(1000);
    let at = |n: usize| now + Duration::from_millis(u64::try_from(n).unwrap());
    for n in 0..50 {
        let place = place(&places);
        lists
            .wait_for_page(&page(n, None), reader(1), place, at(n))
            .unwrap();
    }
    for n in 0..50 {
        let task = lists.take_due(at(100)).unwrap();
        assert_eq!(task.of, ListOf::Page(page(n, None)));
        lists.finish(&task.of, Some(&List::empty()), at(100));
    }
}
