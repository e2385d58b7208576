//! Strikes at the share of others: few callers take all places or connections, all callers want one
//! name.

use super::Aim;
use super::connections::{attacker, tally};
use super::held::{patch, shots};
use super::kubernetes::one;
use super::tokens::{self, BOUND};
use super::volley::{Shot, judged, volley};
use crate::client::{self, get};
use std::time::{Duration, Instant};

/// Labels that callers set at the same time: as many as an instance may have, with some to spare.
const KEYS: usize = 50;

/// What anybody else's start, PATCH and DELETE may take together.
const OTHERS_MAX: Duration = Duration::from_secs(5);

/// How long starts may go on until they are refused.
const STARTS_MAX: Duration = Duration::from_secs(60);

/// So many callers, each from one address, wait for so many instances each: together for as many
/// as there are places. Another one is served.
fn take_all(
    aim: &Aim,
    (callers, each): (usize, usize),
    taker: &str,
    other: &str,
) -> Result<String, String> {
    let request = |number| {
        let path = format!("/app/never/k{number}");
        get(&path, &format!("Prefer: wait=300\r\n{taker}"))
    };
    let shot = |number| Shot::new(aim.address, attacker(number / each), request(number));
    let mut all: Vec<Shot> = (0..callers * each).map(shot).collect();
    volley(&mut all, Duration::from_secs(3));
    let begun = Instant::now();
    let path = "/app/hello/others";
    let start = one(aim, get(path, &format!("Prefer: wait=5\r\n{other}")));
    let label = one(aim, patch(path, other, br#"{"a":"b"}"#));
    let stop = format!("DELETE {path} HTTP/1.1\r\nHost: attack\r\n{other}\r\n").into_bytes();
    let served = [start, label, one(aim, stop)];
    let took = begun.elapsed();
    volley(&mut all, Duration::from_millis(100));
    let taken = judged("they", &all, &["open", "429 ", "503 "])?;
    let others = judged("start, PATCH, DELETE of another", &served, &["200"]);
    let seen = |others| format!("{taken}; {others} in {} ms", took.as_millis());
    match others {
        Ok(others) if took <= OTHERS_MAX => Ok(seen(others)),
        Ok(others) | Err(others) => Err(seen(others)),
    }
}

/// By token: one for one type.
pub(crate) fn by_token(aim: &Aim) -> Result<String, String> {
    take_all(
        aim,
        (1, 6_000),
        &tokens::line(BOUND),
        &tokens::line(&tokens::good(1)),
    )
}

/// By address, where nobody has a token.
pub(crate) fn by_address(aim: &Aim) -> Result<String, String> {
    take_all(aim, (1, 6_000), "", "")
}

/// Instances until they take all memory for them; one that is there is still returned, and stopped.
pub(crate) fn endless_starts(aim: &Aim) -> Result<String, String> {
    const AT_ONCE: usize = 100;
    let connect = |number| {
        let from = attacker(1 + number / 1_900);
        client::connect(aim.address, from, Duration::from_millis(500)).ok()
    };
    let held: Vec<_> = (0..3_900_usize).filter_map(connect).collect();
    let name = "n".repeat(232);
    let (mut started, mut refused) = (0, 0);
    let begun = Instant::now();
    while refused == 0 && begun.elapsed() < STARTS_MAX {
        let request = |number| {
            let path = format!("/app/never/{name}{}", started + number);
            get(&path, "Prefer: wait=0\r\nConnection: close\r\n")
        };
        let shot = |number| Shot::new(aim.address, attacker(0), request(number));
        let mut all: Vec<Shot> = (0..AT_ONCE).map(shot).collect();
        volley(&mut all, Duration::from_secs(5));
        judged("starts", &all, &["202", "429 ", "503 overloaded"])?;
        started += all.iter().filter(|shot| shot.is_of("202")).count();
        refused = all
            .iter()
            .filter(|shot| shot.is_of("429 limit_reached"))
            .count();
    }
    let path = "/app/hello/i7";
    let stop = format!("DELETE {path} HTTP/1.1\r\nHost: attack\r\n\r\n").into_bytes();
    let served = [one(aim, get(path, "")), one(aim, stop)];
    let served = judged("GET, DELETE of an instance", &served, &["200"])?;
    match refused {
        0 => Err(format!(
            "{started} started, none refused beside {} connections",
            held.len()
        )),
        _ => Ok(format!(
            "{started} started beside {} connections, then 429 limit_reached; {served}",
            held.len()
        )),
    }
}

/// By address; each of the two is below half of all places until they meet.
pub(crate) fn by_two(aim: &Aim) -> Result<String, String> {
    take_all(aim, (2, 3_500), "", "")
}

/// Connections from addresses of which two could have all there are; a third is served.
pub(crate) fn connections(aim: &Aim) -> Result<String, String> {
    const EACH: usize = 8_000;
    let connect = |number| {
        let from = attacker(number / EACH);
        client::connect(aim.address, from, Duration::from_millis(500)).ok()
    };
    let held: Vec<_> = (0..2 * EACH - 3_000).filter_map(connect).collect();
    std::thread::sleep(Duration::from_secs(1));
    let paths = [&aim.live, "/app/hello/i1", "/app/hello/others"];
    let served = paths.map(|path| one(aim, get(path, "Prefer: wait=5\r\n")));
    std::thread::sleep(aim.hold);
    let seen = format!("{}: {}", held.len(), tally(&held));
    let others = judged("/livez, an instance, a start of another", &served, &["200"]);
    others
        .map(|others| format!("{seen}; {others}"))
        .map_err(|others| format!("{seen}; {others}"))
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
