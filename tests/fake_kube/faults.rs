//! What goes wrong, and when: a plan by hand, or one drawn from a seed. Pure:
//! the plan only says which faults a request meets; `api` and `http` carry
//! them out.

use std::time::Duration;

use super::cluster::scatter;

/// One thing that goes wrong with one request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// The response comes later.
    Delay(Duration),
    /// 429 with `Retry-After`; nothing was done.
    TooManyRequests {
        /// Seconds in `Retry-After`.
        retry_after_secs: u32,
    },
    /// This status code (5xx); nothing was done.
    Status(u16),
    /// 401, whatever the token.
    Unauthorized,
    /// 403 as from RBAC, whatever the role: as a server that has just started.
    Forbidden,
    /// 403 of an admission plug-in with this sentence (a quota: `details.name`).
    Refused(String),
    /// 403 of an admission webhook with this sentence (no `details`).
    Webhook(String),
    /// The connection is closed before anything was done.
    Drop,
    /// It is done, but the connection is closed instead of a response.
    LoseAnswer,
    /// A list shows the state of so many writes ago.
    StaleList(u64),
    /// A list has its first item twice.
    DuplicateItem,
    /// A watch starts so many writes earlier than it was asked to; one that is too old stays so.
    StaleWatch(u64),
    /// A watch is cut after so many bytes, in the middle of a line.
    DropWatchAfter(usize),
    /// A watch stays open and says nothing, not even bookmarks.
    SilentWatch,
    /// Each line of a watch comes in two chunks.
    SplitWatch,
    /// A watch from an old version gets HTTP 410 instead of an ERROR event.
    GoneAsStatus,
}

/// A fault, and which requests meet it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FaultRule {
    verb: String,
    resource: String,
    fault: Fault,
    times_left: Option<u32>,
    until_ms: Option<i64>,
}

impl FaultRule {
    /// For requests of this verb (as RBAC names it: get, list, watch, create, …)
    /// and this resource (plural); `*` is any. Until the rules are cleared.
    pub(crate) fn new(verb: &str, resource: &str, fault: Fault) -> Self {
        Self {
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            fault,
            times_left: None,
            until_ms: None,
        }
    }

    /// Only for the next so many of them.
    pub(crate) fn times(mut self, times: u32) -> Self {
        self.times_left = Some(times);
        self
    }

    /// Only until the cluster's clock says this.
    pub(crate) fn until_ms(mut self, ms: i64) -> Self {
        self.until_ms = Some(ms);
        self
    }

    fn applies(&self, verb: &str, resource: &str, now_ms: i64) -> bool {
        (self.verb == "*" || self.verb == verb)
            && (self.resource == "*" || self.resource == resource)
            && self.times_left != Some(0)
            && self.until_ms.is_none_or(|until| now_ms < until)
    }
}

/// All that goes wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultPlan {
    rules: Vec<FaultRule>,
    seeded: Option<Seeded>,
}

#[derive(Clone, Debug)]
struct Seeded {
    seed: u64,
    drawn: u64,
    per_thousand: u64,
}

impl FaultPlan {
    /// Nothing but what the rules say.
    pub(crate) fn add(&mut self, rule: FaultRule) {
        self.rules.push(rule);
    }

    /// From now on nothing goes wrong.
    pub(crate) fn clear(&mut self) {
        self.rules.clear();
        self.seeded = None;
    }

    /// Lets so many of a thousand requests meet a fault that fits their verb.
    /// The same seed and the same order of requests meet the same faults.
    pub(crate) fn seed(&mut self, seed: u64, per_thousand: u64) {
        self.seeded = Some(Seeded {
            seed,
            drawn: 0,
            per_thousand,
        });
    }

    /// The faults that this request meets; rules for a number of times are used up.
    pub(crate) fn meet(&mut self, verb: &str, resource: &str, now_ms: i64) -> Vec<Fault> {
        let mut met = Vec::new();
        for rule in &mut self.rules {
            if rule.applies(verb, resource, now_ms) {
                met.push(rule.fault.clone());
                rule.times_left = rule.times_left.map(|times| times - 1);
            }
        }
        self.rules.retain(|rule| rule.times_left != Some(0));
        met.extend(self.seeded.as_mut().and_then(|seeded| seeded.draw(verb)));
        met
    }
}

impl Seeded {
    fn next(&mut self) -> u64 {
        self.drawn += 1;
        scatter(self.seed ^ scatter(self.drawn))
    }

    fn draw(&mut self, verb: &str) -> Option<Fault> {
        let (hit, which, amount) = (self.next(), self.next(), self.next());
        if hit % 1000 >= self.per_thousand {
            return None;
        }
        let few = amount % 8;
        let bytes = usize::try_from(amount % 3000).expect("below 3000 fits");
        let delay = Fault::Delay(Duration::from_millis(amount % 50));
        Some(match (verb, which % 6) {
            (_, 0) => Fault::TooManyRequests {
                retry_after_secs: 0,
            },
            (_, 1) => Fault::Status(500 + u16::try_from(few % 5).expect("below 5 fits")),
            (_, 2) => Fault::Drop,
            ("watch", 3) => Fault::StaleWatch(few),
            ("watch", 4) => Fault::SplitWatch,
            ("watch", _) => Fault::DropWatchAfter(bytes),
            ("list", 3) => Fault::StaleList(few),
            ("list", 4) => Fault::DuplicateItem,
            (_, 5) => delay,
            _ => Fault::LoseAnswer,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_meets_only_its_verb_and_resource_and_only_so_often() {
        let mut plan = FaultPlan::default();
        plan.add(FaultRule::new("create", "jobs", Fault::LoseAnswer).times(2));
        assert!(plan.meet("create", "pods", 0).is_empty());
        assert!(plan.meet("get", "jobs", 0).is_empty());
        assert_eq!(plan.meet("create", "jobs", 0), [Fault::LoseAnswer]);
        assert_eq!(plan.meet("create", "jobs", 0), [Fault::LoseAnswer]);
        assert!(plan.meet("create", "jobs", 0).is_empty());
    }

    #[test]
    fn a_rule_with_an_end_ends() {
        let mut plan = FaultPlan::default();
        plan.add(FaultRule::new("*", "*", Fault::Forbidden).until_ms(10));
        assert_eq!(plan.meet("list", "pods", 9), [Fault::Forbidden]);
        assert!(plan.meet("list", "pods", 10).is_empty());
    }

    #[test]
    fn a_seed_repeats_itself() {
        let draw = |seed| {
            let mut plan = FaultPlan::default();
            plan.seed(seed, 300);
            (0..200)
                .map(|_| plan.meet("list", "pods", 0))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!(draw(7).iter().any(|met| !met.is_empty()));
    }
}
