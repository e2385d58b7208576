//! An app that uses what proxies spoil, at the addresses of the fake's pods, and a recorder in front of
//! the service.
//!
//! The app speaks just as much HTTP as its tests need: one request a connection. Both are for tests
//! alone, and panic where a request is not what they expect.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

/// The key of a WebSocket handshake, and what it is answered with (RFC 6455 §1.3).
pub(super) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// How many pods have the app: the first ones of the fake.
const PODS: u8 = 8;

/// The app, which runs until its program ends.
pub(super) struct App {
    pub(super) port: u16,
    /// Each makes an open event stream go on.
    pub(super) next_event: Sender<()>,
}

impl App {
    /// Listens at the addresses that the fake's first pods get from `127.<b>.0.0/16`.
    pub(super) fn start(b: u8) -> Self {
        let (next_event, events) = mpsc::channel();
        let events = Arc::new(Mutex::new(events));
        let address = |pod| Ipv4Addr::new(127, b, 0, pod);
        let first = TcpListener::bind((address(1), 0)).expect("a free port");
        let port = first.local_addr().expect("its own address").port();
        let others = (2..=PODS).map(|pod| TcpListener::bind((address(pod), port)));
        let all = others.map(|listener| listener.expect("the same port of another address"));
        for listener in std::iter::once(first).chain(all) {
            let events = Arc::clone(&events);
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let events = Arc::clone(&events);
                    thread::spawn(move || respond(stream, &events));
                }
            });
        }
        Self { port, next_event }
    }
}

/// A request: its head as it was received, and its body.
fn read(stream: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = field(&head, "content-length").map_or(0, |it| it.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8(body).expect("text")))
}

/// The value of a field of a head.
pub(super) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let mut found = fields.filter(|(known, _)| known.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value)
}

fn respond(stream: TcpStream, events: &Mutex<Receiver<()>>) {
    let mut out = stream.try_clone().expect("a socket can be cloned");
    let own = stream.local_addr().expect("its own address").ip();
    let mut stream = BufReader::new(stream);
    let Some((head, body)) = read(&mut stream) else {
        return;
    };
    let path = head.split(' ').nth(1).expect("a target");
    let ok = |fields: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 200 OK\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    };
    let text = match path {
        "/socket" if field(&head, "sec-websocket-key") == Some(KEY) => {
            assert_eq!(field(&head, "upgrade"), Some("websocket"), "{head}");
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
            );
            let _ = out.write_all(head.as_bytes());
            return echo_frames(&mut stream, &mut out);
        }
        "/events" => {
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
            let _ = out.write_all(head.as_bytes());
            let events = events.lock().expect("no other stream has panicked");
            for number in 1..=3 {
                let _ = out.write_all(format!("id: {number}\ndata: {own}\n\n").as_bytes());
                let _ = events.recv();
            }
            return;
        }
        "/page" if field(&head, "if-none-match") == Some("\"v1\"") => {
            "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\nConnection: close\r\n\r\n".to_owned()
        }
        "/page" => ok("ETag: \"v1\"\r\n", "the page"),
        "/broken" => {
            "HTTP/1.1 500 No\r\nContent-Length: 7\r\nConnection: close\r\n\r\nthe app".to_owned()
        }
        "/internal" => ok("X-Accel-Redirect: /-/instance\r\n", "the app"),
        _ => ok("", &format!("{own}\n{head}{body}")),
    };
    let _ = out.write_all(text.as_bytes());
}

/// Sends each short frame of a client back, without its mask (RFC 6455 §5.3).
fn echo_frames(stream: &mut BufReader<TcpStream>, out: &mut TcpStream) {
    let mut head = [0; 6];
    while stream.read_exact(&mut head).is_ok() {
        let mut data = vec![0; usize::from(head[1] & 0x7f)];
        stream.read_exact(&mut data).expect("the rest of a frame");
        let unmasked = data.iter().zip(head[2..].iter().cycle());
        let unmasked: Vec<u8> = unmasked.map(|(byte, mask)| byte ^ mask).collect();
        let length = u8::try_from(unmasked.len()).expect("frames are short");
        let frame = [&[head[0], length], &unmasked[..]].concat();
        let _ = out.write_all(&frame);
    }
}

/// Passes connections on to the service, and keeps the heads of their requests.
pub(super) struct Recorder {
    pub(super) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    pub(super) fn start(service: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its own address");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                thread::spawn(move || pass_on(caller, service, &kept));
            }
        });
        Self { address, heads }
    }

    /// The heads since the last call.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.heads.lock().expect("no thread has panicked"))
    }
}

fn pass_on(caller: TcpStream, service: SocketAddr, kept: &Mutex<Vec<String>>) {
    let Ok(mut to_service) = TcpStream::connect(service) else {
        return;
    };
    let mut from_service = to_service.try_clone().expect("a socket can be cloned");
    let mut to_caller = caller.try_clone().expect("a socket can be cloned");
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_service, &mut to_caller);
        let _ = to_caller.shutdown(Shutdown::Both);
    });
    let mut caller = BufReader::new(caller);
    while let Some((head, body)) = read(&mut caller) {
        kept.lock()
            .expect("no thread has panicked")
            .push(head.clone());
        if to_service.write_all((head + &body).as_bytes()).is_err() {
            break;
        }
    }
    let _ = to_service.shutdown(Shutdown::Write);
}
