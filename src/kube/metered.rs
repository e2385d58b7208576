//! [`Metered`]: a transport that counts the calls over another one, and passes on what they tell of the
//! server's clock.
//!
//! It changes nothing else. Retries of the transport itself (see
//! [`super::transport`]) are not counted separately.

use super::error::{Error, Failure};
use super::request::Request;
use super::server_clock::ServerClock;
use super::transport::{Cut, EventStream, Response, Transport};
use crate::clock::Clock as _;
use crate::metrics::Metrics;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Counts the calls that go over a transport.
pub struct Metered {
    inner: Arc<dyn Transport>,
    metrics: Arc<Metrics>,
    clock: Arc<ServerClock>,
}

/// Only the name: the program would otherwise have in it how all parts are printed, which nobody asks for.
impl fmt::Debug for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metered")
    }
}

impl Metered {
    /// Counts the calls over `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Transport>, metrics: Arc<Metrics>, clock: Arc<ServerClock>) -> Self {
        Self {
            inner,
            metrics,
            clock,
        }
    }

    /// Makes this call and counts it; `status` is that of a success.
    fn counted<T>(
        &self,
        request: &Request,
        call: impl FnOnce() -> Result<T, Error>,
        status: impl FnOnce(&T) -> u16,
    ) -> Result<T, Error> {
        let begun = self.clock.now();
        let result = call();
        let code = match &result {
            Ok(response) => status(response).to_string(),
            Err(error) => code(error),
        };
        let secs = self.clock.now().saturating_duration_since(begun);
        let verb = request.verb.as_str();
        self.metrics
            .called(verb, request.resource, &code, secs.as_secs_f64());
        result
    }
}

impl Transport for Metered {
    fn send(&self, request: &Request) -> Result<Response, Error> {
        let sent = self.clock.now();
        let send = || self.inner.send(request);
        let response = self.counted(request, send, |response| response.status)?;
        if let Some(date) = response.date {
            self.clock.heard(date, sent);
        }
        Ok(response)
    }

    fn open(&self, request: &Request) -> Result<Box<dyn EventStream>, Error> {
        self.counted(request, || self.inner.open(request), |_| 200)
    }

    fn open_log(
        &self,
        request: &Request,
        longest: Duration,
        follows: bool,
        cut: &Cut,
    ) -> Result<Option<Box<dyn EventStream>>, Error> {
        let open = || self.inner.open_log(request, longest, follows, cut);
        self.counted(request, open, |log| if log.is_some() { 200 } else { 204 })
    }
}

/// The status code of the response, or a word for why there was none.
fn code(error: &Error) -> String {
    let word = match &error.failure {
        Failure::Status { status, .. } => return status.code.to_string(),
        Failure::Connect(_) => "connect",
        Failure::Lost(_) => "lost",
        Failure::TimedOut(_) => "timed_out",
        Failure::Credentials(_) => "credentials",
        Failure::InvalidResponse(_) | Failure::TooLarge(_) => "answer",
        Failure::Request(_) => "request",
    };
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::kube::Client;
    use crate::metrics::{KUBE_REQUEST_DURATION, KUBE_REQUESTS, Registry};

    /// Responds with this status code, or not at all.
    #[derive(Debug)]
    struct Canned(Option<u16>);

    impl Transport for Canned {
        fn send(&self, request: &Request) -> Result<Response, Error> {
            let status = self
                .0
                .ok_or_else(|| request.error(Failure::Lost("gone".into())))?;
            Ok(Response {
                status,
                ..Response::default()
            })
        }

        fn open(&self, request: &Request) -> Result<Box<dyn EventStream>, Error> {
            Err(request.error(Failure::Connect("not here".into())))
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

    #[test]
    fn calls_are_counted_by_their_outcome() {
        let metrics = Arc::new(Metrics::new(1, &[]));
        for answer in [Some(404), Some(404), None] {
            let inner = Arc::new(Canned(answer));
            let clock = Arc::new(ServerClock::new(Arc::new(SystemClock)));
            let metered = Metered::new(inner, Arc::clone(&metrics), clock);
            let _ = Client::new(Arc::new(metered), "apps").find_job("a");
        }
        let mut registry = Registry::default();
        metrics.encode(&mut registry);
        let text = registry.text();
        let (requests, durations) = (KUBE_REQUESTS.name, KUBE_REQUEST_DURATION.name);
        for line in [
            format!("{requests}{{code=\"404\",resource=\"jobs\",verb=\"list\"}} 2\n"),
            format!("{requests}{{code=\"lost\",resource=\"jobs\",verb=\"list\"}} 1\n"),
            format!("{durations}_count{{resource=\"jobs\",verb=\"list\"}} 3\n"),
        ] {
            assert!(text.contains(&line), "{line} is not in {text}");
        }
    }
}
