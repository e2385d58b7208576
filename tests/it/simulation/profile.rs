//! The parameters of a schedule: how many replicas, which instances, which faults, and how often what
//! happens.
//!
//! Each seed draws weights of its own, of which some are zero, so that schedules differ in kind and not
//! only in order. They come from dice of their own: a schedule with even weights is what it was before
//! there were others, so that the seeds that have found defects find them again.

use std::time::Duration;

use config_controller::app::coordinator::Limits;
use config_controller::budget::Division;
use config_controller::model::labels::AllBounds;

use super::broken::Broken;
use super::caps::CAP;
use super::defects::Defect;
use super::dice::Dice;
use super::idle::IDLE_TIMEOUT;
use super::stuck::Stuck;
use super::truth::Pair;
use super::unreliable::Unreliable;
use super::world::key_of;
use crate::harness::PREFIX;
use serde_json::{Value, json};

/// The parameters of a schedule.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    /// How many replicas.
    pub(super) replicas: usize,
    /// The instances that callers request.
    pub(super) pairs: Vec<Pair>,
    /// There are no faults, only failing pods.
    pub(super) is_calm: bool,
    /// How many of a thousand requests to the API server meet a fault.
    pub(super) faults_per_thousand: usize,
    /// How many random events until the faults end.
    pub(super) moves: usize,
    /// The limits of the coordinators.
    pub(super) limits: Limits,
    /// Requests for labels come together, and each replica has one worker.
    pub(super) is_crowded: bool,
    /// Whether all labels are set with a precondition, through all replicas at once.
    pub(super) is_fenced: bool,
    /// What of the world is unreliable.
    pub(super) unreliable: Unreliable,
    /// How often what happens.
    pub(super) weights: Weights,
    /// How many Jobs a quota allows, if there is one.
    pub(super) quota: Option<usize>,
    /// A name whose calls and pods fail for ever.
    pub(super) stuck: Option<Stuck>,
    /// The app type whose template has `min-ready`, if one has; see [`MIN_READY`].
    pub(super) settles: Option<String>,
    /// The app type whose failed pods the Job controller replaces, if there is one; see [`RETRIES`].
    pub(super) retries: Option<String>,
    /// Whether of each type only so many instances may run; see [`CAP`].
    pub(super) is_capped: bool,
    /// Whether instances end that nobody uses; see [`IDLE_TIMEOUT`].
    pub(super) idles: bool,
    /// What is wrong with the API server on purpose.
    pub(super) broken: Broken,
    /// What is wrong with each replica on purpose.
    pub(super) defect: Defect,
}

/// How long an instance must have been ready, where its template says so.
pub(super) const MIN_READY: Duration = Duration::from_secs(3);

/// How often the Job controller replaces a failed pod, where the template says so.
pub(super) const RETRIES: usize = 2;

/// The instances of a schedule. The two of the last entry have the same Job name.
const PAIRS: [&[(&str, &str)]; 4] = [
    &[("hello", "ann")],
    &[("hello", "ann"), ("loop", "ann")],
    &[("hello", "ann"), ("brief", "ann"), ("hello", "bob")],
    &[("hello", "x-ann"), ("hello-x", "ann")],
];

impl Profile {
    /// Draws the parameters of a schedule.
    pub(super) fn draw(seed: u64, dice: &mut Dice) -> Self {
        let is_calm = dice.chance(150);
        let pairs = dice.pick(&PAIRS).iter();
        let limits = if dice.chance(150) { (6, 3) } else { (40, 20) };
        Self {
            replicas: 1 + dice.roll(3),
            pairs: pairs
                .map(|(t, n)| ((*t).to_owned(), (*n).to_owned()))
                .collect(),
            is_calm,
            faults_per_thousand: if is_calm {
                0
            } else {
                dice.pick(&[0, 20, 80, 250])
            },
            moves: 60 + dice.roll(120),
            limits: Limits {
                max_starting: None,
                place_kept: Duration::from_secs(10),
                parked_max: limits.0,
                parked_per_key_max: limits.1,
                division: Division::default(),
                // Some crowds exceed it.
                label_bounds: if seed % 7 == 3 {
                    AllBounds {
                        max: 1_500,
                        reserve: 300,
                        few: 300,
                    }
                } else {
                    AllBounds::DEFAULT
                },
                force_stop: true,
            },
            // Not drawn, so that the events of all other schedules stay as they are.
            is_crowded: matches!(seed % 7, 3 | 4),
            is_fenced: false,
            unreliable: Unreliable::of(seed, is_calm),
            weights: Weights::even(),
            quota: None,
            stuck: None,
            settles: None,
            retries: None,
            is_capped: false,
            idles: false,
            broken: Broken::Not,
            defect: Defect::Not,
        }
    }
}

/// The even weights of [`Event`]s, of a hundred.
const EVENTS: [usize; 12] = [14, 2, 14, 11, 11, 20, 10, 10, 4, 1, 1, 2];

/// How many kinds of perturbations there are.
const PERTURBATIONS: usize = 13;

/// How many kinds of faults a request may meet.
const FAULTS: usize = 11;

