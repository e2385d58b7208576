//! Streams of events (`text/event-stream`, HTML §9.2): of all instances, and of one start.
//!
//! Which events there are, and what of them was missed, is known to [`crate::app::events`]; when a stream is asked
//! for its next part, to [`crate::http::server`]. A stream keeps where it is, and no events.

use super::all_instances::{instance_item, no_place};
use super::{Api, Call, NotReady, Outcome, Pending, Starts, reply};
use crate::app::events::{Event, EventKind, EventLog, Told};
use crate::app::instances::{Item, Selection};
use crate::app::{self, Error};
use crate::budget::{Account, Hold, Loan, Purpose, SharedBytes};
use crate::http::conditional::Condition;
use crate::http::message::{Body, Method, Response};
use crate::http::prefer;
use crate::http::selection;
use crate::http::server::{Handled, PART_BYTES_MAX, Part};
use crate::model::names::InstanceKey;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So that proxies and peers know that a stream is alive it has a comment at least this often.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A stream of all instances ends after this time, and its reader resumes it, perhaps at a newer replica.
const STREAM_MAX: Duration = Duration::from_secs(3600);

/// When a reader comes back, in milliseconds; before the first event.
const RETRY: &[u8] = b"retry: 2000\n\n";

/// The end of the ID of an event that ends a stream for good.
const END: &str = ".end";

/// Bytes that a stream needs beside its request.
const STREAM_BYTES: usize = size_of::<EventStream>() + size_of::<StartStream>();

/// Appends the data of an event.
pub fn event(told: &Told<'_>, into: &mut Vec<u8>) {
    let mut data = match told.item {
        Some(item) => instance_item(item),
        None => json!({
            "type": told.key.app_type.as_str(),
            "name": told.key.name.as_str(),
            "uid": told.uid.map(ToString::to_string),
        }),
    };
    data["at"] = json!(told.at.to_string());
    match told.kind {
        EventKind::Ready if told.recovered => data["recovered"] = json!(true),
        EventKind::Failed => data["final"] = json!(told.is_final),
        EventKind::IdleSoon => data["expires_in"] = json!(told.expires_in.map(|it| it.as_secs())),
        EventKind::Stopping => data["cause"] = json!(told.cause),
        _ => {}
    }
    append(&data, into);
}

/// Appends an instance of the state with which a stream begins.
pub fn item(item: &Item, into: &mut Vec<u8>) {
    append(&instance_item(item), into);
}

fn append(data: &Value, into: &mut Vec<u8>) {
    serde_json::to_writer(into, data).expect("text can be written into memory");
}

/// A stream of events of a selection of instances.
#[derive(Debug)]
pub(in crate::http) struct EventStream {
    selection: Arc<Selection>,
    account: Account,
    _hold: Hold,
    /// The number of the last event that was passed on, or left out.
    after: u64,
    /// It wants no more than the head.
    is_head: bool,
    /// The state with which it begins, and how many bytes of it were passed on.
    relist: Option<(Loan, usize)>,
    pace: Pace,
}

/// When a stream began, and when it had its last part.
#[derive(Debug)]
struct Pace {
    begun: Option<Instant>,
    last: Instant,
}

impl Pace {
    const fn new(now: Instant) -> Self {
        Self {
            begun: None,
            last: now,
        }
    }

    /// The part with these bytes; a heartbeat if there are none for too long.
    fn part(
        &mut self,
        mut bytes: Vec<u8>,
        is_last: bool,
        now: Instant,
        begin: impl FnOnce() -> Response,
    ) -> Part {
        let begins = self.begun.is_none().then(begin);
        self.begun.get_or_insert(now);
        if begins.is_some() {
            bytes = [RETRY, &bytes].concat();
        } else if bytes.is_empty() && now.saturating_duration_since(self.last) >= HEARTBEAT {
            bytes.extend_from_slice(b":\n\n");
        }
        if !bytes.is_empty() {
            self.last = now;
        }
        Part {
            begins,
            bytes: Body::Owned(bytes),
            is_last,
            is_cut: false,
        }
    }
}

/// Without an intermediary that keeps it or waits for more of it.
fn begin() -> Response {
    Response::with_type(200, prefer::EVENT_STREAM, Body::default())
        .header("cache-control", "no-store")
        .header("x-accel-buffering", "no")
}

