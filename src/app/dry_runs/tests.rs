//! The schedule of dry runs, and one dry run over a canned transport.

use super::schedule::{AT_ONCE, News, Outcome, REPORTS_BYTES_MAX, Schedule, Task};
use super::*;
use crate::app::catalog::Catalog;
use crate::clock::SystemClock;
use crate::kube::error::Failure;
use crate::kube::request::Request;
use crate::kube::transport::{Cut, EventStream, Response, Transport};
use crate::kube::types::ConfigMap;
use crate::model::job::JobSettings;
use crate::store::Change;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const FINE: &str =
    "spec: {restartPolicy: Never, containers: [{name: a, image: i, readinessProbe: {}}]}";

/// Responds to each dry run with what it has for its resource.
#[derive(Debug, Default)]
struct Canned {
    jobs: (u16, Value),
    pods: (u16, Value),
    sent: Mutex<Vec<Request>>,
}

impl Transport for Canned {
    fn send(&self, request: &Request) -> Result<Response, crate::kube::Error> {
        let (status, body) = match request.resource {
            "jobs" => &self.jobs,
            _ => &self.pods,
        };
        threads::lock(&self.sent).push(request.clone());
        Ok(Response {
            status: *status,
            body: body.to_string().into_bytes(),
            ..Response::default()
        })
    }

    fn open(&self, request: &Request) -> Result<Box<dyn EventStream>, crate::kube::Error> {
        Err(request.error(Failure::Connect("not here".into())))
    }

    fn open_log(
        &self,
        request: &Request,
        _: Duration,
        _: bool,
        _: &Cut,
    ) -> Result<Option<Box<dyn EventStream>>, crate::kube::Error> {
        self.open(request).map(Some)
    }
}

/// Dry runs that are never made.
pub(crate) fn idle(catalog: Arc<SharedCatalog>) -> DryRuns {
    dry_runs(catalog, Arc::default())
}

fn dry_runs(catalog: Arc<SharedCatalog>, transport: Arc<Canned>) -> DryRuns {
    let client = Client::new(transport, "apps");
    let clock = Arc::new(SystemClock);
    DryRuns::new(catalog, client, Renderer::default(), clock, Arc::new(|| ()))
}

fn config_map(name: &str, data: &Value, annotations: &Value) -> Arc<ConfigMap> {
    let metadata = json!({
        "name": name, "uid": name, "resourceVersion": "1", "annotations": annotations,
    });
    let object = json!({"metadata": metadata, "data": data});
    Arc::new(serde_json::from_value(object).unwrap())
}

fn catalog(data: &Value) -> Catalog {
    Catalog::read(
        &[config_map("cm", data, &json!({}))],
        &JobSettings::default(),
    )
    .0
}

/// Templates with these names.
fn many(count: usize) -> Value {
    let templates = (0..count).map(|number| (format!("t{number:04}.yaml"), json!(FINE)));
    Value::Object(templates.collect())
}

fn outcome(verdict: Verdict, message: &str) -> Outcome {
    Outcome {
        report: Report::new(verdict).saying(message),
        pods: None,
    }
}

struct Fixture {
    schedule: Schedule,
    now: Instant,
}

impl Fixture {
    fn new(data: &Value) -> Self {
        let mut fixture = Self {
            schedule: Schedule::default(),
            now: Instant::now(),
        };
        fixture.schedule.sync(&catalog(data), fixture.now);
        fixture
    }

    fn take(&mut self) -> Option<Task> {
        self.schedule.take_due(self.now)
    }

    fn finish(&mut self, task: &Task, outcome: Outcome) -> Vec<News> {
        self.schedule.finish(task, outcome, self.now)
    }

    /// Goes to when the next is due, and returns how long that took.
    fn wait(&mut self) -> Duration {
        let due = self.schedule.next_due().expect("something is due");
        let waited = due.saturating_duration_since(self.now);
        self.now = self.now.max(due);
        waited
    }

    fn verdict(&self, app_type: &str) -> Verdict {
        let app_type = AppType::new(app_type).unwrap();
        self.schedule.last_report(&app_type).unwrap().verdict
    }
}

