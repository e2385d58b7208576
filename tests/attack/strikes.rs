//! What an attack is, and what each of them needs; `table` lists them.
//!
//! A strike is one function. It runs in a process of its own with the lowest priority, since real
//! attackers are other machines. It holds its connections until it returns, within [`LONGEST`], and
//! returns a short summary; as an error, where the service did not respond as it must. The other
//! files group strikes by the resource that they exhaust.

pub(crate) mod connections;
pub(crate) mod held;
pub(crate) mod kubernetes;
pub(crate) mod memory;
pub(crate) mod polite;
pub(crate) mod readers;
pub(crate) mod requests;
pub(crate) mod shares;
pub(crate) mod sockets;
pub(crate) mod streams;
pub(crate) mod table;
pub(crate) mod tokens;
pub(crate) mod volley;

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// After this time a strike is killed.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// A p99 of the client beside an attack that is good whatever it was alone: two processors, shared
/// with the attackers and the API server, make a client wait so long for its turn.
pub(crate) const P99_FLOOR: Duration = Duration::from_millis(10);

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
    /// The path of its liveness probe.
    pub(crate) live: String,
    /// Header lines of the well-behaved client's requests, each with its line end.
    pub(crate) lines: String,
    /// How long things are held.
    pub(crate) hold: Duration,
}

impl Aim {
    /// For the process that strikes.
    pub(crate) fn to_json(&self) -> String {
        json!({
            "address": self.address.to_string(), "id": self.id, "path": self.path,
            "large": self.large, "medium": self.medium, "live": self.live, "lines": self.lines,
            "hold": u64::try_from(self.hold.as_millis()).unwrap_or(u64::MAX),
        })
        .to_string()
    }

    /// What [`Aim::to_json`] wrote.
    pub(crate) fn from_json(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        Some(Self {
            address: value["address"].as_str()?.parse().ok()?,
            id: value["id"].as_u64().and_then(|id| u32::try_from(id).ok()),
            path: text("path")?,
            large: text("large")?,
            medium: text("medium")?,
            live: text("live")?,
            lines: text("lines")?,
            hold: Duration::from_millis(value["hold"].as_u64()?),
        })
    }
}

/// How the server is started for it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// As it is.
    Plain,
    /// With a limit of 256 open files.
    FewFiles,
    /// As a user of its own with a limit of 300 threads.
    FewThreads,
    /// The service only, over an API server of its own.
    Over(Setup),
}

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Auth {
    /// Everybody.
    None,
    /// Who has a token of the file with [`tokens::file`].
    Token,
    /// Who has a token of the API server.
    Kubernetes,
}

/// A service of its own, and its bounds during the strike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// What the API server holds, in the words of `bench-cluster`.
    pub(crate) cluster: &'static [&'static str],
    /// Whether the strike leaves that as it is, so that the next one may use it.
    pub(crate) keeps: bool,
    /// Settings of the service that are not at their default.
    pub(crate) flags: &'static [&'static str],
    pub(crate) auth: Auth,
    /// Lines for `bench-cluster`, right before the strike.
    pub(crate) before: &'static [&'static str],
    /// The processor time that the service may take.
    pub(crate) processor_max: Option<Duration>,
    /// The lines that it may log in a minute.
    pub(crate) log_max: Option<u64>,
}

impl Setup {
    /// An API server that holds this, below a service with its default settings.
    pub(crate) const fn over(cluster: &'static [&'static str]) -> Self {
        Self {
            cluster,
            keeps: false,
            flags: &[],
            auth: Auth::None,
            before: &[],
            processor_max: None,
            log_max: None,
        }
    }

    pub(crate) const fn keeping(self) -> Self {
        let keeps = true;
        Self { keeps, ..self }
    }

    pub(crate) const fn flags(self, flags: &'static [&'static str]) -> Self {
        Self { flags, ..self }
    }

    pub(crate) const fn auth(self, auth: Auth) -> Self {
        Self { auth, ..self }
    }

    pub(crate) const fn before(self, before: &'static [&'static str]) -> Self {
        Self { before, ..self }
    }

    pub(crate) const fn processor_max(self, max: Duration) -> Self {
        let processor_max = Some(max);
        Self {
            processor_max,
            ..self
        }
    }

    pub(crate) const fn log_max(self, lines: u64) -> Self {
        let log_max = Some(lines);
        Self { log_max, ..self }
    }
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
    /// As [`P99_FLOOR`], for this one.
    pub(crate) p99_floor: Duration,
    /// Whether liveness probes can be answered during it.
    pub(crate) is_live: bool,
    pub(crate) run: Run,
}

pub(crate) type Run = fn(&Aim) -> Result<String, String>;

impl Strike {
    const fn new(name: &'static str, title: &'static str, run: Run) -> Self {
        Self {
            name,
            title,
            start: Start::Plain,
            targets: Targets::All,
            unjudged: None,
            p99_floor: P99_FLOOR,
            is_live: true,
            run,
        }
    }

    const fn start(self, start: Start) -> Self {
        Self { start, ..self }
    }

    const fn of_service(self) -> Self {
        let targets = Targets::Service;
        Self { targets, ..self }
    }

    const fn over(self, setup: Setup) -> Self {
        self.of_service().start(Start::Over(setup))
    }

    const fn p99_floor(self, p99_floor: Duration) -> Self {
        Self { p99_floor, ..self }
    }

    /// One during which no client can connect, not even a kubelet.
    const fn lifeless(self, why: &'static str) -> Self {
        let is_live = false;
        Self { is_live, ..self }.unjudged(why)
    }

    /// One during which no client can be served as before.
    const fn unjudged(self, why: &'static str) -> Self {
        let unjudged = Some(why);
        Self { unjudged, ..self }
    }
}

/// The strike of that name.
pub(crate) fn named(name: &str) -> Option<&'static Strike> {
    table::ALL.iter().find(|strike| strike.name == name)
}
