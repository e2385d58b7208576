//! 2.7.1 before us, after us, and its chart's Role: on real pods.
//!
//! 2.7.1 itself is `predecessor::original`: its calls, made with the token of the same service
//! account. So these tests also show that our Role is enough for a roll-back of the image alone.

use std::net::IpAddr;
use std::time::Instant;

use serde_json::{Value, json};

use super::environment::{STAND_IN, TestEnvironment, real, text};
use super::program::{Got, Program, page};
use super::{LONG_WAIT, eventually};
use crate::cluster;
use crate::predecessor::original::{Predecessor, success};
use crate::raw_kube::{RawKube, server_and_ca};
use crate::watch::ROLE_OF_THE_ORIGINAL;

const META_USERNAME: &str = "config-controller.semafor.ch/meta-username";

/// A namespace where this template is the app type `page`, and 2.7.1 in it.
fn beside(template: &str) -> (TestEnvironment<'static>, Predecessor) {
    let environment = TestEnvironment::shared();
    environment.offer("pages", "page", template);
    let original = Predecessor::new(service_account(&environment), &environment.namespace);
    (environment, original)
}

/// The API server, as our service account.
fn service_account(environment: &TestEnvironment<'_>) -> RawKube {
    let (server, ca) = server_and_ca(&environment.cluster.kubeconfig_text());
    RawKube::secure(&server, &ca, Some(&environment.token()))
}

/// This template with labels, without which 2.7.1 starts nothing.
fn labelled(template: &str) -> String {
    format!("metadata: {{labels: {{team: red}}}}{template}")
}

/// The response of 2.7.1 once it is no longer a 202; its clients retry in the same way.
#[track_caller]
fn settled(original: &Predecessor, name: &str) -> Value {
    eventually("2.7.1 finds it ready", || {
        let (code, body) = original.get("page", name);
        assert!(code == 200 || code == 202, "{code} {body}");
        (code == 200).then_some(body)
    })
}

/// 2.7.1's PATCH until it works: any change by the kubelet in between is a conflict (W17).
#[track_caller]
fn patched_by(original: &Predecessor, name: &str, body: &Value) {
    eventually("2.7.1 has patched it", || {
        (original.patch("page", name, body) == success()).then_some(())
    });
}

#[track_caller]
fn see_names(program: &Program, expected: &[&str]) {
    eventually("the list is as it should be", || {
        (program.names("page") == expected).then_some(())
    });
}

#[track_caller]
fn see_label(program: &Program, path: &str, key: &str, value: &str) {
    eventually("the label is seen", || {
        (program.get(path).expect(200)[key] == value).then_some(())
    });
}

#[track_caller]
fn patched(program: &Program, path: &str, body: &Value) {
    let done = program.patch(path, &body.to_string()).expect(200);
    assert_eq!(done, json!({"status": "Success"}));
}

