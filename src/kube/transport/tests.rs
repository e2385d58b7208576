//! The transport against a small server on the loopback address that each test
//! scripts. TLS is tested with the fake API server and on the real cluster.

mod bounds;
mod broken;

use super::*;
use crate::clock::SystemClock;
use crate::kube::error::Class;
use crate::kube::kubeconfig::{Login, Secret, Source};
use crate::kube::request::{self, Scope};
use crate::kube::types::PODS;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

/// A server that calls a function with each connection and its number.
struct Peer {
    address: String,
    /// Heads (and bodies) of the requests received.
    requests: Receiver<String>,
}

/// One connection of a [`Peer`].
struct Wire {
    stream: BufReader<TcpStream>,
    requests: Sender<String>,
}

impl Peer {
    fn new(serve: impl Fn(usize, &mut Wire) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, requests) = channel();
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (serve, requests) = (serve.clone(), sender.clone());
                let stream = BufReader::new(stream.unwrap());
                thread::spawn(move || serve(number, &mut Wire { stream, requests }));
            }
        });
        Self { address, requests }
    }

    fn transport(&self, login: Login) -> HttpTransport {
        self.transport_within(login, Duration::from_millis(1200))
    }

    /// With this time limit of a whole call.
    fn transport_within(&self, login: Login, call: Duration) -> HttpTransport {
        let settings = Settings {
            response: Duration::from_millis(400),
            call,
            watch_read: Duration::from_millis(100),
            ..Settings::default()
        };
        let cluster = cluster(&format!("http://{}", self.address), login);
        HttpTransport::new(&cluster, settings, Arc::new(SystemClock)).unwrap()
    }

    fn request(&self) -> String {
        self.requests.recv_timeout(Duration::from_secs(5)).unwrap()
    }
}

impl Wire {
    /// Reads one request; false when the client has closed.
    fn receive(&mut self) -> bool {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let start = head.len();
            if self.stream.read_line(&mut head).unwrap_or(0) == 0 {
                return false;
            }
            let line = head[start..].to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        self.requests
            .send(head + &String::from_utf8(body).unwrap())
            .unwrap();
        true
    }

    fn write(&mut self, text: &str) {
        let _ = self.stream.get_mut().write_all(text.as_bytes());
    }

