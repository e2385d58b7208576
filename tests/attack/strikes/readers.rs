//! Strikes with large responses, and with requests that cost the service much: none may be cut, and
//! none may delay others.

use super::Aim;
use super::connections::attacker;
use super::held::shots;
use super::volley::{Shot, judged, paced, volley};
use crate::client::get;
use std::time::{Duration, Instant};

/// So many read the list of all instances, each this slowly.
fn read(aim: &Aim, readers: usize, bytes_a_second: usize) -> Result<String, String> {
    let request = get(&aim.large, "");
    let shot = |_| Shot::narrow(aim.address, attacker(0), request.clone());
    let mut all: Vec<Shot> = (0..readers).map(shot).collect();
    let begun = Instant::now();
    paced(&mut all, Duration::from_secs(25), bytes_a_second);
    let seen = judged("read", &all, &["200", "429 ", "503 "])?;
    Ok(format!("{seen} in {:.1} s", begun.elapsed().as_secs_f64()))
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
    let mut responses = 0;
    while Instant::now() < deadline {
        for shot in &mut all {
            if shot.is_whole() {
                judged(
                    "asked",
                    std::slice::from_ref(shot),
                    &[status, "429 ", "503 "],
                )?;
                responses += 1;
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
    Ok(format!("{responses} responses; {seen}"))
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
