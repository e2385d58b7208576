//! What must hold of every recording, whatever was done to the cluster: the guarantees of the README, read
//! from the changes of Jobs and pods and from the responses of the replicas.
//!
//! - At no moment two pods of one name have a container that runs. Two pods of one Job are counted apart: its
//!   controller makes a second one if the API server dies before it has answered for the first, and removes one
//!   once it sees both. Nobody else may, since a removed pod would count as a failure of the Job.
//! - An address in a 200 is that of a pod of that name, which was ready at a moment that the response may
//!   show: not longer ago than the age in its `X-View-Age`, or 5 s without that header. Where the recording
//!   does not know which pods there were, an address is not judged.
//! - Every request gets a response within the wait that it asks for, with room for calls, and none is 500.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::fake_kube::clock::parse_timestamp;
use crate::harness::PREFIX;

/// How old a view may be without `X-View-Age`.
const UNMARKED_AGE_MS: u64 = 5_000;

/// What a busy machine may add on the way of a response, and on that of an event of the watch.
const SLACK_MS: u64 = 3_000;

/// What a request without `Prefer: wait` may wait (`START_WAIT`).
const PLAIN_WAIT_MS: u64 = 10_000;

/// What a response may take beyond the wait: calls that are retried, on a busy machine.
const ANSWER_MS: u64 = 10_000;

/// What was found in a recording.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Names that had two running pods at once, since when, and which.
    pub(super) doubles: Vec<String>,
    /// How often the Job controller had made two pods of one Job, which ran at once.
    pub(super) twins: usize,
    /// How often a name had a running pod and another that had not started yet.
    pub(super) early: usize,
    /// Addresses that no pod of that name had, or not any more.
    pub(super) strangers: Vec<String>,
    /// Requests without a response, or with a late one, or with a 500.
    pub(super) unanswered: Vec<String>,
    /// How many responses of which kind: method, code, and status or code of the body.
    pub(super) responses: BTreeMap<String, usize>,
    /// How often the watch had to be replaced by a list.
    pub(super) gaps: usize,
    /// How many addresses are not known to the recording, which could not see all pods at that time.
    pub(super) unjudged: usize,
    /// How many pods there were.
    pub(super) pods: usize,
    /// How long each pod ran on, in milliseconds, whose Job had gone a second ago or more.
    pub(super) orphans: Vec<u64>,
}

impl Findings {
    /// What is wrong, in words; empty if nothing is.
    pub(super) fn problems(&self) -> Vec<String> {
        let all = self.doubles.iter().chain(&self.strangers);
        let mut problems: Vec<String> = all.chain(&self.unanswered).cloned().collect();
        let count = problems.len();
        if count > PROBLEMS_MAX {
            problems.truncate(PROBLEMS_MAX);
            problems.push(format!("and {} more", count - PROBLEMS_MAX));
        }
        problems
    }

    /// How many pods outlived their Jobs.
    fn outlived(&self) -> String {
        let longest = self.orphans.iter().max().map_or(0, |millis| millis / 1000);
        let text = format!("pods outlived their Job, the longest by {longest} s");
        figure(self.orphans.len(), &text)
    }

    /// What was seen, in a few words.
    pub(super) fn summary(&self) -> String {
        let count = |what: &str| -> usize {
            let fitting = self
                .responses
                .iter()
                .filter(|(kind, _)| kind.contains(what));
            fitting.map(|(_, count)| count).sum()
        };
        format!(
            "{} pods, {} responses ({} × 200), {} double, {} wrong addresses, {} unanswered{}{}{}{}{}",
            self.pods,
            count(""),
            count(" 200"),
            self.doubles.len(),
            self.strangers.len(),
            self.unanswered.len(),
            figure(self.twins, "times two pods of one Job, by its controller"),
            figure(self.early, "not yet started beside a running one"),
            figure(self.gaps, "gaps in the watch"),
            figure(
                self.unjudged,
                "addresses not judged since the watch had a gap"
            ),
            self.outlived(),
        )
    }
}

/// A pod ends a moment after its Job has gone; after this it counts as an orphan.
const ORPHAN_MS: u64 = 1_000;

