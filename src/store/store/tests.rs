//! The store, one event or own call at a time; its invariants are checked after each.

use super::overlay::{ABSENT_MAX, DELETED_MAX, WRITTEN_MAX};
use super::*;
use crate::kube::types::{ConfigMap, Job, Pod};

mod broken;
mod observer;
mod random;
mod texts;

/// A writer that checks the store's invariants after every step.
struct Checked(Writer<Pod>);

impl Checked {
    #[track_caller]
    fn apply(&self, event: StoreEvent<Pod>) -> Vec<Change<Pod>> {
        let changes = self.0.apply(event);
        self.0.scanner().check().unwrap();
        changes
    }

    #[track_caller]
    fn own_write(&self, object: Pod) -> Option<Change<Pod>> {
        let change = self.0.own_write(object);
        self.0.scanner().check().unwrap();
        change
    }

    #[track_caller]
    fn own_delete(&self, name: &str, uid: &Uid) -> Option<Change<Pod>> {
        let change = self.0.own_delete(name, uid);
        self.0.scanner().check().unwrap();
        change
    }

    #[track_caller]
    fn own_absence(&self, name: &str, version: &ResourceVersion) -> Option<Change<Pod>> {
        let change = self.0.own_absence(name, version);
        self.0.scanner().check().unwrap();
        change
    }

    /// How many own writes and own deletions the watch has not reached yet.
    fn overlaid(&self) -> (usize, usize) {
        self.0.shared.write().layers.overlaid()
    }
}

/// An empty store.
fn unsynced() -> (Checked, Store<Pod>) {
    let (writer, store) = new(Instant::now());
    (Checked(writer), store)
}

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
fn synced(pods: &[(&str, &str, &str)], version: &str) -> (Checked, Store<Pod>) {
    let (writer, store) = unsynced();
    list(&writer, pods, version);
    (writer, store)
}

