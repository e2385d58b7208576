//! Strikes with connections: many, slow, short-lived, more than files or threads allow.

use super::Aim;
use crate::client::{self, get};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use socket2::SockRef;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How many connections come from one address: so many that three have their part of all.
const PER_ADDRESS: usize = 3_500;

/// Time limit for opening a connection.
const TIMEOUT: Duration = Duration::from_millis(500);

/// The attackers' addresses; none is that of the well-behaved client. Each strike, a process of its
/// own, has others: the ports of an address are taken for a minute after thousands of connections.
pub(crate) fn attacker(number: usize) -> Ipv4Addr {
    let strike = u8::try_from(std::process::id() % 200).unwrap_or(0);
    Ipv4Addr::new(127, 3, strike, 1 + u8::try_from(number % 200).unwrap_or(0))
}

/// Opens this number of connections, or fewer: it gives up after three failures or 20 s.
pub(crate) fn crowd(aim: &Aim, count: usize) -> Vec<TcpStream> {
    crowd_by(aim, count, client::connect)
}

/// As [`crowd`], with small buffers for responses.
pub(crate) fn crowd_narrow(aim: &Aim, count: usize) -> Vec<TcpStream> {
    crowd_by(aim, count, client::connect_narrow)
}

type Connect = fn(SocketAddr, Ipv4Addr, Duration) -> std::io::Result<TcpStream>;

fn crowd_by(aim: &Aim, count: usize, connect: Connect) -> Vec<TcpStream> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut streams = Vec::with_capacity(count);
    let mut failures = 0;
    while streams.len() < count && failures < 3 && Instant::now() < deadline {
        let from = attacker(streams.len() / PER_ADDRESS);
        match connect(aim.address, from, TIMEOUT) {
            Ok(stream) => streams.push(stream),
            Err(_) => failures += 1,
        }
    }
    streams
}

/// The bytes that have arrived so far, without waiting, and whether the peer has closed.
pub(crate) fn received(mut stream: &TcpStream) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    if stream.set_nonblocking(true).is_err() {
        return (bytes, true);
    }
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (bytes, true),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return (bytes, false),
            Err(_) => return (bytes, true),
        }
    }
}

/// How many had a response (with the last status), and how many were closed.
pub(crate) fn tally(streams: &[TcpStream]) -> String {
    let (mut answered, mut closed, mut last) = (0, 0, 0);
    for stream in streams {
        let (bytes, end) = received(stream);
        if let Some(status) = client::statuses(&bytes).last() {
            answered += 1;
            last = *status;
        }
        closed += usize::from(end);
    }
    match (answered, closed) {
        (0, 0) => "all open, none answered".to_owned(),
        (0, closed) => format!("{closed} closed without a response"),
        (answered, closed) => format!("{answered} got {last}, {closed} closed"),
    }
}

pub(crate) fn idle(aim: &Aim) -> Result<String, String> {
    let streams = crowd(aim, 10_000);
    std::thread::sleep(aim.hold);
    let open = streams.iter().filter(|stream| !received(stream).1).count();
    Ok(format!("{open} held"))
}

/// From each of twenty addresses as many as it gets. New peers are still served: with the probes and the
/// well-behaved client, which are judged beside.
pub(crate) fn by_twenty(aim: &Aim) -> Result<String, String> {
    let mut streams = Vec::new();
    for number in 0..20 {
        let mut refused = 0;
        while refused < 8 && streams.len() < 8_000 {
            let Ok(stream) = client::connect(aim.address, attacker(number), TIMEOUT) else {
                break;
            };
            // A refusal comes at once.
            std::thread::sleep(Duration::from_micros(200));
            refused += usize::from(!received(&stream).0.is_empty());
            streams.push(stream);
        }
    }
    let mut served = 0;
    for number in 100..150 {
        let asked = client::connect(aim.address, attacker(number), TIMEOUT);
        let mut stream = asked.map_err(|error| format!("a new peer cannot connect: {error}"))?;
        stream
            .set_read_timeout(Some(Duration::from_secs(2)))
            .and_then(|()| stream.write_all(&get(&aim.path, "")))
            .map_err(|error| format!("a new peer is cut: {error}"))?;
        let mut start = [0; 12];
        let answered = stream.read_exact(&mut start).is_ok();
        if !answered || !start.ends_with(b"200") {
            let got = String::from_utf8_lossy(&start);
            return Err(format!("new peer {number} got {got}"));
        }
        served += 1;
    }
    std::thread::sleep(aim.hold);
    let open = streams.iter().filter(|stream| !received(stream).1).count();
    Ok(format!("{open} held, {served} of 50 new peers served"))
}

