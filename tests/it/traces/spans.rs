//! The contents of the spans.

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use super::Program;
use super::collector::{Collector, Mood, attribute, header};
use crate::fake_kube::dynamics::pods::PodMove;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::fake_kube::http::tls::Tls;
use crate::harness::{Builder, TemporaryFolder, TestEnvironment, eventually};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const OTHER_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const OTHER_CALLER: &str = "b7ad6b7169203331";

/// The request of a GET of an instance.
const GET: &str = "GET /app/{type}/{name}";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn word(span: &Span, name: &str) -> String {
    attribute(&span.attributes, name)
}

fn code(span: &Span) -> StatusCode {
    span.status
        .as_ref()
        .map_or(StatusCode::Unset, |status| status.code())
}

/// An environment that sends its traces to this collector with a short delay.
fn traced(builder: Builder, collector: &Collector) -> Builder {
    builder
        .setting("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &collector.endpoint())
        .setting("OTEL_BSP_SCHEDULE_DELAY", "20")
}

fn children<'a>(spans: &'a [Span], parent: &Span) -> Vec<&'a Span> {
    let of_it = |span: &&Span| span.parent_span_id == parent.span_id;
    spans.iter().filter(of_it).collect()
}

/// Steps of a start follow each other without a gap, from its beginning to its end.
#[track_caller]
fn check_steps(start: &Span, steps: &[&Span]) {
    assert_eq!(steps[0].start_time_unix_nano, start.start_time_unix_nano);
    for pair in steps.windows(2) {
        assert_eq!(pair[0].end_time_unix_nano, pair[1].start_time_unix_nano);
    }
    let last = steps.last().expect("a start has steps");
    assert_eq!(last.end_time_unix_nano, start.end_time_unix_nano);
    for step in steps {
        assert_eq!(step.trace_id, start.trace_id);
        assert!(step.start_time_unix_nano <= step.end_time_unix_nano);
    }
}

#[test]
fn a_start_is_a_child_of_the_request_that_made_its_job() {
    let collector = Collector::start(Mood::Takes);
    let environment = traced(TestEnvironment::builder(), &collector)
        .pod_script(crate::fake_kube::dynamics::pod_script::PodScript::by_hand())
        .setting(
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        )
        .setting("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b")
        .start();
    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    let headers = [("traceparent", &*traceparent), ("tracestate", "vendor=x")];
    let waiting = environment
        .client()
        .begin("GET", "/app/hello/ann?a=secret", &headers, "");
    // A phase that comes and goes between two looks is none that was seen.
    let is_over = |phase: &str| {
        let line = format!("phase=\"{phase}\"");
        eventually(&format!("{phase} is seen to be over"), || {
            environment
                .get("/metrics")
                .text
                .contains(&line)
                .then_some(())
        });
    };
    is_over("creating");
    environment.move_pod("hello-ann", &PodMove::Run);
    is_over("scheduling");
    environment.make_ready("hello-ann");
    waiting.finish().expect(200);

    let start = collector.wait("start");
    let request = collector.wait(GET);
    check_request(&request);
    assert_eq!(start.parent_span_id, request.span_id);
    assert_eq!(start.trace_id, request.trace_id);
    assert_eq!(start.links, []);
    assert_eq!(code(&start), StatusCode::Unset);
    let job = environment.job("hello-ann").expect("the Job is there");
    let uid = job["metadata"]["uid"].as_str().unwrap_or_default();
    for (name, value) in [
        ("config_controller.type", "hello"),
        ("config_controller.name", "ann"),
        ("config_controller.result", "ready"),
        ("config_controller.reason", ""),
        ("k8s.job.name", "hello-ann"),
        ("k8s.job.uid", uid),
    ] {
        assert_eq!(word(&start, name), value, "{name}");
    }
    let spans = collector.spans();
    let steps = children(&spans, &start);
    let names: Vec<&str> = steps.iter().map(|step| &*step.name).collect();
    assert_eq!(names[..2], ["admitting", "creating"]);
    assert_eq!(names.last(), Some(&"readying"));
    assert!(names.contains(&"scheduling"), "{names:?}");
    check_steps(&start, &steps);
    // The request waited for the start, and its span has that time in it.
    assert!(request.start_time_unix_nano <= start.start_time_unix_nano);
    assert!(request.end_time_unix_nano >= start.end_time_unix_nano);
    check_sender(&collector);
    // The call to Kubernetes carries it as well.
    let made = environment.kube.requests().into_iter();
    let mut made = made.filter(|asked| asked.verb == "create" && asked.resource == "jobs");
    let sent = made.next().expect("the Job was asked for").traceparent;
    assert_eq!(sent, format!("00-{TRACE}-{}-01", hex(&request.span_id)));
}

