//! Messages of pods and Jobs: texts that apps and controllers write, such as the last lines of an app.
//!
//! Those of one object are bounded together here, and those of all objects by the store, which
//! shortens an object that has no room. What a message means is not known here.

use super::{ContainerState, ContainerStatus, Job, Pod};

/// How many bytes of messages of one object are kept, the first ones: two at their bound. The kubelet's
/// bound of all termination messages of a pod is 12 KiB; the first that is a failure is reported.
pub const OBJECT_MESSAGES_BYTES_MAX: usize = 8 * 1024;

/// How many are kept of an object that is shortened.
pub const SHORT_MESSAGES_BYTES_MAX: usize = 256;

/// Of a pod that is shortened, so many containers have a name and a previous run.
pub const SHORT_CONTAINERS_MAX: usize = 4;

/// What name and previous run of a container count, in bytes.
const DETAILS_BYTES: usize = 128;

/// What an object that is shortened counts at most.
pub const SHORT_BYTES_MAX: usize = SHORT_MESSAGES_BYTES_MAX + SHORT_CONTAINERS_MAX * DETAILS_BYTES;

pub(super) type Message = Option<Box<str>>;

fn len(message: &Message) -> usize {
    message.as_ref().map_or(0, |text| text.len())
}

/// Keeps so many bytes of these, the first ones, and no part of a character.
fn cut<'a>(messages: impl Iterator<Item = &'a mut Message>, max: usize) {
    let mut left = max;
    for message in messages {
        if let Some(text) = message.take_if(|text| text.len() > left) {
            let part = &text[..text.floor_char_boundary(left)];
            *message = (!part.is_empty()).then(|| part.into());
        }
        left -= len(message);
    }
}

impl ContainerStatus {
    fn message(&self) -> Option<&Message> {
        match &self.state {
            ContainerState::Waiting(detail) => detail.as_ref().map(|detail| &detail.message),
            ContainerState::Terminated(ended) => Some(&ended.message),
            _ => None,
        }
    }

    fn messages(&mut self) -> impl Iterator<Item = &mut Message> {
        let current = match &mut self.state {
            ContainerState::Waiting(detail) => detail.as_mut().map(|detail| &mut detail.message),
            ContainerState::Terminated(ended) => Some(&mut ended.message),
            _ => None,
        };
        let details = self.details.as_mut();
        let last = details.and_then(|details| details.last_terminated.as_mut());
        current
            .into_iter()
            .chain(last.map(|ended| &mut ended.message))
    }

    fn text_bytes(&self) -> usize {
        let details = self.details.as_ref().map_or(0, |_| DETAILS_BYTES);
        let last = self.last_terminated().map(|ended| &ended.message);
        details + self.message().map_or(0, len) + last.map_or(0, len)
    }
}

impl Pod {
    /// Keeps so many bytes of its messages; why it waits for a node comes first.
    pub(super) fn cut_messages(&mut self, max: usize) {
        let of_containers = self.containers.iter_mut();
        let of_containers = of_containers.flat_map(ContainerStatus::messages);
        let own = self.detail.as_mut().map(|detail| &mut detail.message);
        let conditions = self.conditions.messages();
        cut(conditions.chain(of_containers).chain(own), max);
    }

    pub(super) fn shorten(&mut self) {
        self.cut_messages(SHORT_MESSAGES_BYTES_MAX);
        for container in self.containers.iter_mut().skip(SHORT_CONTAINERS_MAX) {
            container.details = None;
        }
    }

    pub(super) fn text_bytes(&self) -> usize {
        let of_containers = self.containers.iter().map(ContainerStatus::text_bytes);
        let own = self
            .detail
            .as_ref()
            .map_or(0, |detail| len(&detail.message));
        let conditions: usize = self.conditions.all_messages().map(len).sum();
        conditions + of_containers.sum::<usize>() + own
    }
}

impl Job {
    pub(super) fn shorten(&mut self) {
        cut(self.status.conditions.messages(), SHORT_MESSAGES_BYTES_MAX);
    }

    pub(super) fn text_bytes(&self) -> usize {
        self.status.conditions.all_messages().map(len).sum()
    }
}
