//! What is done beside an open watch: probes, comparisons with lists and objects, pauses.

use super::*;

fn probed(version: &str) -> Input<ConfigMap> {
    Input::Probed(Ok(version.into()), "9".into())
}

fn checked(checked: Checked) -> Input<ConfigMap> {
    Input::Checked(checked)
}

fn bookmark(version: &str) -> Input<ConfigMap> {
    Input::Event(Ok(WatchEvent::Bookmark(version.into())))
}

const SAME: Checked = Checked::Same { more: false };

const AGAIN: Next = Next::Check { again: true };

/// Since when the store is stale, as far as these say.
fn stale(effects: &[Effect<ConfigMap>]) -> Option<Option<Instant>> {
    effects.iter().rev().find_map(|effect| match effect {
        Effect::Note(Note::Stale(since)) => Some(*since),
        _ => None,
    })
}

fn relisted(effects: &[Effect<ConfigMap>]) -> Option<Cause> {
    effects.iter().find_map(|effect| match effect {
        Effect::Note(Note::Relisted(cause)) => Some(*cause),
        _ => None,
    })
}

/// An API server whose etcd was restored takes a watch at a version in its future and sends nothing, until
/// that version comes again for other changes. Only before that does a probe show it.
#[test]
fn a_watch_that_was_lost_or_silent_is_reopened_only_after_a_probe() {
    for end in [End::Silent, End::Lost("reset".into())] {
        let mut scenario = Scenario::watching();
        let effects = scenario.check(Input::Ended(end), Next::Probe);
        assert!(effects.contains(&Effect::Note(Note::Watching(false))));
        let effects = scenario.check(probed("9"), BACK_OFF);
        assert_eq!(causes(&effects), [Cause::WentBack]);
        scenario.check(Input::Woken, list(None));
        let effects = scenario.check(page(&["a"], "9", None), open("9"));
        assert_eq!(relisted(&effects), Some(Cause::WentBack));
    }
}

#[test]
fn silence_is_counted_from_what_was_received_last() {
    let mut scenario = Scenario::watching();
    scenario.check(bookmark("11"), Next::Read);
    scenario.check_away(SILENCE.as_secs() - 1);
    let effects = scenario.after(1.0).check(Input::Idle, Next::Probe);
    assert_eq!(causes(&effects), [Cause::Silent]);
}

impl Scenario {
    /// Others have shown that versions went back, and the list that follows has the same version.
    fn relist_on_proof(&mut self) {
        let effects = self.check(Input::Doubted, list(None));
        assert_eq!(causes(&effects), [Cause::WentBack]);
        assert!(self.watch.lists_apart());
        let effects = self.check(page(&["a"], "10", None), open("10"));
        assert_eq!(relisted(&effects), Some(Cause::WentBack));
        self.check(Input::Opened(Ok(())), CHECK);
        self.check(checked(SAME), Next::Read);
    }

    /// A check follows a doubt that no list follows.
    fn doubt(&mut self) {
        self.relist_on_proof();
        self.check(Input::Doubted, Next::Probe);
        self.check(probed("10"), CHECK);
    }

    /// Nothing is received for so many seconds, and checks by name find nothing.
    fn check_away(&mut self, secs: u64) {
        for _ in 0..secs {
            let step = self.after(1.0).step(Input::Idle);
            if step.next == CHECK {
                self.check(checked(SAME), Next::Read);
            } else {
                assert_eq!(step.next, Next::Read);
            }
        }
    }

    /// Until the newest version is asked for, before a list.
    fn until_probe(&mut self) {
        for secs in 1..=RELIST.as_secs() * 5 / 4 {
            let input = if secs % 60 == 0 {
                bookmark("10")
            } else {
                Input::Idle
            };
            let mut step = self.after(1.0).step(input);
            if step.next == CHECK {
                step = self.step(checked(SAME));
            }
            if step.next == Next::Probe {
                assert!(secs >= RELIST.as_secs() * 3 / 4, "after {secs} s");
                return;
            }
        }
        panic!("no list");
    }

    /// Until a page is due.
    fn until_list(&mut self) -> Vec<Effect<ConfigMap>> {
        self.until_probe();
        let step = self.step(probed("10"));
        assert_eq!(step.next, list(None));
        step.effects
    }
}

