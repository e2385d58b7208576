//! [`Relister`]: makes the state with which a stream of events begins, on a thread of its own.
//!
//! All that wait for the same selection share the bytes, and so do those that come while others are still being
//! sent them: the events since follow. Otherwise many that come back at once would hold a state each. The JSON of
//! an instance is made by the HTTP front; what the last event of each has said is in [`super::events`].

use super::cache::Cache;
use super::catalog::SharedCatalog;
use super::error::Error;
use super::events::EventLog;
use super::instances::{Item, Selection};
use super::request::{Response, ResponseSink};
use super::request_handle::RequestHandle;
use crate::budget::{Draft, Hold, Ledger, SharedBytes};
use crate::clock::Clock;
use crate::model::names::InstanceKey;
use crate::threads::{self, Heartbeats, OnDeath, lock};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

/// Appends the JSON of an instance.
pub type EncodeItem = fn(&Item, &mut Vec<u8>);

/// The longest that the thread sleeps, so that its heartbeat continues.
const NAP: Duration = Duration::from_secs(60);

/// Requests that wait for a state; each is the only one of its connection.
#[derive(Debug, Default)]
pub struct Relists {
    waiting: Mutex<Vec<Waiting>>,
    is_wanted: Condvar,
}

#[derive(Debug)]
struct Waiting {
    handle: RequestHandle,
    selection: Arc<Selection>,
    /// Shared with all that wait for the same.
    place: Arc<Hold>,
}

impl Relists {
    /// The request with this handle gets [`Response::Relist`]. A selection that nobody else waits for takes
    /// this place.
    ///
    /// # Errors
    /// That there is none.
    pub fn wait(
        &self,
        handle: RequestHandle,
        selection: Arc<Selection>,
        place: Result<Hold, Error>,
    ) -> Result<(), Error> {
        let mut waiting = lock(&self.waiting);
        let same = waiting.iter().find(|it| it.selection == selection);
        let place = match same {
            Some(same) => Arc::clone(&same.place),
            None => Arc::new(place?),
        };
        waiting.push(Waiting {
            handle,
            selection,
            place,
        });
        self.is_wanted.notify_one();
        Ok(())
    }

    /// It no longer waits.
    pub fn abandon(&self, handle: RequestHandle) {
        lock(&self.waiting).retain(|waiting| waiting.handle != handle);
    }

    /// Those that wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> Vec<RequestHandle> {
        let waiting = lock(&self.waiting);
        waiting.iter().map(|waiting| waiting.handle).collect()
    }

    /// All that wait for what the first one waits for, after a sleep while nobody does.
    fn take(&self) -> Vec<Waiting> {
        let waiting = lock(&self.waiting);
        let woken = self
            .is_wanted
            .wait_timeout_while(waiting, NAP, |waiting| waiting.is_empty());
        let (mut waiting, _) = woken.unwrap_or_else(PoisonError::into_inner);
        let first = waiting.first().map(|it| Arc::clone(&it.selection));
        let is_same = |it: &mut Waiting| Some(&it.selection) == first.as_ref();
        waiting.extract_if(.., is_same).collect()
    }
}

/// An instance as the stores have it now, for what is told of it.
#[must_use]
pub fn item_of(cache: &Cache, catalog: &SharedCatalog, key: &InstanceKey) -> Option<Item> {
    cache.item(key, catalog.current().revision(&key.app_type))
}

/// A state that was made, and the number of its event.
#[derive(Debug)]
struct Made {
    selection: Arc<Selection>,
    bytes: Weak<SharedBytes>,
    number: u64,
}

/// Makes states.
#[derive(Debug)]
pub struct Relister {
    /// What was told of each instance.
    pub events: Arc<EventLog>,
    /// What else there is to say of it.
    pub cache: Cache,
    /// The templates, for whether it is made from the present one.
    pub catalog: Arc<SharedCatalog>,
    /// The JSON of an instance.
    pub encode: EncodeItem,
    /// What the bytes are charged to.
    pub ledger: Arc<Ledger>,
    /// Who waits.
    pub relists: Arc<Relists>,
    /// Where responses go.
    pub sink: Arc<dyn ResponseSink>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Relister {
    /// Starts the thread, which ends with the process.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(self, heartbeats: &Heartbeats, on_death: &OnDeath) -> std::io::Result<()> {
        let heartbeat = heartbeats.register("relists", self.clock.now());
        let run = move || {
            let mut made = Vec::new();
            loop {
                heartbeat.idle();
                let waiting = self.relists.take();
                heartbeat.beat(self.clock.now(), Duration::ZERO);
                self.respond(waiting, &mut made);
            }
        };
        threads::spawn("relists".into(), Arc::clone(on_death), run)?;
        Ok(())
    }