#[track_caller]
fn check_request(request: &Span) {
    assert_eq!(hex(&request.trace_id), TRACE);
    assert_eq!(hex(&request.parent_span_id), CALLER);
    assert_eq!(request.trace_state, "vendor=x");
    assert_eq!(request.kind(), SpanKind::Server);
    assert_eq!(code(request), StatusCode::Unset);
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/app/{type}/{name}"),
        ("http.response.status_code", "200"),
        ("url.path", "/app/hello/ann"),
        ("url.scheme", "http"),
        ("client.address", "127.0.0.1"),
        ("error.type", ""),
    ] {
        assert_eq!(word(request, name), value, "{name}");
    }
}

#[track_caller]
fn check_sender(collector: &Collector) {
    let head = collector.first_head();
    assert_eq!(head[0], "POST /v1/traces HTTP/1.1");
    assert_eq!(header(&head, "content-type"), "application/x-protobuf");
    assert_eq!(header(&head, "x-tenant"), "a b");
    let resource = collector.resource();
    for (name, value) in [
        ("service.name", "config-controller"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("deployment.environment.name", "test"),
        ("telemetry.sdk.name", "opentelemetry"),
    ] {
        assert_eq!(attribute(&resource, name), value, "{name}");
    }
    assert_ne!(attribute(&resource, "service.instance.id"), "");
}

#[test]
fn later_callers_are_links() {
    let collector = Collector::start(Mood::Takes);
    let environment = traced(TestEnvironment::builder(), &collector)
        .pod_script(crate::fake_kube::dynamics::pod_script::PodScript::by_hand())
        .start();
    let first = [("traceparent", &*format!("00-{TRACE}-{CALLER}-01"))];
    let second = [(
        "traceparent",
        &*format!("00-{OTHER_TRACE}-{OTHER_CALLER}-01"),
    )];
    let client = environment.client();
    let first = client.begin("GET", "/app/hello/ann", &first, "");
    environment.wait_pod("hello-ann");
    let mut later = vec![client.begin("GET", "/app/hello/ann", &second, "")];
    // More than there is room for, beyond the first.
    later.extend((0..40).map(|_| client.begin_get("/app/hello/ann")));
    eventually("all wait", || {
        let text = environment.get("/metrics").text;
        text.contains("config_controller_waiting_requests 42\n")
            .then_some(())
    });
    // One more takes its turn: all before it have joined then.
    environment.get_at_once("/app/hello/ann").expect(202);
    environment.make_ready("hello-ann");
    first.finish().expect(200);
    later
        .into_iter()
        .for_each(|waiting| drop(waiting.finish().expect(200)));

    let start = collector.wait("start");
    assert_eq!(hex(&start.trace_id), TRACE);
    assert_eq!(word(&start, "config_controller.joined"), "42");
    assert_eq!(start.links.len(), 32);
    let other = collector.wait_for("the second request", |span| {
        hex(&span.trace_id) == OTHER_TRACE
    });
    assert_eq!(hex(&other.parent_span_id), OTHER_CALLER);
    let mut links = start.links.iter();
    assert!(links.any(|link| link.span_id == other.span_id && link.trace_id == other.trace_id));
}

#[test]
fn a_failed_start_has_its_reason() {
    let collector = Collector::start(Mood::Takes);
    let environment = traced(TestEnvironment::builder(), &collector)
        .pod_script(crate::fake_kube::dynamics::pod_script::PodScript::by_hand())
        .start();
    let waiting = environment.client().begin_get("/app/hello/ann");
    let invalid = PodMove::Wait("InvalidImageName".into(), "no such name".into());
    for next in [PodMove::Schedule, PodMove::Mount, PodMove::Pull, invalid] {
        environment.move_pod("hello-ann", &next);
    }
    waiting.finish().expect(202);
    let start = collector.wait("start");
    assert_eq!(code(&start), StatusCode::Error);
    assert_eq!(word(&start, "config_controller.result"), "failed");
    assert_eq!(word(&start, "config_controller.reason"), "InvalidImageName");
    assert_eq!(word(&start, "error.type"), "InvalidImageName");
    let message = start.status.as_ref().map(|status| &*status.message);
    assert_eq!(message, Some("InvalidImageName"));
    assert!(start.events.iter().any(|event| event.name == "verdict"));

    let denial = Fault::Webhook("admission webhook \"w\" denied the request: no".to_owned());
    environment
        .kube
        .fault(FaultRule::new("create", "jobs", denial).times(1));
    environment
        .get("/app/hello/denied")
        .expect_error(403, "refused");
    let is_denied = |span: &Span| word(span, "config_controller.result") == "denied";
    let denied = collector.wait_for("the start that was denied", is_denied);
    assert_eq!(code(&denied), StatusCode::Error);
    let spans = collector.spans();
    let steps = children(&spans, &denied);
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].name, "admitting");
    check_steps(&denied, &steps);
    // An error of the caller is no failure of the service.
    let is_request = |span: &Span| span.span_id == denied.parent_span_id;
    let request = collector.wait_for("its request", is_request);
    assert_eq!(word(&request, "http.response.status_code"), "403");
    assert_eq!(code(&request), StatusCode::Unset);
}

