//! [`Logs`]: reads logs of containers for requests, each on a thread of its own.
//!
//! No I/O thread waits for Kubernetes: a request is parked until its log begins, and takes it from a
//! bounded pipe from then on. The number of these threads is bounded, and each ends soon after its caller
//! has hung up. What is in a log is never looked at, kept or logged.
//!
//! Kubernetes ends a log that is followed in the same way when its container has ended and when its kubelet
//! has died, so one more line is read then: where Kubernetes cannot read it, the log was cut.

mod pipe;

pub use pipe::{LogEnd, LogPart, LogReader, PIPE_BYTES};

use super::error::{Bound, Error, NoLog};
use super::request::{Response, ResponseSink};
use super::request_handle::RequestHandle;
use crate::budget::{Division, Full, Hold, Ledger, Purpose};
use crate::kube::error::{Class, Failure};
use crate::kube::request::LogOptions;
use crate::kube::transport::EventStream;
use crate::kube::types::Uid;
use crate::kube::{self, Client};
use crate::model::status::Finding;
use crate::threads::{self, OnDeath};
use crate::traces::Context;
use pipe::Pipe;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most lines that a request can ask for.
pub const LINES_MAX: u32 = 100_000;

/// The lines of a request that does not say how many.
pub const LINES_DEFAULT: u32 = 1000;

/// The most bytes of a log that is not followed.
pub const READ_BYTES_MAX: usize = 10 << 20;

/// The longest that one takes.
pub const READ_MAX: Duration = Duration::from_secs(300);

/// The most bytes of a log that is followed.
pub const FOLLOW_BYTES_MAX: usize = 256 << 20;

/// The longest that one is followed.
pub const FOLLOW_MAX: Duration = Duration::from_secs(3600);

/// Bytes of one read.
const READ_BYTES: usize = 16 * 1024;

/// What a request wants of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRequest {
    /// The last lines, so many.
    pub tail: u32,
    /// Only what was written in the last seconds.
    pub since_secs: Option<u32>,
    /// The container, if it is named.
    pub container: Option<Box<str>>,
    /// The run before the present one.
    pub previous: bool,
    /// Also what is written from now on.
    pub follow: bool,
}

/// Whose log it is.
#[derive(Clone, Debug)]
pub(super) struct LogSource {
    /// The instance, as messages name it.
    pub(super) instance: String,
    /// Its pod.
    pub(super) pod: Box<str>,
    /// The UID of the pod.
    pub(super) uid: Uid,
    /// Its state, if it is not ready.
    pub(super) finding: Option<Finding>,
}

/// Who reads a log.
#[derive(Debug)]
pub struct LogCaller {
    /// Its request.
    pub handle: RequestHandle,
    /// The bytes of the request and of a pipe, charged to it.
    pub hold: Hold,
    /// The span of the request, if traces are on.
    pub trace: Option<Context>,
}

/// Where a request gets a log from.
#[derive(Debug)]
pub enum LogFrom {
    /// From Kubernetes; the request waits for [`Response::Log`].
    Kubernetes(LogReader),
    /// There is no pod: at most the last lines that the service remembers of it.
    Memory,
}

/// The bounds of each log: on time, and on bytes.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    read: (Duration, usize),
    follow: (Duration, usize),
}

const BOUNDS: Bounds = Bounds {
    read: (READ_MAX, READ_BYTES_MAX),
    follow: (FOLLOW_MAX, FOLLOW_BYTES_MAX),
};

/// The threads that read logs; clones share their bound.
#[derive(Clone, Debug)]
pub struct Logs {
    client: Client,
    sink: Arc<dyn ResponseSink>,
    /// One place is one thread.
    places: Arc<Ledger>,
    bounds: Bounds,
    on_death: Dying,
}

#[derive(Clone)]
struct Dying(OnDeath);

impl std::fmt::Debug for Dying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dying")
    }
}

