//! The thread that keeps one store up to date.
//!
//! It does what the state machine in [`crate::kube::watch`] decides: it lists, watches,
//! waits and updates the store. Decisions belong there; here are only API calls, the log,
//! and the counters that metrics and the liveness probe read. The thread ends when the
//! program shuts down: [`Stop`] is set, and `HttpTransport::close_watches` ends the
//! read that it may be blocked in. [`Running`] is all of this without the thread,
//! for the simulation.

use super::backoff::Backoff;
use super::store::{Change, Sink, Writer};
use super::{Doubts, StoreEvent};
use crate::clock::Clock;
use crate::kube::Client;
use crate::kube::error::Failure;
use crate::kube::request::Scope;
use crate::kube::transport::EventStream;
use crate::kube::types::{Resource, decode_event};
use crate::kube::watch::{
    Cause, Effect, End, Input, LINE_BYTES_MAX, Lines, Next, Note, SILENCE, Watch,
};
use crate::shutdown::Stop;
use crate::threads::{self, Heartbeat, Heartbeats, OnDeath};
use checks::Checks;
pub use report::WatchStats;
use report::{Cuts, Reporter};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

mod checks;
mod report;

/// How long a list, the opening of a watch, or a read of it may take: they have their own time limits, and new credentials may be needed first.
const STEP_LONGEST: Duration = Duration::from_secs(2 * SILENCE.as_secs());

/// How many bytes of a watch one read requests.
const READ_BYTES: usize = 16 * 1024;

/// Called with the changes that readers see.
///
/// After a complete list it is called even if nothing has changed, so that its
/// owner learns of the first sync.
pub type OnChange<K> = Box<dyn Fn(&[Change<K>]) + Send>;

/// The inputs of a reflector.
pub struct Reflector<K: Resource, S = Writer<K>> {
    /// Sends lists and watches.
    pub client: Client,
    /// Selects the objects.
    pub scope: Scope,
    /// Writes to the store that is kept up to date.
    pub writer: S,
    /// For deadlines and heartbeats.
    pub clock: Arc<dyn Clock>,
    /// Ends the thread when it is set.
    pub stop: Stop,
    /// Interval of lists while the permission to watch is missing.
    pub poll: Duration,
    /// Interval of lists to compare the store with while its watch is open; `None` for a store that may
    /// lack objects.
    pub relist: Option<Duration>,
    /// What suggests that versions went back.
    pub doubts: Doubts,
    /// The effect of the missing permission, for the log; `None` if lists replace the watch.
    pub loss: Option<&'static str>,
    /// Seed of the jitter.
    pub seed: u64,
    /// Where the heartbeat of the thread goes.
    pub heartbeats: Heartbeats,
    /// Called with the changes that readers see.
    pub on_change: OnChange<K>,
    /// Called when the thread dies.
    pub on_death: OnDeath,
}

impl<K: Resource, S> fmt::Debug for Reflector<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reflector")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

impl<K: Resource, S: Sink<K>> Reflector<K, S> {
    /// Starts the thread, which is named after the resource (`watch-pods`), and returns its
    /// counters.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn spawn(self) -> io::Result<(Arc<WatchStats>, JoinHandle<()>)> {
        let on_death = Arc::clone(&self.on_death);
        let running = Running::new(self);
        let stats = Arc::clone(&running.reporter.stats);
        let thread = threads::spawn(Self::thread(), on_death, move || running.run())?;
        Ok((stats, thread))
    }

    fn thread() -> String {
        format!("watch-{}", K::COLLECTION.plural)
    }
}

/// What a reflector's thread runs, in two alternating steps. [`perform`](Self::perform) calls
/// Kubernetes and changes nothing here. [`take`](Self::take) processes the result, changes the
/// store and calls nothing. Other threads may run in between.
#[derive(Debug)]
pub struct Running<K: Resource, S = Writer<K>> {
    reflector: Reflector<K, S>,
    heartbeat: Arc<Heartbeat>,
    backoff: Backoff,
    reporter: Reporter,
    watch: Watch,
    next: Next,
    open: Option<Open>,
    checks: Checks,
    /// How many doubts it has followed up.
    doubts: u64,
}

/// An open watch, and the bytes received on it.
#[derive(Debug)]
struct Open {
    stream: Box<dyn EventStream>,
    lines: Lines,
    buffer: Vec<u8>,
}

impl<K: Resource, S: Sink<K>> Running<K, S> {
    /// A reflector in its initial state.
    #[must_use]
    pub fn new(reflector: Reflector<K, S>) -> Self {
        let now = reflector.clock.now();
        let reporter = Reporter {
            stats: Arc::new(WatchStats::new(K::COLLECTION.plural)),
            poll: reflector.poll,
            loss: reflector.loss,
            failing: None,
            cuts: Cuts::default(),
        };
        Self {
            heartbeat: (reflector.heartbeats).register(&Reflector::<K, S>::thread(), now),
            backoff: Backoff::new(reflector.seed),
            reporter,
            watch: Watch::new(reflector.poll, reflector.relist, reflector.seed),
            next: Next::Wait(Duration::ZERO),
            open: None,
            checks: Checks::default(),
            doubts: reflector.doubts.count(),
            reflector,
        }
    }

