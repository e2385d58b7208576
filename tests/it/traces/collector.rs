//! A collector of traces: takes OTLP over HTTP and decodes it by the messages of the specification.
//!
//! It supports as much HTTP as our exporter needs, and responds as a test configures it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::fake_kube::http::tls::Tls;
use crate::harness::eventually;

/// Its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// 200.
    Takes,
    /// This code.
    Refuses(u16),
    /// 200, and that it did not take so many spans.
    TakesAllBut(i64),
    /// Nothing; the connection stays open.
    Silent,
}

#[derive(Debug)]
struct Shared {
    mood: Mutex<Mood>,
    /// The lines of each head, and the message.
    taken: Mutex<Vec<(Vec<String>, ExportTraceServiceRequest)>>,
    asked: AtomicUsize,
    /// Connections that never get a response.
    held: Mutex<Vec<TcpStream>>,
}

/// A collector that listens on this machine.
#[derive(Debug)]
pub(crate) struct Collector {
    shared: Arc<Shared>,
    address: SocketAddr,
    is_secure: bool,
}

impl Collector {
    pub(crate) fn start(mood: Mood) -> Self {
        Self::listen(mood, None)
    }

    pub(crate) fn secure(tls: Tls) -> Self {
        Self::listen(Mood::Takes, Some(tls))
    }

    fn listen(mood: Mood, tls: Option<Tls>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            mood: Mutex::new(mood),
            taken: Mutex::default(),
            asked: AtomicUsize::new(0),
            held: Mutex::default(),
        });
        let (of_thread, is_secure) = (Arc::clone(&shared), tls.is_some());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                of_thread.asked.fetch_add(1, Ordering::SeqCst);
                let (shared, tls) = (Arc::clone(&of_thread), tls.clone());
                std::thread::spawn(move || match tls {
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream) {
                            shared.serve(BufReader::new(stream), None);
                        }
                    }
                    None => {
                        let kept = stream.try_clone().expect("a socket can be shared");
                        shared.serve(BufReader::new(stream), Some(kept));
                    }
                });
            }
        });
        Self {
            shared,
            address,
            is_secure,
        }
    }

    /// What to set so that traces come here.
    pub(crate) fn endpoint(&self) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}/v1/traces", self.address)
    }

    pub(crate) fn set_mood(&self, mood: Mood) {
        *lock(&self.shared.mood) = mood;
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// The head of the first request.
    pub(crate) fn first_head(&self) -> Vec<String> {
        lock(&self.shared.taken)[0].0.clone()
    }

    /// The attributes of the sender of the first message.
    pub(crate) fn resource(&self) -> Vec<KeyValue> {
        let resource = lock(&self.shared.taken)[0].1.resource_spans[0]
            .resource
            .clone();
        resource
            .expect("a message has resource attributes")
            .attributes
    }

    /// All spans that were taken.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let taken = lock(&self.shared.taken);
        let resources = taken
            .iter()
            .flat_map(|(_, message)| &message.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// Waits for a span of this name, and gives it.
    #[track_caller]
    pub(crate) fn wait(&self, name: &str) -> Span {
        self.wait_for(name, |span| span.name == name)
    }

    /// Waits for such a span.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, is: impl Fn(&Span) -> bool) -> Span {
        eventually(what, || self.spans().into_iter().find(&is))
    }
}

impl Shared {
    fn serve<S: Read + Write>(&self, mut stream: BufReader<S>, mut kept: Option<TcpStream>) {
        while let Some((head, body)) = read_request(&mut stream) {
            let message = ExportTraceServiceRequest::decode(&*body).expect("it is OTLP");
            let mood = *lock(&self.mood);
            let mut response = ExportTraceServiceResponse::default();
            let status = match mood {
                Mood::Silent => {
                    lock(&self.held).extend(kept.take());
                    return;
                }
                Mood::Refuses(code) => code,
                Mood::Takes => 200,
                Mood::TakesAllBut(rejected_spans) => {
                    response.partial_success = Some(ExportTracePartialSuccess {
                        rejected_spans,
                        error_message: "no room".to_owned(),
                    });
                    200
                }
            };
            if mood == Mood::Takes {
                lock(&self.taken).push((head, message));
            }
            let body = response.encode_to_vec();
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let stream = stream.get_mut();
            if stream
                .write_all(&[head.as_bytes(), &body].concat())
                .is_err()
            {
                return;
            }
        }
    }
}

/// The lines of the head, and the body.
fn read_request(stream: &mut impl BufRead) -> Option<(Vec<String>, Vec<u8>)> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        head.push(line.to_owned());
    }
    let length = header(&head, "content-length").parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// The value of a header; empty where there is none.
pub(crate) fn header(head: &[String], name: &str) -> String {
    let fields = head.iter().filter_map(|line| line.split_once(':'));
    let mut named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
    named
        .next()
        .map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

/// The value of an attribute as text; empty if there is none.
pub(crate) fn attribute(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    let value = found.and_then(|attribute| attribute.value.clone());
    match value {
        Some(AnyValue {
            value: Some(any_value::Value::StringValue(text)),
        }) => text,
        Some(AnyValue {
            value: Some(any_value::Value::IntValue(number)),
        }) => number.to_string(),
        other => {
            assert_eq!(other, None, "{name}");
            String::new()
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
