//! Each metric of the table beside what moves it. One that is added to the table alone fails here.

use std::any::Any;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use config_controller::metrics::{self, ALL, Family};
use serde_json::json;

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::cluster::write::Part;
use crate::fake_kube::dynamics::pod_script::{Exit, PodScript};
use crate::harness::{Connection, NAMESPACE, TestEnvironment, eventually, repository};
use crate::streams::EventReader;

/// What a story leaves open until its metric was looked at again.
type Held = Box<dyn Any>;

/// What happens on a service that was just started.
type Story = fn(&mut TestEnvironment) -> Held;

/// What a value must be.
type Value = fn(&TestEnvironment) -> f64;

/// How a metric is checked.
enum Proof {
    /// It does not move: its value is this.
    Is(Value),
    /// This changes one of its samples.
    Moves(Story),
    /// The same, where each pod fails before it is ready.
    MovesByFailure(Story),
    /// What moves it cannot be had from outside: a test of that file and name does it.
    Within(&'static str, &'static str),
}

use Proof::{Is, Moves, MovesByFailure, Within};

const PROOFS: &[(&Family, Proof)] = &[
    (&metrics::HTTP_REQUESTS, Moves(ask)),
    (&metrics::HTTP_REQUEST_DURATION, Moves(ask)),
    (&metrics::STARTS, Moves(start)),
    (&metrics::START_REASONS, MovesByFailure(fail)),
    (&metrics::START_DURATION, Moves(start)),
    (&metrics::START_PHASE_DURATION, Moves(start)),
    (&metrics::TIME_TO_VERDICT, MovesByFailure(fail)),
    (&metrics::STOPS, Moves(stop)),
    (
        &metrics::USE_REPORTS,
        Within("tests/it/idle/faults.rs", "reports_of_uses_are_counted"),
    ),
    (&metrics::USAGE_INSTANCES, Moves(stop)),
    (&metrics::USAGE_READY, Moves(stop)),
    (
        &metrics::STARTS_REFUSED,
        Within(
            "tests/it/caps.rs",
            "of_100_callers_exactly_20_get_an_instance",
        ),
    ),
    (
        &metrics::STARTS_QUEUED,
        Within("tests/it/start_queue.rs", "callers_that_go_leave_the_queue"),
    ),
    (
        &metrics::STARTS_IN_PROGRESS,
        Within("tests/it/start_queue.rs", "callers_that_go_leave_the_queue"),
    ),
    (&metrics::INSTANCES, Moves(start)),
    (&metrics::INSTANCE_BYTES, Moves(start)),
    (
        &metrics::INSTANCE_BYTES_MAX,
        Within(
            "src/scrape.rs",
            "connections_lower_the_memory_for_instances",
        ),
    ),
    (&metrics::LABEL_BYTES, Moves(label)),
    (&metrics::WAITING_REQUESTS, MovesByFailure(wait)),
    (&metrics::STREAMS, Moves(stream)),
    (&metrics::ABANDONED, MovesByFailure(hang_up)),
    (&metrics::CONNECTIONS, Moves(connect)),
    (&metrics::CONNECTIONS_ACCEPTED, Moves(connect)),
    (&metrics::CONNECTIONS_CLOSED, Moves(fall_silent)),
    (&metrics::REJECTED, Moves(send_rubbish)),
    (
        &metrics::PANICS,
        Within("src/scrape.rs", "a_panic_is_counted"),
    ),
    (&metrics::HELD_BYTES, Moves(send_half_a_body)),
    (&metrics::HELD_BYTES_MAX, Is(|_| 25_165_824.0)),
    (
        &metrics::LOG_LEFT_OUT,
        Within(
            "src/logging.rs",
            "lines_that_are_left_out_are_counted_by_level",
        ),
    ),
    (&metrics::PLACES_HELD, MovesByFailure(wait)),
    (&metrics::PLACES_HELD_MAX, Is(|_| 4000.0)),
    (&metrics::HTTP_THREADS, Is(|_| 2.0)),
    (&metrics::KUBE_REQUESTS, Moves(start)),
    (&metrics::KUBE_REQUEST_DURATION, Moves(start)),
    (&metrics::WATCH_EVENTS, Moves(start)),
    (&metrics::WATCH_RESTARTS, Moves(cut_watches)),
    (
        &metrics::VIEW_RELISTED,
        Within(
            "tests/it/healing.rs",
            "replicas_notice_a_restored_etcd_when_the_api_server_was_restarted",
        ),
    ),
    (
        &metrics::VIEW_DIFFERENCES,
        Within(
            "tests/it/healing.rs",
            "lost_events_are_made_up_for_by_a_list_every_interval",
        ),
    ),
    (&metrics::WATCH_SKIPPED, Moves(write_an_undecodable_object)),
    (
        &metrics::LABELS_LEFT_OUT,
        Within(
            "tests/it/stored.rs",
            "labels_of_other_clients_are_kept_up_to_the_bound",
        ),
    ),
    (
        &metrics::CONFIG_MAPS_LEFT_OUT,
        Within(
            "tests/it/stored.rs",
            "templates_are_kept_by_name_up_to_the_bound",
        ),
    ),
    (&metrics::VIEW_AGE, Moves(cut_off)),
    (
        &metrics::SPANS,
        Within(
            "tests/it/traces/spans.rs",
            "an_unreachable_collector_is_logged_once_and_so_is_its_return",
        ),
    ),
    (
        &metrics::CLOCK_OFFSET,
        Within("tests/it/clocks.rs", "the_offset_of_the_clock_is_measured"),
    ),
    (&metrics::TEMPLATE_VALID, Moves(break_template)),
    (&metrics::TEMPLATE_WARNINGS, Moves(misspell_template)),
    (&metrics::BUILD_INFO, Is(|_| 1.0)),
    (&metrics::PROCESS_CPU, Moves(pass_time)),
    (&metrics::PROCESS_RESIDENT, Moves(take_memory)),
    (&metrics::PROCESS_VIRTUAL, Moves(take_memory)),
    (&metrics::PROCESS_FDS, Moves(connect)),
    (&metrics::PROCESS_FDS_MAX, Is(|_| open_files_max())),
    (&metrics::PROCESS_THREADS, Moves(begin_thread)),
    (&metrics::PROCESS_START, Is(|_| process_start())),
];