/// How many problems of one scenario are shown.
const PROBLEMS_MAX: usize = 8;

fn figure(count: usize, what: &str) -> String {
    match count {
        0 => String::new(),
        _ => format!(", {count} {what}"),
    }
}

/// A time in which a pod was ready at an address.
#[derive(Debug)]
struct Ready {
    ip: String,
    from_ms: u64,
    to_ms: u64,
}

/// A time in which pods may have come and gone unseen: from the last event of the watch on pods to the list
/// that replaced it. What the watch has not delivered by then is lost, and the list shows only what remains.
/// The event counts from when it happened, as far as its object says: it may have been read seconds later.
#[derive(Clone, Copy, Debug)]
struct Blind {
    from_ms: u64,
    to_ms: u64,
}

/// What is known of a pod while the recording is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pod {
    has_ended: bool,
    runs: bool,
    /// Its address, while it is ready.
    ready_at: Option<String>,
    /// Since when it is ready, as its condition says: the watch of a busy machine may be seconds behind. In
    /// milliseconds since 1970.
    ready_unix_ms: Option<u64>,
    /// The UID of its Job.
    job: Option<String>,
}

impl Pod {
    fn of(change: &Value, pod: &Value) -> Self {
        let status = &pod["status"];
        let phase = status["phase"].as_str().unwrap_or("");
        let has_ended = change == "DELETED" || ["Succeeded", "Failed"].contains(&phase);
        let containers = status["containerStatuses"].as_array();
        let runs =
            containers.is_some_and(|all| all.iter().any(|one| one["state"]["running"].is_object()));
        let conditions = status["conditions"].as_array();
        let ready = conditions.and_then(|all| {
            let mut all = all.iter();
            all.find(|one| one["type"] == "Ready" && one["status"] == "True")
        });
        let since = ready.and_then(|ready| ready["lastTransitionTime"].as_str());
        let is_leaving = pod["metadata"]["deletionTimestamp"].is_string();
        let ip = status["podIP"]
            .as_str()
            .filter(|_| ready.is_some() && !has_ended && !is_leaving);
        Self {
            has_ended,
            runs: runs && !has_ended,
            ready_at: ip.map(str::to_owned),
            ready_unix_ms: since.and_then(unix_ms),
            job: owner(pod).map(str::to_owned),
        }
    }
}

/// The UID of the Job that a pod belongs to.
fn owner(pod: &Value) -> Option<&str> {
    pod["metadata"]["ownerReferences"][0]["uid"].as_str()
}

/// Everything that is kept while a recording is read.
#[derive(Debug, Default)]
struct Reader {
    found: Findings,
    /// The pods of each name that have not ended, by UID.
    live: BTreeMap<String, BTreeMap<String, Pod>>,
    /// Names with two running pods now, and whether of one Job: each is reported once.
    doubled: BTreeSet<(String, bool)>,
    /// By name.
    ready: BTreeMap<String, Vec<Ready>>,
    seen: BTreeSet<String>,
    /// When each Job had gone, by UID.
    jobs_gone: BTreeMap<String, u64>,
    /// When the recording began, in milliseconds since 1970.
    began_unix_ms: Option<u64>,
    /// When the last event of the watch on pods has happened.
    last_pod_ms: u64,
    blind: Vec<Blind>,
}

/// What the recording says of the address in a response.
enum Verdict {
    Fine,
    /// The pod that had it may be one that the recording has not seen.
    Unknown,
    Wrong(String),
}

