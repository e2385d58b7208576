//! Writing: create, update, patch and delete, with the API server's checks,
//! preconditions and finalizers.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::patch::Patch;
use super::resource::Resource;
use super::status::{self, Cause, Refusal};
use super::{
    Cluster, Key, add_finalizer, defaults, drop_finalizer, drop_nulls, has_finalizer, is_deleting,
    may_be_removed, meta, validate,
};
use crate::fake_kube::clock::timestamp;

/// Default grace period of pods, in seconds.
const GRACE_DEFAULT_SECS: i64 = 30;

const OTHER_NAMESPACE: &str =
    "the namespace of the provided object does not match the namespace sent on the request";

/// The body of a DELETE.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DeleteOptions {
    /// `gracePeriodSeconds`.
    pub(crate) grace_secs: Option<i64>,
    /// `propagationPolicy`.
    pub(crate) propagation: Option<String>,
    /// `preconditions.uid`.
    pub(crate) uid: Option<String>,
    /// `preconditions.resourceVersion`.
    pub(crate) version: Option<String>,
    /// `dryRun: ["All"]`.
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// Reads and checks the body.
    pub(crate) fn parse(body: &Value) -> Result<Self, Refusal> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let propagation = text(&body["propagationPolicy"]);
        if let Some(policy) = propagation.as_deref()
            && !matches!(policy, "Foreground" | "Background" | "Orphan")
        {
            let known = ["Foreground", "Background", "Orphan", "nil"];
            let cause = Cause::unsupported("propagationPolicy", policy, &known);
            return Err(status::invalid_options("DeleteOptions", &cause));
        }
        let dry_run = match body["dryRun"].as_array().map(Vec::as_slice) {
            None | Some([]) => false,
            Some([only]) if only == "All" => true,
            Some(_) => {
                let given = body["dryRun"].to_string();
                let cause = Cause::unsupported("dryRun", &given, &["All"]);
                return Err(status::invalid_options("DeleteOptions", &cause));
            }
        };
        Ok(Self {
            grace_secs: body["gracePeriodSeconds"].as_i64(),
            propagation,
            uid: text(&body["preconditions"]["uid"]),
            version: text(&body["preconditions"]["resourceVersion"]),
            dry_run,
        })
    }
}

/// Which part of an object an update writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but the status.
    Main,
    /// The status only.
    Status,
}

/// The most that etcd takes for one object.
const OBJECT_BYTES_MAX: usize = 1024 * 1024 + 512 * 1024;

/// Refuses what is too large for etcd. It stores an object in another form, about as large.
fn check_size(object: &Value) -> Result<(), Refusal> {
    fn bytes(value: &Value) -> usize {
        match value {
            Value::String(text) => text.len() + 3,
            Value::Array(values) => values.iter().map(bytes).sum(),
            Value::Object(map) => map.iter().map(|(key, it)| key.len() + 3 + bytes(it)).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 2,
        }
    }
    if bytes(object) > OBJECT_BYTES_MAX {
        return Err(status::unclassified("etcdserver: request is too large"));
    }
    Ok(())
}

impl Cluster {
    /// Creates an object and returns it as it is stored.
    pub(crate) fn create(
        &mut self,
        resource: Resource,
        namespace: &str,
        mut object: Value,
        dry_run: bool,
    ) -> Result<Arc<Value>, Refusal> {
        check_identity(resource, namespace, &object)?;
        if !meta(&object, "resourceVersion").is_empty() {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(status::unclassified(message));
        }
        self.generate_name(&mut object);
        let name = meta(&object, "name").to_owned();
        if resource.namespaced() {
            self.check_namespace(resource, namespace, &name)?;
        }
        self.stamp_new(resource, namespace, &mut object);
        defaults::fill(resource, &mut object);
        drop_nulls(&mut object);
        let causes = validate::causes(resource, &object);
        if !causes.is_empty() {
            return Err(status::invalid(resource, &name, &causes));
        }
        let key = (resource, namespace.to_owned(), name.clone());
        if let Some(existing) = self.object(&key) {
            return Err(if is_deleting(existing) {
                status::being_deleted(resource, &name)
            } else {
                status::already_exists(resource, &name)
            });
        }
        if dry_run {
            return Ok(Arc::new(object));
        }
        check_size(&object)?;
        Ok(self.put(key, object))
    }

    fn generate_name(&mut self, object: &mut Value) {
        let prefix = meta(object, "generateName").to_owned();
        if meta(object, "name").is_empty() && !prefix.is_empty() {
            let name = format!("{prefix}{}", self.new_suffix());
            object["metadata"]["name"] = json!(name);
        }
    }

