//! Streams of events over a real socket: of all instances, and of one start.

pub(crate) mod story;
mod webhook;
mod withdrawn;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use crate::fake_kube::dynamics::pod_script::{Exit, PodScript};
use crate::harness::{TEMPLATE, TEST_TIMEOUT, TemporaryFolder, TestEnvironment};
use story::{Story, StreamEvent};

/// A stream that is read by hand, as `curl -N` would.
pub(crate) struct EventReader {
    reader: BufReader<Box<dyn Read + Send + Sync>>,
    pub(crate) headers: Vec<(String, String)>,
}

impl EventReader {
    /// The response to a request for events, or its status where it is no stream.
    pub(crate) fn open(
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, (u16, String)> {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent: ureq::Agent = config.timeout_global(Some(TEST_TIMEOUT)).build().into();
        let mut request = agent.get(format!("http://{address}{path}"));
        for (name, value) in [("Accept", "text/event-stream")].iter().chain(headers) {
            request = request.header(*name, *value);
        }
        let mut response = request.call().expect("there is a response");
        let status = response.status().as_u16();
        let is_stream = response.headers().get("content-type");
        if is_stream.is_none_or(|it| it != "text/event-stream") {
            let text = response.body_mut().read_to_string().unwrap_or_default();
            return Err((status, text));
        }
        assert_eq!(status, 200);
        let named = response.headers().iter();
        let headers = named.map(|(name, value)| {
            (
                name.to_string(),
                value.to_str().unwrap_or_default().to_owned(),
            )
        });
        Ok(Self {
            headers: headers.collect(),
            reader: BufReader::new(Box::new(response.into_body().into_reader())),
        })
    }

    /// The next event; none at the end of the stream, also where it is cut.
    pub(crate) fn next(&mut self) -> Option<StreamEvent> {
        let mut lines = String::new();
        loop {
            let before = lines.len();
            if self.reader.read_line(&mut lines).unwrap_or_default() == 0 {
                return None;
            }
            if &lines[before..] == "\n" {
                if lines.contains("event: ") {
                    return Some(StreamEvent::of(&lines));
                }
                lines.clear();
            }
        }
    }

    /// The names of the events up to the first of these, and that one.
    pub(crate) fn until(&mut self, last: &str) -> (Vec<String>, StreamEvent) {
        let mut names = Vec::new();
        loop {
            let event = self
                .next()
                .unwrap_or_else(|| panic!("it ended after {names:?}"));
            names.push(event.name.clone());
            if event.name == last {
                return (names, event);
            }
        }
    }
}

fn open(environment: &TestEnvironment, path: &str) -> EventReader {
    EventReader::open(environment.address(0), path, &[]).expect("it is a stream")
}

fn refused(environment: &TestEnvironment, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    match EventReader::open(environment.address(0), path, headers) {
        Ok(_) => panic!("{path}: it is a stream"),
        Err(refused) => refused,
    }
}

#[test]
fn a_reader_is_told_the_life_of_an_instance_from_the_first_state_on() {
    let environment = TestEnvironment::new();
    let mut stream = open(&environment, "/instances");
    for (name, value) in [("cache-control", "no-store"), ("x-accel-buffering", "no")] {
        assert!(
            stream
                .headers
                .contains(&(name.to_owned(), value.to_owned()))
        );
    }
    let first = stream.next().expect("an event");
    assert_eq!(
        (&*first.name, &first.data),
        ("relist", &json!({"instances": []}))
    );
    environment.get("/app/hello/ann").expect(200);
    let (names, _) = stream.until("ready");
    assert_eq!(names[..2], ["requested", "created"], "{names:?}");
    assert!(
        names[2..names.len() - 1].iter().all(|it| it == "starting"),
        "{names:?}"
    );

    let first = open(&environment, "/instances").next().expect("an event");
    let known = &first.data["instances"];
    assert_eq!(known.as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&known[0]["name"], &known[0]["status"]),
        (&"ann".into(), &"ready".into())
    );

