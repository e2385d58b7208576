//! The inbox, and calls of the executor with canned responses.

use super::*;
use crate::app::api_call::{GoneJob, NewJob, StopCause};
use crate::app::fixture::{conflict, handle, origin, unavailable};
use crate::app::queue::Lane;
use crate::app::rights::MissingRights;
use crate::clock::SystemClock;
use crate::kube::Error;
use crate::kube::error::{Failure, Verb};
use crate::kube::request::Request;
use crate::kube::transport::{Cut, EventStream, Response, Transport};
use crate::kube::watch::StoreEvent;
use crate::model::job::JobSettings;
use crate::model::labels::{INSTANCE_NAME, INSTANCE_TYPE};
use crate::model::names::InstanceKey;
use crate::model::template::Template;
use crate::store::{Doubts, EventWriter, Sink as _, Writer, store};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::time::Instant;

/// Returns these responses one after the other.
#[derive(Debug)]
struct Canned(Mutex<Vec<(u16, Value)>>);

impl Transport for Canned {
    fn send(&self, _: &Request) -> Result<Response, Error> {
        let (status, body) = self.0.lock().unwrap().remove(0);
        let body = body.to_string().into_bytes();
        Ok(Response {
            status,
            body,
            ..Response::default()
        })
    }

    fn open(&self, request: &Request) -> Result<Box<dyn EventStream>, Error> {
        Err(request.error(Failure::Connect("not here".into())))
    }

    fn open_log(
        &self,
        request: &Request,
        _: Duration,
        _: bool,
        _: &Cut,
    ) -> Result<Option<Box<dyn EventStream>>, Error> {
        self.open(request).map(Some)
    }
}

fn key() -> InstanceKey {
    InstanceKey::new("hello", "ann").unwrap()
}

fn job(name: &str, uid: &str, version: &str) -> Value {
    json!({"metadata": {
        "name": key().job_name(), "uid": uid, "resourceVersion": version,
        "labels": {"app": "hello"},
        "annotations": {INSTANCE_TYPE: "hello", INSTANCE_NAME: name},
    }})
}

/// The Job with this UID, which is gone.
fn gone(uid: Option<&str>) -> Option<GoneJob> {
    let (key, uid) = (key(), uid?.into());
    Some(GoneJob { key, uid })
}

fn decoded(job: &Value) -> Job {
    let job = Job::decode(job.to_string().as_bytes()).unwrap();
    job.expect("it is ours")
}

/// An executor that gets these responses, and the writer of its Jobs, which are listed at version 5.
fn executor(responses: &[(u16, Value)], jobs: &[Value]) -> (Executor, Writer<Job>) {
    let now = Instant::now();
    let config_maps = store::new(now).0;
    let writers = Writers {
        jobs: store::new(now).0,
        pods: store::new(now).0,
        events: EventWriter::default(),
        doubts: Doubts::default(),
    };
    let writer = writers.jobs.clone();
    let _ = writer.apply(StoreEvent::Init);
    for job in jobs {
        let _ = writer.apply(StoreEvent::InitApply(decoded(job)));
    }
    let _ = writer.apply(StoreEvent::InitDone("5".into()));
    let transport = Arc::new(Canned(Mutex::new(responses.to_vec())));
    let client = Client::new(transport, "apps");
    let Writers {
        jobs, pods, events, ..
    } = &writers;
    let cache = Cache::over(&config_maps, jobs, pods, events, Arc::default()).0;
    let executor = Executor {
        client,
        writers,
        cache,
        renderer: Renderer::default(),
        start_warnings: Arc::default(),
        uses: Uses::new(Instant::now(), MissingRights::default()),
        clock: Arc::new(SystemClock),
    };
    (executor, writer)
}

fn call(action: Action) -> ApiCall {
    ApiCall {
        key: key(),
        action,
        is_retry: false,
        lane: Lane::Change,
        caller: None,
    }
}

fn made(executor: &Executor, action: Action) -> Completed {
    let called = executor.call(Arc::new(call(action)));
    executor.apply(called)
}

/// Creates a Job whose template has this line.
fn create(line: &str) -> Action {
    let text = format!("spec:\n  containers:\n  - name: app\n{line}");
    Action::CreateJob(Box::new(NewJob {
        is_restart: false,
        template: Arc::new(Template::parse("t", &text).unwrap()),
        settings: JobSettings::default(),
        template_revision: "7e".into(),
        variables: Arc::default(),
        failures: 0,
        by: origin("ann"),
        held: None,
    }))
}