#[test]
fn a_few_templates_are_tried_at_the_same_time_each_once() {
    let mut fixture = Fixture::new(&many(7));
    let mut tried = Vec::new();
    let mut running = Vec::new();
    while tried.len() < 7 {
        while let Some(task) = fixture.take() {
            running.push(task);
        }
        assert!(running.len() <= AT_ONCE, "{running:?}");
        let task = running.pop().expect("one is due");
        assert_eq!(fixture.finish(&task, outcome(Verdict::Valid, "")).len(), 1);
        tried.push(task.app_type.to_string());
    }
    tried.sort_unstable();
    tried.dedup();
    assert_eq!(tried.len(), 7);
    assert!(fixture.take().is_none());
    assert!(fixture.wait() >= Duration::from_secs(1800));
}

#[test]
fn a_template_that_cannot_be_read_is_not_tried() {
    let data = json!({"a.yaml": "spec: [", "b.yaml": "a: ${alternatives.x}"});
    let mut fixture = Fixture::new(&data);
    assert!(fixture.take().is_none());
    assert_eq!(fixture.schedule.next_due(), None);
    assert_eq!(fixture.verdict("a"), Verdict::Invalid);
    let report = fixture.schedule.last_report(&AppType::new("b").unwrap());
    assert_eq!(report.unwrap().place.as_deref(), Some("line 1"));
}

#[test]
fn what_says_nothing_is_tried_again_with_back_off_and_logged_once() {
    let mut fixture = Fixture::new(&many(1));
    let mut waits = Vec::new();
    for round in 0..12 {
        let task = fixture.take().expect("it is due");
        let news = fixture.finish(&task, outcome(Verdict::Unchecked, "webhook down"));
        assert_eq!(news.len(), usize::from(round == 0));
        waits.push(fixture.wait().as_secs());
    }
    assert!((1..=2).contains(&waits[0]), "{waits:?}");
    assert!((8..=10).contains(&waits[3]), "{waits:?}");
    assert!((120..=144).contains(&waits[11]), "{waits:?}");
    let task = fixture.take().unwrap();
    let news = fixture.finish(&task, outcome(Verdict::Valid, ""));
    assert!(matches!(&news[..], [News::Report(_, report)] if report.verdict == Verdict::Valid));
}

#[test]
fn a_change_is_tried_before_what_was_tried_already_and_makes_a_running_one_void() {
    let mut fixture = Fixture::new(&many(3));
    for _ in 0..3 {
        let task = fixture.take().unwrap();
        fixture.finish(&task, outcome(Verdict::Unchecked, "later"));
    }
    fixture.now += Duration::from_secs(10);
    let running = fixture.take().expect("all are overdue");
    let mut data = many(3);
    data[format!("{}.yaml", running.app_type)] = json!(FINE.replace("image: i", "image: j"));
    data["new.yaml"] = json!(FINE);
    let changed = Catalog::read(
        &[config_map("cm", &data, &json!({}))],
        &JobSettings::default(),
    );
    fixture.schedule.sync(&changed.0, fixture.now);
    assert_eq!(fixture.take().unwrap().app_type.as_str(), "new");
    assert_eq!(fixture.finish(&running, outcome(Verdict::Invalid, "x")), []);
    assert_eq!(
        fixture.verdict(running.app_type.as_str()),
        Verdict::Unchecked
    );
    let again = fixture.take().unwrap();
    assert!(!Arc::ptr_eq(&again.offer, &running.offer));
    // A type that is gone is forgotten.
    fixture
        .schedule
        .sync(&Catalog::new(JobSettings::default()), fixture.now);
    assert_eq!(fixture.finish(&again, outcome(Verdict::Valid, "")), []);
    assert!(fixture.schedule.last_report(&again.app_type).is_none());
}

/// Nobody is shown the result of another template than that on offer.
#[test]
fn a_report_is_of_one_template() {
    let mut fixture = Fixture::new(&many(1));
    let task = fixture.take().unwrap();
    fixture.finish(&task, outcome(Verdict::Invalid, "x"));
    let report = |fixture: &Fixture, offer| {
        let report = fixture.schedule.report(&task.app_type, offer);
        report.map(|report| report.verdict)
    };
    assert_eq!(report(&fixture, &task.offer), Some(Verdict::Invalid));
    let changed = catalog(&json!({"t0000.yaml": FINE.replace("image: i", "image: j")}));
    let (_, offer) = changed.find("t0000").unwrap();
    assert_eq!(report(&fixture, offer), None, "it has not arrived here yet");
    fixture.schedule.sync(&changed, fixture.now);
    assert_eq!(report(&fixture, offer), Some(Verdict::Unchecked));
    assert_eq!(report(&fixture, &task.offer), None);
}