impl EventStream {
    /// The state of all instances has come, as of the event with this number.
    pub(super) fn relisted(
        mut self: Box<Self>,
        bytes: &Arc<SharedBytes>,
        number: u64,
    ) -> Result<Box<Self>, Error> {
        self.relist = Some((bytes.lend(&self.account)?, 0));
        self.after = number;
        Ok(self)
    }

    fn next(&mut self, log: &EventLog, room: usize) -> (Vec<u8>, bool) {
        if let Some((bytes, sent)) = &mut self.relist {
            let end = (*sent + room).min(bytes.len());
            let next = bytes[*sent..end].to_vec();
            *sent = end;
            if end == bytes.len() {
                self.relist = None;
            }
            return (next, false);
        }
        let mut bytes = Vec::new();
        let is_of = |event: &Event| event.is_of(&self.selection);
        match log.read(self.after, is_of, room, &mut bytes) {
            Ok(number) => {
                self.after = number;
                (bytes, false)
            }
            // Its reader comes back, and gets the state.
            Err(_) => (bytes, true),
        }
    }
}

/// A stream of one start.
#[derive(Debug)]
pub(in crate::http) struct StartStream {
    starts: Starts,
    /// Its reader has followed the start before.
    comes_back: bool,
    key: InstanceKey,
    /// The Job that was there when the request came, and the number of the last event then.
    joined: Option<(Item, u64)>,
    after: u64,
    /// What was told before.
    story: Vec<u8>,
    /// What ends it.
    end: Option<Vec<u8>>,
    pace: Pace,
}

impl StartStream {
    fn new(key: InstanceKey, comes_back: bool, api: &Api) -> Box<Self> {
        let log = api.app.events();
        let last = log.last();
        let mut stream = Self {
            starts: Starts::AsAsked,
            comes_back,
            joined: None,
            after: last,
            story: Vec::new(),
            end: None,
            pace: Pace::new(api.app.now()),
            key,
        };
        if let Some(item) = api.app.item(&stream.key) {
            let is_of =
                |event: &Event| event.uid.as_ref() == Some(&item.uid) && is_step(event.kind);
            let (first, room) = (log.before_first(), PART_BYTES_MAX);
            // How one that is being stopped had started is no story of the start that follows.
            if !item.is_stopping()
                && let Ok(number) = log.read(first, is_of, room, &mut stream.story)
            {
                stream.after = number;
            }
            if stream.story.is_empty() {
                stream.story = api.app.restated(&item).unwrap_or_default();
                stream.after = last;
            }
            stream.joined = Some((item, last));
        }
        Box::new(stream)
    }

    fn is_wanted(&self, event: &Event) -> bool {
        let is_past = |(item, last): &(Item, u64)| {
            event.number <= *last && event.uid.as_ref() != Some(&item.uid)
        };
        let is_shown = match self.pace.begun {
            Some(_) => !matches!(
                event.kind,
                EventKind::Requested | EventKind::Labelled | EventKind::IdleSoon
            ),
            None => is_step(event.kind),
        };
        event.key == self.key
            && is_shown
            && !event.kind.ends_start()
            && !self.joined.as_ref().is_some_and(is_past)
    }

    /// The end, from the response that a request without a stream would get.
    /// `id`: what its reader is to come back with.
    fn ends_with(&mut self, kind: &str, id: &str, body: &[u8]) {
        let mut bytes = format!("id: {id}\nevent: {kind}\ndata: ").into_bytes();
        // Bodies are JSON of one line.
        bytes.extend(body.iter().filter(|byte| !byte.is_ascii_control()));
        bytes.extend_from_slice(b"\n\n");
        self.end = Some(bytes);
    }
}

/// With which the stream of a start may begin.
const fn is_step(kind: EventKind) -> bool {
    matches!(kind, EventKind::Created | EventKind::Starting)
}

