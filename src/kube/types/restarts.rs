//! Whether the kubelet runs a container again after its end: by the container's own rules and policy
//! (Kubernetes, "Individual container restart policy and rules"), else by the policy of its pod.
//!
//! It is decided while a pod is decoded, since the rules take more memory than the result. What follows
//! from it for a pod is not known here.

use super::RestartPolicy;
use super::bounded::{self, ContainerName, Name};
use serde::Deserialize;

/// How many rules of a container are read, and how many exit codes of a rule: Kubernetes' own bounds.
const RULES_MAX: usize = 20;
const CODES_MAX: usize = 255;

/// A container of a pod's spec, reduced to when it is restarted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerSpecWire {
    pub(super) name: Option<ContainerName>,
    restart_policy: Option<RestartPolicy>,
    #[serde(default, deserialize_with = "bounded::first::<_, RULES_MAX, _>")]
    restart_policy_rules: Vec<RuleWire>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleWire {
    action: Option<Name>,
    exit_codes: Option<ExitCodesWire>,
}

#[derive(Deserialize)]
struct ExitCodesWire {
    operator: Option<Name>,
    #[serde(default, deserialize_with = "bounded::first::<_, CODES_MAX, _>")]
    values: Vec<i32>,
}

impl ContainerSpecWire {
    /// Whether it is restarted after every end; an init container with that is a sidecar.
    pub(super) fn is_always_restarted(&self) -> bool {
        self.restart_policy == Some(RestartPolicy::Always)
    }

    /// Whether it is restarted after it has ended with this exit code. The first rule that matches counts.
    pub(super) fn is_restarted(&self, exit_code: i32, of_pod: RestartPolicy) -> bool {
        let mut rules = self.restart_policy_rules.iter();
        match rules.find(|rule| rule.matches(exit_code)) {
            Some(rule) => rule.restarts(),
            None => self.restart_policy.unwrap_or(of_pod).restarts(exit_code),
        }
    }
}

impl RuleWire {
    fn matches(&self, exit_code: i32) -> bool {
        self.exit_codes.as_ref().is_some_and(|codes| {
            let has = codes.values.contains(&exit_code);
            match codes.operator.as_ref().map(|operator| &*operator.0) {
                Some("In") => has,
                Some("NotIn") => !has,
                _ => false,
            }
        })
    }

    fn restarts(&self) -> bool {
        let action = self.action.as_ref().map(|action| &*action.0);
        matches!(action, Some("Restart" | "RestartAllContainers"))
    }
}

impl RestartPolicy {
    /// Whether it restarts a container that has ended with this exit code.
    pub(super) fn restarts(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}
