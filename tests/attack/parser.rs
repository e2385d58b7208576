//! Inputs that an HTTP/1.1 server must refuse, because two readers would see different requests in
//! them, and some that it must serve. Each is sent over its own connection to the running program.
//! The expected reactions follow from RFC 9112, RFC 9110 and the service's bounds.
//!
//! The tests of `src/http/connection` check the same rules with literals. This file sends them over
//! a socket, also to stock tiny_http for comparison.

use crate::client;
use crate::environment::{self, Cluster, Wrapper};
use crate::options::Options;
use std::fmt;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

mod inputs;
use inputs::{INPUTS, Input};

const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);

/// A connection that has been silent for this long will stay so.
const SILENCE: Duration = Duration::from_millis(250);

/// The required reaction to an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Must {
    /// One response of 400 or above for a malformed request, then the end.
    Refuse,
    /// This number of responses, with any status that fits the path; the connection stays open.
    Serve(usize),
}

/// The observed reaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reaction {
    statuses: Vec<u16>,
    closed: bool,
    pub(crate) is_right: bool,
}

impl fmt::Display for Reaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statuses: Vec<String> = self.statuses.iter().map(u16::to_string).collect();
        let (open, close) = if self.is_right {
            ("", "")
        } else {
            ("**", "**")
        };
        let end = if self.closed { "closed" } else { "open" };
        match statuses.is_empty() {
            true => write!(f, "{open}no response, {end}{close}"),
            false => write!(f, "{open}{}, {end}{close}", statuses.join(" ")),
        }
    }
}

/// An input and the observed reactions.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    pub(crate) name: &'static str,
    pub(crate) expected: String,
    pub(crate) service: Reaction,
    pub(crate) tiny: Option<Reaction>,
}

/// Sends them all.
pub(crate) fn run(options: &Options) -> Result<Vec<Parsed>, String> {
    if let Some(url) = &options.url {
        return INPUTS
            .iter()
            .map(|input| one(input, url.address, false))
            .collect();
    }
    let cluster = Cluster::start(1)?;
    let service = environment::service(&cluster.kubeconfig, &Wrapper::default())?;
    let compare = options.compare;
    INPUTS
        .iter()
        .map(|input| one(input, service.address, compare))
        .collect()
}

fn one(input: &Input, address: SocketAddr, compare: bool) -> Result<Parsed, String> {
    let tiny = if compare {
        // A new one each time: some inputs leave a worker of it blocked.
        let served = environment::bare(&["tiny", "8"], &Wrapper::default())?;
        Some(send(input, served.address)?)
    } else {
        None
    };
    Ok(Parsed {
        name: input.name,
        expected: match input.must {
            Must::Refuse => "refused".to_owned(),
            Must::Serve(1) => "served".to_owned(),
            Must::Serve(count) => format!("served: {count}"),
        },
        service: send(input, address)?,
        tiny,
    })
}

fn send(input: &Input, address: SocketAddr) -> Result<Reaction, String> {
    let stream = client::connect(address, FROM, SILENCE);
    let mut stream = stream.map_err(|error| format!("{}: no connection: {error}", input.name))?;
    // One that closes early may not take all of it.
    let _ = stream.write_all(&input.bytes());
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    let closed = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break true,
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => break !is_silence(&error),
        }
    };
    let statuses = client::statuses(&received);
    let refusals = [400, 408, 413, 414, 415, 417, 431, 501, 505];
    let is_right = match input.must {
        Must::Refuse => closed && statuses.len() == 1 && refusals.contains(&statuses[0]),
        Must::Serve(count) => {
            // A 100 comes before the response that it promises.
            let responses: Vec<&u16> = statuses.iter().filter(|status| **status != 100).collect();
            let refused = responses.iter().any(|status| refusals.contains(*status));
            !closed && !refused && responses.len() == count
        }
    };
    Ok(Reaction {
        statuses,
        closed,
        is_right,
    })
}

fn is_silence(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut)
}
