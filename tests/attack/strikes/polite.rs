//! No attacks: what ordinary clients do, and stock tiny_http does not take well.

use super::Aim;
use super::connections::attacker;
use crate::client::{Client, get};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(2);

/// So many clients, each with one connection, ask at the same time, again and again; how many of
/// them have had a response.
fn keep_alive(aim: &Aim, clients: usize) -> Result<String, String> {
    let served = AtomicUsize::new(0);
    let start = Barrier::new(clients);
    let request = get(&aim.path, "");
    std::thread::scope(|scope| {
        for _ in 0..clients {
            let client = || {
                start.wait();
                let Ok(mut client) = Client::new(aim.address, attacker(0), TIMEOUT) else {
                    return;
                };
                let deadline = Instant::now() + TIMEOUT;
                let mut responses = 0;
                while Instant::now() < deadline && client.ask(&request).is_ok() {
                    responses += 1;
                }
                served.fetch_add(usize::from(responses > 0), Ordering::SeqCst);
            };
            let thread = std::thread::Builder::new().stack_size(64 << 10);
            thread.spawn_scoped(scope, client).expect("a thread");
        }
    });
    Ok(format!("{} of {clients} served", served.into_inner()))
}

pub(crate) fn keep_alive_64(aim: &Aim) -> Result<String, String> {
    keep_alive(aim, 64)
}

pub(crate) fn keep_alive_256(aim: &Aim) -> Result<String, String> {
    keep_alive(aim, 256)
}

pub(crate) fn medium_responses(aim: &Aim) -> Result<String, String> {
    let client = Client::new(aim.address, attacker(0), TIMEOUT);
    let mut client = client.map_err(|error| format!("no connection: {error}"))?;
    let request = get(&aim.medium, "");
    let mut times = Vec::new();
    let mut length = 0;
    for _ in 0..50 {
        let begun = Instant::now();
        let response = client.ask(&request);
        (_, length) = response.map_err(|error| format!("no response: {error}"))?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let median = times[times.len() / 2].as_secs_f64() * 1000.0;
    Ok(format!("{length} bytes in {median:.2} ms (median)"))
}
