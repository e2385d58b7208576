//! Attacks on the running program, each bounded in count and time; `tests/attack/run` builds and
//! starts this, and explains it with `--help`. Only 127.0.0.0/8 is ever attacked.
//!
//! | file | what |
//! |---|---|
//! | `strikes` | the attacks |
//! | `parser` | inputs that must be refused, or must not |
//! | `field` | the processes that attacks need |
//! | `memory_group` | the memory limit of the service |
//! | `arena` | one attack on one target, and what is seen of it |
//! | `probe` | the well-behaved client beside it |
//! | `report` | tables, goals, JSON |
//! | `options` | arguments |
//!
//! This program runs in three roles: it leads the attacks (here), it is one strike, or it is the
//! well-behaved client. Each is a process of its own, so that none disturbs another.

#[path = "../bench/client.rs"]
mod client;
#[path = "../bench/environment.rs"]
mod environment;

mod arena;
mod field;
mod memory_group;
mod options;
mod parser;
mod probe;
mod report;
mod strikes;

use arena::{Outcome, Target};
use field::Field;
use options::{Options, USAGE};
use report::{Report, Row};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use strikes::{Aim, Start, Strike, Targets, table};

/// How long the well-behaved client is alone before each attack.
const ALONE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["probe", aim] => as_probe(aim),
        ["strike", name, aim] => as_strike(name, aim),
        _ => lead(arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn as_probe(aim: &str) -> Result<bool, String> {
    probe::run(&Aim::from_json(aim).ok_or("no aim")?);
    Ok(true)
}

fn as_strike(name: &str, aim: &str) -> Result<bool, String> {
    environment::raise_files();
    let strike = strikes::named(name).ok_or("no strike of that name")?;
    let aim = Aim::from_json(aim).ok_or("no aim")?;
    if !aim.address.ip().is_loopback() {
        return Err("only loopback is attacked".to_owned());
    }
    match (strike.run)(&aim) {
        Ok(note) => println!("right {note}"),
        Err(wrong) => println!("wrong {wrong}"),
    }
    Ok(true)
}

/// Runs all that was asked for; whether every hard goal was met.
fn lead(arguments: Vec<String>) -> Result<bool, String> {
    let options = options::parse(arguments).map_err(|problem| format!("{problem}\n{USAGE}"))?;
    let chosen = chosen(&options)?;
    let with_parser = options.only.is_empty() || options.only.iter().any(|n| n == "parser");
    let mut report = Report::default();
    let aim = aim(&options);
    match &options.url {
        Some(_) => attack_remote(&chosen, &aim, &mut report)?,
        None => attack_local(&chosen, &aim, &options, &mut report)?,
    }
    if with_parser {
        eprintln!("parser inputs …");
        report.parsed = parser::run(&options)?;
    }
    print!("{}", report.markdown());
    if let Some(file) = &options.json {
        let written = std::fs::write(file, format!("{:#}\n", report.json()));
        written.map_err(|error| format!("{file} cannot be written: {error}"))?;
    }
    Ok(report.is_good())
}

fn chosen(options: &Options) -> Result<Vec<&'static Strike>, String> {
    let names: Vec<&str> = match (options.only.is_empty(), options.short) {
        (false, _) => options.only.iter().map(String::as_str).collect(),
        (true, true) => table::SHORT.to_vec(),
        (true, false) => table::ALL.iter().map(|strike| strike.name).collect(),
    };
    let names = names.into_iter().filter(|name| *name != "parser");
    let found = names.map(|name| strikes::named(name).ok_or(name));
    found.collect::<Result<_, _>>().map_err(|name| {
        let all: Vec<&str> = table::ALL.iter().map(|strike| strike.name).collect();
        format!(
            "there is no attack '{name}', but {}, parser",
            all.join(", ")
        )
    })
}

fn aim(options: &Options) -> Aim {
    let local = (
        SocketAddr::from(([127, 0, 0, 1], 0)),
        "/app/hello/i0".to_owned(),
    );
    let (address, path) = match options.url.clone() {
        Some(url) => (url.address, url.path),
        None => local,
    };
    Aim {
        address,
        id: None,
        path,
        large: "/app/hello".to_owned(),
        medium: "/app/hello/i1".to_owned(),
        live: "/livez".to_owned(),
        lines: String::new(),
        hold: Duration::from_secs(if options.short { 1 } else { 3 }),
    }
}

fn is_plain(strike: &Strike) -> bool {
    matches!(strike.start, Start::Plain)
}

/// What runs somewhere on loopback already: nothing is known of its process.
fn attack_remote(chosen: &[&'static Strike], aim: &Aim, report: &mut Report) -> Result<(), String> {
    let mut target = Target::remote(aim.clone())?;
    for strike in chosen.iter().filter(|strike| is_plain(strike)) {
        eprintln!("{} …", strike.title);
        report.alone.push(target.probe.watch(ALONE)?);
        let service = arena::strike(&mut target, strike);
        report.rows.push(Row {
            strike,
            service,
            tiny: None,
        });
    }
    Ok(())
}

fn attack_local(
    chosen: &[&'static Strike],
    aim: &Aim,
    options: &Options,
    report: &mut Report,
) -> Result<(), String> {
    let mut field = Field::new(aim)?;
    for strike in chosen {
        let begun = Instant::now();
        eprint!("{} …", strike.title);
        let is_over = matches!(strike.start, Start::Over(_));
        if !is_over && (!options.short || report.alone.is_empty()) {
            report.alone.push(field.standing()?.probe.watch(ALONE)?);
        }
        let service = field.strike(strike);
        let compared = options.compare && strike.targets == Targets::All;
        let tiny = compared.then(|| attack_tiny(strike, aim));
        eprintln!(" {:.0} s", begun.elapsed().as_secs_f64());
        report.rows.push(Row {
            strike,
            service,
            tiny,
        });
    }
    report.groupless = field.groupless().map(str::to_owned);
    Ok(())
}

/// The same on stock tiny_http, a new one each time: few of them live on.
fn attack_tiny(strike: &Strike, aim: &Aim) -> Result<Outcome, String> {
    let served = environment::bare(&["tiny", "8"], &arena::wrapper(strike.start)?)?;
    let mut aim = aim.clone();
    aim.large = "/large".to_owned();
    aim.medium = "/medium".to_owned();
    aim.live = aim.path.clone();
    arena::strike(&mut Target::local(served, None, &aim)?, strike)
}

/// Gives an instance a meta label that makes its response 4 KB long.
fn prepare_medium_response(address: SocketAddr) -> Result<(), String> {
    let body = format!("{{\"note\":\"{}\"}}", "x".repeat(3_950));
    let patch = format!(
        "PATCH /app/hello/i1 HTTP/1.1\r\nHost: attack\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let timeout = Duration::from_secs(10);
    let client = client::Client::new(address, environment::OURSELVES, timeout);
    match client.and_then(|mut client| client.ask(patch.as_bytes())) {
        Ok((200, _)) => Ok(()),
        Ok((status, _)) => Err(format!("PATCH was answered {status}")),
        Err(error) => Err(format!("PATCH failed: {error}")),
    }
}
