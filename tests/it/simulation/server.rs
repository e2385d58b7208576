//! The API server of a schedule, and the replicas' transports: the fake's model without sockets.
//!
//! [`Link`] is a [`Transport`] that passes each request to [`Model::handle`]. Watches are [`Pipe`]s:
//! a pipe delivers nothing unless the schedule lets it, so that it can lag, break within a line,
//! fall silent or end. The faults of requests are drawn here, from the schedule's seed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use config_controller::clock::Clock;
use config_controller::kube::Error;
use config_controller::kube::error::{Failure, Verb};
use config_controller::kube::request::Request;
use config_controller::kube::server_clock::ServerClock;
use config_controller::kube::transport::{self, EventStream, Response, Transport};
use config_controller::kube::types::Timestamp;
use config_controller::kube::watch::SLICE;
use percent_encoding::percent_decode_str;

use super::broken::Broken;
use super::dice::{Dice, Time};
use super::profile::Profile;
use super::stuck::Stuck;
use crate::fake_kube::api::{self, Model, Reply, Watch};
use crate::fake_kube::cluster::read::WatchEvent;
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::cluster::selector::Selector;
use crate::fake_kube::cluster::{Backup, meta};
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::NAMESPACE;

/// The interval between two bookmarks of a watch.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// The API server.
#[derive(Debug)]
pub(super) struct Server {
    /// The fake itself.
    pub(super) model: Model,
    /// How many of a thousand requests meet a fault.
    pub(super) faults_per_thousand: usize,
    /// Connections are refused until then.
    pub(super) away_until: Option<Instant>,
    /// Every request gets a 403 until then.
    pub(super) forbidden_until: Option<Instant>,
    /// What is wrong with this server on purpose.
    pub(super) broken: Broken,
    /// How often each fault is met, relative to the others.
    weights: Vec<usize>,
    /// What fails for ever.
    stuck: Option<Stuck>,
    /// Requests so far: all, and those that create a Job.
    pub(super) requests: u64,
    pub(super) posts: u64,
    /// Requests so far that met a fault.
    pub(super) failures: u64,
    /// The lines that watches send, by resource, encoded once for all watches.
    feeds: Vec<Feed>,
    /// Number of lists so far that showed an older state.
    pub(super) stale_lists: u64,
    /// How many of a thousand lines of watches are lost.
    pub(super) losses_per_thousand: usize,
    /// The last creation, if it is to be repeated.
    creation: Option<api::Request>,
    dice: Dice,
    time: Time,
}

impl Server {
    pub(super) fn new(model: Model, seed: u64, time: Time, profile: &Profile) -> Self {
        Self {
            model,
            faults_per_thousand: 0,
            away_until: None,
            forbidden_until: None,
            broken: profile.broken,
            weights: profile.weights.faults.clone(),
            stuck: profile.stuck.clone(),
            requests: 0,
            posts: 0,
            failures: 0,
            feeds: Vec::new(),
            stale_lists: 0,
            losses_per_thousand: 0,
            creation: None,
            dice: Dice::new(seed),
            time,
        }
    }

    /// Ends all faults.
    pub(super) fn end_faults(&mut self) {
        self.faults_per_thousand = 0;
        self.losses_per_thousand = 0;
        self.away_until = None;
        self.forbidden_until = None;
    }

    /// Compacts all history; watches that lag behind get a 410.
    pub(super) fn compact(&mut self) {
        for feed in &mut self.feeds {
            feed.extend(&self.model, self.broken);
        }
        self.model.cluster.compact();
    }

    /// An older copy takes the place of what is stored.
    pub(super) fn restore(&mut self, backup: &Backup) {
        self.model.cluster.restore(backup);
        let revision = self.model.cluster.revision();
        for feed in &mut self.feeds {
            feed.lines.retain(|(of, _)| *of <= revision);
            feed.revision = feed.revision.min(revision);
        }
    }

    /// The lines of the watches of that resource, up to now.
    fn feed(&mut self, watch: &Watch) -> &Feed {
        let known = self
            .feeds
            .iter()
            .position(|feed| feed.resource == watch.resource);
        let at = known.unwrap_or_else(|| {
            self.feeds.push(Feed {
                resource: watch.resource,
                selector: watch.selector.clone(),
                revision: self.model.cluster.compacted(),
                lines: Vec::new(),
            });
            self.feeds.len() - 1
        });
        self.feeds[at].extend(&self.model, self.broken);
        &self.feeds[at]
    }

