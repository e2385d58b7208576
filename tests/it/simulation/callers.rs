//! Those who call the replicas: what they ask for, the ledger of who waits for what, and the
//! comparison of each answer with what really was.

use std::time::{Duration, Instant};

use config_controller::app::coordinator::WRITE_WAIT;
use config_controller::app::{
    App, Error, InstanceRequest, Intent, Origin, RequestHandle, Response,
};
use config_controller::clock::Clock;
use config_controller::model::labels::MetaChange;
use config_controller::model::template::Variables;
use serde_json::{Map, json};

use super::promises::{self, Breach, Floors, Promise, check};
use super::replica::WAITS;
use super::truth::Pair;
use super::world::{World, key_of};

/// What a caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Ensure,
    /// The instance if it is there; it is not started.
    Find,
    /// The instance, or its stop where it is not ready in time.
    EnsureOrStop,
    Stop,
    /// A stop that is answered when the Job is gone.
    StopAndWait,
    Label,
}

impl Wish {
    /// Whether it may start the instance.
    fn starts(self) -> bool {
        matches!(self, Self::Ensure | Self::EnsureOrStop)
    }

    /// Whether it is waited for as long as its call is under way, whatever its deadline.
    pub(super) fn is_change(self) -> bool {
        !matches!(self, Self::Ensure | Self::Find)
    }

    /// Whether it stops the instance, whatever happens.
    fn stops(self) -> bool {
        matches!(self, Self::Stop | Self::StopAndWait)
    }
}

/// A request that waits for its answer.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) pair: Pair,
    pub(super) replica: usize,
    pub(super) wish: Wish,
    pub(super) deadline: Instant,
    pub(super) floors: Floors,
    /// The revision at which it was made.
    pub(super) asked: u64,
    /// Of a stop: nobody has wanted the instance since it was asked for.
    pub(super) is_last_word: bool,
}

impl World {
    /// How long a request waits at most.
    fn wait_of(wish: Wish, wait: Option<Duration>) -> Duration {
        let wait = wait.unwrap_or(WAITS.start_wait).min(WAITS.start_wait_max);
        match wish {
            Wish::Ensure | Wish::Find => wait,
            // The stop of a start that was given up, and a change of a pod that was waited for,
            // have a time of their own.
            Wish::EnsureOrStop | Wish::Label => wait + WRITE_WAIT,
            Wish::Stop => WRITE_WAIT,
            Wish::StopAndWait => wait.max(WRITE_WAIT),
        }
    }

    /// Somebody asks a replica for something; false where it is down.
    pub(super) fn ask(
        &mut self,
        number: usize,
        pair: &Pair,
        wish: Wish,
        wait: Option<Duration>,
    ) -> Result<bool, Breach> {
        let Some(replica) = &self.replicas[number] else {
            return Ok(false);
        };
        let wait = match wish {
            Wish::Stop => None,
            // Without a wish to wait it would be a plain stop.
            Wish::StopAndWait => wait
                .filter(|wait| !wait.is_zero())
                .or(Some(WAITS.start_wait)),
            _ => wait,
        };
        self.serial += 1;
        let serial = self.serial;
        let handle = RequestHandle {
            io: 0,
            slot: 0,
            serial,
        };
        let request = InstanceRequest {
            handle,
            key: key_of(pair),
            by: Origin {
                trace: None,
                who: "sim".into(),
                request: self.ids.make(),
            },
            wait,
        };
        let floors = replica.floors();
        let answered = hand_over(&replica.app, request, wish);
        let waiting = Waiting {
            pair: pair.clone(),
            replica: number,
            wish,
            deadline: self.time.now() + Self::wait_of(wish, wait),
            floors,
            asked: self.truth.revision(),
            is_last_word: wish.stops() && !self.is_wanted(number, pair),
        };
        self.tell(|| format!("{serial}: {wish:?} {pair:?} of replica {number}, wait {wait:?}"));
        if wish.starts() {
            self.stopped.insert(pair.clone(), false);
            let stops = self
                .waiting
                .values_mut()
                .filter(|other| other.pair == *pair);
            stops.for_each(|stop| stop.is_last_word = false);
        }
        self.reasons.push_back((self.time.now(), pair.clone()));
        self.waiting.insert(serial, waiting);
        if let Some(answer) = answered {
            self.answered(handle, &answer)?;
        }
        Ok(true)
    }

    /// Whether somebody waits for the instance, or another replica is about to make its Job.
    fn is_wanted(&self, number: usize, pair: &Pair) -> bool {
        let key = key_of(pair);
        let mut waiting = self.waiting.values().chain(self.hung_up.values());
        let others = self.replicas.iter().enumerate();
        let mut others = others.filter(|(other, _)| *other != number);
        waiting.any(|other| other.wish.starts() && other.pair == *pair)
            || others.any(|(_, replica)| {
                let calls = replica.iter().flat_map(|replica| &replica.calls);
                let mut creating = calls.filter(|call| call.will_create(&key));
                creating.next().is_some()
            })
    }

    /// Somebody who waits hangs up; false where nobody waits.
    pub(super) fn hang_up(&mut self) -> bool {
        let at = self.dice.roll(self.waiting.len());
        let Some((&serial, _)) = self.waiting.iter().nth(at) else {
            return false;
        };
        let Some(waiting) = self.waiting.remove(&serial) else {
            return false;
        };
        if let Some(replica) = &self.replicas[waiting.replica] {
            replica.app.abandon(RequestHandle {
                io: 0,
                slot: 0,
                serial,
            });
        }
        self.hung_up.insert(serial, waiting);
        self.tell(|| format!("{serial}: hangs up"));
        true
    }

