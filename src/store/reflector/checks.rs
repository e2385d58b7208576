//! [`Checks`]: which object is read by name next, and how it compares with the store.
//!
//! Each round reads two: the one that was changed last, which a restored etcd lacks first, and the next by
//! name, so that each has its turn.

use crate::kube::Client;
use crate::kube::error::Class;
use crate::kube::types::Resource;
use crate::kube::watch::Checked;
use crate::store::store::{Sample, Sink};

#[derive(Debug, Default)]
pub(super) struct Checks {
    /// The object that was read last.
    last: Option<Sample>,
    /// The second of this round.
    waiting: Option<Sample>,
    /// The name whose turn was last.
    turn: Box<str>,
}

impl Checks {
    /// Reads the next object, or the last one `again`.
    pub(super) fn check<K: Resource, S: Sink<K>>(
        &mut self,
        again: bool,
        client: &Client,
        store: &S,
    ) -> Checked {
        if !again {
            self.last = self.choose(store);
        }
        let more = self.waiting.is_some();
        let Some(sample) = self.last.clone() else {
            return Checked::Same { more: false };
        };
        let is_held = || store.sample(&sample.name).as_ref() == Some(&sample);
        if !is_held() {
            return Checked::Same { more };
        }
        let found = match client.state::<K>(&sample.name) {
            Ok(found) => found,
            Err(error) if error.class() == Class::Forbidden => return Checked::Forbidden,
            Err(_) => return Checked::Failed,
        };
        let is_same = found.as_ref() == Some(&(sample.uid.clone(), sample.version.clone()));
        if is_same || !is_held() {
            return Checked::Same { more };
        }
        match found {
            Some((_, version)) if version.is_before(&sample.version) => Checked::Older(sample.name),
            _ => Checked::Differs(sample.name),
        }
    }

    fn choose<K: Resource, S: Sink<K>>(&mut self, store: &S) -> Option<Sample> {
        if let Some(waiting) = self.waiting.take() {
            return Some(waiting);
        }
        let samples = store.samples(&self.turn);
        if let Some(next) = &samples.next {
            self.turn = next.name.clone();
        }
        let is_other = samples.next != samples.newest;
        self.waiting = samples.next.filter(|_| is_other);
        samples.newest
    }
}