    /// The error event of a watch from a compacted revision.
    fn refusal(&self, watch: &Watch) -> Option<WatchEvent> {
        let Watch {
            resource,
            namespace,
            selector,
            revision,
            ..
        } = watch;
        let cluster = &self.model.cluster;
        if *revision >= cluster.compacted() {
            return None;
        }
        let refused = cluster.watch_events(*resource, namespace, selector, *revision);
        refused.err().map(|refusal| WatchEvent::error(&refusal))
    }

    fn is_active(&self, until: Option<Instant>) -> bool {
        until.is_some_and(|until| self.time.now() < until)
    }

    /// Draws the fault of the next request, if any.
    fn draw(&mut self, verb: &str) -> Option<Fault> {
        if self.is_active(self.forbidden_until) {
            return Some(Fault::Forbidden);
        }
        if !self.dice.chance(self.faults_per_thousand) {
            return None;
        }
        let few = u64::try_from(self.dice.roll(8)).expect("it is below 8");
        let retry_after_secs = u32::try_from(self.dice.roll(4)).expect("it is below 4");
        let status = self.dice.pick(&[500, 502, 503, 504]);
        Some(match (verb, self.dice.weighted(&self.weights)) {
            (_, 0 | 1) => Fault::TooManyRequests { retry_after_secs },
            (_, 2 | 3) => match few {
                0 => Fault::Raw(429, "<html>slow down</html>"),
                1 => Fault::Raw(302, ""),
                2 => Fault::Raw(200, "<html>welcome</html>"),
                3 => Fault::Raw(200, "{}"),
                _ => Fault::Status(status),
            },
            (_, 4) => Fault::Drop,
            // What cannot be an answer.
            ("list" | "get" | "create" | "patch" | "delete", 9) => Fault::Null,
            ("list" | "get" | "create" | "patch" | "delete", 10) => Fault::HalfBody,
            ("watch", 5) => Fault::StaleWatch(few),
            ("watch", 6) => Fault::SplitWatch,
            ("watch", 7) => Fault::SilentWatch,
            ("watch", _) => Fault::GoneAsStatus,
            ("list", 5 | 6) => {
                self.stale_lists += 1;
                Fault::StaleList(few)
            }
            ("list", _) => Fault::DuplicateItem,
            (_, 5) => Fault::Forbidden,
            _ if few < 2 => Fault::SpoilAnswer,
            _ => Fault::LoseAnswer,
        })
    }

    /// A broken API server creates each Job again once its name is free.
    fn repeat_creation(&mut self, request: &api::Request) {
        if self.broken != Broken::RepeatsCreations {
            return;
        }
        if let Some(creation) = &self.creation {
            let _ = self.model.handle(&creation.clone());
        }
        if request.method == "POST" {
            self.creation = Some(request.clone());
        }
    }

    fn handle(&mut self, request: &Request) -> Result<api::Outcome, Failure> {
        self.requests += 1;
        if self.is_active(self.away_until) {
            self.failures += 1;
            return Err(Failure::Connect("connection refused".into()));
        }
        // A read of one name is never stale, and has nothing to show twice.
        let verb = match (request.verb, &request.name) {
            (Verb::List, Some(_)) => "get",
            (verb, _) => verb.as_str(),
        };
        self.posts += u64::from(verb == "create");
        let stuck = self.stuck.as_ref().and_then(|stuck| stuck.fault(request));
        let fault = stuck.or_else(|| self.draw(verb));
        self.failures += u64::from(fault.is_some());
        if fault == Some(Fault::Drop) && self.dice.chance(500) {
            return Err(Failure::Connect("connection refused".into()));
        }
        if let Some(fault) = fault {
            let rule = FaultRule::new("*", "*", fault);
            self.model.faults.add(rule.times(1));
        }
        let mut translated = translate(request);
        let broken = self.broken;
        broken.spoil_request(&mut translated, &mut self.model);
        self.repeat_creation(&translated);
        let mut outcome = self.model.handle(&translated);
        broken.spoil_reply(&translated, &mut outcome.reply);
        self.model.faults.clear();
        Ok(outcome)
    }
}

/// The lines of all watches of one resource. All replicas watch it with the same selector.
#[derive(Debug)]
struct Feed {
    resource: Resource,
    selector: Selector,
    revision: u64,
    lines: Vec<(u64, Arc<[u8]>)>,
}

