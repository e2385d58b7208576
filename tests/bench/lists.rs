//! Scenario `lists`: lists, `304` and `/release`, compared with a GET of a ready instance of the same
//! program over the same 10,000 instances.
//!
//! The rows are loaded one after the other, in rounds. A ratio is computed per round, and its median
//! counts.

use crate::client::{connect, get};
use crate::environment::{self, Cluster, OURSELVES, Served, Wrapper};
use crate::wrk::{self, Load};
use crate::{Findings, Options, median};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::time::Duration;

const CONNECTIONS: usize = 64;
const MANY: usize = 10_000;
const SOME: usize = 1000;
const LIST: &str = "/app/hello";

/// The rows, in the order of [`measure`].
const ROWS: [&str; 5] = [
    "GET of a ready instance",
    "304 of the list of 10,000",
    "/release of nothing",
    "list of 1,000",
    "list of 10,000",
];

/// The least ratio of each row to the first, if there is a goal.
const GOALS: [Option<f64>; 5] = [None, Some(0.8), Some(0.5), None, None];

/// Measures.
pub(crate) fn run(options: &Options) -> Result<Findings, String> {
    let plain = Wrapper::default();
    let (some, many) = (Cluster::start(SOME)?, Cluster::start(MANY)?);
    let some = environment::service(&some.kubeconfig, &plain).map(|served| (served, some))?;
    let many = environment::service(&many.kubeconfig, &plain).map(|served| (served, many))?;
    let etag = etag(&many.0)?;
    let mut rounds = Vec::new();
    for round in 1..=options.rounds {
        eprintln!("lists: round {round} of {}", options.rounds);
        rounds.push(measure(&some.0, &many.0, &etag, options.seconds)?);
    }
    let of = |row: usize, value: fn(&Load) -> f64| {
        median(
            rounds
                .iter()
                .map(|round: &[Load; 5]| value(&round[row]))
                .collect(),
        )
    };
    let ratio = |row: usize| {
        let ratios = rounds
            .iter()
            .map(|round| round[row].per_second / round[0].per_second);
        median(ratios.collect())
    };
    let mut markdown = format!(
        "Lists; wrk, 2 threads, {CONNECTIONS} connections, {} s; medians of {} rounds.\n\n\
         | request | req/s | p99 ms | × the first | goal |\n|---|---|---|---|---|\n",
        options.seconds, options.rounds
    );
    let mut json = Vec::new();
    for (row, (name, goal)) in ROWS.iter().zip(GOALS).enumerate() {
        let (rate, p99, ratio) = (
            of(row, |it| it.per_second),
            of(row, |it| it.p99),
            ratio(row),
        );
        let met = goal.map(|goal| ratio >= goal);
        let shown = match (goal, met) {
            (Some(goal), Some(true)) => format!("≥ {goal}: met"),
            (Some(goal), _) => format!("≥ {goal}: **not met**"),
            (None, _) => String::new(),
        };
        let _ = writeln!(
            markdown,
            "| {name} | {rate:.0} | {:.2} | {ratio:.3} | {shown} |",
            p99 / 1e3
        );
        json.push(
            json!({"row": name, "requests_per_second": rate, "p99_us": p99,
            "ratio": ratio, "goal": goal, "met": met}),
        );
    }
    Ok(Findings {
        markdown,
        json: Value::Array(json),
    })
}

fn measure(some: &Served, many: &Served, etag: &str, seconds: u64) -> Result<[Load; 5], String> {
    let load = |served: &Served, path: &str, header: Option<&str>| {
        wrk::load(served.address, path, header, CONNECTIONS, seconds)
    };
    let condition = format!("If-None-Match: {etag}");
    Ok([
        load(many, "/app/hello/i0", None)?,
        load(many, LIST, Some(&condition))?,
        load(many, "/release/nosuch", None)?,
        load(some, LIST, None)?,
        load(many, LIST, None)?,
    ])
}

/// The entity tag of the list, which no instance changes meanwhile.
fn etag(served: &Served) -> Result<String, String> {
    let ask = || -> std::io::Result<String> {
        let mut stream = connect(served.address, OURSELVES, Duration::from_secs(10))?;
        stream.write_all(&get(LIST, "Connection: close\r\n"))?;
        let mut response = Vec::new();
        stream.read_to_end(&mut response)?;
        Ok(String::from_utf8_lossy(&response).into_owned())
    };
    let response = ask().map_err(|error| format!("the list cannot be read: {error}"))?;
    let etag = response
        .lines()
        .find_map(|line| line.strip_prefix("etag: "));
    etag.map(str::to_owned)
        .ok_or_else(|| "the list has no entity tag".to_owned())
}
