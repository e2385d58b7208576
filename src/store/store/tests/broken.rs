//! Stores that are broken on purpose: `check` reports each defect, in a release build, too.

use super::*;

/// A sound store: `a` and `b` of the watch, `c` of an own write, `b` deleted by an own call.
fn sound() -> Writer<Pod> {
    let (writer, _) = synced(&[("a", "1", "4"), ("b", "2", "5")], "6");
    let _ = writer.own_write(pod("c", "3", "9"));
    let _ = writer.own_delete("b", &"2".into());
    writer.0
}

#[track_caller]
fn found(expected: &str, breaks: impl FnOnce(&mut State<Pod>)) {
    let writer = sound();
    assert_eq!(writer.scanner().check(), Ok(()));
    breaks(&mut writer.shared.write());
    let broken = writer.scanner().check().unwrap_err();
    assert!(broken.contains(expected), "{broken}");
}

#[test]
fn an_inconsistent_index_is_reported() {
    let b = || Arc::new(pod("b", "2", "5"));
    found("the index has 3 objects, not 2", |state| {
        state.index.add(&b());
    });
    found("the index lacks \"a\"", |state| {
        let a = state.layers.get("a").unwrap().clone();
        state.index.remove(&a);
    });
    found("the index lacks \"a\"", |state| {
        // The same state in another allocation: memory would hold it twice.
        let a = Arc::new(pod("a", "1", "4"));
        state.layers.force(a);
    });
}

#[test]
fn a_visible_incomplete_list_is_reported() {
    found("version 7, of an incomplete list", |state| {
        let early = Arc::new(pod("d", "4", "7"));
        state.index.add(&early);
        state.layers.force(early);
    });
    found("the overlay has another", |state| {
        let early = Arc::new(pod("d", "4", "7"));
        let _ = state.layers.overlay().written.insert("e".into(), early);
    });
}

#[test]
fn an_overlay_entry_that_the_watch_has_passed_is_reported() {
    found("passed the own write of \"c\"", |state| {
        state.version = "9".into();
    });
    found("passed the own deletion of \"d\"", |state| {
        let _ = state
            .layers
            .overlay()
            .deleted
            .insert("4".into(), "d".into());
    });
    found("passed the absence of \"z\"", |state| {
        let overlay = state.layers.overlay();
        overlay.set_absent("z", &"1".into());
    });
    found("\"c\" is visible, but", |state| {
        let overlay = state.layers.overlay();
        overlay.set_absent("c", &"9000".into());
    });
}

#[test]
fn an_exceeded_bound_is_reported() {
    found("exceeds its bounds", |state| {
        state.layers.overlay().deleted.break_bound();
    });
    let writer = sound();
    writer.shared.write().synced = false;
    assert!(writer.scanner().check().unwrap_err().contains("complete"));
}