    environment.delete("/app/hello/ann").expect(200);
    let (names, gone) = stream.until("gone");
    // Its pod may be seen to go before its Job is.
    assert_eq!(names[names.len() - 2..], ["stopping", "gone"], "{names:?}");
    assert_eq!(gone.data["uid"], known[0]["uid"]);
}

#[test]
fn a_stream_is_resumed_after_the_last_event_or_begins_anew() {
    let environment = TestEnvironment::new();
    let mut stream = open(&environment, "/instances");
    let first = stream.next().expect("an event");
    drop(stream);
    environment.get("/app/hello/ann").expect(200);
    let resume = |id: &str| {
        let headers = [("Last-Event-ID", id)];
        let stream = EventReader::open(environment.address(0), "/instances", &headers);
        let mut stream = stream.expect("it is a stream");
        stream.next().expect("an event")
    };
    let next = resume(&first.id);
    assert_eq!(next.name, "requested");
    // Of another replica, or of this one before it was restarted.
    for id in ["other.1.7", "", "x"] {
        assert_eq!(resume(id).name, "relist", "{id}");
    }
}

#[test]
fn a_selection_is_told_of_its_instances_only() {
    let environment = TestEnvironment::builder()
        .template("other", TEMPLATE)
        .start();
    let mut of_type = open(&environment, "/instances?type=other");
    let mut of_label = open(&environment, "/instances?label=team=a");
    for app_type in ["hello", "other"] {
        environment.get(&format!("/app/{app_type}/ann")).expect(200);
    }
    environment.delete("/app/other/ann").expect(200);
    let (names, _) = of_type.until("gone");
    assert_eq!(names[..3], ["relist", "requested", "created"], "{names:?}");
    // Whatever labels it had, its end is told.
    let (names, gone) = of_label.until("gone");
    assert_eq!(names, ["relist", "gone"]);
    assert_eq!(gone.data["type"], "other");
    let (status, text) = refused(&environment, "/instances?colour=red", &[]);
    assert_eq!(status, 422, "{text}");
    assert!(text.contains("colour"), "{text}");
}

/// So a reader knows what is no longer among its instances, also where another replica has changed it.
#[test]
fn other_labels_are_told_to_those_who_asked_for_these_or_for_those_before() {
    let mut environment = TestEnvironment::new();
    let other = environment.add_replica();
    environment.start_instance("/app/hello/ann");
    let label = |team: &str| {
        let body = json!({ "team": team });
        environment.patch("/app/hello/ann", &body).expect(200);
    };
    let [mut all, mut of_a, mut of_b] = ["", "?label=team=a", "?label=team=b"].map(|query| {
        let path = format!("/instances{query}");
        let stream = EventReader::open(environment.address(other), &path, &[]);
        let mut stream = stream.expect("it is a stream");
        assert_eq!(stream.next().expect("an event").name, "relist");
        stream
    });
    let told = |team: &str, readers: &mut [&mut EventReader]| {
        label(team);
        for reader in readers {
            // The replica may still be behind with the start.
            let (_, labelled) = reader.until("labelled");
            assert_eq!(labelled.data["labels"], json!({ "team": team }));
        }
    };
    told("a", &mut [&mut all, &mut of_a]);
    told("b", &mut [&mut all, &mut of_a, &mut of_b]);
}

#[test]
fn a_start_is_followed_to_its_end() {
    let environment = TestEnvironment::by_hand();
    let mut stream = open(&environment, "/app/hello/ann");
    let (names, _) = stream.until("starting");
    assert_eq!(names, ["created", "starting"]);
    environment.make_ready("hello-ann");
    let (_, ready) = stream.until("ready");
    assert!(ready.data["ip"].is_string(), "as in the 200: {ready:?}");
    assert!(stream.next().is_none(), "it ends");
    // One that is ready already.
    let (names, again) = open(&environment, "/app/hello/ann").until("ready");
    assert_eq!((names.len(), again.data), (1, ready.data));
    // An EventSource comes back, and is told not to.
    let headers = [("Last-Event-ID", &*ready.id)];
    assert_eq!(refused(&environment, "/app/hello/ann", &headers).0, 204);
}