#[test]
fn a_start_that_is_stopped_or_abandoned_is_reported() {
    let collector = Collector::start(Mood::Takes);
    let mut environment = traced(TestEnvironment::builder(), &collector)
        .pod_script(crate::fake_kube::dynamics::pod_script::PodScript::by_hand())
        .start();
    let stopped = environment.client().begin_get("/app/hello/stopped");
    environment.wait_pod("hello-stopped");
    environment.delete("/app/hello/stopped").expect(200);
    drop(stopped.finish());
    let result =
        |wanted: &'static str| move |span: &Span| word(span, "config_controller.result") == wanted;
    let start = collector.wait_for("the start that was stopped", result("stopped"));
    assert_eq!(code(&start), StatusCode::Unset);
    let left = environment.client().begin_get("/app/hello/left");
    environment.wait_pod("hello-left");
    // The response to its POST has arrived as well.
    let admitted = "config_controller_start_phase_duration_seconds_count{phase=\"admitting\"} 2";
    eventually("its Job is known", || {
        let metrics = environment.get("/metrics").text;
        metrics.contains(admitted).then_some(())
    });
    let service = environment.take_service();
    let ended = service.drain(
        std::time::Duration::ZERO,
        std::time::Duration::from_secs(60),
    );
    assert_eq!(ended, Ok(()));
    left.finish().expect(202);
    // The last spans have been sent when shutdown is complete.
    let spans = collector.spans();
    let left = spans.iter().find(|span| result("unknown")(span));
    let left = left.expect("a start that continues without us is reported");
    assert_eq!(word(left, "config_controller.reason"), "replica_ended");
}