impl Api {
    /// `GET /instances`, for a reader of events.
    pub(super) fn events(&self, call: &Call<'_>) -> Outcome {
        let request = call.request;
        let (selection, _) = selection::selection(request.query.as_deref(), &call.caller.types)?;
        let selection = Arc::new(selection);
        let account = call.caller.account(request.peer);
        let bytes = request.parked_bytes() + STREAM_BYTES;
        let place = (call.bounds.pages).hold(account.clone(), Purpose::Transfer, 1);
        let hold = (call.bounds.bytes).hold(account.clone(), Purpose::Transfer, bytes)?;
        let given = request.headers.get("last-event-id");
        let is_head = request.method == Method::Head;
        let resumed = given.and_then(|id| self.app.events().number_of(id).ok());
        let stream = Box::new(EventStream {
            selection: Arc::clone(&selection),
            account,
            _hold: hold,
            after: resumed.unwrap_or_default(),
            is_head,
            relist: None,
            pace: Pace::new(self.app.now()),
        });
        let pending = Pending::Events(stream);
        if resumed.is_some() || is_head {
            return Ok(Handled::Streams(pending));
        }
        (self.app).relist(call.handle, selection, place.map_err(no_place))?;
        Ok(Handled::Parked(pending))
    }

    /// `GET /app/{type}/{name}`, for a reader of events.
    pub(super) fn follow(&self, call: &Call<'_>, key: InstanceKey) -> Outcome {
        let given = call.request.headers.get_bytes("last-event-id");
        let is_over = given.is_some_and(|id| id.ends_with(END.as_bytes()));
        if is_over {
            return reply(over());
        }
        let mut stream = StartStream::new(key.clone(), given.is_some(), self);
        match self.ensured(call, key, Some(!stream.comes_back))? {
            Handled::Reply(response) => {
                stream.story.clear();
                stream.ends_with("ready", &self.end_id(END), &response.body);
                Ok(Handled::Streams(Pending::Follow(stream)))
            }
            Handled::Parked(Pending::Ensure(starts, ..)) => {
                let stream = Box::new(StartStream { starts, ..*stream });
                Ok(Handled::Streams(Pending::Follow(stream)))
            }
            other => Ok(other),
        }
    }

    /// The response to a start has come that is followed.
    pub(super) fn followed(
        &self,
        mut stream: Box<StartStream>,
        response: app::Response,
        failed: impl FnOnce(Error) -> Response,
    ) -> Handled<Pending> {
        use app::Response::{Failed, Progress, Ready, Unread};
        let is_queued =
            matches!(&response, Progress { progress, .. } if progress.position.is_some());
        let (kind, is_for_good) = match &response {
            Ready { .. } => ("ready", true),
            Progress { progress, .. } if progress.is_failure_report => ("failed", true),
            Progress { .. } => ("waiting", false),
            Unread(response) => return self.followed(stream, (**response).clone(), failed),
            Failed(Error::NoInstance(_)) if stream.comes_back => return Handled::Reply(over()),
            Failed(_) if stream.pace.begun.is_none() => {
                let pending = Pending::Ensure(
                    stream.starts,
                    Condition::default(),
                    NotReady::Accepted,
                    false,
                );
                return Handled::Reply(self.response(pending, response, failed));
            }
            _ => ("failed", true),
        };
        let pending = Pending::Ensure(
            stream.starts,
            Condition::default(),
            NotReady::Accepted,
            false,
        );
        let response = self.response(pending, response, failed);
        // What says nothing of the instance: its reader is to come back.
        let (kind, is_for_good) = match response.status {
            429 | 500.. => ("waiting", false),
            _ => (kind, is_for_good),
        };
        let id = match is_for_good {
            // With an ID it would only follow a start, and this one has not begun.
            false if is_queued => String::new(),
            false => self.end_id(""),
            true => self.end_id(END),
        };
        stream.ends_with(kind, &id, &response.body);
        Handled::Streams(Pending::Follow(stream))
    }

    fn end_id(&self, end: &str) -> String {
        let log = self.app.events();
        format!("{}{end}", log.id(log.last()))
    }

    /// What there is of a stream.
    pub(in crate::http) fn pull(
        &self,
        pending: &mut Pending,
        is_draining: bool,
        room: usize,
    ) -> Part {
        let (log, now) = (self.app.events(), self.app.now());
        match pending {
            Pending::Events(stream) => {
                let (bytes, has_missed) = stream.next(log, room - RETRY.len());
                let begun = stream.pace.begun.unwrap_or(now);
                let is_old = now.saturating_duration_since(begun) >= STREAM_MAX;
                let is_last = has_missed || is_draining || is_old || stream.is_head;
                (stream.pace).part(bytes, is_last, now, || self.aged(begin()))
            }
            Pending::Follow(stream) => self.next_of_start(stream, now, room),
            Pending::Log(log) => log.pull(is_draining, room),
            _ => Part::default(),
        }
    }