/// A relay may lose events: no later one tells.
#[test]
fn every_interval_a_list_is_made_beside_the_watch_page_by_page() {
    let mut scenario = Scenario::watching();
    let effects = scenario.until_list();
    assert_eq!(effects.last(), Some(&Effect::Store(StoreEvent::Init)));
    let effects = scenario.check(page(&["a"], "20", Some("t1")), Next::Read);
    let apply = Effect::Store(StoreEvent::InitApply(config_map("a", "20")));
    assert_eq!(effects, [Effect::Note(Note::Contact), apply]);
    // Events go on between two pages, and the next page waits for its time.
    let added = |version| Input::Event(Ok(WatchEvent::Changed(config_map("b", version))));
    scenario.check(added("21"), Next::Read);
    scenario.after(PAGE_EVERY.as_secs_f64());
    scenario.check(Input::Idle, list(Some("t1")));
    // The watch has reached the version of the list.
    let effects = scenario.check(page(&["c"], "20", None), Next::Read);
    let done = Effect::Store(StoreEvent::InitDone("20".into()));
    assert_eq!(effects.last(), Some(&done));
    assert_eq!(relisted(&effects), Some(Cause::Interval));
}

#[test]
fn a_list_beside_a_watch_without_events_ends_after_a_while() {
    let mut scenario = Scenario::watching();
    scenario.until_list();
    scenario.check(page(&["a"], "20", None), Next::Read);
    scenario.idle(IN_FLIGHT.as_secs() - 1);
    let effects = scenario.after(1.0).check(Input::Idle, Next::Read);
    assert_eq!(relisted(&effects), Some(Cause::Interval));
}

#[test]
fn a_list_beside_a_watch_that_went_back_or_fails_is_made_anew() {
    let mut scenario = Scenario::watching();
    scenario.until_list();
    let effects = scenario.check(page(&["a"], "9", Some("t1")), BACK_OFF);
    assert_eq!(causes(&effects), [Cause::WentBack]);
    scenario.check(Input::Woken, list(None));

    // The watch is late. The store has what an earlier list, or a call, has shown.
    let mut scenario = Scenario::watching();
    scenario.until_probe();
    scenario.check(probed("15"), list(None));
    let effects = scenario.check(page(&["a"], "12", None), BACK_OFF);
    assert_eq!(causes(&effects), [Cause::WentBack]);

    // What was known before the list that follows counts no longer.
    scenario.check(Input::Woken, list(None));
    scenario.check(page(&["a"], "10", None), open("10"));
    scenario.check(Input::Opened(Ok(())), Next::Read);
    scenario.until_probe();
    let forbidden = Err(error(Verb::List, 403, "Forbidden"));
    scenario.check(Input::Probed(forbidden, "10".into()), list(None));
    let effects = scenario.check(page(&["a"], "11", None), Next::Read);
    assert_eq!(causes(&effects), []);

    for failed in [
        Input::Listed(Err(error(Verb::List, 410, "Expired"))),
        Input::Listed(Err(away(Verb::List))),
    ] {
        let mut scenario = Scenario::watching();
        scenario.until_list();
        scenario.check(page(&["a"], "10", Some("t1")), Next::Read);
        scenario.after(1.0).check(Input::Idle, list(Some("t1")));
        assert_eq!(scenario.check(failed, Next::Read), []);
        let soon = scenario.now + CHECK_EVERY;
        scenario.check(bookmark("10"), Next::Read);
        scenario.check_away(CHECK_EVERY.as_secs() - 1);
        let mut step = scenario.after(1.0).step(Input::Idle);
        if step.next == CHECK {
            step = scenario.step(checked(SAME));
        }
        assert_eq!((step.next, scenario.now), (Next::Probe, soon));
    }
}

/// A proof may come with each call, if an API server lies for long.
#[test]
fn proof_that_versions_went_back_is_followed_by_a_list_at_once_but_once_in_an_interval() {
    let mut scenario = Scenario::watching();
    scenario.relist_on_proof();
    let began = scenario.now;
    let mut lists = 0;
    while scenario.now < began + 3 * RELIST {
        scenario.after(1.0).step(bookmark("10"));
        let mut step = scenario.step(Input::Doubted);
        while step.next != Next::Read {
            step = match step.next {
                Next::Probe => scenario.step(probed("10")),
                Next::Check { .. } => scenario.step(checked(SAME)),
                Next::Open { .. } => scenario.step(Input::Opened(Ok(()))),
                Next::List { .. } => {
                    lists += u32::from(scenario.watch.list_cause == Some(Cause::WentBack));
                    scenario.step(page(&["a"], "10", None))
                }
                other => panic!("{other:?}"),
            };
        }
    }
    assert_eq!(lists, 3);
    // A store that may lack objects is not compared.
    let mut scenario = Scenario::new();
    scenario.watch = Watch::new(POLL, None, 1);
    scenario.check(Input::Woken, list(None));
    scenario.check(page(&["a"], "10", None), open("10"));
    scenario.check(Input::Opened(Ok(())), Next::Read);
    scenario.check(Input::Doubted, Next::Probe);
}

