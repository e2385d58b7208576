//! The life of one name while somebody waits for it: who waits for what, and which call comes next.
//!
//! Pure: `join_*`, [`Flight::completed`] and [`Flight::wake`] take what happened and
//! put out [`Effect`]s; time and the cache are arguments. At most one call per name is
//! under way, so that answers cannot overtake each other. What the name *is* stands
//! in the cache alone; a flight keeps only who waits and what it has asked for:
//!
//! ```text
//! Absent ──Create──▶ Starting ──▶ Ready            (callers hear 200)
//!   ▲   │exists         └──────▶ Failed            (callers hear why; replaced after its delay)
//!   │   └─▶ Read ─▶ ours: join · on its way out: wait · not ours: taken
//!   └─ gone ── Stopping ◀── Delete ── any of them  (those who waited for it hear "stopped")
//! ```
//!
//! What a caller gets from what there is stands in `flight/settle.rs`, those who stop it in
//! `flight/stop.rs`, what follows from a call that failed in `flight/trouble.rs`.

mod call;
mod settle;
mod stop;
#[cfg(test)]
mod tests;
mod trouble;

pub use call::{Call, Cause, Effect, Operation, Outcome};
pub(super) use stop::overdue_at;
pub use stop::{OVERDUE_AFTER, Stop};

use super::cache::{Cache, Instance, Observed};
use super::catalog::Catalog;
use super::error::Error;
use super::history::History;
use super::{Answer, Origin, RequestHandle};
use crate::kube::types::Uid;
use crate::model::job::{self, JobParts};
use crate::model::labels::MetaChange;
use crate::model::names::InstanceKey;
use crate::model::status::{Finding, InstanceStatus};
use crate::model::template::{RenderError, Variables};
use call::{Asked, Kind, Whose};
use serde_json::Value;
use settle::{Caller, Stance};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use stop::Going;
use trouble::Trouble;

/// How long a verdict that is already known is held before it is told again, so that a client
/// that asks without pause does so once a second (contract W7).
pub const VERDICT_HOLD: Duration = Duration::from_secs(1);

/// What a flight decides from.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Monotonic time.
    pub now: Instant,
    /// Time of day.
    pub wall: SystemTime,
    /// What this replica knows of the cluster.
    pub cache: &'a Cache,
    /// What is on offer.
    pub catalog: &'a Catalog,
    /// What this replica remembers.
    pub history: &'a History,
    /// Whether a pod of the name should have gone by now.
    pub is_overdue: bool,
}

impl Context<'_> {
    /// When this finding on an instance that is on its way becomes a verdict, if it stays as it is.
    #[must_use]
    pub fn verdict_at(
        &self,
        key: &InstanceKey,
        instance: &Instance,
        finding: &Finding,
    ) -> Option<SystemTime> {
        let uid = instance.uid();
        let first_seen = self.history.first_seen(key, uid, finding, self.wall);
        let settings = self.catalog.settings(&key.app_type);
        finding.verdict_from(first_seen, &settings.budgets)
    }
}

/// What a request for the instance may bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Nothing: it waits for an instance that is there.
    Find,
    /// A start.
    Start,
    /// A start, and a stop where the instance is not ready in time.
    StartOrStop,
}

/// A request to find or start the instance.
#[derive(Clone, Debug)]
pub struct Ensure {
    /// Whom to answer.
    pub token: RequestHandle,
    /// What it may bring about.
    pub intent: Intent,
    /// Values for the template.
    pub variables: Arc<Variables>,
    /// Who asks.
    pub by: Origin,
    /// When to answer at the latest.
    pub deadline: Instant,
}

/// A request to label the instance.
#[derive(Clone, Debug)]
pub struct Label {
    /// Whom to answer.
    pub token: RequestHandle,
    /// What to set and remove.
    pub change: MetaChange,
    /// When to answer at the latest.
    pub deadline: Instant,
}

