//! The attacks, in the order of the table, and what each of them needs.
//!
//! A strike is one function. It runs in a process of its own with the lowest priority, since real
//! attackers are other machines. It holds its connections until it returns, within [`LONGEST`], and
//! returns a short summary. The files below group strikes by the resource that they exhaust.

pub(crate) mod connections;
pub(crate) mod memory;
pub(crate) mod polite;
pub(crate) mod requests;

use std::net::SocketAddr;
use std::time::Duration;

/// After this time a strike is killed.
pub(crate) const LONGEST: Duration = Duration::from_secs(40);

/// What a strike is aimed at.
#[derive(Clone, Debug)]
pub(crate) struct Aim {
    pub(crate) address: SocketAddr,
    /// The process behind it, where it is on this machine and known.
    pub(crate) id: Option<u32>,
    /// A path with status 200.
    pub(crate) path: String,
    /// A path with a response of some hundred KB or more.
    pub(crate) large: String,
    /// A path with a response of about 4 KB.
    pub(crate) medium: String,
    /// How long things are held.
    pub(crate) hold: Duration,
}

/// How the server is started for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// As it is.
    Plain,
    /// With a limit of 256 open files.
    FewFiles,
    /// As a user of its own with a limit of 300 threads.
    FewThreads,
}

/// The targets that a strike applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Targets {
    /// All.
    All,
    /// The service: tiny_http has no such feature.
    Service,
}

/// One attack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strike {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) start: Start,
    pub(crate) targets: Targets,
    /// Why the client beside it is not judged, if it is not.
    pub(crate) unjudged: Option<&'static str>,
    pub(crate) run: fn(&Aim) -> Result<String, String>,
}

type Run = fn(&Aim) -> Result<String, String>;

const fn strike(name: &'static str, title: &'static str, run: Run) -> Strike {
    Strike {
        name,
        title,
        start: Start::Plain,
        targets: Targets::All,
        unjudged: None,
        run,
    }
}

const fn started(start: Start, name: &'static str, title: &'static str, run: Run) -> Strike {
    let plain = strike(name, title, run);
    Strike { start, ..plain }
}

/// A strike during which no client can be served as before.
const fn unjudged(why: &'static str, name: &'static str, title: &'static str, run: Run) -> Strike {
    let plain = strike(name, title, run);
    Strike {
        unjudged: Some(why),
        ..plain
    }
}

const fn of_service(name: &'static str, title: &'static str, run: Run) -> Strike {
    let plain = strike(name, title, run);
    Strike {
        targets: Targets::Service,
        ..plain
    }
}

/// All attacks.
pub(crate) const ALL: &[Strike] = &[
    strike("idle", "10,000 idle connections", connections::idle),
    strike(
        "slow",
        "5,000 slow ones: a byte of a head a second",
        connections::slow,
    ),
    strike("header", "1 GiB of one header", memory::header),
    strike("url", "256 MiB of URL", memory::url),
    strike("headers", "100,000 header lines", memory::headers),
    strike(
        "length",
        "Content-Length 10^11, then 9·10^18, on any path",
        requests::length,
    ),
    of_service("parked", "5,000 parked requests", requests::parked),
    of_service(
        "overparked",
        "7,000 requests that would wait (bound: 6,000)",
        requests::overparked,
    ),
    strike("connects", "2,000 connects a second", connections::connects),
    strike(
        "resets",
        "2,000 a second: connect, GET, RST",
        connections::resets,
    ),
    strike(
        "nonreaders",
        "64 that never read a large response",
        memory::nonreaders,
    ),
    strike(
        "pipeline",
        "1 that pipelines and never reads",
        memory::pipeline_one,
    ),
    strike(
        "pipelines",
        "20 that pipeline and never read",
        memory::pipeline_many,
    ),
    strike(
        "bodies",
        "500 POSTs whose body never comes",
        requests::bodies,
    ),
    strike(
        "heads",
        "3,000 × 16 KB of a head that does not end",
        memory::heads,
    ),
    strike(
        "uploads",
        "500 × 900 KB of a body that does not end",
        memory::uploads,
    ),
    strike(
        "http2",
        "HTTP/2 preface × 200, closed at once",
        requests::http2,
    ),
    strike(
        "refused",
        "1,000 requests that are refused, unread input behind them",
        requests::refused,
    ),
    started(
        Start::FewFiles,
        "files",
        "700 connections, 256 open files allowed",
        connections::files,
    ),
    unjudged(
        "no files left",
        "nofiles",
        "the limit of open files falls while it runs",
        connections::no_files,
    ),
    started(
        Start::FewThreads,
        "threads",
        "400 connections, 300 threads allowed",
        connections::threads,
    ),
    unjudged(
        "full load",
        "alive64",
        "no attack: 64 keep-alive clients at once",
        polite::keep_alive_64,
    ),
    unjudged(
        "full load",
        "alive256",
        "no attack: 256 keep-alive clients at once",
        polite::keep_alive_256,
    ),
    strike(
        "medium",
        "no attack: responses of 4 KB on keep-alive",
        polite::medium_responses,
    ),
];

/// Those of the short run: what has brought servers down, in a few seconds.
pub(crate) const SHORT: &[&str] = &[
    "idle",
    "slow",
    "header",
    "headers",
    "length",
    "parked",
    "resets",
    "nonreaders",
    "pipelines",
    "bodies",
    "uploads",
    "http2",
    "files",
    "nofiles",
];

/// The strike of that name.
pub(crate) fn named(name: &str) -> Option<&'static Strike> {
    ALL.iter().find(|strike| strike.name == name)
}