impl Feed {
    fn extend(&mut self, model: &Model, broken: Broken) {
        let cluster = &model.cluster;
        if cluster.revision() == self.revision {
            return;
        }
        let events = cluster.watch_events(self.resource, NAMESPACE, &self.selector, self.revision);
        for event in events.expect("a feed is extended before history is compacted") {
            let revision = meta(&event.object, "resourceVersion").parse();
            let revision = revision.expect("an event has a version, which is a number");
            if let Some(event) = broken.spoil_event(self.resource, event) {
                let line = event.line().into_bytes().into();
                self.lines.push((revision, line));
            }
        }
        self.revision = cluster.revision();
    }

    /// The first line after that revision.
    fn after(&self, revision: u64) -> Option<&(u64, Arc<[u8]>)> {
        let from = self.lines.partition_point(|(of, _)| *of <= revision);
        self.lines.get(from)
    }
}

/// Converts a request to the fake's type.
fn translate(request: &Request) -> api::Request {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (path, query) = request
        .path_and_query
        .split_once('?')
        .unwrap_or((&request.path_and_query, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    api::Request {
        method: request.verb.method().to_owned(),
        path: decode(path),
        query: pairs
            .map(|(key, value)| (decode(key), decode(value)))
            .collect(),
        content_type: request.content_type.map(str::to_owned),
        body: request.body.clone().unwrap_or_default(),
        ..api::Request::default()
    }
}

/// Locks a mutex; a schedule runs on one thread, so the lock is free.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A replica's transport to the API server.
#[derive(Debug)]
pub(super) struct Link {
    server: Arc<Mutex<Server>>,
    clock: Arc<ServerClock>,
    /// The watch that was opened last, until it is taken.
    opened: Mutex<Option<Arc<Mutex<Pipe>>>>,
}

impl Link {
    pub(super) fn new(server: Arc<Mutex<Server>>, clock: Arc<ServerClock>) -> Self {
        Self {
            server,
            clock,
            opened: Mutex::default(),
        }
    }

    /// Takes the watch that was opened last.
    pub(super) fn take_opened(&self) -> Option<Arc<Mutex<Pipe>>> {
        lock(&self.opened).take()
    }
}

impl Transport for Link {
    fn send(&self, request: &Request) -> Result<Response, Error> {
        let (outcome, date) = {
            let mut server = lock(&self.server);
            let date = server.model.cluster.clock().now_ms() / 1000;
            (server.handle(request), Timestamp::from_seconds(date))
        };
        let response = match outcome.map_err(|failure| request.error(failure))?.reply {
            Reply::Response(response) => response,
            Reply::Nothing | Reply::Watch(_) | Reply::Log(_) => {
                return Err(request.error(Failure::Lost("connection reset".into())));
            }
        };
        self.clock.heard(date, self.clock.now());
        let seconds = response
            .headers
            .iter()
            .find(|(name, _)| *name == "Retry-After");
        let seconds = seconds.and_then(|(_, value)| value.parse().ok());
        Ok(Response {
            status: response.code,
            body: response.body.to_string().into_bytes(),
            retry_after: seconds.map(Duration::from_secs),
            date: Some(date),
            ..Response::default()
        })
    }

    fn open(&self, request: &Request) -> Result<Box<dyn EventStream>, Error> {
        let outcome = lock(&self.server).handle(request);
        let outcome = outcome.map_err(|failure| request.error(failure))?;
        let watch = match outcome.reply {
            Reply::Watch(watch) => *watch,
            Reply::Nothing | Reply::Log(_) => {
                return Err(request.error(Failure::Lost("connection reset".into())));
            }
            Reply::Response(response) => {
                let refused = Response {
                    status: response.code,
                    body: response.body.to_string().into_bytes(),
                    ..Response::default()
                };
                refused.into_success(request)?;
                return Err(request.error(Failure::InvalidResponse("no watch".into())));
            }
        };
        let refusal = {
            let mut server = lock(&self.server);
            server.feed(&watch);
            server.refusal(&watch)
        };
        let pipe = Arc::new(Mutex::new(Pipe {
            refusal,
            opened: self.clock.now(),
            last_sent: self.clock.now(),
            read_since: self.clock.now(),
            is_silent: outcome.faults.contains(&Fault::SilentWatch),
            is_split: outcome.faults.contains(&Fault::SplitWatch),
            frozen_until: None,
            cut: None,
            pieces: VecDeque::new(),
            watch,
        }));
        *lock(&self.opened) = Some(Arc::clone(&pipe));
        Ok(Box::new(Stream(pipe)))
    }

    /// The simulation has no callers that read logs.
    fn open_log(
        &self,
        request: &Request,
        _: Duration,
        _: bool,
        _: &transport::Cut,
    ) -> Result<Option<Box<dyn EventStream>>, Error> {
        self.open(request).map(Some)
    }
}

/// How a watch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Regularly.
    Closed,
    /// Between two lines.
    Lost,
    /// Within the next line.
    WithinLine,
}

/// The server's side of an open watch.
#[derive(Debug)]
pub(super) struct Pipe {
    watch: Watch,
    /// Its only line, if it starts at a compacted revision.
    refusal: Option<WatchEvent>,
    opened: Instant,
    last_sent: Instant,
    /// The reader waits since then.
    read_since: Instant,
    is_silent: bool,
    is_split: bool,
    /// Nothing arrives until then, so this cache is stale.
    pub(super) frozen_until: Option<Instant>,
    /// It ends before the next line.
    pub(super) cut: Option<Cut>,
    /// The pieces that the reader gets next.
    pieces: VecDeque<Result<Vec<u8>, Failure>>,
}

impl Pipe {
    /// Prepares the next piece for the reader; returns whether there is one.
    pub(super) fn prepare(&mut self, server: &mut Server, now: Instant) -> bool {
        if !self.pieces.is_empty() {
            return true;
        }
        let is_mute = self.is_silent || self.frozen_until.is_some_and(|until| now < until);
        let is_there = !is_mute
            && match self.cut {
                Some(Cut::Closed) => {
                    self.pieces.push_back(Ok(Vec::new()));
                    true
                }
                Some(Cut::Lost) => self.lose(),
                Some(Cut::WithinLine) | None => self.prepare_line(server, now),
            };
        if is_there {
            self.read_since = now;
        } else if now.saturating_duration_since(self.read_since) >= SLICE {
            self.read_since = now;
            self.pieces.push_back(Err(Failure::TimedOut("idle".into())));
            return true;
        }
        is_there
    }

    fn next_line(&mut self, server: &mut Server) -> Option<Arc<[u8]>> {
        loop {
            let feed = server.feed(&self.watch);
            let (revision, line) = feed.after(self.watch.revision)?;
            self.watch.revision = *revision;
            let line = Arc::clone(line);
            if server.losses_per_thousand == 0 || !server.dice.chance(server.losses_per_thousand) {
                return Some(line);
            }
        }
    }

    /// The connection is lost.
    pub(super) fn lose_connection(&mut self) {
        self.cut = Some(Cut::Lost);
    }

    fn lose(&mut self) -> bool {
        let lost = Failure::Lost("connection reset".into());
        self.pieces.push_back(Err(lost));
        true
    }

    fn prepare_line(&mut self, server: &mut Server, now: Instant) -> bool {
        let ends = self.opened + Duration::from_secs(self.watch.timeout_secs);
        let next = match self.refusal.take() {
            Some(refusal) => {
                self.cut = Some(Cut::Closed);
                Some(refusal.line().into_bytes().into())
            }
            None => self.next_line(server),
        };
        let line: Arc<[u8]> = match next {
            Some(line) => line,
            None if now >= ends => {
                self.pieces.push_back(Ok(Vec::new()));
                return true;
            }
            None if now.saturating_duration_since(self.last_sent) >= BOOKMARK_EVERY => {
                if server.model.cluster.revision() < self.watch.revision {
                    return false;
                }
                self.watch.revision = server.model.cluster.revision();
                let bookmark = WatchEvent::bookmark(self.watch.resource, self.watch.revision);
                bookmark.line().into_bytes().into()
            }
            None => return false,
        };
        self.last_sent = now;
        let (head, tail) = line.split_at(line.len() / 2);
        if self.cut == Some(Cut::WithinLine) {
            self.pieces.push_back(Ok(head.to_vec()));
            self.lose();
        } else if self.is_split {
            self.pieces.extend([Ok(head.to_vec()), Ok(tail.to_vec())]);
        } else {
            self.pieces.push_back(Ok(line.to_vec()));
        }
        true
    }

    /// Ends the lag of this watch.
    pub(super) fn unfreeze(&mut self) {
        self.frozen_until = None;
    }
}

/// The reader's end of a [`Pipe`].
#[derive(Debug)]
struct Stream(Arc<Mutex<Pipe>>);

impl EventStream for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let mut pipe = lock(&self.0);
        let piece = pipe.pieces.pop_front();
        let mut piece = piece.expect("a schedule reads only what is there")?;
        let length = piece.len().min(buffer.len());
        buffer[..length].copy_from_slice(&piece[..length]);
        let rest = piece.split_off(length);
        if !rest.is_empty() {
            pipe.pieces.push_front(Ok(rest));
        }
        Ok(length)
    }
}
