//! What a reader of one replica's events is told of each Job, and whether that can be true.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// One event as it was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamEvent {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) data: Value,
}

impl StreamEvent {
    /// The event of these lines.
    pub(crate) fn of(lines: &str) -> Self {
        let field = |name: &str| {
            let mut lines = lines.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value.unwrap_or_default()
        };
        Self {
            id: field("id").to_owned(),
            name: field("event").to_owned(),
            data: serde_json::from_str(field("data")).expect("the data is JSON"),
        }
    }
}

/// What was told of each Job.
#[derive(Debug, Default)]
pub(crate) struct Story {
    /// The last event of each Job that is not gone.
    told: BTreeMap<String, Told>,
    gone: BTreeSet<String>,
    /// etcd was restored: what was being stopped may run again.
    pub(crate) is_restored: bool,
}

#[derive(Clone, Debug, Default)]
struct Told {
    event: StreamEvent,
    /// It was ready, or reported as failed.
    has_ended: bool,
}

impl Story {
    /// The first event of a stream.
    pub(crate) fn relist(&mut self, event: &StreamEvent) {
        self.told.clear();
        for item in event.data["instances"].as_array().expect("it is a list") {
            let status = item["status"].as_str().unwrap_or_default();
            let name = match status {
                "starting" | "ready" | "failed" | "stopping" | "finished" => status,
                other => panic!("{other}"),
            };
            let told = Told {
                has_ended: matches!(name, "ready" | "failed"),
                event: StreamEvent {
                    name: name.to_owned(),
                    data: item.clone(),
                    ..StreamEvent::default()
                },
            };
            self.told.insert(job_of(item).unwrap_or_default(), told);
        }
    }

    /// A further event; `is_there`: whether the replica sees its Job. An error is what cannot be true.
    pub(crate) fn tell(&mut self, event: StreamEvent, is_there: bool) -> Result<(), String> {
        let Some(job) = job_of(&event.data) else {
            return match &*event.name {
                "requested" => Ok(()),
                _ => Err(format!("no Job: {event:?}")),
            };
        };
        let before = self.told.remove(&job);
        let fails = |what: &str| Err(format!("{what}: {event:?}, after {before:?}"));
        // A list from before it was made, or a restored etcd, may bring it back.
        if self.gone.remove(&job) && !is_there {
            return fails("its Job was gone");
        }
        let name = &*event.name;
        if name == "labelled" {
            let before = before.as_ref();
            let Some(known) = before.filter(|it| it.event.data["labels"] != event.data["labels"])
            else {
                return fails("its labels are what they were");
            };
            let mut told = known.clone();
            told.event.data["labels"] = event.data["labels"].clone();
            self.told.insert(job, told);
            return Ok(());
        }
        if name == "idle-soon" {
            // Again whenever it was used in between.
            let Some(known) = before.as_ref().filter(|it| it.event.name != "stopping") else {
                return fails("nothing ends soon that is ending");
            };
            self.told.insert(job, known.clone());
            return Ok(());
        }
        if let Some(before) = &before {
            let last = &*before.event.name;
            let same = ["phase", "reason", "final"];
            let is_same = same
                .iter()
                .all(|it| before.event.data[*it] == event.data[*it]);
            if last == name && is_same {
                return fails("told twice");
            }
            if name == "created" {
                return fails("created late");
            }
            let is_back = self.is_restored;
            if last == "stopping" && name != "gone" && !is_back {
                return fails("it was being stopped");
            }
        } else if name == "gone" {
            return fails("nothing was told before");
        }
        let has_ended = before.as_ref().is_some_and(|it| it.has_ended);
        if name == "ready" && has_ended && event.data["recovered"] != true {
            return fails("it is a recovery");
        }
        if name == "gone" {
            self.gone.insert(job);
            return Ok(());
        }
        let has_ended = has_ended || matches!(name, "ready" | "failed");
        self.told.insert(job, Told { event, has_ended });
        Ok(())
    }

    /// The Jobs that are not gone, each with its status according to its last event, and the data of that.
    pub(crate) fn there(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        let told = self.told.iter();
        told.map(|(job, Told { event, .. })| (&**job, status_after(&event.name), &event.data))
    }

    /// How many Jobs are gone.
    pub(crate) fn gone(&self) -> usize {
        self.gone.len()
    }
}

/// The status of an instance in lists after this event.
fn status_after(name: &str) -> &str {
    match name {
        "created" => "starting",
        "disrupted" => "finished",
        name => name,
    }
}

/// The Job that it is about, with the name of the instance: a restored etcd may give a UID again.
fn job_of(data: &Value) -> Option<String> {
    let uid = data["uid"].as_str()?;
    let [app_type, name] = [&data["type"], &data["name"]].map(|it| it.as_str().unwrap_or_default());
    Some(format!("{app_type}/{name} {uid}"))
}