impl Logs {
    /// Threads for so many logs at a time, divided among callers like that.
    #[must_use]
    pub fn new(
        client: Client,
        sink: Arc<dyn ResponseSink>,
        (places, division): (usize, Division),
        on_death: OnDeath,
    ) -> Self {
        let division = Division {
            writes: 0,
            ..division
        };
        let places = Ledger::of_places(places, division);
        Self {
            client,
            sink,
            places,
            bounds: BOUNDS,
            on_death: Dying(on_death),
        }
    }

    /// Begins to read. The request gets [`Response::Log`] when its log begins, or an error.
    ///
    /// # Errors
    /// [`Error::TooManyRequests`] where there is no place; that there is no thread.
    pub(super) fn read(
        &self,
        source: LogSource,
        request: LogRequest,
        caller: LogCaller,
    ) -> Result<LogReader, Error> {
        let LogCaller {
            handle,
            hold,
            trace,
        } = caller;
        let account = hold.account().clone();
        let place = self.places.hold(account, Purpose::Start, 1);
        let place = place.map_err(|full| match full {
            Full::Budget => Error::TooManyRequests(Bound::LogStreams),
            share @ Full::Share => share.into(),
        })?;
        let sink = Arc::clone(&self.sink);
        let (pipe, reader) = Pipe::new(handle, sink, hold, request.follow);
        let client = match &trace {
            Some(trace) => self.client.made_for(trace),
            None => self.client.clone(),
        };
        let reading = Reading {
            client,
            source,
            request,
            pipe,
            bounds: self.bounds,
        };
        let run = move || {
            reading.run();
            drop(place);
        };
        let started = threads::spawn("log-reader".into(), Arc::clone(&self.on_death.0), run);
        started.map_err(|error| {
            log::error!("cannot start a thread for a log: {error}");
            Error::Overloaded
        })?;
        Ok(reader)
    }
}

/// A log that is being read.
struct Reading {
    client: Client,
    source: LogSource,
    request: LogRequest,
    pipe: Arc<Pipe>,
    bounds: Bounds,
}

/// Why a log ends; what is missing is for its last line.
enum End {
    Whole,
    Bound(String),
    Cut(String),
}