    fn answer(&mut self, code: u16, body: &str) {
        let length = body.len();
        self.write(&format!(
            "HTTP/1.1 {code} X\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
    }
}

fn cluster(url: &str, login: Login) -> Cluster {
    Cluster {
        server: Server::parse(url).unwrap(),
        tls_server_name: None,
        certificate_authority: None,
        client_certificate: None,
        login,
        namespace: "apps".into(),
        origin: "test".into(),
    }
}

fn get() -> Request {
    request::find_job("apps", "a").unwrap()
}

fn post() -> Request {
    request::create_job("apps", "a", br#"{"metadata":{"name":"a"}}"#.to_vec()).unwrap()
}

fn watch() -> Request {
    request::watch(PODS, &Scope::all("apps"), &"1".into()).unwrap()
}

const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn the_request_sent_and_the_response_returned() {
    let peer = Peer::new(|_, wire| {
        while wire.receive() {
            wire.write("HTTP/1.1 429 Slow\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\n{}");
        }
    });
    let transport = peer.transport(Login::Token(Secret("tok".into())));
    let response = transport.send(&post()).unwrap();
    assert_eq!(
        (response.status, response.retry_after),
        (429, Some(Duration::from_secs(7)))
    );
    let error = response.into_success(&post()).unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    let sent = peer.request();
    assert!(
        sent.starts_with("POST /apis/batch/v1/namespaces/apps/jobs HTTP/1.1\r\n"),
        "{sent}"
    );
    for line in [
        format!("host: {}", peer.address).as_str(),
        "authorization: Bearer tok",
        "content-type: application/json",
        "accept: application/json",
        "user-agent: config-controller/",
        "{\"metadata\":{\"name\":\"a\"}}",
    ] {
        assert!(sent.contains(line), "{line} is not in {sent}");
    }
}

#[test]
fn a_connection_closed_by_the_server_is_replaced_but_a_post_is_not_repeated() {
    // Responds to one request on each connection, reads the next, and closes.
    let peer = Peer::new(|_, wire| {
        if wire.receive() {
            wire.answer(200, "{}");
            let _ = wire.receive();
        }
    });
    let transport = peer.transport(Login::Anonymous);
    assert_eq!(transport.send(&get()).unwrap().status, 200);
    assert_eq!(transport.send(&get()).unwrap().status, 200);
    // The second connection is in the pool now, and closes when it is used.
    let error = transport.send(&post()).unwrap_err();
    assert!(matches!(error.failure, Failure::Lost(_)), "{error:?}");
    assert_eq!(
        (error.class(), error.connect_failed()),
        (Class::Unavailable, false)
    );
    let count = std::iter::from_fn(|| peer.requests.try_recv().ok()).count();
    assert_eq!(count, 4, "GET, GET lost, GET, POST lost");
}

#[test]
fn a_get_is_retried_once_when_its_response_is_cut_off() {
    let peer = Peer::new(|number, wire| {
        if wire.receive() && number == 0 {
            wire.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"half");
        } else {
            wire.answer(200, "{}");
        }
    });
    let transport = peer.transport(Login::Anonymous);
    assert_eq!(transport.send(&get()).unwrap().body, b"{}");
}

#[test]
fn the_token_is_reloaded_once_after_a_401() {
    let path = std::env::temp_dir().join(format!("kube-transport-{}", std::process::id()));
    std::fs::write(&path, "old").unwrap();
    let peer = Peer::new(|_, wire| {
        while wire.receive() {
            wire.answer(401, "{}");
        }
    });
    let transport = peer.transport(Login::TokenFile(path.clone(), None));
    assert_eq!(transport.send(&get()).unwrap().status, 401);
    assert!(peer.request().contains("Bearer old"));
    assert!(
        peer.requests.try_recv().is_err(),
        "the same token is not tried again"
    );
    std::fs::write(&path, "new").unwrap();
    assert_eq!(transport.send(&get()).unwrap().status, 401);
    assert!(peer.request().contains("Bearer old"));
    assert!(peer.request().contains("Bearer new"));
    std::fs::remove_file(&path).unwrap();
}

/// What replaced the token is not one, or is another cluster's.
#[test]
fn the_last_accepted_token_is_tried_after_a_401_for_its_successor() {
    let path = std::env::temp_dir().join(format!("kube-transport-last-{}", std::process::id()));
    std::fs::write(&path, "old").unwrap();
    let codes = Mutex::new(vec![200, 401, 401, 200]);
    let peer = Peer::new(move |_, wire| {
        while wire.receive() {
            wire.answer(lock(&codes).pop().unwrap(), "{}");
        }
    });
    let transport = peer.transport(Login::TokenFile(path.clone(), None));
    assert_eq!(transport.send(&get()).unwrap().status, 200);
    std::fs::write(&path, "new").unwrap();
    assert_eq!(transport.send(&get()).unwrap().status, 200);
    let tokens = [
        peer.request(),
        peer.request(),
        peer.request(),
        peer.request(),
    ];
    for (request, token) in tokens.iter().zip(["old", "old", "new", "old"]) {
        assert!(request.contains(&format!("Bearer {token}")), "{request}");
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_failed_connection_is_distinguished_from_a_missing_response() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gone = cluster(&format!("http://{free}"), Login::Anonymous);
    let clock = Arc::new(SystemClock);
    let transport = HttpTransport::new(&gone, Settings::default(), clock.clone()).unwrap();
    assert!(transport.send(&post()).unwrap_err().connect_failed());
    let nameless = cluster("https://no-such-host.invalid", Login::Anonymous);
    assert!(
        HttpTransport::new(&nameless, Settings::default(), clock).is_err(),
        "no CA"
    );

    let silent = Peer::new(|_, wire| while wire.receive() {});
    let transport = silent.transport(Login::Anonymous);
    let error = transport.send(&post()).unwrap_err();
    assert!(matches!(error.failure, Failure::TimedOut(_)), "{error:?}");
}

#[test]
fn heads_are_bounded_by_the_input_buffer() {
    let peer = Peer::new(|number, wire| {
        // Beside the field there are a status line and a length.
        let length = INPUT_BYTES - 1024 + 2048 * number;
        while wire.receive() {
            let field = "x".repeat(length);
            let head = format!("HTTP/1.1 200 OK\r\nX: {field}\r\nContent-Length: 2\r\n\r\n{{}}");
            let stream = wire.stream.get_mut();
            let _ = stream.write_all(head.as_bytes());
            if number == 0 {
                return;
            }
        }
    });
    let transport = peer.transport(Login::Anonymous);
    assert!(transport.send(&get()).is_ok());
    assert!(transport.send(&post()).is_err());
}

#[test]
fn a_watch_streams_until_it_ends_and_a_read_in_vain_leaves_it_open() {
    let peer = Peer::new(|number, wire| {
        let _ = wire.receive();
        // The head may take longer than a read.
        thread::sleep(Duration::from_millis(200));
        wire.write(&format!("{STREAM_HEAD}3\r\n{{}}\n\r\n"));
        if number == 0 {
            wire.write("0\r\n\r\n");
            return;
        }
        thread::sleep(Duration::from_millis(250));
        wire.write("2\r\n[]\r\n");
        let _ = wire.receive();
    });
    let transport = peer.transport(Login::Anonymous);
    let mut buffer = [0; 100];
    let mut stream = transport.open(&watch()).unwrap();
    assert_eq!(stream.read(&mut buffer), Ok(3));
    assert_eq!(stream.read(&mut buffer), Ok(0));
    // The first connection is back in the pool, and its closing goes unnoticed.
    let mut stream = loop {
        let mut stream = transport.open(&watch()).unwrap();
        if stream.read(&mut buffer) == Ok(3) {
            break stream;
        }
    };
    let mut waits = 0;
    let read = loop {
        match stream.read(&mut buffer) {
            Err(Failure::TimedOut(_)) => waits += 1,
            read => break read,
        }
    };
    assert_eq!((read, &buffer[..2]), (Ok(2), &b"[]"[..]));
    assert!(waits >= 1);
}

#[test]
fn a_request_apart_has_a_new_connection() {
    let peer = Peer::new(|number, wire| {
        while wire.receive() {
            wire.answer(200, &number.to_string());
        }
    });
    let transport = peer.transport(Login::Anonymous);
    let mut list = request::newest(PODS, "apps").unwrap();
    let connection = |request: &Request| transport.send(request).unwrap().body;
    assert_eq!(connection(&list), b"0");
    assert_eq!(connection(&list), b"1");
    list.is_apart = false;
    assert_eq!(connection(&list), b"2");
    assert_eq!(connection(&list), b"2");
}

#[test]
fn a_watch_that_is_refused_is_an_error_with_its_status() {
    let peer = Peer::new(|_, wire| {
        while wire.receive() {
            wire.answer(410, r#"{"kind":"Status","reason":"Expired","code":410}"#);
        }
    });
    let error = peer.transport(Login::Anonymous).open(&watch()).unwrap_err();
    assert_eq!(error.class(), Class::Expired);
}

#[test]
fn watches_are_closed_from_another_thread_and_calls_continue() {
    let peer = Peer::new(|_, wire| {
        while wire.receive() {
            if wire.stream.buffer().is_empty() {
                wire.answer(200, "{}");
            }
        }
    });
    let stuck = Peer::new(|_, wire| {
        let _ = wire.receive();
        wire.write(STREAM_HEAD);
        thread::sleep(Duration::from_secs(60));
    });
    let settings = Settings::default();
    let cluster_of = |peer: &Peer| cluster(&format!("http://{}", peer.address), Login::Anonymous);
    let clock = Arc::new(SystemClock);
    let transport = HttpTransport::new(&cluster_of(&stuck), settings, clock.clone()).unwrap();
    let transport = Arc::new(transport);
    let mut stream = transport.open(&watch()).unwrap();
    let reader = thread::spawn(move || stream.read(&mut [0; 10]));
    thread::sleep(Duration::from_millis(50));
    let start = Instant::now();
    transport.close_watches();
    assert!(reader.join().unwrap().is_err());
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    assert!(transport.open(&watch()).unwrap_err().connect_failed());

    let transport = HttpTransport::new(&cluster_of(&peer), settings, clock).unwrap();
    transport.close_watches();
    assert_eq!(transport.send(&get()).unwrap().status, 200);
}

#[test]
fn a_ca_without_certificates_and_an_invalid_key_are_reported() {
    #[track_caller]
    fn check(change: impl Fn(&mut Cluster), expected: &str) {
        let mut bad = cluster("https://k8s.test", Login::Anonymous);
        change(&mut bad);
        let clock = Arc::new(SystemClock);
        let problem = HttpTransport::new(&bad, Settings::default(), clock).unwrap_err();
        assert!(problem.contains(expected), "{problem}");
    }
    let data = |text: &str| Source::Data(text.as_bytes().to_vec());
    check(
        |cluster| cluster.certificate_authority = Some(data("not PEM")),
        "contains no certificate",
    );
    check(
        |cluster| cluster.certificate_authority = Some(Source::File("/no/ca".into())),
        "/no/ca",
    );
    check(
        |cluster| cluster.client_certificate = Some((data(""), data(""))),
        "client key",
    );
}
