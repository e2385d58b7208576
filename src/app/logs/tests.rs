//! How logs end: each bound, and what Kubernetes leaves open.

use super::*;
use crate::app::fixture::uid;
use crate::budget::Account;
use crate::kube::error::Error as KubeError;
use crate::kube::request::Request;
use crate::kube::transport::{Cut, Response as KubeResponse, Transport};
use crate::threads::lock;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

const HANDLE: RequestHandle = RequestHandle {
    io: 0,
    slot: 0,
    serial: 1,
};

/// An API server with one pod: the states of its container in turn, the last one for good, and its log.
#[derive(Debug)]
struct Scripted {
    states: Mutex<VecDeque<Option<Value>>>,
    log: Mutex<Vec<Piece>>,
    /// Logs that are open.
    open: Arc<AtomicUsize>,
    /// The time limit of the last log.
    longest: Mutex<Duration>,
}

#[derive(Clone, Debug)]
enum Piece {
    Bytes(usize),
    Fails(Failure),
}

#[derive(Debug)]
struct Stream(VecDeque<Piece>, Arc<AtomicUsize>);

impl EventStream for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        match self.0.pop_front() {
            None => Ok(0),
            Some(Piece::Fails(failure)) => Err(failure),
            Some(Piece::Bytes(count)) => {
                let now = count.min(buffer.len());
                buffer[..now].fill(b'x');
                if count > now {
                    self.0.push_front(Piece::Bytes(count - now));
                }
                Ok(now)
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Transport for Scripted {
    fn send(&self, _: &Request) -> Result<KubeResponse, KubeError> {
        let mut states = lock(&self.states);
        let state = match states.len() {
            1 => states[0].clone(),
            _ => states.pop_front().unwrap(),
        };
        let body = state.map(|state| {
            json!({
                "metadata": {"uid": uid("pod").to_string()},
                "spec": {"containers": [{"name": "app"}]},
                "status": {"containerStatuses": [{"name": "app", "state": state}]},
            })
        });
        let gone = json!({"kind": "Status", "reason": "NotFound", "code": 404});
        Ok(KubeResponse {
            status: if body.is_some() { 200 } else { 404 },
            body: body.unwrap_or(gone).to_string().into(),
            ..KubeResponse::default()
        })
    }

    fn open(&self, request: &Request) -> Result<Box<dyn EventStream>, KubeError> {
        Err(request.error(Failure::Connect("not here".into())))
    }

    fn open_log(
        &self,
        _: &Request,
        longest: Duration,
        follows: bool,
        _: &Cut,
    ) -> Result<Option<Box<dyn EventStream>>, KubeError> {
        self.open.fetch_add(1, Ordering::SeqCst);
        *lock(&self.longest) = longest;
        let log = if follows {
            lock(&self.log).clone()
        } else {
            vec![]
        };
        let stream = Stream(log.into(), Arc::clone(&self.open));
        Ok(Some(Box::new(stream)))
    }
}

/// Passes on when there is something.
#[derive(Debug)]
struct Heard(Mutex<Sender<()>>);

impl ResponseSink for Heard {
    fn respond(&self, _: RequestHandle, _: Response) {
        // Its receiver may have read enough.
        let _ = lock(&self.0).send(());
    }

    fn announce(&self) {}
}

struct Following {
    scripted: Arc<Scripted>,
    logs: Logs,
    reader: LogReader,
    heard: Receiver<()>,
}

fn running(at: &str) -> Option<Value> {
    Some(json!({"running": {"startedAt": at}}))
}

fn ended() -> Option<Value> {
    Some(json!({"terminated": {"exitCode": 0}}))
}

const SMALL: Bounds = Bounds {
    read: (Duration::ZERO, 0),
    follow: (Duration::from_secs(60), 100),
    settle: Duration::ZERO,
};

/// Follows this log of a container with these states.
fn follow(log: &[Piece], states: &[Option<Value>], bounds: Bounds) -> Following {
    let scripted = Arc::new(Scripted {
        states: Mutex::new(states.iter().cloned().collect()),
        log: Mutex::new(log.to_vec()),
        open: Arc::default(),
        longest: Mutex::default(),
    });
    let (sender, heard) = channel();
    let on_death: OnDeath = Arc::new(|name| panic!("{name} died"));
    let client = Client::new(scripted.clone(), "apps");
    let sink = Arc::new(Heard(Mutex::new(sender)));
    let logs = Logs {
        bounds,
        ..Logs::new(client, sink, (1, Division::UNLIMITED), on_death)
    };
    let reader = read(&logs).unwrap();
    Following {
        scripted,
        logs,
        reader,
        heard,
    }
}

fn read(logs: &Logs) -> Result<LogReader, Error> {
    let source = LogSource {
        instance: "hello/ann".into(),
        pod: "hello-ann-x".into(),
        uid: uid("pod"),
        finding: None,
    };
    let request = LogRequest {
        tail: 1000,
        since_secs: None,
        container: None,
        previous: false,
        follow: true,
    };
    let ledger = Ledger::of_bytes(1 << 20, Division::UNLIMITED);
    let caller = LogCaller {
        handle: HANDLE,
        hold: ledger.open(Account::Service, Purpose::Transfer),
        trace: None,
    };
    logs.read(source, request, caller)
}

impl Following {
    /// All of it, and how it ended; then its thread and its connection are free again.
    #[track_caller]
    fn finish(self) -> (String, LogEnd) {
        let mut all = Vec::new();
        let end = loop {
            let LogPart { bytes, end } = self.reader.take(64);
            let is_empty = bytes.is_empty();
            all.extend(bytes);
            match end {
                Some(end) => break end,
                None if is_empty => self.heard.recv().unwrap(),
                None => {}
            }
        };
        self.await_free();
        (String::from_utf8(all).unwrap(), end)
    }

    /// Waits until the only place is free, and nothing is open.
    fn await_free(&self) {
        while read(&self.logs).is_err() || self.scripted.open.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
    }
}

fn note(text: &str) -> String {
    format!("\n[config-controller ends this log here: {text}]\n")
}

const LIVES: &str = "Kubernetes has cut it, and the container still runs; ask again with since";

#[test]
fn a_follow_has_so_many_bytes_and_its_last_line_says_so() {
    let (text, end) = follow(&[Piece::Bytes(100)], &[ended()], SMALL).finish();
    assert_eq!((text, end), ("x".repeat(100), LogEnd::Regular));
    let (text, end) = follow(&[Piece::Bytes(101)], &[ended()], SMALL).finish();
    let cut = note("at most 100 bytes are sent; ask again with tail or since");
    assert_eq!(text, "x".repeat(100) + &cut);
    assert_eq!(end, LogEnd::Regular);
    assert_eq!(BOUNDS.follow.1, FOLLOW_BYTES_MAX);
}

#[test]
fn a_follow_lasts_so_long_and_its_last_line_says_so() {
    let late = Piece::Fails(Failure::TimedOut("the time limit of the call".into()));
    let following = follow(&[Piece::Bytes(3), late], &[running("1")], SMALL);
    let scripted = Arc::clone(&following.scripted);
    let (text, end) = following.finish();
    let cut = note("a log is followed for at most 60 s; ask again with since");
    assert_eq!((text, end), (format!("xxx{cut}"), LogEnd::Regular));
    assert_eq!(*lock(&scripted.longest), SMALL.follow.0);
    assert_eq!(BOUNDS.follow.0, FOLLOW_MAX);
}

/// Its time is over while the pipe is full.
#[test]
fn a_follow_of_which_nothing_is_read_ends_at_its_bound() {
    const ALL: usize = 10 << 20;
    let bounds = Bounds {
        follow: (Duration::ZERO, 2 * ALL),
        ..SMALL
    };
    let following = follow(&[Piece::Bytes(ALL)], &[running("1")], bounds);
    let (text, end) = following.finish();
    let cut = note("a log is followed for at most 0 s; ask again with since");
    assert!(text.ends_with(&cut), "{} bytes", text.len());
    assert!(text.len() >= PIPE_BYTES && text.len() < ALL);
    assert_eq!(end, LogEnd::Regular);
}

#[test]
fn a_reader_that_hangs_up_frees_the_thread_and_the_connection() {
    let following = follow(&[Piece::Bytes(10 << 20)], &[running("1")], BOUNDS);
    following.heard.recv().unwrap();
    let Following {
        scripted,
        logs,
        reader,
        heard: _heard,
    } = following;
    assert!(read(&logs).is_err(), "there is one place");
    drop(reader);
    while read(&logs).is_err() || scripted.open.load(Ordering::SeqCst) > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_follow_that_kubernetes_ends_is_cut_unless_the_container_has_ended() {
    let (one, two) = (running("1"), running("2"));
    let waiting = Some(json!({"waiting": {}}));
    let soon = Duration::from_millis(60);
    for (states, settle, expected) in [
        (vec![one.clone()], Duration::ZERO, LogEnd::Cut),
        (vec![one.clone(), ended()], Duration::ZERO, LogEnd::Regular),
        (vec![one.clone(), None], Duration::ZERO, LogEnd::Regular),
        (vec![one.clone(), two.clone()], soon, LogEnd::Regular),
        // The status was behind when it began.
        (vec![waiting.clone(), one.clone()], soon, LogEnd::Cut),
        // The status is behind at the end.
        (
            vec![one.clone(), one.clone(), ended()],
            soon,
            LogEnd::Regular,
        ),
        (vec![ended()], Duration::ZERO, LogEnd::Regular),
    ] {
        let bounds = Bounds { settle, ..SMALL };
        let (text, end) = follow(&[Piece::Bytes(3)], &states, bounds).finish();
        let expected_text = match expected {
            LogEnd::Cut => format!("xxx{}", note(LIVES)),
            LogEnd::Regular => "xxx".to_owned(),
        };
        assert_eq!((text, end), (expected_text, expected), "{states:?}");
    }
}

#[test]
fn a_log_whose_connection_is_lost_is_cut() {
    let lost = Piece::Fails(Failure::Lost("connection reset".into()));
    let (text, end) = follow(&[Piece::Bytes(3), lost], &[running("1")], SMALL).finish();
    let cut = note("the connection to Kubernetes was lost");
    assert_eq!((text, end), (format!("xxx{cut}"), LogEnd::Cut));
}
