//! Bodies that are read as they come: of watches and of logs.
//!
//! A log has a connection of its own, so that another thread can end it at any time ([`Cut`]): one that is
//! followed may be silent for hours, and the API server sends not even the head of its response before the
//! first byte.

use super::{EventStream, HttpTransport, ServerResolver, body, failure};
use crate::budget::{Budget, Charge};
use crate::kube::auth::Server;
use crate::kube::error::{Error, Failure};
use crate::kube::request::Request;
use crate::threads::lock;
use std::fmt;
use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, http};

/// Ends the reading of a log from another thread; never blocks.
#[derive(Default)]
pub struct Cut(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Unused,
    Open(Agent),
    Cut,
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cut")
    }
}

impl Cut {
    /// Ends it, now or as soon as it begins.
    pub fn cut(&self) {
        if let State::Open(agent) = std::mem::replace(&mut *lock(&self.0), State::Cut) {
            agent.shutdown();
        }
    }

    /// Whether it has been cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        matches!(*lock(&self.0), State::Cut)
    }
}

/// A log that is being opened.
pub(super) struct Log<'a> {
    pub(super) follows: bool,
    pub(super) cut: &'a Cut,
}

impl Log<'_> {
    /// An agent for this log alone, otherwise like that one.
    pub(super) fn agent(&self, like: &Agent, server: &Server) -> Result<Agent, Failure> {
        let config = like.config().clone();
        let resolver = ServerResolver(server.clone());
        let agent = Agent::with_parts(config, DefaultConnector::default(), resolver);
        let mut state = lock(&self.cut.0);
        if matches!(*state, State::Cut) {
            return Err(Failure::Lost("nobody reads it any more".into()));
        }
        *state = State::Open(agent.clone());
        drop(state);
        Ok(agent)
    }
}

/// The body of a success; `None` if it has none.
pub(super) fn stream_of(
    transport: &HttpTransport,
    request: &Request,
    response: Result<http::Response<ureq::Body>, Failure>,
) -> Result<Option<Box<dyn EventStream>>, Error> {
    let response = response.map_err(|why| request.error(why))?;
    if response.status().as_u16() == 200 {
        return Ok(Some(Box::new(HttpStream {
            reader: response.into_body().into_reader(),
            budget: Arc::clone(&transport.budget),
            wait: transport.settings.response,
        })));
    }
    let deadline = Instant::now() + transport.settings.call;
    let whole = body::read_whole(response, &transport.budget, deadline);
    let whole = whole.map_err(|why| request.error(why))?;
    match whole.status {
        204 => Ok(None),
        code => {
            whole.into_success(request)?;
            let text = format!("status {code} instead of a stream");
            Err(request.error(Failure::InvalidResponse(text)))
        }
    }
}

struct HttpStream {
    reader: ureq::BodyReader<'static>,
    budget: Arc<Budget>,
    /// How long an event waits for memory.
    wait: Duration,
}

impl fmt::Debug for HttpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpStream")
    }
}

impl EventStream for HttpStream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let read = self.reader.read(buffer);
        match read.map_err(|error| failure(error.into())) {
            Err(Failure::Connect(why)) => Err(Failure::Lost(why)),
            read => read,
        }
    }

    fn charge(&self, bytes: usize) -> Result<Option<Charge>, Failure> {
        body::charged(&self.budget, bytes, Instant::now() + self.wait).map(Some)
    }
}