/// Reads a recording.
///
/// `blind` is how long replicas may return what they cannot know to be old.
pub(super) fn check(lines: &[Value], blind: Duration) -> Findings {
    let mut reader = Reader::default();
    for line in lines {
        let at_ms = line["at_ms"].as_u64().expect("each line has its time");
        if line["kind"] == "Pod" {
            let happened_ms = reader.since_begin(newest_unix_ms(&line["object"]));
            let happened_ms = happened_ms.map_or(at_ms, |happened_ms| happened_ms.min(at_ms));
            reader.last_pod_ms = reader.last_pod_ms.max(happened_ms);
            reader.pod(at_ms, &line["change"], &line["object"]);
        } else if line["kind"] == "Job" && line["change"] == "DELETED" {
            let uid = line["object"]["metadata"]["uid"].as_str().unwrap_or("");
            reader.jobs_gone.insert(uid.to_owned(), at_ms);
        } else if line["gap"].is_string() {
            reader.found.gaps += 1;
            if line["gap"] == "Pod" {
                let from_ms = reader.last_pod_ms;
                let to_ms = at_ms;
                reader.blind.push(Blind { from_ms, to_ms });
            }
        } else if let Some(unix_ms) = line["unix_ms"].as_u64() {
            reader.began_unix_ms = Some(unix_ms.saturating_sub(at_ms));
        } else if line["path"].is_string() {
            reader.response(line);
        }
    }
    // Responses come before the events that they may show, so addresses are compared at the end.
    for line in lines.iter().filter(|line| line["code"] == 200) {
        match reader.judge_address(line, blind) {
            None | Some(Verdict::Fine) => {}
            Some(Verdict::Unknown) => reader.found.unjudged += 1,
            Some(Verdict::Wrong(stranger)) => reader.found.strangers.push(stranger),
        }
    }
    reader.found.pods = reader.seen.len();
    reader.found
}

impl Reader {
    /// The time of the recording for a time of day.
    fn since_begin(&self, unix_ms: Option<u64>) -> Option<u64> {
        Some(unix_ms?.saturating_sub(self.began_unix_ms?))
    }

    fn pod(&mut self, at_ms: u64, change: &Value, object: &Value) {
        let Some(name) = instance(object) else {
            return;
        };
        let uid = object["metadata"]["uid"].as_str().unwrap_or("").to_owned();
        self.seen.insert(uid.clone());
        let pod = Pod::of(change, object);
        let since_ms = self.since_begin(pod.ready_unix_ms);
        let pods = self.live.entry(name.clone()).or_default();
        let before = pods.get(&uid).cloned().unwrap_or_default();
        if pod.ready_at != before.ready_at {
            let times = self.ready.entry(name.clone()).or_default();
            if let Some(ip) = &before.ready_at {
                let open = times
                    .iter_mut()
                    .rev()
                    .find(|time| time.ip == *ip && time.to_ms == u64::MAX);
                open.expect("it has begun").to_ms = at_ms;
            }
            if let Some(ip) = &pod.ready_at {
                times.push(Ready {
                    ip: ip.clone(),
                    from_ms: since_ms.map_or(at_ms, |since_ms| since_ms.min(at_ms)),
                    to_ms: u64::MAX,
                });
            }
        }
        let is_new = !before.has_ended && before == Pod::default();
        if pod.has_ended {
            let was_live = pods.remove(&uid).is_some();
            let gone_ms = owner(object).and_then(|owner| self.jobs_gone.get(owner));
            let outlived = gone_ms.map_or(0, |gone_ms| at_ms.saturating_sub(*gone_ms));
            if was_live && outlived >= ORPHAN_MS {
                self.found.orphans.push(outlived);
            }
        } else {
            pods.insert(uid.clone(), pod);
        }
        let all_running = pods.iter().filter(|(_, pod)| pod.runs);
        let running: Vec<&str> = all_running.clone().map(|(uid, _)| uid.as_str()).collect();
        let jobs: BTreeSet<_> = all_running.map(|(_, pod)| pod.job.as_ref()).collect();
        let is_of_one_job = jobs.len() == 1 && !jobs.contains(&None);
        if running.len() < 2 {
            self.doubled.retain(|(doubled, _)| *doubled != name);
        } else if self.doubled.insert((name.clone(), is_of_one_job)) {
            if is_of_one_job {
                self.found.twins += 1;
            } else {
                self.found.doubles.push(format!(
                    "{name} has two running pods at {at_ms} ms: {running:?}"
                ));
            }
        }
        let waits = pods.get(&uid).is_some_and(|pod| !pod.runs);
        self.found.early += usize::from(is_new && waits && !running.is_empty());
    }

