//! The callers of the replicas: their requests, the ledger of waiting requests, and the comparison of
//! each response with the actual history.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config_controller::app::coordinator::{READ_WAIT, WRITE_WAIT};
use config_controller::app::{
    App, Bound, Error, InstanceRequest, Intent, Origin, RequestHandle, RequestId, Response,
};
use config_controller::clock::Clock;
use config_controller::model::labels::MetaChange;

use super::defects::Defect;
use super::promises::{self, Breach, Floors, Promise, check};
use super::replica::{Replica, WAITS};
use super::truth::Pair;
use super::unreliable::Unreliable;
use super::world::{World, key_of};

/// The kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestKind {
    Ensure,
    /// The same, after the Job was read from Kubernetes.
    Confirm,
    /// The instance if it exists; it is not started.
    Find,
    /// The instance, or its stop if it is not ready in time.
    EnsureOrStop,
    Stop,
    /// A stop that waits until the Job is gone.
    StopAndWait,
    Label,
}

impl RequestKind {
    /// Whether such a request may start the instance.
    fn starts(self) -> bool {
        matches!(self, Self::Ensure | Self::Confirm | Self::EnsureOrStop)
    }

    /// Whether such a request waits for its call in flight even beyond its deadline.
    pub(super) fn is_change(self) -> bool {
        !matches!(self, Self::Ensure | Self::Confirm | Self::Find)
    }

    /// Whether such a request may write after it has waited.
    pub(super) fn writes_after_its_wait(self) -> bool {
        matches!(self, Self::EnsureOrStop | Self::Label)
    }

    /// Whether such a request always stops the instance.
    fn stops(self) -> bool {
        matches!(self, Self::Stop | Self::StopAndWait)
    }
}

/// A request that waits for its response.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) pair: Pair,
    pub(super) replica: usize,
    pub(super) kind: RequestKind,
    pub(super) deadline: Instant,
    /// Whether a stop through its replica may have ended it while it waited for a place: there is no Job then.
    pub(super) may_end_in_queue: bool,
    pub(super) floors: Floors,
    /// The revision at the time of the request.
    pub(super) requested_at: u64,
    /// For a stop: no later request wants the instance.
    pub(super) is_last_request: bool,
    /// Number of lists by then that showed an older state.
    pub(super) stale_lists: u64,
}

impl World {
    /// How long a request waits at most.
    fn wait_of(kind: RequestKind, wait: Option<Duration>) -> Duration {
        let wait = wait.unwrap_or(WAITS.start_wait).min(WAITS.start_wait_max);
        match kind {
            RequestKind::Ensure | RequestKind::Find => wait,
            // It waits for the read for at least so long.
            RequestKind::Confirm => wait.max(READ_WAIT),
            // Writes after the wait have a time limit of their own.
            RequestKind::EnsureOrStop | RequestKind::Label => wait + WRITE_WAIT,
            RequestKind::Stop => WRITE_WAIT,
            RequestKind::StopAndWait => wait.max(WRITE_WAIT),
        }
    }

    /// Sends a request to a replica; returns false if the replica is down.
    pub(super) fn send_request(
        &mut self,
        number: usize,
        pair: &Pair,
        kind: RequestKind,
        wait: Option<Duration>,
    ) -> Result<bool, Breach> {
        let floors = self.floors_of(number);
        let is_paused = self.is_paused(number);
        let Some(replica) = self.replicas[number].as_ref().filter(|_| !is_paused) else {
            return Ok(false);
        };
        let wait = match kind {
            RequestKind::Stop => None,
            // Without a wait it would be a plain stop.
            RequestKind::StopAndWait => wait
                .filter(|wait| !wait.is_zero())
                .or(Some(WAITS.start_wait)),
            _ => wait,
        };
        self.serial += 1;
        let serial = self.serial;
        let handle = handle_of(serial);
        let by = origin(self.ids.make());
        let change =
            (kind == RequestKind::Label).then(|| self.labels.send(serial, self.profile.is_crowded));
        let shown = replica.cache.ready(&key_of(pair));
        let expectation = self.labels.expect(serial, shown, self.profile.is_fenced);
        let request = |held| InstanceRequest {
            is_patient: self.profile.is_capped && serial % 3 == 1,
            handle: self.handle_given(number, handle),
            key: key_of(pair),
            by,
            wait: self.profile.defect.wait(wait),
            reads: kind == RequestKind::Confirm,
            expectation,
            held,
        };
        let immediate = match replica.hold(serial as usize, kind.is_change()) {
            Ok(held) => submit_to(replica, pair, request(held), kind, change),
            Err(_) => Some(Response::Failed(Error::TooManyRequests(Bound::CallerShare))),
        };
        let waiting = Waiting {
            pair: pair.clone(),
            replica: number,
            kind,
            deadline: self.time.now() + Self::wait_of(kind, wait),
            floors,
            requested_at: self.truth.revision(),
            is_last_request: kind.stops() && !self.is_wanted(number, pair),
            stale_lists: self.stale_lists,
            may_end_in_queue: false,
        };
        self.log(|| format!("{serial}: {kind:?} {pair:?} at replica {number}, wait {wait:?}"));
        if kind.starts() {
            self.stopped.insert(pair.clone(), false);
            let others = self.waiting.values_mut();
            let stops = others.filter(|other| other.pair == *pair);
            stops.for_each(|stop| stop.is_last_request = false);
        }
        self.reasons.push_back((self.time.now(), pair.clone()));
        self.note_stop(&waiting);
        self.waiting.insert(serial, waiting);
        if let Some(response) = immediate {
            self.check_response(handle, &response)?;
        }
        Ok(true)
    }

