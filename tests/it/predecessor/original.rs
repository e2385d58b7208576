//! config-controller 2.7.1 as Kubernetes sees it: its calls, in its order, with its semantics.
//!
//! Written from the description of the original's wire behaviour alone, so that it cannot share a
//! mistake with this service: nothing of `config_controller` may be used here. It has the bugs of
//! 2.7.1, too (one entry per pod, the first pod counts, a pending pod hides the others). A
//! roll-back brings them back, and rows of the contract must fail on them (`contract/original`).
//! Its HTTP interface is in `front`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::mako;
use crate::fake_kube::clock::parse_timestamp;
use crate::raw_kube::{Got, RawKube};

const PREFIX: &str = "config-controller.semafor.ch/";

/// The response of 2.7.1: status and body.
pub(crate) type Reply = (u16, Value);

/// One 2.7.1 on one namespace.
#[derive(Debug)]
pub(crate) struct Predecessor {
    api: RawKube,
    namespace: String,
    patch_type: &'static str,
    labels_needed: bool,
}

impl Predecessor {
    /// On a real API server.
    pub(crate) fn new(api: RawKube, namespace: &str) -> Self {
        Self {
            api,
            namespace: namespace.to_owned(),
            patch_type: "application/strategic-merge-patch+json",
            labels_needed: true,
        }
    }

    /// On the fake, which accepts merge patches only. For a whole object with unchanged arrays,
    /// both kinds of patch mean the same.
    pub(crate) fn on_fake(api: RawKube, namespace: &str) -> Self {
        Self {
            patch_type: "application/merge-patch+json",
            ..Self::new(api, namespace)
        }
    }

    /// The same, but a template may omit `metadata.labels` (though not set them to null). The
    /// templates of the contract's rows omit them, and each of their starts would fail for that
    /// reason alone (W14).
    pub(crate) fn without_labels(self) -> Self {
        Self {
            labels_needed: false,
            ..self
        }
    }

    fn path(&self, group: &str, plural: &str) -> String {
        format!("/{group}/namespaces/{}/{plural}", self.namespace)
    }

    fn pods(&self, key: &str, value: &str) -> Result<Vec<Value>, String> {
        let selector = escaped(&format!("{key}={value}"));
        let path = self.path("api/v1", "pods");
        self.list_of(&format!("{path}?labelSelector={selector}"))
    }

    fn list_of(&self, path: &str) -> Result<Vec<Value>, String> {
        let got = self.call("GET", path, "", "")?;
        if got.code != 200 {
            return Err(exception(&got));
        }
        Ok(array(&got.body["items"]).to_vec())
    }

    fn call(&self, method: &str, path: &str, kind: &str, body: &str) -> Result<Got, String> {
        self.api
            .try_send(method, path, kind, body)
            .map_err(|error| format!("HTTPConnectionPool: Max retries exceeded: {error}"))
    }

    /// `GET /app`: the keys of all ConfigMaps, as they are.
    pub(crate) fn types(&self) -> Result<Vec<String>, String> {
        let mut types = Vec::new();
        for map in self.templates()? {
            let data = map["data"].as_object();
            let data = data.ok_or("'NoneType' object has no attribute 'keys'")?;
            // As the API server writes them.
            let keys = data.keys().collect::<BTreeSet<_>>().into_iter();
            types.extend(keys.map(|key| key.strip_suffix(".yaml").unwrap_or(key).to_owned()));
        }
        Ok(types)
    }

    fn templates(&self) -> Result<Vec<Value>, String> {
        let path = self.path("api/v1", "configmaps");
        let selector = escaped(&format!("{PREFIX}template"));
        self.list_of(&format!("{path}?labelSelector={selector}"))
    }

    /// `GET /app/{type}/{name}`: find, or start and wait for 10 s.
    pub(crate) fn get(&self, app_type: &str, name: &str) -> Reply {
        self.get_with(app_type, name, &[])
    }

    /// The same, with values for the template.
    pub(crate) fn get_with(&self, app_type: &str, name: &str, given: &mako::Given) -> Reply {
        self.find_or_start(app_type, name, given)
            .unwrap_or_else(|why| (404, json!({"status": "error", "msg": why})))
    }

