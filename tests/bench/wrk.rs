//! `wrk`, the load generator: how it is called, and what it prints.

use std::net::SocketAddr;
use std::process::Command;

/// What it measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Load {
    pub(crate) requests: f64,
    pub(crate) per_second: f64,
    /// In microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Responses without success, and failed sockets.
    pub(crate) errors: f64,
}

/// Puts load on a path, with this header line if there is one.
pub(crate) fn load(
    address: SocketAddr,
    path: &str,
    header: Option<&str>,
    connections: usize,
    seconds: u64,
) -> Result<Load, String> {
    let output = Command::new("wrk")
        .args(["-t2", "--latency"])
        .arg(format!("-c{connections}"))
        .arg(format!("-d{seconds}s"))
        .args(header.iter().flat_map(|header| ["-H", header]))
        .arg(format!("http://{address}{path}"))
        .output()
        .map_err(|error| format!("wrk cannot be started: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).ok_or_else(|| format!("wrk printed what is not understood:\n{text}"))
}

fn parse(text: &str) -> Option<Load> {
    let mut load = Load::default();
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["50%", time] => load.p50 = micros(time)?,
            ["99%", time] => load.p99 = micros(time)?,
            [count, "requests", "in", ..] => load.requests = count.parse().ok()?,
            ["Requests/sec:", rate] => load.per_second = rate.parse().ok()?,
            ["Non-2xx", "or", "3xx", "responses:", count] => {
                load.errors += count.parse::<f64>().ok()?;
            }
            ["Socket", "errors:", ref counts @ ..] => {
                let counts = counts.iter().map(|word| word.trim_end_matches(','));
                load.errors += counts
                    .filter_map(|word| word.parse::<f64>().ok())
                    .sum::<f64>();
            }
            _ => {}
        }
    }
    (load.requests > 0.0 && load.per_second > 0.0).then_some(load)
}

fn micros(text: &str) -> Option<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 6e7)];
    units.into_iter().find_map(|(unit, factor)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(number * factor)
    })
}
