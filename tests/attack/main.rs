//! Attacks on the running program, each bounded in count and time; `tests/attack/run` builds and
//! starts this, and explains it with `--help`. Only 127.0.0.0/8 is ever attacked.
//!
//! | file | what |
//! |---|---|
//! | `strikes` | the attacks |
//! | `parser` | inputs that must be refused, or must not |
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
mod options;
mod parser;
mod probe;
mod report;
mod strikes;

use arena::{Outcome, Target};
use environment::{Cluster, Wrapper};
use options::{Options, USAGE};
use report::{Report, Row};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use strikes::{Aim, Start, Strike, Targets};

/// Ready instances behind the service: their list is the large response.
const INSTANCES: usize = 2_000;

/// How long the well-behaved client is alone before each attack.
const ALONE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["probe", address, path] => as_probe(address, path),
        ["strike", name, address, id, path, large, medium, hold] => {
            as_strike(name, address, id, [path, large, medium], hold)
        }
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

fn as_probe(address: &str, path: &str) -> Result<bool, String> {
    let address = address.parse();
    probe::run(address.map_err(|_| "no address".to_owned())?, path);
    Ok(true)
}

fn as_strike(
    name: &str,
    address: &str,
    id: &str,
    paths: [&str; 3],
    hold: &str,
) -> Result<bool, String> {
    raise_files();
    let strike = strikes::named(name).ok_or("no strike of that name")?;
    let address: SocketAddr = address.parse().map_err(|_| "no address")?;
    if !address.ip().is_loopback() {
        return Err("only loopback is attacked".to_owned());
    }
    let [path, large, medium] = paths.map(str::to_owned);
    let hold: u64 = hold.parse().map_err(|_| "no time")?;
    let aim = Aim {
        address,
        id: id.parse().ok().filter(|id| *id != 0),
        path,
        large,
        medium,
        hold: Duration::from_millis(hold),
    };
    let note = (strike.run)(&aim).unwrap_or_else(|problem| problem);
    println!("{note}");
    Ok(true)
}

/// An attacker has more files than the attacked.
fn raise_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    // Without it fewer connections are made; the strike reports how many.
    let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
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
        None => {
            let cluster = Cluster::start(INSTANCES)?;
            attack_local(&chosen, &aim, &cluster, &options, &mut report)?;
        }
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
        (true, true) => strikes::SHORT.to_vec(),
        (true, false) => strikes::ALL.iter().map(|strike| strike.name).collect(),
    };
    let names = names.into_iter().filter(|name| *name != "parser");
    let found = names.map(|name| strikes::named(name).ok_or(name));
    found.collect::<Result<_, _>>().map_err(|name| {
        let all: Vec<&str> = strikes::ALL.iter().map(|strike| strike.name).collect();
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
        hold: Duration::from_secs(if options.short { 1 } else { 4 }),
    }
}

/// What runs somewhere on loopback already: nothing is known of its process.
fn attack_remote(chosen: &[&'static Strike], aim: &Aim, report: &mut Report) -> Result<(), String> {
    let mut target = Target::remote(aim.clone())?;
    for strike in chosen.iter().filter(|strike| strike.start == Start::Plain) {
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
    cluster: &Cluster,
    options: &Options,
    report: &mut Report,
) -> Result<(), String> {
    let served = environment::service(&cluster.kubeconfig, &Wrapper::default())?;
    let mut standing = Target::local(served, aim)?;
    prepare_medium_response(standing.aim.address)?;
    // What the process holds for good is there before the first attack.
    standing.probe.watch(ALONE)?;
    for strike in chosen {
        eprintln!("{} …", strike.title);
        if !options.short || report.alone.is_empty() {
            report.alone.push(standing.probe.watch(ALONE)?);
        }
        let service = match strike.start {
            Start::Plain => arena::strike(&mut standing, strike),
            start => arena::wrapper(start).and_then(|wrapper| {
                let served = environment::service(&cluster.kubeconfig, &wrapper)?;
                arena::strike(&mut Target::local(served, aim)?, strike)
            }),
        };
        let tiny =
            (!options.short && strike.targets == Targets::All).then(|| attack_tiny(strike, aim));
        report.rows.push(Row {
            strike,
            service,
            tiny,
        });
    }
    Ok(())
}

/// The same on stock tiny_http, a new one each time: few of them live on.
fn attack_tiny(strike: &Strike, aim: &Aim) -> Result<Outcome, String> {
    let served = environment::bare(&["tiny", "8"], &arena::wrapper(strike.start)?)?;
    let mut aim = aim.clone();
    aim.large = "/large".to_owned();
    aim.medium = "/medium".to_owned();
    arena::strike(&mut Target::local(served, &aim)?, strike)
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