pub(crate) fn slow(aim: &Aim) -> Result<String, String> {
    let head = b"GET / HTTP/1.1\r\nHost: attack\r\nX-Slow: zzzzzzzzzzzzzzzzzzzzzzzzzzzzzz";
    let streams = crowd(aim, 5_000);
    for stream in &streams {
        let _ = stream.set_nonblocking(true);
    }
    // A head may take five seconds.
    for byte in &head[..7] {
        let begun = Instant::now();
        for mut stream in &streams {
            // One that has been closed is counted below.
            let _ = stream.write(std::slice::from_ref(byte));
        }
        std::thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
    }
    Ok(format!("{} opened: {}", streams.len(), tally(&streams)))
}

/// Calls this 2,000 times a second for a while; how often it went well, a second.
fn at_a_rate(aim: &Aim, mut act: impl FnMut(Ipv4Addr) -> bool) -> u64 {
    let begun = Instant::now();
    let (mut tried, mut done) = (0_u32, 0_u64);
    while begun.elapsed() < aim.hold {
        let due = begun.elapsed().as_millis() * 2;
        while u128::from(tried) < due && begun.elapsed() < aim.hold {
            done += u64::from(act(attacker(tried as usize)));
            tried += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    done * 1000
        / u64::try_from(begun.elapsed().as_millis())
            .unwrap_or(1)
            .max(1)
}

pub(crate) fn connects(aim: &Aim) -> Result<String, String> {
    let rate = at_a_rate(aim, |from| {
        client::connect(aim.address, from, TIMEOUT).is_ok()
    });
    Ok(format!("{rate} a second made"))
}

pub(crate) fn resets(aim: &Aim) -> Result<String, String> {
    let request = get(&aim.path, "");
    let rate = at_a_rate(aim, |from| {
        let Ok(mut stream) = client::connect(aim.address, from, TIMEOUT) else {
            return false;
        };
        // Without lingering, closing sends a reset.
        let reset = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        reset.is_ok() && stream.write_all(&request).is_ok()
    });
    Ok(format!("{rate} a second made"))
}

pub(crate) fn files(aim: &Aim) -> Result<String, String> {
    let streams = crowd(aim, 700);
    std::thread::sleep(aim.hold);
    Ok(format!("{} opened: {}", streams.len(), tally(&streams)))
}

/// Lowers the limit to what is in use, and opens more.
pub(crate) fn no_files(aim: &Aim) -> Result<String, String> {
    let id = aim.id.and_then(|id| i32::try_from(id).ok());
    let Some(pid) = id.and_then(Pid::from_raw) else {
        return Err("needs the process's id".to_owned());
    };
    // What it has inherited is what we have: only the soft limit falls.
    let limit = Rlimit {
        current: Some(40),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    let before = prlimit(Some(pid), Resource::Nofile, limit);
    let before = before.map_err(|error| format!("the limit cannot be set: {error}"))?;
    let streams = crowd(aim, 200);
    std::thread::sleep(aim.hold);
    let outcome = tally(&streams);
    drop(streams);
    let restored = prlimit(Some(pid), Resource::Nofile, before);
    restored.map_err(|error| format!("the limit cannot be set back: {error}"))?;
    Ok(outcome)
}

pub(crate) fn threads(aim: &Aim) -> Result<String, String> {
    let streams = crowd(aim, 400);
    let request = get(&aim.path, "");
    for mut stream in &streams {
        // One that has been closed is counted below.
        let _ = stream.write_all(&request);
    }
    std::thread::sleep(aim.hold);
    Ok(format!("{} opened: {}", streams.len(), tally(&streams)))
}