#[test]
#[ignore = "needs a cluster"]
fn instances_of_2_7_1_survive_the_upgrade() {
    let (environment, original) = beside(&labelled(&real("theirs", 1, &[])));
    let programs = [environment.program(), environment.program()];
    let (path, job) = ("/app/page/ann.of.cleves", "page-ann.of.cleves");
    original
        .start("page", "ann.of.cleves")
        .expect("it is started");
    // Asked while it starts, by turns at both.
    let ips: Vec<IpAddr> = std::thread::scope(|scope| {
        let ask = |turn: usize| programs[turn % 2].get_prefer(path, LONG_WAIT).ip();
        let callers: Vec<_> = (0..4).map(|turn| scope.spawn(move || ask(turn))).collect();
        let join = |caller: std::thread::ScopedJoinHandle<'_, _>| caller.join().expect("200");
        callers.into_iter().map(join).collect()
    });
    assert!(ips.iter().all(|ip| *ip == ips[0]), "{ips:?}");
    assert_eq!(page(ips[0]), "theirs");
    assert_eq!(settled(&original, "ann.of.cleves")["ip"], json!(ips[0]));
    let uid = environment.job_uid(job);
    for (turn, program) in programs.iter().cycle().take(4).enumerate() {
        see_names(program, &["ann.of.cleves"]);
        let name = format!("bob-{turn}");
        patched(program, path, &json!({"username": name}));
        assert_eq!(program.get(path).expect(200)["username"], json!(name));
        let pods = environment.list("pods");
        assert_eq!(pods[0]["metadata"]["labels"][META_USERNAME], json!(name));
    }
    see_label(&programs[0], path, "username", "bob-3");
    let list = programs[0].get("/app/page").expect(200);
    assert_eq!((200, list), original.list("page"));
    assert_eq!(environment.job_uid(job), uid);
    assert_eq!(
        (
            environment.list("jobs").len(),
            environment.list("pods").len()
        ),
        (1, 1)
    );
    programs[1].delete(path).expect(200);
    see_names(&programs[0], &[]);
    eventually("Job and pod are gone", || {
        (environment.list("jobs").is_empty() && environment.list("pods").is_empty()).then_some(())
    });
    assert_eq!(programs[0].delete(path).code, 404);
    let new = programs[0].get_prefer(path, LONG_WAIT).ip();
    assert_ne!(environment.owner_of(new), uid);
}

/// Ends a stand-in's pod as if its app had exited with 1; returns its name.
#[track_caller]
fn fail_pod(environment: &TestEnvironment<'_>) -> String {
    let running = |pod: &&Value| pod["status"]["phase"] == "Running";
    let pod = eventually("a pod runs", || {
        environment.list("pods").iter().find(running).cloned()
    });
    let name = text(&pod["metadata"]["name"]);
    let mut status = pod["status"].clone();
    status["phase"] = json!("Failed");
    for condition in status["conditions"].as_array_mut().expect("conditions") {
        if condition["type"] == "Ready" {
            condition["status"] = json!("False");
        }
    }
    let now = pod["status"]["startTime"].clone();
    status["containerStatuses"][0]["ready"] = json!(false);
    status["containerStatuses"][0]["state"] = json!({"terminated": {
        "exitCode": 1, "reason": "Error", "startedAt": now, "finishedAt": now,
    }});
    let path = format!("{}/{name}/status", environment.all("pods"));
    environment
        .api
        .patch(&path, &json!({"status": status}))
        .expect(200);
    name
}

/// Kubernetes makes the next pod 10 s after the first has failed, and keeps both.
#[test]
#[ignore = "needs a cluster"]
fn of_several_pods_the_newest_is_the_instance() {
    let (environment, original) = beside(&labelled(STAND_IN));
    let programs = [environment.program(), environment.program()];
    settled(&original, "ann");
    patched_by(&original, "ann", &json!({"connected": "true"}));
    let failed = fail_pod(&environment);
    let path = "/app/page/ann";
    let live = || {
        let pods = environment.list("pods");
        let is_dead = |pod: &&Value| pod["metadata"]["name"] == failed;
        assert!(pods.iter().any(|pod| is_dead(&pod)), "the dead one stays");
        pods.iter().find(|pod| !is_dead(pod)).cloned()
    };
    let ip = eventually("another pod is ready", || {
        let pod = live()?;
        let ip = pod["status"]["podIP"].as_str();
        ip.map(str::to_owned)
    });
    for program in &programs {
        eventually("the other pod is the instance", || {
            let found = program.get_prefer(path, LONG_WAIT).expect(200);
            (found["ip"] == ip && found["connected"] == "true").then_some(())
        });
        assert_eq!(program.names("page"), ["ann"]);
    }
    let labels = live().expect("it is there")["metadata"]["labels"].clone();
    assert_eq!(
        labels["config-controller.semafor.ch/meta-connected"],
        "true"
    );
    assert_eq!(environment.list("jobs").len(), 1);
    programs[1].delete(path).expect(200);
    see_names(&programs[0], &[]);
}

