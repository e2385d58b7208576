//! The permissions that the service uses, and whether it has them.

use super::report::{CheckResult, Report};
use crate::kube::error::Verb;
use crate::kube::request::LOGS as LOGS_RESOURCE;
use crate::kube::{self, Client};

/// The effect of a missing permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// The service cannot work; holds the fix.
    Broken(&'static str),
    /// The service works with a limitation; holds which.
    Less(&'static str),
    /// It is an option; holds what is off.
    Off(&'static str),
}

const BROKEN: Without = Without::Broken("grant it to the service account");
const POLLED: Without = Without::Less("changes are detected by a list every POLL");
const UNCHECKED: Without = Without::Less(
    "an API server whose own cache is wrong is noticed late; only lists are compared",
);
const SILENT: Without =
    Without::Less("messages say less about why a pod is rejected, not mounted or not ready");
const NEVER_IDLE: Without =
    Without::Less("instances that nobody uses are not stopped (idle-timeout)");

/// A permission that the service uses: verb, API group, resource, and the effect if it is missing.
pub type Right = (Verb, &'static str, &'static str, Without);

/// The permissions that the service uses in the namespace of the instances; our Role grants exactly these and
/// [`OWN_RIGHTS`].
pub const RIGHTS: &[Right] = &[
    (Verb::Create, "batch", "jobs", BROKEN),
    (Verb::Delete, "batch", "jobs", BROKEN),
    (Verb::Get, "batch", "jobs", UNCHECKED),
    (Verb::List, "batch", "jobs", BROKEN),
    (
        Verb::Patch,
        "batch",
        "jobs",
        Without::Off("only types with a cap need it"),
    ),
    (Verb::Watch, "batch", "jobs", POLLED),
    (Verb::Get, "", "configmaps", UNCHECKED),
    (Verb::List, "", "configmaps", BROKEN),
    (Verb::Watch, "", "configmaps", POLLED),
    (
        Verb::Delete,
        "",
        "pods",
        Without::Less("a pod on a dead node keeps its instance name occupied"),
    ),
    (Verb::Get, "", "pods", UNCHECKED),
    (Verb::List, "", "pods", BROKEN),
    (Verb::Patch, "", "pods", BROKEN),
    (Verb::Watch, "", "pods", POLLED),
    (Verb::List, "", "events", SILENT),
    (Verb::Watch, "", "events", SILENT),
];

/// Those that it uses in the namespace of its own pod, which may be another.
pub const OWN_RIGHTS: &[Right] = &[
    (Verb::Create, "coordination.k8s.io", "leases", NEVER_IDLE),
    (Verb::List, "coordination.k8s.io", "leases", NEVER_IDLE),
    (Verb::Patch, "coordination.k8s.io", "leases", NEVER_IDLE),
    (Verb::Watch, "coordination.k8s.io", "leases", NEVER_IDLE),
];

/// Also used with `AUTH=kubernetes`. A Role cannot grant it: the resource has no namespace.
pub(super) const REVIEWS: Right = (
    Verb::Create,
    "authentication.k8s.io",
    "tokenreviews",
    Without::Broken("apply manifests/auth-delegator"),
);

/// Off by default: logs hold secrets.
pub(super) const LOGS: Right = (
    Verb::Get,
    "",
    LOGS_RESOURCE,
    Without::Off("GET …/logs is 501; manifests/read-logs (chart: readLogs) grants it"),
);

/// Whether a missing permission lets no type with a cap start.
pub(super) fn is_for_caps((verb, _, resource, _): Right) -> bool {
    (verb, resource) == (Verb::Patch, "jobs")
}

/// Adds a row about this permission, and returns whether it is there.
///
/// # Errors
/// If the API server does not say; then it says nothing of others either.
pub(super) fn check(
    client: &Client,
    (verb, group, resource, without): Right,
    in_namespace: bool,
    report: &mut Report,
) -> Result<bool, kube::Error> {
    let may = client.may(verb, group, resource, in_namespace)?;
    let (result, text) = match (may, without) {
        (true, _) => (CheckResult::Good, String::new()),
        (false, Without::Broken(remedy)) => (CheckResult::Bad, format!("missing: {remedy}")),
        (false, Without::Off(what)) => (CheckResult::Good, format!("not granted: {what}")),
        (false, Without::Less(how)) => (CheckResult::Worse, format!("missing: {how}")),
    };
    let of = if group.is_empty() { "" } else { "." };
    let verb = verb.as_str();
    report.add(result, format!("{verb} {resource}{of}{group}"), text);
    Ok(may)
}
