//! Which requests meet which faults: rules set by a test, or drawn from a seed.
//! Pure: the plan only returns the faults of a request; `api` and `http` carry
//! them out.

use serde_json::{Value, json};
use std::time::Duration;

use super::cluster::resource::Resource;
use super::cluster::scatter;
use super::cluster::status::{self, Refusal};

/// A fault of one request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// The response is delayed.
    Delay(Duration),
    /// 429 with `Retry-After`; the request has no effect.
    TooManyRequests {
        /// Seconds in `Retry-After`.
        retry_after_secs: u32,
    },
    /// This status code (5xx); the request has no effect.
    Status(u16),
    /// A response with this status code and this text as its body, as from a proxy; the request has no
    /// effect.
    Raw(u16, &'static str),
    /// 401 for every token.
    Unauthorized,
    /// 403 as from RBAC for every role, as from a server that has just started.
    Forbidden,
    /// 403 of an admission plug-in with this message (a quota: `details.name`).
    Refused(String),
    /// 403 of an admission webhook with this message (no `details`).
    Webhook(String),
    /// 400 of a dry run, since an admission webhook has side effects.
    NoDryRun,
    /// 500 since an admission webhook could not be called, for this reason.
    BrokenWebhook(String),
    /// The connection is closed before the request has any effect.
    Drop,
    /// The request is carried out, but the connection is closed without a response.
    LoseAnswer,
    /// The request is carried out, but its response has another body.
    SpoilAnswer,
    /// A list shows the state of this many writes ago.
    StaleList(u64),
    /// A list contains its first item twice.
    DuplicateItem,
    /// A watch starts this many writes earlier than requested; one that is too old stays so.
    StaleWatch(u64),
    /// A watch is cut after this many bytes, in the middle of a line.
    DropWatchAfter(usize),
    /// A watch stays open and sends nothing, not even bookmarks.
    SilentWatch,
    /// Each line of a watch is sent in two chunks.
    SplitWatch,
    /// The request is carried out, and the response has `null` in its body.
    Null,
    /// The request is carried out, and the response has only half of its body.
    HalfBody,
    /// The response, or the watch, is a list that goes on until the client closes.
    Endless,
    /// A watch from an old version gets HTTP 410 instead of an ERROR event.
    GoneAsStatus,
}

impl Fault {
    /// What admission says to a change of this object.
    pub(crate) fn refusal(&self, resource: Resource, name: &str) -> Option<Refusal> {
        let webhook = "fake.example.com";
        match self {
            Self::Refused(why) => Some(status::refused(resource, name, why)),
            Self::Webhook(why) => Some(status::denied_by_webhook(webhook, why)),
            Self::NoDryRun => {
                let why = format!("admission webhook {webhook:?} does not support dry run");
                Some(status::bad_request(why))
            }
            Self::BrokenWebhook(why) => Some(status::broken_webhook(webhook, why)),
            _ => None,
        }
    }

    /// Spoils the body of a response, if it does.
    pub(crate) fn spoil(&self, body: &mut Value) {
        match self {
            Self::SpoilAnswer => *body = json!({}),
            Self::Null => *body = Value::Null,
            Self::HalfBody => {
                let mut text = body.to_string();
                text.truncate(text.floor_char_boundary(text.len() / 2));
                // A text is sent as it is.
                *body = json!(text);
            }
            _ => {}
        }
    }
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
    /// For requests of this verb (as RBAC names it: get, list, watch, create, …; `dry-run` for dry runs)
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

    /// Only for the next `times` of them.
    pub(crate) fn times(mut self, times: u32) -> Self {
        self.times_left = Some(times);
        self
    }

    /// Only until this time of the cluster's clock.
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

/// The plan of all faults.
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
    /// Adds a rule.
    pub(crate) fn add(&mut self, rule: FaultRule) {
        self.rules.push(rule);
    }

    /// Ends all faults.
    pub(crate) fn clear(&mut self) {
        self.rules.clear();
        self.seeded = None;
    }

    /// Lets `per_thousand` of a thousand requests meet a fault that fits their verb.
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
    fn a_rule_applies_to_its_verb_and_resource_only_and_a_limited_number_of_times() {
        let mut plan = FaultPlan::default();
        plan.add(FaultRule::new("create", "jobs", Fault::LoseAnswer).times(2));
        assert!(plan.meet("create", "pods", 0).is_empty());
        assert!(plan.meet("get", "jobs", 0).is_empty());
        assert_eq!(plan.meet("create", "jobs", 0), [Fault::LoseAnswer]);
        assert_eq!(plan.meet("create", "jobs", 0), [Fault::LoseAnswer]);
        assert!(plan.meet("create", "jobs", 0).is_empty());
    }

    #[test]
    fn a_rule_with_a_time_limit_ends() {
        let mut plan = FaultPlan::default();
        plan.add(FaultRule::new("*", "*", Fault::Forbidden).until_ms(10));
        assert_eq!(plan.meet("list", "pods", 9), [Fault::Forbidden]);
        assert!(plan.meet("list", "pods", 10).is_empty());
    }

    #[test]
    fn a_seed_gives_the_same_faults_again() {
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
