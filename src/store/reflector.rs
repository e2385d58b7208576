//! The thread that keeps one store up to date.
//!
//! It does what the machine in [`crate::kube::watch`] says: lists, watches,
//! waits, tells the store. Decisions are there; here are only calls, the log,
//! and the counters that metrics and the liveness probe read. It ends when the
//! program stops: [`Stop`] is set, and `HttpTransport::close_watches` ends the
//! read that it may be blocked in. [`Running`] is all of this without the thread,
//! for the simulation.

use super::StoreEvent;
use super::backoff::Backoff;
use super::store::{Change, Writer};
use crate::clock::Clock;
use crate::kube::Client;
use crate::kube::error::{Error, Failure};
use crate::kube::request::Scope;
use crate::kube::transport::EventStream;
use crate::kube::types::{Resource, decode_event};
use crate::kube::watch::{Cause, Effect, End, Input, Lines, Next, Note, SILENCE, Watch};
use crate::shutdown::Stop;
use crate::threads::{self, OnDeath};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A reflector that has not given a sign of life for this long hangs: a read
/// waits for [`SILENCE`], a page of a list a few times the limits of one call.
pub const BEAT_LATEST: Duration = Duration::from_secs(2 * SILENCE.as_secs());

/// How many bytes of a watch are read at once.
const READ_BYTES: usize = 16 * 1024;

/// Is called with what has changed for readers.
///
/// After a complete list it is called even if nothing has changed, so that its
/// owner learns of the first sync.
pub type OnChange<K> = Box<dyn Fn(&[Change<K>]) + Send>;

/// Where a reflector puts what it hears.
pub trait Sink<K>: Send + 'static {
    /// Takes what a list or watch says; answers what has changed for readers.
    fn apply(&self, event: StoreEvent<K>) -> Vec<Change<K>>;

    /// Kubernetes was heard from.
    fn heard(&self, now: Instant);

    /// A watch is open, or not any more.
    fn watching(&self, open: bool);
}

impl<K: Resource> Sink<K> for Writer<K> {
    fn apply(&self, event: StoreEvent<K>) -> Vec<Change<K>> {
        Self::apply(self, event)
    }

    fn heard(&self, now: Instant) {
        Self::heard(self, now);
    }

    fn watching(&self, open: bool) {
        Self::watching(self, open);
    }
}

/// What a reflector needs.
pub struct Reflector<K: Resource, S = Writer<K>> {
    /// Lists and watches through it.
    pub client: Client,
    /// Of which objects.
    pub scope: Scope,
    /// The store that is kept up to date.
    pub writer: S,
    /// For deadlines and heartbeats.
    pub clock: Arc<dyn Clock>,
    /// When to end.
    pub stop: Stop,
    /// How often to list while the right to watch is missing.
    pub poll: Duration,
    /// What is lost while that right is missing; `None` where lists make up for it.
    pub loss: Option<&'static str>,
    /// Of the jitter.
    pub seed: u64,
    /// Who is told of changes.
    pub on_change: OnChange<K>,
    /// Is told when the thread dies.
    pub on_death: OnDeath,
}

impl<K: Resource, S> fmt::Debug for Reflector<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reflector")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// HealthInputs of life and counts of one reflector.
#[derive(Debug)]
pub struct Heartbeat {
    resource: &'static str,
    started: Instant,
    beat_millis: AtomicU64,
    events: AtomicU64,
    skipped: AtomicU64,
    restarts: [AtomicU64; Cause::ALL.len()],
}

impl Heartbeat {
    fn new(resource: &'static str, now: Instant) -> Self {
        Self {
            resource,
            started: now,
            beat_millis: AtomicU64::new(0),
            events: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            restarts: Default::default(),
        }
    }

    /// The resource (plural) that is watched.
    #[must_use]
    pub fn resource(&self) -> &'static str {
        self.resource
    }

    /// When the thread last came round; see [`BEAT_LATEST`].
    #[must_use]
    pub fn last_beat(&self) -> Instant {
        self.started + Duration::from_millis(self.beat_millis.load(Ordering::Relaxed))
    }

    /// Watch events so far, bookmarks included.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Objects that could not be decoded, so far.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// How often a list or watch was begun again for that cause, so far.
    #[must_use]
    pub fn restarts(&self, cause: Cause) -> u64 {
        self.restarts[cause as usize].load(Ordering::Relaxed)
    }

    fn beat(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.started).as_millis();
        self.beat_millis
            .store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// A running reflector.
#[derive(Debug)]
pub struct ReflectorHandle {
    /// Its inputs of life.
    pub heartbeat: Arc<Heartbeat>,
    thread: JoinHandle<()>,
}

