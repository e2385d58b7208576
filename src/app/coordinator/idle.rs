//! The stop of an instance that nobody uses, or whose template has changed: a call that no request waits for.
//!
//! Pure. When an instance is idle is decided in [`crate::app::lifetimes`], when one is restarted in
//! [`crate::app::restarts`]; here it is stopped, unless something else is going on with its name. Whoever loses a race says nothing: what is still idle is named again.

use super::context::Step;
use super::operation::Operation;
use super::record::Record;
use super::resolve::Observed;
use crate::app::api_call::{Action, ApiCall, NewJob, Outdated, StopCause};
use crate::app::cache::{Instance, Lookup};
use crate::app::coordinator::Effect;
use crate::app::lifecycle::LifecycleKind;
use crate::app::queue::Lane;
use crate::kube::types::{ResourceVersion, Uid};
use std::sync::Arc;
use std::time::Duration;

impl Step<'_> {
    /// Nobody uses this Job, which may be stopped after this time.
    pub(super) fn idle_soon(&mut self, uid: &Uid, left: Duration) {
        let Lookup::Instance(instance) = self.context.cache.lookup(self.key) else {
            return;
        };
        if instance.job.metadata.uid == *uid && !instance.job.metadata.is_deleting() {
            let event = self.event(Some(uid), LifecycleKind::IdleSoon(left));
            self.report(event);
        }
    }
}

impl Record {
    /// Nobody uses this Job, which had this version when that was decided.
    pub(super) fn stop_idle(&mut self, uid: &Uid, version: &ResourceVersion, step: &mut Step<'_>) {
        if let Some(instance) = self.untouched(uid, version, step) {
            self.delete_untouched(instance, StopCause::Idle, None, step);
        }
    }

    /// The template of this Job has changed, which had this version when that was decided.
    pub(super) fn restart(
        &mut self,
        uid: &Uid,
        version: &ResourceVersion,
        revisions: &Arc<Outdated>,
        step: &mut Step<'_>,
    ) {
        let Some(instance) = self.untouched(uid, version, step) else {
            return;
        };
        let Some(new) = self.new_of_restart(&instance.job, revisions, step) else {
            return;
        };
        let cause = StopCause::Outdated(Arc::clone(revisions));
        self.delete_untouched(instance, cause, Some(Box::new(new)), step);
    }

    /// This Job, if it still has this version, and nothing is going on with its name.
    fn untouched(
        &self,
        uid: &Uid,
        version: &ResourceVersion,
        step: &Step<'_>,
    ) -> Option<Box<Instance>> {
        if self.operation.is_some() || !step.may_work {
            return None;
        }
        let Lookup::Instance(instance) = step.context.cache.lookup(step.key) else {
            return None;
        };
        let metadata = &instance.job.metadata;
        let is_it = metadata.uid == *uid && metadata.resource_version == *version;
        (is_it && !metadata.is_deleting()).then_some(instance)
    }

    fn delete_untouched(
        &mut self,
        instance: Box<Instance>,
        cause: StopCause,
        new: Option<Box<NewJob>>,
        step: &mut Step<'_>,
    ) {
        let metadata = &instance.job.metadata;
        let (uid, version) = (metadata.uid.clone(), metadata.resource_version.clone());
        let lookup = Lookup::Instance(instance);
        let observed = Observed::new(step.key, lookup, &mut self.memory, step.context);
        let call = Arc::new(ApiCall {
            key: step.key.clone(),
            lane: Lane::Start,
            caller: None,
            action: Action::DeleteJob {
                uid,
                version: Some(version),
                cause,
                new,
            },
            is_retry: false,
        });
        self.operation = Some(Box::<Operation>::default());
        self.begin(Arc::clone(&call), &observed, step);
        step.out.push(Effect::Call(call));
    }
}
