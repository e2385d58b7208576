//! Many concurrent callers, and starts of a name that is being deleted.

use std::collections::BTreeSet;

use serde_json::Value;

use super::environment::{TestEnvironment, real};
use super::program::{Program, page};
use super::{LONG_WAIT, eventually};

#[test]
#[ignore = "needs a cluster"]
fn a_hundred_callers_of_a_new_name_get_one_instance() {
    const CALLERS: usize = 100;
    let environment = TestEnvironment::shared();
    let program = environment.program();
    let version = environment.version("jobs");
    let addresses: Vec<_> = std::thread::scope(|scope| {
        let ask = || program.get_prefer("/app/hello/ann", LONG_WAIT).ip();
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(ask)).collect();
        let join = |caller: std::thread::ScopedJoinHandle<'_, _>| caller.join().expect("200");
        callers.into_iter().map(join).collect()
    });
    assert_eq!(addresses.len(), CALLERS);
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), 1);
    assert_eq!(page(addresses[0]), "hello/ann");
    let mut made = environment.events_since("jobs", &version);
    made.retain(|event| event["type"] == "ADDED");
    assert_eq!(made.len(), 1, "{made:#?}");
}

#[test]
#[ignore = "needs a cluster"]
fn a_start_during_our_delete_gets_the_new_instance() {
    check_restart(|_, program| {
        program.delete("/app/stubborn/ann").expect(200);
    });
}

#[test]
#[ignore = "needs a cluster"]
fn a_start_during_a_foreground_delete_of_kubectl_gets_the_new_instance() {
    check_restart(|environment, program| delete_by_kubectl(environment, program, "foreground"));
}

#[test]
#[ignore = "needs a cluster"]
fn a_start_during_a_background_delete_of_kubectl_gets_the_new_instance() {
    check_restart(|environment, program| delete_by_kubectl(environment, program, "background"));
}

/// Until the program has seen the deletion, it knows the old address only.
fn delete_by_kubectl(environment: &TestEnvironment<'_>, program: &Program, cascade: &str) {
    let cascade = format!("--cascade={cascade}");
    environment.kubectl(&["delete", "job", "stubborn-ann", &cascade, "--wait=false"]);
    eventually("the deletion is seen", || {
        let list = program.get("/app/stubborn").expect(200);
        let mut entries = list.as_array().into_iter().flatten();
        (!entries.any(|entry| entry["errored"] == false)).then_some(())
    });
}

/// Deletes an instance with a pod that continues to serve for 3 s, and requests it again
/// immediately.
#[track_caller]
fn check_restart(delete: impl Fn(&TestEnvironment<'_>, &Program)) {
    let environment = TestEnvironment::shared();
    let stubborn = real("stubborn", 3, &[("IGNORE_TERM", "1")]);
    environment.offer("stubborn", "stubborn", &stubborn);
    let program = environment.program();
    let old_ip = program.get_prefer("/app/stubborn/ann", LONG_WAIT).ip();
    let old_uid = environment.job_uid("stubborn-ann");

    delete(&environment, &program);
    let new_ip = program.get_prefer("/app/stubborn/ann", LONG_WAIT).ip();
    let (owner, new_uid) = (
        environment.owner_of(new_ip),
        environment.job_uid("stubborn-ann"),
    );
    assert_ne!(new_ip, old_ip);
    assert_ne!(new_uid, old_uid);
    assert_eq!(
        owner, new_uid,
        "the address is that of a pod of the new Job"
    );
    assert_eq!(page(new_ip), "stubborn");
    assert_eq!(program.get("/app/stubborn/ann").ip(), new_ip);
    assert_eq!(program.names("stubborn"), ["ann"]);
    assert!(
        environment
            .list("jobs")
            .iter()
            .all(|job| job["metadata"]["deletionTimestamp"] == Value::Null)
    );
}