    /// An answer reaches its caller, and is compared with what was.
    pub(super) fn answered(
        &mut self,
        handle: RequestHandle,
        answer: &Response,
    ) -> Result<(), Breach> {
        self.look()?;
        let serial = handle.serial;
        if self.hung_up.remove(&serial).is_some() {
            return Ok(());
        }
        let Some(waiting) = self.waiting.remove(&serial) else {
            return check(Promise::AnsweredOnce, false, || {
                format!("{serial} does not wait")
            });
        };
        let word = word_of(answer);
        self.tell(|| format!("{serial}: is answered {word}"));
        self.count(&format!("{:?} {word}", waiting.wish));
        let line = self.truth.line(&waiting.pair);
        let now_ms = self.server().model.cluster.clock().now_ms();
        let floors = waiting.floors;
        match answer {
            Response::Ready { ready, .. } => {
                promises::ready_is_true(line, ready.ip, floors)?;
                self.deletion_is_remembered(&waiting, &ready.ip.to_string())?;
            }
            Response::Progress { progress, .. } if progress.is_failure_report => {
                promises::verdict_is_true(line, &progress.finding, floors, now_ms)?;
            }
            Response::Failed(Error::Stopped) => promises::stopped_is_true(line, floors)?,
            Response::Failed(Error::NoInstance(_)) if waiting.wish.stops() => {
                promises::stop_finds_nothing_only_if_so(line, waiting.asked)?;
                self.stop_is_answered(&waiting);
            }
            Response::Done if waiting.wish.stops() => {
                let must_be_gone = waiting.wish == Wish::StopAndWait;
                promises::stop_is_done(line, waiting.asked, must_be_gone)?;
                self.stop_is_answered(&waiting);
            }
            Response::Failed(error) => self.error_is_fair(error)?,
            Response::Done | Response::Progress { .. } | Response::TokenReviewed(_) => {}
        }
        Ok(())
    }

    fn error_is_fair(&self, error: &Error) -> Result<(), Breach> {
        let defect = matches!(error, Error::Internal);
        check(Promise::NoDefectIsTold, !defect, || error.to_string())?;
        let fair = matches!(
            error,
            Error::NoInstance(_)
                | Error::NameTaken(_)
                | Error::NotSynced
                | Error::TooManyRequests(_)
        );
        check(
            Promise::CalmHasNoErrors,
            fair || !self.profile.is_calm,
            || error.to_string(),
        )
    }

    fn stop_is_answered(&mut self, stop: &Waiting) {
        if stop.is_last_word {
            self.stopped.insert(stop.pair.clone(), true);
        }
        if let Some(line) = self.truth.line(&stop.pair) {
            let old = line
                .jobs
                .iter()
                .filter(|job| job.first().revision <= stop.asked);
            let gone = old.map(|job| (stop.pair.clone(), job.uid.clone()));
            self.deleted[stop.replica].extend(gone);
        }
    }

    fn deletion_is_remembered(&self, waiting: &Waiting, ip: &str) -> Result<(), Breach> {
        let pods = self
            .truth
            .line(&waiting.pair)
            .into_iter()
            .flat_map(|line| &line.pods);
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

/// Calls the service; what it answers at once, if anything.
fn hand_over(app: &App, request: InstanceRequest, wish: Wish) -> Option<Response> {
    let serial = request.handle.serial;
    let ensure = |request: InstanceRequest, intent| match app.ready(&request.key) {
        Ok(Some(ready)) => Some(Response::Ready {
            ready,
            timings: None,
        }),
        Ok(None) => {
            let handed_over = app.ensure(request, Variables::default(), intent);
            handed_over.err().map(Response::Failed)
        }
        Err(error) => Some(Response::Failed(error)),
    };
    match wish {
        Wish::Ensure => ensure(request, Intent::Start),
        Wish::Find => ensure(request, Intent::Find),
        Wish::EnsureOrStop => ensure(request, Intent::StartOrStop),
        Wish::Stop | Wish::StopAndWait => app.stop(request).err().map(Response::Failed),
        Wish::Label => app
            .label(request, label_of(serial))
            .err()
            .map(Response::Failed),
    }
}

fn label_of(serial: u64) -> MetaChange {
    let mut body = Map::new();
    let key = if serial.is_multiple_of(3) {
        "user"
    } else {
        "session"
    };
    body.insert(key.to_owned(), json!(serial.to_string()));
    MetaChange::from_body(&body).expect("a label of a schedule is one")
}

/// What a caller hears, in a word.
fn word_of(answer: &Response) -> String {
    match answer {
        Response::Ready { .. } => "ready".to_owned(),
        Response::Progress { progress, .. } if progress.is_failure_report => "app_error".to_owned(),
        Response::Progress { .. } => "progress".to_owned(),
        Response::Done => "done".to_owned(),
        Response::Failed(error) => {
            let text = format!("{error:?}");
            text.split(['(', ' ']).next().unwrap_or("").to_owned()
        }
        Response::TokenReviewed(_) => "reviewed".to_owned(),
    }
}
