//! Measurements of the released program beside others, in one run on one machine;
//! `tests/bench/run` builds and starts this.
//!
//! | file | what |
//! |---|---|
//! | `front` | scenario: GET of a ready instance |
//! | `lists` | scenario: lists, 304 and `/release` beside a GET of a ready instance |
//! | `footprint` | scenario: memory, and the time until it is ready |
//! | `idle` | scenario: 10,000 instances with an idle timeout |
//! | `streams` | scenario: many readers of events |
//! | `crowd` | those readers |
//! | `wrk` | the load generator, and what it prints |
//! | `environment` | the processes that are measured |
//! | `client` | a plain HTTP client |
//! | `cluster` | a program of its own: the fake API server, filled |
//! | `bare` | a package of its own: programs that response a constant |
//!
//! A scenario returns its figures as JSON and its table as Markdown. No figure is written down
//! anywhere here; the goals are, beside the figures that they are about.

mod client;
mod crowd;
mod environment;
mod footprint;
mod front;
mod idle;
mod lists;
mod streams;
mod wrk;

use serde_json::{Map, Value};
use std::process::ExitCode;

const USAGE: &str = "\
Usage: tests/bench/run [--json FILE] [--rounds N] [--seconds N] [scenario…]

  --json FILE   writes the figures there, too
  --rounds N    interleaved rounds, of which the median counts [5]
  --seconds N   of load for each figure of a round [3]

Scenarios (all of them where none is named):
  front         throughput, latency and cost of a GET of a ready instance
  lists         lists, 304 and /release over 10,000 instances
  footprint     memory, and how soon it is ready
  idle          10,000 instances that end when nobody uses them, and two replicas
  streams       100, 1,000 and 2,000 streams of 100 events a second each
";

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    json: Option<String>,
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    scenarios: Vec<String>,
}

/// What a scenario has found.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) markdown: String,
    pub(crate) json: Value,
}

type Scenario = fn(&Options) -> Result<Findings, String>;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("front", front::run),
    ("lists", lists::run),
    ("footprint", footprint::run),
    ("idle", idle::run),
    ("streams", streams::run),
];

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        json: None,
        rounds: 5,
        seconds: 3,
        scenarios: Vec::new(),
    };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let value = arguments.next();
            value.ok_or_else(|| format!("{argument} needs a value.\n{USAGE}"))
        };
        let number = |text: String| match text.parse() {
            Ok(number @ 1..=1000) => Ok(number),
            _ => Err(format!("'{text}' is no number from 1 to 1000.\n{USAGE}")),
        };
        match argument.as_str() {
            "--json" => options.json = Some(value()?),
            "--rounds" => options.rounds = number(value()?)?,
            "--seconds" => options.seconds = number(value()?)? as u64,
            name if SCENARIOS.iter().any(|(known, _)| *known == name) => {
                options.scenarios.push(argument);
            }
            "--help" | "-h" => return Err(USAGE.to_owned()),
            other => return Err(format!("'{other}' is no scenario.\n{USAGE}")),
        }
    }
    Ok(options)
}

fn run(options: &Options) -> Result<(), String> {
    let mut figures = Map::new();
    for (name, scenario) in SCENARIOS {
        if options.scenarios.is_empty() || options.scenarios.iter().any(|asked| asked == name) {
            let findings = scenario(options)?;
            println!("{}", findings.markdown);
            figures.insert((*name).to_owned(), findings.json);
        }
    }
    if let Some(file) = &options.json {
        let text = format!("{:#}\n", Value::Object(figures));
        let written = std::fs::write(file, text);
        written.map_err(|error| format!("{file} cannot be written: {error}"))?;
    }
    Ok(())
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
