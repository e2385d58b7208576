//! The bound on the messages of all objects together.

use super::*;
use crate::kube::types::{ContainerKind, ContainerState, ContainerStatus, MESSAGE_BYTES_MAX};
use crate::kube::types::{SHORT_MESSAGES_BYTES_MAX, Terminated};

/// So many pods with a message at its bound have room.
const FIT: usize = TEXT_BYTES_MAX / MESSAGE_BYTES_MAX;

/// The pod of that number with a message of so many bytes.
fn failed(number: usize, bytes: usize, version: u64) -> Pod {
    let name = format!("p{number:05}");
    let mut pod = pod(&name, &name, &version.to_string());
    let ended = Terminated {
        exit_code: 1,
        message: Some("x".repeat(bytes).into()),
        ..Terminated::default()
    };
    pod.containers = [ContainerStatus {
        kind: ContainerKind::App,
        is_restarted: false,
        state: ContainerState::Terminated(Box::new(ended)),
        details: None,
    }]
    .into();
    pod
}

/// How many pods are shortened, and the first of them.
fn shortened(store: &Store<Pod>) -> (usize, Option<String>) {
    let all = all(store);
    let is_short = |pod: &&Arc<Pod>| pod.text_bytes() == SHORT_MESSAGES_BYTES_MAX;
    let mut short = all.iter().filter(is_short);
    let first = short.next().map(|pod| pod.metadata.name.to_string());
    (usize::from(first.is_some()) + short.count(), first)
}

fn list_failed(writer: &Writer<Pod>, count: usize, version: u64) {
    drop(writer.apply(StoreEvent::Init));
    for number in 0..count {
        let pod = failed(number, MESSAGE_BYTES_MAX, version);
        drop(writer.apply(StoreEvent::InitApply(pod)));
    }
    drop(writer.apply(StoreEvent::InitDone(version.to_string().as_str().into())));
    writer.scanner().check().unwrap();
}

#[test]
fn pods_of_a_list_beyond_the_bound_are_shortened() {
    let (writer, store) = new(Instant::now());
    list_failed(&writer, FIT, 1);
    assert_eq!(shortened(&store), (0, None));
    list_failed(&writer, FIT + 3, 2);
    let first = Some(format!("p{FIT:05}"));
    assert_eq!(shortened(&store), (3, first.clone()));
    // The next list is not longer for those that are there.
    list_failed(&writer, FIT + 3, 2);
    assert_eq!(shortened(&store), (3, first));
    list_failed(&writer, FIT, 3);
    assert_eq!(shortened(&store), (0, None));
}

#[test]
fn a_change_has_the_room_of_the_object_before_it() {
    let (writer, store) = new(Instant::now());
    list_failed(&writer, FIT, 1);
    let check = |short: usize| {
        writer.scanner().check().unwrap();
        assert_eq!(shortened(&store).0, short);
    };
    drop(writer.apply(StoreEvent::Apply(failed(0, MESSAGE_BYTES_MAX, 2))));
    check(0);
    drop(writer.apply(StoreEvent::Apply(failed(FIT, MESSAGE_BYTES_MAX, 3))));
    check(1);
    drop(writer.own_write(failed(FIT + 1, MESSAGE_BYTES_MAX, 4)));
    check(2);
    drop(writer.apply(delete("p00000", "p00000", "5")));
    drop(writer.own_delete("p00001", &"p00001".into()));
    check(2);
    // Those that have changed meanwhile are taken whole.
    drop(writer.apply(StoreEvent::Apply(failed(FIT, MESSAGE_BYTES_MAX, 6))));
    check(1);
    drop(writer.apply(StoreEvent::Apply(failed(FIT + 2, 100, 7))));
    check(1);
}