    fn find_or_start(
        &self,
        app_type: &str,
        name: &str,
        given: &mako::Given,
    ) -> Result<Reply, String> {
        let job = format!("{app_type}-{name}");
        if self.pods("job-name", &job)?.is_empty() {
            self.start_with(app_type, name, given)?;
        }
        let ip = match self.wait(&job) {
            Ok(ip) => ip,
            Err(word) => return Ok((202, json!({"status": word}))),
        };
        let pods = self.pods("job-name", &job)?;
        let first = pods.first().ok_or("list index out of range")?;
        let mut response = json!({"ip": ip});
        add_meta_labels(&mut response, first);
        Ok((200, response))
    }

    /// Makes the Job of an instance, from the first ConfigMap that has the type.
    pub(crate) fn start(&self, app_type: &str, name: &str) -> Result<(), String> {
        self.start_with(app_type, name, &[])
    }

    fn start_with(&self, app_type: &str, name: &str, given: &mako::Given) -> Result<(), String> {
        let key = format!("{app_type}.yaml");
        let mut text = None;
        for map in self.templates()? {
            let data = map["data"].as_object();
            let data = data.ok_or("argument of type 'NoneType' is not iterable")?;
            text = text.or_else(|| data.get(&key)?.as_str().map(str::to_owned));
        }
        let text = text.ok_or_else(|| format!("No configs found for app {key}"))?;
        let text = mako::render(&text, given)?;
        let mut template: Value = serde_yaml::from_str(&text).map_err(|error| error.to_string())?;
        if !self.labels_needed && template["metadata"].get("labels").is_none() {
            template["metadata"]["labels"] = json!({});
        }
        let job = job(app_type, name, template)?;
        let path = self.path("apis/batch/v1", "jobs");
        let made = self.call("POST", &path, "application/json", &job.to_string())?;
        match made.code {
            201 => Ok(()),
            _ => Err(exception(&made)),
        }
    }

    /// The address of the Job's pod, or the word of the 202.
    fn wait(&self, job: &str) -> Result<String, &'static str> {
        let path = self.path("api/v1", "pods");
        let selector = escaped(&format!("job-name={job}"));
        let query = format!("labelSelector={selector}&timeoutSeconds=10&watch=True");
        let mut word = "node_not_ready";
        for event in self.api.watch(&format!("{path}?{query}")) {
            let event = event.expect("whole lines");
            let status = &event["object"]["status"];
            let containers = array(&status["containerStatuses"]);
            if containers.is_empty() {
                continue;
            }
            word = "pulling_image";
            let all_ready = containers.iter().all(|c| c["ready"] == true);
            match status["podIP"].as_str() {
                Some(ip) if all_ready => return Ok(ip.to_owned()),
                _ if !all_ready && has_failed(containers) => return Err("app_error"),
                _ => {}
            }
        }
        Err(word)
    }

    /// `GET /app/{type}`: one entry a pod.
    pub(crate) fn list(&self, app_type: &str) -> Reply {
        let crash = (500, json!("Internal Server Error"));
        let Ok(pods) = self.pods(&format!("{PREFIX}instance-type"), app_type) else {
            return crash;
        };
        let mut entries = Vec::new();
        for pod in pods {
            let name = &pod["metadata"]["labels"][format!("{PREFIX}instance-name")];
            if name.is_null() {
                return crash;
            }
            let status = &pod["status"];
            let (conditions, containers) = (
                array(&status["conditions"]),
                array(&status["containerStatuses"]),
            );
            if conditions.is_empty() || containers.is_empty() {
                break;
            }
            let ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
            let is_ready = conditions.iter().any(ready);
            let (ip, errored) = (&status["podIP"], has_failed(containers) || !is_ready);
            let mut entry = json!({
                "ip": ip, "name": name, "sessionID": name, "hostname": name, "addr": ip,
                "errored": errored, "start": 0,
            });
            if is_ready {
                entry["start"] = json!(epoch_secs(&status["startTime"]));
            }
            add_meta_labels(&mut entry, &pod);
            entries.push(entry);
        }
        (200, json!(entries))
    }

    /// `PATCH /app/{type}/{name}`: writes the first pod back as a whole, with these labels.
    pub(crate) fn patch(&self, app_type: &str, name: &str, body: &Value) -> Reply {
        let failed = |msg: String| (404, json!({"detail": {"status": "error", "msg": msg}}));
        let job = format!("{app_type}-{name}");
        match self.pods("job-name", &job) {
            Ok(pods) if pods.is_empty() => {
                return failed(format!("Job does {app_type}/{name} not exist"));
            }
            Ok(_) => {}
            Err(why) => return failed(why),
        }
        match self.pods("job-name", &job) {
            Ok(pods) if !pods.is_empty() => match self.write_back(pods[0].clone(), body) {
                Ok(()) => success(),
                Err(why) => failed(why),
            },
            Ok(_) => failed("list index out of range".to_owned()),
            Err(why) => failed(why),
        }
    }

    fn write_back(&self, mut pod: Value, body: &Value) -> Result<(), String> {
        for (key, value) in body.as_object().expect("a PATCH is an object") {
            pod["metadata"]["labels"][format!("{PREFIX}meta-{key}")] = value.clone();
        }
        let name = pod["metadata"]["name"].as_str().expect("a pod has a name");
        let path = format!("{}/{name}", self.path("api/v1", "pods"));
        let text = pod.to_string();
        let got = self.call("PATCH", &path, self.patch_type, &text)?;
        match got.code {
            200 => Ok(()),
            _ => Err(exception(&got)),
        }
    }

    /// `DELETE /app/{type}/{name}`.
    pub(crate) fn delete(&self, app_type: &str, name: &str) -> Reply {
        let job = format!("{app_type}-{name}");
        let crash = (500, json!("Internal Server Error"));
        match self.pods("job-name", &job) {
            Ok(pods) if pods.is_empty() => {
                return (404, json!({"detail": {"status": "No job found"}}));
            }
            Ok(_) => {}
            Err(_) => return crash,
        }
        let path = format!("{}/{job}", self.path("apis/batch/v1", "jobs"));
        let options = json!({"gracePeriodSeconds": 0, "propagationPolicy": "Foreground"});
        match self.call("DELETE", &path, "application/json", &options.to_string()) {
            Ok(got) if got.code == 200 => success(),
            _ => crash,
        }
    }
}