#[test]
fn who_comes_later_is_told_the_story_so_far() {
    let environment = TestEnvironment::by_hand();
    let mut first = open(&environment, "/app/hello/ann");
    let (names, _) = first.until("starting");
    let mut second = open(&environment, "/app/hello/ann");
    let (again, _) = second.until("starting");
    assert_eq!(names[0], "created");
    assert_eq!(again, names);
    environment.make_ready("hello-ann");
    let (first, second) = (first.until("ready").0, second.until("ready").0);
    assert_eq!(first, second);
}

#[test]
fn a_start_that_fails_ends_with_why() {
    let script = PodScript {
        exit: Some(Exit::at_once(3)),
        ..PodScript::default()
    };
    let environment = TestEnvironment::builder().pod_script(script).start();
    let mut stream = open(&environment, "/app/hello/ann");
    let (_, failed) = stream.until("failed");
    assert_eq!(failed.data["status"], "app_error", "as in the 202");
    assert_eq!(failed.data["exitCode"], 3);
    assert!(stream.next().is_none(), "it ends");
}

#[test]
fn how_an_instance_had_started_that_is_being_stopped_is_no_part_of_the_next_start() {
    let lingers = PodScript {
        lingers: true,
        ..PodScript::default()
    };
    let environment = TestEnvironment::builder().pod_script(lingers).start();
    environment.start_instance("/app/hello/ann");
    environment.delete("/app/hello/ann").expect(200);
    let first = open(&environment, "/app/hello/ann").next();
    assert_eq!(first.expect("an event").name, "stopping");
}

#[test]
fn what_is_known_before_the_start_is_an_ordinary_error() {
    let environment = TestEnvironment::new();
    for (path, status) in [("/app/nope/ann", 404), ("/app/hello/..", 422)] {
        assert_eq!(refused(&environment, path, &[]).0, status, "{path}");
    }
    // For a proxy the 200 of a stream would be a yes.
    let headers = [("Prefer", "strict, wait=0")];
    assert_eq!(refused(&environment, "/app/hello/bob", &headers).0, 503);
    environment.delete("/app/hello/bob").expect(200);
    environment.wait_no_jobs();
    // It finds nothing, and starts nothing.
    let headers = [("Prefer", "create=false")];
    assert_eq!(refused(&environment, "/app/hello/ann", &headers).0, 404);
    let headers = [("Last-Event-ID", "r.1.7")];
    assert_eq!(refused(&environment, "/app/hello/ann", &headers).0, 204);
    assert!(environment.jobs().is_empty());
}

#[test]
fn a_start_that_takes_too_long_ends_with_waiting_and_is_followed_on() {
    let environment = TestEnvironment::by_hand();
    let headers = [("Prefer", "wait=1")];
    let stream = EventReader::open(environment.address(0), "/app/hello/ann", &headers);
    let mut stream = stream.expect("it is a stream");
    let (_, waiting) = stream.until("waiting");
    assert!(waiting.data["phase"].is_string(), "{waiting:?}");
    assert!(stream.next().is_none(), "it ends");
    let headers = [("Last-Event-ID", &*waiting.id)];
    let stream = EventReader::open(environment.address(0), "/app/hello/ann", &headers);
    let mut stream = stream.expect("it is a stream");
    environment.make_ready("hello-ann");
    stream.until("ready");
}

#[test]
fn a_caller_reads_events_of_its_types_only() {
    let folder = TemporaryFolder::new();
    let (all, one) = ("all-0123456789abcdef", "one-0123456789abcdef");
    let file = folder.write("tokens", &format!("{all} all\n{one} one hello\n"));
    let environment = TestEnvironment::builder()
        .template("other", TEMPLATE)
        .setting("AUTH", "token")
        .setting("AUTH_TOKENS_FILE", &file.display().to_string())
        .start();
    let bearers = [all, one].map(|token| format!("Bearer {token}"));
    let [all, one] = bearers
        .each_ref()
        .map(|bearer| [("Authorization", bearer.as_str())]);
    let open = |path: &str, headers| EventReader::open(environment.address(0), path, headers);
    assert_eq!(open("/instances", &[]).err().map(|it| it.0), Some(401));
    let refused = open("/instances?type=other", &one).err();
    assert_eq!(refused.map(|it| it.0), Some(403));
    let mut stream = open("/instances", &one).expect("it is a stream");
    stream.next();
    for app_type in ["other", "hello"] {
        let mut start = open(&format!("/app/{app_type}/ann"), &all).expect("it is a stream");
        start.until("ready");
    }
    let (_, ready) = stream.until("ready");
    assert_eq!(
        ready.data["type"], "hello",
        "and nothing of the other came before"
    );
}

