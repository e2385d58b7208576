//! Strikes with responses that go on: streams of events, followed logs; and with the routes over all
//! instances, and pages.
//!
//! While streams are open, somebody else starts and stops instances, so that there are events.

use super::Aim;
use super::connections::attacker;
use super::kubernetes::one;
use super::volley::{Shot, judged, paced, volley};
use crate::client::get;
use crate::environment::OURSELVES;
use std::time::{Duration, Instant};

/// Streams that are held at the same time.
const STREAMS: usize = 2_000;

/// Addresses that they come from.
const ADDRESSES: usize = 8;

/// How long streams are held.
const HELD: Duration = Duration::from_secs(14);

/// What anybody else's request may take beside them.
const OTHERS_MAX: Duration = Duration::from_secs(5);

const EVENTS: &str = "Accept: text/event-stream\r\n";

/// What may become of a stream: refused for lack of room, open, or ended.
const OF_STREAMS: &[&str] = &["429 ", "503 ", "open", "streams", "streamed"];

/// So many, spread over the addresses.
fn crowd(aim: &Aim, count: usize, request: impl Fn(usize) -> Vec<u8>) -> Vec<Shot> {
    let shot = |number: usize| {
        let from = attacker(number * ADDRESSES / count);
        Shot::narrow(aim.address, from, request(number))
    };
    (0..count).map(shot).collect()
}

/// Somebody else's instance is started and stopped, each time anew, until the strike is over; meanwhile
/// `between` is called again and again. What they were answered, and the longest time.
fn beside(
    aim: &Aim,
    time: Duration,
    mut between: impl FnMut(),
) -> Result<(String, Duration), String> {
    let deadline = Instant::now() + time;
    let (mut served, mut longest) = (Vec::new(), Duration::ZERO);
    for number in 0.. {
        if Instant::now() > deadline {
            break;
        }
        let path = format!("/app/hello/beside{number}");
        let stop = format!("DELETE {path} HTTP/1.1\r\nHost: attack\r\n\r\n").into_bytes();
        for request in [get(&path, "Prefer: wait=5\r\n"), stop] {
            let mut shot = Shot::new(aim.address, OURSELVES, request);
            let patience = Instant::now() + Duration::from_secs(10);
            while shot.took.is_none() && Instant::now() < patience {
                shot.turn(usize::MAX);
                between();
                std::thread::sleep(Duration::from_millis(1));
            }
            longest = longest.max(shot.took.unwrap_or(Duration::MAX));
            // Otherwise the connections of this caller come to their bound.
            shot.hang_up();
            served.push(shot);
        }
    }
    let seen = judged("starts and stops of another", &served, &["200"])?;
    Ok((seen, longest))
}

/// The summary, if somebody's stream began and others were served in time.
fn summary(
    what: &str,
    all: &[Shot],
    others: Result<(String, Duration), String>,
) -> Result<String, String> {
    let (others, longest) = others?;
    let seen = judged(what, all, OF_STREAMS)?;
    let seen = format!("{seen}; {others} in {} ms at most", longest.as_millis());
    let begun = |shot: &&Shot| shot.is_of("streams") || shot.is_of("streamed");
    match all.iter().filter(begun).count() {
        0 => Err(format!("{seen} (no stream began)")),
        _ if longest > OTHERS_MAX => Err(format!("{seen} (at most {OTHERS_MAX:?})")),
        _ => Ok(seen),
    }
}

/// Nobody reads.
pub(crate) fn unread(aim: &Aim) -> Result<String, String> {
    let mut all = crowd(aim, STREAMS, |_| get("/instances", EVENTS));
    paced(&mut all, Duration::ZERO, 0);
    let others = beside(aim, HELD, || ());
    volley(&mut all, Duration::from_secs(2));
    summary("streams", &all, others)
}

/// Each reads a byte at a time.
pub(crate) fn by_byte(aim: &Aim) -> Result<String, String> {
    let mut all = crowd(aim, STREAMS, |_| get("/instances", EVENTS));
    let others = beside(aim, HELD, || all.iter_mut().for_each(|shot| shot.turn(1)));
    volley(&mut all, Duration::from_secs(2));
    summary("streams", &all, others)
}

/// They come again and again, each with the ID of an event that nobody knows, and get the state of all.
pub(crate) fn reconnects(aim: &Aim) -> Result<String, String> {
    const AT_ONCE: usize = 400;
    /// How long each of them stays.
    const STAY: Duration = Duration::from_millis(500);
    let lines = format!("{EVENTS}Last-Event-ID: another.1.7\r\n");
    let request = get("/instances", &lines);
    let come = || crowd(aim, AT_ONCE, |_| request.clone());
    let (mut begun, mut refused) = (0, 0);
    let (mut all, mut since) = (come(), Instant::now());
    let others = beside(aim, HELD, || {
        if since.elapsed() > STAY {
            begun += all.iter().filter(|shot| shot.is_of("streams")).count();
            let is_refused = |shot: &&Shot| shot.is_of("429 ") || shot.is_of("503 ");
            refused += all.iter().filter(is_refused).count();
            (all, since) = (come(), Instant::now());
        }
        volley(&mut all, Duration::ZERO);
    });
    volley(&mut all, STAY);
    let seen = summary("last", &all, others)?;
    Ok(format!("{begun} begun before, {refused} refused; {seen}"))
}

/// Streams of starts that never become ready, each of another name.
pub(crate) fn of_starts(aim: &Aim) -> Result<String, String> {
    let request = |number| {
        let lines = format!("{EVENTS}Prefer: wait=300\r\n");
        get(&format!("/app/never/s{number}"), &lines)
    };
    let mut all = crowd(aim, STREAMS, request);
    let others = beside(aim, HELD, || volley(&mut all, Duration::ZERO));
    summary("streams", &all, others)
}

