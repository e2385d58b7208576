//! The table of resources that the fake knows.

/// A kind of object, by its place in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Resource {
    /// `v1` configmaps.
    ConfigMaps,
    /// `v1` pods.
    Pods,
    /// `v1` events.
    Events,
    /// `v1` namespaces.
    Namespaces,
    /// `batch/v1` jobs.
    Jobs,
    /// `coordination.k8s.io/v1` leases.
    Leases,
}

impl Resource {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::ConfigMaps,
        Self::Pods,
        Self::Events,
        Self::Namespaces,
        Self::Jobs,
        Self::Leases,
    ];

    /// The resource of that group and plural name.
    pub(crate) fn find(group: &str, plural: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|r| r.group() == group && r.plural() == plural)
    }

    /// `""` for the core group.
    pub(crate) fn group(self) -> &'static str {
        match self {
            Self::Jobs => "batch",
            Self::Leases => "coordination.k8s.io",
            _ => "",
        }
    }

    /// The value of `apiVersion`.
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Self::Jobs => "batch/v1",
            Self::Leases => "coordination.k8s.io/v1",
            _ => "v1",
        }
    }

    /// The name in paths and RBAC rules.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::ConfigMaps => "configmaps",
            Self::Pods => "pods",
            Self::Events => "events",
            Self::Namespaces => "namespaces",
            Self::Jobs => "jobs",
            Self::Leases => "leases",
        }
    }

    /// The value of `kind`.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::ConfigMaps => "ConfigMap",
            Self::Pods => "Pod",
            Self::Events => "Event",
            Self::Namespaces => "Namespace",
            Self::Jobs => "Job",
            Self::Leases => "Lease",
        }
    }

    /// The name in messages: `pods`, `jobs.batch`.
    pub(crate) fn qualified(self) -> String {
        join(self.plural(), self.group())
    }

    /// The name in validation messages: `Pod`, `Job.batch`.
    pub(crate) fn kind_qualified(self) -> String {
        join(self.kind(), self.group())
    }

    /// Whether its objects live in namespaces.
    pub(crate) fn namespaced(self) -> bool {
        self != Self::Namespaces
    }

    /// Whether it has the subresource `status`.
    pub(crate) fn has_status(self) -> bool {
        matches!(self, Self::Pods | Self::Jobs | Self::Namespaces)
    }

    /// Whether an update needs the version of the object, and a PUT creates one that does not exist.
    pub(crate) fn is_put_strictly(self) -> bool {
        self == Self::Leases
    }
}

fn join(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}