    /// What waits for a place at its replica may be ended by this, if it is a stop.
    fn note_stop(&mut self, stop: &Waiting) {
        let others = self.waiting.values_mut().filter(|it| it.pair == stop.pair);
        for other in others.filter(|it| it.replica == stop.replica && stop.kind.stops()) {
            other.may_end_in_queue = self.profile.queues();
        }
    }

    /// The handle that a request to that replica gets: its own, unless handles are reused on purpose.
    fn handle_given(&self, number: usize, own: RequestHandle) -> RequestHandle {
        let mut waiting = self.waiting.iter();
        let mut reused = waiting.find(|(_, waiting)| waiting.replica == number);
        let reused = reused.take_if(|_| self.profile.defect == Defect::ReusesHandles);
        reused.map_or(own, |(serial, _)| handle_of(*serial))
    }

    /// Whether a request waits for the instance, or another replica is about to create its Job.
    fn is_wanted(&self, number: usize, pair: &Pair) -> bool {
        let key = key_of(pair);
        let mut waiting = self.waiting.values().chain(self.hung_up.values());
        let others = self.replicas.iter().enumerate();
        let mut others = others.filter(|(other, _)| *other != number);
        waiting.any(|other| other.kind.starts() && other.pair == *pair)
            || others.any(|(_, replica)| {
                let calls = replica.iter().flat_map(|replica| &replica.calls);
                let mut creating = calls.filter(|call| call.will_create(&key));
                creating.next().is_some()
            })
    }

    /// A random waiting caller hangs up; returns false if no request waits.
    pub(super) fn hang_up(&mut self) -> bool {
        let at = self.dice.roll(self.waiting.len());
        let Some((&serial, _)) = self.waiting.iter().nth(at) else {
            return false;
        };
        let Some(waiting) = self.waiting.remove(&serial) else {
            return false;
        };
        if let Some(replica) = &self.replicas[waiting.replica] {
            replica.app.abandon(handle_of(serial));
        }
        self.hung_up.insert(serial, waiting);
        self.log(|| format!("{serial}: hangs up"));
        true
    }

