//! Logs of containers: what a test has written, by pod, container and run. Pure.
//!
//! Nothing is rotated. A container of which a test has written nothing has one line, and its termination
//! message. What a request may ask for, and what it is refused, was measured with Kubernetes 1.36.

use std::collections::BTreeMap;

use serde_json::Value;

use super::FakeKube;
use super::api::{Model, Request};
use super::cluster::resource::Resource;
use super::cluster::status::{self, Cause, Refusal};
use super::cluster::{Key, meta};

/// UID of the pod, container, and how many runs were before.
type Run = (String, String, i64);

/// All logs: each piece with the time of its writing.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    pieces: BTreeMap<Run, Vec<(i64, Vec<u8>)>>,
    /// No kubelet can be reached.
    is_cut_off: bool,
}

impl Logs {
    /// What a run has written after so many bytes.
    fn text_after(&self, run: &Run, mut skipped: usize) -> Vec<u8> {
        let pieces = self.pieces.get(run).map(Vec::as_slice).unwrap_or_default();
        let mut text = Vec::new();
        for (_, piece) in pieces {
            let from = skipped.min(piece.len());
            text.extend_from_slice(&piece[from..]);
            skipped -= from;
        }
        text
    }
}

/// A log that is being sent.
#[derive(Clone, Debug)]
pub(crate) struct LogStream {
    key: Key,
    run: Run,
    follows: bool,
    /// The bytes of the run that were sent, or left out.
    sent: usize,
    left: usize,
}

/// The status of a container of a pod.
fn container_status<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let statuses = ["initContainerStatuses", "containerStatuses"].map(|list| &pod["status"][list]);
    let mut all = statuses.into_iter().filter_map(Value::as_array).flatten();
    let found = all.find(|status| status["name"] == name);
    found.unwrap_or(&Value::Null)
}

/// The run that a request is about, and how it ended.
fn find_run<'a>(pod: &'a Value, name: &str, previous: bool) -> Result<(i64, &'a Value), Refusal> {
    let status = container_status(pod, name);
    let (state, last) = (&status["state"], &status["lastState"]["terminated"]);
    let restarts = status["restartCount"].as_i64().unwrap_or(0);
    let (pod, began) = (
        meta(pod, "name"),
        state["waiting"].is_null() && state.is_object(),
    );
    if previous && last.is_null() {
        let text = format!("previous terminated container {name:?} in pod {pod:?} not found");
        return Err(status::bad_request(text));
    }
    if began && !previous {
        return Ok((restarts, &state["terminated"]));
    }
    if last.is_object() {
        return Ok((restarts - 1, last));
    }
    let reason = state["waiting"]["reason"].as_str().unwrap_or("");
    let why = match reason {
        "" => {
            return Err(status::bad_request(format!(
                "container {name:?} in pod {pod:?} is not available"
            )));
        }
        "ErrImagePull" => "image can't be pulled",
        "ImagePullBackOff" => "trying and failing to pull image",
        other => other,
    };
    let text = format!("container {name:?} in pod {pod:?} is waiting to start: {why}");
    Err(status::bad_request(text))
}

fn names(list: &Value) -> Vec<&str> {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(|one| one["name"].as_str()).collect()
}

/// The container that a request names, or the only one.
fn find_container(pod: &Value, wanted: &str) -> Result<String, Refusal> {
    let (containers, inits) = (
        names(&pod["spec"]["containers"]),
        names(&pod["spec"]["initContainers"]),
    );
    let pod = meta(pod, "name");
    match containers.as_slice() {
        _ if !wanted.is_empty() => {
            let is_one = containers.iter().chain(&inits).any(|name| *name == wanted);
            let text = || format!("container {wanted} is not valid for pod {pod}");
            is_one
                .then(|| wanted.to_owned())
                .ok_or_else(|| status::bad_request(text()))
        }
        [only] => Ok((*only).to_owned()),
        several => {
            let mut text = format!(
                "a container name must be specified for pod {pod}, choose one of: [{}]",
                several.join(" ")
            );
            if !inits.is_empty() {
                text += &format!(" or one of the init containers: [{}]", inits.join(" "));
            }
            Err(status::bad_request(text))
        }
    }
}

/// A number of the query, which must be at least this.
fn number(request: &Request, pod: &str, name: &str, least: i64) -> Result<Option<usize>, Refusal> {
    let text = request.query(name);
    if text.is_empty() {
        return Ok(None);
    }
    let number = text.parse::<i64>().unwrap_or(-1);
    if number >= least {
        return Ok(usize::try_from(number).ok());
    }
    let why = match least {
        0 => "must be greater than or equal to 0",
        _ => "must be greater than 0",
    };
    let mut cause = Cause::invalid(name, "", why);
    cause.message = format!("Invalid value: {number}: {why}");
    Err(status::invalid_kind("PodLogOptions", pod, &cause))
}

