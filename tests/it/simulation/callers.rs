//! Those who call the replicas: what they ask for, the ledger of who waits for what, and the
//! comparison of each answer with what really was.

use std::time::{Duration, Instant};

use config_controller::app::flight::Intent;
use config_controller::app::{Answer, App, Asked, Error, Origin, RequestHandle};
use config_controller::clock::Clock;
use config_controller::model::labels::MetaChange;
use config_controller::model::template::Variables;
use serde_json::{Map, json};

use super::promises::{self, Breach, Floors, Promise, check};
use super::replica::WAITS;
use super::truth::Pair;
use super::world::{World, key_of};

/// How long a start that was given up may take to be stopped.
const GIVE_UP_TIME: Duration = Duration::from_secs(10);

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
            Wish::EnsureOrStop => wait + GIVE_UP_TIME,
            Wish::Stop => WAITS.start_wait,
            Wish::StopAndWait | Wish::Label => wait.max(WAITS.start_wait),
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
        let token = RequestHandle {
            io: 0,
            slot: 0,
            serial,
        };
        let asked = Asked {
            token,
            key: key_of(pair),
            by: Origin {
                trace: None,
                who: "sim".into(),
                request: self.ids.make(),
            },
            wait,
        };
        let floors = replica.floors();
        let answered = hand_over(&replica.app, asked, wish);
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
            self.answered(token, &answer)?;
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
    pub(super) fn answered(&mut self, token: RequestHandle, answer: &Answer) -> Result<(), Breach> {
        self.look()?;
        let serial = token.serial;
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
            Answer::Ready(ready) => {
                promises::ready_is_true(line, ready.ip, floors)?;
                self.deletion_is_remembered(&waiting, &ready.ip.to_string())?;
            }
            Answer::Progress(progress) if progress.is_verdict => {
                promises::verdict_is_true(line, &progress.finding, floors, now_ms)?;
            }
            Answer::Failed(Error::Stopped) => promises::stopped_is_true(line, floors)?,
            Answer::Failed(Error::NoInstance(_)) if waiting.wish.stops() => {
                promises::stop_finds_nothing_only_if_so(line, waiting.asked)?;
                self.stop_is_answered(&waiting);
            }
            Answer::Done if waiting.wish.stops() => {
                let must_be_gone = waiting.wish == Wish::StopAndWait;
                promises::stop_is_done(line, waiting.asked, must_be_gone)?;
                self.stop_is_answered(&waiting);
            }
            Answer::Failed(error) => self.error_is_fair(error)?,
            Answer::Done | Answer::Progress(_) | Answer::Reviewed(_) => {}
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
fn hand_over(app: &App, asked: Asked, wish: Wish) -> Option<Answer> {
    let serial = asked.token.serial;
    let ensure = |asked: Asked, intent| match app.ready(&asked.key) {
        Ok(Some(ready)) => Some(Answer::Ready(ready)),
        Ok(None) => {
            let handed_over = app.ensure(asked, Variables::default(), intent);
            handed_over.err().map(Answer::Failed)
        }
        Err(error) => Some(Answer::Failed(error)),
    };
    match wish {
        Wish::Ensure => ensure(asked, Intent::Start),
        Wish::Find => ensure(asked, Intent::Find),
        Wish::EnsureOrStop => ensure(asked, Intent::StartOrStop),
        Wish::Stop | Wish::StopAndWait => app.stop(asked).err().map(Answer::Failed),
        Wish::Label => app.label(asked, label_of(serial)).err().map(Answer::Failed),
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
fn word_of(answer: &Answer) -> String {
    match answer {
        Answer::Ready(_) => "ready".to_owned(),
        Answer::Progress(progress) if progress.is_verdict => "app_error".to_owned(),
        Answer::Progress(_) => "progress".to_owned(),
        Answer::Done => "done".to_owned(),
        Answer::Failed(error) => {
            let text = format!("{error:?}");
            text.split(['(', ' ']).next().unwrap_or("").to_owned()
        }
        Answer::Reviewed(_) => "reviewed".to_owned(),
    }
}
