//! Strikes with large responses, and with requests that cost the service much: none may be cut, and
//! none may delay others.

use super::Aim;
use super::connections::attacker;
use super::held::{patch, shots};
use super::kubernetes::one;
use super::volley::{Shot, judged, paced, volley};
use crate::client::get;
use crate::environment::OURSELVES;
use std::time::{Duration, Instant};

/// How long templates are read while they change.
const MEANWHILE: Duration = Duration::from_secs(8);

/// So many read the list of all instances, each this slowly.
fn read(aim: &Aim, readers: usize, bytes_a_second: usize) -> Result<String, String> {
    let request = get(&aim.large, "");
    let shot = |_| Shot::narrow(aim.address, attacker(0), request.clone());
    let mut all: Vec<Shot> = (0..readers).map(shot).collect();
    let begun = Instant::now();
    paced(&mut all, Duration::from_secs(25), bytes_a_second);
    let seen = judged("read", &all, &["200", "429 ", "503 "])?;
    let seen = format!("{seen} in {:.1} s", begun.elapsed().as_secs_f64());
    served(
        all.iter().filter(|shot| shot.result() == "200").count(),
        seen,
    )
}

/// What was seen, if anybody was served: a service that refuses everybody withstands nothing.
fn served(count: usize, seen: String) -> Result<String, String> {
    match count {
        0 => Err(format!("{seen} (nobody was served)")),
        _ => Ok(seen),
    }
}

/// So many read the list from one address, each this slowly and each another version of it, since
/// their caller changes an instance all the time. Somebody else gets the current list each time.
pub(crate) fn of_old_lists(aim: &Aim) -> Result<String, String> {
    const READERS: usize = 30;
    const PACE: usize = 2_000;
    /// What somebody else's list may take.
    const LONGEST: Duration = Duration::from_secs(2);
    // Its entry is at the beginning of the list.
    let path = "/app/hello/i1";
    let list = get(&aim.large, "");
    let deadline = Instant::now() + aim.hold.max(Duration::from_secs(6));
    let mut slow: Vec<Shot> = Vec::new();
    let (mut others, mut old, mut longest) = (Vec::new(), 0, Duration::ZERO);
    for version in 0.. {
        if Instant::now() > deadline {
            break;
        }
        let next = Instant::now() + Duration::from_millis(50);
        let body = format!("{{\"version\":\"v{version}x\"}}");
        let change = Shot::new(aim.address, attacker(0), patch(path, "", body.as_bytes()));
        let mut change = [change];
        volley(&mut change, Duration::from_secs(5));
        judged("changed", &change, &["200"])?;
        if slow.len() < READERS {
            slow.push(Shot::narrow(aim.address, attacker(0), list.clone()));
        }
        paced(&mut slow, Duration::ZERO, PACE);
        if version % 5 == 4 {
            let other = one(aim, list.clone());
            longest = longest.max(other.took.unwrap_or(Duration::MAX));
            let is_current = other.shows(&format!("\"version\":\"v{version}x\""));
            old += usize::from(!is_current);
            others.push(other);
        }
        let left = next.saturating_duration_since(Instant::now());
        paced(&mut slow, left, PACE);
    }
    let slow = judged("slow", &slow, &["200", "slow after 200", "429 ", "open"])?;
    let others = judged("others", &others, &["200"]).map_err(|wrong| format!("{slow}; {wrong}"))?;
    let seen = format!("{slow}; {others} in {} ms at most", longest.as_millis());
    match old {
        0 if longest <= LONGEST => Ok(seen),
        old => Err(format!("{seen}, {old} of them out of date")),
    }
}

/// From each of so many addresses one reads a version of its own of the list, slowly: together as many
/// versions as fit. Somebody else gets the current list each time, perhaps later.
pub(crate) fn of_old_lists_from_many(aim: &Aim) -> Result<String, String> {
    const READERS: usize = 8;
    const PACE: usize = 15_000;
    const LISTS: usize = 4;
    const LONGEST: Duration = Duration::from_secs(13);
    let path = "/app/hello/i1";
    let list = get(&aim.large, "");
    let (mut slow, mut others) = (Vec::new(), Vec::new());
    for version in 0..READERS + LISTS {
        let body = format!("{{\"version\":\"v{version}x\"}}");
        let change = one(aim, patch(path, "", body.as_bytes()));
        judged("changed", &[change], &["200"])?;
        if version < READERS {
            slow.push(Shot::narrow(aim.address, attacker(version), list.clone()));
            paced(&mut slow, Duration::from_millis(200), PACE);
            continue;
        }
        let mut other = [Shot::new(aim.address, OURSELVES, list.clone())];
        let deadline = Instant::now() + LONGEST;
        while other[0].took.is_none() && Instant::now() < deadline {
            paced(&mut slow, Duration::from_millis(20), PACE);
            volley(&mut other, Duration::ZERO);
        }
        others.extend(other);
    }
    let slow = judged(
        "slow",
        &slow,
        &["slow after 200", "cut after 200", "429 ", "open", "503 "],
    )?;
    let longest = others.iter().filter_map(|other| other.took).max();
    let others = judged("others", &others, &["200"]).map_err(|wrong| format!("{slow}; {wrong}"))?;
    let longest = longest.unwrap_or_default().as_secs_f64();
    Ok(format!("{slow}; {others} in {longest:.1} s at most"))
}

