//! Which instances are restarted since their template has changed: one more only while few of their type are being
//! stopped or started for that reason, so that a new revision that does not become ready stops early.
//!
//! Pure: takes what the caches show of all instances of a type, and the time. All replicas choose in the same order
//! and see what the others do in the Jobs, so they need not talk to each other; what two begin at once the API
//! server lets one of them do. The thread of [`super::idle`] asks, [`super::coordinator`] stops and starts.

use super::api_call::Outdated;
use crate::kube::types::{ResourceVersion, Uid};
use crate::model::names::{AppType, InstanceKey};
use crate::sorting;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Of so many instances of a type one is restarted at a time; at least one.
pub const ONE_OF: usize = 10;

/// A restart that has not begun after so long is given up: somebody waits for the instance, or it cannot be rendered
/// with its values.
pub const BEGINS_WITHIN: Duration = Duration::from_secs(10);

/// An instance whose restart was given up is passed over for so long.
pub const PASSED_OVER: Duration = Duration::from_secs(60);

/// What the caches show of one instance of a type.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Type and name.
    pub key: InstanceKey,
    /// Its Job.
    pub uid: Uid,
    /// Its version.
    pub version: ResourceVersion,
    /// The revision that it was made from; empty if an older version of this program has made it.
    pub revision: Box<str>,
    /// How far it is.
    pub stage: Stage,
}

/// How far an instance is on its way to the present revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is of the present revision, or has ended.
    Settled,
    /// It was restarted, and is not ready.
    Restarted,
    /// It is of another revision, and being deleted.
    Leaving,
    /// It is of another revision, and may be restarted now, or not.
    Outdated {
        /// Whether it is ready.
        is_ready: bool,
        /// Whether it may be restarted now.
        may: bool,
    },
}

impl Seen {
    /// Whether it may be restarted now, if it is outdated.
    pub(super) fn set_may(&mut self, is_so: bool) {
        if let Stage::Outdated { may, .. } = &mut self.stage {
            *may = is_so;
        }
    }
}

/// The restarts of this replica.
#[derive(Debug, Default)]
pub struct Restarts {
    /// Those that were passed on, until another Job has the name.
    begun: HashMap<InstanceKey, Begun>,
    /// Those that were given up, and when.
    passed_over: HashMap<Uid, Instant>,
}

#[derive(Debug)]
struct Begun {
    uid: Uid,
    at: Instant,
    revision: Arc<str>,
}