#[test]
fn requests_without_a_good_parent_begin_a_trace() {
    let collector = Collector::start(Mood::Takes);
    let environment = traced(TestEnvironment::builder(), &collector).start();
    let good = format!("00-{TRACE}-{CALLER}-01");
    for (path, headers) in [
        ("/app/none", vec![]),
        ("/app/bad", vec![("traceparent", &*good.to_uppercase())]),
        (
            "/app/two",
            vec![("traceparent", &*good), ("Traceparent", &*good)],
        ),
        ("/app/good", vec![("traceparent", &*good)]),
    ] {
        environment
            .client()
            .begin("GET", path, &headers, "")
            .finish()
            .expect(200);
        let is_it = |span: &Span| word(span, "url.path") == path;
        let span = collector.wait_for(path, is_it);
        assert_eq!(span.name, "GET /app/{type}");
        let is_good = path == "/app/good";
        assert_eq!(hex(&span.trace_id) == TRACE, is_good, "{path}");
        assert_eq!(span.parent_span_id.is_empty(), !is_good, "{path}");
    }
}

#[test]
fn unsampled_and_untraced_requests_have_no_span() {
    let collector = Collector::start(Mood::Takes);
    let environment = traced(TestEnvironment::builder(), &collector).start();
    let unsampled = [("traceparent", &*format!("00-{TRACE}-{CALLER}-00"))];
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(environment.get(path).status, 200, "{path}");
    }
    environment
        .client()
        .begin("GET", "/app", &unsampled, "")
        .finish()
        .expect(200);
    let long = format!("/{}", "x".repeat(9_000));
    environment.client().begin("BREW", &long, &[], "").finish();
    let last = collector.wait("HTTP");
    assert_eq!(word(&last, "http.request.method"), "_OTHER");
    assert_eq!(word(&last, "http.response.status_code"), "404");
    assert_eq!(
        word(&last, "url.path").len(),
        config_controller::traces::PATH_BYTES_MAX
    );
    let spans = collector.spans();
    assert_eq!(spans.len(), 1, "{spans:?}");
}

#[test]
fn a_caller_that_hangs_up_ends_its_span() {
    let collector = Collector::start(Mood::Takes);
    let environment = traced(TestEnvironment::builder(), &collector)
        .pod_script(crate::fake_kube::dynamics::pod_script::PodScript::by_hand())
        .start();
    let waiting = environment.client().begin_get("/app/hello/ann");
    environment.wait_pod("hello-ann");
    drop(waiting);
    let request = collector.wait(GET);
    assert_eq!(word(&request, "error.type"), "caller_gone");
    assert_eq!(word(&request, "http.response.status_code"), "");
    assert_eq!(code(&request), StatusCode::Unset);
    // The start goes on, and is reported when it ends.
    environment.make_ready("hello-ann");
    let start = collector.wait("start");
    assert_eq!(start.parent_span_id, request.span_id);
    assert_eq!(word(&start, "config_controller.result"), "ready");
}