    /// Delivers a response to its caller, and compares it with the actual history.
    pub(super) fn check_response(
        &mut self,
        handle: RequestHandle,
        response: &Response,
    ) -> Result<(), Breach> {
        self.observe()?;
        let serial = handle.serial;
        if self.hung_up.remove(&serial).is_some() {
            return Ok(());
        }
        let Some(waiting) = self.waiting.remove(&serial) else {
            return check(Promise::AnsweredOnce, false, || {
                format!("{serial} does not wait")
            });
        };
        self.labels.answer(serial);
        let outcome = outcome_of(response);
        self.log(|| format!("{serial}: gets {outcome}"));
        self.count(&format!("{:?} {outcome}", waiting.kind));
        let history = self.truth.history(&waiting.pair);
        let now_ms = self.server().model.cluster.clock().now_ms();
        let mut floors = waiting.floors;
        // After a read the Job is at least as new as the request, whatever the watch has lost.
        let is_read = waiting.kind == RequestKind::Confirm;
        if is_read && self.profile.unreliable != Unreliable::Etcd {
            floors.jobs = floors.jobs.max(waiting.requested_at);
        }
        if waiting.kind == RequestKind::Ensure {
            self.delay_ends(&waiting.pair, response)?;
        }
        match response {
            Response::Ready { ready, .. } => {
                promises::ready_is_true(history, ready.ip, floors)?;
                self.ready_lasts(&waiting.pair, ready.ip, floors, now_ms)?;
                self.deletion_is_remembered(&waiting, &ready.ip.to_string())?;
                self.used(waiting.replica, ready);
                if let Some(replica) = &mut self.replicas[waiting.replica] {
                    replica.keep(&waiting.pair, response);
                }
            }
            Response::Progress { progress, .. } if progress.is_failure_report => {
                let is_seen = |uid: &str| self.has_seen_stopping(waiting.replica, uid);
                let finding = &progress.finding;
                promises::failure_report_is_true(history, finding, floors, now_ms, is_seen)?;
            }
            Response::Failed(Error::Stopped) => {
                let went_back = self.stale_lists > waiting.stale_lists;
                if !waiting.may_end_in_queue {
                    promises::stopped_is_true(history, floors, went_back)?;
                }
            }
            Response::Failed(Error::NoInstance(_)) if waiting.kind.stops() => {
                promises::stop_finds_nothing_only_if_so(history, waiting.requested_at)?;
                self.stop_is_answered(&waiting);
            }
            Response::Done if waiting.kind.stops() => {
                let must_be_gone = waiting.kind == RequestKind::StopAndWait;
                promises::stop_is_done(history, waiting.requested_at, must_be_gone)?;
                self.stop_is_answered(&waiting);
            }
            Response::Failed(error) => self.error_is_fair(waiting.kind, error)?,
            Response::Labelled(_) if self.profile.unreliable != Unreliable::Etcd => {
                self.labels.is_fenced(serial)?;
                self.labels.are_set(serial, history, waiting.requested_at)?;
            }
            Response::Done
                if waiting.kind == RequestKind::Label
                    && self.profile.unreliable != Unreliable::Etcd =>
            {
                self.labels.are_set(serial, history, waiting.requested_at)?;
            }
            Response::Done
            | Response::Labelled(_)
            | Response::Log
            | Response::Progress { .. }
            | Response::List(_)
            | Response::Relist(..)
            | Response::Stopped(_)
            | Response::TokenReviewed(_)
            | Response::Unread(_) => {}
        }
        Ok(())
    }

    fn ready_lasts(
        &self,
        pair: &Pair,
        ip: IpAddr,
        floors: Floors,
        now_ms: i64,
    ) -> Result<(), Breach> {
        match &self.profile.settles {
            Some(app_type) if *app_type == pair.0 => {
                promises::ready_has_lasted(self.truth.history(pair), ip, floors, now_ms)
            }
            _ => Ok(()),
        }
    }

    /// Whether this replica's cache has shown that this pod was being deleted before it had ended.
    fn has_seen_stopping(&self, number: usize, pod: &str) -> bool {
        let replica = self.replicas[number].as_ref();
        replica.is_some_and(|replica| replica.sim.stopping.contains(pod))
    }

    fn error_is_fair(&self, kind: RequestKind, error: &Error) -> Result<(), Breach> {
        // However late the caches are, Kubernetes can be reached.
        let is_outage = matches!(error, Error::Unavailable { .. }) && !kind.is_change();
        let has_failed = self.server().failures > 0;
        check(
            Promise::NoErrorsWithoutFaults,
            has_failed || !is_outage,
            || error.to_string(),
        )?;
        let defect = matches!(error, Error::Internal);
        check(Promise::NoInternalErrors, !defect, || error.to_string())?;
        let fair = matches!(
            error,
            Error::NoInstance(_)
                | Error::NameTaken(_)
                | Error::NotSynced
                | Error::TooManyRequests(_)
                | Error::NoPlace(_)
                // It was deleted before it was admitted: by whom is not known.
                | Error::LimitReached
                | Error::LabelsLimit(_)
        );
        // Others set labels, too, and the pod may have a successor.
        let is_outrun = matches!(error, Error::PreconditionFailed(_)) && kind == RequestKind::Label;
        check(
            Promise::NoErrorsWithoutFaults,
            fair || is_outrun || !self.profile.is_calm,
            || error.to_string(),
        )
    }