impl Model {
    /// Begins to send the log that a request asks for; `None` if the pod has no node.
    pub(super) fn open_log(
        &mut self,
        request: &Request,
        key: &Key,
    ) -> Result<Option<LogStream>, Refusal> {
        let name = &key.2;
        let tail = number(request, name, "tailLines", 0)?;
        let since = number(request, name, "sinceSeconds", 1)?;
        let limit = number(request, name, "limitBytes", 1)?;
        let pod = self.cluster.get(key.0, &key.1, name)?;
        let container = find_container(&pod, request.query("container"))?;
        if pod["spec"]["nodeName"].as_str().unwrap_or("").is_empty() {
            return Ok(None);
        }
        if self.logs.is_cut_off {
            let text = format!(
                "Get \"https://10.0.0.1:10250/containerLogs/{}/{name}/{container}\": dial tcp 10.0.0.1:10250: connect: connection refused",
                key.1
            );
            return Err(status::unclassified(text));
        }
        let (number, ended) = find_run(&pod, &container, request.is_set("previous"))?;
        let run = (meta(&pod, "uid").to_owned(), container, number);
        let now = self.cluster.clock().now_ms();
        let (container, message) = (&run.1, ended["message"].as_str().unwrap_or(""));
        let pieces = self.logs.pieces.entry(run.clone()).or_insert_with(|| {
            let text = format!("{container} runs\n{message}");
            vec![(now, format!("{}\n", text.trim_end()).into_bytes())]
        });
        let oldest = since.map(|secs| now - i64::try_from(secs).unwrap_or(i64::MAX / 2000) * 1000);
        let is_old = |piece: &&(i64, Vec<u8>)| oldest.is_some_and(|oldest| piece.0 < oldest);
        let skipped: usize = pieces
            .iter()
            .take_while(is_old)
            .map(|(_, text)| text.len())
            .sum();
        let text = self.logs.text_after(&run, skipped);
        let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        let first = tail.map_or(0, |tail| lines.len().saturating_sub(tail));
        let sent = skipped + lines[..first].iter().map(|line| line.len()).sum::<usize>();
        Ok(Some(LogStream {
            key: key.clone(),
            run,
            follows: request.is_set("follow"),
            sent,
            left: limit.unwrap_or(usize::MAX),
        }))
    }

    /// What there is more of a log, and whether it ends with that.
    pub(super) fn more_of(&self, log: &mut LogStream) -> (Vec<u8>, bool) {
        let new = self.logs.text_after(&log.run, log.sent);
        let new = &new[..new.len().min(log.left)];
        log.sent += new.len();
        log.left -= new.len();
        let pod = self.cluster.object(&log.key);
        let pod = pod.filter(|pod| meta(pod, "uid") == log.run.0);
        let goes_on = pod.is_some_and(|pod| {
            let status = container_status(pod, &log.run.1);
            status["state"]["running"].is_object()
                && status["restartCount"].as_i64().unwrap_or(0) == log.run.2
        });
        let goes_on = goes_on && !self.logs.is_cut_off;
        (new.to_vec(), !(log.follows && goes_on && log.left > 0))
    }
}

impl FakeKube {
    /// The kubelets die, or are back: each log that is followed ends as if its container had ended, and none
    /// can be read. (Seen with Kubernetes 1.36: the API server ends the response regularly.)
    pub(crate) fn set_kubelets(&self, are_up: bool) {
        self.with(|model| model.logs.is_cut_off = !are_up);
    }

    /// The container writes this into its log; of one that was written nothing but an empty text, it is
    /// empty.
    pub(crate) fn write_log(&self, namespace: &str, pod: &str, container: &str, text: &str) {
        let key = (Resource::Pods, namespace.to_owned(), pod.to_owned());
        self.with(|model| {
            let object = model
                .cluster
                .object(&key)
                .expect("a pod writes a log while it is there");
            let status = container_status(object, container);
            let restarts = status["restartCount"].as_i64().unwrap_or(0);
            let run = (
                meta(object, "uid").to_owned(),
                container.to_owned(),
                restarts,
            );
            let now = model.cluster.clock().now_ms();
            let pieces = model.logs.pieces.entry(run).or_default();
            pieces.push((now, text.as_bytes().to_vec()));
        });
    }
}