fn list(writer: &Checked, pods: &[(&str, &str, &str)], version: &str) -> Vec<Change<Pod>> {
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

/// All objects, by name.
fn all<K: Resource>(store: &Store<K>) -> Vec<Arc<K>> {
    let shared = Arc::clone(&store.shared);
    Scanner { shared }.all()
}

/// What readers see: name, UID and version of each.
#[track_caller]
fn shows(store: &Store<Pod>, expected: &[(&str, &str, &str)]) {
    let seen: Vec<_> = all(store)
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
    assert_eq!(store.count(), expected.len());
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
fn an_incomplete_list_is_never_visible() {
    let (writer, store) = unsynced();
    let _ = writer.apply(StoreEvent::Init);
    let _ = writer.apply(StoreEvent::InitApply(pod("a", "1", "5")));
    assert!(!store.is_synced());
    shows(&store, &[]);
    let changes = writer.apply(StoreEvent::InitDone("7".into()));
    assert_eq!(changes.len(), 1);
    assert!(store.is_synced());
    shows(&store, &[("a", "1", "5")]);

    let _ = writer.apply(StoreEvent::Init);
    let _ = writer.apply(StoreEvent::InitApply(pod("b", "2", "9")));
    shows(&store, &[("a", "1", "5")]);
    // A list that starts again drops the pages received before.
    let changes = list(&writer, &[("c", "3", "9")], "10");
    assert_eq!(changes.len(), 2);
    shows(&store, &[("c", "3", "9")]);
}

#[test]
fn an_identical_list_changes_nothing() {
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
fn a_list_reports_deletions_first_and_then_changes_by_name() {
    let named = |prefix: &str, version| {
        let all = (10..30).map(|number| pod(&format!("{prefix}{number}"), prefix, version));
        all.collect::<Vec<_>>()
    };
    let (writer, store) = unsynced();
    let list = |pods: Vec<Pod>, version: &str| {
        let _ = writer.apply(StoreEvent::Init);
        for pod in pods {
            let _ = writer.apply(StoreEvent::InitApply(pod));
        }
        writer.apply(StoreEvent::InitDone(version.into()))
    };
    list(named("z", "5"), "5");
    assert_ne!(store.count(), 0);
    let order: Vec<_> = list(named("a", "6"), "6")
        .iter()
        .map(|change| (change.new.is_some(), change.object().metadata.name.clone()))
        .collect();
    assert_eq!(order.len(), 40);
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn a_list_of_a_restored_etcd_replaces_newer_objects() {
    let (writer, store) = synced(&[("a", "1", "500"), ("b", "2", "600")], "700");
    list(&writer, &[("a", "1", "5")], "7");
    shows(&store, &[("a", "1", "5")]);
    let _ = writer.apply(StoreEvent::Apply(pod("a", "1", "8")));
    shows(&store, &[("a", "1", "8")]);
}

#[test]
fn an_older_event_never_replaces_an_own_write() {
    let (writer, store) = synced(&[("a", "1", "5")], "5");
    let change = writer.own_write(pod("a", "1", "9")).unwrap();
    assert_eq!(change.old.unwrap().metadata.resource_version, "5".into());
    shows(&store, &[("a", "1", "9")]);
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
    shows(&store, &[("a", "1", "9")]);
    assert_eq!(
        writer.apply(StoreEvent::Apply(pod("a", "1", "10"))).len(),
        1
    );
    shows(&store, &[("a", "1", "10")]);
}

#[test]
fn versions_are_numbers_not_text() {
    let (writer, store) = synced(&[("a", "1", "9")], "9");
    assert_eq!(
        writer.apply(StoreEvent::Apply(pod("a", "1", "10"))).len(),
        1
    );
    shows(&store, &[("a", "1", "10")]);
    // Versions that cannot be compared are applied in order of arrival.
    assert_eq!(writer.apply(StoreEvent::Apply(pod("a", "1", "x"))).len(), 1);
    shows(&store, &[("a", "1", "x")]);
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
    shows(&store, &[("a", "1", "11"), ("during", "3", "12")]);
    // The next list replaces it in any case.
    list(&writer, &[("a", "1", "13")], "14");
    shows(&store, &[("a", "1", "13")]);
}

#[test]
fn a_list_older_than_an_own_write_does_not_undo_it() {
    let (writer, store) = synced(&[("a", "1", "5")], "5");
    let _ = writer.own_write(pod("b", "2", "12"));
    let _ = writer.own_write(pod("a", "1", "13"));
    let both = [("a", "1", "13"), ("b", "2", "12")];
    assert!(list(&writer, &[("a", "1", "5")], "9").is_empty());
    shows(&store, &both);
    // Nor does another older list.
    assert!(list(&writer, &[("a", "1", "5")], "11").is_empty());
    shows(&store, &both);
    // A newer list replaces it.
    list(&writer, &[("a", "1", "13")], "13");
    shows(&store, &[("a", "1", "13")]);
    assert_eq!(writer.overlaid(), (0, 0));
}

#[test]
fn an_own_write_that_the_watch_has_shown_leaves_the_overlay() {
    let (writer, store) = synced(&[("a", "1", "5")], "5");
    let _ = writer.own_write(pod("b", "2", "12"));
    assert_eq!(writer.overlaid(), (1, 0));
    assert!(writer.apply(StoreEvent::Progress("12".into())).is_empty());
    assert_eq!(writer.overlaid(), (0, 0));
    shows(&store, &[("a", "1", "5"), ("b", "2", "12")]);
    // A response that arrives after the watch event never enters the overlay.
    let _ = writer.own_write(pod("a", "1", "11"));
    assert_eq!(writer.overlaid(), (0, 0));
}

#[test]
fn a_restored_etcd_drops_earlier_own_writes() {
    let (writer, store) = synced(&[("a", "1", "500")], "700");
    let _ = writer.own_write(pod("b", "2", "705"));
    let _ = writer.apply(StoreEvent::Init);
    let _ = writer.own_write(pod("c", "3", "8"));
    let _ = writer.apply(StoreEvent::InitDone("7".into()));
    shows(&store, &[("c", "3", "8")]);
}

#[test]
fn an_own_write_deleted_before_a_later_list_stays_gone() {
    let (writer, store) = synced(&[("a", "1", "5")], "5");
    let _ = writer.apply(StoreEvent::Init);
    let _ = writer.own_write(pod("b", "2", "6"));
    let _ = writer.apply(StoreEvent::InitDone("8".into()));
    shows(&store, &[]);
    assert!(writer.own_write(pod("a", "1", "7")).is_none());
    shows(&store, &[]);
}

#[test]
fn a_late_own_write_does_not_restore_a_deleted_object() {
    let (writer, store) = synced(&[("a", "1", "5")], "5");
    assert_eq!(writer.apply(delete("a", "1", "8")).len(), 1);
    assert!(writer.own_write(pod("a", "1", "7")).is_none());
    shows(&store, &[]);
    // Another, newer object of that name becomes visible.
    assert!(writer.own_write(pod("a", "2", "9")).is_some());
    shows(&store, &[("a", "2", "9")]);
    // A late deletion of the older object does not affect it.
    assert!(writer.apply(delete("a", "1", "8")).is_empty());
    shows(&store, &[("a", "2", "9")]);
}

#[test]
fn an_own_write_that_the_watch_has_passed_brings_nothing_back() {
    let (writer, store) = synced(&[], "5");
    let _ = writer.apply(StoreEvent::Progress("9".into()));
    // Only a list goes back.
    let _ = writer.apply(StoreEvent::Progress("6".into()));
    for version in ["7", "9"] {
        assert!(writer.own_write(pod("a", "1", version)).is_none());
    }
    shows(&store, &[]);
}

#[test]
fn an_own_write_shows_what_the_watch_has_missed_or_cannot_be_compared() {
    let (writer, store) = synced(&[("a", "1", "5")], "9");
    assert!(writer.own_write(pod("a", "1", "7")).is_some());
    assert!(writer.own_write(pod("b", "2", "x")).is_some());
    shows(&store, &[("a", "1", "7"), ("b", "2", "x")]);
}

#[test]
fn a_later_event_replaces_an_own_write_whose_own_event_was_lost() {
    let (writer, store) = synced(&[("a", "1", "5")], "5");
    assert!(writer.own_write(pod("a", "1", "9")).is_some());
    // Once is enough.
    assert!(writer.own_write(pod("a", "1", "9")).is_none());
    let changes = writer.apply(StoreEvent::Apply(pod("a", "1", "10")));
    assert_eq!(changes.len(), 1);
    shows(&store, &[("a", "1", "10")]);
}

#[test]
fn an_own_deletion_is_not_undone_by_events_on_their_way() {
    let (writer, store) = synced(&[("a", "1", "5")], "5");
    assert!(writer.own_delete("a", &"other".into()).is_none());
    shows(&store, &[("a", "1", "5")]);
    assert!(writer.own_delete("a", &"1".into()).unwrap().new.is_none());
    assert!(writer.own_delete("a", &"1".into()).is_none());
    assert!(
        writer
            .apply(StoreEvent::Apply(pod("a", "1", "6")))
            .is_empty()
    );
    shows(&store, &[]);
    assert!(writer.apply(delete("a", "1", "7")).is_empty());
    assert_eq!(writer.apply(StoreEvent::Apply(pod("a", "2", "8"))).len(), 1);
    shows(&store, &[("a", "2", "8")]);
}

#[test]
fn events_on_their_way_do_not_restore_an_object_that_a_read_found_gone() {
    let (writer, store) = synced(&[], "5");
    // It was created at 6 and deleted at 7; a read finds that before the watch.
    assert!(writer.own_absence("a", &"8".into()).is_none());
    let event = |uid, version| StoreEvent::Apply(pod("a", uid, version));
    assert!(writer.apply(event("1", "6")).is_empty());
    assert!(writer.own_write(pod("a", "1", "6")).is_none());
    // Nor by a list that is older than the read, or one that had begun before it.
    list(&writer, &[("a", "1", "6")], "6");
    shows(&store, &[]);
    let _ = writer.apply(StoreEvent::Init);
    let _ = writer.apply(StoreEvent::InitApply(pod("b", "2", "7")));
    assert!(writer.own_absence("b", &"8".into()).is_none());
    let _ = writer.apply(StoreEvent::InitDone("7".into()));
    shows(&store, &[]);
    // A later one is shown, and the absence forgotten.
    assert_eq!(writer.apply(event("3", "9")).len(), 1);
    shows(&store, &[("a", "3", "9")]);
    assert!(writer.own_absence("a", &"8".into()).is_none());
    shows(&store, &[("a", "3", "9")]);
    assert_eq!(
        writer
            .0
            .shared
            .write()
            .layers
            .overlay()
            .absent
            .iter()
            .count(),
        0
    );
}

#[test]
fn a_read_evicts_an_object_that_it_found_gone() {
    let (writer, store) = synced(&[("a", "1", "5"), ("b", "2", "5")], "5");
    assert!(writer.own_write(pod("b", "2", "7")).is_some());
    assert!(writer.own_absence("a", &"8".into()).unwrap().new.is_none());
    assert!(writer.own_absence("b", &"6".into()).is_none());
    shows(&store, &[("b", "2", "7")]);
    assert!(writer.own_absence("b", &"8".into()).unwrap().new.is_none());
    shows(&store, &[]);
    // Also where the watch has missed the deletion.
    let (writer, store) = synced(&[("a", "1", "5")], "9");
    assert!(writer.own_absence("a", &"9".into()).unwrap().new.is_none());
    shows(&store, &[]);
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
    shows(&store, &[("a", "1", "2"), ("b", "2", "3"), ("c", "3", "1")]);
    let _ = writer.apply(delete("b", "2", "5"));
    shows(&store, &[("a", "1", "2"), ("c", "3", "1")]);
    let _ = writer.apply(delete("a", "1", "6"));
    let _ = writer.apply(delete("c", "3", "7"));
    shows(&store, &[]);
    assert_eq!(writer.0.shared.write().index.len(), 0);
}

#[test]
fn jobs_of_other_owners_are_not_stored() {
    let (writer, store) = new::<Job>(Instant::now());
    let mut job = Job::default();
    job.metadata.name = "a".into();
    assert!(writer.own_write(job.clone()).is_none());
    job.template = [
        ("config-controller.semafor.ch/instance-type", "hello"),
        ("config-controller.semafor.ch/instance-name", "ann"),
    ]
    .into_iter()
    .collect();
    assert!(writer.own_write(job).is_some());
    assert_eq!(store.by_index("ann").len(), 1);
    assert!(store.by_index("hello").is_empty());
}

#[test]
fn the_age_of_the_cache() {
    let start = Instant::now();
    let secs = Duration::from_secs;
    let (writer, store) = new::<ConfigMap>(start);
    assert_eq!(store.age(start + secs(3)), secs(3));
    writer.contact(start + secs(4));
    assert_eq!(store.age(start + secs(9)), secs(5));
    writer.watching(true);
    writer.alive(start + secs(90));
    assert_eq!(store.age(start + secs(93)), secs(0));
    assert_eq!(store.age(start + secs(94)), secs(90));
    writer.contact(start + secs(92));
    // Its thread has stood still.
    assert_eq!(store.age(start + secs(94)), secs(4));
    writer.stale(Some(start + secs(85)));
    writer.alive(start + secs(94));
    assert_eq!(store.age(start + secs(95)), secs(10));
    writer.stale(None);
    assert_eq!(store.age(start + secs(95)), secs(0));
    writer.contact(start + secs(4));
    writer.watching(false);
    assert_eq!(store.age(start + secs(6)), secs(2));
}

/// `p0`, `p1`, …: each with its number as UID, and as version that number plus `ahead`.
fn numbered(number: usize, ahead: usize) -> Pod {
    let version = (number + ahead).to_string();
    pod(&format!("p{number}"), &number.to_string(), &version)
}

#[test]
fn own_deletions_are_bounded_and_evicted_ones_stay_gone() {
    let (writer, store) = new(Instant::now());
    let _ = writer.apply(StoreEvent::Init);
    for number in 0..DELETED_MAX + 10 {
        let _ = writer.apply(StoreEvent::InitApply(numbered(number, 1)));
    }
    let _ = writer.apply(StoreEvent::InitDone("5000".into()));
    for number in 0..DELETED_MAX + 10 {
        let uid = number.to_string().as_str().into();
        assert!(writer.own_delete(&format!("p{number}"), &uid).is_some());
    }
    writer.scanner().check().unwrap();
    assert_eq!(store.count(), 0);
    assert_eq!(writer.shared.write().layers.overlaid(), (0, DELETED_MAX));
    // The oldest deletion is evicted, so a late event may bring that object back.
    let late = |number| StoreEvent::Apply(numbered(number, 5001));
    assert_eq!(writer.apply(late(9)).len(), 1);
    assert_eq!(writer.apply(late(10)).len(), 0);
    writer.scanner().check().unwrap();
}

#[test]
fn own_absences_are_bounded_and_the_oldest_is_evicted() {
    let (writer, _) = new(Instant::now());
    for number in 0..=ABSENT_MAX {
        let name = format!("p{number}");
        assert!(writer.own_absence(&name, &"9000".into()).is_none());
    }
    writer.scanner().check().unwrap();
    let _ = writer.apply(StoreEvent::Init);
    let _ = writer.apply(StoreEvent::InitDone("5".into()));
    let late = |number| StoreEvent::Apply(numbered(number, 6));
    assert_eq!(writer.apply(late(0)).len(), 1);
    assert_eq!(writer.apply(late(1)).len(), 0);
    writer.scanner().check().unwrap();
}

#[test]
fn own_writes_are_bounded_and_evicted_ones_stay_visible() {
    let (writer, store) = new(Instant::now());
    let _ = writer.apply(StoreEvent::Init);
    let _ = writer.apply(StoreEvent::InitDone("5".into()));
    for number in 0..WRITTEN_MAX + 10 {
        assert!(writer.own_write(numbered(number, 6)).is_some());
    }
    writer.scanner().check().unwrap();
    assert_eq!(store.count(), WRITTEN_MAX + 10);
    assert_eq!(writer.shared.write().layers.overlaid(), (WRITTEN_MAX, 0));
    let _ = writer.apply(StoreEvent::Progress("99999".into()));
    assert_eq!(store.count(), WRITTEN_MAX + 10);
    assert_eq!(writer.shared.write().layers.overlaid(), (0, 0));
    writer.scanner().check().unwrap();
}

#[test]
fn the_deletion_of_an_object_that_an_own_write_replaced_hides_both() {
    let (writer, store) = synced(&[("a", "1", "5")], "5");
    let _ = writer.own_write(pod("a", "2", "9"));
    assert!(writer.own_delete("a", &"2".into()).is_some());
    shows(&store, &[]);
    // The watch lags: it shows the first, its deletion, the second, and its deletion.
    for event in [
        StoreEvent::Apply(pod("a", "1", "6")),
        delete("a", "1", "8"),
        StoreEvent::Apply(pod("a", "2", "9")),
        delete("a", "2", "10"),
    ] {
        assert!(writer.apply(event).is_empty());
        shows(&store, &[]);
    }
    assert_eq!(writer.overlaid(), (0, 0));
}

#[test]
fn a_deletion_that_the_watch_has_shown_first_leaves_nothing_behind() {
    let (writer, _) = synced(&[("a", "1", "5")], "5");
    let _ = writer.apply(delete("a", "1", "6"));
    assert!(writer.own_delete("a", &"1".into()).is_none());
    assert_eq!(writer.overlaid(), (0, 0));
}

#[test]
fn a_late_own_write_of_a_deleted_object_does_not_show_it_again() {
    let (writer, store) = synced(&[("a", "1", "5")], "5");
    let _ = writer.own_write(pod("a", "1", "6"));
    let _ = writer.own_delete("a", &"1".into());
    assert!(writer.own_write(pod("a", "1", "7")).is_none());
    shows(&store, &[]);
}

/// After a restore the same version may stand for another state.
#[test]
fn a_list_replaces_an_object_of_the_same_version() {
    let (writer, store) = synced(&[("a", "1", "5")], "5");
    let mut other = pod("a", "1", "5");
    other.deletion_grace_secs = 7;
    let _ = writer.apply(StoreEvent::Init);
    let _ = writer.apply(StoreEvent::InitApply(other.clone()));
    assert_eq!(writer.apply(StoreEvent::InitDone("5".into())).len(), 1);
    assert_eq!(*store.get("a").unwrap(), other);
}