    fn next_of_start(&self, stream: &mut StartStream, now: Instant, room: usize) -> Part {
        let rest = (stream.story).split_off(stream.story.len().min(room));
        let mut bytes = std::mem::replace(&mut stream.story, rest);
        if !stream.story.is_empty() {
            return (stream.pace).part(bytes, false, now, || self.aged(begin()));
        }
        let read = self.app.events().read(
            stream.after,
            |event| stream.is_wanted(event),
            room - RETRY.len(),
            &mut bytes,
        );
        let before = stream.after;
        stream.after = read.unwrap_or(before);
        let is_all = read.is_err() || stream.after == before || bytes.is_empty();
        let end = stream.end.take_if(|_| is_all);
        let is_last = end.is_some() || read.is_err();
        bytes.extend(end.unwrap_or_default());
        if bytes.is_empty() && !is_last && stream.pace.begun.is_none() {
            return Part::default();
        }
        (stream.pace).part(bytes, is_last, now, || self.aged(begin()))
    }
}

/// Tells an `EventSource` not to come back.
fn over() -> Response {
    Response::empty(204).header("cache-control", "no-cache")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::events::EVENTS_MAX;
    use crate::app::fixture::{n1, uid};
    use crate::app::lifecycle::{Lifecycle, LifecycleKind};
    use crate::budget::{Division, Ledger};
    use std::time::SystemTime;

    fn bytes_at(pace: &mut Pace, now: Instant) -> String {
        let part = pace.part(Vec::new(), false, now, begin);
        String::from_utf8(part.bytes.to_vec()).unwrap()
    }

    #[test]
    fn a_stream_without_events_has_heartbeats() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let first = pace.part(b"a".to_vec(), false, start, begin);
        assert_eq!(first.begins.map(|head| head.status), Some(200));
        assert_eq!(&first.bytes[..], [RETRY, b"a"].concat());
        let second = Duration::from_secs(1);
        let mut at = start + HEARTBEAT;
        assert_eq!(bytes_at(&mut pace, at - second), "");
        assert_eq!(bytes_at(&mut pace, at), ":\n\n");
        at += HEARTBEAT;
        assert_eq!(bytes_at(&mut pace, at - second), "");
        assert_eq!(bytes_at(&mut pace, at), ":\n\n");
    }

    /// One that has not read for so long that events are missing.
    #[test]
    fn a_reader_that_is_too_slow_is_disconnected() {
        let log = EventLog::new("r", 1, |_, _| {});
        let account = Account::Token("a".into());
        let ledger = Ledger::of_bytes(1024, Division::UNLIMITED);
        let mut stream = EventStream {
            selection: Arc::default(),
            account: account.clone(),
            _hold: ledger.hold(account, Purpose::Transfer, 1).unwrap(),
            after: log.last(),
            is_head: false,
            relist: None,
            pace: Pace::new(Instant::now()),
        };
        let append = |jobs: std::ops::Range<usize>| {
            for at in jobs {
                let event = Lifecycle {
                    key: n1(),
                    job_uid: Some(uid(&at.to_string())),
                    at: Instant::now(),
                    kind: LifecycleKind::Ready {
                        after: None,
                        recovered: false,
                    },
                    is_news: true,
                    phase_left: None,
                    start_ended: None,
                };
                log.append(&event, || None, SystemTime::UNIX_EPOCH);
            }
        };
        append(0..EVENTS_MAX);
        let (bytes, is_last) = stream.next(&log, PART_BYTES_MAX);
        assert!(bytes.len() <= PART_BYTES_MAX && bytes.len() > PART_BYTES_MAX / 2);
        assert!(!is_last);
        let read = usize::try_from(stream.after).unwrap();
        append(EVENTS_MAX..EVENTS_MAX + read + 1);
        let (bytes, is_last) = stream.next(&log, PART_BYTES_MAX);
        assert!(bytes.is_empty() && is_last);
    }
}
