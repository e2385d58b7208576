//! The tokens that strikes use, and strikes with wrong ones.

use super::connections::attacker;
use super::volley::{Shot, judged, volley};
use super::{Aim, Auth};
use crate::client::get;
use crate::environment::OURSELVES;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

/// How many good tokens there are; that of the well-behaved client is the first.
pub(crate) const GOOD: usize = 31;

/// A token for the type `never` only (with [`Auth::Token`]).
pub(crate) const BOUND: &str = "bound-0123456789abcdef";

const WRONG: &str = "wrong-0123456789abcdef";

/// A token for all types.
pub(crate) fn good(number: usize) -> String {
    format!("good-{number}-0123456789abcdef")
}

/// The header line of a token, with its end.
pub(crate) fn line(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// The file of `AUTH_TOKENS_FILE`.
pub(crate) fn file() -> String {
    let mut text = format!("{BOUND} bound never\n");
    for number in 0..GOOD {
        let _ = writeln!(text, "{} good{number}", good(number));
    }
    text
}

/// The header lines of the well-behaved client.
pub(crate) fn lines(auth: Auth) -> String {
    match auth {
        Auth::None => String::new(),
        Auth::Token | Auth::Kubernetes => line(&good(0)),
    }
}

/// Sends requests with these tokens one after the other; how often each result was seen.
fn ask(aim: &Aim, from: impl Fn(usize) -> Ipv4Addr, tokens: &[String]) -> Vec<Shot> {
    let shoot = |(number, token): (usize, &String)| {
        let request = get(&aim.path, &line(token));
        let mut shot = Shot::new(aim.address, from(number), request);
        shot.finish(Duration::from_secs(5));
        // Others may need its place.
        shot.hang_up();
        shot
    };
    tokens.iter().enumerate().map(shoot).collect()
}

/// Wrong tokens of one address between good ones of the same.
pub(crate) fn from_one_address(aim: &Aim) -> Result<String, String> {
    let good: Vec<String> = (1..GOOD).map(good).collect();
    let wrong: Vec<String> = (0..25).map(|number| format!("{WRONG}{number}")).collect();
    let here = |_| attacker(0);
    let before = judged("good", &ask(aim, here, &good), &["200"])?;
    let wrong = judged("then wrong", &ask(aim, here, &wrong), &["401 ", "429 "])?;
    let after = judged("then good again", &ask(aim, here, &good), &["200"]);
    let seen = format!("{before}; {wrong}");
    match after {
        Ok(after) => Ok(format!("{seen}; {after}")),
        Err(after) => Err(format!("{seen}; {after}")),
    }
}

/// A wrong token from each of many addresses, then good ones from others.
pub(crate) fn from_many_addresses(aim: &Aim) -> Result<String, String> {
    let number = |number: usize| u8::try_from(number % 250 + 1).unwrap_or(1);
    let many = |n: usize| Ipv4Addr::new(127, 20, number(n / 250), number(n));
    let others = |n: usize| Ipv4Addr::new(127, 21, 0, number(n));
    let wrong = judged(
        "wrong",
        &ask(aim, many, &vec![WRONG.to_owned(); 4_300]),
        &["401 ", "429 "],
    )?;
    let tokens: Vec<String> = (1..GOOD).map(good).collect();
    let here = judged(
        "good from ourselves",
        &ask(aim, |_| OURSELVES, &tokens),
        &["200"],
    )?;
    let good = judged("good from others", &ask(aim, others, &tokens), &["200"])
        .map_err(|problem| format!("{wrong}; {here}; {problem}"))?;
    Ok(format!("{wrong}; {here}; {good}"))
}

/// Wrong tokens of one address, first each another one, then all the same, while the API server
/// reviews slowly; meanwhile good ones that are new, each from another address.
pub(crate) fn in_review(aim: &Aim) -> Result<String, String> {
    let mut seen = Vec::new();
    let floods = [("each another", 192), ("all the same", 750)];
    for (number, (what, count)) in floods.into_iter().enumerate() {
        let shoot = |wrong: usize| {
            // Each another one, or one for all.
            let token = format!("{WRONG}-{number}-{}", wrong * (1 - number));
            let request = get(&aim.path, &line(&token));
            Shot::new(aim.address, attacker(number), request)
        };
        let mut wrong: Vec<Shot> = (0..count).map(shoot).collect();
        volley(&mut wrong, Duration::from_millis(200));
        let good = [good(2 * number + 1), good(2 * number + 2)];
        let others = |other: usize| attacker(10 + 2 * number + other);
        let good = judged("new good ones", &ask(aim, others, &good), &["200"]);
        volley(&mut wrong, Duration::from_secs(8));
        let wrong = judged(what, &wrong, &["401 ", "429 ", "503 "]);
        seen.push(format!("{}; {}", wrong?, good?));
    }
    Ok(seen.join("; "))
}