impl Reading {
    fn run(&self) {
        let opened = self.options().and_then(|options| {
            if options.follow {
                // While the container is silent there is not even the head of a response.
                self.open_line(&options)?;
                return Ok((options, None));
            }
            let stream = self.open(&options)?;
            Ok((options, Some(stream)))
        });
        let (options, stream) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.pipe.respond(Response::Failed(error)),
        };
        self.pipe.respond(Response::Log);
        let stream = stream.map_or_else(|| self.open(&options), Ok);
        let end = match stream {
            Ok(stream) => self.copy(stream, &options),
            Err(error) => End::Cut(error.to_string()),
        };
        let (cause, end) = match end {
            End::Whole => (None, LogEnd::Regular),
            End::Bound(cause) => (Some(cause), LogEnd::Regular),
            End::Cut(cause) => (Some(cause), LogEnd::Cut),
        };
        if let Some(cause) = cause {
            let note = format!("\n[config-controller ends this log here: {cause}]\n");
            (self.pipe).write(note.as_bytes(), Instant::now() + READ_MAX);
        }
        self.pipe.end(end);
    }

    /// The bounds on time and bytes.
    const fn bounds(&self) -> (Duration, usize) {
        if self.request.follow {
            self.bounds.follow
        } else {
            self.bounds.read
        }
    }

    fn options(&self) -> Result<LogOptions, Error> {
        let LogSource { pod, uid, .. } = &self.source;
        let containers = self.client.containers_of(pod);
        let containers = containers.map_err(|error| self.failed(&error))?;
        if containers.uid() != uid {
            return Err(self.gone());
        }
        let wanted = self.request.container.as_deref();
        let container = containers.choose(wanted);
        let container = container.map_err(|text| Error::QueryInvalid(text.into()))?;
        Ok(LogOptions {
            container: container.into(),
            tail: self.request.tail,
            since_secs: self.request.since_secs,
            previous: self.request.previous,
            follow: self.request.follow,
            // One more shows that there is more.
            bytes_max: self.bounds().1 + 1,
        })
    }

    /// Opens a log for a byte of its last line.
    fn open_line(&self, options: &LogOptions) -> Result<Box<dyn EventStream>, Error> {
        self.open(&LogOptions {
            tail: 1,
            since_secs: None,
            follow: false,
            bytes_max: 1,
            ..options.clone()
        })
    }

    fn open(&self, options: &LogOptions) -> Result<Box<dyn EventStream>, Error> {
        let (longest, _) = self.bounds();
        let log = (self.client).log(&self.source.pod, options, longest, &self.pipe.cut);
        match log {
            Ok(Some(stream)) => Ok(stream),
            Ok(None) => Err(self.not_started(None)),
            Err(error) if error.class() == Class::Invalid && options.previous => {
                let text = format!(
                    "container '{}' of {} has had no previous run",
                    options.container, self.source.instance
                );
                Err(Error::NoLog(NoLog::NoPreviousRun, text.into()))
            }
            Err(error) if error.class() == Class::Invalid => Err(self.not_started(Some(&error))),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Copies a log until its end.
    fn copy(&self, mut stream: Box<dyn EventStream>, options: &LogOptions) -> End {
        let (longest, mut left) = self.bounds();
        let (until, secs) = (Instant::now() + longest, longest.as_secs());
        let too_long = || {
            End::Bound(match self.request.follow {
                true => format!("a log is followed for at most {secs} s; ask again with since"),
                false => format!("a log is read for at most {secs} s; ask again with tail"),
            })
        };
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = match stream.read(&mut buffer) {
                Ok(0) if options.follow => {
                    return match self.open_line(options) {
                        Err(error @ Error::Unavailable { .. }) => End::Cut(error.to_string()),
                        _ => End::Whole,
                    };
                }
                Ok(0) => return End::Whole,
                Ok(count) => count,
                Err(_) if self.pipe.cut.is_cut() => return End::Whole,
                Err(Failure::TimedOut(_)) if self.request.follow => return too_long(),
                Err(failure) => return End::Cut(self.client_error(failure).user_message()),
            };
            let fits = count.min(left);
            if !self.pipe.write(&buffer[..fits], until) {
                return too_long();
            }
            left -= fits;
            if fits < count {
                let (_, bytes) = self.bounds();
                return End::Bound(format!(
                    "at most {bytes} bytes are sent; ask again with tail or since"
                ));
            }
        }
    }

    fn client_error(&self, failure: Failure) -> kube::Error {
        kube::Error {
            verb: kube::error::Verb::Get,
            resource: kube::request::LOGS,
            name: Some(self.source.pod.clone()),
            failure,
        }
    }

    fn gone(&self) -> Error {
        let text = format!("the pod of {} has just gone; retry", self.source.instance);
        Error::NoLog(NoLog::NotStarted, text.into())
    }

    /// The container has not started; `said` is what Kubernetes says of it.
    fn not_started(&self, said: Option<&kube::Error>) -> Error {
        let text = match (&self.source.finding, said) {
            (Some(finding), _) => state(&self.source.instance, finding),
            (None, Some(said)) => said.user_message(),
            (None, None) => format!("the pod of {} has no node yet", self.source.instance),
        };
        Error::NoLog(NoLog::NotStarted, text.into())
    }

    fn failed(&self, error: &kube::Error) -> Error {
        match error.class() {
            Class::NotFound => self.gone(),
            Class::Forbidden | Class::Refused => {
                let text = format!(
                    "config-controller may not read logs: its service account lacks the right to {} {} (manifests/read-logs, chart: readLogs)",
                    error.verb.as_str(),
                    error.resource
                );
                Error::NoLog(NoLog::NotPermitted, text.into())
            }
            _ => Error::Unavailable {
                retry_after: error.retry_after().unwrap_or(Duration::from_secs(1)),
                said: error.said_of_outage().map(Into::into),
            },
        }
    }
}

/// The state of an instance that has no log yet.
#[must_use]
pub fn state(instance: &str, finding: &Finding) -> String {
    let Finding {
        phase,
        reason,
        message,
        ..
    } = finding;
    let phase = phase.as_str();
    format!("{instance} has no log yet: it is {phase} ({reason}: {message})")
}

#[cfg(test)]
mod tests;