#[test]
fn an_object_that_differs_and_stays_so_is_followed_by_a_list() {
    let name = || "a".into();
    let mut scenario = Scenario::watching();
    scenario.doubt();
    // Its event may be on its way.
    scenario.check(checked(Checked::Differs(name())), Next::Read);
    scenario.idle(IN_FLIGHT.as_secs() - 1);
    scenario.after(1.0).check(Input::Idle, AGAIN);
    let effects = scenario.check(checked(Checked::Differs(name())), BACK_OFF);
    assert_eq!(causes(&effects), [Cause::Differs]);
    scenario.check(Input::Woken, list(None));
    let effects = scenario.check(page(&["a"], "11", None), open("11"));
    assert_eq!(relisted(&effects), Some(Cause::Differs));
    // The list has shown what the read did.
    scenario.check(Input::Opened(Ok(())), AGAIN);
    let effects = scenario.check(checked(SAME), Next::Read);
    assert_eq!(stale(&effects), None);
}

/// etcd was replaced under a running API server, whose cache answers lists as before.
#[test]
fn a_list_that_contradicts_a_read_makes_the_store_stale_until_they_agree() {
    let older = || checked(Checked::Older("a".into()));
    let mut scenario = Scenario::watching();
    scenario.doubt();
    let effects = scenario.check(older(), BACK_OFF);
    assert_eq!(causes(&effects), [Cause::WentBack]);
    scenario.check(Input::Woken, list(None));
    scenario.check(page(&["a"], "10", None), open("10"));
    scenario.check(Input::Opened(Ok(())), AGAIN);
    assert_eq!(stale(&scenario.check(older(), Next::Read)), None);
    scenario.idle(IN_FLIGHT.as_secs() - 1);
    scenario.after(1.0).check(Input::Idle, AGAIN);
    let since = scenario.now;
    let effects = scenario.check(older(), Next::Read);
    assert_eq!(stale(&effects), Some(Some(since)));
    assert!(effects.contains(&Effect::Note(Note::Contradiction(Some("a".into())))));
    for _ in 0..2 {
        scenario.until_check();
        let effects = scenario.check(older(), Next::Read);
        assert_eq!(stale(&effects), None, "it was said before");
    }
    scenario.until_check();
    let effects = scenario.check(checked(SAME), Next::Read);
    assert_eq!(stale(&effects), Some(None));
}

impl Scenario {
    fn until_check(&mut self) {
        for secs in 1.. {
            self.step(bookmark("10"));
            let step = self.after(1.0).step(Input::Idle);
            if step.next == AGAIN {
                return;
            }
            assert!(secs <= CHECK_EVERY.as_secs() * 5 / 4, "{:?}", step.next);
        }
    }
}

/// After SIGSTOP responses came from before the pause.
#[test]
fn after_a_pause_the_store_is_stale_until_the_watch_has_caught_up() {
    let later = PAUSE.as_secs_f64();
    let mut scenario = Scenario::watching();
    let before = scenario.now - Duration::from_secs(1);
    let added = |version| Input::Event(Ok(WatchEvent::Changed(config_map("b", version))));
    let effects = scenario.after(later - 1.0).check(added("11"), Next::Probe);
    assert_eq!(stale(&effects), Some(Some(before)));
    assert!(effects.contains(&Effect::Note(Note::Paused(PAUSE))));
    assert_eq!(stale(&scenario.check(probed("13"), Next::Read)), None);
    assert_eq!(stale(&scenario.check(added("12"), Next::Read)), None);
    assert_eq!(stale(&scenario.check(added("13"), Next::Read)), Some(None));
    // Or nothing is left to be received.
    let effects = scenario.after(later).check(Input::Idle, Next::Probe);
    assert!(matches!(stale(&effects), Some(Some(_))));
    scenario.check(probed("99"), Next::Read);
    scenario.check(added("14"), Next::Read);
    let effects = scenario.after(1.0).check(Input::Idle, Next::Read);
    assert_eq!(stale(&effects), Some(None));
    // Or a list has replaced it.
    let effects = scenario
        .after(later)
        .check(Input::Ended(End::Closed), open("14"));
    assert!(matches!(stale(&effects), Some(Some(_))));
    scenario.check(
        Input::Opened(Err(error(Verb::Watch, 410, "Gone"))),
        BACK_OFF,
    );
    scenario.check(Input::Woken, list(None));
    let effects = scenario.check(page(&["a"], "20", None), open("20"));
    assert_eq!(stale(&effects), Some(None));
}

/// A slow response to a probe is no pause, or a slow API server would be probed for ever.
#[test]
fn a_probe_may_take_its_time() {
    let later = PAUSE.as_secs_f64();
    let mut scenario = Scenario::watching();
    scenario.relist_on_proof();
    scenario.check(Input::Doubted, Next::Probe);
    scenario.after(later).check(probed("10"), CHECK);
    let effects = scenario.after(later).check(checked(SAME), Next::Probe);
    assert!(matches!(stale(&effects), Some(Some(_))));
    scenario.after(later).check(probed("10"), Next::Read);
    let effects = scenario.after(1.0).check(Input::Idle, Next::Read);
    assert_eq!(stale(&effects), Some(None));
}
