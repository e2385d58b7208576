//! Templates that change while the program runs, go, or are broken.

use serde_json::json;

use super::environment::{TestEnvironment, real};
use super::program::page;
use super::{LONG_WAIT, eventually};

#[test]
#[ignore = "needs a cluster"]
fn an_edited_template_applies_to_the_next_instance_only() {
    let environment = TestEnvironment::shared();
    environment.offer("pages", "page", &real("first", 1, &[]));
    let program = environment.program();
    let old = program.get_prefer("/app/page/old", LONG_WAIT).ip();
    let uid = environment.job_uid("page-old");

    environment.offer("pages", "page", &real("second", 1, &[]));
    // The new text is seen within milliseconds, but after the API server's response to this test.
    program.wait_log("app type page is on offer");
    eventually("the program has read the new template", || {
        (program.count_log("app type page is on offer") == 2).then_some(())
    });
    let new = program.get_prefer("/app/page/new", LONG_WAIT).ip();
    assert_eq!(page(new), "second");

    assert_eq!(program.get("/app/page/old").ip(), old);
    assert_eq!(page(old), "first");
    assert_eq!(environment.job_uid("page-old"), uid);
}

#[test]
#[ignore = "needs a cluster"]
fn instances_outlive_their_template_and_can_be_stopped() {
    let environment = TestEnvironment::shared();
    let program = environment.program();
    let ip = program.get_prefer("/app/hello/ann", LONG_WAIT).ip();

    environment.kubectl(&["delete", "configmap", "demo-apps"]);
    eventually("the types are gone", || {
        (program.get("/app").expect(200) == json!([])).then_some(())
    });
    assert_eq!(program.get("/app/hello/bob").code, 404);
    assert_eq!(program.names("hello"), ["ann"]);
    assert_eq!(program.get("/app/hello/ann").ip(), ip);
    assert_eq!(page(ip), "hello/ann");
    program.delete("/app/hello/ann").expect(200);
    eventually("the pod is gone", || {
        environment.list("pods").is_empty().then_some(())
    });
    assert_eq!(program.get("/app/hello/ann").code, 404);
}

#[test]
#[ignore = "needs a cluster"]
fn a_broken_template_affects_no_other() {
    let environment = TestEnvironment::shared();
    environment.offer("broken", "broken", "spec:\n  containers: [\n");
    let program = environment.program();
    program.wait_log("app type broken of ConfigMap broken cannot be started");
    let refused = program.get("/app/broken/ann").expect(422);
    assert_eq!(refused["code"], "template_invalid", "{refused}");
    assert_eq!(
        page(program.get_prefer("/app/hello/ann", LONG_WAIT).ip()),
        "hello/ann"
    );
}

#[test]
#[ignore = "needs a cluster"]
fn a_value_does_not_read_other_variables_of_its_container() {
    let environment = TestEnvironment::shared();
    let template = real("$(GREETING) ${alternatives['who']}", 1, &[]);
    let secret = "- {name: GREETING, value: hello}\n    - {name: PASSWORD, value: secret}\n    - {name: INSTANCE";
    let template = template.replacen("- {name: INSTANCE", secret, 1);
    environment.offer("pages", "page", &template);
    let program = environment.program();
    let got = program.get_prefer(
        "/app/page/ann?who=%24(PASSWORD)%20%24%24(x%20%24",
        LONG_WAIT,
    );
    assert_eq!(page(got.ip()), "hello $(PASSWORD) $$(x $");
}
