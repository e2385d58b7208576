//! Authentication and authorization: bearer tokens that rotate, and RBAC rules read from Role
//! manifests. So a test fails if our own Role lacks a verb.
//!
//! Tokens of other users exist only for TokenReviews.
//!
//! Not modelled: groups, `nonResourceURLs`, aggregated roles, bindings. A role given here is bound
//! to the service account of the fake's token.

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::cluster::resource::Resource;
use super::cluster::status::{self, Refusal};

/// The attributes of a request, for RBAC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a> {
    /// get, list, watch, create, update, patch, delete.
    pub(crate) verb: &'a str,
    /// The resource.
    pub(crate) resource: Resource,
    /// `status` or nothing.
    pub(crate) subresource: &'a str,
    /// `""` for all namespaces, or for cluster-scoped resources.
    pub(crate) namespace: &'a str,
    /// `""` for collections.
    pub(crate) name: &'a str,
}

#[derive(Clone, Debug)]
struct Rule {
    /// None: everywhere (a ClusterRole).
    namespace: Option<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
    names: Vec<String>,
}

/// Tokens and rules.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    required: bool,
    admin_token: String,
    service_token: String,
    service_user: String,
    rules: Option<Vec<Rule>>,
    rotations: u32,
    /// Whether the service account is bound to system:auth-delegator.
    may_review: bool,
    others: Vec<Other>,
}

/// A token that only TokenReviews accept.
#[derive(Clone, Debug)]
struct Other {
    token: String,
    user: String,
    audience: String,
}

/// The caller of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// May do everything.
    Admin,
    /// Has the permissions of the roles (all, if there are no roles).
    Service,
}

impl Access {
    /// No authentication; every caller may do everything.
    pub(crate) fn open() -> Self {
        Self {
            required: false,
            admin_token: "fake-admin-token".to_owned(),
            service_token: "fake-service-token-0".to_owned(),
            service_user: "system:serviceaccount:default:config-controller".to_owned(),
            rules: None,
            rotations: 0,
            may_review: false,
            others: Vec::new(),
        }
    }

    /// From now on a token is needed.
    pub(crate) fn require_token(&mut self) {
        self.required = true;
    }

    /// The service account's user name, as error messages show it.
    pub(crate) fn set_service_user(&mut self, user: &str) {
        self.service_user = user.to_owned();
    }

    /// The token that may do everything.
    pub(crate) fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// The token of the service account.
    pub(crate) fn service_token(&self) -> &str {
        &self.service_token
    }

    /// Makes the service account's token invalid and returns its new one.
    pub(crate) fn rotate(&mut self) -> String {
        self.rotations += 1;
        self.service_token = format!("fake-service-token-{}", self.rotations);
        self.service_token.clone()
    }

    /// Gives the service account the rules of the Roles and ClusterRoles in a
    /// YAML text; other documents in it are ignored. A Role without a
    /// namespace of its own is for `namespace`.
    pub(crate) fn add_roles(&mut self, namespace: &str, yaml: &str) -> Result<(), String> {
        self.required = true;
        let mut found = false;
        for document in serde_yaml::Deserializer::from_str(yaml) {
            let document = Value::deserialize(document).map_err(|error| error.to_string())?;
            let scope = match document["kind"].as_str() {
                Some("Role") => {
                    let own = document["metadata"]["namespace"].as_str();
                    Some(own.unwrap_or(namespace).to_owned())
                }
                Some("ClusterRole") => None,
                _ => continue,
            };
            found = true;
            let rules = self.rules.get_or_insert_default();
            for rule in document["rules"].as_array().into_iter().flatten() {
                rules.push(Rule {
                    namespace: scope.clone(),
                    groups: strings(&rule["apiGroups"]),
                    resources: strings(&rule["resources"]),
                    verbs: strings(&rule["verbs"]),
                    names: strings(&rule["resourceNames"]),
                });
            }
        }
        if found {
            Ok(())
        } else {
            Err("the text has neither a Role nor a ClusterRole".to_owned())
        }
    }

    /// Revokes all rules of the service account.
    pub(crate) fn clear_roles(&mut self) {
        self.rules = Some(Vec::new());
    }

    /// The caller, by the `Authorization` header or a client certificate.
    pub(crate) fn authenticate(
        &self,
        authorization: Option<&str>,
        has_certificate: bool,
    ) -> Result<Caller, Refusal> {
        let token = authorization.and_then(|header| header.strip_prefix("Bearer "));
        match token.map(str::trim) {
            Some(token) if token == self.admin_token => Ok(Caller::Admin),
            Some(token) if token == self.service_token => Ok(Caller::Service),
            Some(_) => Err(status::unauthorized()),
            None if has_certificate || !self.required => Ok(Caller::Admin),
            None => Err(status::unauthorized()),
        }
    }

    /// Binds the service account to system:auth-delegator, or no longer.
    pub(crate) fn set_may_review(&mut self, may: bool) {
        self.may_review = may;
    }

    /// Adds a token of this user for this audience.
    pub(crate) fn add_token(&mut self, token: &str, user: &str, audience: &str) {
        self.others.push(Other {
            token: token.to_owned(),
            user: user.to_owned(),
            audience: audience.to_owned(),
        });
    }

    /// Makes all tokens of this user invalid.
    pub(crate) fn remove_tokens(&mut self, user: &str) {
        self.others.retain(|other| other.user != user);
    }