/// The template has `labels: null`, of which 2.7.1 can start nothing; what we start it can use.
#[test]
#[ignore = "needs a cluster"]
fn after_a_roll_back_2_7_1_controls_our_instances() {
    let template = format!("metadata: {{labels: null}}{}", real("ours", 1, &[]));
    let (environment, original) = beside(&template);
    assert_eq!(original.get("page", "bob").0, 404);
    let programs = [environment.program(), environment.program()];
    let path = "/app/page/ann";
    let ip = programs[0].get_prefer(path, LONG_WAIT).ip();
    let uid = environment.job_uid("page-ann");
    assert_eq!(settled(&original, "ann"), json!({"ip": ip}));
    patched(
        &programs[1],
        path,
        &json!({"username": "bob@example.ch", "k": "v"}),
    );
    assert_eq!(settled(&original, "ann"), json!({"ip": ip, "k": "v"}));
    patched_by(
        &original,
        "ann",
        &json!({"username": "bob", "connected": "true"}),
    );
    for program in &programs {
        see_label(program, path, "connected", "true");
        assert_eq!(program.get(path).expect(200), settled(&original, "ann"));
        let list = program.get("/app/page").expect(200);
        assert_eq!((200, list), original.list("page"));
    }
    assert_eq!(environment.job_uid("page-ann"), uid);
    assert_eq!(original.delete("page", "ann"), success());
    see_names(&programs[0], &[]);
    see_names(&programs[1], &[]);
    eventually("Job and pod are gone", || {
        (environment.list("jobs").is_empty() && environment.list("pods").is_empty()).then_some(())
    });
}

#[test]
#[ignore = "needs a cluster"]
fn waiters_of_this_service_are_answered_when_2_7_1_stops_the_instance() {
    let slow = real("slow", 1, &[("START_DELAY_SECS", "600")]);
    let (environment, original) = beside(&labelled(&slow));
    let programs = [environment.program(), environment.program()];
    let path = "/app/page/ann";
    let responses: Vec<Got> = std::thread::scope(|scope| {
        let ask = |turn: usize| programs[turn % 2].get_prefer(path, LONG_WAIT);
        let callers: Vec<_> = (0..4).map(|turn| scope.spawn(move || ask(turn))).collect();
        for program in &programs {
            eventually("they wait", || (program.waiting() == 2).then_some(()));
            // A request that takes its turn: from here on they wait for this very Job.
            patched(program, path, &json!({"k": "v"}));
        }
        assert_eq!(original.delete("page", "ann"), success());
        let join = |caller: std::thread::ScopedJoinHandle<'_, _>| caller.join().expect("it ends");
        callers.into_iter().map(join).collect()
    });
    for response in responses {
        assert_eq!(response.expect(409)["code"], "stopped");
    }
}

/// Binds the Role of 2.7.1's chart in place of ours, and waits until it is in force.
#[track_caller]
fn restrict(environment: &TestEnvironment<'_>) {
    let file = environment.folder.join("role.yaml");
    std::fs::write(&file, ROLE_OF_THE_ORIGINAL).expect("the file can be written");
    environment.kubectl(&["apply", &format!("--filename={}", file.display())]);
    let api = service_account(environment);
    let watch = format!("{}?watch=1&timeoutSeconds=1", environment.all("jobs"));
    eventually("the watch is refused", || {
        (api.get(&watch).code == 403).then_some(())
    });
}

/// The app type `fails`, whose pods end with 3 and may be replaced a second later.
#[track_caller]
fn offer_failing(environment: &TestEnvironment<'_>) {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": "failing",
            "labels": {"config-controller.semafor.ch/template": "true"},
            "annotations": {"config-controller.semafor.ch/restart-delay": "1s"},
        },
        "data": {"failing.yaml": real("fails", 1, &[("EXIT_CODE", "3")])},
    });
    environment
        .api
        .post(&environment.all("configmaps"), &object)
        .expect(201);
}

