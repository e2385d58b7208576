//! What a path and a method ask for: verb, resource, namespace and name. Pure; whether the caller may,
//! and what comes of it, is decided in `api`.

use super::Request;
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::cluster::status::{self, Refusal};

/// The operation that a path and a method request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) resource: Resource,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) subresource: String,
    pub(super) verb: &'static str,
}

impl Target {
    /// The resource, as rules name that of logs.
    pub(super) fn plural(&self) -> &'static str {
        match self.subresource.as_str() {
            "log" => "pods/log",
            _ => self.resource.plural(),
        }
    }
}

pub(super) fn find_target(request: &Request) -> Result<Target, Refusal> {
    let parts: Vec<&str> = request.path.split('/').skip(1).collect();
    let (group, rest) = match parts.as_slice() {
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, "v1", rest @ ..] if !group.is_empty() => (*group, rest),
        _ => return Err(status::no_such_path()),
    };
    let (namespace, rest) = match rest {
        ["namespaces", ns, rest @ ..] if !rest.is_empty() && *rest != ["status"] => (*ns, rest),
        other => ("", other),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, "", ""),
        [plural, name] => (*plural, *name, ""),
        [plural, name, subresource] => (*plural, *name, *subresource),
        _ => return Err(status::no_such_path()),
    };
    let resource = Resource::find(group, plural).ok_or_else(status::no_such_path)?;
    let fits = resource.namespaced() || namespace.is_empty();
    let known = match subresource {
        "" => true,
        "status" => resource.has_status(),
        "log" => resource == Resource::Pods && request.method == "GET",
        "eviction" => resource == Resource::Pods && request.method == "POST",
        _ => false,
    };
    if !fits || !known || (name.is_empty() && rest.len() > 1) {
        return Err(status::no_such_path());
    }
    let in_one_place = !resource.namespaced() || !namespace.is_empty();
    let verb = match (request.method.as_str(), name.is_empty()) {
        ("GET", _) if request.is_set("watch") => "watch",
        ("GET", true) => "list",
        ("GET", false) if in_one_place => "get",
        ("POST", true) if in_one_place => "create",
        ("POST", false) if subresource == "eviction" => "create",
        ("PUT", false) if in_one_place => "update",
        ("PATCH", false) if in_one_place => "patch",
        ("DELETE", false) if in_one_place => "delete",
        _ => return Err(status::method_not_allowed()),
    };
    // As the authorizer of the real one sees it: a list of one name has that name.
    let name = match verb {
        "list" => one_name(request.query("fieldSelector")),
        _ => name,
    };
    Ok(Target {
        resource,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
        verb,
    })
}

/// The name that a field selector requires, or nothing.
fn one_name(field_selector: &str) -> &str {
    let mut requirements = field_selector.split(',');
    let name = requirements.find_map(|one| one.strip_prefix("metadata.name="));
    name.map_or("", |name| name.trim_start_matches('='))
}