    fn response(&mut self, line: &Value) {
        let (method, path) = (&line["method"], &line["path"]);
        let plain = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let what = format!(
            "{} {} at {} ms",
            plain(method),
            plain(path),
            line["began_ms"]
        );
        let Some(code) = line["code"].as_u64() else {
            let error = &line["error"];
            self.found
                .unanswered
                .push(format!("{what}: no response ({error})"));
            return;
        };
        let (began_ms, at_ms) = (line["began_ms"].as_u64(), line["at_ms"].as_u64());
        let took_ms = at_ms.unwrap_or(0).saturating_sub(began_ms.unwrap_or(0));
        let is_late = took_ms > wait_ms(&line["prefer"]) + ANSWER_MS;
        if is_late {
            self.found
                .unanswered
                .push(format!("{what}: {code} after {took_ms} ms"));
        }
        if code == 500 {
            self.found
                .unanswered
                .push(format!("{what}: {code} {}", line["body"]));
        }
        let body = &line["body"];
        let words = [&body["status"], &body["code"], &body["detail"]["code"]];
        let words: Vec<&str> = words.into_iter().filter_map(Value::as_str).collect();
        let kind = format!("{} {code} {}", plain(method), words.join(" "));
        *self.found.responses.entry(kind).or_default() += 1;
    }

    /// Judges the address of a response; `None` if it has none.
    fn judge_address(&self, line: &Value, blind: Duration) -> Option<Verdict> {
        let path = line["path"].as_str()?;
        let name = path.strip_prefix("/app/")?;
        let ip = line["body"]["ip"].as_str()?;
        let (began_ms, at_ms) = (line["began_ms"].as_u64()?, line["at_ms"].as_u64()?);
        let age = line["view_age"]
            .as_str()
            .and_then(|age| age.parse::<f64>().ok());
        let age_ms = age.map_or(UNMARKED_AGE_MS, |age| ((age + 1.0) * 1000.0) as u64);
        let oldest_ms = began_ms.saturating_sub(age_ms + SLACK_MS + blind.as_millis() as u64);
        let newest_ms = at_ms + SLACK_MS;
        let is_within = |from_ms: u64, to_ms: u64| to_ms >= oldest_ms && from_ms <= newest_ms;
        let times = self.ready.get(name).into_iter().flatten();
        let of_it: Vec<&Ready> = times.filter(|time| time.ip == ip).collect();
        if of_it.iter().any(|time| is_within(time.from_ms, time.to_ms)) {
            return Some(Verdict::Fine);
        }
        // A replica may have seen what was lost to the recording, and the response may show that.
        let mut gaps = self.blind.iter();
        if gaps.any(|gap| is_within(gap.from_ms, gap.to_ms)) {
            return Some(Verdict::Unknown);
        }
        let age = &line["view_age"];
        Some(Verdict::Wrong(format!(
            "GET {path} at {began_ms} to {at_ms} ms: {ip} (X-View-Age {age}); it was ready at {:?}",
            of_it
                .iter()
                .map(|time| (time.from_ms, time.to_ms))
                .collect::<Vec<_>>()
        )))
    }
}

/// The newest time in the status of a pod, in milliseconds since 1970.
fn newest_unix_ms(pod: &Value) -> Option<u64> {
    let status = &pod["status"];
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let containers = status["containerStatuses"].as_array().into_iter().flatten();
    let changed = conditions.map(|one| &one["lastTransitionTime"]);
    let ran = containers.flat_map(|one| {
        let state = &one["state"];
        [
            &state["running"]["startedAt"],
            &state["terminated"]["finishedAt"],
        ]
    });
    let created = &pod["metadata"]["creationTimestamp"];
    let times = changed.chain(ran).chain([created]);
    times.filter_map(|time| unix_ms(time.as_str()?)).max()
}

fn unix_ms(timestamp: &str) -> Option<u64> {
    u64::try_from(parse_timestamp(timestamp)?).ok()
}

/// The wait that a request asks for.
fn wait_ms(prefer: &Value) -> u64 {
    let secs = prefer.as_str().and_then(|text| text.strip_prefix("wait="));
    let secs = secs.and_then(|secs| secs.parse::<u64>().ok());
    secs.map_or(PLAIN_WAIT_MS, |secs| secs * 1000)
}

