//! The observer of a store: it gets each change that readers see, and no other.

use super::*;
use std::sync::Mutex;

#[test]
fn the_observer_has_seen_whatever_a_reader_sees() {
    let (writer, store) = unsynced();
    let names = Arc::new(Mutex::new(Vec::new()));
    let observed = Arc::clone(&names);
    writer.0.observe(move |change| {
        let (old, new) = (change.old.is_some(), change.new.is_some());
        let name = change.object().metadata.name.to_string();
        observed.lock().unwrap().push((name, old, new));
    });
    let take = || std::mem::take(&mut *names.lock().unwrap());
    let _ = writer.apply(StoreEvent::Init);
    let _ = writer.apply(StoreEvent::InitApply(pod("a", "1", "5")));
    assert_eq!(take(), []);
    let _ = writer.apply(StoreEvent::InitDone("5".into()));
    assert_eq!(take(), [("a".to_owned(), false, true)]);
    let _ = writer.own_write(pod("a", "1", "6"));
    assert_eq!(take(), [("a".to_owned(), true, true)]);
    let _ = writer.own_write(pod("a", "1", "6"));
    let _ = writer.own_delete("a", &Uid::from("1"));
    assert_eq!(take().last(), Some(&("a".to_owned(), true, false)));
    let _ = writer.own_absence("a", &"9".into());
    assert_eq!(take(), []);
    assert_eq!(store.count(), 0);
}
