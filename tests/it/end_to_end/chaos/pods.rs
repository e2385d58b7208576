//! Pods that another one pushes off their node, that restart their containers by rules of their own, and that
//! outlive their Job.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::environment::{real, text};
use super::super::eventually;
use super::super::program::PATIENT;
use super::{Fixture, REPLICAS, Report, Scenario, ready_ip};
use crate::harness::PREFIX;

pub(super) const PREEMPTION: Scenario = Scenario {
    name: "preemption",
    must: "a pod of a higher PriorityClass pushes out two instances (exit 0, exit 143): the reason is that of \
           the condition, each of 6 waiting callers gets the successor, and no failure is counted",
    settings: PATIENT,
    blind: Duration::ZERO,
    play: |fixture, report| preempt(fixture, report, &PUSHED),
};

/// The same of one instance, without the Job controller's back-off.
pub(super) const PREEMPTION_SHORT: Scenario = Scenario {
    play: |fixture, report| preempt(fixture, report, &PUSHED[..1]),
    ..PREEMPTION
};

/// The types of the instances that are pushed out, and the variables of the demo app.
const PUSHED: [(&str, &[(&str, &str)]); 2] =
    [("exit-0", &[]), ("exit-143", &[("TERM_EXIT_CODE", "143")])];

/// A resource of which the node has one for each instance, or all for the pod that pushes them out.
const SLOT: &str = "tests.semafor.ch/slot";

/// How long a caller waits for a successor.
const PATIENCE: Duration = Duration::from_secs(120);

fn preempt(fixture: &Fixture<'_>, report: &mut Report, types: &[(&str, &[(&str, &str)])]) {
    let environment = &fixture.environment;
    for (app_type, variables) in types {
        let template = real(app_type, 3, variables);
        let limits = format!("    resources: {{limits: {{\"{SLOT}\": 1}}}}\n");
        offer(fixture, app_type, &format!("{template}{limits}"));
    }
    let node = environment
        .cluster
        .fact("CLUSTER_NODE")
        .expect("the name of the node");
    let count = types.len().to_string();
    let slots = json!({"status": {"capacity": {SLOT: count}, "allocatable": {SLOT: count}}});
    let path = format!("/api/v1/nodes/{node}/status");
    environment.api.patch(&path, &slots).expect(200);
    let paths: Vec<String> = types
        .iter()
        .map(|(app_type, _)| format!("/app/{app_type}/pushed"))
        .collect();
    let old: Vec<String> = (0..)
        .zip(&paths)
        .map(|(replica, path)| fixture.start(replica, path))
        .collect();
    for path in &paths {
        eventually("the replica that is asked below shows it as ready", || {
            let got = fixture.ask(2, "GET", path, "wait=0")?;
            (got.code == 200).then_some(())
        });
    }
    let high = Preemptor::start(fixture, &count);
    for path in &paths {
        let reason = eventually("the preemption is seen", || {
            let got = fixture.ask(2, "GET", path, "wait=0")?;
            (got.code == 202).then(|| got.body.clone())
        });
        report.check(reason["reason"] == "PreemptionByScheduler", || {
            format!("{path}: {reason}")
        });
    }
    let outcomes: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..paths.len() * REPLICAS)
            .map(|caller| {
                let (path, old) = (&paths[caller / REPLICAS], &old[caller / REPLICAS]);
                scope.spawn(move || await_successor(fixture, caller % REPLICAS, path, old))
            })
            .collect();
        high.stop_once_it_runs(fixture);
        let callers = callers.into_iter().map(|caller| caller.join());
        callers.map(|caller| caller.expect("it returns")).collect()
    });
    let served = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let count = outcomes.len();
    report
        .seen
        .push(format!("{served} of {count} callers got the successor"));
    report
        .problems
        .extend(outcomes.into_iter().filter_map(Result::err));
    for job in environment.list("jobs") {
        let failures = &job["metadata"]["annotations"][format!("{PREFIX}failures")];
        report.check(failures.is_null(), || format!("failures: {failures}"));
    }
}

/// Offers a template at all replicas.
fn offer(fixture: &Fixture<'_>, app_type: &str, template: &str) {
    fixture.environment.offer(app_type, app_type, template);
    for program in &fixture.replicas {
        program.wait_log(&format!("app type {app_type} is on offer"));
    }
}

/// Requests an instance until there is another address; the first failure report is the problem.
fn await_successor(
    fixture: &Fixture<'_>,
    replica: usize,
    path: &str,
    old: &str,
) -> Result<(), String> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let got = fixture.ask(replica, "GET", path, "wait=60");
        let got = got.ok_or_else(|| format!("{path} at replica {replica}: no response"))?;
        match ready_ip(&got) {
            Some(ip) if ip != old => return Ok(()),
            Some(_) => std::thread::park_timeout(Duration::from_millis(100)),
            None if got.code == 202 && got.body["status"] != "app_error" => {}
            None => {
                let (code, body) = (got.code, got.body);
                return Err(format!("{path} at replica {replica}: {code} {body}"));
            }
        }
    }
    Err(format!("{path} at replica {replica}: no successor"))
}