    /// The next action.
    #[must_use]
    pub fn next(&self) -> &Next {
        &self.next
    }

    /// Whether its watch is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.watch.is_open()
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

    /// Performs the next action: requests a list or a watch, or reads the next line of the open one.
    /// A wait must be over.
    #[must_use]
    pub fn perform(&mut self) -> Input<K> {
        let Reflector { client, scope, .. } = &self.reflector;
        match &self.next {
            Next::List {
                continue_token,
                limit,
            } => {
                let (token, is_apart) = (continue_token.as_deref(), self.watch.lists_apart());
                Input::Listed(client.list(scope, token, *limit, is_apart))
            }
            Next::Probe => {
                let known = self.reflector.writer.newest();
                Input::Probed(client.newest::<K>(), known)
            }
            Next::Check { again } => {
                let writer = &self.reflector.writer;
                Input::Checked(self.checks.check(*again, client, writer))
            }
            Next::Open { version } => {
                let opened = client.watch::<K>(scope, version).map(|stream| {
                    let (lines, buffer) = (Lines::default(), vec![0; READ_BYTES]);
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
                open.next(&self.reporter.stats, || {
                    let now = self.reflector.clock.now();
                    self.heartbeat.beat(now, STEP_LONGEST);
                })
            }
            Next::Wait(_) | Next::BackOff { .. } => Input::Woken,
        }
    }

    /// Processes the result; returns how long to wait before the next action, if at all.
    pub fn take(&mut self, input: Input<K>) -> Option<Duration> {
        let now = self.reflector.clock.now();
        let is_told = matches!(input, Input::Doubted);
        let step = self.watch.step(input, now);
        if !self.watch.is_open() {
            self.open = None;
        }
        let wait = match step.next {
            Next::Wait(wait) => Some(wait),
            Next::BackOff { at_least } => {
                let wait = self.backoff.after_failure(now);
                Some(wait.max(at_least.min(RETRY_AFTER_MAX)))
            }
            _ => None,
        };
        let longest = wait.unwrap_or_default().saturating_add(STEP_LONGEST);
        self.heartbeat.beat(now, longest);
        self.next = step.next;
        self.carry_out(step.effects, wait, now, is_told);
        self.reflector.writer.alive(now);
        if self.next == Next::Read && self.reflector.writer.needs_list() {
            return self.take(Input::Unfit);
        }
        let doubts = self.reflector.doubts.count();
        if self.next == Next::Read && self.doubts != doubts {
            self.doubts = doubts;
            return self.take(Input::Doubted);
        }
        wait
    }

    /// `is_told`: others have shown that versions went back, if they did.
    fn carry_out(
        &mut self,
        effects: Vec<Effect<K>>,
        wait: Option<Duration>,
        now: Instant,
        is_told: bool,
    ) {
        let writer = &self.reflector.writer;
        let mut changes = Vec::new();
        let mut complete = false;
        let mut compared = false;
        for effect in effects {
            match effect {
                Effect::Store(event) => {
                    complete |= matches!(event, StoreEvent::InitDone(_));
                    changes.extend(writer.apply(event));
                }
                Effect::Note(note) => {
                    match note {
                        Note::Contact => writer.contact(now),
                        Note::Watching(is_open) => writer.watching(is_open),
                        Note::Stale(since) => writer.stale(since),
                        Note::Relisted(cause) => {
                            compared = matches!(cause, Cause::Interval | Cause::Differs);
                        }
                        // The other reflectors look at their stores, too.
                        Note::Restart(Cause::WentBack, _) => {
                            writer.went_back();
                            if !is_told {
                                self.reflector.doubts.raise();
                                self.doubts = self.reflector.doubts.count();
                            }
                        }
                        _ => {}
                    }
                    self.reporter.report(&note, wait, now);
                }
            }
        }
        if compared {
            self.reporter.differs(&changes);
        }
        changes
            .iter()
            .for_each(|change| self.reporter.changed(change));
        if complete || !changes.is_empty() {
            (self.reflector.on_change)(&changes);
        }
    }
}

/// Longest `Retry-After` that is obeyed, so that the cache does not get older than necessary.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

impl Open {
    /// Waits for the next line, and reads it; calls `received` after each read.
    fn next<K: Resource>(&mut self, stats: &WatchStats, received: impl Fn()) -> Input<K> {
        loop {
            if let Some(line) = self.lines.next_line() {
                stats.events.fetch_add(1, Ordering::Relaxed);
                return Input::Event(decode_event(line).map_err(|error| error.to_string()));
            }
            let read = match self.stream.read(&mut self.buffer) {
                Ok(0) if self.lines.has_rest() => {
                    return Input::Ended(End::Lost("the connection ended within a line".into()));
                }
                Ok(0) => return Input::Ended(End::Closed),
                Ok(read) => read,
                Err(Failure::TimedOut(_)) => return Input::Idle,
                Err(Failure::Lost(why) | Failure::Connect(why)) => {
                    return Input::Ended(End::Lost(why));
                }
                Err(other) => return Input::Event(Err(format!("{other:?}"))),
            };
            received();
            let memory = || self.stream.charge(LINE_BYTES_MAX);
            if let Err(overflow) = self.lines.push(&self.buffer[..read], memory) {
                return Input::Event(Err(overflow.to_string()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