#[test]
#[ignore = "needs a cluster"]
fn the_role_of_2_7_1_is_enough() {
    let (environment, original) = beside(&labelled(&real("ours", 1, &[])));
    offer_failing(&environment);
    restrict(&environment);
    let kubeconfig = environment.kubeconfig(&environment.token(), None, None);
    let start = || Program::start_ready(&kubeconfig, &[]);
    let programs = [start(), start()];
    for program in &programs {
        for plural in ["jobs", "configmaps"] {
            program.wait_log(&format!("listing {plural} every 2 s"));
        }
    }
    check_life(&environment, &programs);
    check_failure(&environment, &programs);
    check_edit(&environment, &programs[0]);
    // What 2.7.1 makes and stops is seen as well, a list later.
    settled(&original, "bob");
    for program in &programs {
        see_names(program, &["ann", "bob"]);
    }
    assert_eq!(original.delete("page", "bob"), success());
    for program in &programs {
        see_names(program, &["ann"]);
        assert_eq!(program.get("/readyz").code, 200);
        // Events and Leases are other rights, which that Role does not know.
        for (part, count) in [
            ("until that right is granted", 2),
            (" ERROR ", 2),
            (" WARN ", 0),
        ] {
            let of_events = program.count_log_of(&[part, "events"]);
            let of_leases = program.count_log_of(&[part, "leases"]);
            // The start that is meant to fail is logged as well.
            let of_failures = program.count_log_of(&[part, "failing/ann failed: "]);
            let others = program.count_log(part) - of_events - of_leases - of_failures;
            assert_eq!(others, count, "{part}");
        }
    }
}

/// Started at one, labelled and stopped at the other, and started again.
#[track_caller]
fn check_life(environment: &TestEnvironment<'_>, programs: &[Program; 2]) {
    let (path, job) = ("/app/page/ann", "page-ann");
    let ip = programs[0].get_prefer(path, LONG_WAIT).ip();
    assert_eq!(page(ip), "ours");
    assert_eq!(programs[1].get_prefer(path, LONG_WAIT).ip(), ip);
    for program in programs {
        see_names(program, &["ann"]);
        patched(program, path, &json!({"k": "v", "mail": "a@b.ch"}));
        assert_eq!(program.get(path).expect(200)["mail"], "a@b.ch");
    }
    let before = environment.job_uid(job);
    programs[1].delete(path).expect(200);
    programs[1].get_prefer(path, LONG_WAIT).ip();
    assert_ne!(environment.job_uid(job), before);
    see_names(&programs[0], &["ann"]);
}

#[track_caller]
fn check_failure(environment: &TestEnvironment<'_>, programs: &[Program; 2]) {
    let path = "/app/failing/ann";
    let failed = programs[0].get_prefer(path, LONG_WAIT).expect(202);
    assert_eq!(
        (&failed["status"], &failed["exitCode"]),
        (&json!("app_error"), &json!(3))
    );
    let before = environment.job_uid("failing-ann");
    eventually("another is made after the delay", || {
        programs[0].get_prefer(path, LONG_WAIT).expect(202);
        (environment.job_uid("failing-ann") != before).then_some(())
    });
    programs[0].delete(path).expect(200);
    eventually("it is listed no more", || {
        programs[1].names("failing").is_empty().then_some(())
    });
}

#[track_caller]
fn check_edit(environment: &TestEnvironment<'_>, program: &Program) {
    environment.offer("late", "late", &real("late", 1, &[]));
    let edited = Instant::now();
    eventually("the new type is offered", || {
        let types = program.get("/app").expect(200);
        types.as_array()?.contains(&json!("late")).then_some(())
    });
    let seconds = edited.elapsed().as_secs_f32();
    cluster::print_line(&format!(
        "FIGURE an edited template without the right to watch (POLL 2 s) was seen after {seconds:.1} s"
    ));
}
