//! The sandbox: `cargo run --example sandbox` shows the service at work, with nothing but Rust.
//!
//! It starts the fake API server with the demo's app types, gives each fake pod a web page at an address
//! of this machine, and runs the real service in front. Code, role and HTTP client are those of a
//! cluster. It prints what happens, and exits on Ctrl-C or SIGTERM.
//!
//! This file wires, starts and stops the parts: `options` (arguments), `templates` (the app types),
//! `network` (addresses), `pages` (responses of the pods), `narrator` (events of Kubernetes as text),
//! `console` (the format of lines), `guide` (what to try). Nothing that the service needs may live
//! here.

#[path = "../fake_kube/mod.rs"]
mod fake_kube;

/// What a pod responds; the demo app's own.
#[path = "../demo/page.rs"]
mod page;

mod console;
mod guide;
mod narrator;
mod network;
mod options;
mod pages;
mod templates;

use config_controller::clock::{Clock, SystemClock};
use config_controller::config::{self, Command, Config};
use config_controller::kube::auth::{Cluster, Server};
use config_controller::kube::kubeconfig::{Login, Secret};
use config_controller::kube::transport::{HttpTransport, Settings};
use config_controller::service::{Namespaces, Replica, Service};
use config_controller::shutdown::{self, Stop};
use console::Console;
use fake_kube::FakeKube;
use fake_kube::dynamics::pod_script::PodScript;
use network::Network;
use options::{Asked, Options, USAGE};
use pages::Pages;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the service may do, here as in a cluster.
const ROLES: &str = concat!(
    include_str!("../../manifests/base/role.yaml"),
    "---\n",
    include_str!("../../manifests/read-logs/role.yaml"),
);

/// Where the app types and the instances are.
const NAMESPACE: &str = "default";

/// How long the phases of a pod take, where its template does not say otherwise.
const MOMENT_MS: i64 = 50;

/// The back-off of a crash loop, which is the kubelet's first.
const RESTART_MS: i64 = 10_000;

/// How long a connection to this machine may take.
const LOOPBACK_MAX: Duration = Duration::from_secs(1);

/// How long the service may take to see what there is.
const READY_MAX: Duration = Duration::from_secs(10);

