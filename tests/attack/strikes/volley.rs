//! Many requests at once, each on a connection of its own, in one thread: sent and read without
//! blocking, at any rate, and what became of each.

use crate::client::{self, ResponseHead};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Time limit for opening a connection.
const CONNECT: Duration = Duration::from_secs(3);

/// Bodies longer than this are not kept: only their length counts.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// One request, and its response as far as it has come.
#[derive(Debug)]
pub(crate) struct Shot {
    stream: Option<TcpStream>,
    request: Vec<u8>,
    sent: usize,
    /// The beginning of the response.
    kept: Vec<u8>,
    received: usize,
    head: Option<ResponseHead>,
    begun: Instant,
    /// When its response was whole, or the connection closed.
    pub(crate) took: Option<Duration>,
}

impl Shot {
    /// Connects; nothing is sent yet.
    pub(crate) fn new(to: SocketAddr, from: Ipv4Addr, request: Vec<u8>) -> Self {
        Self::over(client::connect(to, from, CONNECT).ok(), request)
    }

    /// As [`Shot::new`], with a small buffer for the response.
    pub(crate) fn narrow(to: SocketAddr, from: Ipv4Addr, request: Vec<u8>) -> Self {
        Self::over(client::connect_narrow(to, from, CONNECT).ok(), request)
    }

    fn over(stream: Option<TcpStream>, request: Vec<u8>) -> Self {
        let stream = stream.filter(|stream| stream.set_nonblocking(true).is_ok());
        Self {
            stream,
            request,
            sent: 0,
            kept: Vec::new(),
            received: 0,
            head: None,
            begun: Instant::now(),
            took: None,
        }
    }

    /// Sends the same request again on the same connection, once its response is whole.
    pub(crate) fn again(&mut self) {
        if self.is_whole() {
            (self.sent, self.received, self.head) = (0, 0, None);
            self.kept.clear();
            (self.begun, self.took) = (Instant::now(), None);
        }
    }

    /// Sends and reads what is possible now, at most so many bytes of the response.
    pub(crate) fn turn(&mut self, read_max: usize) {
        let Some(mut stream) = self.stream.as_ref() else {
            return;
        };
        if self.took.is_some() {
            return;
        }
        while self.sent < self.request.len() {
            match stream.write(&self.request[self.sent..]) {
                Ok(count) => self.sent += count,
                // One that is refused early may not take all of it: its response counts.
                Err(_) => break,
            }
        }
        let mut buffer = [0; 16 << 10];
        let mut left = read_max;
        while left > 0 && self.took.is_none() {
            let room = left.min(buffer.len());
            match stream.read(&mut buffer[..room]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => self.took = Some(self.begun.elapsed()),
                Ok(count) => {
                    left -= count;
                    self.received += count;
                    let keep = KEPT_BYTES_MAX.saturating_sub(self.kept.len()).min(count);
                    self.kept.extend_from_slice(&buffer[..keep]);
                    self.head = self.head.or_else(|| ResponseHead::first(&self.kept));
                    if self.is_whole() {
                        self.took = Some(self.begun.elapsed());
                    }
                }
            }
        }
    }

    /// Sends and reads until its response is whole, at most so long.
    pub(crate) fn finish(&mut self, longest: Duration) {
        while self.stream.is_some() && self.took.is_none() && self.begun.elapsed() < longest {
            self.turn(usize::MAX);
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Closes its connection; its result stays.
    pub(crate) fn hang_up(&self) {
        if let Some(stream) = &self.stream {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.head.is_some_and(|head| self.received >= head.total())
    }

    /// Whether this is its result, as [`judged`] accepts it.
    pub(crate) fn is_of(&self, accepted: &str) -> bool {
        is_of(&self.result(), accepted)
    }

    /// The body, if it is short.
    pub(crate) fn body(&self) -> Value {
        let start = self.head.map_or(0, |head| head.head);
        serde_json::from_slice(&self.kept[start..]).unwrap_or_default()
    }

    /// Whether this is somewhere in the first 64 KiB.
    pub(crate) fn shows(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.kept).contains(text)
    }

    /// The status, for an error with its code; else how far it has come.
    pub(crate) fn result(&self) -> String {
        match self.head {
            _ if self.stream.is_none() => "no connection".to_owned(),
            None if self.took.is_some() => "closed without a response".to_owned(),
            None => "open".to_owned(),
            // One that goes on, and one that has ended, in whatever way.
            Some(head) if head.is_chunked && self.took.is_none() => "streams".to_owned(),
            Some(head) if head.is_chunked => "streamed".to_owned(),
            Some(head) if !self.is_whole() && self.took.is_some() => {
                format!("cut after {}", head.status)
            }
            Some(head) if !self.is_whole() => format!("slow after {}", head.status),
            Some(head) if head.status < 400 => head.status.to_string(),
            Some(head) => {
                let body = self.body();
                let code = body["code"].as_str();
                let code = code.or_else(|| body["detail"]["code"].as_str());
                let result = format!("{} {}", head.status, code.unwrap_or_default());
                result.trim_end().to_owned()
            }
        }
    }
}

/// Sends and reads all of them until each has its response, at most so long.
pub(crate) fn volley(shots: &mut [Shot], longest: Duration) {
    paced(shots, longest, usize::MAX);
}

/// As [`volley`], and each reads at most so many bytes a second.
pub(crate) fn paced(shots: &mut [Shot], longest: Duration, bytes_a_second: usize) {
    let begun = Instant::now();
    let mut before = begun;
    loop {
        let now = Instant::now();
        let read_max = match bytes_a_second {
            usize::MAX => usize::MAX,
            rate => (rate as f64 * (now - before).as_secs_f64()) as usize,
        };
        before = now;
        for shot in &mut *shots {
            shot.turn(read_max);
        }
        let is_over = |shot: &Shot| shot.took.is_some() || shot.stream.is_none();
        if begun.elapsed() > longest || shots.iter().all(is_over) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_of(result: &str, accepted: &str) -> bool {
    match accepted.strip_suffix(' ') {
        None => result == accepted,
        Some(status) => result.len() > accepted.len() && result.starts_with(status),
    }
}

/// How often each result was seen, as a sentence; an error if one was that begins with none of
/// these. So `"200"` accepts a whole response, `"503 "` one with any code, and only with one.
pub(crate) fn judged(what: &str, shots: &[Shot], accepted: &[&str]) -> Result<String, String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for shot in shots {
        *counts.entry(shot.result()).or_default() += 1;
    }
    let count = |(result, count): (&String, &usize)| format!("{count} × {result}");
    let seen: Vec<String> = counts.iter().map(count).collect();
    let seen = format!("{what}: {}", seen.join(", "));
    let is_right = |result: &String| accepted.iter().any(|one| is_of(result, one));
    match counts.keys().find(|result| !is_right(result)) {
        None => Ok(seen),
        Some(wrong) => Err(format!("{seen} (not accepted: {wrong})")),
    }
}