fn delete_u1() -> Action {
    Action::DeleteJob {
        uid: "u1".into(),
        version: None,
        cause: StopCause::Replaced,
        new: None,
    }
}

/// This Job, and it is being deleted.
fn deleting(mut job: Value) -> Value {
    job["metadata"]["deletionTimestamp"] = json!("2026-05-01T10:00:00Z");
    job
}

fn status(code: u16, reason: &str) -> (u16, Value) {
    (code, json!({"reason": reason, "code": code}))
}

fn nothing_at(version: &str) -> (u16, Value) {
    let metadata = json!({"resourceVersion": version});
    (200, json!({"metadata": metadata, "items": []}))
}

fn one_at(version: &str, job: Value) -> (u16, Value) {
    let metadata = json!({"resourceVersion": version});
    (200, json!({"metadata": metadata, "items": [job]}))
}

/// The watch is late: its events of that name are older than the response.
#[track_caller]
fn check_nothing_comes_back(writer: &Writer<Job>) {
    let late = StoreEvent::Apply(decoded(&job("ann", "u2", "7")));
    assert!(writer.apply(late).is_empty());
    assert_eq!(writer.store().count(), 0);
    let next = StoreEvent::Apply(decoded(&job("ann", "u3", "10")));
    assert_eq!(writer.apply(next).len(), 1);
}

#[test]
fn a_job_that_a_read_found_gone_stays_gone() {
    let (executor, writer) = executor(&[nothing_at("9")], &[job("ann", "u1", "4")]);
    let completed = made(&executor, Action::ReadJob { with_pods: false });
    assert!(matches!(completed.outcome, CallOutcome::Absent));
    assert_eq!(completed.gone, gone(Some("u1")));
    check_nothing_comes_back(&writer);
}

/// Two instances can have one Job name.
#[test]
fn a_read_that_finds_no_job_may_remove_that_of_another_instance() {
    let (executor, writer) = executor(&[nothing_at("9")], &[job("bob", "u1", "4")]);
    let completed = made(&executor, Action::ReadJob { with_pods: false });
    let key = InstanceKey::new("hello", "bob").unwrap();
    let uid = "u1".into();
    assert_eq!(completed.gone, Some(GoneJob { key, uid }));
    assert_eq!(writer.store().count(), 0);
}

#[test]
fn a_job_gone_before_its_deletion_is_not_restored_by_older_events() {
    let responses = [status(404, "NotFound"), nothing_at("9")];
    let (executor, writer) = executor(&responses, &[job("ann", "u1", "4")]);
    let completed = made(&executor, delete_u1());
    assert!(matches!(completed.outcome, CallOutcome::Absent));
    assert_eq!(completed.gone, gone(Some("u1")));
    check_nothing_comes_back(&writer);
}

#[test]
fn a_job_found_by_a_read_is_shown_if_it_is_the_instance() {
    let ours = one_at("9", job("ann", "u2", "8"));
    let another = one_at("9", job("bob", "u3", "8"));
    let strange = one_at("9", json!({"metadata": {"name": "hello-ann", "uid": "u4"}}));
    // Pods of a Job that is not the instance are not read: they count for another one.
    for (response, with_pods, found, left) in [
        (ours, false, "Found(u2)", 1),
        (another, true, "NameConflict", 1),
        (strange, true, "NameConflict", 0),
    ] {
        let (executor, writer) = executor(&[response], &[job("ann", "u1", "4")]);
        let completed = made(&executor, Action::ReadJob { with_pods });
        let outcome = match completed.outcome {
            CallOutcome::Found(uid) => format!("Found({uid})"),
            other => format!("{other:?}"),
        };
        assert_eq!(outcome, found);
        assert_eq!(writer.store().count(), left, "{found}");
    }
}