/// The value of the metric of spans.
fn spans_that(environment: &TestEnvironment, result: &str) -> f64 {
    let text = environment.get("/metrics").text;
    let name = format!("config_controller_spans_total{{result=\"{result}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.expect("the metric is there")
        .parse()
        .expect("a number")
}

#[test]
fn over_https_the_collectors_ca_decides() {
    let folder = TemporaryFolder::new();
    let (right, wrong) = (Tls::generate(), Tls::generate());
    let pem = |name: &str, tls: &Tls| folder.write(name, &tls.ca_pem).display().to_string();
    let (good, bad) = (pem("right", &right), pem("wrong", &wrong));
    let collector = Collector::secure(right);
    let with = |ca: &str| {
        traced(TestEnvironment::builder(), &collector).setting("OTEL_EXPORTER_OTLP_CERTIFICATE", ca)
    };
    let environment = with(&bad).start();
    environment.get("/app").expect(200);
    eventually("it is not sent", || {
        (spans_that(&environment, "failed") > 0.0).then_some(())
    });
    assert_eq!(collector.spans().len(), 0);
    let environment = with(&good).start();
    environment.get("/app").expect(200);
    collector.wait("GET /app");
    eventually("it is counted", || {
        (spans_that(&environment, "sent") == 1.0).then_some(())
    });
}

#[test]
fn a_partial_success_of_the_collector_is_counted() {
    let collector = Collector::start(Mood::TakesAllBut(1));
    let environment = traced(TestEnvironment::builder(), &collector).start();
    environment.get("/app").expect(200);
    eventually("it is counted", || {
        (spans_that(&environment, "failed") == 1.0).then_some(())
    });
    assert_eq!(spans_that(&environment, "sent"), 0.0);
}

#[test]
fn a_silent_collector_blocks_no_request_and_the_queue_is_bounded() {
    let collector = Collector::start(Mood::Silent);
    let environment = traced(TestEnvironment::builder(), &collector)
        .setting("OTEL_EXPORTER_OTLP_TIMEOUT", "600000")
        .setting("OTEL_BSP_EXPORT_TIMEOUT", "600000")
        .setting("OTEL_BSP_MAX_QUEUE_SIZE", "4")
        .setting("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
        .start();
    environment.get("/app").expect(200);
    eventually("the exporter waits", || {
        (collector.connections() == 1).then_some(())
    });
    for _ in 0..9 {
        environment.get("/app").expect(200);
    }
    // One is being sent, four wait.
    eventually("the others are dropped", || {
        (spans_that(&environment, "dropped") == 5.0).then_some(())
    });
    assert_eq!(
        spans_that(&environment, "sent") + spans_that(&environment, "failed"),
        0.0
    );
}

#[test]
fn shutdown_does_not_wait_for_a_silent_collector() {
    let environment = TestEnvironment::builder().unstarted().start();
    let collector = Collector::start(Mood::Silent);
    let settings = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*collector.endpoint()),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "600000"),
    ];
    let program = Program::start(&environment, &settings);
    program.client.get("/app").expect(200);
    let log_text = program.end();
    assert!(
        log_text.contains("failed to send the last spans"),
        "{log_text}"
    );
}

#[test]
fn shutdown_sends_queued_spans() {
    let environment = TestEnvironment::builder().unstarted().start();
    let collector = Collector::start(Mood::Takes);
    let settings = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*collector.endpoint()),
        ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
    ];
    let program = Program::start(&environment, &settings);
    program.client.get("/app").expect(200);
    assert_eq!(collector.connections(), 0);
    let log_text = program.end();
    let spans = collector.spans();
    assert_eq!(spans.len(), 1, "{log_text}");
    assert_eq!(spans[0].name, "GET /app");
}

#[test]
fn an_unreachable_collector_is_logged_once_and_so_is_its_return() {
    let environment = TestEnvironment::builder().unstarted().start();
    let collector = Collector::start(Mood::Refuses(503));
    let settings = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*collector.endpoint()),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
    ];
    let program = Program::start(&environment, &settings);
    let lost = |wanted: &str| {
        eventually("spans are lost", || {
            let text = program.client.get("/metrics").text;
            let line = format!("config_controller_spans_total{{result=\"failed\"}} {wanted}\n");
            text.contains(&line).then_some(())
        });
    };
    for count in ["1", "2", "3"] {
        program.client.get("/app").expect(200);
        lost(count);
    }
    collector.set_mood(Mood::Refuses(401));
    program.client.get("/app").expect(200);
    lost("4");
    collector.set_mood(Mood::Takes);
    program.client.get("/app").expect(200);
    collector.wait("GET /app");
    let log_text = program.end();
    let count = |words: &str| log_text.matches(words).count();
    assert_eq!(count("sending traces to"), 3, "{log_text}");
    assert_eq!(count(" failed ("), 2, "{log_text}");
    assert_eq!(count("(status 503"), 1, "{log_text}");
    assert_eq!(count("(status 401"), 1, "{log_text}");
    assert_eq!(count("works again"), 1, "{log_text}");
    assert!(log_text.contains("4 spans were lost"), "{log_text}");
}