/// A pod of a PriorityClass of its own that needs all slots.
struct Preemptor {
    class: String,
}

impl Preemptor {
    #[track_caller]
    fn start(fixture: &Fixture<'_>, slots: &str) -> Self {
        let environment = &fixture.environment;
        let class = format!("high-{}", environment.namespace);
        let object = json!({"metadata": {"name": class}, "value": 1000});
        let path = "/apis/scheduling.k8s.io/v1/priorityclasses";
        environment.api.post(path, &object).expect(201);
        let pod = json!({
            "metadata": {"name": "high"},
            "spec": {
                "priorityClassName": class,
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "main", "image": "config-controller-demo:1", "imagePullPolicy": "IfNotPresent",
                    "resources": {"limits": {SLOT: slots}},
                }],
            },
        });
        let path = environment.all("pods");
        // The API server learns of the class a moment later.
        eventually("the pod is accepted", || {
            (environment.api.post(&path, &pod).code == 201).then_some(())
        });
        fixture.recording.note("the preemptor is there");
        Self { class }
    }

    #[track_caller]
    fn stop_once_it_runs(self, fixture: &Fixture<'_>) {
        let environment = &fixture.environment;
        let path = format!("{}/high", environment.all("pods"));
        eventually("the preemptor runs", || {
            let pod = environment.api.get(&path).expect(200);
            (pod["status"]["phase"] == "Running").then_some(())
        });
        environment.api.delete(&path, &json!({})).expect(200);
        let class = &self.class;
        let path = format!("/apis/scheduling.k8s.io/v1/priorityclasses/{class}");
        environment.api.delete(&path, &json!({})).expect(200);
        fixture.recording.note("the preemptor is stopped");
    }
}

pub(super) const RESTART_RULES: Scenario = Scenario {
    name: "restart-rules",
    must: "pods with `restartPolicy: Never` whose container has `restartPolicyRules`, or its own \
           `restartPolicy: OnFailure`, and fails twice: three callers each get 200 from one Job, and no failure \
           report",
    settings: PATIENT,
    blind: Duration::ZERO,
    play: restart_containers,
};

/// What the container says of its restarts.
const RULES: [(&str, &str); 2] = [
    (
        "by-rule",
        "    restartPolicy: Never
    restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [3]}}]
",
    ),
    ("by-policy", "    restartPolicy: OnFailure\n"),
];

fn restart_containers(fixture: &Fixture<'_>, report: &mut Report) {
    let environment = &fixture.environment;
    let fails = [
        ("EXIT_CODE", "3"),
        ("FAILURES", "2"),
        ("FAILURES_FILE", "/state/failures"),
    ];
    for (app_type, rules) in RULES {
        let template = real(app_type, 1, &fails);
        let state = "    volumeMounts: [{name: state, mountPath: /state}]\n  volumes: [{name: state, emptyDir: {}}]\n";
        offer(fixture, app_type, &format!("{template}{rules}{state}"));
    }
    let outcomes: Vec<(String, Option<Value>)> = std::thread::scope(|scope| {
        let ask = |caller: usize| {
            let path = format!("/app/{0}/{0}", RULES[caller / REPLICAS].0);
            scope.spawn(move || {
                let got = fixture.ask(caller, "GET", &path, "wait=60");
                let got = got.map(|got| json!([got.code, got.body]));
                (path, got)
            })
        };
        let callers: Vec<_> = (0..RULES.len() * REPLICAS).map(ask).collect();
        let callers = callers.into_iter().map(|caller| caller.join());
        callers.map(|caller| caller.expect("it returns")).collect()
    });
    let is_ready =
        |(_, got): &&(String, Option<Value>)| got.as_ref().is_some_and(|it| it[0] == 200);
    let served = outcomes.iter().filter(is_ready).count();
    report.check(served == outcomes.len(), || format!("{outcomes:?}"));
    let pods = environment.list("pods");
    let restarts: Vec<u64> = pods
        .iter()
        .filter_map(|pod| pod["status"]["containerStatuses"][0]["restartCount"].as_u64())
        .collect();
    report.seen.push(format!(
        "{served} of {} callers got 200; restarts of the containers: {restarts:?}",
        outcomes.len()
    ));
    report.check(restarts == [2, 2], || format!("restarts: {restarts:?}"));
    for program in &fixture.replicas {
        let count = program.count_log("created Job");
        let problems = program.count_log("failed") + program.count_log("stopping");
        report.check(problems == 0, || "a failure is reported".to_owned());
        report.check(count <= RULES.len(), || format!("{count} Jobs"));
    }
}