/// One name's callers and calls.
#[derive(Clone, Debug)]
pub struct Flight {
    key: InstanceKey,
    callers: Vec<Caller>,
    stops: Vec<Stop>,
    goings: Vec<Going>,
    labels: VecDeque<Label>,
    /// A pod does not go, and it is for us to see to it.
    forces: bool,
    /// The pod that Kubernetes has taken the removal of.
    removed: Option<Uid>,
    asked: Option<Asked>,
    trouble: Option<Trouble>,
    /// How often in a row Kubernetes had something else than the cache showed.
    races: u32,
    /// The cache is known to lag behind: read before anything else.
    must_read: bool,
    /// What a read said that the cache cannot show: the name is not ours.
    foreign: bool,
    /// The last verdict that was seen, for those who wait for it when its Job goes.
    verdict: Option<(Uid, Finding)>,
    /// The last Job that was held back, for those who wait for it when it goes.
    suspended: Option<Uid>,
}

impl Flight {
    /// A flight that nobody has joined.
    #[must_use]
    pub fn new(key: InstanceKey) -> Self {
        Self {
            key,
            callers: Vec::new(),
            stops: Vec::new(),
            goings: Vec::new(),
            forces: false,
            removed: None,
            labels: VecDeque::new(),
            asked: None,
            trouble: None,
            races: 0,
            must_read: false,
            foreign: false,
            verdict: None,
            suspended: None,
        }
    }