impl Restarts {
    /// Which of these instances, all of a type that has this revision now, are restarted next.
    pub fn next<'a>(
        &mut self,
        app_type: &AppType,
        revision: &Arc<str>,
        all: &'a [Seen],
        now: Instant,
    ) -> Vec<&'a Seen> {
        let under_way = self.note(app_type, revision, all, now);
        let is_busy = |seen: &&Seen| matches!(seen.stage, Stage::Restarted | Stage::Leaving);
        let busy = all.iter().filter(is_busy).count() + under_way;
        let most = (all.len() / ONE_OF).max(1);
        let mut next: Vec<&Seen> = all.iter().filter(|seen| self.may_begin(seen)).collect();
        // What is not ready loses nothing.
        let place = |seen: &Seen| {
            !matches!(
                seen.stage,
                Stage::Outdated {
                    is_ready: false,
                    ..
                }
            )
        };
        sorting::sort_by(&mut next, |a, b| {
            (place(a), a.key.name.as_str()).cmp(&(place(b), b.key.name.as_str()))
        });
        next.truncate(most.saturating_sub(busy));
        next
    }

    /// The restart of this instance to this revision is passed on; it is made only if nobody uses it, perhaps.
    pub fn begin(
        &mut self,
        seen: &Seen,
        (revision, if_unused): (&Arc<str>, bool),
        now: Instant,
    ) -> Arc<Outdated> {
        let begun = Begun {
            uid: seen.uid.clone(),
            at: now,
            revision: Arc::clone(revision),
        };
        self.begun.insert(seen.key.clone(), begun);
        Arc::new(Outdated {
            old: seen.revision.clone(),
            new: Arc::clone(revision),
            if_unused,
        })
    }

    fn may_begin(&self, seen: &Seen) -> bool {
        matches!(seen.stage, Stage::Outdated { may: true, .. })
            && !self.begun.contains_key(&seen.key)
            && !self.passed_over.contains_key(&seen.uid)
    }

    /// Takes what has become of restarts; how many are under way that the caches do not show.
    fn note(
        &mut self,
        app_type: &AppType,
        revision: &Arc<str>,
        all: &[Seen],
        now: Instant,
    ) -> usize {
        self.passed_over
            .retain(|_, since| *since + PASSED_OVER > now);
        if self.begun.is_empty() {
            return 0;
        }
        let there = sorting::map(all.iter().map(|seen| (&seen.key, seen)));
        let (mut under_way, passed_over) = (0, &mut self.passed_over);
        self.begun.retain(|key, begun| {
            if key.app_type != *app_type {
                return true;
            }
            match there.get(key) {
                Some(seen) if seen.uid != begun.uid => false,
                Some(seen) if seen.stage == Stage::Leaving => true,
                Some(_) if begun.at + BEGINS_WITHIN <= now => {
                    passed_over.insert(begun.uid.clone(), now);
                    false
                }
                // A start that does not come about counts for as long as its revision is the present one.
                None if begun.revision != *revision => false,
                _ => {
                    under_way += 1;
                    true
                }
            }
        });
        under_way
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::fixture::key;

    const READY: Stage = Stage::Outdated {
        is_ready: true,
        may: true,
    };
    const UNREADY: Stage = Stage::Outdated {
        is_ready: false,
        may: true,
    };
    const USED: Stage = Stage::Outdated {
        is_ready: true,
        may: false,
    };

    fn seen(name: &str, stage: Stage) -> Seen {
        Seen {
            key: key("scim", name),
            uid: format!("u-{name}").as_str().into(),
            version: "1".into(),
            revision: "r1".into(),
            stage,
        }
    }

    fn all(stages: &[Stage]) -> Vec<Seen> {
        let stages = stages.iter().enumerate();
        stages
            .map(|(n, stage)| seen(&format!("n{n:02}"), *stage))
            .collect()
    }

    /// The names that are restarted next.
    fn next(restarts: &mut Restarts, all: &[Seen], now: Instant) -> Vec<String> {
        let revision: Arc<str> = "r2".into();
        let app_type = key("scim", "a").app_type;
        let found = restarts.next(&app_type, &revision, all, now);
        let names = found.iter().map(|seen| seen.key.name.as_str().to_owned());
        let names = names.collect();
        for seen in found {
            drop(restarts.begin(seen, (&revision, false), now));
        }
        names
    }

    #[test]
    fn a_tenth_is_restarted_at_a_time_and_one_at_least() {
        for (stages, expected) in [
            (vec![READY; 1], 1),
            (vec![READY; 19], 1),
            (vec![READY; 20], 2),
            (vec![READY; 35], 3),
            ([vec![READY; 18], vec![Stage::Restarted; 2]].concat(), 0),
            ([vec![READY; 18], vec![Stage::Leaving; 1]].concat(), 0),
            ([vec![READY; 19], vec![Stage::Leaving; 1]].concat(), 1),
            ([vec![READY; 10], vec![Stage::Settled; 10]].concat(), 2),
            (vec![Stage::Settled; 20], 0),
            (vec![USED; 20], 0),
        ] {
            let all = all(&stages);
            let found = next(&mut Restarts::default(), &all, Instant::now());
            assert_eq!(found.len(), expected, "{stages:?}");
        }
    }

    #[test]
    fn what_is_not_ready_comes_first_then_the_name_decides() {
        let mut stages = vec![READY; 20];
        stages[7] = UNREADY;
        stages[0] = USED;
        let found = next(&mut Restarts::default(), &all(&stages), Instant::now());
        assert_eq!(found, ["n07", "n01"]);
    }

    #[test]
    fn what_was_begun_counts_until_another_job_has_the_name() {
        let (mut restarts, mut now) = (Restarts::default(), Instant::now());
        let mut all = all(&[READY; 3]);
        assert_eq!(next(&mut restarts, &all, now), ["n00"]);
        assert_eq!(next(&mut restarts, &all, now), [""; 0], "it is under way");
        all[0].stage = Stage::Leaving;
        assert_eq!(next(&mut restarts, &all, now), [""; 0]);
        let before = all.remove(0);
        now += Duration::from_secs(3600);
        assert_eq!(
            next(&mut restarts, &all, now),
            [""; 0],
            "it is not started yet"
        );
        let stage = Stage::Restarted;
        let uid = "u-new".into();
        all.push(Seen {
            stage,
            uid,
            ..before
        });
        assert_eq!(
            next(&mut restarts, &all, now),
            [""; 0],
            "it is not ready yet"
        );
        all[2].stage = Stage::Settled;
        assert_eq!(next(&mut restarts, &all, now), ["n01"]);
    }

    /// A start that the API server refuses although the dry run has passed is one too many.
    #[test]
    fn a_start_that_does_not_come_about_counts_for_its_revision() {
        let (mut restarts, mut now) = (Restarts::default(), Instant::now());
        let mut all = all(&[READY; 3]);
        next(&mut restarts, &all, now);
        all.remove(0);
        now += Duration::from_secs(3600);
        assert_eq!(next(&mut restarts, &all, now), [""; 0]);
        let app_type = key("scim", "a").app_type;
        let found = restarts.next(&app_type, &"r3".into(), &all, now);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn what_does_not_begin_is_passed_over_for_a_while() {
        let (mut restarts, mut now) = (Restarts::default(), Instant::now());
        let all = all(&[READY; 3]);
        assert_eq!(next(&mut restarts, &all, now), ["n00"]);
        now += BEGINS_WITHIN;
        assert_eq!(next(&mut restarts, &all, now), ["n01"]);
        now += BEGINS_WITHIN;
        assert_eq!(next(&mut restarts, &all, now), ["n02"]);
        now += PASSED_OVER;
        assert_eq!(next(&mut restarts, &all, now), ["n00"]);
    }
}
