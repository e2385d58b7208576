//! The store told by hand: events in, view out.

use super::*;
use crate::kube::types::{ConfigMap, Job, Pod};

fn pod(name: &str, uid: &str, version: &str) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = name.into();
    pod.metadata.uid = uid.into();
    pod.metadata.resource_version = version.into();
    pod.owner_uid = Some("job".into());
    pod
}

fn delete(name: &str, uid: &str, version: &str) -> StoreEvent<Pod> {
    StoreEvent::Delete {
        name: name.into(),
        uid: uid.into(),
        version: version.into(),
    }
}

/// A synced store with these pods, listed at that version.
fn synced(pods: &[(&str, &str, &str)], version: &str) -> (Writer<Pod>, Store<Pod>) {
    let (writer, store) = new(Instant::now());
    list(&writer, pods, version);
    (writer, store)
}

fn list(writer: &Writer<Pod>, pods: &[(&str, &str, &str)], version: &str) -> Vec<Change<Pod>> {
    assert!(writer.apply(StoreEvent::Init).is_empty());
    for (name, uid, version) in pods {
        assert!(
            writer
                .apply(StoreEvent::InitApply(pod(name, uid, version)))
                .is_empty()
        );
    }
    writer.apply(StoreEvent::InitDone(version.into()))
}

/// What readers see: name, UID and version of each.
#[track_caller]
fn check(store: &Store<Pod>, expected: &[(&str, &str, &str)]) {
    let seen: Vec<_> = store
        .snapshot()
        .iter()
        .map(|pod| {
            let metadata = &pod.metadata;
            let (uid, version) = (
                metadata.uid.to_string(),
                metadata.resource_version.to_string(),
            );
            (metadata.name.to_string(), uid, version)
        })
        .collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|(a, b, c)| (a.to_string(), b.to_string(), c.to_string()))
        .collect();
    assert_eq!(seen, expected);
    assert_eq!(store.len(), expected.len());
    let indexed: Vec<_> = store
        .by_index(&Uid::from("job"))
        .iter()
        .map(|pod| pod.metadata.name.clone())
        .collect();
    assert_eq!(
        indexed,
        expected
            .iter()
            .map(|pod| pod.0.clone().into())
            .collect::<Vec<Box<str>>>()
    );
}

#[test]
fn half_a_list_is_never_visible() {
    let (writer, store) = new(Instant::now());
    let _ = writer.apply(StoreEvent::Init);
    let _ = writer.apply(StoreEvent::InitApply(pod("a", "1", "5")));
    assert!(!store.is_synced());
    check(&store, &[]);
    let changes = writer.apply(StoreEvent::InitDone("7".into()));
    assert_eq!(changes.len(), 1);
    assert!(store.is_synced());
    check(&store, &[("a", "1", "5")]);

    let _ = writer.apply(StoreEvent::Init);
    let _ = writer.apply(StoreEvent::InitApply(pod("b", "2", "9")));
    check(&store, &[("a", "1", "5")]);
    // A list that is begun again forgets the half that came before.
    let changes = list(&writer, &[("c", "3", "9")], "10");
    assert_eq!(changes.len(), 2);
    check(&store, &[("c", "3", "9")]);
}

#[test]
fn a_list_that_says_the_same_changes_nothing() {
    let (writer, store) = synced(&[("a", "1", "5"), ("b", "2", "6")], "7");
    let held = store.get("a").unwrap();
    assert!(list(&writer, &[("a", "1", "5"), ("b", "2", "6")], "20").is_empty());
    assert!(Arc::ptr_eq(&held, &store.get("a").unwrap()));
    let changes = list(&writer, &[("a", "1", "21")], "22");
    let names: Vec<_> = changes
        .iter()
        .map(|change| (change.object().metadata.name.clone(), change.new.is_some()))
        .collect();
    assert_eq!(names, [("b".into(), false), ("a".into(), true)]);
}

#[test]
fn a_list_goes_back_with_a_restored_etcd() {
    let (writer, store) = synced(&[("a", "1", "500"), ("b", "2", "600")], "700");
    list(&writer, &[("a", "1", "5")], "7");
    check(&store, &[("a", "1", "5")]);
    let _ = writer.apply(StoreEvent::Apply(pod("a", "1", "8")));
    check(&store, &[("a", "1", "8")]);
}