/// How often what happens, each relative to the others of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Weights {
    /// Of random events.
    pub(super) events: Vec<usize>,
    /// Of perturbations.
    pub(super) perturbations: Vec<usize>,
    /// Of faults of requests.
    pub(super) faults: Vec<usize>,
}

impl Weights {
    pub(super) fn even() -> Self {
        Self {
            events: EVENTS.to_vec(),
            perturbations: vec![1; PERTURBATIONS],
            faults: vec![1; FAULTS],
        }
    }

    fn draw(dice: &mut Dice) -> Self {
        let some = |dice: &mut Dice, kinds: usize| {
            let mut weights: Vec<_> = (0..kinds).map(|_| dice.pick(&[0, 1, 1, 2, 8])).collect();
            weights[dice.roll(kinds)] += 1;
            weights
        };
        let events = EVENTS.iter();
        Self {
            // All of them are needed for anything to happen.
            events: events.map(|of| of * dice.pick(&[1, 2, 2, 2, 6])).collect(),
            perturbations: some(dice, PERTURBATIONS),
            faults: some(dice, FAULTS),
        }
    }
}

impl Dice {
    /// An index of these weights, with the probability of its weight.
    pub(super) fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut left = self.roll(weights.iter().sum());
        let is_it = |weight: &usize| {
            let is_it = left < *weight;
            left = left.saturating_sub(*weight);
            is_it
        };
        weights.iter().position(is_it).unwrap_or_default()
    }
}

/// Sets the dice of what is varied apart from those of the schedule.
const VARIED: u64 = 0x5eed_0f7a_11ed;

impl Profile {
    /// Draws what schedules with even weights do not have.
    pub(super) fn varied(mut self, seed: u64) -> Self {
        let mut dice = Dice::new(Dice::new(seed ^ VARIED).next());
        self.weights = Weights::draw(&mut dice);
        self.is_fenced = seed % 5 == 4;
        if !self.is_calm {
            self.draw_limits(&mut dice);
        }
        if dice.chance(250) {
            let at = dice.roll(self.pairs.len());
            self.settles = Some(self.pairs[at].0.clone());
        }
        if dice.chance(250) {
            let at = dice.roll(self.pairs.len());
            self.retries = Some(self.pairs[at].0.clone());
        }
        self
    }

    /// The same, in which instances end that nobody uses.
    pub(super) fn idling(self) -> Self {
        Self {
            idles: true,
            ..self
        }
    }

    /// The same, in which of each type one instance may run. In some a replica has one start in progress.
    pub(super) fn capped(self, seed: u64) -> Self {
        Self {
            is_capped: true,
            limits: Limits {
                max_starting: (seed % 4 == 1).then_some(1),
                ..self.limits
            },
            ..self
        }
    }

    /// Whether starts may wait for a place.
    pub(super) fn queues(&self) -> bool {
        self.is_capped || self.limits.max_starting.is_some()
    }

    /// Draws a name that is stuck, or a quota.
    fn draw_limits(&mut self, dice: &mut Dice) {
        let mut names: Vec<_> = self
            .pairs
            .iter()
            .map(|pair| key_of(pair).job_name())
            .collect();
        names.dedup();
        if names.len() > 1 && dice.chance(250) {
            let at = dice.roll(self.pairs.len());
            self.stuck = Some(Stuck::draw(&names[at.min(names.len() - 1)], dice));
        } else if dice.chance(350) {
            // What is charged too much is given back with the next deletion, so there is always room in the
            // end; but not beside a name whose calls are made again and again.
            self.quota = Some(names.len() + dice.roll(2));
        }
    }
}

impl Profile {
    /// The ConfigMap with the templates of a schedule.
    pub(super) fn templates(&self) -> Value {
        let mut data = json!({});
        for (app_type, _) in &self.pairs {
            let policy = if app_type == "loop" {
                "OnFailure"
            } else {
                "Never"
            };
            data[format!("{app_type}.yaml")] = json!(format!(
                "spec:\n  restartPolicy: {policy}\n  containers:\n  - name: app\n    image: app:1\n"
            ));
        }
        let brief = |setting: &str| format!("brief.{PREFIX}{setting}");
        let mut annotations = json!({brief("max-lifetime"): "20s", brief("restart-delay"): "2s"});
        if self.defect == Defect::HasShortDelays {
            annotations[format!("hello.{PREFIX}restart-delay")] = json!("1s");
        }
        if let Some(app_type) = &self.settles {
            let min_ready = format!("{}s", MIN_READY.as_secs());
            annotations[format!("{app_type}.{PREFIX}min-ready")] = json!(min_ready);
        }
        if let Some(app_type) = &self.retries {
            annotations[format!("{app_type}.{PREFIX}backoff-limit")] = json!(RETRIES.to_string());
        }
        if self.is_capped {
            annotations[format!("{PREFIX}max-instances")] = json!(CAP.to_string());
        }
        if self.idles {
            let timeout = format!("{}s", IDLE_TIMEOUT.as_secs());
            annotations[format!("{PREFIX}idle-timeout")] = json!(timeout);
        }
        json!({
            "metadata": {
                "name": "templates",
                "labels": {format!("{PREFIX}template"): "true"},
                "annotations": annotations,
            },
            "data": data,
        })
    }
}
