//! Strikes with requests: false lengths, missing bodies, waiting requests, other protocols.

use super::Aim;
use super::connections::{attacker, crowd, received, tally};
use crate::client::{self, get};
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

/// Sends a message on each stream; closed ones are counted elsewhere.
fn send(streams: &[TcpStream], message: impl Fn(usize) -> Vec<u8>) {
    for (number, mut stream) in streams.iter().enumerate() {
        let _ = stream.write_all(&message(number));
    }
}

pub(crate) fn length(aim: &Aim) -> Result<String, String> {
    let mut statuses = Vec::new();
    for length in ["100000000000", "9000000000000000000"] {
        for path in ["/app", "/nothing", "/"] {
            let Ok(mut stream) = client::connect(aim.address, attacker(0), Duration::from_secs(1))
            else {
                statuses.push("no connection".to_owned());
                continue;
            };
            let request =
                format!("POST {path} HTTP/1.1\r\nHost: attack\r\nContent-Length: {length}\r\n\r\n");
            let _ = stream.write_all(request.as_bytes());
            std::thread::sleep(Duration::from_millis(300));
            statuses.push(match client::statuses(&received(&stream).0)[..] {
                [status, ..] => status.to_string(),
                [] => "nothing".to_owned(),
            });
        }
    }
    statuses.dedup();
    Ok(format!("status {}", statuses.join(", then ")))
}

/// Requests for instances that never become ready, ten names.
fn park(aim: &Aim, count: usize) -> Result<String, String> {
    let streams = crowd(aim, count);
    send(&streams, |number| {
        let path = format!("/app/never/p{}", number % 10);
        get(&path, "Prefer: wait=60\r\n")
    });
    std::thread::sleep(aim.hold + Duration::from_secs(1));
    Ok(format!("{} asked: {}", streams.len(), tally(&streams)))
}

pub(crate) fn parked(aim: &Aim) -> Result<String, String> {
    park(aim, 5_000)
}

pub(crate) fn overparked(aim: &Aim) -> Result<String, String> {
    park(aim, 7_000)
}

pub(crate) fn bodies(aim: &Aim) -> Result<String, String> {
    let streams = crowd(aim, 500);
    send(&streams, |_| {
        b"POST /app HTTP/1.1\r\nHost: attack\r\nContent-Length: 2000\r\n\r\n".to_vec()
    });
    std::thread::sleep(aim.hold);
    Ok(tally(&streams))
}

pub(crate) fn http2(aim: &Aim) -> Result<String, String> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for number in 0..200 {
        let stream = client::connect(aim.address, attacker(number), Duration::from_secs(1));
        if let Ok(mut stream) = stream {
            let _ = stream.write_all(PREFACE);
        }
    }
    let streams = crowd(aim, 1);
    send(&streams, |_| PREFACE.to_vec());
    std::thread::sleep(Duration::from_millis(500));
    Ok(tally(&streams))
}

pub(crate) fn refused(aim: &Aim) -> Result<String, String> {
    let streams = crowd(aim, 1_000);
    send(&streams, |_| {
        let mut message =
            b"POST /app HTTP/1.1\r\nHost: attack\r\nContent-Length: 1048577\r\n\r\n".to_vec();
        message.resize(20_000, b'x');
        message
    });
    std::thread::sleep(Duration::from_secs(2));
    Ok(tally(&streams))
}