    /// Answers those that wait for the same. `made`: states that may still be sent to some.
    fn respond(&self, waiting: Vec<Waiting>, made: &mut Vec<Made>) {
        let Some(selection) = waiting.first().map(|it| Arc::clone(&it.selection)) else {
            return;
        };
        made.retain(|it| it.bytes.strong_count() > 0 && self.events.is_recent(it.number));
        let same = made.iter().find(|it| it.selection == selection);
        let same = same.and_then(|it| Some((it.bytes.upgrade()?, it.number)));
        let relist = match same {
            Some(same) => Ok(same),
            None => self.relist(&selection),
        };
        if let Ok((bytes, number)) = &relist {
            made.retain(|it| it.selection != selection);
            made.push(Made {
                selection,
                bytes: Arc::downgrade(bytes),
                number: *number,
            });
        }
        for with_it in waiting {
            let response = match &relist {
                Ok((bytes, number)) => Response::Relist(Arc::clone(bytes), *number),
                Err(error) => Response::Failed(error.clone()),
            };
            self.sink.respond(with_it.handle, response);
        }
    }

    /// The event that begins a stream, and its number.
    fn relist(&self, selection: &Selection) -> Result<(Arc<SharedBytes>, u64), Error> {
        let mut snapshot = self.events.snapshot(selection);
        let id = self.events.id(snapshot.number);
        let mut json = format!("id: {id}\nevent: relist\ndata: {{\"instances\":[").into_bytes();
        let mut draft = Draft::new(&self.ledger, json.len())?;
        let mut separator = &b""[..];
        for ((key, uid), known) in &mut snapshot.known {
            let item = item_of(&self.cache, &self.catalog, key);
            let item = known.item((&*key, &*uid), item);
            known.note_labels(&item);
            if selection.has_labels(&item.meta) {
                json.extend_from_slice(separator);
                (self.encode)(&item, &mut json);
                draft.append(&json)?;
                json.clear();
                separator = b",";
            }
        }
        self.events.shown(&snapshot);
        json.extend_from_slice(b"]}\n\n");
        draft.append(&json)?;
        Ok((draft.finish(), snapshot.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::coordinator::Input;
    use crate::app::fixture::{Fixture, World, handle, n1};
    use crate::budget::{Account, Division, Purpose};
    use crate::clock::SystemClock;
    use crate::model::names::AppType;
    use serde_json::json;

    #[derive(Debug, Default)]
    struct Responses(Mutex<Vec<(u64, Response)>>);

    impl ResponseSink for Responses {
        fn respond(&self, handle: RequestHandle, response: Response) {
            lock(&self.0).push((handle.serial, response));
        }

        fn announce(&self) {}
    }

    fn encode(item: &Item, into: &mut Vec<u8>) {
        let text = format!("{} {} {:?}", item.key, item.status, item.ip);
        into.extend_from_slice(text.as_bytes());
    }

    /// A relister with room for so many bytes, and where its responses go.
    fn relister(world: &World, bytes: usize) -> (Relister, Arc<Responses>) {
        let sink = Arc::new(Responses::default());
        let relister = Relister {
            events: Arc::new(EventLog::new("r", 1, |_, _| {})),
            cache: world.cache.clone(),
            catalog: Arc::default(),
            encode,
            ledger: Ledger::of_bytes(bytes, Division::UNLIMITED),
            relists: Arc::default(),
            sink: Arc::clone(&sink) as Arc<dyn ResponseSink>,
            clock: Arc::new(SystemClock),
        };
        (relister, sink)
    }

    fn of_type(name: &str) -> Arc<Selection> {
        Arc::new(Selection {
            types: Some([AppType::new(name).unwrap()].into()),
            ..Selection::default()
        })
    }

    fn wait(relister: &Relister, serial: u64, selection: Arc<Selection>) {
        let places = Ledger::of_places(1, Division::UNLIMITED);
        let place = places.hold(Account::Service, Purpose::Transfer, 1);
        let place = place.map_err(Error::from);
        (relister.relists.wait(handle(serial), selection, place)).unwrap();
    }

    /// A fixture in which the ready Job `u1` was told of.
    fn told(
        relister: impl FnOnce(&World) -> (Relister, Arc<Responses>),
    ) -> (Relister, Arc<Responses>) {
        let mut fixture = Fixture::new();
        fixture.world.job("u1", json!({}));
        fixture.world.ready("u1", "10.0.0.1");
        let (relister, sink) = relister(&fixture.world);
        let mut out = Vec::new();
        let changed = crate::app::coordinator::CacheChange::of(n1());
        let context = fixture.world.context();
        (fixture.coordinator).step(Input::Changed(vec![changed]), &context, &mut out);
        for effect in out {
            if let crate::app::coordinator::Effect::Report(event) = effect {
                relister
                    .events
                    .append(&event, || None, fixture.world.wall());
            }
        }
        (relister, sink)
    }

    #[test]
    fn who_waits_for_the_same_shares_the_bytes() {
        let (relister, sink) = told(|world| relister(world, 64 * 1024));
        for serial in 1..=3 {
            let selection = of_type(if serial == 2 { "other" } else { "scim" });
            wait(&relister, serial, selection);
        }
        wait(&relister, 4, of_type("scim"));
        relister.relists.abandon(handle(4));
        for _ in 0..2 {
            relister.respond(relister.relists.take(), &mut Vec::new());
        }
        let responses = lock(&sink.0);
        let bytes = |serial| {
            let found = responses.iter().find(|(of, _)| *of == serial);
            match &found.unwrap().1 {
                Response::Relist(bytes, 0) => Arc::clone(bytes),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(responses.len(), 3);
        assert!(Arc::ptr_eq(&bytes(1), &bytes(3)));
        let text = |serial| String::from_utf8_lossy(&bytes(serial)).into_owned();
        let begin = "id: r.1.0\nevent: relist\ndata: {\"instances\":[";
        assert_eq!(text(2), format!("{begin}]}}\n\n"));
        let one = "scim/n1 1 Some(10.0.0.1)";
        assert_eq!(text(1), format!("{begin}{one}]}}\n\n"));
    }

    #[test]
    fn who_comes_while_others_are_sent_a_state_gets_that_and_the_events_since() {
        let (relister, sink) = told(|world| relister(world, 64 * 1024));
        let mut made = Vec::new();
        let mut ask = |serial| {
            wait(&relister, serial, of_type("scim"));
            relister.respond(relister.relists.take(), &mut made);
            match lock(&sink.0).pop() {
                Some((_, Response::Relist(bytes, number))) => (bytes, number),
                other => panic!("{other:?}"),
            }
        };
        let step = || {
            let event = crate::app::lifecycle::Lifecycle {
                key: n1(),
                job_uid: None,
                at: std::time::Instant::now(),
                kind: crate::app::lifecycle::LifecycleKind::Requested,
                is_news: true,
                phase_left: None,
                start_ended: None,
            };
            (relister.events).append(&event, || None, std::time::SystemTime::UNIX_EPOCH);
        };
        let (first, number) = ask(1);
        step();
        let (second, same) = ask(2);
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!((number, same), (0, 0));
        // Nobody is sent it any more.
        drop((first, second));
        assert_eq!(ask(3).1, 1);
        // So many events have come since that some would soon be missed.
        let (_kept, number) = ask(4);
        assert_eq!(number, 1);
        (0..=crate::app::events::EVENTS_MAX / 2).for_each(|_| step());
        assert!(ask(5).1 > number);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (relister, sink) = told(|world| relister(world, 32));
        wait(&relister, 1, of_type("scim"));
        relister.respond(relister.relists.take(), &mut Vec::new());
        let responses = lock(&sink.0);
        assert!(matches!(
            responses[..],
            [(1, Response::Failed(Error::Overloaded))]
        ));
    }
}