/// Bodies that do not end fill what may be held from three addresses. Somebody else gets the list
/// after each change.
pub(crate) fn beside_bodies(aim: &Aim) -> Result<String, String> {
    const BODIES: usize = 2_400;
    const ROUNDS: usize = 20;
    let path = "/app/hello/i1";
    let mut body = patch(path, "", &[b'y'; 60_000]);
    body.truncate(20_000);
    let from = |number: usize| attacker(number * 3 / BODIES);
    let shot = |number| Shot::new(aim.address, from(number), body.clone());
    let mut bodies: Vec<Shot> = (0..BODIES).map(shot).collect();
    volley(&mut bodies, Duration::from_secs(2));
    let mut others = Vec::new();
    for version in 0..ROUNDS {
        let body = format!("{{\"version\":\"v{version}x\"}}");
        let change = one(aim, patch(path, "", body.as_bytes()));
        judged("changed", &[change], &["200"])?;
        others.push(one(aim, get(&aim.large, "")));
        volley(&mut bodies, Duration::from_millis(50));
    }
    let bodies = judged("bodies", &bodies, &["open", "429 ", "503 "])?;
    let lists = judged("lists", &others, &["200"]).map_err(|wrong| format!("{bodies}; {wrong}"))?;
    Ok(format!("{bodies}; {lists}"))
}

pub(crate) fn slowly(aim: &Aim) -> Result<String, String> {
    read(aim, 60, 250_000)
}

/// For a response that takes minutes at the pace of the others.
pub(crate) fn steadily(aim: &Aim) -> Result<String, String> {
    read(aim, 12, 2_000_000)
}

/// So many clients ask for this again and again, each as soon as it has its response.
fn poll(aim: &Aim, clients: usize, path: &str, status: &str) -> Result<String, String> {
    let mut all = shots(aim, clients, |_| get(path, ""));
    let deadline = Instant::now() + aim.hold.max(Duration::from_secs(3));
    let (mut responses, mut whole) = (0, 0);
    while Instant::now() < deadline {
        for shot in &mut all {
            if shot.is_whole() {
                judged(
                    "asked",
                    std::slice::from_ref(shot),
                    &[status, "429 ", "503 "],
                )?;
                responses += 1;
                whole += usize::from(shot.is_of(status));
                shot.again();
            }
        }
        volley(&mut all, Duration::ZERO);
    }
    let seen = judged(
        "last",
        &all,
        &[status, "429 ", "503 ", "open", "slow after 200"],
    )?;
    served(
        whole,
        format!(
            "{responses} responses, {whole} with {}; {seen}",
            status.trim()
        ),
    )
}

/// What is known of templates with long texts: so many read it slowly, and others again and again, while
/// it changes.
pub(crate) fn of_templates(aim: &Aim) -> Result<String, String> {
    const SLOW: usize = 60;
    const PACE: usize = 20_000;
    const FAST: usize = 40;
    let list = get("/templates", "");
    let narrow = |_| Shot::narrow(aim.address, attacker(0), list.clone());
    let mut slow: Vec<Shot> = (0..SLOW).map(narrow).collect();
    let mut fast: Vec<Shot> = (0..FAST)
        .map(|number| Shot::new(aim.address, attacker(1 + number % 4), list.clone()))
        .collect();
    let deadline = Instant::now() + aim.hold.max(MEANWHILE);
    let (mut whole, mut refused) = (0, 0);
    while Instant::now() < deadline {
        for shot in fast.iter_mut().filter(|shot| shot.is_whole()) {
            let of_one = std::slice::from_ref(shot);
            judged("asked", of_one, &["200", "429 ", "503 "])?;
            whole += usize::from(shot.is_of("200"));
            refused += usize::from(!shot.is_of("200"));
            shot.again();
        }
        volley(&mut fast, Duration::ZERO);
        paced(&mut slow, Duration::ZERO, PACE);
    }
    let one = judged("somebody else", &[one(aim, list)], &["200"])?;
    let slow = judged(
        "slow",
        &slow,
        &[
            "200",
            "slow after 200",
            "cut after 200",
            "429 ",
            "open",
            "503 ",
        ],
    )?;
    served(
        whole,
        format!("{whole} × 200, {refused} refused; {one}; {slow}"),
    )
}

/// A name that nothing has.
pub(crate) fn nosuch(aim: &Aim) -> Result<String, String> {
    poll(aim, 4, "/release/nosuch", "404 ")
}

pub(crate) fn lists(aim: &Aim) -> Result<String, String> {
    poll(aim, 4, &aim.large, "200")
}

pub(crate) fn many_lists(aim: &Aim) -> Result<String, String> {
    poll(aim, 300, &aim.large, "200")
}