    fn check_namespace(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
    ) -> Result<(), Refusal> {
        let key = (Resource::Namespaces, String::new(), namespace.to_owned());
        match self.object(&key) {
            None => Err(status::not_found(Resource::Namespaces, namespace)),
            Some(ns) if is_deleting(ns) => {
                Err(status::namespace_terminating(resource, name, namespace))
            }
            Some(_) => Ok(()),
        }
    }

    /// Replaces the fields that only the server may set.
    fn stamp_new(&mut self, resource: Resource, namespace: &str, object: &mut Value) {
        let uid = self.new_uid();
        let now = self.now();
        let given = &mut object["metadata"];
        for field in [
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "managedFields",
            "selfLink",
            "generation",
        ] {
            if let Some(map) = given.as_object_mut() {
                map.shift_remove(field);
            }
        }
        if resource.namespaced() {
            given["namespace"] = json!(namespace);
        }
        given["uid"] = json!(uid);
        given["creationTimestamp"] = json!(now);
    }

    /// Replaces an object (PUT), or its status.
    pub(crate) fn update(
        &mut self,
        key: &Key,
        object: Value,
        part: Part,
        dry_run: bool,
    ) -> Result<Arc<Value>, Refusal> {
        let (resource, namespace, name) = key;
        check_identity(*resource, namespace, &object)?;
        let current = self.get(*resource, namespace, name)?;
        if meta(&object, "name") != name {
            return Err(status::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({name})",
                meta(&object, "name")
            )));
        }
        let (uid, stored) = (meta(&object, "uid"), meta(&current, "uid"));
        if !uid.is_empty() && uid != stored {
            return Err(status::other_uid(key, uid, stored));
        }
        self.commit(key, &current, object, part, dry_run)
    }

    /// Applies a JSON merge patch to an object, or to its status.
    pub(crate) fn merge_patch(
        &mut self,
        key: &Key,
        patch: &Value,
        part: Part,
        dry_run: bool,
    ) -> Result<Arc<Value>, Refusal> {
        self.patch(key, Patch::Merge(patch), part, dry_run)
    }

    /// Applies a patch to an object, or to its status.
    pub(crate) fn patch(
        &mut self,
        key: &Key,
        patch: Patch<'_>,
        part: Part,
        dry_run: bool,
    ) -> Result<Arc<Value>, Refusal> {
        let (resource, namespace, name) = key;
        let current = self.get(*resource, namespace, name)?;
        let mut object = Value::clone(&current);
        patch.apply(&mut object)?;
        let given = meta(&object, "name");
        if given != name {
            return Err(status::bad_request(format!(
                "the name of the object ({given}) does not match the name on the URL ({name})"
            )));
        }
        if meta(&object, "namespace") != namespace {
            return Err(status::bad_request(OTHER_NAMESPACE));
        }
        if let Some(fault) = validate::decode_fault(*resource, &object) {
            return Err(status::invalid_patch(&object, &fault));
        }
        let uid = meta(&object, "uid");
        if !uid.is_empty() && uid != meta(&current, "uid") {
            let cause = Cause::invalid("metadata.uid".to_owned(), uid, "field is immutable");
            return Err(status::invalid(*resource, name, &[cause]));
        }
        self.commit(key, &current, object, part, dry_run)
    }

    /// The last part of update and patch: versions, immutable fields, validation, and
    /// the write (none, if nothing changed).
    fn commit(
        &mut self,
        key: &Key,
        current: &Arc<Value>,
        mut object: Value,
        part: Part,
        dry_run: bool,
    ) -> Result<Arc<Value>, Refusal> {
        let (resource, _, name) = key;
        let version = meta(&object, "resourceVersion");
        if version.is_empty() && resource.is_put_strictly() {
            return Err(status::version_required(*resource, name));
        }
        if !version.is_empty() && version != meta(current, "resourceVersion") {
            return Err(status::conflict(*resource, name));
        }
        keep_fixed(*resource, current, &mut object, part);
        drop_nulls(&mut object);
        let mut causes = validate::causes(*resource, &object);
        immutable(*resource, current, &object, &mut causes);
        if !causes.is_empty() {
            return Err(status::invalid(*resource, name, &causes));
        }
        if object == **current {
            return Ok(Arc::clone(current));
        }
        if dry_run {
            return Ok(Arc::new(object));
        }
        if may_be_removed(&object) {
            return Ok(self.remove_as(key, object));
        }
        check_size(&object)?;
        Ok(self.put(key.clone(), object))
    }

    /// Deletes an object, or starts to. Returns the body of the response.
    pub(crate) fn delete(&mut self, key: &Key, options: &DeleteOptions) -> Result<Value, Refusal> {
        let (resource, namespace, name) = key;
        let current = self.get(*resource, namespace, name)?;
        check_preconditions(*resource, name, &current, options)?;
        let mut object = Value::clone(&current);
        set_propagation(*resource, &mut object, options.propagation.as_deref());
        let grace = grace_secs(*resource, &object, options.grace_secs);
        self.mark_deleted(&mut object, grace);
        if *resource == Resource::Namespaces {
            object["status"]["phase"] = json!("Terminating");
        }
        let removed = may_be_removed(&object) && *resource != Resource::Namespaces;
        if options.dry_run {
            return Ok(response(*resource, name, object, removed));
        }
        let stored = if removed {
            self.remove_as(key, object)
        } else if object == *current {
            current
        } else {
            self.put(key.clone(), object)
        };
        Ok(response(*resource, name, Value::clone(&stored), removed))
    }

    /// Sets the deletion timestamp, or brings an existing one forward.
    fn mark_deleted(&self, object: &mut Value, grace: i64) {
        let earlier = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
        if is_deleting(object) && earlier.is_some_and(|e| e <= grace) {
            return;
        }
        let at = self.clock().now_ms() + grace * 1000;
        if !is_deleting(object)
            && let Some(generation) = object["metadata"]["generation"].as_i64()
        {
            object["metadata"]["generation"] = json!(generation + 1);
        }
        object["metadata"]["deletionTimestamp"] = json!(timestamp(at));
        object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    }
}