/// Else it would be tried twice at the same time.
#[test]
fn the_end_of_an_older_task_does_not_end_that_of_a_type_that_has_come_again() {
    let mut fixture = Fixture::new(&many(1));
    let old = fixture.take().unwrap();
    let nothing = Catalog::new(JobSettings::default());
    fixture.schedule.sync(&nothing, fixture.now);
    fixture.schedule.sync(&catalog(&many(1)), fixture.now);
    let new = fixture.take().unwrap();
    assert_eq!(fixture.finish(&old, outcome(Verdict::Invalid, "x")), []);
    assert!(fixture.take().is_none());
    assert_eq!(fixture.finish(&new, outcome(Verdict::Valid, "")).len(), 1);
    assert_eq!(fixture.verdict("t0000"), Verdict::Valid);
}

#[test]
fn without_the_right_pods_are_asked_for_once_in_a_while_and_tried_once_it_is_there() {
    let mut fixture = Fixture::new(&many(5));
    let denied = || Outcome {
        pods: Some(Err("cannot create".into())),
        ..outcome(Verdict::Valid, "only its Job")
    };
    let task = fixture.take().unwrap();
    assert!(task.no_pod.is_none());
    let news = fixture.finish(&task, denied());
    assert_eq!(news[0], News::NoPods("cannot create".into()));
    for _ in 0..4 {
        let task = fixture.take().unwrap();
        assert_eq!(task.no_pod.as_deref(), Some("cannot create"));
        fixture.finish(&task, outcome(Verdict::Valid, "only its Job"));
    }
    assert!(fixture.take().is_none());
    assert_eq!(fixture.wait(), Duration::from_secs(1));
    let task = fixture.take().expect("one asks for the right");
    assert!(task.no_pod.is_none());
    assert_eq!(fixture.finish(&task, denied()), []);
    assert_eq!(fixture.wait(), Duration::from_secs(2));
    let task = fixture.take().unwrap();
    let permitted = Outcome {
        pods: Some(Ok(())),
        ..outcome(Verdict::Valid, "")
    };
    let news = fixture.finish(&task, permitted);
    assert!(
        matches!(&news[..], [News::Pods, News::Report(..)]),
        "{news:?}"
    );
    for _ in 0..4 {
        let task = fixture.take().expect("all others are tried again");
        assert!(task.no_pod.is_none());
        fixture.finish(&task, outcome(Verdict::Valid, ""));
    }
    assert!(fixture.take().is_none());
}

#[test]
fn reports_are_bounded_in_bytes() {
    let count = 2 * REPORTS_BYTES_MAX / (MESSAGE_BYTES_MAX + WARNINGS_BYTES_MAX);
    let mut fixture = Fixture::new(&many(count));
    let long = || {
        let mut report = Report::new(Verdict::Valid).saying(&"m".repeat(MESSAGE_BYTES_MAX));
        report.warn(["w".repeat(WARNINGS_BYTES_MAX).into()]);
        Outcome { report, pods: None }
    };
    let mut largest = 0;
    let total = |fixture: &Fixture| {
        let types = (0..count).map(|number| AppType::new(&format!("t{number:04}")).unwrap());
        let reports = types.filter_map(|app_type| fixture.schedule.last_report(&app_type).cloned());
        reports.map(|report| report.bytes()).sum::<usize>()
    };
    while let Some(task) = fixture.take() {
        let news = fixture.finish(&task, long());
        // The log has all of it.
        assert!(matches!(&news[..], [News::Report(_, full)] if full.bytes() > 5000));
        largest = largest.max(total(&fixture));
    }
    assert!(
        (REPORTS_BYTES_MAX / 2..REPORTS_BYTES_MAX + count * 300).contains(&largest),
        "{largest}"
    );
    fixture
        .schedule
        .sync(&Catalog::new(JobSettings::default()), fixture.now);
    fixture.schedule.sync(&catalog(&many(1)), fixture.now);
    let task = fixture.take().unwrap();
    fixture.finish(&task, long());
    assert_eq!(total(&fixture), MESSAGE_BYTES_MAX + WARNINGS_BYTES_MAX);
}