    fn stop_is_answered(&mut self, stop: &Waiting) {
        if stop.is_last_request {
            self.stopped.insert(stop.pair.clone(), true);
        }
        if let Some(history) = self.truth.history(&stop.pair) {
            let old = history
                .jobs
                .iter()
                .filter(|job| job.first().revision <= stop.requested_at);
            let gone = old.map(|job| (stop.pair.clone(), job.uid.clone()));
            self.deleted[stop.replica].extend(gone);
        }
    }

    fn deletion_is_remembered(&self, waiting: &Waiting, ip: &str) -> Result<(), Breach> {
        let pods = self
            .truth
            .history(&waiting.pair)
            .into_iter()
            .flat_map(|history| &history.pods);
        let owners = pods.filter(|pod| {
            let mut states = pod.since(0).filter_map(|state| state.object.as_deref());
            states.any(|pod| pod["status"]["podIP"] == ip)
        });
        let deleted = &self.deleted[waiting.replica];
        let mut known = owners.filter(|pod| {
            let mut deleted = deleted.iter();
            deleted.any(|(pair, uid)| *pair == waiting.pair && pod.owner.as_ref() == Some(uid))
        });
        let handed_out = known.next().map(|pod| pod.uid.clone());
        check(Promise::DeletionIsRemembered, handed_out.is_none(), || {
            format!("pod {handed_out:?}")
        })
    }
}

/// Passes a request to this replica, which may have a defect.
fn submit_to(
    replica: &Replica,
    pair: &Pair,
    request: InstanceRequest,
    kind: RequestKind,
    change: Option<MetaChange>,
) -> Option<Response> {
    match (replica.sim.defect, kind, replica.sim.kept.get(pair)) {
        (Defect::KeepsResponses, RequestKind::Ensure, Some(kept)) => Some(kept.clone()),
        // Not from the cache.
        (Defect::AsksForReads, RequestKind::Ensure, _) => {
            submit(&replica.app, request, RequestKind::Confirm, change)
        }
        _ => submit(&replica.app, request, kind, change),
    }
}

/// Passes a request to the service; returns the immediate response, if any.
fn submit(
    app: &App,
    request: InstanceRequest,
    kind: RequestKind,
    change: Option<MetaChange>,
) -> Option<Response> {
    let ensure =
        |request: InstanceRequest, intent| match app.ready(&request.key, &request.expectation) {
            Ok(Some(ready)) => Some(Response::Ready {
                ready,
                timings: None,
            }),
            Ok(None) => {
                let submitted = app.ensure(request, intent);
                submitted.err().map(Response::Failed)
            }
            Err(error) => Some(Response::Failed(error)),
        };
    match kind {
        RequestKind::Ensure => ensure(request, Intent::Start(Arc::default())),
        RequestKind::Confirm => {
            let submitted = app.ensure(request, Intent::Start(Arc::default()));
            submitted.err().map(Response::Failed)
        }
        RequestKind::Find => ensure(request, Intent::Find),
        RequestKind::EnsureOrStop => ensure(request, Intent::StartOrStop(Arc::default())),
        RequestKind::Stop | RequestKind::StopAndWait => {
            app.stop(request).err().map(Response::Failed)
        }
        RequestKind::Label => app
            .label(request, change.unwrap_or_default())
            .err()
            .map(Response::Failed),
    }
}

/// The handle of the request with this number.
fn handle_of(serial: u64) -> RequestHandle {
    RequestHandle {
        io: 0,
        slot: 0,
        serial,
    }
}

/// A response in one word.
fn outcome_of(response: &Response) -> String {
    match response {
        Response::Ready { .. } => "ready".to_owned(),
        Response::Progress { progress, .. } if progress.is_failure_report => "app_error".to_owned(),
        Response::Progress { .. } => "progress".to_owned(),
        Response::Done => "done".to_owned(),
        Response::Labelled(_) => "labelled".to_owned(),
        Response::Failed(error) => {
            let text = format!("{error:?}");
            text.split(['(', ' ']).next().unwrap_or("").to_owned()
        }
        Response::Log => "log".to_owned(),
        Response::List(_) => "list".to_owned(),
        Response::Relist(..) => "relist".to_owned(),
        Response::Stopped(_) => "stopped".to_owned(),
        Response::TokenReviewed(_) => "reviewed".to_owned(),
        Response::Unread(response) => format!("unread {}", outcome_of(response)),
    }
}

fn origin(request: RequestId) -> Origin {
    Origin {
        trace: None,
        caller: "sim".into(),
        owner: None,
        request,
    }
}