/// Rejects a body that contradicts the path.
fn check_identity(resource: Resource, namespace: &str, object: &Value) -> Result<(), Refusal> {
    if !object.is_object() {
        return Err(status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind",
            resource.kind()
        )));
    }
    let agrees =
        |field: &str, expected: &str| object[field].as_str().is_none_or(|text| text == expected);
    if !agrees("kind", resource.kind()) || !agrees("apiVersion", resource.api_version()) {
        return Err(status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): apiVersion {} and kind {} were given",
            resource.kind(),
            object["apiVersion"],
            object["kind"]
        )));
    }
    if let Some(fault) = validate::decode_fault(resource, object) {
        return Err(status::bad_request(fault));
    }
    let given = meta(object, "namespace");
    if resource.namespaced() && !given.is_empty() && given != namespace {
        return Err(status::bad_request(OTHER_NAMESPACE));
    }
    if meta(object, "name").is_empty() && meta(object, "generateName").is_empty() {
        let why = "name or generateName is required";
        return Err(status::invalid(
            resource,
            "",
            &[Cause::required("metadata.name", why)],
        ));
    }
    Ok(())
}

/// Restores the fields that an update silently ignores.
fn keep_fixed(resource: Resource, current: &Value, object: &mut Value, part: Part) {
    match part {
        Part::Status => {
            let status = object["status"].clone();
            *object = current.clone();
            object["status"] = status;
        }
        Part::Main if resource.has_status() => object["status"] = current["status"].clone(),
        Part::Main => {}
    }
    object["kind"] = current["kind"].clone();
    object["apiVersion"] = current["apiVersion"].clone();
    let spec_changed = object["spec"] != current["spec"];
    let fixed = &current["metadata"];
    let Some(given) = object["metadata"].as_object_mut() else {
        return;
    };
    for field in [
        "uid",
        "creationTimestamp",
        "resourceVersion",
        "namespace",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        match &fixed[field] {
            Value::Null => given.shift_remove(field),
            value => given.insert(field.to_owned(), value.clone()),
        };
    }
    for field in ["labels", "annotations", "finalizers"] {
        let empty = given.get(field).is_some_and(|value| {
            value.is_null()
                || value.as_object().is_some_and(Map::is_empty)
                || value.as_array().is_some_and(Vec::is_empty)
        });
        if empty {
            given.shift_remove(field);
        }
    }
    if spec_changed && let Some(generation) = fixed["generation"].as_i64() {
        given.insert("generation".to_owned(), json!(generation + 1));
    }
}

