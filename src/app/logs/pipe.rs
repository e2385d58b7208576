//! A bounded pipe from the thread that reads a log to the request that sends it.
//!
//! The writer waits while it is full, so a caller that reads slowly costs no more than the pipe, and the
//! log waits at Kubernetes. The reader never blocks: it is called when there is something new. Dropping it
//! ends the writer within milliseconds, also one that waits for Kubernetes.

use crate::app::{RequestHandle, Response, ResponseSink};
use crate::budget::Hold;
use crate::kube::transport::Cut;
use crate::threads::lock;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

/// The most bytes in a pipe.
pub const PIPE_BYTES: usize = 64 * 1024;

/// The pipe, as its writer has it.
#[derive(Debug)]
pub(super) struct Pipe {
    state: Mutex<State>,
    /// It has room again, or no reader.
    changed: Condvar,
    /// Ends a read from Kubernetes.
    pub(super) cut: Cut,
    handle: RequestHandle,
    sink: Arc<dyn ResponseSink>,
    /// The bytes of the pipe.
    _hold: Hold,
}

#[derive(Debug, Default)]
struct State {
    bytes: VecDeque<u8>,
    end: Option<LogEnd>,
    is_closed: bool,
    /// The reader has taken all, and is to hear of more.
    is_awaited: bool,
}

/// Why nothing follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEnd {
    /// That was all, or all that is sent of a log.
    Regular,
    /// More is missing: whoever reads is to see that.
    Cut,
}

/// What a reader takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LogPart {
    /// The next bytes; none if there are none yet.
    pub bytes: Vec<u8>,
    /// Whether nothing follows them.
    pub end: Option<LogEnd>,
}

/// The end of a pipe from which a request takes its log.
#[derive(Debug)]
pub struct LogReader {
    pipe: Arc<Pipe>,
    /// Whether the log has no end of its own yet.
    pub follows: bool,
}

impl Pipe {
    /// An empty pipe, and its reader.
    pub(super) fn new(
        handle: RequestHandle,
        sink: Arc<dyn ResponseSink>,
        hold: Hold,
        follows: bool,
    ) -> (Arc<Self>, LogReader) {
        let pipe = Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            cut: Cut::default(),
            handle,
            sink,
            _hold: hold,
        });
        let reader = LogReader {
            pipe: Arc::clone(&pipe),
            follows,
        };
        (pipe, reader)
    }

    /// Responds to the request: with this error, or that its log begins.
    pub(super) fn respond(&self, response: Response) {
        self.sink.respond(self.handle, response);
    }

    /// Writes all of this, and waits for room until then; whether there was.
    pub(super) fn write(&self, mut bytes: &[u8], until: Instant) -> bool {
        let mut state = lock(&self.state);
        while !bytes.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            let is_full = |state: &mut State| state.bytes.len() >= PIPE_BYTES && !state.is_closed;
            let waited = self.changed.wait_timeout_while(state, left, is_full);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.is_closed || state.bytes.len() >= PIPE_BYTES {
                return false;
            }
            let (now, later) = bytes.split_at(bytes.len().min(PIPE_BYTES - state.bytes.len()));
            state.bytes.extend(now);
            bytes = later;
            self.announce(&mut state);
        }
        true
    }

    /// Nothing follows.
    pub(super) fn end(&self, end: LogEnd) {
        let mut state = lock(&self.state);
        state.end = Some(end);
        self.announce(&mut state);
    }

    fn announce(&self, state: &mut State) {
        if std::mem::take(&mut state.is_awaited) {
            self.respond(Response::Log);
        }
    }
}

impl LogReader {
    /// The next bytes, so many at most. After none the request gets [`Response::Log`] when there are more.
    pub fn take(&self, most: usize) -> LogPart {
        let mut state = lock(&self.pipe.state);
        let count = state.bytes.len().min(most);
        let bytes: Vec<u8> = state.bytes.drain(..count).collect();
        let end = state.end.filter(|_| state.bytes.is_empty());
        state.is_awaited = bytes.is_empty() && end.is_none();
        drop(state);
        if count > 0 {
            self.pipe.changed.notify_one();
        }
        LogPart { bytes, end }
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        lock(&self.pipe.state).is_closed = true;
        self.pipe.changed.notify_one();
        self.pipe.cut.cut();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Account, Division, Ledger, Purpose};
    use std::time::Duration;

    const HANDLE: RequestHandle = RequestHandle {
        io: 0,
        slot: 0,
        serial: 1,
    };

    /// Counts responses.
    #[derive(Debug, Default)]
    struct Heard(Mutex<usize>);

    impl ResponseSink for Heard {
        fn respond(&self, _: RequestHandle, response: Response) {
            assert!(matches!(response, Response::Log));
            *self.0.lock().unwrap() += 1;
        }

        fn announce(&self) {}
    }

    fn pipe() -> (Arc<Pipe>, LogReader, Arc<Heard>) {
        let heard = Arc::new(Heard::default());
        let ledger = Ledger::of_bytes(1 << 20, Division::UNLIMITED);
        let hold = ledger.open(Account::Service, Purpose::Transfer);
        let (pipe, reader) = Pipe::new(HANDLE, heard.clone(), hold, true);
        (pipe, reader, heard)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn a_reader_that_found_nothing_hears_once_of_more() {
        let (pipe, reader, heard) = pipe();
        assert_eq!(reader.take(9), LogPart::default());
        assert!(pipe.write(b"ab", soon()) && pipe.write(b"cd", soon()));
        assert_eq!(*heard.0.lock().unwrap(), 1);
        assert_eq!(reader.take(3).bytes, b"abc");
        pipe.end(LogEnd::Cut);
        let last = LogPart {
            bytes: b"d".into(),
            end: Some(LogEnd::Cut),
        };
        assert_eq!((reader.take(3), *heard.0.lock().unwrap()), (last, 1));
        assert_eq!(reader.take(3).end, Some(LogEnd::Cut));
    }

    #[test]
    fn a_writer_waits_while_the_pipe_is_full() {
        let (pipe, reader, _) = pipe();
        assert!(pipe.write(&[1; PIPE_BYTES], Instant::now()));
        assert!(!pipe.write(&[2], Instant::now()), "nobody reads in time");
        let writer = {
            let pipe = Arc::clone(&pipe);
            std::thread::spawn(move || pipe.write(&[2; 2 * PIPE_BYTES], soon()))
        };
        let mut taken = 0;
        while taken < 3 * PIPE_BYTES {
            let part = reader.take(1000);
            assert!(lock(&pipe.state).bytes.len() <= PIPE_BYTES);
            taken += part.bytes.len();
            std::thread::yield_now();
        }
        assert!(writer.join().unwrap());
    }

    #[test]
    fn a_reader_that_is_gone_ends_its_writer_and_the_read() {
        let (pipe, reader, _) = pipe();
        let writer = {
            let pipe = Arc::clone(&pipe);
            std::thread::spawn(move || pipe.write(&[2; 2 * PIPE_BYTES], soon()))
        };
        assert!(!pipe.cut.is_cut());
        drop(reader);
        assert!(!writer.join().unwrap());
        assert!(pipe.cut.is_cut());
    }
}
