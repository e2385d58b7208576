//! Which list is due when, and for whom.

use super::*;
use crate::budget::{Division, Ledger};

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
    lists.change(&hello(), &name("a"));
    assert!(lists.read(&hello(), Instant::now()).is_none());
    assert!(lists.kept.is_empty());
}

#[test]
fn a_list_is_read_until_it_changes() {
    let now = Instant::now();
    let mut lists = read(now);
    assert!(lists.read(&hello(), now).is_some());
    assert_eq!(lists.next_due(now), None);
    lists.change(&hello(), &name("b"));
    assert!(lists.read(&hello(), now).is_none());
    // Without readers it is not assembled.
    assert_eq!(lists.next_due(now), None);
    assert!(lists.take_due(now + PERIOD).is_none());
}

#[test]
fn a_list_is_assembled_once_a_period_for_all_its_readers() {
    let now = Instant::now();
    let mut lists = read(now);
    lists.change(&hello(), &name("b"));
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
        lists.change(&hello(), &name("b"));
        lists.wait(&hello(), reader(2), now);
        let _ = lists.take_due(now + PERIOD).unwrap();
        lists.wait(&hello(), reader(3), now);
        if changes {
            lists.change(&hello(), &name("a"));
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
    for (of, at) in [(&other, now + PERIOD / 2), (&hello(), now)] {
        lists.wait(of, reader(1), at);
        let _ = lists.take_due(at).unwrap();
        lists.finish(of, Some(&list(&["a"])), at);
        lists.change(of, &name("a"));
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
    lists.change(&hello(), &name("a"));
    lists.wait(&hello(), reader(2), now);
    lists.abandon(reader(2));
    assert_eq!(lists.next_due(now), None);
}

#[test]
fn changed_names_are_bounded_by_the_entries_of_the_list() {
    let now = Instant::now();
    let mut lists = read(now);
    let change = |lists: &mut Lists, number: usize| {
        lists.change(&hello(), &name(&number.to_string()));
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
    lists.change(&hello(), &name("a"));
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
    lists.change(&hello(), &name("b"));
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
    lists.change(&hello(), &name("b"));
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
    lists.change(&hello(), &name("b"));
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
    lists.change(&other, &name("b"));
    lists.finish(&other, Some(&list(&["a"])), now);
    assert!(lists.read(&hello(), now).is_none());
    for (of, changes) in [(&other, of(&["b"])), (&hello(), Changes::All)] {
        lists.wait(of, reader(3), now);
        let task = lists.take_due(now + PERIOD).unwrap();
        assert_eq!((&task.of, task.changes), (of, changes));
    }
    assert!(lists.drop_last(&other));
}