impl ReflectorHandle {
    /// Waits for the thread to end.
    ///
    /// # Errors
    /// When it has panicked.
    pub fn join(self) -> thread::Result<()> {
        self.thread.join()
    }
}

impl<K: Resource, S: Sink<K>> Reflector<K, S> {
    /// Starts the thread, which is named after the resource (`watch-pods`).
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(self) -> io::Result<ReflectorHandle> {
        let resource = K::COLLECTION.plural;
        let on_death = Arc::clone(&self.on_death);
        let running = Running::new(self);
        let heartbeat = Arc::clone(&running.heartbeat);
        let thread = threads::spawn(format!("watch-{resource}"), on_death, move || running.run())?;
        Ok(ReflectorHandle { heartbeat, thread })
    }
}

/// What a reflector's thread runs: by turns it does what is [`next`](Self::next), which talks to
/// Kubernetes and touches nothing here, and takes what has come of it, which touches the store
/// and talks to nobody. Much may happen in between.
pub struct Running<K: Resource, S = Writer<K>> {
    reflector: Reflector<K, S>,
    heartbeat: Arc<Heartbeat>,
    backoff: Backoff,
    reporter: Reporter,
    watch: Watch,
    next: Next,
    open: Option<Open>,
}

impl<K: Resource, S> fmt::Debug for Running<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("reflector", &self.reflector)
            .field("watch", &self.watch)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// An open watch, and what has come of it.
struct Open {
    stream: Box<dyn EventStream>,
    lines: Lines,
    buffer: Vec<u8>,
}

impl<K: Resource, S: Sink<K>> Running<K, S> {
    /// A reflector that has done nothing yet.
    #[must_use]
    pub fn new(reflector: Reflector<K, S>) -> Self {
        let now = reflector.clock.now();
        let heartbeat = Arc::new(Heartbeat::new(K::COLLECTION.plural, now));
        let reporter = Reporter {
            heartbeat: Arc::clone(&heartbeat),
            poll: reflector.poll,
            loss: reflector.loss,
            failing: None,
        };
        Self {
            heartbeat,
            backoff: Backoff::new(reflector.seed),
            reporter,
            watch: Watch::new(reflector.poll),
            next: Next::Wait(Duration::ZERO),
            open: None,
            reflector,
        }
    }

    /// What is done next.
    #[must_use]
    pub fn next(&self) -> &Next {
        &self.next
    }

    fn run(mut self) {
        loop {
            let input = self.perform();
            if self.reflector.stop.is_set() {
                return;
            }
            let wait = self.take(input);
            if let Some(wait) = wait
                && self.reflector.stop.wait(wait)
            {
                return;
            }
        }
    }

    /// Does what is next: asks for a list or a watch, or reads the next line of the open one.
    /// A wait is over by now.
    #[must_use]
    pub fn perform(&mut self) -> Input<K> {
        let Reflector { client, scope, .. } = &self.reflector;
        match &self.next {
            Next::List { continue_token } => {
                Input::Listed(client.list(scope, continue_token.as_deref()))
            }
            Next::Open { version } => {
                let opened = client.watch::<K>(scope, version).map(|stream| {
                    let (lines, buffer) = (Lines::new(), vec![0; READ_BYTES]);
                    self.open = Some(Open {
                        stream,
                        lines,
                        buffer,
                    });
                });
                Input::Opened(opened)
            }
            Next::Read => {
                let open = self.open.as_mut().expect("reading follows opening");
                open.next(&self.heartbeat)
            }
            Next::Wait(_) | Next::BackOff { .. } => Input::Woken,
        }
    }

    /// Takes what has come of that; answers how long to wait before it goes on, if at all.
    pub fn take(&mut self, input: Input<K>) -> Option<Duration> {
        let now = self.reflector.clock.now();
        self.heartbeat.beat(now);
        let step = self.watch.step(input, now);
        self.tell(step.effects, now);
        if step.next != Next::Read {
            self.open = None;
        }
        let wait = match step.next {
            Next::Wait(wait) => Some(wait),
            Next::BackOff { at_least } => {
                let wait = self.backoff.after_failure(now);
                Some(wait.max(at_least.min(RETRY_AFTER_MAX)))
            }
            Next::List { .. } | Next::Open { .. } | Next::Read => None,
        };
        self.next = step.next;
        wait
    }

