//! What the attacks are asked for: arguments as values. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// How it is called.
pub(crate) const USAGE: &str = "\
Usage: tests/attack/run [--short] [--compare] [--only NAME[,NAME…]] [--json FILE] [URL]

Without a URL the released program is started on loopback with its default bounds, over a fake
API server, in a memory cgroup of 96 MiB where the machine has them, and attacked. With a URL what
runs there is attacked: it must be http, on an address in 127.0.0.0/8, and its path be answered 200.

  --short       those that have brought servers down, in less than a minute
  --compare     the same attacks on a program on stock tiny_http, too
  --only NAMES  these attacks only (an unknown name lists those there are); `parser` is one
  --json FILE   writes the figures there, too

Ends with 1 when the service died, was not well afterwards, held more than 64 MiB, or 96 MiB with what
the kernel keeps for its sockets, responded as it must not (a response cut, a refusal without its code,
somebody else not served, a liveness probe of more than a second), or took what it must refuse.
";

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) short: bool,
    pub(crate) compare: bool,
    pub(crate) only: Vec<String>,
    pub(crate) json: Option<String>,
    pub(crate) url: Option<Url>,
}

/// A target that runs already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
}

/// Reads the arguments. An error is one sentence; empty when help was asked for.
pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let value = arguments.next();
            value.ok_or_else(|| format!("{argument} needs a value."))
        };
        match argument.as_str() {
            "--help" | "-h" => return Err(String::new()),
            "--short" => options.short = true,
            "--compare" => options.compare = true,
            "--only" => options.only.extend(value()?.split(',').map(str::to_owned)),
            "--json" => options.json = Some(value()?),
            url if url.starts_with("http://") => options.url = Some(parse_url(url)?),
            other => return Err(format!("'{other}' is no argument of the attacks.")),
        }
    }
    Ok(options)
}

/// Nothing but loopback is ever attacked.
fn parse_url(url: &str) -> Result<Url, String> {
    let rest = url.trim_start_matches("http://");
    let (authority, path) = rest.split_once('/').unwrap_or((rest, "readyz"));
    let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
    let refused = || format!("'{url}' is not attacked: only http on 127.0.0.0/8 is.");
    let ip: Ipv4Addr = match host {
        "localhost" => Ipv4Addr::LOCALHOST,
        host => host.parse().map_err(|_| refused())?,
    };
    let port = port.parse().map_err(|_| refused())?;
    if !ip.is_loopback() {
        return Err(refused());
    }
    Ok(Url {
        address: SocketAddr::new(IpAddr::V4(ip), port),
        path: format!("/{path}"),
    })
}