/// The report of this template, and the requests that were made.
fn tried(data: &Value, annotations: &Value, transport: Canned) -> (Report, Vec<Request>) {
    let catalog = Arc::new(SharedCatalog::new(JobSettings::default()));
    catalog.update(&[Change {
        old: None,
        new: Some(config_map("cm", data, annotations)),
    }]);
    let transport = Arc::new(transport);
    let dry_runs = dry_runs(catalog, Arc::clone(&transport));
    dry_runs.catalog_changed();
    let task = dry_runs.0.wait();
    dry_runs.0.work(&task);
    let report = dry_runs
        .report(&task.app_type, &task.offer)
        .expect("it was tried");
    let sent = threads::lock(&transport.sent).clone();
    (Report::clone(&report), sent)
}

fn accepted() -> Canned {
    Canned {
        jobs: (201, json!({})),
        pods: (201, json!({})),
        ..Canned::default()
    }
}

#[test]
fn job_and_pod_are_tried_as_an_instance_would_have_them() {
    let (report, sent) = tried(&json!({"hello.yaml": FINE}), &json!({}), accepted());
    assert_eq!(report, Report::new(Verdict::Valid));
    let body =
        |at: usize| -> Value { serde_json::from_slice(sent[at].body.as_ref().unwrap()).unwrap() };
    let (job, pod) = (body(0), body(1));
    assert_eq!(
        (sent[0].resource, &job["metadata"]["name"]),
        ("jobs", &json!("hello-dry-run"))
    );
    assert_eq!((sent[1].resource, &pod["kind"]), ("pods", &json!("Pod")));
    assert_eq!(pod["metadata"]["name"], "hello-dry-run");
    assert_eq!(pod["spec"], job["spec"]["template"]["spec"]);
    assert_eq!(sent.len(), 2);
}

#[test]
fn the_pod_is_not_tried_after_a_job_that_is_refused() {
    let refused = Canned {
        jobs: (422, json!({"reason": "Invalid", "message": "no"})),
        ..accepted()
    };
    let (report, sent) = tried(&json!({"hello.yaml": FINE}), &json!({}), refused);
    assert_eq!((report.verdict, sent.len()), (Verdict::Invalid, 1));
}

#[test]
fn a_template_with_variables_is_tried_with_its_example() {
    let text = FINE.replace("image: i", "image: \"${alternatives['tag']}\"");
    let data = json!({"hello.yaml": text});
    let (report, sent) = tried(&data, &json!({}), accepted());
    assert_eq!((report.verdict, sent.len()), (Verdict::NeedsValues, 0));
    let message = report.message.unwrap();
    assert!(
        message.contains("`tag`") && message.contains("hello.config-controller.semafor.ch/example"),
        "{message}"
    );
    for key in [
        "hello.config-controller.semafor.ch/example",
        "config-controller.semafor.ch/example",
    ] {
        let (report, sent) = tried(&data, &json!({key: "tag=a%20b&x=1"}), accepted());
        assert_eq!((report.verdict, sent.len()), (Verdict::Valid, 2));
        let body = String::from_utf8(sent[0].body.clone().unwrap()).unwrap();
        assert!(body.contains(r#""image":"a b""#), "{body}");
    }
    let (report, _) = tried(
        &data,
        &json!({"config-controller.semafor.ch/example": "tag=%00"}),
        accepted(),
    );
    assert_eq!(report.verdict, Verdict::NeedsValues);
}

#[test]
fn an_error_of_selected_lines_is_invalid_and_has_its_line() {
    let text = format!("{FINE}\n% if alternatives.get('x'):\nspec: {{}}\n% endif\n");
    let annotations = json!({"config-controller.semafor.ch/example": "x=1"});
    let (report, sent) = tried(&json!({"hello.yaml": text}), &annotations, accepted());
    assert_eq!(
        (report.verdict, sent.len()),
        (Verdict::Invalid, 0),
        "{report:?}"
    );
    assert_eq!(report.place.as_deref(), Some("line 3"));
}
