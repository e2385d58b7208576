//! Strikes by way of Kubernetes: what is stored there, what it responds, and how often it changes.
//! Most of the work is done by `bench-cluster`, before and meanwhile.

use super::Aim;
use super::held::{patch, shots};
use super::volley::{Shot, judged, volley};
use crate::client::get;
use crate::environment::OURSELVES;
use std::thread::sleep;
use std::time::Duration;

/// How long the API server goes on with what was ordered before.
const MEANWHILE: Duration = Duration::from_secs(8);

/// One request by somebody else; its result.
pub(crate) fn one(aim: &Aim, request: Vec<u8>) -> Shot {
    let mut shot = Shot::new(aim.address, OURSELVES, request);
    shot.finish(Duration::from_secs(10));
    shot
}

/// Pods have far more labels than a caller may set. The list is served, and one can be removed.
pub(crate) fn labels(aim: &Aim) -> Result<String, String> {
    sleep(aim.hold);
    let list = one(aim, get(&aim.large, ""));
    let remove = one(aim, patch("/app/hello/i1", "", br#"{"k9499": null}"#));
    Ok([
        judged("list", &[list], &["200"])?,
        judged("label removed", &[remove], &["200"])?,
    ]
    .join("; "))
}

/// Pods have long messages of failed containers. The list is served.
pub(crate) fn messages(aim: &Aim) -> Result<String, String> {
    sleep(aim.hold);
    judged("list", &[one(aim, get(&aim.large, ""))], &["200"])
}

/// What a caller may set: many at once, or more and more.
pub(crate) fn pairs(aim: &Aim) -> Result<String, String> {
    let body = |from: usize, count: usize| {
        let pair = |number| format!("\"k{number}\":\"{}\"", "v".repeat(63));
        let pairs: Vec<String> = (from..from + count).map(pair).collect();
        format!("{{{}}}", pairs.join(",")).into_bytes()
    };
    let all = body(0, 9_500);
    let mut at_once = shots(aim, 17, |number| {
        patch(&format!("/app/hello/i{}", 100 + number), "", &all)
    });
    volley(&mut at_once, Duration::from_secs(5));
    let path = "/app/hello/i200";
    let step = |number: usize| one(aim, patch(path, "", &body(number * 30, 30)));
    let more: Vec<Shot> = (0..10).map(step).collect();
    Ok([
        judged("at once", &at_once, &["413 ", "422 labels_limit"])?,
        judged("the first", &more[..1], &["200"])?,
        judged("more and more", &more[2..], &["422 labels_limit"])?,
    ]
    .join("; "))
}

/// Entries of ConfigMaps that are no templates.
pub(crate) fn notes(aim: &Aim) -> Result<String, String> {
    sleep(aim.hold);
    judged("types", &[one(aim, get("/app", ""))], &["200"])
}

/// More types than are kept. Metrics, the list of types and errors name those that are.
pub(crate) fn crumbs(aim: &Aim) -> Result<String, String> {
    sleep(aim.hold);
    let types = one(aim, get("/app", ""));
    let unknown = one(aim, get("/app/nosuch/i", ""));
    let mut scrapes = shots(aim, 20, |_| get("/metrics", ""));
    volley(&mut scrapes, Duration::from_secs(5));
    Ok([
        judged("types", &[types], &["200"])?,
        judged("no such type", &[unknown], &["404 unknown_type"])?,
        judged("metrics", &scrapes, &["200", "429 ", "503 "])?,
    ]
    .join("; "))
}

/// Every response of the API server has no end, while callers start, label and stop.
pub(crate) fn endless(aim: &Aim) -> Result<String, String> {
    let mut all = shots(aim, 60, |number| match number % 3 {
        0 => get(&format!("/app/hello/e{number}"), "Prefer: wait=4\r\n"),
        1 => patch(&format!("/app/hello/i{number}"), "", br#"{"a":"b"}"#),
        _ => format!("DELETE /app/hello/i{number} HTTP/1.1\r\nHost: attack\r\n\r\n").into_bytes(),
    });
    volley(&mut all, MEANWHILE);
    let accepted = ["200", "202", "404", "open", "503 "];
    judged("asked", &all, &accepted)
}

/// The API server changes a ConfigMap, or closes watches, again and again.
pub(crate) fn meanwhile(_: &Aim) -> Result<String, String> {
    sleep(MEANWHILE);
    Ok(format!("{} s", MEANWHILE.as_secs()))
}
