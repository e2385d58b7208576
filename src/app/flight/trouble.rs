//! What follows from a call that failed: who hears of it now, and what is tried again when.
//!
//! Pure, as all of [`super`]. A failure concerns those for whom the call was made and nobody else.

use super::{Asked, Context, Effect, Flight, Kind, Whose};
use crate::app::Answer;
use crate::app::cache::Observed;
use crate::app::error::{self, Error};
use crate::kube::{self, Class};
use std::time::{Duration, Instant};

/// How long no connection, or a missing right, is taken for the restart of the API server,
/// which answers 403 to everybody until its RBAC is loaded.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// First pause after a failed call; it doubles up to [`RETRY_PAUSE_MAX`].
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause between two tries of a call of our own choice.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Longest pause that a `Retry-After` of the API server makes: who asks later than that shall not
/// suffer from what was said to somebody else.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// Pause between two tries to get rid of a pod that does not go.
const FORCE_PAUSE: Duration = Duration::from_secs(5);

/// So often in a row Kubernetes may have something else than the cache shows before that is
/// looked at in peace.
const RACES_AT_ONCE: u32 = 3;

/// What [`PATIENCE`] bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Connection,
    Right,
}

/// Calls fail, and are tried again.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    /// The kind of call that has failed last.
    pub(super) kind: Kind,
    /// Since when nothing but this kind of failure was heard, where [`PATIENCE`] bounds it.
    since: Instant,
    /// How often.
    tries: u32,
    /// When to try again.
    retry_at: Instant,
    /// Whether it is one that [`PATIENCE`] bounds.
    test: Option<Test>,
    /// What to tell when patience or the deadline is over.
    pub(super) error: Error,
}

impl Flight {
    /// Leaves a pod that does not go alone for a while.
    pub(super) fn pause_force(&mut self, now: Instant) {
        self.trouble = Some(Trouble {
            kind: Kind::Force,
            since: now,
            tries: 1,
            retry_at: now + FORCE_PAUSE,
            test: None,
            error: Error::UNAVAILABLE,
        });
    }

    /// Whether a call of this kind has to wait, since the last one failed.
    pub(super) fn is_pausing(&self, kind: Kind, now: Instant) -> bool {
        self.trouble
            .as_ref()
            .is_some_and(|trouble| trouble.kind == kind && now < trouble.retry_at)
    }

    /// When to try the call again that is due and failed before.
    pub(super) fn retry_at(&self, seen: &Observed, context: &Context<'_>) -> Option<Instant> {
        let trouble = self.trouble.as_ref().filter(|_| self.asked.is_none())?;
        (self.due(seen, context) == Some(trouble.kind)).then_some(trouble.retry_at)
    }

    /// What those hear at their deadline who wait for a start or a stop.
    pub(super) fn trouble_of_start(&self) -> Option<Error> {
        let trouble = self.trouble.as_ref()?;
        let concerns = !matches!(trouble.kind, Kind::Label | Kind::Force);
        concerns.then(|| trouble.error.clone())
    }

    /// A call has failed: who hears of it now, and what is tried again.
    pub(super) fn failed(
        &mut self,
        asked: &Asked,
        error: &kube::Error,
        context: &Context<'_>,
        out: &mut Vec<Effect>,
    ) {
        let kind = asked.whose.kind();
        match (error.class(), kind) {
            // It has gone by itself, or another replica was faster: look what is there.
            (Class::NotFound | Class::Conflict, Kind::Force) => self.look_again(error, context),
            // Nobody waits for this call, so there is time.
            (_, Kind::Force) => self.pause_force(context.now),
            // Somebody was faster, or the answer to an earlier try was lost: look what is there.
            (Class::AlreadyExists, Kind::Create) | (Class::Conflict, Kind::Delete) => {
                self.look_again(error, context);
            }
            // The engine has taken it out of the cache.
            (Class::NotFound, Kind::Delete) => {
                self.trouble = None;
                if let Whose::Delete { stops, .. } = &asked.whose {
                    let gone = self
                        .stops
                        .extract_if(.., |stop| stops.contains(&stop.token));
                    out.extend(gone.map(|stop| Effect::Answer(stop.token, Answer::Done)));
                }
            }
            (Class::NotFound, Kind::Create) => {
                self.give_up(&asked.whose, &Error::NamespaceMissing, out);
            }
            // A quota that many starts change at once; or the pod was replaced, and the cache
            // will show its successor.
            (Class::Conflict, Kind::Create) | (Class::NotFound | Class::Conflict, Kind::Label) => {
                self.try_again(kind, Error::UNAVAILABLE, error, context);
            }
            (Class::Forbidden { own_right: false }, _) => {
                let refused = Error::Refused(error::kube_sentence(error));
                self.give_up_these(&asked.whose, &refused, out);
            }
            (Class::Invalid, Kind::Create) => {
                let invalid = Error::TemplateInvalid(error::kube_sentence(error));
                self.give_up_these(&asked.whose, &invalid, out);
            }
            (Class::Invalid, Kind::Label) => {
                let invalid = Error::ReservedKey(error::kube_sentence(error));
                self.give_up_these(&asked.whose, &invalid, out);
            }
            (Class::Forbidden { own_right: true } | Class::Unauthorized, _) => {
                self.test(Test::Right, asked, error, context, out);
            }
            (Class::Unavailable, _) if error.connect_failed() => {
                self.test(Test::Connection, asked, error, context, out);
            }
            (Class::Unavailable | Class::Throttled { .. }, _) => {
                let retry_after = error.retry_after().unwrap_or(RETRY_PAUSE_MAX);
                let told = Error::Unavailable { retry_after };
                self.try_again(kind, told, error, context);
            }
            (
                Class::NotFound
                | Class::AlreadyExists
                | Class::Conflict
                | Class::Expired
                | Class::Invalid
                | Class::Protocol,
                _,
            ) => self.give_up_these(&asked.whose, &Error::Internal, out),
        }
    }