/// `<type>/<name>` of a Job or a pod of ours.
pub(super) fn instance(object: &Value) -> Option<String> {
    let raw = |key: &str| object["metadata"]["annotations"][format!("{PREFIX}{key}")].as_str();
    Some(format!(
        "{}/{}",
        raw("instance-type")?,
        raw("instance-name")?
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(lines: &[Value]) -> Findings {
        check(lines, Duration::ZERO)
    }

    fn pod(at_ms: u64, uid: &str, change: &str, ip: &str, runs: bool, is_ready: bool) -> Value {
        let annotations = json!({
            format!("{PREFIX}instance-type"): "t", format!("{PREFIX}instance-name"): "ann",
        });
        let state = if runs {
            json!({"running": {}})
        } else {
            json!({"waiting": {}})
        };
        json!({"at_ms": at_ms, "kind": "Pod", "change": change, "object": {
            "metadata": {"uid": uid, "annotations": annotations},
            "status": {
                "phase": "Running", "podIP": ip, "containerStatuses": [{"state": state}],
                "conditions": [{"type": "Ready", "status": if is_ready { "True" } else { "False" }}],
            },
        }})
    }

    fn get(at_ms: u64, code: u64, ip: &str, view_age: Option<&str>) -> Value {
        json!({"at_ms": at_ms, "began_ms": at_ms, "method": "GET", "path": "/app/t/ann",
            "code": code, "body": {"ip": ip}, "view_age": view_age})
    }

    #[test]
    fn a_successor_after_the_end_is_fine() {
        let found = read(&[
            pod(0, "1", "ADDED", "10.0.0.1", true, true),
            get(10, 200, "10.0.0.1", None),
            pod(20, "1", "DELETED", "10.0.0.1", true, true),
            pod(30, "2", "ADDED", "10.0.0.2", true, true),
            get(40, 200, "10.0.0.2", None),
        ]);
        assert_eq!(found.problems(), Vec::<String>::new());
        assert_eq!((found.pods, found.early), (2, 0));
    }

    #[test]
    fn two_running_pods_are_found_once() {
        let mut lines = vec![
            pod(0, "1", "ADDED", "10.0.0.1", true, true),
            pod(10, "2", "ADDED", "10.0.0.2", false, false),
        ];
        let found = read(&lines);
        assert_eq!((found.doubles.len(), found.early), (0, 1));
        lines.push(pod(20, "2", "MODIFIED", "10.0.0.2", true, false));
        lines.push(pod(30, "2", "MODIFIED", "10.0.0.2", true, true));
        assert_eq!(read(&lines).doubles.len(), 1);
    }

    /// A third one of another Job is none of its controller's.
    #[test]
    fn two_pods_of_one_job_are_counted_apart() {
        let of_job = |mut line: Value, job: &str| {
            line["object"]["metadata"]["ownerReferences"] = json!([{"uid": job}]);
            line
        };
        let mut lines = vec![
            of_job(pod(0, "1", "ADDED", "10.0.0.1", true, true), "u1"),
            of_job(pod(10, "2", "ADDED", "10.0.0.2", true, true), "u1"),
        ];
        let found = read(&lines);
        assert_eq!((found.doubles.len(), found.twins), (0, 1));
        lines.push(of_job(pod(20, "3", "ADDED", "10.0.0.3", true, true), "u2"));
        let found = read(&lines);
        assert_eq!((found.doubles.len(), found.twins), (1, 1));
    }

    #[test]
    fn an_address_of_the_past_needs_its_age() {
        let gone = [
            pod(0, "1", "ADDED", "10.0.0.1", true, true),
            pod(1_000, "1", "DELETED", "10.0.0.1", true, true),
        ];
        let strangers = |response: Value| {
            let lines = [&gone[..], &[response]].concat();
            read(&lines).strangers.len()
        };
        assert_eq!(strangers(get(8_000, 200, "10.0.0.1", None)), 0);
        assert_eq!(strangers(get(20_000, 200, "10.0.0.1", None)), 1);
        assert_eq!(strangers(get(20_000, 200, "10.0.0.1", Some("18"))), 0);
        assert_eq!(strangers(get(500, 200, "10.0.0.9", None)), 1);
    }

    #[test]
    fn a_pod_is_ready_since_it_says_so_however_late_that_is_seen() {
        let mut seen = pod(14_000, "1", "ADDED", "10.0.0.1", true, true);
        let response = [get(10_000, 200, "10.0.0.1", None)];
        let strangers = |seen: &Value| {
            let began = json!({"at_ms": 5, "unix_ms": 1_000_000_000_005_u64});
            let lines = [&[began], &response[..], std::slice::from_ref(seen)];
            read(&lines.concat()).strangers.len()
        };
        assert_eq!(strangers(&seen), 1);
        let condition = &mut seen["object"]["status"]["conditions"][0];
        condition["lastTransitionTime"] = "2001-09-09T01:46:49Z".into();
        assert_eq!(strangers(&seen), 0);
        let condition = &mut seen["object"]["status"]["conditions"][0];
        condition["lastTransitionTime"] = "2001-09-09T01:46:54Z".into();
        assert_eq!(strangers(&seen), 1);
    }

    #[test]
    fn an_address_is_not_judged_where_the_watch_had_a_gap() {
        let gap = |at_ms: u64, kind: &str| json!({"at_ms": at_ms, "gap": kind});
        // The watch on pods ends after 20 s; the pod of 10.0.0.2 comes and goes before the next list.
        let lines = |response: Value, kind: &str| {
            let mut lines = vec![
                pod(0, "1", "ADDED", "10.0.0.1", true, true),
                pod(20_000, "1", "DELETED", "10.0.0.1", true, true),
                response,
                gap(30_000, kind),
                pod(30_001, "3", "ADDED", "10.0.0.3", true, true),
            ];
            lines.sort_by_key(|line| line["at_ms"].as_u64());
            read(&lines)
        };
        let counts = |found: Findings| (found.strangers.len(), found.unjudged);
        let response = |at_ms: u64| get(at_ms, 200, "10.0.0.2", None);
        assert_eq!(counts(lines(response(25_000), "Pod")), (0, 1));
        // Before the last event, and after the list, all pods are known; so they are with a gap in the
        // watch on Jobs alone.
        assert_eq!(counts(lines(response(10_000), "Pod")), (1, 0));
        assert_eq!(counts(lines(response(40_000), "Pod")), (1, 0));
        assert_eq!(counts(lines(response(25_000), "Job")), (1, 0));
        // The last event happened before it was read.
        let begun = json!({"at_ms": 0, "unix_ms": 1_000_000_000_000_u64});
        let mut late = pod(20_000, "1", "MODIFIED", "10.0.0.1", true, true);
        late["object"]["metadata"]["creationTimestamp"] = "2001-09-09T01:46:42Z".into();
        let early = pod(0, "1", "ADDED", "10.0.0.1", true, true);
        for (gap, expected) in [(gap(30_000, "Pod"), (0, 1)), (gap(30_000, "Job"), (1, 0))] {
            let lines = [
                begun.clone(),
                early.clone(),
                response(10_000),
                late.clone(),
                gap,
            ];
            assert_eq!(counts(read(&lines)), expected);
        }
        // An address that is known is fine, or its response as old as it says.
        let known = |at_ms: u64| get(at_ms, 200, "10.0.0.1", None);
        assert_eq!(counts(lines(known(21_000), "Pod")), (0, 0));
        assert_eq!(counts(lines(known(40_000), "Pod")), (1, 0));
    }

    #[test]
    fn each_request_must_be_answered_in_time() {
        let lost = json!({"at_ms": 1, "began_ms": 0, "method": "GET", "path": "/app/t/ann", "error": "reset"});
        let mut late = get(40_000, 202, "", None);
        late["began_ms"] = 5_000.into();
        late["prefer"] = "wait=20".into();
        let mut early = late.clone();
        early["began_ms"] = 11_000.into();
        let others = [get(2, 500, "", None), get(3, 503, "", None)];
        let found = read(&[&[lost, late, early][..], &others].concat());
        assert_eq!(found.unanswered.len(), 3, "{:?}", found.unanswered);
    }
}
