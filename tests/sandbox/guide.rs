//! What the sandbox prints once it is up: where it is, and what to try. Pure.
//!
//! Every line that begins with `curl` can be copied and works, in this order,
//! in any shell (so there are no comments on such lines, which zsh would take
//! for arguments). A test runs them all.

use crate::network::Network;
use std::net::SocketAddr;

/// The text, for a service at this address.
pub(crate) fn guide(service: SocketAddr, network: &Network) -> String {
    let (ip, port) = (network.first_address(), network.port);
    let url = format!("http://{service}");
    let notes: String = network.notes.iter().map(|n| format!("{n}\n")).collect();
    format!(
        "\n\
The service listens at {url}
It talks to a Kubernetes API server in memory; each pod is a small web page on this machine.
{notes}
Try this in another terminal, and watch here what happens:

  # the app types that can be started
  curl -s {url}/app

  # an instance of hello with the name ann: it is started, and the response has its address
  curl -s {url}/app/hello/ann

  # the app itself, at that address (the first instance gets this one)
  curl -s http://{ip}:{port}/

  # all instances of hello
  curl -s {url}/app/hello

  # give it a label, and see it in the next response
  curl -s -X PATCH -H 'content-type: application/json' -d '{{\"username\":\"ann\"}}' {url}/app/hello/ann
  curl -s {url}/app/hello/ann

  # stop it; a moment later it has left the list
  curl -s -X DELETE {url}/app/hello/ann
  curl -s {url}/app/hello

  # what takes 3 s to start: how far it is after one second, then wait for it
  curl -s -H 'prefer: wait=1' {url}/app/slow/bob
  curl -s {url}/app/slow/bob

  # no such app type
  curl -s -i {url}/app/nothing/ann

Ctrl-C stops everything.

"
    )
}