/// The Job of an instance: labels on the pod template, nothing else.
fn job(app_type: &str, name: &str, mut template: Value) -> Result<Value, String> {
    let labels = template["metadata"]["labels"].as_object_mut();
    let labels = labels.ok_or("'labels'")?;
    labels.insert(format!("{PREFIX}instance-name"), json!(name));
    labels.insert(format!("{PREFIX}instance-type"), json!(app_type));
    Ok(json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": format!("{app_type}-{name}")},
        "spec": {"template": template},
    }))
}

/// The response to a PATCH or DELETE that worked.
pub(crate) fn success() -> Reply {
    (200, json!({"status": "Success"}))
}

/// The text of its client library, which it shows to every caller (S5).
fn exception(got: &Got) -> String {
    let (code, reason) = (got.code, got.reason());
    let kind = got.header("content-type");
    let headers = format!("HTTPHeaderDict({{'Content-Type': '{kind}'}})");
    let body = &got.body;
    format!(
        "({code})\nReason: {reason}\nHTTP response headers: {headers}\nHTTP response body: {body}\n"
    )
}

/// As a query has it.
fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Whether a container's current state is an end with a code other than 0.
fn has_failed(containers: &[Value]) -> bool {
    let code = |c: &Value| c["state"]["terminated"]["exitCode"].as_i64();
    containers.iter().any(|c| code(c).is_some_and(|c| c != 0))
}

#[allow(clippy::cast_precision_loss)] // Seconds of this age are exact in a float.
fn epoch_secs(time: &Value) -> f64 {
    let millis = time.as_str().and_then(parse_timestamp);
    (millis.expect("a ready pod has a start") / 1000) as f64
}

/// Meta labels come last, and override.
fn add_meta_labels(response: &mut Value, pod: &Value) {
    let labels = pod["metadata"]["labels"].as_object().into_iter().flatten();
    for (key, value) in labels.collect::<BTreeMap<_, _>>() {
        if let Some(key) = key.strip_prefix(&format!("{PREFIX}meta-")) {
            response[key] = value.clone();
        }
    }
}