/// After a read with pods the cache shows those that Kubernetes has, and no others.
#[test]
fn a_read_with_pods_replaces_what_the_cache_has_of_them() {
    let pod = |name: &str, version: &str| {
        json!({"metadata": {
            "name": name, "uid": name, "resourceVersion": version,
            "labels": {"batch.kubernetes.io/controller-uid": "u1"},
            "annotations": {INSTANCE_TYPE: "hello", INSTANCE_NAME: "ann"},
            "ownerReferences": [{"kind": "Job", "name": "j", "uid": "u1", "controller": true}],
        }})
    };
    let found = |pods: Value| {
        let list = json!({"metadata": {"resourceVersion": "9"}, "items": pods});
        let responses = [one_at("9", job("ann", "u1", "4")), (200, list)];
        let (executor, _) = executor(&responses, &[job("ann", "u1", "4")]);
        let pods = executor.writers.pods.clone();
        let _ = pods.apply(StoreEvent::Init);
        let _ = pods.apply(StoreEvent::InitDone("5".into()));
        for pod in [pod("p1", "6"), pod("p2", "7")] {
            let pod = Pod::decode(pod.to_string().as_bytes()).unwrap();
            let _ = pods.apply(StoreEvent::Apply(pod.unwrap()));
        }
        let completed = made(&executor, Action::ReadJob { with_pods: true });
        assert!(matches!(completed.outcome, CallOutcome::Found(_)));
        let pods = pods.store().by_index(&"u1".into());
        let shown = pods.iter().map(|pod| &pod.metadata);
        let mut shown: Vec<String> = shown
            .map(|it| format!("{} {}", it.name, it.resource_version))
            .collect();
        shown.sort();
        shown
    };
    assert_eq!(
        found(json!([pod("p2", "8"), pod("p3", "9")])),
        ["p2 8", "p3 9"]
    );
    assert_eq!(found(json!([])), [""; 0]);
    // The pods could not be read: nothing is known.
    let responses = [one_at("9", job("ann", "u1", "4")), status(503, "Busy")];
    let (executor, _) = executor(&responses, &[]);
    let completed = made(&executor, Action::ReadJob { with_pods: true });
    assert!(matches!(completed.outcome, CallOutcome::Failed(_)));
}

#[test]
fn a_created_job_replaces_the_one_before_in_the_cache() {
    let before = [job("ann", "u1", "4")];
    for (cached, was) in [(&before[..], Some("u1")), (&[], None)] {
        let (executor, writer) = executor(&[(201, job("ann", "u2", "8"))], cached);
        let completed = made(&executor, create(""));
        assert!(matches!(completed.outcome, CallOutcome::Created(uid, _) if uid == "u2".into()));
        assert_eq!(completed.gone, gone(was));
        let shown = writer.store().get(&key().job_name()).unwrap();
        assert_eq!(shown.metadata.uid, "u2".into());
    }
}

/// There is no response for a call.
#[test]
fn a_job_whose_manifest_cannot_be_rendered_is_not_created() {
    let (executor, _) = executor(&[], &[]);
    let completed = made(&executor, create("    image: ${alternatives['tag']}\n"));
    let CallOutcome::NotRendered(error) = completed.outcome else {
        panic!("{completed:?}");
    };
    assert!(matches!(error, crate::app::Error::VariableMissing(name) if name == "tag"));
}

/// The cache before the call shows whether this call began the deletion.
#[test]
fn a_deletion_is_the_first_unless_the_job_was_being_deleted_before() {
    let own = || job("ann", "u1", "4");
    let another = || job("ann", "u0", "4");
    for (cached, is_first, was) in [
        (vec![], true, None),
        (vec![own()], true, None),
        (vec![deleting(own())], false, None),
        (vec![another()], true, Some("u0")),
        (vec![deleting(another())], true, Some("u0")),
    ] {
        let response = (200, deleting(job("ann", "u1", "8")));
        let (executor, writer) = executor(&[response], &cached);
        let completed = made(&executor, delete_u1());
        let CallOutcome::Deleted { is_first: found } = completed.outcome else {
            panic!("{completed:?}");
        };
        assert_eq!(found, is_first, "{cached:?}");
        assert_eq!(completed.gone, gone(was), "{cached:?}");
        let shown = writer.store().get(&key().job_name()).unwrap();
        assert!(shown.metadata.is_deleting());
    }
}

#[test]
fn a_job_gone_right_after_its_deletion_leaves_the_cache() {
    let success = json!({"kind": "Status", "status": "Success"});
    let (executor, writer) = executor(&[(200, success)], &[job("ann", "u1", "4")]);
    let completed = made(&executor, delete_u1());
    assert!(matches!(
        completed.outcome,
        CallOutcome::Deleted { is_first: true }
    ));
    assert_eq!(completed.gone, gone(Some("u1")));
    assert_eq!(writer.store().count(), 0);
}

/// Only "not found" is followed by a read: there is no response for another.
#[test]
fn a_deletion_that_fails_leaves_the_job_in_the_cache() {
    let unavailable = status(503, "ServiceUnavailable");
    let (executor, writer) = executor(&[unavailable], &[job("ann", "u1", "4")]);
    let completed = made(&executor, delete_u1());
    assert!(matches!(
        completed.outcome,
        CallOutcome::Failed(error) if error.class() == Class::Unavailable
    ));
    assert_eq!(writer.store().count(), 1);
}

