//! The life of one name while somebody waits for it: who waits for what, and which call comes next.
//!
//! Pure: `join_*`, [`Flight::completed`] and [`Flight::wake`] take what happened and
//! put out [`Effect`]s; time and the view are arguments. At most one call per name is
//! under way, so that answers cannot overtake each other. What the name *is* stands
//! in the view alone; a flight keeps only who waits and what it has asked for:
//!
//! ```text
//! Absent ──Create──▶ Starting ──▶ Ready            (callers hear 200)
//!   ▲   │exists         └──────▶ Failed            (callers hear why; replaced after its delay)
//!   │   └─▶ Read ─▶ ours: join · on its way out: wait · not ours: taken
//!   └─ gone ── Stopping ◀── Delete ── any of them  (those who waited for it hear "stopped")
//! ```

use super::catalog::Catalog;
use super::error::{self, Error};
use super::history::History;
use super::view::{self, Instance, Seen, View};
use super::{Answer, Progress, Token};
use crate::kube::types::Uid;
use crate::kube::{self, Class};
use crate::model::job::{self, JobParts};
use crate::model::labels::MetaChange;
use crate::model::names::InstanceKey;
use crate::model::render::RenderError;
use crate::model::status::{Finding, InstanceStatus};
use crate::model::template::Variables;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long a verdict that is already known is held before it is told again, so that a client
/// that asks without pause does so once a second (contract W7).
pub const VERDICT_HOLD: Duration = Duration::from_secs(1);

/// How long no connection, or a missing right, is taken for the restart of the API server,
/// which answers 403 to everybody until its RBAC is loaded.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// First pause after a failed call; it doubles up to [`RETRY_PAUSE_MAX`].
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause between two tries of a call.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a flight decides from.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Monotonic time.
    pub now: Instant,
    /// Time of day.
    pub wall: SystemTime,
    /// What this replica knows of the cluster.
    pub view: &'a View,
    /// What is on offer.
    pub catalog: &'a Catalog,
    /// What this replica remembers.
    pub history: &'a History,
}

/// What a flight wants done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Answer this request; nobody will answer it again.
    Answer(Token, Answer),
    /// Make this call, apply what it returns to the stores, and report its outcome.
    Call(Box<Call>),
}

/// One call to Kubernetes for one name.
#[derive(Clone, Debug)]
pub struct Call {
    /// The name.
    pub key: InstanceKey,
    /// What to do.
    pub operation: Operation,
}

/// What is asked of Kubernetes.
#[derive(Clone, Debug)]
pub enum Operation {
    /// POST this Job.
    Create {
        /// The manifest.
        manifest: Value,
        /// Who asked.
        by: Arc<str>,
    },
    /// GET the Job of the name.
    Read,
    /// DELETE the Job, if it is still this one.
    Delete {
        /// Which Job.
        uid: Uid,
        /// Who asked, or `None` for a replacement.
        by: Option<Arc<str>>,
    },
    /// PATCH the pod, if it is still this one.
    Label {
        /// Name of the pod.
        pod: Box<str>,
        /// Which pod.
        uid: Uid,
        /// The merge patch.
        patch: Value,
    },
}

/// How a call ended; what it returned is in the stores by then.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It did what was asked.
    Done,
    /// A read found a Job that is not ours.
    Foreign,
    /// A read found nothing.
    Absent,
    /// It failed.
    Failed(kube::Error),
}

/// A request to find or start the instance.
#[derive(Clone, Debug)]
pub struct Ensure {
    /// Whom to answer.
    pub token: Token,
    /// Values for the template.
    pub variables: Arc<Variables>,
    /// Who asks.
    pub by: Arc<str>,
    /// When to answer at the latest.
    pub deadline: Instant,
}

/// A request to stop the instance.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Whom to answer.
    pub token: Token,
    /// Who asks.
    pub by: Arc<str>,
    /// When to answer at the latest.
    pub deadline: Instant,
}

