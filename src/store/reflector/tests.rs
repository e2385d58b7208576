//! The thread with a scripted transport: lists, successive watches, shutdown.

use super::*;
use crate::clock::SystemClock;
use crate::kube::Error;
use crate::kube::request::Request;
use crate::kube::transport::{Cut, Response, Transport};
use crate::kube::types::{CONFIG_MAPS, ConfigMap, META_LABEL, Pod};
use crate::store::store;
use serde_json::json;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Lists one object, `a`; each watch returns what the test sends to it.
#[derive(Debug)]
struct Scripted {
    /// Version of the list, which the test may set back.
    version: AtomicU64,
    watches: Mutex<Receiver<Receiver<Vec<u8>>>>,
    requests: Mutex<Vec<String>>,
}

/// A piece that stands for a read in vain.
const IDLE: &[u8] = b"idle";

#[derive(Debug)]
struct Pieces(Receiver<Vec<u8>>);

impl EventStream for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        // The end of the channel is the regular end of the watch.
        let Ok(piece) = self.0.recv() else {
            return Ok(0);
        };
        match &*piece {
            b"" => return Err(Failure::Lost("reset".into())),
            IDLE => return Err(Failure::TimedOut("idle".into())),
            _ => {}
        }
        buffer[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

impl Transport for Scripted {
    fn send(&self, request: &Request) -> Result<Response, Error> {
        self.requests
            .lock()
            .unwrap()
            .push(request.path_and_query.clone());
        if let Some((_, name)) = request.path_and_query.split_once("/configmaps/") {
            let (uid, version) = if name == "a" {
                ("1", "5")
            } else {
                (name, "11")
            };
            let metadata = json!({"name": name, "uid": uid, "resourceVersion": version});
            return Ok(Response {
                status: 200,
                body: json!({"metadata": metadata}).to_string().into(),
                ..Response::default()
            });
        }
        let body = json!({
            "metadata": {"resourceVersion": self.version.load(Ordering::SeqCst).to_string()},
            "items": [{"metadata": {"name": "a", "uid": "1", "resourceVersion": "5"}}],
        });
        Ok(Response {
            status: 200,
            body: body.to_string().into(),
            ..Response::default()
        })
    }

    fn open(&self, request: &Request) -> Result<Box<dyn EventStream>, Error> {
        self.requests
            .lock()
            .unwrap()
            .push(request.path_and_query.clone());
        match self.watches.lock().unwrap().recv() {
            Ok(pieces) => Ok(Box::new(Pieces(pieces))),
            Err(_) => Err(request.error(Failure::Connect("over".into()))),
        }
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

struct Harness {
    stats: Arc<WatchStats>,
    thread: JoinHandle<()>,
    deaths: Receiver<String>,
    store: store::Store<ConfigMap>,
    changes: Receiver<usize>,
    watches: Sender<Receiver<Vec<u8>>>,
    transport: Arc<Scripted>,
    doubts: Doubts,
    stop: Stop,
}

const TEST_TIMEOUT: Duration = Duration::from_secs(10);

impl Harness {
    fn new() -> Self {
        let (watches, watch_receiver) = channel();
        let (change_sender, changes) = channel();
        let transport = Arc::new(Scripted {
            version: AtomicU64::new(10),
            watches: Mutex::new(watch_receiver),
            requests: Mutex::default(),
        });
        let (writer, store) = store::new(SystemClock.now());
        let (stop, doubts) = (Stop::new(), Doubts::default());
        let (death_sender, deaths) = channel();
        let reflector = Reflector {
            client: Client::new(transport.clone(), "apps"),
            scope: Scope::all("apps"),
            writer,
            clock: Arc::new(SystemClock),
            stop: stop.clone(),
            poll: Duration::from_secs(2),
            relist: Some(Duration::from_secs(900)),
            doubts: doubts.clone(),
            loss: None,
            seed: 1,
            heartbeats: Heartbeats::default(),
            on_change: Box::new(move |changes: &[Change<ConfigMap>]| {
                for change in changes {
                    assert_ne!(&*change.object().metadata.name, "panic");
                }
                change_sender.send(changes.len()).unwrap();
            }),
            on_death: Arc::new(move |cause| death_sender.send(cause.to_owned()).unwrap()),
        };
        let (stats, thread) = reflector.spawn().unwrap();
        Self {
            stats,
            thread,
            deaths,
            store,
            changes,
            watches,
            transport,
            doubts,
            stop,
        }
    }

    /// Opens the next watch; what is sent is read, an empty piece breaks it, [`IDLE`] times out.
    fn open(&self) -> Sender<Vec<u8>> {
        let (sender, receiver) = channel();
        self.watches.send(receiver).unwrap();
        sender
    }

    #[track_caller]
    fn changed(&self, expected: usize) {
        assert_eq!(self.changes.recv_timeout(TEST_TIMEOUT), Ok(expected));
    }
}

fn added(name: &str, version: &str) -> Vec<u8> {
    let object = json!({"metadata": {"name": name, "uid": name, "resourceVersion": version}});
    format!("{}\n", json!({"type": "ADDED", "object": object})).into()
}

#[test]
fn it_lists_watches_resumes_and_ends() {
    let harness = Harness::new();
    harness.changed(1);
    assert!(harness.store.is_synced());
    let watch = harness.open();
    let line = added("b", "11");
    watch.send(line[..9].to_vec()).unwrap();
    watch.send(line[9..].to_vec()).unwrap();
    harness.changed(1);
    assert_eq!(harness.store.count(), 2);
    assert_eq!(harness.stats.events(), 1);
    watch.send(IDLE.to_vec()).unwrap();
    harness.transport.version.store(11, Ordering::SeqCst);
    watch.send(Vec::new()).unwrap();
    let watch = harness.open();
    watch.send(added("c", "12")).unwrap();
    harness.changed(1);
    assert_eq!(harness.stats.restarts(Cause::Lost), 1);
    assert_eq!(harness.store.age(SystemClock.now()), Duration::ZERO);
    let requests = harness.transport.requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 6, "{requests:?}");
    assert!(requests[1].ends_with("&resourceVersion=10"), "{requests:?}");
    assert!(requests[2].ends_with("configmaps?limit=1"), "{requests:?}");
    assert!(requests[3].ends_with("&resourceVersion=11"), "{requests:?}");
    // The newest object is read, and the next by name.
    assert!(requests[4].ends_with("/configmaps/b"), "{requests:?}");
    assert!(requests[5].ends_with("/configmaps/a"), "{requests:?}");
    assert_eq!(harness.stats.resource(), CONFIG_MAPS.plural);

    assert_eq!(harness.deaths.try_recv().ok(), None);
    harness.stop.set();
    drop((watch, harness.watches));
    harness.thread.join().unwrap();
}

/// etcd was restored from an older backup: a watch would be open at a version that does not exist yet.
#[test]
fn after_a_lost_watch_a_list_shows_the_objects_a_restored_etcd_has_lost() {
    let harness = Harness::new();
    harness.changed(1);
    let watch = harness.open();
    watch.send(added("lost", "700")).unwrap();
    harness.changed(1);
    harness.transport.version.store(7, Ordering::SeqCst);
    watch.send(Vec::new()).unwrap();
    harness.changed(1);
    assert_eq!(harness.store.count(), 1);
    assert!(harness.store.get("lost").is_none());
    let watch = harness.open();
    watch.send(added("new", "8")).unwrap();
    harness.changed(1);
    let requests = harness.transport.requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 5, "{requests:?}");
    assert!(requests[2].ends_with("configmaps?limit=1"), "{requests:?}");
    assert!(requests[4].ends_with("&resourceVersion=7"), "{requests:?}");
    assert_eq!(harness.stats.restarts(Cause::WentBack), 1);
    assert_eq!(harness.stats.relisted(Cause::WentBack), 1);
    assert_eq!(harness.stats.differences(), 0);
    harness.stop.set();
    drop((watch, harness.watches));
    harness.thread.join().unwrap();
}

/// There are so many new writes that the newest version shows nothing.
#[test]
fn after_a_call_has_shown_that_versions_went_back_a_list_follows_at_once() {
    let harness = Harness::new();
    harness.changed(1);
    let watch = harness.open();
    watch.send(added("lost", "700")).unwrap();
    harness.changed(1);
    harness.transport.version.store(900, Ordering::SeqCst);
    harness.doubts.compare(&"lost", &"8".into(), &"700".into());
    watch.send(IDLE.to_vec()).unwrap();
    harness.changed(1);
    assert!(harness.store.get("lost").is_none());
    let requests = harness.transport.requests.lock().unwrap().clone();
    let list = "/api/v1/namespaces/apps/configmaps?limit=100";
    assert_eq!(requests[2], list, "{requests:?}");
    assert_eq!(harness.stats.relisted(Cause::WentBack), 1);
    // The other reflectors know it already.
    assert_eq!(harness.doubts.count(), 1);
    harness.stop.set();
    drop((watch, harness.watches));
    harness.thread.join().unwrap();
}

#[test]
fn an_undecodable_line_starts_a_new_list() {
    let harness = Harness::new();
    harness.changed(1);
    let watch = harness.open();
    watch.send(b"nonsense\n".to_vec()).unwrap();
    // The same list again: nothing has changed, but `on_change` is called.
    harness.changed(0);
    assert_eq!(harness.stats.restarts(Cause::Broken), 1);
    harness.stop.set();
    drop((watch, harness.watches));
    harness.thread.join().unwrap();
}

#[test]
fn cuts_of_a_watch_are_logged_once_and_then_counted() {
    let mut cuts = Cuts::default();
    let began = Instant::now();
    let at = |secs| began + Duration::from_secs(secs);
    assert!(cuts.is_first(at(0)));
    let later = [1, 1, 30, 59].map(|secs| cuts.is_first(at(secs)));
    assert_eq!(later, [false; 4]);
    assert_eq!(cuts.ended(at(59)), None);
    assert_eq!(cuts.ended(at(62)), Some((5, Duration::from_secs(62))));
    assert_eq!(cuts.ended(at(200)), None);
    // A single cut needs no count.
    assert!(cuts.is_first(at(200)));
    assert_eq!(cuts.ended(at(260)), None);
    assert!(cuts.is_first(at(260)));
}

#[test]
fn a_panic_is_reported() {
    let harness = Harness::new();
    harness.changed(1);
    let watch = harness.open();
    watch.send(added("panic", "11")).unwrap();
    assert_eq!(
        harness.deaths.recv().unwrap(),
        "thread watch-configmaps panicked"
    );
}

#[test]
fn an_object_of_which_labels_are_left_out_is_counted_once() {
    let reporter = Reporter {
        stats: Arc::new(WatchStats::new("pods")),
        poll: Duration::ZERO,
        loss: None,
        failing: None,
        cuts: Cuts::default(),
    };
    let pod = |labels: usize| {
        let label = |n| (format!("{META_LABEL}k{n}"), json!("v"));
        let labels: serde_json::Map<_, _> = (0..labels).map(label).collect();
        let pod = json!({"metadata": {"name": "p", "labels": labels}});
        Pod::decode(pod.to_string().as_bytes())
            .unwrap()
            .map(Arc::new)
    };
    let (within, above, further) = (pod(64), pod(65), pod(9500));
    for (old, new, expected) in [
        (None, &within, 0),
        (within.clone(), &above, 1),
        (above.clone(), &further, 1),
        (further.clone(), &None, 1),
        (None, &further, 2),
        (further.clone(), &within, 2),
    ] {
        let new = new.clone();
        reporter.changed(&Change { old, new });
        assert_eq!(reporter.stats.left_out(), expected);
    }
}
