//! Usage lines on a real cluster: each ended instance once, over both replicas, also after one has shut down.

use super::environment::{STAND_IN, TestEnvironment, text};
use super::program::Program;
use super::{LONG_WAIT, eventually};
use crate::cluster;
use serde_json::{Value, json};

const REPLICAS: [&str; 2] = ["cc-a", "cc-b"];

/// A replica whose pod is this one, so that Kubernetes removes its Lease with it.
fn replica(environment: &TestEnvironment<'_>, name: &str) -> Program {
    let pod = json!({
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": "stand-in-node"},
            "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
            "containers": [{"name": "main", "image": "stand-in"}],
        },
    });
    let pod = environment.api.post(&environment.all("pods"), &pod);
    let uid = text(&pod.expect(201)["metadata"]["uid"]);
    let kubeconfig = environment.kubeconfig(&environment.token(), None, None);
    let settings = [
        ("DRAIN_DELAY", "0s"),
        ("POD_NAME", name),
        ("POD_UID", uid.as_str()),
    ];
    Program::start_ready(&kubeconfig, &settings)
}

/// Starts an instance; returns the UID of its Job.
fn start(
    environment: &TestEnvironment<'_>,
    program: &Program,
    app_type: &str,
    name: &str,
) -> String {
    program
        .get_prefer(&format!("/app/{app_type}/{name}"), LONG_WAIT)
        .ip();
    environment.job_uid(&format!("{app_type}-{name}"))
}

/// How many usage lines of this Job each replica has logged.
fn lines(programs: &[Program; 2], uid: &str) -> [usize; 2] {
    let uid = format!("uid=\"{uid}\"");
    programs
        .each_ref()
        .map(|program| program.count_log_of(&["usage of ", &uid]))
}

/// Who holds the Lease of this replica.
fn holder(environment: &TestEnvironment<'_>, name: &str) -> Option<Value> {
    let leases = environment.list("leases");
    let lease = leases.iter().find(|it| it["metadata"]["name"] == name);
    lease.map(|it| it["spec"]["holderIdentity"].clone())
}

#[test]
#[ignore = "needs a cluster"]
fn each_ended_instance_has_one_usage_line() {
    let cluster = cluster::shared();
    let _beside = cluster::beside_others();
    let environment = TestEnvironment::new(cluster);
    environment.offer("app", "app", STAND_IN);
    environment.offer_with("brief", "brief", STAND_IN, &[("max-lifetime", "5s")]);
    let mut programs = REPLICAS.map(|name| replica(&environment, name));
    eventually("both hold a Lease", || {
        let holds = |name: &&str| holder(&environment, name) == Some(json!(name));
        REPLICAS.iter().all(holds).then_some(())
    });
    let mut uids = Vec::new();
    for number in 0..12 {
        let (app_type, name) = (["app", "brief"][number % 2], format!("n{number}"));
        let program = &programs[number / 2 % 2];
        uids.push(start(&environment, program, app_type, &name));
        match number % 4 {
            // The other replica may report it.
            0 => programs[1].delete(&format!("/app/app/{name}")).expect(200),
            2 => json!(environment.kubectl(&["delete", "job", &format!("app-{name}")])),
            _ => Value::Null,
        };
    }
    let is_once = |programs: &[Program; 2], uids: &[String]| {
        let mut counts = uids.iter().map(|uid| lines(programs, uid));
        counts.all(|of| of.iter().sum::<usize>() == 1).then_some(())
    };
    eventually("each is reported once", || is_once(&programs, &uids));
    let by = |which: usize| {
        uids.iter()
            .filter(|uid| lines(&programs, uid)[which] == 1)
            .count()
    };
    let counts = [by(0), by(1)];
    programs[0].terminate();
    assert!(programs[0].ended().success());
    // The API server has taken the null of the merge patch.
    assert_eq!(holder(&environment, REPLICAS[0]), Some(Value::Null));
    let mut later = Vec::new();
    for number in 0..6 {
        let name = format!("m{number}");
        later.push(start(&environment, &programs[1], "app", &name));
        programs[1].delete(&format!("/app/app/{name}")).expect(200);
    }
    eventually("the one that is left reports all", || {
        let mut counts = later.iter().map(|uid| lines(&programs, uid));
        counts.all(|of| of == [0, 1]).then_some(())
    });
    assert!(
        is_once(&programs, &uids).is_some(),
        "nothing is reported again"
    );
    cluster::print_line(&format!(
        "FIGURE of {} ended instances {counts:?} were reported by the two replicas; 6 more by the one that was left",
        uids.len()
    ));
}