#[test]
fn an_older_event_never_replaces_an_own_write() {
    let (writer, store) = synced(&[("a", "1", "5")], "5");
    let change = writer.own_write(pod("a", "1", "9")).unwrap();
    assert_eq!(change.old.unwrap().metadata.resource_version, "5".into());
    check(&store, &[("a", "1", "9")]);
    assert!(
        writer
            .apply(StoreEvent::Apply(pod("a", "1", "7")))
            .is_empty()
    );
    assert!(
        writer
            .apply(StoreEvent::Apply(pod("a", "1", "9")))
            .is_empty()
    );
    assert!(writer.own_write(pod("a", "1", "8")).is_none());
    check(&store, &[("a", "1", "9")]);
    assert_eq!(
        writer.apply(StoreEvent::Apply(pod("a", "1", "10"))).len(),
        1
    );
    check(&store, &[("a", "1", "10")]);
}

#[test]
fn versions_are_numbers_not_text() {
    let (writer, store) = synced(&[("a", "1", "9")], "9");
    assert_eq!(
        writer.apply(StoreEvent::Apply(pod("a", "1", "10"))).len(),
        1
    );
    check(&store, &[("a", "1", "10")]);
    // What cannot be compared is taken as it comes.
    assert_eq!(writer.apply(StoreEvent::Apply(pod("a", "1", "x"))).len(), 1);
    check(&store, &[("a", "1", "x")]);
}

#[test]
fn an_own_write_outlives_the_list_that_began_before_it() {
    let (writer, store) = synced(&[("a", "1", "5"), ("old", "9", "5")], "5");
    let _ = writer.own_write(pod("before", "2", "6"));
    let _ = writer.apply(StoreEvent::Init);
    let _ = writer.own_write(pod("during", "3", "12"));
    let _ = writer.own_write(pod("a", "1", "11"));
    let _ = writer.own_delete("old", &"9".into());
    let _ = writer.apply(StoreEvent::InitApply(pod("a", "1", "10")));
    let _ = writer.apply(StoreEvent::InitApply(pod("old", "9", "5")));
    let _ = writer.apply(StoreEvent::InitDone("10".into()));
    check(&store, &[("a", "1", "11"), ("during", "3", "12")]);
    // The next list knows better in any case.
    list(&writer, &[("a", "1", "13")], "14");
    check(&store, &[("a", "1", "13")]);
}

#[test]
fn a_list_of_before_an_own_write_does_not_undo_it() {
    let (writer, store) = synced(&[("a", "1", "5")], "5");
    let _ = writer.own_write(pod("b", "2", "12"));
    let _ = writer.own_write(pod("a", "1", "13"));
    let both = [("a", "1", "13"), ("b", "2", "12")];
    assert!(list(&writer, &[("a", "1", "5")], "9").is_empty());
    check(&store, &both);
    // Nor does another one, and there may be more of them.
    assert!(list(&writer, &[("a", "1", "5")], "11").is_empty());
    check(&store, &both);
    // One of after it knows better.
    list(&writer, &[("a", "1", "13")], "13");
    check(&store, &[("a", "1", "13")]);
    assert!(writer.view().own.is_empty());
}

#[test]
fn what_the_watch_has_shown_is_no_own_write_any_more() {
    let (writer, store) = synced(&[("a", "1", "5")], "5");
    let _ = writer.own_write(pod("b", "2", "12"));
    assert_eq!(writer.view().own.len(), 1);
    assert!(writer.apply(StoreEvent::Progress("12".into())).is_empty());
    assert!(writer.view().own.is_empty());
    check(&store, &[("a", "1", "5"), ("b", "2", "12")]);
    // What comes back later than the watch is none from the beginning.
    let _ = writer.own_write(pod("a", "1", "11"));
    assert!(writer.view().own.is_empty());
}

#[test]
fn a_restored_etcd_knows_nothing_of_own_writes_of_before() {
    let (writer, store) = synced(&[("a", "1", "500")], "700");
    let _ = writer.own_write(pod("b", "2", "705"));
    let _ = writer.apply(StoreEvent::Init);
    let _ = writer.own_write(pod("c", "3", "8"));
    let _ = writer.apply(StoreEvent::InitDone("7".into()));
    check(&store, &[("c", "3", "8")]);
}

#[test]
fn an_own_write_that_a_later_list_has_seen_go_stays_gone() {
    let (writer, store) = synced(&[("a", "1", "5")], "5");
    let _ = writer.apply(StoreEvent::Init);
    let _ = writer.own_write(pod("b", "2", "6"));
    let _ = writer.apply(StoreEvent::InitDone("8".into()));
    check(&store, &[]);
    assert!(writer.own_write(pod("a", "1", "7")).is_none());
    check(&store, &[]);
}