const FOLLOW: &str = "/app/hello/i1/logs?follow=true";

/// More than there are threads follow a log; once they are gone somebody else reads one.
fn follow(aim: &Aim, count: usize, read: impl Fn(&mut [Shot])) -> Result<String, String> {
    let mut all = crowd(aim, count, |_| get(FOLLOW, ""));
    let others = beside(aim, HELD, || read(&mut all));
    volley(&mut all, Duration::from_secs(1));
    let seen = summary("followers", &all, others)?;
    all.iter().for_each(Shot::hang_up);
    let begun = Instant::now();
    let read = || one(aim, get("/app/hello/i2/logs", "Connection: close\r\n"));
    let mut last = read();
    while !last.is_of("streamed") && begun.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(100));
        last = read();
    }
    let last = judged("then a log", &[last], &["streamed"])?;
    Ok(format!("{seen}; {last}"))
}

/// Each reads as fast as it can.
pub(crate) fn followers(aim: &Aim) -> Result<String, String> {
    follow(aim, 400, |all| volley(all, Duration::ZERO))
}

/// Nobody reads.
pub(crate) fn unread_logs(aim: &Aim) -> Result<String, String> {
    follow(aim, 400, |all| paced(all, Duration::ZERO, 0))
}

/// Pages with queries that no client sends, many at the same time.
pub(crate) fn odd_pages(aim: &Aim) -> Result<String, String> {
    let long = "a".repeat(4_000);
    let labels = (0..60)
        .map(|n| format!("label=k{n}%3Dv"))
        .collect::<Vec<_>>();
    let queries = [
        "limit=0".to_owned(),
        "limit=1001".to_owned(),
        "limit=-1".to_owned(),
        "limit=99999999999999999999".to_owned(),
        "limit=1&limit=1".to_owned(),
        "limit".to_owned(),
        "continue=".to_owned(),
        "continue=%00".to_owned(),
        "continue=aGVsbG8".to_owned(),
        "continue=aGVsbG8vaTE".to_owned(),
        "continue=enp6L3p6eg&limit=1000".to_owned(),
        format!("continue={long}"),
        format!("label={long}"),
        labels.join("&"),
        "label==&label=%3D".to_owned(),
        "status=ready&status=ready&status=nosuch".to_owned(),
        "type=%F0%9F%92%A9".to_owned(),
        "type=hello&type=never&type=".to_owned(),
        "nosuch=1".to_owned(),
        "%".to_owned(),
        "&&&=&=".to_owned(),
        "status=failed".to_owned(),
        "label=none".to_owned(),
    ];
    let begun = Instant::now();
    let mut asked = 0;
    // One volley alone ends before the client beside it has made enough requests for a percentile.
    let seen = loop {
        let mut all = crowd(aim, 40 * queries.len(), |number| {
            let query = &queries[number % queries.len()];
            get(&format!("/instances?{query}"), "")
        });
        volley(&mut all, Duration::from_secs(10));
        asked += all.len();
        let seen = judged("last asked", &all, &["200", "422 ", "429 ", "503 "])?;
        if begun.elapsed() >= aim.hold {
            break seen;
        }
    };
    let whole = one(aim, get("/instances?limit=1", ""));
    let whole = judged("a page", &[whole], &["200"])?;
    Ok(format!("{asked} asked; {seen}; {whole}"))
}

/// The same requests again and again, each as soon as it has its response.
fn again(aim: &Aim, requests: &[Vec<u8>], accepted: &[&str]) -> Result<String, String> {
    let shot = |number: usize| {
        let from = attacker(number % ADDRESSES);
        Shot::new(aim.address, from, requests[number % requests.len()].clone())
    };
    let mut all: Vec<Shot> = (0..300).map(shot).collect();
    let (mut responses, mut whole) = (0, 0);
    let mut wrong = Ok(String::new());
    let others = beside(aim, aim.hold.max(Duration::from_secs(5)), || {
        for shot in all.iter_mut().filter(|shot| shot.is_whole()) {
            if wrong.is_ok() {
                wrong = judged("asked", std::slice::from_ref(shot), accepted);
            }
            responses += 1;
            whole += usize::from(shot.is_of("200"));
            shot.again();
        }
        volley(&mut all, Duration::ZERO);
    });
    wrong?;
    let (others, longest) = others?;
    let seen = format!(
        "{responses} responses, {whole} with 200; {others} in {} ms at most",
        longest.as_millis()
    );
    match whole {
        0 => Err(format!("{seen} (nobody was served)")),
        _ if longest > OTHERS_MAX => Err(format!("{seen} (at most {OTHERS_MAX:?})")),
        _ => Ok(seen),
    }
}

/// Stops of many that match nothing, so that each looks at all instances.
pub(crate) fn stops(aim: &Aim) -> Result<String, String> {
    let stop = |query: &str| {
        format!("DELETE /instances?{query} HTTP/1.1\r\nHost: attack\r\n\r\n").into_bytes()
    };
    let requests = ["label=none%3Dsuch", "type=never", "status=failed&label=a"].map(stop);
    again(aim, &requests, &["200", "429 ", "503 "])
}

/// The pages for people.
pub(crate) fn pages(aim: &Aim) -> Result<String, String> {
    let requests = ["/", "/docs"].map(|path| get(path, ""));
    again(aim, &requests, &["200", "429 ", "503 "])
}