    /// Whether the caller may create a TokenReview; 403 as of 1.36 if not.
    pub(crate) fn authorize_review(&self, caller: Caller) -> Result<(), Refusal> {
        if caller == Caller::Admin || self.rules.is_none() || self.may_review {
            Ok(())
        } else {
            Err(status::forbidden_review(&self.service_user))
        }
    }

    /// The status of a TokenReview with this spec, as of 1.36.
    pub(crate) fn review(&self, spec: &Value) -> Value {
        let token = spec["token"].as_str().unwrap_or("");
        let Some(other) = self.others.iter().find(|other| other.token == token) else {
            return json!({"user": {}, "error": "invalid bearer token"});
        };
        let mut wanted = spec["audiences"].as_array().into_iter().flatten();
        if wanted.any(|audience| *audience == other.audience.as_str()) {
            json!({
                "authenticated": true,
                "user": {"username": other.user, "groups": ["system:authenticated"]},
                "audiences": [other.audience],
            })
        } else {
            let error = format!(
                "[invalid bearer token, token audiences [{:?}] is invalid for the target audiences {}]",
                other.audience, spec["audiences"]
            );
            json!({"user": {}, "error": error})
        }
    }

    /// The status of a SelfSubjectAccessReview with this spec, as of 1.36.
    pub(crate) fn review_access(&self, caller: Caller, spec: &Value) -> Value {
        let asked = &spec["resourceAttributes"];
        let text = |name: &str| asked[name].as_str().unwrap_or("");
        let allowed = match Resource::find(text("group"), text("resource")) {
            Some(resource) => {
                let attributes = Attributes {
                    verb: text("verb"),
                    resource,
                    subresource: text("subresource"),
                    namespace: text("namespace"),
                    name: text("name"),
                };
                self.authorize(caller, attributes).is_ok()
            }
            None if text("resource") == "tokenreviews" => self.authorize_review(caller).is_ok(),
            None => caller == Caller::Admin,
        };
        json!({"allowed": allowed})
    }

    /// Whether the caller may do that; otherwise a 403 with the real API server's message.
    pub(crate) fn authorize(
        &self,
        caller: Caller,
        attributes: Attributes<'_>,
    ) -> Result<(), Refusal> {
        let allowed = match (&self.rules, caller) {
            (_, Caller::Admin) | (None, Caller::Service) => true,
            (Some(rules), Caller::Service) => rules.iter().any(|rule| rule.allows(attributes)),
        };
        if allowed {
            Ok(())
        } else {
            Err(self.refuse(attributes))
        }
    }

    /// The 403 of a missing permission.
    pub(crate) fn refuse(&self, attributes: Attributes<'_>) -> Refusal {
        status::forbidden(
            &self.service_user,
            attributes.verb,
            attributes.resource,
            attributes.subresource,
            attributes.namespace,
            attributes.name,
        )
    }
}

impl Rule {
    fn allows(&self, attributes: Attributes<'_>) -> bool {
        let full = if attributes.subresource.is_empty() {
            attributes.resource.plural().to_owned()
        } else {
            format!(
                "{}/{}",
                attributes.resource.plural(),
                attributes.subresource
            )
        };
        let has = |list: &[String], text: &str| list.iter().any(|l| l == "*" || l == text);
        self.namespace
            .as_deref()
            .is_none_or(|ns| ns == attributes.namespace)
            && has(&self.groups, attributes.resource.group())
            && has(&self.resources, &full)
            && has(&self.verbs, attributes.verb)
            && (self.names.is_empty() || self.names.iter().any(|name| name == attributes.name))
    }
}

fn strings(list: &Value) -> Vec<String> {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = "\
apiVersion: v1
kind: ServiceAccount
metadata: {name: x}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: x}
rules:
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list]
- apiGroups: [\"\"]
  resources: [configmaps]
  resourceNames: [only]
  verbs: [get]
";

    #[track_caller]
    fn check(verb: &str, resource: Resource, namespace: &str, name: &str, allowed: bool) {
        let mut access = Access::open();
        access.add_roles("ns", ROLE).expect("the text has a Role");
        let attributes = Attributes {
            verb,
            resource,
            subresource: "",
            namespace,
            name,
        };
        assert_eq!(
            access.authorize(Caller::Service, attributes).is_ok(),
            allowed
        );
    }

    #[test]
    fn rules_are_kept_to() {
        check("get", Resource::Jobs, "ns", "a", true);
        check("list", Resource::Jobs, "ns", "", true);
        check("watch", Resource::Jobs, "ns", "", false);
        check("list", Resource::Jobs, "other", "", false);
        check("list", Resource::Pods, "ns", "", false);
        check("get", Resource::ConfigMaps, "ns", "only", true);
        check("get", Resource::ConfigMaps, "ns", "another", false);
    }

    #[test]
    fn a_rotated_token_is_worth_nothing() {
        let mut access = Access::open();
        access.require_token();
        let header = format!("Bearer {}", access.service_token());
        assert_eq!(
            access.authenticate(Some(&header), false),
            Ok(Caller::Service)
        );
        access.rotate();
        assert_eq!(
            access
                .authenticate(Some(&header), false)
                .map_err(|r| r.code),
            Err(401)
        );
        assert_eq!(
            access.authenticate(None, false).map_err(|r| r.code),
            Err(401)
        );
    }
}