fn nothing() -> Held {
    Box::new(())
}

fn ask(environment: &mut TestEnvironment) -> Held {
    environment.get("/info").expect(200);
    nothing()
}

fn start(environment: &mut TestEnvironment) -> Held {
    environment.start_instance("/app/hello/ann");
    nothing()
}

fn label(environment: &mut TestEnvironment) -> Held {
    start(environment);
    let labels = json!({"username": "ann"});
    environment.patch("/app/hello/ann", &labels).expect(200);
    nothing()
}

fn stop(environment: &mut TestEnvironment) -> Held {
    environment.start_instance("/app/hello/ann");
    environment.delete("/app/hello/ann").expect(200);
    nothing()
}

fn fail(environment: &mut TestEnvironment) -> Held {
    environment.get("/app/hello/ann").expect(202);
    nothing()
}

fn wait(environment: &mut TestEnvironment) -> Held {
    environment.kube.set_auto(false);
    let waiting = environment.client().begin_get("/app/hello/ann");
    environment.wait_job("hello-ann");
    Box::new(waiting)
}

fn stream(environment: &mut TestEnvironment) -> Held {
    let stream = EventReader::open(environment.address(0), "/instances", &[]);
    Box::new(stream.unwrap_or_else(|refused| panic!("{refused:?}")))
}

fn hang_up(environment: &mut TestEnvironment) -> Held {
    drop(wait(environment));
    nothing()
}

/// More concurrent requests than a scrape or two.
fn connect(environment: &mut TestEnvironment) -> Held {
    let connections = [(); 16].map(|()| Connection::open(environment.address(0)));
    Box::new(connections.map(|opened| opened.expect("the service takes a connection")))
}

fn fall_silent(environment: &mut TestEnvironment) -> Held {
    let connections = connect(environment);
    // Longer than IDLE_TIMEOUT.
    environment.advance(Duration::from_secs(80));
    connections
}

fn send_rubbish(environment: &mut TestEnvironment) -> Held {
    environment
        .client()
        .begin("GET", "/ a", &[], "")
        .finish()
        .expect(400);
    nothing()
}

fn send_half_a_body(environment: &mut TestEnvironment) -> Held {
    let mut connection = Connection::open(environment.address(0)).expect("it takes a connection");
    let headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", "60000"),
    ];
    let sent = connection.send("PATCH", "/app/hello/ann", &headers, "");
    sent.and_then(|()| connection.write(&[b' '; 30_000]))
        .expect("it reads");
    Box::new(connection)
}

fn cut_watches(environment: &mut TestEnvironment) -> Held {
    environment.count_from_here();
    environment.kube.cut_connections();
    nothing()
}

fn write_an_undecodable_object(environment: &mut TestEnvironment) -> Held {
    environment.start_instance("/app/hello/ann");
    let name = environment.wait_pod("hello-ann");
    let pod = environment.kube.get(Resource::Pods, NAMESPACE, &name);
    let mut pod = pod.expect("it was just there").as_ref().clone();
    pod["status"]["podIP"] = json!("somewhere");
    let key = (Resource::Pods, NAMESPACE.to_owned(), name);
    let written = environment
        .kube
        .with(|model| model.cluster.update(&key, pod, Part::Status, false));
    written.expect("the fake looks at no address");
    nothing()
}

