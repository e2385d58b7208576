//! A reader of the events of one replica, from its start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use config_controller::app::events::EventLog;
use config_controller::app::index::STATUS_WORDS;
use config_controller::app::instances::Item;
use config_controller::app::lifecycle::Lifecycle;
use config_controller::http::handlers;

use serde_json::{Value, json};

use crate::streams::story::{Story, StreamEvent};

/// A reader and what it reads.
#[derive(Debug)]
pub(super) struct Reader {
    /// What has happened to instances.
    pub(super) log: Arc<EventLog>,
    after: u64,
    pub(super) story: Story,
    /// The first thing that cannot be true.
    broken: Option<String>,
}

impl Default for Reader {
    fn default() -> Self {
        let log = Arc::new(EventLog::new("replica", 1, handlers::event));
        Self {
            after: log.last(),
            log,
            story: Story::default(),
            broken: None,
        }
    }
}

impl Reader {
    /// The replica reports this.
    pub(super) fn report(&mut self, event: &Lifecycle, item: Option<Item>, at: SystemTime) {
        let is_there = item.as_ref().map(|item| &item.uid) == event.job_uid.as_ref();
        self.log.append(event, || item, at);
        self.read(is_there);
    }

    /// The stores have this of an instance now.
    pub(super) fn relabel(&mut self, item: &Item, at: SystemTime) {
        self.log.relabel(item, at);
        self.read(true);
    }

    fn read(&mut self, is_there: bool) {
        let mut bytes = Vec::new();
        let read = self.log.read(self.after, |_| true, usize::MAX, &mut bytes);
        self.after = read.expect("it reads each event at once");
        let text = String::from_utf8(bytes).expect("events are text");
        for lines in text.split_terminator("\n\n") {
            let told = self.story.tell(StreamEvent::of(lines), is_there);
            if let Err(message) = told {
                self.broken.get_or_insert(message);
            }
        }
    }

    /// What cannot be true of what it was told.
    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// After everything was reported: the Jobs that exist are those that it knows, each with the status and the
    /// labels that it knows, and the reason of a start.
    pub(super) fn check_at_rest(&self, items: &[Item]) -> Result<(), String> {
        let there = items.iter().map(|item| {
            let job = format!("{} {}", item.key, item.uid);
            let reason = item.finding.as_ref().map(|finding| &*finding.reason);
            let told = told(STATUS_WORDS[item.status], json!(item.meta), json!(reason));
            (job, told)
        });
        let there: BTreeMap<String, String> = there.collect();
        let known = self.story.there();
        let known: BTreeMap<String, (String, bool)> = known
            .map(|(job, status, data)| {
                let told = told(status, data["labels"].clone(), data["reason"].clone());
                (job.to_owned(), (told, data["final"] == true))
            })
            .collect();
        let is_same = |(job, there): (&String, &String)| {
            // How an instance has ended goes with its pod, and a reader may remember it.
            let bare = |text: &str| {
                text.rsplit_once(' ')
                    .map_or("", |(bare, _)| bare)
                    .to_owned()
            };
            known.get(job).is_some_and(|(told, is_final)| {
                told == there || (*is_final && bare(told) == bare(there))
            })
        };
        if there.len() != known.len() || !there.iter().all(is_same) {
            return Err(format!("there is {there:?}, told was {known:?}"));
        }
        Ok(())
    }
}

/// What a reader is told of an instance; the labels of one that is being stopped go with its pod.
fn told(status: &str, labels: Value, reason: Value) -> String {
    match status {
        "stopping" => status.to_owned(),
        "ready" | "finished" => format!("{status} {labels} -"),
        _ => format!("{status} {labels} {reason}"),
    }
}