#[test]
fn a_pod_leaves_the_cache_when_its_force_deletion_finds_none() {
    for (response, left) in [
        (status(404, "NotFound"), 0),
        (status(409, "Conflict"), 1),
        (status(503, "ServiceUnavailable"), 1),
    ] {
        let (executor, _) = executor(&[response], &[]);
        let pods = executor.writers.pods.clone();
        let pod = json!({"metadata": {"name": "p", "uid": "p1", "resourceVersion": "4",
            "labels": {"batch.kubernetes.io/controller-uid": "u1"},
            "ownerReferences": [{"uid": "u1", "name": "hello-ann", "controller": true}]}});
        let pod = Pod::decode(pod.to_string().as_bytes()).unwrap().unwrap();
        let _ = pods.apply(StoreEvent::Apply(pod));
        let force = Action::ForceDeletePod {
            job: "u1".into(),
            pod: "p".into(),
            uid: "p1".into(),
        };
        let completed = made(&executor, force);
        assert!(matches!(completed.outcome, CallOutcome::Failed(_)));
        assert_eq!(pods.store().count(), left);
    }
}

#[test]
fn a_failure_is_a_warning_once_and_names_the_requester() {
    let line = |call: &ApiCall, error: &Error| {
        let (level, line) = failure_line(call, error);
        let end = line.find(':').unwrap();
        format!("{level} {}", &line[..end])
    };
    let unavailable = unavailable(Verb::Delete);
    let mut delete = call(Action::DeleteJob {
        uid: "u1".into(),
        version: None,
        cause: StopCause::Requested(origin("bob")),
        new: None,
    });
    let requested = line(&delete, &unavailable);
    assert!(
        requested.starts_with("WARN call for hello/ann, requested by bob (request "),
        "{requested}"
    );
    let mut read = call(Action::ReadJob { with_pods: false });
    assert_eq!(line(&read, &unavailable), "WARN call for hello/ann failed");
    assert_eq!(
        line(&read, &conflict(Verb::List)),
        "DEBUG call for hello/ann failed"
    );
    (read.is_retry, delete.is_retry) = (true, true);
    assert_eq!(
        line(&read, &unavailable),
        "DEBUG call for hello/ann failed again"
    );
    assert!(line(&delete, &unavailable).starts_with("DEBUG "));
}

/// Manifests of other calls are rendered first, which may take longer than its own call.
#[test]
fn a_worker_that_waits_for_its_manifest_is_not_stuck() {
    let response = (201, job("ann", "u1", "8"));
    let (mut executor, _) = executor(&[response], &[]);
    let on_death: OnDeath = Arc::new(|cause| panic!("{cause}"));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let heartbeats = Heartbeats::default();
    let workers = Workers {
        name: "worker",
        count: 1,
        longest: WORK_LONGEST,
        heartbeats: &heartbeats,
        clock: &clock,
    };
    let renderer = Workers {
        heartbeats: &Heartbeats::default(),
        ..workers
    };
    executor.renderer = Renderer::start(renderer, &on_death).unwrap();
    let action = create("    image: i");
    let occupied = executor.renderer.occupy();
    let (inbox, inputs) = Inbox::new(1);
    let calls = Arc::new(Calls::new(1));
    start_workers(workers, &executor, &calls, &inbox, &on_death).unwrap();
    calls.push(Arc::new(call(action)));
    while !calls.is_empty() {
        std::thread::yield_now();
    }
    let later = Instant::now() + 2 * WORK_LONGEST;
    assert_eq!(heartbeats.stuck(later), None);
    drop(occupied);
    let input = inputs.receiver.recv_timeout(Duration::from_secs(10));
    let Input::Completed(_, completed) = *input.unwrap() else {
        panic!("it is no result");
    };
    assert!(matches!(completed.outcome, CallOutcome::Created(uid, _) if uid == "u1".into()));
}

/// A caller hangs up while the inbox is full.
#[test]
fn abandoning_never_blocks_on_a_full_inbox_and_loses_nothing() {
    let (inbox, inputs) = Inbox::new(1);
    inbox.abandon(handle(1));
    inbox.abandon(handle(2));
    inbox.abandon(handle(3));
    let numbers = |inputs: Vec<Input>| -> Vec<u64> {
        let number = |input: Input| match input {
            Input::Abandoned(handle) => handle.serial,
            other => panic!("{other:?}"),
        };
        inputs.into_iter().map(number).collect()
    };
    // The queue is not yet empty.
    assert_eq!(numbers(inputs.take(1)), [1]);
    assert_eq!(numbers(inputs.take(8)), [2, 3]);
    assert_eq!(numbers(inputs.take(8)), [0; 0]);
}
