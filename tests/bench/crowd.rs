//! Many readers of the stream of all instances, on one thread: each reads all there is as soon as it comes,
//! so that none falls behind for our sake. Counts events and bytes; keeps none.

use crate::client::{connect, get};
use crate::environment;
use memchr::memmem::Finder;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Addresses that they come from.
const ADDRESSES: usize = 8;

/// Begins the data of an event, and nothing else: the lines of a stream begin with a field.
const DATA: &[u8] = b"\ndata: ";

/// Bytes of one read.
const READ_BYTES: usize = 256 * 1024;

/// Time limit of a connection, and until all streams have begun.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What all of them have read.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) events: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// Streams with an event.
    begun: AtomicUsize,
    /// Streams that have ended.
    pub(crate) ended: AtomicUsize,
    is_over: AtomicBool,
}

/// The readers; they hang up when this is dropped.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub(crate) counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Reader {
    stream: TcpStream,
    /// The last bytes: what is searched for may lie in two reads.
    tail: Vec<u8>,
    has_begun: bool,
    has_ended: bool,
}

impl Crowd {
    /// So many streams, once each has the state with which it begins.
    pub(crate) fn open(to: SocketAddr, count: usize) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("a stream cannot be opened: {error}");
        let poll = Poll::new().map_err(failed)?;
        let request = get("/instances", "Accept: text/event-stream\r\n");
        let mut readers = Vec::with_capacity(count);
        for number in 0..count {
            let last = 100 + (number % ADDRESSES) as u8;
            let from = Ipv4Addr::new(127, 0, 0, last);
            let mut stream = connect(to, from, TIMEOUT).map_err(failed)?;
            stream.write_all(&request).map_err(failed)?;
            stream.set_nonblocking(true).map_err(failed)?;
            let mut stream = TcpStream::from_std(stream);
            let registry = poll.registry();
            let registered = registry.register(&mut stream, Token(number), Interest::READABLE);
            registered.map_err(failed)?;
            readers.push(Reader {
                stream,
                tail: Vec::new(),
                has_begun: false,
                has_ended: false,
            });
        }
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let thread = std::thread::spawn(move || read(poll, readers, &shared));
        let crowd = Self {
            counts,
            thread: Some(thread),
        };
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let begun = crowd.counts.begun.load(Ordering::SeqCst);
            if begun == count {
                return Ok(crowd);
            }
            if Instant::now() > deadline || crowd.counts.ended.load(Ordering::SeqCst) > 0 {
                return Err(format!("{begun} of {count} streams have begun"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.counts.is_over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read(mut poll: Poll, mut readers: Vec<Reader>, counts: &Counts) {
    environment::yield_to_others();
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; DATA.len() - 1 + READ_BYTES];
    let finder = Finder::new(DATA);
    while !counts.is_over.load(Ordering::SeqCst) {
        // Interrupted at worst.
        let _ = poll.poll(&mut events, Some(Duration::from_millis(100)));
        for event in &events {
            readers[event.token().0].turn(&mut buffer, &finder, counts);
        }
    }
}

impl Reader {
    /// Reads all there is.
    fn turn(&mut self, buffer: &mut [u8], finder: &Finder<'_>, counts: &Counts) {
        while !self.has_ended {
            let kept = self.tail.len();
            buffer[..kept].copy_from_slice(&self.tail);
            match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => self.has_ended = true,
                Ok(count) => {
                    let all = &buffer[..kept + count];
                    let found = finder.find_iter(all).count() as u64;
                    counts.events.fetch_add(found, Ordering::SeqCst);
                    counts.bytes.fetch_add(count as u64, Ordering::SeqCst);
                    if found > 0 && !self.has_begun {
                        self.has_begun = true;
                        counts.begun.fetch_add(1, Ordering::SeqCst);
                    }
                    let rest = all.len().saturating_sub(DATA.len() - 1);
                    self.tail = all[rest..].to_vec();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.has_ended = true,
            }
        }
        counts.ended.fetch_add(1, Ordering::SeqCst);
    }
}
