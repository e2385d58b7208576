//! How logs end: each bound, and what Kubernetes leaves open.

use super::*;
use crate::app::fixture::uid;
use crate::budget::Account;
use crate::kube::error::Error as KubeError;
use crate::kube::request::Request;
use crate::kube::transport::{Cut, Response as KubeResponse, Transport};
use crate::threads::lock;
use serde_json::json;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

const HANDLE: RequestHandle = RequestHandle {
    io: 0,
    slot: 0,
    serial: 1,
};

/// An API server with one pod, and its log.
#[derive(Debug)]
struct Scripted {
    /// What it answers to those who follow no log, in turn, the last one for good.
    statuses: Mutex<VecDeque<u16>>,
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
        let pod = json!({
            "metadata": {"uid": uid("pod").to_string()},
            "spec": {"containers": [{"name": "app"}]},
        });
        Ok(KubeResponse {
            status: 200,
            body: pod.to_string().into(),
            ..KubeResponse::default()
        })
    }

    fn open(&self, request: &Request) -> Result<Box<dyn EventStream>, KubeError> {
        Err(request.error(Failure::Connect("not here".into())))
    }

    fn open_log(
        &self,
        request: &Request,
        longest: Duration,
        follows: bool,
        _: &Cut,
    ) -> Result<Option<Box<dyn EventStream>>, KubeError> {
        let log = if follows {
            lock(&self.log).clone()
        } else {
            let mut statuses = lock(&self.statuses);
            let status = match statuses.len() {
                1 => statuses[0],
                _ => statuses.pop_front().unwrap(),
            };
            let reason = match status {
                400 => "BadRequest",
                404 => "NotFound",
                _ => "",
            };
            let body = json!({"kind": "Status", "code": status, "reason": reason});
            let response = KubeResponse {
                status,
                body: body.to_string().into(),
                ..KubeResponse::default()
            };
            response.into_success(request)?;
            vec![]
        };
        self.open.fetch_add(1, Ordering::SeqCst);
        *lock(&self.longest) = longest;
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

const SMALL: Bounds = Bounds {
    read: (Duration::ZERO, 0),
    follow: (Duration::from_secs(60), 100),
};

/// The log can be read, also when it has ended.
const UP: &[u16] = &[200];

/// Follows this log, and reads others with these results.
fn follow(log: &[Piece], statuses: &[u16], bounds: Bounds) -> Following {
    let scripted = Arc::new(Scripted {
        statuses: Mutex::new(statuses.iter().copied().collect()),
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
        *lock(&self.scripted.statuses) = [200].into();
        while read(&self.logs).is_err() || self.scripted.open.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
    }
}

fn note(text: &str) -> String {
    format!("\n[config-controller ends this log here: {text}]\n")
}

#[test]
fn a_follow_has_so_many_bytes_and_its_last_line_says_so() {
    let (text, end) = follow(&[Piece::Bytes(100)], UP, SMALL).finish();
    assert_eq!((text, end), ("x".repeat(100), LogEnd::Regular));
    let (text, end) = follow(&[Piece::Bytes(101)], UP, SMALL).finish();
    let cut = note("at most 100 bytes are sent; ask again with tail or since");
    assert_eq!(text, "x".repeat(100) + &cut);
    assert_eq!(end, LogEnd::Regular);
    assert_eq!(BOUNDS.follow.1, FOLLOW_BYTES_MAX);
}

#[test]
fn a_follow_lasts_so_long_and_its_last_line_says_so() {
    let late = Piece::Fails(Failure::TimedOut("the time limit of the call".into()));
    let following = follow(&[Piece::Bytes(3), late], UP, SMALL);
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
    let following = follow(&[Piece::Bytes(ALL)], UP, bounds);
    let (text, end) = following.finish();
    let cut = note("a log is followed for at most 0 s; ask again with since");
    assert!(text.ends_with(&cut), "{} bytes", text.len());
    assert!(text.len() >= PIPE_BYTES && text.len() < ALL);
    assert_eq!(end, LogEnd::Regular);
}

#[test]
fn a_reader_that_hangs_up_frees_the_thread_and_the_connection() {
    let following = follow(&[Piece::Bytes(10 << 20)], UP, BOUNDS);
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
fn a_follow_that_kubernetes_ends_is_cut_where_nothing_can_be_read() {
    for (status, expected) in [
        (200, LogEnd::Regular),
        // It is about to run again, or its pod is gone.
        (400, LogEnd::Regular),
        (404, LogEnd::Regular),
        // As without a kubelet.
        (500, LogEnd::Cut),
        (503, LogEnd::Cut),
    ] {
        let (text, end) = follow(&[Piece::Bytes(3)], &[200, status], SMALL).finish();
        assert_eq!(end, expected, "{status}: {text}");
        let has_note = text.contains("\n[config-controller ends this log here: ");
        assert!(text.starts_with("xxx"), "{text}");
        assert_eq!(has_note, end == LogEnd::Cut, "{status}: {text}");
    }
}

#[test]
fn a_log_whose_connection_is_lost_is_cut() {
    let lost = Piece::Fails(Failure::Lost("connection reset".into()));
    let (text, end) = follow(&[Piece::Bytes(3), lost], UP, SMALL).finish();
    let cut = note("the connection to Kubernetes was lost");
    assert_eq!((text, end), (format!("xxx{cut}"), LogEnd::Cut));
}
