//! What the sandbox prints once it is up: where it is, and what to try. Pure.
//!
//! Every line that begins with `curl` can be copied and works, in this order,
//! in any shell (so there are no comments on such lines, which zsh would take
//! for arguments). A test runs them all.

use crate::network::Network;
use std::net::SocketAddr;

/// The text, for a service at this address, and the app types where they are one's own.
pub(crate) fn guide(service: SocketAddr, network: &Network, own: Option<&[String]>) -> String {
    let url = format!("http://{service}");
    let page = format!("http://{}:{}/", network.first_address(), network.port);
    let notes: String = network.notes.iter().map(|n| format!("{n}\n")).collect();
    let lines = match own {
        None => of_the_demo(&url, &page),
        Some(types) => of_own_types(&url, &page, types.first().map_or("", String::as_str)),
    };
    format!(
        "\n\
The service listens at {url}
It talks to a Kubernetes API server in memory; each pod is a small web page on this machine.
To see it, and to start apps in a browser: {url}/
For people, with every route, header and error: {url}/docs
{notes}
Try this in another terminal, and watch here what happens:

{lines}
Ctrl-C stops everything.

"
    )
}

/// What to try with the types of the demo.
fn of_the_demo(url: &str, page: &str) -> String {
    format!(
        "  # the app types that can be started
  curl -sS {url}/app

  # an instance of hello with the name ann: it is started, and the response has its address
  curl -sS {url}/app/hello/ann

  # the app itself, at that address (the first instance gets this one)
  curl -sS {page}

  # all instances of hello
  curl -sS {url}/app/hello

  # give it a label, and see it in the next response
  curl -sS -X PATCH -H 'content-type: application/json' -d '{{\"username\":\"ann\"}}' {url}/app/hello/ann
  curl -sS {url}/app/hello/ann

  # stop it; a moment later it has left the list
  curl -sS -X DELETE {url}/app/hello/ann
  curl -sS {url}/app/hello

  # what takes 3 s to start: how far it is after one second, then wait for it
  curl -sS -H 'prefer: wait=1' {url}/app/slow/bob
  curl -sS {url}/app/slow/bob

  # each step of such a start when it happens (with /instances: of all, without end)
  curl -sSN -H 'accept: text/event-stream' {url}/app/slow/kim

  # what always fails: its exit code and its last line, at once
  curl -sS {url}/app/fails/eve

  # no such app type
  curl -sS -i {url}/app/nothing/ann
"
    )
}

/// What to try with one's own types, of which this is the first.
fn of_own_types(url: &str, page: &str, app_type: &str) -> String {
    format!(
        "  # your app types, and what is known of each template
  curl -sS {url}/app
  curl -sS {url}/templates

  # an instance of {app_type} with the name ann: it is started, and the response has its address
  curl -sS {url}/app/{app_type}/ann

  # a page in place of your app, at that address (the first instance gets this one)
  curl -sS {page}

  # all instances of {app_type}
  curl -sS {url}/app/{app_type}

  # stop it
  curl -sS -X DELETE {url}/app/{app_type}/ann
"
    )
}