#[test]
fn an_own_write_that_comes_after_the_watch_saw_the_end_brings_nothing_back() {
    let (writer, store) = synced(&[("a", "1", "5")], "5");
    assert_eq!(writer.apply(delete("a", "1", "8")).len(), 1);
    assert!(writer.own_write(pod("a", "1", "7")).is_none());
    check(&store, &[]);
    // Another object of that name, newer than all that was seen, is real.
    assert!(writer.own_write(pod("a", "2", "9")).is_some());
    check(&store, &[("a", "2", "9")]);
    // And the older object's end does it no harm, whenever it comes.
    assert!(writer.apply(delete("a", "1", "8")).is_empty());
    check(&store, &[("a", "2", "9")]);
}

#[test]
fn an_own_deletion_is_not_undone_by_events_on_their_way() {
    let (writer, store) = synced(&[("a", "1", "5")], "5");
    assert!(writer.own_delete("a", &"other".into()).is_none());
    check(&store, &[("a", "1", "5")]);
    assert!(writer.own_delete("a", &"1".into()).unwrap().new.is_none());
    assert!(writer.own_delete("a", &"1".into()).is_none());
    assert!(
        writer
            .apply(StoreEvent::Apply(pod("a", "1", "6")))
            .is_empty()
    );
    check(&store, &[]);
    assert!(writer.apply(delete("a", "1", "7")).is_empty());
    assert_eq!(writer.apply(StoreEvent::Apply(pod("a", "2", "8"))).len(), 1);
    check(&store, &[("a", "2", "8")]);
}

#[test]
fn a_successor_of_the_same_name_replaces_and_is_reindexed() {
    let (writer, store) = synced(&[("a", "1", "5")], "5");
    let mut successor = pod("a", "2", "9");
    successor.owner_uid = Some("job2".into());
    assert_eq!(writer.apply(StoreEvent::Apply(successor)).len(), 1);
    assert!(store.by_index(&Uid::from("job")).is_empty());
    assert_eq!(store.by_index(&Uid::from("job2")).len(), 1);
}

#[test]
fn the_index_keeps_many_in_order_of_names() {
    let (writer, store) = synced(&[("c", "3", "1"), ("a", "1", "2"), ("b", "2", "3")], "4");
    check(&store, &[("a", "1", "2"), ("b", "2", "3"), ("c", "3", "1")]);
    let _ = writer.apply(delete("b", "2", "5"));
    check(&store, &[("a", "1", "2"), ("c", "3", "1")]);
    let _ = writer.apply(delete("a", "1", "6"));
    let _ = writer.apply(delete("c", "3", "7"));
    check(&store, &[]);
    let index = &writer.view().index;
    assert!(index.single.is_empty() && index.several.is_empty());
}

#[test]
fn jobs_that_are_not_ours_are_not_held() {
    let (writer, store) = new::<Job>(Instant::now());
    let mut job = Job::default();
    job.metadata.name = "a".into();
    assert!(writer.own_write(job.clone()).is_none());
    job.template = [("config-controller.semafor.ch/instance-type", "hello")]
        .into_iter()
        .collect();
    assert!(writer.own_write(job).is_some());
    assert_eq!(store.by_index("hello").len(), 1);
    assert!(store.by_index("other").is_empty());
}

#[test]
fn the_age_of_the_view() {
    let start = Instant::now();
    let secs = Duration::from_secs;
    let (writer, store) = new::<ConfigMap>(start);
    assert_eq!(store.age(start + secs(3)), secs(3));
    writer.heard(start + secs(4));
    assert_eq!(store.age(start + secs(9)), secs(5));
    writer.watching(true);
    assert_eq!(store.age(start + secs(93)), secs(0));
    assert_eq!(store.age(start + secs(94)), secs(90));
    writer.watching(false);
    assert_eq!(store.age(start + secs(6)), secs(2));
    assert_eq!(store.last_heard(), start + secs(4));
}

#[test]
fn what_is_known_to_be_gone_is_bounded() {
    let mut gone = Gone::default();
    for number in 0..GONE_MAX + 10 {
        gone.insert(number.to_string().as_str().into());
    }
    assert_eq!((gone.uids.len(), gone.order.len()), (GONE_MAX, GONE_MAX));
    assert!(!gone.contains(&"9".into()) && gone.contains(&"10".into()));
}