pub(super) const ORPHANED: Scenario = Scenario {
    name: "orphaned",
    must: "`kubectl delete job --cascade=orphan`, then GET at each replica: the name is `stopping` until the pod, \
           which is deleted with its own grace, has ended; one successor; pods of another controller, or \
           without the Job controller's label, are not touched",
    settings: PATIENT,
    blind: Duration::ZERO,
    play: orphan,
};

/// Grace of the orphan, whose app ignores SIGTERM.
const ORPHAN_GRACE_SECS: u32 = 4;

fn orphan(fixture: &Fixture<'_>, report: &mut Report) {
    let environment = &fixture.environment;
    offer(
        fixture,
        "kept",
        &real("kept", ORPHAN_GRACE_SECS, &[("IGNORE_TERM", "1")]),
    );
    let (path, job) = ("/app/kept/ann", "kept-ann");
    let old = fixture.start(0, path);
    let pods = environment.list("pods");
    let pod = &pods[0];
    let bystanders = [
        bystander(fixture, pod, "foreign", true),
        bystander(fixture, pod, "unlabelled", false),
    ];
    environment.kubectl(&["delete", "job", job, "--cascade=orphan"]);
    fixture.recording.note("the Job is gone, its pod is not");
    let outcomes: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..REPLICAS)
            .map(|replica| {
                let old = &old;
                scope.spawn(move || await_successor(fixture, replica, path, old))
            })
            .collect();
        await_end(fixture, report, pod, path, &old);
        let callers = callers.into_iter().map(|caller| caller.join());
        callers.map(|caller| caller.expect("it returns")).collect()
    });
    report
        .problems
        .extend(outcomes.into_iter().filter_map(Result::err));
    for before in &bystanders {
        let name = text(&before["metadata"]["name"]);
        let got = environment
            .api
            .get(&format!("{}/{name}", environment.all("pods")));
        let is_same = got.body["metadata"]["uid"] == before["metadata"]["uid"]
            && got.body["metadata"]["labels"] == before["metadata"]["labels"]
            && got.body["metadata"]["deletionTimestamp"].is_null();
        report.check(is_same, || format!("{name} has been touched: {}", got.body));
    }
}

/// Waits until this pod, which outlives its Job, has ended. Until then the name is `stopping`.
#[track_caller]
fn await_end(fixture: &Fixture<'_>, report: &mut Report, pod: &Value, path: &str, old: &str) {
    let environment = &fixture.environment;
    let name = text(&pod["metadata"]["name"]);
    let pod_path = format!("{}/{name}", environment.all("pods"));
    let (mut stopping, mut others) = (0, Vec::new());
    eventually("the pod has ended", || {
        let got = fixture.ask(1, "GET", path, "wait=0");
        let pod = environment.api.get(&pod_path);
        let ended = ["Succeeded", "Failed"].map(Value::from);
        if pod.code != 200 || ended.contains(&pod.body["status"]["phase"]) {
            return Some(());
        }
        let grace = &pod.body["metadata"]["deletionGracePeriodSeconds"];
        report.check(grace.is_null() || *grace == ORPHAN_GRACE_SECS, || {
            format!("the grace of the pod is {grace}")
        });
        match got {
            Some(got) if got.body["phase"] == "stopping" => stopping += 1,
            // The replica has not heard of the deletion yet.
            Some(got) if got.body["ip"] == *old => {}
            Some(got) => others.push(got.body),
            None => others.push(Value::Null),
        }
        None
    });
    report
        .seen
        .push(format!("{stopping} responses said `stopping`"));
    report.check(others.is_empty() && stopping > 0, || {
        format!("while the pod ran: {others:?}")
    });
}

/// A pod with the names of the instance of this pod that is not an orphan of its Job: it has another
/// controller, or lacks the Job controller's label. No node takes it.
#[track_caller]
fn bystander(fixture: &Fixture<'_>, of: &Value, name: &str, is_controlled: bool) -> Value {
    let environment = &fixture.environment;
    let mut labels = of["metadata"]["labels"].clone();
    let mut owners = json!([]);
    if is_controlled {
        let owner = json!({"metadata": {"name": "owner"}});
        let path = environment.all("configmaps");
        let owner = environment.api.post(&path, &owner).expect(201);
        owners = json!([{
            "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "controller": true,
            "uid": owner["metadata"]["uid"],
        }]);
    } else {
        let all = labels.as_object_mut().expect("labels are an object");
        all.retain(|label, _| !label.ends_with("controller-uid"));
    }
    let pod = json!({
        "metadata": {
            "name": name, "labels": labels, "annotations": of["metadata"]["annotations"],
            "ownerReferences": owners,
        },
        "spec": {
            "nodeSelector": {"tests/group": "nowhere"},
            "containers": [{"name": "main", "image": "config-controller-demo:1"}],
        },
    });
    environment
        .api
        .post(&environment.all("pods"), &pod)
        .expect(201)
}