    /// The cache lags behind: read, at once the first times, so that two that disagree for ever
    /// make no storm.
    fn look_again(&mut self, error: &kube::Error, context: &Context<'_>) {
        self.must_read = true;
        self.races = self.races.saturating_add(1);
        self.trouble = None;
        if self.races > RACES_AT_ONCE {
            self.try_again(Kind::Read, Error::UNAVAILABLE, error, context);
        }
    }

    /// Tries again until [`PATIENCE`] is over. No connection counts from when it was tried, since
    /// that alone may take seconds; a missing right from when it was told.
    fn test(
        &mut self,
        test: Test,
        asked: &Asked,
        error: &kube::Error,
        context: &Context<'_>,
        out: &mut Vec<Effect>,
    ) {
        let (begun, told) = match test {
            Test::Connection => (asked.since, Error::UNAVAILABLE),
            Test::Right => (context.now, Error::NotPermitted),
        };
        let before = self.trouble.as_ref().filter(|t| t.test == Some(test));
        let since = before.map_or(begun, |trouble| trouble.since);
        let end = since + PATIENCE;
        if context.now >= end {
            self.give_up(&asked.whose, &told, out);
            return;
        }
        let tries = before.map_or(0, |trouble| trouble.tries);
        let pause = pause(tries, error);
        self.trouble = Some(Trouble {
            kind: asked.whose.kind(),
            since,
            tries: tries + 1,
            retry_at: (context.now + pause).min(end),
            test: Some(test),
            error: told,
        });
    }

    fn try_again(&mut self, kind: Kind, told: Error, error: &kube::Error, context: &Context<'_>) {
        let before = self.trouble.as_ref().filter(|t| t.test.is_none());
        let tries = before.map_or(0, |trouble| trouble.tries);
        self.trouble = Some(Trouble {
            kind,
            since: context.now,
            tries: tries.saturating_add(1),
            retry_at: context.now + pause(tries, error),
            test: None,
            error: told,
        });
    }

    /// Tells all who need a call of this kind that there will be none; the others stay.
    fn give_up(&mut self, whose: &Whose, error: &Error, out: &mut Vec<Effect>) {
        let failed = Answer::Failed(error.clone());
        self.trouble = None;
        match whose.kind() {
            Kind::Create => self.answer_blocked(|_| true, &failed, out),
            Kind::Read => {
                self.must_read = false;
                self.answer_blocked(|_| true, &failed, out);
                self.answer_stops(&failed, out);
                self.answer_labels(&failed, out);
            }
            Kind::Delete => {
                self.answer_blocked(|_| true, &failed, out);
                self.answer_stops(&failed, out);
            }
            Kind::Label => self.answer_labels(&failed, out),
            // Nobody waits for it.
            Kind::Force => {}
        }
    }

    /// As [`Flight::give_up`], where only what was sent is refused: those who would send
    /// something else go on.
    fn give_up_these(&mut self, whose: &Whose, error: &Error, out: &mut Vec<Effect>) {
        let failed = Answer::Failed(error.clone());
        match whose {
            Whose::Create(sent) => {
                self.trouble = None;
                let same = |caller: &super::Ensure| caller.variables == *sent;
                self.answer_blocked(same, &failed, out);
            }
            Whose::Label(sent) => {
                self.trouble = None;
                self.labels.retain(|label| label.token != *sent);
                out.push(Effect::Answer(*sent, failed));
            }
            Whose::Read(_) | Whose::Delete { .. } | Whose::Force { .. } => {
                self.give_up(whose, error, out)
            }
        }
    }

    /// Answers the callers among these who wait for a call of ours.
    fn answer_blocked(
        &mut self,
        these: impl Fn(&super::Ensure) -> bool,
        answer: &Answer,
        out: &mut Vec<Effect>,
    ) {
        self.callers.retain(|caller| {
            let answered = caller.stance.needs_call() && these(&caller.ensure);
            if answered {
                out.push(Effect::Answer(caller.ensure.token, answer.clone()));
            }
            !answered
        });
    }
}

/// How long to wait after so many failures before this one.
fn pause(tries: u32, error: &kube::Error) -> Duration {
    let pause = RETRY_PAUSE
        .saturating_mul(1 << tries.min(8))
        .min(RETRY_PAUSE_MAX);
    let wished = error.retry_after().unwrap_or_default().min(RETRY_AFTER_MAX);
    pause.max(wished)
}
