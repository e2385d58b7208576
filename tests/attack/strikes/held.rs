//! Strikes with what a waiting request holds: its head, query, body, and the manifest of a start.

use super::Aim;
use super::connections::attacker;
use super::kubernetes::one;
use super::volley::{Shot, judged, volley};
use crate::client::get;
use crate::environment::OURSELVES;
use std::time::Duration;

/// Fewer than one address may have connections.
const PER_ADDRESS: usize = 2_000;

/// How long a start of another type may take beside many of a large one.
const OTHER_MAX: Duration = Duration::from_secs(5);

/// A PATCH with this body, and more header lines (each with its line end).
pub(crate) fn patch(path: &str, lines: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nHost: attack\r\n{lines}Content-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Shots of so many requests, from as many addresses as it takes.
pub(crate) fn shots(aim: &Aim, count: usize, request: impl Fn(usize) -> Vec<u8>) -> Vec<Shot> {
    let shot = |number| {
        let from = attacker(number / PER_ADDRESS);
        Shot::new(aim.address, from, request(number))
    };
    (0..count).map(shot).collect()
}

/// A valid body of this size, most of it blanks: 60 labels of 200 bytes.
fn padded(bytes: usize) -> Vec<u8> {
    let pair = |number| format!("\"key{number}\": \"{}\"", "v".repeat(200));
    let pairs: Vec<String> = (0..60).map(pair).collect();
    let mut body = format!("{{{}", pairs.join(", ")).into_bytes();
    body.resize(bytes - 1, b' ');
    body.push(b'}');
    body
}

/// A body of this size whose values are many and small: the most memory for the bytes.
fn crumbs(bytes: usize, open: &str, crumb: impl Fn(usize) -> String, close: &str) -> Vec<u8> {
    let mut body = open.to_owned();
    let mut number = 0;
    while body.len() + 20 < bytes {
        body.push_str(&crumb(number));
        number += 1;
    }
    (body.trim_end_matches(',').to_owned() + close).into_bytes()
}

/// Above the bound of a body, and at it; of an instance that has no pod yet, so that they wait.
pub(crate) fn patches(aim: &Aim) -> Result<String, String> {
    let path = "/app/hello/new";
    let start = one(aim, get(path, "Prefer: wait=0\r\n"));
    let start = judged("a start", &[start], &["202"])?;
    let all_above = padded(1_000_000);
    let mut above = shots(aim, 300, |_| patch(path, "", &all_above));
    volley(&mut above, Duration::from_secs(5));
    let mut at = shots(aim, 3_000, |_| patch(path, "", &padded(64 << 10)));
    volley(&mut at, aim.hold + Duration::from_secs(1));
    Ok([
        start,
        judged("of 1 MB", &above, &["413 "])?,
        judged("of 64 KiB", &at, &["open", "429 ", "503 "])?,
    ]
    .join("; "))
}

/// Bodies that cost the most to read.
pub(crate) fn values(aim: &Aim) -> Result<String, String> {
    let pairs = crumbs(64 << 10, "{", |number| format!("\"{number}\":0,"), "}");
    let list = crumbs(64 << 10, "{\"a\":[", |_| "0,".to_owned(), "]}");
    let mut all = shots(aim, 600, |number| match number % 2 {
        0 => patch("/app/hello/new", "", &pairs),
        _ => patch("/app/hello/new", "", &list),
    });
    volley(&mut all, Duration::from_secs(5));
    judged("asked", &all, &["422 ", "429 ", "503 "])
}

pub(crate) fn queries(aim: &Aim) -> Result<String, String> {
    let value = "x".repeat(15_000);
    let mut all = shots(aim, 5_900, |number| {
        let path = format!("/app/never/q{number}?x={value}");
        get(&path, "Prefer: wait=120\r\n")
    });
    volley(&mut all, aim.hold + Duration::from_secs(4));
    judged("asked", &all, &["open", "429 ", "503 "])
}

/// With a wrong token, while the API server reviews tokens slowly.
pub(crate) fn reviews(aim: &Aim) -> Result<String, String> {
    let lines = super::tokens::line("wrong-0123456789abcdef");
    let bodies = [padded(1_000_000), padded(64 << 10)];
    let mut all = shots(aim, 2_250, |number| {
        let body = &bodies[usize::from(number >= 250)];
        patch("/app/hello/new", &lines, body)
    });
    volley(&mut all, aim.hold + Duration::from_secs(2));
    judged("asked", &all, &["open", "401 ", "413 ", "429 ", "503 "])
}

/// Starts whose manifests are large, and one of another type beside them.
pub(crate) fn templates(aim: &Aim) -> Result<String, String> {
    let mut all = shots(aim, 200, |number| {
        let path = format!("/app/large/n{number}");
        get(&path, "Prefer: wait=60\r\n")
    });
    volley(&mut all, Duration::from_millis(300));
    let request = get("/app/hello/beside", "Prefer: wait=60\r\n");
    let other = Shot::new(aim.address, OURSELVES, request);
    all.push(other);
    volley(&mut all, Duration::from_secs(30));
    let other = all.pop().into_iter().collect::<Vec<Shot>>();
    let took = other.first().and_then(|shot| shot.took).unwrap_or_default();
    let beside = judged("another type", &other, &["200"])?;
    let seen = judged("started", &all, &["200", "202", "429 ", "503 "])?;
    let seen = format!("{seen}; {beside} after {} ms", took.as_millis());
    match took <= OTHER_MAX {
        true => Ok(seen),
        false => Err(format!("{seen} (at most {} s)", OTHER_MAX.as_secs())),
    }
}
