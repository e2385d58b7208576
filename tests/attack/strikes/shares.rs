//! Strikes at the share of others: one caller takes all places, all callers want one name.

use super::Aim;
use super::connections::attacker;
use super::held::{patch, shots};
use super::kubernetes::one;
use super::tokens::{self, BOUND};
use super::volley::{Shot, judged, volley};
use crate::client::get;
use std::time::{Duration, Instant};

/// Labels that callers set at the same time: as many as an instance may have, with some to spare.
const KEYS: usize = 50;

/// What anybody else's start, PATCH and DELETE may take together.
const OTHERS_MAX: Duration = Duration::from_secs(5);

/// One caller waits for as many instances as there are places; another one is served.
fn take_all(aim: &Aim, taker: &str, other: &str) -> Result<String, String> {
    let request = |number| {
        let path = format!("/app/never/k{number}");
        get(&path, &format!("Prefer: wait=300\r\n{taker}"))
    };
    // From one address, whoever it says it is.
    let shot = |number| Shot::new(aim.address, attacker(0), request(number));
    let mut all: Vec<Shot> = (0..6_000).map(shot).collect();
    volley(&mut all, Duration::from_secs(3));
    let begun = Instant::now();
    let path = "/app/hello/others";
    let start = one(aim, get(path, &format!("Prefer: wait=5\r\n{other}")));
    let label = one(aim, patch(path, other, br#"{"a":"b"}"#));
    let stop = format!("DELETE {path} HTTP/1.1\r\nHost: attack\r\n{other}\r\n").into_bytes();
    let served = [start, label, one(aim, stop)];
    let took = begun.elapsed();
    volley(&mut all, Duration::from_millis(100));
    let taken = judged("one caller", &all, &["open", "429 ", "503 "])?;
    let others = judged("start, PATCH, DELETE of another", &served, &["200"]);
    let seen = |others| format!("{taken}; {others} in {} ms", took.as_millis());
    match others {
        Ok(others) if took <= OTHERS_MAX => Ok(seen(others)),
        Ok(others) | Err(others) => Err(seen(others)),
    }
}

/// By token: one for one type.
pub(crate) fn by_token(aim: &Aim) -> Result<String, String> {
    take_all(aim, &tokens::line(BOUND), &tokens::line(&tokens::good(1)))
}

/// By address, where nobody has a token.
pub(crate) fn by_address(aim: &Aim) -> Result<String, String> {
    take_all(aim, "", "")
}

/// PATCHes of one name, all at once: each is done, none is lost.
pub(crate) fn one_name(aim: &Aim) -> Result<String, String> {
    let path = "/app/hello/i5";
    let body = |number: usize| format!("{{\"key{}\":\"v{}\"}}", number % KEYS, number % KEYS);
    let mut all: Vec<Shot> = shots(aim, 500, |number| patch(path, "", body(number).as_bytes()));
    volley(&mut all, Duration::from_secs(20));
    let seen = judged("asked", &all, &["200"])?;
    // As long as other attacks, so that the client beside it is measured as there.
    std::thread::sleep(aim.hold);
    let instance = one(aim, get(path, "")).body();
    let has = |key: &usize| instance[format!("key{key}")] == format!("v{key}").as_str();
    match (0..KEYS).filter(has).count() {
        KEYS => Ok(format!("{seen}; all labels are there")),
        count => Err(format!("{seen}; only {count} of {KEYS} labels are there")),
    }
}