/// A request to label the instance.
#[derive(Clone, Debug)]
pub struct Label {
    /// Whom to answer.
    pub token: Token,
    /// What to set and remove.
    pub change: MetaChange,
    /// When to answer at the latest.
    pub deadline: Instant,
}

/// What a caller waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stance {
    /// For any instance: a new one where there is none.
    Any,
    /// For this Job to become ready.
    Ready(Uid),
    /// To be told, at that time, the verdict on this Job that was known when it asked.
    Verdict(Uid, Instant),
    /// For this Job to go, since it has ended, and a new one.
    Replacement(Uid),
}

#[derive(Clone, Debug)]
struct Caller {
    ensure: Ensure,
    stance: Stance,
}

/// Which kind of call is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Create,
    Read,
    Delete,
    Label(Token),
}

/// Calls fail, and are tried again.
#[derive(Clone, Debug)]
struct Trouble {
    /// Since when nothing but this kind of failure was heard.
    since: Instant,
    /// How often.
    tries: u32,
    /// When to try again.
    retry_at: Instant,
    /// Whether it is one that [`PATIENCE`] bounds.
    impatient: bool,
    /// What to tell when patience or the deadline is over.
    error: Error,
}

/// One name's callers and calls.
#[derive(Clone, Debug)]
pub struct Flight {
    key: InstanceKey,
    callers: Vec<Caller>,
    stops: Vec<Stop>,
    labels: VecDeque<Label>,
    asked: Option<Asked>,
    trouble: Option<Trouble>,
    /// The view is known to lag behind: read before anything else.
    must_read: bool,
    /// What a read said that the view cannot show: the name is not ours.
    foreign: bool,
    /// The last verdict that was seen, for those who wait for it when its Job goes.
    verdict: Option<(Uid, Finding)>,
}

impl Flight {
    /// A flight that nobody has joined.
    #[must_use]
    pub fn new(key: InstanceKey) -> Self {
        Self {
            key,
            callers: Vec::new(),
            stops: Vec::new(),
            labels: VecDeque::new(),
            asked: None,
            trouble: None,
            must_read: false,
            foreign: false,
            verdict: None,
        }
    }

