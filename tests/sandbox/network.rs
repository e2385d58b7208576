//! Which addresses the sandbox's pods get, all of this machine.
//!
//! Linux lets every program use all of 127.0.0.0/8, so that each pod has an address of its own
//! there, with port 8080 on it. Other systems (macOS) have only 127.0.0.1: then all pods share that
//! one, and the guide states it.
//!
//! Several sandboxes can run side by side. Each takes a range of its own, and holds it by listening
//! on an address in it that no pod will get soon.

use crate::fake_kube::dynamics::PodAddresses;
use std::io::{Error, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;

/// The port of the pods' pages, unless it is in use.
const PAGE_PORT: u16 = 8080;

/// The ranges: 127.90.0.0/16 and so on.
const RANGES: RangeInclusive<u8> = 90..=119;

/// The addresses and the port of the pods' pages.
#[derive(Debug)]
pub(crate) struct Network {
    /// Where pods get their addresses from.
    pub(crate) addresses: PodAddresses,
    /// The port of their pages.
    pub(crate) port: u16,
    /// What is unusual about it, in sentences for people.
    pub(crate) notes: Vec<String>,
    /// Keeps others off the range; in the case of one address, the page itself.
    held: TcpListener,
}

impl Network {
    /// Finds out what this machine has to offer; with `one_address`, nothing but 127.0.0.1 is
    /// tried.
    pub(crate) fn choose(one_address: bool) -> Result<Self, String> {
        if one_address {
            return one("as --one-address asks");
        }
        match each() {
            Ok(network) => Ok(network),
            Err(_) => one("since this machine has no other address for them"),
        }
    }

    /// The address that the first pod gets, and where all pods share one, every pod.
    pub(crate) fn first_address(&self) -> Ipv4Addr {
        match self.addresses {
            PodAddresses::Each(a, b) => Ipv4Addr::new(a, b, 0, 1),
            PodAddresses::Same(ip) => ip,
        }
    }

    /// The socket of the page that all pods share, if they share one.
    pub(crate) fn shared_page(&self) -> std::io::Result<Option<TcpListener>> {
        match self.addresses {
            PodAddresses::Each(..) => Ok(None),
            PodAddresses::Same(_) => self.held.try_clone().map(Some),
        }
    }
}

/// An address for each pod.
fn each() -> Result<Network, Error> {
    let anchor = |range: u8| Ipv4Addr::new(127, range, 255, 254);
    let network = |range, port, notes, held| Network {
        addresses: PodAddresses::Each(127, range),
        port,
        notes,
        held,
    };
    for range in RANGES {
        match TcpListener::bind((anchor(range), PAGE_PORT)) {
            Ok(held) => return Ok(network(range, PAGE_PORT, Vec::new(), held)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    let range = *RANGES.start();
    let held = TcpListener::bind((anchor(range), 0))?;
    let port = held.local_addr()?.port();
    Ok(network(range, port, vec![port_taken(port)], held))
}

/// One address for all pods.
fn one(why: &str) -> Result<Network, String> {
    let ip = Ipv4Addr::LOCALHOST;
    let refused = |error: Error| format!("The pods' page cannot be served on {ip}: {error}.");
    let held = TcpListener::bind((ip, PAGE_PORT))
        .or_else(|_| TcpListener::bind((ip, 0)))
        .map_err(refused)?;
    let port = held.local_addr().map_err(refused)?.port();
    let mut notes = Vec::new();
    if port != PAGE_PORT {
        notes.push(port_taken(port));
    }
    notes.push(format!(
        "All pods share the address {ip}, {why}: its page names the instances that run, one a line."
    ));
    Ok(Network {
        addresses: PodAddresses::Same(ip),
        port,
        notes,
        held,
    })
}

fn port_taken(port: u16) -> String {
    format!("Port {PAGE_PORT} is in use, so the pods' pages are on port {port}.")
}