/// What its readers know is of no use to another replica: they begin anew there.
#[test]
fn streams_end_with_their_replica() {
    let mut environment = TestEnvironment::by_hand();
    let mut all = open(&environment, "/instances");
    all.next();
    let mut one = open(&environment, "/app/hello/ann");
    one.until("created");
    let service = environment.take_service();
    let ending = std::thread::spawn(move || service.drain(Duration::ZERO, TEST_TIMEOUT));
    while all.next().is_some() {}
    one.until("waiting");
    assert!(one.next().is_none(), "it ends");
    ending
        .join()
        .expect("the draining thread ends")
        .expect("it ends");
}

/// How many streams each replica has in the storm.
pub(crate) const STREAMS: usize = 100;

/// Reads a stream until no Job is left, or until its replica ends; what it was told.
fn read_all(mut stream: EventReader) -> Story {
    let mut story = Story::default();
    story.relist(&stream.next().expect("an event"));
    while let Some(event) = stream.next() {
        let is_last = event.data["name"] == "last" && event.name == "gone";
        story
            .tell(event, false)
            .unwrap_or_else(|message| panic!("{message}"));
        if is_last {
            break;
        }
    }
    story
}

/// Readers of that many streams of each replica.
pub(crate) fn read_each(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<JoinHandle<Story>> {
    let addresses = addresses.into_iter();
    let each = addresses.flat_map(|address| std::iter::repeat_n(address, STREAMS));
    let open = each.map(|address| EventReader::open(address, "/instances", &[]));
    open.map(|stream| stream.expect("it is a stream"))
        .map(|stream| std::thread::spawn(move || read_all(stream)))
        .collect()
}

/// How many readers were told the end of so many Jobs, and of each that they knew. The first replica has ended.
#[track_caller]
pub(crate) fn ends_told(readers: Vec<JoinHandle<Story>>) -> BTreeMap<usize, usize> {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for (at, reader) in readers.into_iter().enumerate() {
        let story = reader.join().expect("it is told what can be true");
        if at >= STREAMS {
            assert_eq!(story.there().next(), None, "no end is missing");
            *counts.entry(story.gone()).or_default() += 1;
        }
    }
    assert_eq!(counts.values().sum::<usize>(), 2 * STREAMS);
    counts
}

/// Each stream of a replica that stays is told each step once, in causal order, and the end of each Job.
#[test]
fn a_storm_is_told_truly_to_all_readers_of_each_replica() {
    let mut environment = TestEnvironment::new();
    environment.add_replica();
    environment.add_replica();
    let readers = read_each((0..3).map(|number| environment.address(number)));
    let clients: Vec<_> = (1..3).map(|number| environment.replica(number)).collect();
    let callers = (0..4).map(|caller| {
        let clients = [clients[caller % 2], clients[(caller + 1) % 2]];
        std::thread::spawn(move || {
            for round in 0..5 {
                let path = format!("/app/hello/n{caller}-{round}");
                clients[0].get(&path).expect(200);
                clients[1].get(&path).expect(200);
                clients[round % 2].delete(&path).expect(200);
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    let service = environment.take_service();
    service
        .drain(Duration::ZERO, Duration::from_secs(1))
        .expect("the first replica ends");
    for caller in callers {
        caller.join().expect("all are served");
    }
    environment.wait_no_jobs();
    clients[0].get("/app/hello/last").expect(200);
    clients[0].delete("/app/hello/last").expect(200);
    let counts = ends_told(readers);
    assert!(
        *counts.keys().next().expect("there are some") >= 10,
        "{counts:?}"
    );
}