/// An object that is being deleted gets no more finalizers.
fn check_finalizers(current: &Value, object: &Value, causes: &mut Vec<Cause>) {
    let all = object["metadata"]["finalizers"].as_array();
    let names = all.into_iter().flatten().filter_map(Value::as_str);
    let new = names.filter(|name| !has_finalizer(current, name));
    let new: Vec<String> = new.map(|name| format!("{name:?}")).collect();
    if is_deleting(current) && !new.is_empty() {
        let message = format!(
            "Forbidden: no new finalizers can be added if the object is being deleted, found new \
             finalizers []string{{{}}}",
            new.join(", ")
        );
        causes.push(Cause {
            reason: "FieldValueForbidden",
            message,
            field: "metadata.finalizers".to_owned(),
        });
    }
}

fn immutable(resource: Resource, current: &Value, object: &Value, causes: &mut Vec<Cause>) {
    check_finalizers(current, object, causes);
    match resource {
        Resource::Pods if object["spec"] != current["spec"] => causes.push(Cause {
            reason: "FieldValueForbidden",
            message: "Forbidden: pod updates may not change fields other than \
                      `spec.containers[*].image`,`spec.initContainers[*].image`,\
                      `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
                      tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 \
                      if it was previously negative)"
                .to_owned(),
            field: "spec".to_owned(),
        }),
        Resource::Jobs => {
            let mut check = |field: &str, was: &Value, is: &Value| {
                if was != is {
                    let field = format!("spec.{field}");
                    causes.push(Cause::invalid(field, &is.to_string(), "field is immutable"));
                }
            };
            let (was, is) = (&current["spec"], &object["spec"]);
            if was["suspend"] == true {
                let fixed = |spec: &Value| without_scheduling(&spec["template"]["spec"]);
                check("template.spec", &fixed(was), &fixed(is));
            } else {
                check("template", &was["template"], &is["template"]);
            }
            for field in [
                "selector",
                "completions",
                "completionMode",
                "managedBy",
                "podFailurePolicy",
            ] {
                check(field, &was[field], &is[field]);
            }
        }
        _ => {}
    }
}

/// The fields of a pod template that stay while its Job is suspended: all but those that say where pods run.
fn without_scheduling(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for list in ["initContainers", "containers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            container["resources"] = Value::Null;
        }
    }
    const FREE: [&str; 4] = ["nodeSelector", "affinity", "tolerations", "schedulingGates"];
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|field, _| !FREE.contains(&field.as_str()));
    }
    spec
}

fn check_preconditions(
    resource: Resource,
    name: &str,
    current: &Value,
    options: &DeleteOptions,
) -> Result<(), Refusal> {
    let uid = meta(current, "uid");
    if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != uid) {
        return Err(status::uid_conflict(resource, name, wanted, uid));
    }
    let version = meta(current, "resourceVersion");
    if let Some(wanted) = options.version.as_deref().filter(|v| *v != version) {
        return Err(status::version_conflict(resource, name, wanted, version));
    }
    Ok(())
}

/// The finalizer of a propagation policy. Without a policy, Jobs leave their pods
/// behind (batch/v1 keeps that for its oldest clients).
fn set_propagation(resource: Resource, object: &mut Value, policy: Option<&str>) {
    let held = is_deleting(object);
    let policy = match policy {
        Some(policy) => policy,
        None if held => return,
        None if resource == Resource::Jobs => "Orphan",
        None => return,
    };
    let (add, drop): (&[&str], &[&str]) = match policy {
        "Foreground" => (&["foregroundDeletion"], &["orphan"]),
        "Orphan" => (&["orphan"], &["foregroundDeletion"]),
        _ => (&[], &["foregroundDeletion", "orphan"]),
    };
    for name in drop {
        drop_finalizer(object, name);
    }
    for name in add {
        add_finalizer(object, name);
    }
}

/// The grace period: only pods that a kubelet runs have one.
fn grace_secs(resource: Resource, object: &Value, asked: Option<i64>) -> i64 {
    if resource != Resource::Pods {
        return 0;
    }
    let own = object["spec"]["terminationGracePeriodSeconds"].as_i64();
    let ended = matches!(
        object["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed")
    );
    if ended || object["spec"]["nodeName"].as_str().unwrap_or("").is_empty() {
        return 0;
    }
    match asked.or(own).unwrap_or(GRACE_DEFAULT_SECS) {
        negative if negative < 0 => 1,
        grace => grace,
    }
}

/// The response to a delete: an object that still exists, otherwise a `Status`.
fn response(resource: Resource, name: &str, object: Value, removed: bool) -> Value {
    if removed && resource != Resource::Pods {
        status::deleted(resource, name, meta(&object, "uid"))
    } else {
        object
    }
}