    /// Whether nobody waits and no call is under way: it can be dropped.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.waiting() == 0 && self.asked.is_none()
    }

    /// How many requests wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.callers.len() + self.stops.len() + self.labels.len()
    }

    /// Somebody asks for the instance.
    pub fn join_ensure(&mut self, ensure: Ensure, context: &Context<'_>, out: &mut Vec<Effect>) {
        self.callers.push(Caller {
            ensure,
            stance: Stance::Any,
        });
        self.go_on(context, out);
    }

    /// Somebody asks to stop the instance.
    pub fn join_stop(&mut self, stop: Stop, context: &Context<'_>, out: &mut Vec<Effect>) {
        self.stops.push(stop);
        self.go_on(context, out);
    }

    /// Somebody asks to label the instance.
    pub fn join_label(&mut self, label: Label, context: &Context<'_>, out: &mut Vec<Effect>) {
        self.labels.push_back(label);
        self.go_on(context, out);
    }

    /// A caller no longer waits: it hung up. What it has started goes on, and so does a stop
    /// or a label that was asked for: only its answer is lost.
    pub fn leave(&mut self, token: Token) {
        self.callers.retain(|caller| caller.ensure.token != token);
    }

    /// The view has changed, or time has come to [`Flight::next_wake`].
    pub fn wake(&mut self, context: &Context<'_>, out: &mut Vec<Effect>) {
        self.go_on(context, out);
    }

    /// The call that was under way has ended.
    pub fn completed(&mut self, outcome: Outcome, context: &Context<'_>, out: &mut Vec<Effect>) {
        let asked = self.asked.take();
        if !matches!(outcome, Outcome::Failed(_)) {
            self.trouble = None;
            self.foreign = false;
        }
        match (asked, outcome) {
            (None, _) => {}
            (Some(Asked::Create | Asked::Read), Outcome::Done) => {}
            (Some(Asked::Delete), Outcome::Done) => self.answer_stops(&Answer::Done, out),
            (Some(Asked::Label(token)), Outcome::Done) => {
                self.labels.retain(|label| label.token != token);
                out.push(Effect::Answer(token, Answer::Done));
            }
            (Some(_), Outcome::Foreign) => self.foreign = true,
            (Some(_), Outcome::Absent) => self.nothing_there(out),
            (Some(asked), Outcome::Failed(error)) => self.failed(asked, &error, context, out),
        }
        self.go_on(context, out);
    }

    /// At the end of the service: callers get their 202, others the error.
    pub fn drain(&mut self, context: &Context<'_>, out: &mut Vec<Effect>) {
        let seen = self.see(context);
        for caller in std::mem::take(&mut self.callers) {
            let answer = Answer::Progress(self.progress(&seen));
            out.push(Effect::Answer(caller.ensure.token, answer));
        }
        let stops = self.stops.drain(..).map(|stop| stop.token);
        for token in stops.chain(self.labels.drain(..).map(|label| label.token)) {
            out.push(Effect::Answer(token, Answer::Failed(Error::Draining)));
        }
    }

    /// When to call [`Flight::wake`] at the latest, if nothing happens before.
    #[must_use]
    pub fn next_wake(&self, context: &Context<'_>) -> Option<Instant> {
        let deadlines = self.callers.iter().map(|caller| match &caller.stance {
            Stance::Verdict(_, until) => caller.ensure.deadline.min(*until),
            _ => caller.ensure.deadline,
        });
        let deadlines = deadlines
            .chain(self.stops.iter().map(|stop| stop.deadline))
            .chain(self.labels.iter().map(|label| label.deadline));
        let retry = self
            .trouble
            .as_ref()
            .filter(|_| self.asked.is_none())
            .map(|t| t.retry_at);
        deadlines
            .chain(retry)
            .chain(self.verdict_due(context))
            .min()
    }

    /// When the finding that callers wait on becomes a verdict.
    fn verdict_due(&self, context: &Context<'_>) -> Option<Instant> {
        let Seen::Instance(instance) = self.see(context) else {
            return None;
        };
        let InstanceStatus::Starting(finding) = &instance.status else {
            return None;
        };
        let at = self.verdict_at(&instance, finding, context)?;
        let waits = |caller: &Caller| matches!(caller.stance, Stance::Ready(_));
        let in_time = at.duration_since(context.wall).ok()?;
        self.callers
            .iter()
            .any(waits)
            .then(|| context.now + in_time)
    }

    fn verdict_at(
        &self,
        instance: &Instance,
        finding: &Finding,
        context: &Context<'_>,
    ) -> Option<SystemTime> {
        let first_seen =
            context
                .history
                .first_seen(&self.key, instance.uid(), finding, context.wall);
        finding.verdict_from(first_seen)
    }

    fn see(&self, context: &Context<'_>) -> Seen {
        match context.view.see(&self.key) {
            Seen::Absent if self.foreign => Seen::Foreign,
            seen => seen,
        }
    }

    /// Answers all who can be answered, then makes the next call if one is due.
    fn go_on(&mut self, context: &Context<'_>, out: &mut Vec<Effect>) {
        let seen = self.see(context);
        self.remember_verdict(&seen, context);
        self.settle_callers(&seen, context, out);
        self.settle_others(&seen, out);
        self.expire(&seen, context.now, out);
        if self.asked.is_some() || self.is_over() || self.is_pausing(context.now) {
            return;
        }
        let Some((asked, operation)) = self.next_operation(&seen, context, out) else {
            return;
        };
        self.asked = Some(asked);
        out.push(Effect::Call(Box::new(Call {
            key: self.key.clone(),
            operation,
        })));
    }

    fn is_pausing(&self, now: Instant) -> bool {
        self.trouble
            .as_ref()
            .is_some_and(|trouble| now < trouble.retry_at)
    }

    fn remember_verdict(&mut self, seen: &Seen, context: &Context<'_>) {
        if let Seen::Instance(instance) = seen
            && let Some(finding) = self.verdict_on(instance, context)
        {
            self.verdict = Some((instance.uid().clone(), finding));
        }
    }

    /// The verdict on an instance, if there is one now.
    fn verdict_on(&self, instance: &Instance, context: &Context<'_>) -> Option<Finding> {
        match &instance.status {
            InstanceStatus::Ready { .. } | InstanceStatus::Stopping { .. } => None,
            InstanceStatus::Failed { finding, .. } => Some(finding.clone()),
            InstanceStatus::Finished(ending) => Some(ending.finding()),
            InstanceStatus::Starting(finding) => self
                .verdict_at(instance, finding, context)
                .filter(|at| *at <= context.wall)
                .map(|_| finding.clone()),
        }
    }

    fn settle_callers(&mut self, seen: &Seen, context: &Context<'_>, out: &mut Vec<Effect>) {
        for mut caller in std::mem::take(&mut self.callers) {
            match self.settle(&caller, seen, context) {
                Settled::Waits(stance) => {
                    caller.stance = stance;
                    self.callers.push(caller);
                }
                Settled::Answered(answer) => {
                    out.push(Effect::Answer(caller.ensure.token, answer));
                }
            }
        }
    }

    /// What one caller gets from what there is now: an answer, or what it waits for from here on.
    fn settle(&self, caller: &Caller, seen: &Seen, context: &Context<'_>) -> Settled {
        let instance = match seen {
            Seen::Foreign => {
                return Settled::Answered(Answer::Failed(Error::NameTaken(self.key.clone())));
            }
            Seen::Absent => return self.settle_without(caller, None),
            Seen::Instance(instance) => instance,
        };
        if matches!(instance.status, InstanceStatus::Stopping { .. }) {
            return self.settle_without(caller, Some(instance.uid()));
        }
        let uid = instance.uid();
        match &caller.stance {
            Stance::Ready(own) | Stance::Verdict(own, _) if own != uid => {
                return self.settle_without(caller, None);
            }
            _ => {}
        }
        if let Some(ready) = view::ready(instance) {
            return Settled::Answered(Answer::Ready(ready));
        }
        self.settle_unready(caller, instance, context)
    }

    /// The Job that a caller may have waited for is gone or going.
    fn settle_without(&self, caller: &Caller, going: Option<&Uid>) -> Settled {
        match &caller.stance {
            Stance::Any => Settled::Waits(Stance::Any),
            Stance::Replacement(uid) if going == Some(uid) => Settled::Waits(caller.stance.clone()),
            Stance::Replacement(_) => Settled::Waits(Stance::Any),
            Stance::Ready(uid) | Stance::Verdict(uid, _) => {
                Settled::Answered(match &self.verdict {
                    Some((of, finding)) if of == uid => verdict(finding),
                    _ => Answer::Failed(Error::Stopped),
                })
            }
        }
    }

    fn settle_unready(
        &self,
        caller: &Caller,
        instance: &Instance,
        context: &Context<'_>,
    ) -> Settled {
        let uid = instance.uid();
        let found = self.verdict_on(instance, context);
        match (&caller.stance, found) {
            // It waited before the verdict was known: it is told at once.
            (Stance::Ready(_), Some(finding)) => Settled::Answered(verdict(&finding)),
            (Stance::Verdict(_, until), Some(finding)) if *until <= context.now => {
                Settled::Answered(verdict(&finding))
            }
            (Stance::Verdict(..), Some(_)) => Settled::Waits(caller.stance.clone()),
            (Stance::Replacement(own), Some(_)) if own == uid => {
                Settled::Waits(caller.stance.clone())
            }
            (Stance::Any | Stance::Replacement(_), Some(_)) => {
                Settled::Waits(if self.may_replace(instance, context) {
                    Stance::Replacement(uid.clone())
                } else {
                    Stance::Verdict(uid.clone(), context.now + VERDICT_HOLD)
                })
            }
            (_, None) => Settled::Waits(Stance::Ready(uid.clone())),
        }
    }

    /// Whether a request that comes now replaces this instance, on which there is a verdict.
    fn may_replace(&self, instance: &Instance, context: &Context<'_>) -> bool {
        match context.history.failure(&self.key, instance.uid()) {
            Some(failure) => failure.restart_at.is_some_and(|at| at <= context.wall),
            None => matches!(instance.status, InstanceStatus::Finished(_)),
        }
    }

    /// Answers stops and labels that need no call.
    fn settle_others(&mut self, seen: &Seen, out: &mut Vec<Effect>) {
        match seen {
            Seen::Foreign => self.nothing_there(out),
            Seen::Absent => {}
            Seen::Instance(instance) => {
                let ended = matches!(
                    instance.status,
                    InstanceStatus::Failed { .. } | InstanceStatus::Finished(_)
                );
                if matches!(instance.status, InstanceStatus::Stopping { .. }) {
                    self.answer_stops(&Answer::Done, out);
                }
                if ended && instance.pod.is_none() {
                    self.answer_labels(out);
                }
            }
        }
    }

    fn answer_stops(&mut self, answer: &Answer, out: &mut Vec<Effect>) {
        out.extend(
            self.stops
                .drain(..)
                .map(|stop| Effect::Answer(stop.token, answer.clone())),
        );
    }

    fn answer_labels(&mut self, out: &mut Vec<Effect>) {
        let answer = Answer::Failed(Error::NoInstance(self.key.clone()));
        out.extend(
            self.labels
                .drain(..)
                .map(|label| Effect::Answer(label.token, answer.clone())),
        );
    }

    /// Kubernetes itself says that there is nothing to stop or to label.
    fn nothing_there(&mut self, out: &mut Vec<Effect>) {
        self.answer_stops(&Answer::Failed(Error::NoInstance(self.key.clone())), out);
        self.answer_labels(out);
    }

    /// Answers those whose time is over.
    fn expire(&mut self, seen: &Seen, now: Instant, out: &mut Vec<Effect>) {
        let progress = self.progress(seen);
        let trouble = self.trouble.as_ref().map(|trouble| trouble.error.clone());
        let known = self.verdict.as_ref();
        self.callers.retain(|caller| {
            let waits = now < caller.ensure.deadline;
            if !waits {
                let answer = match (&caller.stance, &trouble, known) {
                    // Its wait is shorter than the hold: the truth is all that is left to tell.
                    (Stance::Verdict(uid, _), _, Some((of, finding))) if of == uid => {
                        verdict(finding)
                    }
                    (Stance::Any | Stance::Replacement(_), Some(error), _) => {
                        Answer::Failed(error.clone())
                    }
                    _ => Answer::Progress(progress.clone()),
                };
                out.push(Effect::Answer(caller.ensure.token, answer));
            }
            waits
        });
        let late = trouble.unwrap_or(Error::UNAVAILABLE);
        self.stops.retain(|stop| {
            let waits = now < stop.deadline;
            if !waits {
                out.push(Effect::Answer(stop.token, Answer::Failed(late.clone())));
            }
            waits
        });
        let nobody = Error::NoInstance(self.key.clone());
        let asked = matches!(self.asked, Some(Asked::Label(_))) || self.trouble.is_some();
        self.labels.retain(|label| {
            let waits = now < label.deadline;
            if !waits {
                let error = if asked { late.clone() } else { nobody.clone() };
                out.push(Effect::Answer(label.token, Answer::Failed(error)));
            }
            waits
        });
    }

    fn progress(&self, seen: &Seen) -> Progress {
        let finding = match seen {
            Seen::Instance(instance) => match &instance.status {
                InstanceStatus::Starting(finding) => finding.clone(),
                InstanceStatus::Stopping { since } => Finding::stopping(*since),
                InstanceStatus::Failed { .. } | InstanceStatus::Finished(_) => {
                    Finding::stopping(None)
                }
                InstanceStatus::Ready { .. } => Finding::admitting(),
            },
            Seen::Absent | Seen::Foreign => Finding::admitting(),
        };
        Progress {
            finding,
            is_verdict: false,
        }
    }

    fn next_operation(
        &mut self,
        seen: &Seen,
        context: &Context<'_>,
        out: &mut Vec<Effect>,
    ) -> Option<(Asked, Operation)> {
        let read = Some((Asked::Read, Operation::Read));
        if std::mem::take(&mut self.must_read) {
            return read;
        }
        match seen {
            Seen::Foreign => None,
            // The view may lag behind another replica's write: only Kubernetes can say "not found".
            Seen::Absent if !self.stops.is_empty() || !self.labels.is_empty() => read,
            Seen::Absent => self.create(context, out),
            Seen::Instance(instance) => self.change(instance),
        }
    }

    /// The next call on an instance that exists.
    fn change(&self, instance: &Instance) -> Option<(Asked, Operation)> {
        let uid = instance.uid();
        let stopping = matches!(instance.status, InstanceStatus::Stopping { .. });
        if let Some(stop) = self.stops.first().filter(|_| !stopping) {
            let operation = Operation::Delete {
                uid: uid.clone(),
                by: Some(stop.by.clone()),
            };
            return Some((Asked::Delete, operation));
        }
        if let (Some(label), Some(pod)) = (self.labels.front(), &instance.pod) {
            let operation = Operation::Label {
                pod: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
                patch: label.change.merge_patch(),
            };
            return Some((Asked::Label(label.token), operation));
        }
        let replaced = |caller: &Caller| caller.stance == Stance::Replacement(uid.clone());
        if !stopping && self.callers.iter().any(replaced) {
            let operation = Operation::Delete {
                uid: uid.clone(),
                by: None,
            };
            return Some((Asked::Delete, operation));
        }
        None
    }

    /// Makes the Job for the first caller whose values fit the template; others hear why theirs do not.
    fn create(
        &mut self,
        context: &Context<'_>,
        out: &mut Vec<Effect>,
    ) -> Option<(Asked, Operation)> {
        while let Some(caller) = self.callers.first() {
            match self.manifest(&caller.ensure, context) {
                Ok(manifest) => {
                    let by = caller.ensure.by.clone();
                    return Some((Asked::Create, Operation::Create { manifest, by }));
                }
                Err(error) => {
                    let token = self.callers.remove(0).ensure.token;
                    out.push(Effect::Answer(token, Answer::Failed(error)));
                }
            }
        }
        None
    }

    fn manifest(&self, ensure: &Ensure, context: &Context<'_>) -> Result<Value, Error> {
        let app_type = &self.key.app_type;
        let Some(offer) = context.catalog.get(app_type) else {
            let known = context.catalog.types().map(ToString::to_string).collect();
            return Err(Error::UnknownType {
                app_type: app_type.to_string(),
                known,
            });
        };
        let template = offer
            .template
            .as_ref()
            .map_err(|error| Error::from(&**error))?;
        let settings = offer
            .settings
            .as_ref()
            .map_err(|text| Error::TemplateInvalid(text.clone()))?;
        let rendered = template.render(&ensure.variables).map_err(render_error)?;
        let parts = JobParts {
            key: &self.key,
            settings,
            started_by: &ensure.by,
            failures: context.history.failures_before_new(&self.key),
        };
        Ok(job::manifest(rendered, &parts))
    }

    /// A call has failed: who hears of it now, and what is tried again.
    fn failed(
        &mut self,
        asked: Asked,
        error: &kube::Error,
        context: &Context<'_>,
        out: &mut Vec<Effect>,
    ) {
        match (error.class(), asked) {
            // Somebody was faster, or the answer to an earlier try was lost: look what is there.
            (Class::AlreadyExists, _) | (Class::Conflict, Asked::Delete) => {
                self.must_read = true;
                self.try_again(Error::UNAVAILABLE, false, error, context, out);
                self.no_pause(context.now);
            }
            // The engine has taken it out of the view.
            (Class::NotFound, Asked::Delete) => {
                self.trouble = None;
                self.answer_stops(&Answer::Done, out);
            }
            (Class::NotFound, Asked::Create) => self.give_up(&Error::NamespaceMissing, out),
            (Class::NotFound | Class::Conflict, Asked::Label(_)) => {
                // The pod was replaced; the view will show its successor.
                self.try_again(Error::UNAVAILABLE, false, error, context, out);
            }
            (Class::Forbidden { own_right: false }, _) => {
                self.give_up(&Error::Refused(error::kube_sentence(error)), out);
            }
            (Class::Invalid, Asked::Create) => {
                self.give_up(&Error::TemplateInvalid(error::kube_sentence(error)), out);
            }
            (Class::Forbidden { own_right: true } | Class::Unauthorized, _) => {
                self.try_again(Error::NotPermitted, true, error, context, out);
            }
            (Class::Unavailable | Class::Throttled { .. }, _) => {
                let retry_after = error.retry_after().unwrap_or(RETRY_PAUSE_MAX);
                let told = Error::Unavailable { retry_after };
                self.try_again(told, error.connect_failed(), error, context, out);
            }
            (
                Class::NotFound
                | Class::Conflict
                | Class::Expired
                | Class::Invalid
                | Class::Protocol,
                _,
            ) => self.give_up(&Error::Internal, out),
        }
    }

    fn try_again(
        &mut self,
        told: Error,
        impatient: bool,
        error: &kube::Error,
        context: &Context<'_>,
        out: &mut Vec<Effect>,
    ) {
        let before = self
            .trouble
            .take()
            .filter(|trouble| trouble.impatient == impatient);
        let tries = before.as_ref().map_or(0, |trouble| trouble.tries);
        let since = before.map_or(context.now, |trouble| trouble.since);
        if impatient && context.now >= since + PATIENCE {
            self.give_up(&told, out);
            return;
        }
        let pause = RETRY_PAUSE
            .saturating_mul(1 << tries.min(8))
            .min(RETRY_PAUSE_MAX);
        let pause = error.retry_after().unwrap_or(pause).max(pause);
        self.trouble = Some(Trouble {
            since,
            tries: tries + 1,
            retry_at: context.now + pause,
            impatient,
            error: told,
        });
    }

    /// The next call does not repeat the one that failed: it may follow at once, the first times.
    fn no_pause(&mut self, now: Instant) {
        if let Some(trouble) = self.trouble.as_mut().filter(|trouble| trouble.tries <= 3) {
            trouble.retry_at = now;
        }
    }

    /// Tells all who need a call that there will be none; those who only wait for the view stay.
    fn give_up(&mut self, error: &Error, out: &mut Vec<Effect>) {
        self.trouble = None;
        self.must_read = false;
        let failed = Answer::Failed(error.clone());
        self.callers.retain(|caller| {
            let blocked = matches!(caller.stance, Stance::Any | Stance::Replacement(_));
            if blocked {
                out.push(Effect::Answer(caller.ensure.token, failed.clone()));
            }
            !blocked
        });
        self.answer_stops(&failed, out);
        let labels = self.labels.drain(..);
        out.extend(labels.map(|label| Effect::Answer(label.token, failed.clone())));
    }
}

enum Settled {
    Answered(Answer),
    Waits(Stance),
}

fn verdict(finding: &Finding) -> Answer {
    Answer::Progress(Progress {
        finding: finding.clone(),
        is_verdict: true,
    })
}

fn render_error(error: RenderError) -> Error {
    match error {
        RenderError::VariableMissing { name } => Error::VariableMissing {
            variable: name.to_string(),
        },
        RenderError::Invalid(error) => Error::from(&error),
        other => Error::VariableInvalid(other.to_string().into()),
    }
}

#[cfg(test)]
mod tests;