    fn tell(&mut self, effects: Vec<Effect<K>>, now: Instant) {
        let writer = &self.reflector.writer;
        let mut changes = Vec::new();
        let mut complete = false;
        for effect in effects {
            match effect {
                Effect::Store(event) => {
                    complete |= matches!(event, StoreEvent::InitDone(_));
                    changes.extend(writer.apply(event));
                }
                Effect::Note(note) => {
                    match note {
                        Note::Heard => writer.heard(now),
                        Note::Watching(is_open) => writer.watching(is_open),
                        Note::Restart(..) | Note::Skipped(_) | Note::Refused(_) => {}
                    }
                    self.reporter.tell(&note, now);
                }
            }
        }
        if complete || !changes.is_empty() {
            (self.reflector.on_change)(&changes);
        }
    }
}

/// Tells the log and the counters of what happens to a watch, whatever it watches.
struct Reporter {
    heartbeat: Arc<Heartbeat>,
    poll: Duration,
    loss: Option<&'static str>,
    /// Since when nothing is heard, once that has been logged.
    failing: Option<Instant>,
}

impl Reporter {
    fn tell(&mut self, note: &Note, now: Instant) {
        let resource = self.heartbeat.resource;
        match note {
            Note::Heard => {
                if let Some(since) = self.failing.take() {
                    let secs = now.saturating_duration_since(since).as_secs_f32();
                    log::info!("{resource} are heard of again, after {secs:.1} s");
                }
            }
            Note::Watching(_) => {}
            Note::Skipped(skipped) => {
                self.heartbeat.skipped.fetch_add(1, Ordering::Relaxed);
                let (name, reason) = (&skipped.name, &skipped.reason);
                log::warn!("skipping \"{name}\" of {resource}, which cannot be decoded: {reason}");
            }
            Note::Refused(error) => self.refused(error),
            Note::Restart(cause, why) => {
                self.heartbeat.restarts[*cause as usize].fetch_add(1, Ordering::Relaxed);
                self.restarted(*cause, why, now);
            }
        }
    }

    /// Says that a right is missing, and what that means.
    fn refused(&self, error: &Error) {
        let (resource, poll) = (self.heartbeat.resource, self.poll.as_secs_f32());
        match self.loss {
            Some(loss) => log::warn!(
                "{error}; doing without {resource}: {loss}; asked again every {poll} s until that right is granted"
            ),
            None => log::error!(
                "{error}; listing {resource} every {poll} s until that right is granted (is it the namespace that is meant, and is the Role bound in it?)"
            ),
        }
    }

    /// Says why it begins again: usual causes only to those who debug, an outage once.
    fn restarted(&mut self, cause: Cause, why: &str, now: Instant) {
        let resource = self.heartbeat.resource;
        match cause {
            Cause::Closed => log::debug!("watch of {resource} begins again: {why}"),
            // If it lasts, it is said once, as the missing right that it is.
            Cause::Refused => log::debug!("{resource} are refused so far: {why}"),
            Cause::Silent | Cause::Lost | Cause::Expired => {
                log::info!(
                    "watch of {resource} begins again ({}): {why}",
                    cause.as_str()
                );
            }
            Cause::Short | Cause::Broken | Cause::WentBack | Cause::Failed => {
                if self.failing.is_none() {
                    self.failing = Some(now);
                    log::warn!(
                        "{resource} are not heard of ({}): {why}; trying on",
                        cause.as_str()
                    );
                } else {
                    log::debug!(
                        "{resource} are still not heard of ({}): {why}",
                        cause.as_str()
                    );
                }
            }
        }
    }
}

/// Longest `Retry-After` that is heeded: nobody is served by an old view.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

impl Open {
    /// Waits for the next line, and reads it.
    fn next<K: Resource>(&mut self, heartbeat: &Heartbeat) -> Input<K> {
        loop {
            if let Some(line) = self.lines.next_line() {
                heartbeat.events.fetch_add(1, Ordering::Relaxed);
                return Input::Event(decode_event(line).map_err(|error| error.to_string()));
            }
            let read = match self.stream.read(&mut self.buffer) {
                Ok(0) if self.lines.has_rest() => {
                    return Input::Ended(End::Lost("it ended within a line".into()));
                }
                Ok(0) => return Input::Ended(End::Closed),
                Ok(read) => read,
                Err(Failure::TimedOut(_)) => return Input::Ended(End::Silent),
                Err(Failure::Lost(why) | Failure::Connect(why)) => {
                    return Input::Ended(End::Lost(why));
                }
                Err(other) => return Input::Event(Err(format!("{other:?}"))),
            };
            if self.lines.push(&self.buffer[..read]).is_err() {
                return Input::Event(Err("a line is too long".into()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