fn cut_off(environment: &mut TestEnvironment) -> Held {
    environment.kube.stop_listening();
    environment.advance(Duration::from_secs(30));
    nothing()
}

fn break_template(environment: &mut TestEnvironment) -> Held {
    crate::harness::apply_templates(
        &environment.kube,
        "templates",
        &[("hello", "spec: [")],
        json!({}),
    );
    nothing()
}

fn misspell_template(environment: &mut TestEnvironment) -> Held {
    let text = crate::harness::TEMPLATE.replace("image:", "recources: {}\n    image:");
    let types = [("hello", text.as_str())];
    crate::harness::apply_templates(&environment.kube, "templates", &types, json!({}));
    nothing()
}

/// Numbers of the process are found out at most once a second.
fn pass_time(environment: &mut TestEnvironment) -> Held {
    environment.advance(Duration::from_secs(2));
    nothing()
}

fn take_memory(environment: &mut TestEnvironment) -> Held {
    environment.advance(Duration::from_secs(2));
    Box::new(vec![1_u8; 64 << 20])
}

fn begin_thread(environment: &mut TestEnvironment) -> Held {
    environment.advance(Duration::from_secs(2));
    let (end, ended) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || ended.recv());
    Box::new(end)
}

fn open_files_max() -> f64 {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("Linux reports limits");
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    soft.expect("there is a limit")
        .parse()
        .expect("it is a number")
}

/// By another way than the service takes: how old the process is, and what time it is.
fn process_start() -> f64 {
    let read = |path: &str| std::fs::read_to_string(path).expect("Linux reports it");
    let uptime = read("/proc/uptime");
    let uptime = uptime
        .split(' ')
        .next()
        .and_then(|secs| secs.parse::<f64>().ok());
    let stat = read("/proc/self/stat");
    // The twentieth field behind the name of the program, in hundredths of a second.
    let (_, fields) = stat.rsplit_once(") ").expect("the name is in parentheses");
    let began = fields
        .split(' ')
        .nth(19)
        .and_then(|ticks| ticks.parse::<f64>().ok());
    let age = uptime.expect("a number") - began.expect("a number") / 100.0;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("it is after 1970").as_secs_f64() - age
}

/// All samples of a metric.
fn samples(environment: &TestEnvironment, family: &Family) -> Vec<String> {
    let text = environment.get("/metrics").text;
    let own = |line: &&str| {
        let rest = line.strip_prefix(family.name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ', '_']))
    };
    text.lines().filter(own).map(str::to_owned).collect()
}

fn check_moves(family: &Family, pod_script: PodScript, story: Story) {
    let mut environment = TestEnvironment::builder().pod_script(pod_script).start();
    let before = samples(&environment, family);
    let held = story(&mut environment);
    eventually(family.name, || {
        // What is expensive to compute is cached for a second.
        environment.advance(Duration::from_millis(100));
        (samples(&environment, family) != before).then_some(())
    });
    drop(held);
}

/// Expects this single sample. One part in a thousand million may be missing: nothing of a count,
/// two seconds of a time, since the kernel reports its own start in whole seconds.
fn check_is(family: &Family, value: Value) {
    let environment = TestEnvironment::new();
    let all = samples(&environment, family);
    let [sample] = all.as_slice() else {
        panic!("{}: one sample, not {all:?}", family.name);
    };
    let number = sample.rsplit(' ').next().expect("a sample has a value");
    let number: f64 = number.parse().expect("a value is a number");
    let wanted = value(&environment);
    let missing = (number - wanted).abs();
    assert!(missing <= wanted * 1e-9, "{sample}, and not {wanted}");
}

#[test]
fn every_metric_of_the_table_moves() {
    let exit = Exit::at_once(3);
    for (family, proof) in PROOFS {
        match proof {
            Is(value) => check_is(family, *value),
            Moves(story) => check_moves(family, PodScript::default(), *story),
            MovesByFailure(story) => {
                let pod_script = PodScript {
                    exit: Some(exit.clone()),
                    never_ready: true,
                    ..PodScript::default()
                };
                check_moves(family, pod_script, *story);
            }
            Within(file, test) => {
                let text = std::fs::read_to_string(repository().join(file)).expect("the file");
                let lines: Vec<&str> = text.lines().map(str::trim).collect();
                let begin = format!("fn {test}() {{");
                let found = lines.windows(2).any(|two| two == ["#[test]", &begin]);
                assert!(found, "{file} has no test {test}");
                assert!(
                    text.contains(family.name),
                    "{file} does not look at {}",
                    family.name
                );
            }
        }
    }
    let proven: BTreeSet<&str> = PROOFS.iter().map(|(family, _)| family.name).collect();
    let all: BTreeSet<&str> = ALL.iter().map(|family| family.name).collect();
    assert_eq!(proven, all, "each metric has a proof");
}