    /// Whether nobody waits and no call is under way or to be made: it can be dropped.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.waiting() == 0 && self.asked.is_none() && !self.forces
    }

    /// Who waits for the instance.
    pub fn origins(&self) -> impl Iterator<Item = &Origin> {
        self.callers.iter().map(|caller| &caller.ensure.by)
    }

    /// How many requests wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.callers.len() + self.stops.len() + self.goings.len() + self.labels.len()
    }

    /// Somebody asks for the instance.
    pub fn join_ensure(&mut self, ensure: Ensure, context: &Context<'_>, out: &mut Vec<Effect>) {
        self.callers.push(Caller {
            ensure,
            stance: Stance::Any,
        });
        self.go_on(context, out);
    }

    /// Somebody asks to label the instance.
    pub fn join_label(&mut self, label: Label, context: &Context<'_>, out: &mut Vec<Effect>) {
        self.add_label(label);
        self.go_on(context, out);
    }

    /// A label that is set when the flight goes on.
    pub(super) fn add_label(&mut self, label: Label) {
        self.labels.push_back(label);
    }

    /// Whether a label of the coordinator's own is still to be set.
    #[must_use]
    pub fn has_own_label(&self) -> bool {
        self.labels.iter().any(|label| label.token.is_own())
    }

    /// A caller no longer waits: it hung up. What it has started goes on, and so does a stop
    /// or a label that was asked for: only its answer is lost.
    pub fn leave(&mut self, token: RequestHandle) {
        self.callers.retain(|caller| caller.ensure.token != token);
        self.goings.retain(|going| going.token != token);
    }

    /// The cache has changed, or time has come to [`Flight::next_wake`].
    pub fn wake(&mut self, context: &Context<'_>, out: &mut Vec<Effect>) {
        self.go_on(context, out);
    }

    /// The call that was under way has ended.
    pub fn completed(&mut self, outcome: Outcome, context: &Context<'_>, out: &mut Vec<Effect>) {
        if let Some(asked) = self.asked.take() {
            match outcome {
                Outcome::Failed(error) => self.failed(&asked, &error, context, out),
                done => self.succeeded(&asked.whose, &done, context.now, out),
            }
        }
        self.go_on(context, out);
    }

    fn succeeded(&mut self, whose: &Whose, outcome: &Outcome, now: Instant, out: &mut Vec<Effect>) {
        self.trouble = None;
        self.foreign = matches!(outcome, Outcome::NameConflict);
        if !matches!(whose, Whose::Read(_)) {
            self.races = 0;
        }
        match (whose, outcome) {
            (Whose::Read(asked), Outcome::Absent | Outcome::NameConflict) => {
                self.nothing_there(|token| asked.contains(&token), out);
            }
            // Its finalizer may keep it for a moment.
            (Whose::Force { pod: Some(pod) }, Outcome::Done) => {
                self.removed = Some(pod.clone());
                self.pause_force(now);
            }
            (Whose::Delete { uid, stops }, Outcome::Done) => {
                self.deletion_begun(uid, |token| stops.contains(&token), out);
            }
            (Whose::Label(token), Outcome::Done) => {
                self.labels.retain(|label| label.token != *token);
                out.push(Effect::Answer(*token, Answer::Done));
            }
            _ => {}
        }
    }

    /// At the end of the service: callers get their 202. Stops, and labels of a pod that is there,
    /// have until then to be made.
    pub fn drain(&mut self, until: Instant, context: &Context<'_>, out: &mut Vec<Effect>) {
        let seen = self.see(context);
        self.remember(&seen, context);
        self.settle_callers(&seen, context, out);
        for caller in std::mem::take(&mut self.callers) {
            let answer = self.so_far(&caller, &seen);
            out.push(Effect::Answer(caller.ensure.token, answer));
        }
        self.answer_goings(&seen, |_| true, out);
        for stop in &mut self.stops {
            stop.deadline = stop.deadline.min(until);
            stop.until = stop.until.map(|_| context.now);
        }
        for label in &mut self.labels {
            label.deadline = label.deadline.min(until);
        }
        if matches!(&seen, Observed::Instance(instance) if instance.pod.is_none()) {
            self.answer_labels(&Answer::Failed(Error::Draining), out);
        }
        self.expire(&seen, context.now, out);
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
            .chain(self.goings.iter().map(|going| going.until))
            .chain(self.labels.iter().map(|label| label.deadline));
        let seen = self.see(context);
        deadlines
            .chain(self.retry_at(&seen, context))
            .chain(self.verdict_due(&seen, context))
            .min()
    }

    /// When the finding that callers wait on becomes a verdict.
    fn verdict_due(&self, seen: &Observed, context: &Context<'_>) -> Option<Instant> {
        let Observed::Instance(instance) = seen else {
            return None;
        };
        let (InstanceStatus::Starting(finding) | InstanceStatus::Failed { finding, .. }) =
            &instance.status
        else {
            return None;
        };
        let at = context.verdict_at(&self.key, instance, finding)?;
        let waits = |caller: &Caller| matches!(caller.stance, Stance::Ready(_));
        let in_time = at.duration_since(context.wall).ok()?;
        self.callers
            .iter()
            .any(waits)
            .then(|| context.now + in_time)
    }

    /// Whether a call of this kind is under way.
    fn is_calling(&self, kind: Kind) -> bool {
        let asked = self.asked.as_ref();
        asked.is_some_and(|asked| asked.whose.kind() == kind)
    }

    fn see(&self, context: &Context<'_>) -> Observed {
        match context.cache.see(&self.key) {
            Observed::Absent if self.foreign => Observed::NameConflict,
            Observed::Instance(mut instance) => {
                context.history.recall(&self.key, &mut instance);
                Observed::Instance(instance)
            }
            seen => seen,
        }
    }

    /// Answers all who can be answered, makes the next call if one is due, and answers those whose
    /// time is over: what they have asked for is done all the same.
    fn go_on(&mut self, context: &Context<'_>, out: &mut Vec<Effect>) {
        let seen = self.see(context);
        self.remember(&seen, context);
        self.settle_callers(&seen, context, out);
        self.give_up_starts(context.now);
        self.settle_others(&seen, out);
        self.call(&seen, context, out);
        self.expire(&seen, context.now, out);
    }

    fn call(&mut self, seen: &Observed, context: &Context<'_>, out: &mut Vec<Effect>) {
        if self.asked.is_some() {
            return;
        }
        self.forces = context.is_overdue;
        let Some(kind) = self
            .due(seen, context)
            .filter(|due| !self.is_pausing(*due, context.now))
        else {
            return;
        };
        let Some((whose, operation)) = self.operation(kind, seen, context, out) else {
            return;
        };
        self.asked = Some(Asked {
            whose,
            since: context.now,
        });
        out.push(Effect::Call(Box::new(Call {
            key: self.key.clone(),
            operation,
            is_again: self
                .trouble
                .as_ref()
                .is_some_and(|trouble| trouble.kind == kind),
        })));
    }

    /// The kind of call that is to be made next.
    fn due(&self, seen: &Observed, context: &Context<'_>) -> Option<Kind> {
        if self.must_read && !self.is_over() {
            return Some(Kind::Read);
        }
        match seen {
            // The cache may lag behind another replica's write: only Kubernetes can say "not found".
            Observed::Absent | Observed::NameConflict
                if !self.stops.is_empty() || !self.labels.is_empty() =>
            {
                Some(Kind::Read)
            }
            Observed::NameConflict => None,
            Observed::Absent => (!self.callers.is_empty()).then_some(Kind::Create),
            Observed::Instance(instance) => self
                .due_on(instance)
                .or_else(|| context.is_overdue.then_some(Kind::Force)),
        }
    }

    fn due_on(&self, instance: &Instance) -> Option<Kind> {
        let stopping = matches!(instance.status, InstanceStatus::Stopping { .. });
        // Also where the cache shows that it is being deleted: the cache may lag behind, and another
        // Job of this name be there by now. Only Kubernetes can say which.
        if !self.stops.is_empty() {
            return Some(Kind::Delete);
        }
        if !self.labels.is_empty() && instance.pod.is_some() {
            return Some(Kind::Label);
        }
        let replaced = Stance::Replacement(instance.uid().clone());
        let replace = !stopping && self.callers.iter().any(|caller| caller.stance == replaced);
        replace.then_some(Kind::Delete)
    }

    fn operation(
        &mut self,
        kind: Kind,
        seen: &Observed,
        context: &Context<'_>,
        out: &mut Vec<Effect>,
    ) -> Option<(Whose, Operation)> {
        match (kind, seen) {
            (Kind::Create, _) => self.create(context, out),
            (Kind::Read, _) => {
                self.must_read = false;
                let stops = self.stops.iter().map(|stop| stop.token);
                let labels = self.labels.iter().map(|label| label.token);
                Some((Whose::Read(stops.chain(labels).collect()), Operation::Read))
            }
            (Kind::Delete, Observed::Instance(instance)) => {
                let uid = instance.uid().clone();
                let by = self.stops.first().map(|stop| stop.by.clone());
                let cause = by.map_or(Cause::Ended, Cause::Asked);
                let whose = Whose::Delete {
                    uid: uid.clone(),
                    stops: self.stops.iter().map(|stop| stop.token).collect(),
                };
                Some((whose, Operation::Delete { uid, cause }))
            }
            (Kind::Force, Observed::Instance(instance)) => {
                let operation = stop::force(instance, self.removed.as_ref())?;
                let pod = match &operation {
                    Operation::Remove { uid, .. } => Some(uid.clone()),
                    _ => None,
                };
                Some((Whose::Force { pod }, operation))
            }
            (Kind::Label, Observed::Instance(instance)) => {
                let (label, pod) = (self.labels.front()?, instance.pod.as_ref()?);
                let operation = Operation::Label {
                    pod: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                    patch: label.change.merge_patch(),
                };
                Some((Whose::Label(label.token), operation))
            }
            (Kind::Delete | Kind::Force | Kind::Label, _) => None,
        }
    }

    /// Makes the Job for the first caller whose values fit the template; others hear why theirs do not.
    fn create(
        &mut self,
        context: &Context<'_>,
        out: &mut Vec<Effect>,
    ) -> Option<(Whose, Operation)> {
        while let Some(caller) = self.callers.first() {
            match self.manifest(&caller.ensure, context) {
                Ok(manifest) => {
                    let by = caller.ensure.by.clone();
                    let whose = Whose::Create(caller.ensure.variables.clone());
                    return Some((whose, Operation::Create { manifest, by }));
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
            started_by: &ensure.by.who,
            failures: context.history.failures_before_new(&self.key),
        };
        Ok(job::manifest(rendered, &parts))
    }
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