/// How long requests that are under way may take at the end.
const DRAIN_MAX: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    let arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    match options::parse(arguments) {
        Ok(Asked::Help) => {
            console::print(USAGE);
            ExitCode::SUCCESS
        }
        Ok(Asked::Run(options)) => match run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => {
                eprintln!("{message}");
                ExitCode::from(1)
            }
        },
        Err(message) => {
            eprint!("{message}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Runs until a signal comes. An error is one sentence.
fn run(options: &Options) -> Result<(), String> {
    let stop = Stop::new();
    end_on_signals(&stop)?;
    check_port(options.port)?;
    let config_maps = templates::config_maps(&options.templates)?;
    let console = Console::new();
    console.listen_to_log();
    let network = Network::choose(options.one_address)?;
    let fake = Arc::new(start_fake(&network, console, &config_maps)?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let config = service_config(options.port)?;
    let transport = connect(&fake, &config, &clock)?;
    let namespaces = Namespaces {
        served: NAMESPACE.to_owned(),
        own: NAMESPACE.to_owned(),
    };
    let replica = Replica {
        name: "sandbox",
        namespaces: &namespaces,
    };
    let service = Service::start(&config, Arc::clone(&transport) as _, replica, clock)
        .map_err(|error| error.to_string())?;
    wait_until_ready(&service, &stop)?;
    let types = templates::types(&config_maps);
    let own = (!options.templates.is_empty()).then_some(types.as_slice());
    console::print(&guide::guide(service.address(), &network, own));
    let narrator = narrator::start(Arc::clone(&fake), console, network.port, stop.clone())
        .map_err(|error| format!("A thread cannot be started: {error}."))?;
    while !stop.wait(Duration::from_secs(3600)) {}
    console.log_line("sandbox", "stops, as requested");
    let drained = service.drain(Duration::ZERO, DRAIN_MAX);
    transport.close_watches();
    // A narrator that panicked has logged it.
    let _ = narrator.join();
    drained.map_err(|error| error.to_string())
}

/// The first signal requests a shutdown; the second one exits immediately.
fn end_on_signals(stop: &Stop) -> Result<(), String> {
    let asked = stop.clone();
    shutdown::on_signals(move || asked.set(), || std::process::exit(1))
        .map_err(|error| format!("Signals cannot be handled: {error}."))
}

/// Whether the port is free, and can be reached; checked before anything is started.
fn check_port(port: u16) -> Result<(), String> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let error = match bound.and_then(|listener| Ok((listener.local_addr()?, listener))) {
        Ok((address, _listener)) => {
            let reached = TcpStream::connect_timeout(&address, LOOPBACK_MAX);
            return reached.map(drop).map_err(|error| format!(
                "This machine cannot connect to its own address {address} ({error}): bring its loopback interface up (ip link set lo up)."
            ));
        }
        Err(error) => error,
    };
    Err(match error.kind() {
        ErrorKind::AddrInUse => format!(
            "Port {port} of 127.0.0.1 is in use: end the program that has it, or choose another port with --port N (0: any free one)."
        ),
        _ => format!(
            "Port {port} of 127.0.0.1 cannot be used ({error}): choose another one with --port N (0: any free one)."
        ),
    })
}

/// The API server in memory, with the app types, the role, and a page for each pod.
fn start_fake(
    network: &Network,
    console: Console,
    config_maps: &[Value],
) -> Result<FakeKube, String> {
    let mut pages = Pages::new(network, console)
        .map_err(|error| format!("The pods' page cannot be served: {error}."))?;
    let fake = FakeKube::builder()
        .role(NAMESPACE, ROLES)
        .pod_addresses(network.addresses)
        .pod_script(PodScript {
            schedule_ms: MOMENT_MS,
            mount_ms: MOMENT_MS,
            pull_ms: MOMENT_MS,
            ready_ms: MOMENT_MS,
            terminate_ms: MOMENT_MS,
            restart_ms: RESTART_MS,
            ..PodScript::default()
        })
        .on_pod(move |change| pages.on_pod(change))
        .start()
        .map_err(|error| format!("The API server in memory cannot be started: {error}."))?;
    for config_map in config_maps {
        fake.apply(NAMESPACE, config_map)
            .map_err(|refusal| format!("A ConfigMap with templates was refused: {refusal:?}."))?;
    }
    Ok(fake)
}

/// The settings of the service; the environment is ignored, so that all sandboxes are alike.
fn service_config(port: u16) -> Result<Config, String> {
    let arguments = [
        "--listen=127.0.0.1".to_owned(),
        format!("--service-port={port}"),
        format!("--job-namespace={NAMESPACE}"),
    ];
    match config::parse(arguments, &BTreeMap::new()) {
        Ok(Command::Serve(config)) => Ok(*config),
        other => Err(format!("The service refuses its settings: {other:?}.")),
    }
}

/// The way from the service to the API server.
fn connect(
    fake: &FakeKube,
    config: &Config,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<HttpTransport>, String> {
    let cluster = Cluster {
        server: Server::parse(&fake.url())?,
        tls_server_name: None,
        certificate_authority: None,
        client_certificate: None,
        login: Login::Token(Secret(fake.token())),
        namespace: NAMESPACE.to_owned(),
        origin: "the API server in memory".to_owned(),
    };
    let settings = Settings {
        connections: config.workers,
        ..Settings::default()
    };
    HttpTransport::new(&cluster, settings, Arc::clone(clock))
        .map(Arc::new)
        .map_err(|problem| format!("The service cannot connect: {problem}."))
}

/// Waits until the service has seen what there is, or is asked to end.
fn wait_until_ready(service: &Service, stop: &Stop) -> Result<(), String> {
    let deadline = Instant::now() + READY_MAX;
    while !service.is_ready() && !stop.wait(Duration::from_millis(5)) {
        if Instant::now() > deadline {
            let secs = READY_MAX.as_secs();
            return Err(format!("The service was not ready after {secs} s."));
        }
    }
    Ok(())
}
