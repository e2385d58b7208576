//! Settings: from environment variables and flags to a checked [`Config`].
//!
//! Pure: it gets the environment and the arguments as values. One table,
//! [`SETTINGS`], gives each setting its name, default and help; `--help`, the
//! README's table and the test that compares the two are made from it.
//! All problems are collected, so that they are told at once and not one a restart.
//! What the values mean is decided where they are used.

mod auth;
mod traces;

pub use auth::Auth;

use crate::model::duration::parse_duration;
use crate::model::status::{Budget, Budgets};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

/// One setting, as the documentation shows it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The environment variable; the flag is the same in lower case with hyphens.
    pub name: &'static str,
    /// What holds where nothing is said; empty means none.
    pub default: &'static str,
    /// One sentence for people, with the unit.
    pub help: &'static str,
}

impl Setting {
    /// The flag of this setting, without its value: `--start-wait`.
    #[must_use]
    pub fn flag(&self) -> String {
        format!("--{}", self.name.to_ascii_lowercase().replace('_', "-"))
    }
}

const fn setting(name: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting {
        name,
        default,
        help,
    }
}

/// All settings, in the order of the documentation.
pub const SETTINGS: &[Setting] = &[
    setting(
        "JOB_NAMESPACE",
        "",
        "Namespace of the templates and instances; by default the pod's own, outside a cluster the kubeconfig's, then `default`",
    ),
    setting(
        "CONFIGMAP_SELECTOR",
        "config-controller.semafor.ch/template",
        "Label selector of the ConfigMaps that hold templates",
    ),
    setting(
        "SERVICE_PORT",
        "3333",
        "Port to listen on; 0 lets the system choose",
    ),
    setting(
        "LISTEN",
        "::",
        "Address to listen on; `::` is all addresses of both families, or 0.0.0.0 where there is no IPv6",
    ),
    setting(
        "TLS_CERT",
        "",
        "PEM file with the certificate of the port and its chain; with TLS_KEY it makes the port HTTPS; read again when it changes",
    ),
    setting(
        "TLS_KEY",
        "",
        "PEM file with the key of that certificate, without a passphrase",
    ),
    setting(
        "KUBECONFIG",
        "",
        "Kubeconfig file for use outside a cluster; by default ~/.kube/config",
    ),
    setting(
        "START_WAIT",
        "10s",
        "How long a request waits for its instance before it is answered 202",
    ),
    setting(
        "START_WAIT_MAX",
        "300s",
        "Longest wait that a caller may ask for with `Prefer: wait=N`",
    ),
    setting(
        "START_BUDGET_CREATING",
        "15s",
        "How long a start may be without a pod before its caller is told that it probably fails; a template's annotation `start-budget.creating` wins, and so for those below",
    ),
    setting(
        "START_BUDGET_SCHEDULING",
        "10m",
        "The same, for a pod without a node",
    ),
    setting(
        "START_BUDGET_MOUNTING",
        "5m",
        "The same, while the node prepares volumes and network",
    ),
    setting(
        "START_BUDGET_PULLING",
        "5m",
        "The same, while the image is being fetched",
    ),
    setting(
        "START_BUDGET_PULL_ERROR",
        "10s",
        "The same, once the image could not be fetched",
    ),
    setting(
        "START_BUDGET_INITIALISING",
        "5m",
        "The same, while init containers run",
    ),
    setting(
        "START_BUDGET_STARTING",
        "10s",
        "The same, for a container that cannot be made, or that fails and is run again",
    ),
    setting(
        "START_BUDGET_READYING",
        "5m",
        "The same, until the readiness probe passes",
    ),
    setting(
        "DRAIN_DELAY",
        "5s",
        "After SIGTERM, how long requests are accepted as before, while endpoints are taken away",
    ),
    setting(
        "DRAIN",
        "15s",
        "After SIGTERM, when the program ends at the latest",
    ),
    setting(
        "POLL",
        "2s",
        "Pause between two lists of a resource that may not be watched",
    ),
    setting("IO_THREADS", "2", "Threads that serve connections"),
    setting(
        "WORKERS",
        "8",
        "Threads that call Kubernetes, each with at most one call",
    ),
    setting(
        "PARKED_MAX",
        "6000",
        "Requests that may wait at the same time",
    ),
    setting(
        "PARKED_PER_KEY_MAX",
        "1000",
        "Requests that may wait for the same instance at the same time",
    ),
    setting(
        "CONNECTIONS_MAX",
        "12000",
        "Connections that may be open at the same time",
    ),
    setting(
        "CONNECTIONS_PER_PEER_MAX",
        "8000",
        "Connections that one peer address (IPv6: one /64 network) may have open at the same time",
    ),
    setting(
        "IDLE_TIMEOUT",
        "75s",
        "How long a connection may be idle between two requests; more than 5s",
    ),
    setting(
        "HEAD_TIMEOUT",
        "5s",
        "How long the head of a request may take to arrive",
    ),
    setting(
        "HEAD_BYTES_MAX",
        "16384",
        "Size of a request head, in bytes",
    ),
    setting("HEADERS_MAX", "100", "Header lines of a request"),
    setting(
        "BODY_TIMEOUT",
        "10s",
        "How long the body of a request may take to arrive",
    ),
    setting(
        "BODY_BYTES_MAX",
        "1048576",
        "Size of a request body, in bytes",
    ),
    setting(
        "AUTH",
        "none",
        "Who may call: none (everybody who reaches the port), token (bearer tokens of a file) or kubernetes (tokens of service accounts)",
    ),
    setting(
        "AUTH_TOKENS_FILE",
        "",
        "With AUTH=token, the file of the tokens: `TOKEN [NAME [TYPE,TYPE...]]` on each line; read again when it changes",
    ),
    setting(
        "AUTH_ALLOW",
        "",
        "With AUTH=kubernetes, the service accounts that may call, as namespace/name, parted by commas",
    ),
    setting(
        "AUTH_FAILURES_MAX",
        "20",
        "Wrong tokens of one peer address (IPv6: one /64 network) in a minute, after which its tokens are refused for the rest of it",
    ),
    setting(
        "LOG_LEVEL",
        "info",
        "error, warn, info or debug; RUST_LOG, in env_logger's syntax, wins",
    ),
    setting("LOG_FORMAT", "text", "text, or json for one object a line"),
    setting(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "",
        "URL that takes traces, used as it is: http://collector:4318/v1/traces; it turns traces on",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "",
        "The same for all signals, to which `/v1/traces` is added: http://collector:4318",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "",
        "As OTEL_EXPORTER_OTLP_PROTOCOL, for traces alone",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "http/protobuf",
        "How traces are sent; there is no other way",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "",
        "As OTEL_EXPORTER_OTLP_HEADERS, for traces alone",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "",
        "Headers for the collector, as name=value parted by commas, values percent-encoded",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        "",
        "As OTEL_EXPORTER_OTLP_TIMEOUT, for traces alone",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "10000",
        "How long sending a batch may take, in milliseconds",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
        "",
        "As OTEL_EXPORTER_OTLP_CERTIFICATE, for traces alone",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "",
        "PEM file with the CA of the collector; needed with https, since the image has no roots of its own",
    ),
    setting(
        "OTEL_SERVICE_NAME",
        "config-controller",
        "The attribute `service.name` of traces",
    ),
    setting(
        "OTEL_RESOURCE_ATTRIBUTES",
        "",
        "More attributes of this process in traces, as name=value parted by commas, values percent-encoded",
    ),
    setting(
        "OTEL_TRACES_SAMPLER",
        "parentbased_always_on",
        "Which traces are recorded: always_on, always_off, traceidratio, or one of them after parentbased_, where a caller's own decision goes first",
    ),
    setting(
        "OTEL_TRACES_SAMPLER_ARG",
        "1",
        "With traceidratio, which share, from 0 to 1",
    ),
    setting(
        "OTEL_TRACES_EXPORTER",
        "otlp",
        "otlp, or none for no traces",
    ),
    setting("OTEL_SDK_DISABLED", "false", "true for no traces"),
    setting(
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "2048",
        "Spans that may wait to be sent; more are dropped and counted",
    ),
    setting(
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "512",
        "Spans that are sent at once",
    ),
    setting(
        "OTEL_BSP_SCHEDULE_DELAY",
        "5000",
        "How long spans wait for others before they are sent, in milliseconds",
    ),
    setting(
        "OTEL_BSP_EXPORT_TIMEOUT",
        "30000",
        "As OTEL_EXPORTER_OTLP_TIMEOUT; the shorter holds",
    ),
];

/// What was asked of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the service.
    Serve(Box<Config>),
    /// Look whether all that the service needs is there, or at these files alone, and end.
    Check(Box<Config>, Vec<String>),
    /// Print the help and end.
    Help,
    /// Print the version and end.
    Version,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The checked settings of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Namespace, where one was named.
    pub namespace: Option<String>,
    /// Label selector of the template ConfigMaps.
    pub configmap_selector: String,
    /// Address to listen on.
    pub listen: IpAddr,
    /// Port to listen on; 0 lets the system choose.
    pub port: u16,
    /// Certificate and key, where the port is HTTPS.
    pub tls: Option<TlsFiles>,
    /// Where the cluster is described, as the environment says.
    pub cluster: ClusterSources,
    /// Wait of a request that does not say how long.
    pub start_wait: Duration,
    /// Longest wait of a request.
    pub start_wait_max: Duration,
    /// How long a start may be held up by what, where a template does not say.
    pub start_budgets: Budgets,
    /// How long requests are accepted after SIGTERM.
    pub drain_delay: Duration,
    /// When the program ends after SIGTERM at the latest.
    pub drain: Duration,
    /// Pause between two lists of a resource that may not be watched.
    pub poll: Duration,
    /// Threads that serve connections.
    pub io_threads: usize,
    /// Threads that call Kubernetes.
    pub workers: usize,
    /// Requests that may wait at the same time.
    pub parked_max: usize,
    /// Requests that may wait for one instance at the same time.
    pub parked_per_key_max: usize,
    /// Bounds of the HTTP front.
    pub front: FrontLimits,
    /// How callers are known.
    pub auth: Auth,
    /// Wrong tokens of one peer address in a minute.
    pub auth_failures_max: usize,
    /// Log filter in env_logger's syntax.
    pub log_filter: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Where traces go, if anywhere.
    pub traces: Option<crate::traces::Settings>,
}

/// The files that make the port HTTPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// `TLS_CERT`: the certificate and its chain.
    pub certificate: PathBuf,
    /// `TLS_KEY`: its key.
    pub key: PathBuf,
}

/// Bounds of connections and requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrontLimits {
    /// Connections at the same time.
    pub connections_max: usize,
    /// Connections of one peer address at the same time.
    pub connections_per_peer_max: usize,
    /// How long a connection may be idle.
    pub idle_timeout: Duration,
    /// How long a head may take.
    pub head_timeout: Duration,
    /// Bytes of a head.
    pub head_bytes_max: usize,
    /// Header lines of a head.
    pub headers_max: usize,
    /// How long a body may take.
    pub body_timeout: Duration,
    /// Bytes of a body.
    pub body_bytes_max: usize,
}

/// The environment's words on where the API server is; [`crate::kube::auth`] makes sense of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterSources {
    /// `KUBERNETES_SERVICE_HOST`: set inside a cluster; left out where the kubeconfig was named
    /// by flag, which wins over being inside a cluster.
    pub service_host: Option<String>,
    /// `KUBERNETES_SERVICE_PORT`.
    pub service_port: Option<String>,
    /// `KUBECONFIG`, or `--kubeconfig`.
    pub kubeconfig: Option<String>,
    /// `HOME`.
    pub home: Option<String>,
}

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads arguments (without the program's name) and environment; a flag wins over its variable.
///
/// # Errors
/// Every problem that was found, in the order of the table.
pub fn parse<I>(
    arguments: I,
    environment: &BTreeMap<String, String>,
) -> Result<Command, Vec<Problem>>
where
    I: IntoIterator<Item = String>,
{
    let mut problems = Vec::new();
    let mut arguments = arguments.into_iter().peekable();
    let is_check = arguments.peek().is_some_and(|first| first == "check");
    if is_check || arguments.peek().is_some_and(|first| first == "serve") {
        arguments.next();
    }
    let mut files = is_check.then(Vec::new);
    let flags = match parse_flags(arguments, files.as_mut(), &mut problems) {
        Flags::Help => return Ok(Command::Help),
        Flags::Version => return Ok(Command::Version),
        Flags::Values(values) => values,
    };
    let mut reader = Reader {
        flags: &flags,
        environment,
        problems,
    };
    let config = reader.config();
    if !reader.problems.is_empty() {
        return Err(reader.problems);
    }
    let config = Box::new(config);
    Ok(match files {
        Some(files) => Command::Check(config, files),
        None => Command::Serve(config),
    })
}

enum Flags {
    Help,
    Version,
    Values(BTreeMap<&'static str, String>),
}

/// What does not begin with a hyphen goes to `files`, where files may be named.
fn parse_flags(
    mut arguments: impl Iterator<Item = String>,
    mut files: Option<&mut Vec<String>>,
    problems: &mut Vec<Problem>,
) -> Flags {
    let mut values = BTreeMap::new();
    while let Some(argument) = arguments.next() {
        if let Some(files) = files.as_mut().filter(|_| !argument.starts_with('-')) {
            files.push(argument);
            continue;
        }
        let (flag, attached) = match argument.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (argument, None),
        };
        match flag.as_str() {
            "--help" | "-h" => return Flags::Help,
            "--version" | "-V" => return Flags::Version,
            _ => {}
        }
        let Some(setting) = SETTINGS.iter().find(|setting| setting.flag() == flag) else {
            problems.push(Problem(format!(
                "'{flag}' is no argument of config-controller: see --help for those there are"
            )));
            continue;
        };
        match attached.or_else(|| arguments.next()) {
            Some(value) => {
                values.insert(setting.name, value);
            }
            None => problems.push(Problem(format!("{flag} needs a value: {flag}=VALUE"))),
        }
    }
    Flags::Values(values)
}

/// Looks up settings and keeps the problems met on the way.
struct Reader<'a> {
    flags: &'a BTreeMap<&'static str, String>,
    environment: &'a BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn config(&mut self) -> Config {
        let config = Config {
            namespace: self.namespace(),
            configmap_selector: self.text("CONFIGMAP_SELECTOR"),
            listen: self.parsed("LISTEN", "an IP address such as 127.0.0.1 or ::"),
            port: self.parsed("SERVICE_PORT", "a port from 0 to 65535"),
            tls: self.tls(),
            cluster: self.cluster(),
            start_wait: self.duration("START_WAIT"),
            start_wait_max: self.duration("START_WAIT_MAX"),
            start_budgets: self.start_budgets(),
            drain_delay: self.duration("DRAIN_DELAY"),
            drain: self.duration("DRAIN"),
            poll: self.duration("POLL"),
            io_threads: self.number("IO_THREADS", 1, 64),
            workers: self.number("WORKERS", 1, 256),
            parked_max: self.number("PARKED_MAX", 1, 1_000_000),
            parked_per_key_max: self.number("PARKED_PER_KEY_MAX", 1, 1_000_000),
            front: self.front(),
            auth: self.auth(),
            auth_failures_max: self.number("AUTH_FAILURES_MAX", 1, 1_000_000),
            log_filter: self.log_filter(),
            log_format: self.log_format(),
            traces: self.traces(),
        };
        self.check_relations(&config);
        config
    }

    fn start_budgets(&mut self) -> Budgets {
        let mut budgets = Budgets::default();
        for budget in Budget::ALL {
            let name = budget.as_str().to_ascii_uppercase().replace('-', "_");
            budgets.set(budget, self.duration(&format!("START_BUDGET_{name}")));
        }
        budgets
    }

    fn front(&mut self) -> FrontLimits {
        FrontLimits {
            connections_max: self.number("CONNECTIONS_MAX", 1, 1_000_000),
            connections_per_peer_max: self.number("CONNECTIONS_PER_PEER_MAX", 1, 1_000_000),
            idle_timeout: self.duration("IDLE_TIMEOUT"),
            head_timeout: self.duration("HEAD_TIMEOUT"),
            head_bytes_max: self.number("HEAD_BYTES_MAX", 256, 1 << 20),
            headers_max: self.number("HEADERS_MAX", 1, 1000),
            body_timeout: self.duration("BODY_TIMEOUT"),
            body_bytes_max: self.number("BODY_BYTES_MAX", 0, 1 << 30),
        }
    }

    fn check_relations(&mut self, config: &Config) {
        if config.front.idle_timeout <= Duration::from_secs(5) {
            self.problem(
                "IDLE_TIMEOUT",
                "is 5s or less: clients of the contract keep idle connections for 4 s, so give more than 5s",
            );
        }
        if config.start_wait > config.start_wait_max {
            self.problem(
                "START_WAIT",
                "is longer than START_WAIT_MAX: give at most that",
            );
        }
        if config.drain_delay > config.drain {
            self.problem("DRAIN_DELAY", "is longer than DRAIN: give at most that");
        }
        for (name, value) in [
            ("POLL", config.poll),
            ("HEAD_TIMEOUT", config.front.head_timeout),
        ] {
            if value.is_zero() {
                self.problem(name, "is zero: give at least 1ms");
            }
        }
    }

    fn raw(&self, name: &str) -> Option<&str> {
        let flag = self.flags.get(name).map(String::as_str);
        flag.or_else(|| self.environment.get(name).map(String::as_str))
            .filter(|value| !value.is_empty())
    }

    fn default(name: &str) -> &'static str {
        SETTINGS
            .iter()
            .find(|setting| setting.name == name)
            .expect("every name that is read stands in the table")
            .default
    }

    fn text(&self, name: &str) -> String {
        self.raw(name)
            .unwrap_or_else(|| Self::default(name))
            .to_owned()
    }

    fn problem(&mut self, name: &str, text: &str) {
        self.problems.push(Problem(format!("{name} {text}")));
    }

    fn parsed<T: std::str::FromStr>(&mut self, name: &str, expected: &str) -> T {
        let text = self.text(name);
        text.parse().unwrap_or_else(|_| {
            self.problem(name, &format!("is '{text}': give {expected}"));
            Self::default(name)
                .parse()
                .unwrap_or_else(|_| unreachable!("the defaults of the table are tested"))
        })
    }

    fn number(&mut self, name: &str, least: usize, most: usize) -> usize {
        let expected = format!("a whole number from {least} to {most}");
        let number = self.parsed(name, &expected);
        if (least..=most).contains(&number) {
            return number;
        }
        self.problem(name, &format!("is {number}: give {expected}"));
        least
    }

    fn duration(&mut self, name: &str) -> Duration {
        let text = self.text(name);
        parse_duration(&text).unwrap_or_else(|| {
            self.problem(
                name,
                &format!("is '{text}': give a duration such as 500ms, 10s or 5m"),
            );
            parse_duration(Self::default(name)).expect("the defaults of the table are tested")
        })
    }

    fn namespace(&mut self) -> Option<String> {
        let namespace = self.raw("JOB_NAMESPACE")?.to_owned();
        // A namespace is a DNS-1123 label (Kubernetes, "Object Names and IDs").
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let ends = !namespace.starts_with('-') && !namespace.ends_with('-');
        if namespace.len() > 63 || !namespace.chars().all(fits) || !ends {
            self.problem(
                "JOB_NAMESPACE",
                &format!("is '{namespace}': give a namespace of at most 63 of a-z, 0-9 and -"),
            );
        }
        Some(namespace)
    }

    fn tls(&mut self) -> Option<TlsFiles> {
        let file = |name| self.raw(name).map(PathBuf::from);
        let missing = match (file("TLS_CERT"), file("TLS_KEY")) {
            (Some(certificate), Some(key)) => return Some(TlsFiles { certificate, key }),
            (None, None) => return None,
            (Some(_), None) => "TLS_KEY",
            (None, Some(_)) => "TLS_CERT",
        };
        self.problem(
            missing,
            "is missing: HTTPS needs TLS_CERT and TLS_KEY, and plain HTTP neither",
        );
        None
    }

    fn cluster(&self) -> ClusterSources {
        let owned = |name: &str| {
            self.environment
                .get(name)
                .filter(|v| !v.is_empty())
                .cloned()
        };
        ClusterSources {
            service_host: owned("KUBERNETES_SERVICE_HOST")
                .filter(|_| !self.flags.contains_key("KUBECONFIG")),
            service_port: owned("KUBERNETES_SERVICE_PORT"),
            kubeconfig: self.raw("KUBECONFIG").map(str::to_owned),
            home: owned("HOME"),
        }
    }

    fn log_filter(&mut self) -> String {
        // What libraries say below a warning is of no use to an operator.
        let of_us = |level: &str| format!("warn,config_controller={level}");
        let level = self.text("LOG_LEVEL");
        let filter = match level.to_ascii_lowercase().as_str() {
            level @ ("error" | "warn" | "info" | "debug") => of_us(level),
            // The original's deployments may carry Python's names for levels.
            "warning" => of_us("warn"),
            _ => {
                self.problem(
                    "LOG_LEVEL",
                    &format!("is '{level}': give error, warn, info or debug"),
                );
                of_us("info")
            }
        };
        self.environment
            .get("RUST_LOG")
            .filter(|v| !v.is_empty())
            .cloned()
            .unwrap_or(filter)
    }

    fn log_format(&mut self) -> LogFormat {
        match self.text("LOG_FORMAT").as_str() {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            other => {
                let text = format!("is '{other}': give text or json");
                self.problem("LOG_FORMAT", &text);
                LogFormat::Text
            }
        }
    }
}

/// The text of `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(
        "Hands out app instances in a Kubernetes namespace: one GET answers with the address\n\
         of an instance, starting it first if it does not run.\n\n\
         Usage: config-controller [serve] [--SETTING=VALUE ...]\n       \
         config-controller check [--SETTING=VALUE ...] [FILE ...]\n       \
         config-controller --help | --version\n\n\
         `check` looks whether the service may do what it needs, and whether the templates of the\n\
         namespace are good; with FILEs (manifests with ConfigMaps, or bare templates) at those alone.\n\n\
         Each setting is an environment variable or a flag; the flag wins.\n\n",
    );
    for setting in SETTINGS {
        let default = if setting.default.is_empty() {
            String::new()
        } else {
            format!(" [{}]", setting.default)
        };
        text.push_str(&format!(
            "  {} ({}){default}\n      {}\n",
            setting.flag(),
            setting.name,
            setting.help
        ));
    }
    text.push_str("\nExit codes\n");
    for (code, meaning) in EXIT_CODES {
        text.push_str(&format!("  {code}  {meaning}\n"));
    }
    text
}

/// What the program's exit codes mean.
pub const EXIT_CODES: &[(u8, &str)] = &[
    (
        0,
        "stopped when asked, or what was asked for was printed; `check`: all is good, or works with less",
    ),
    (
        1,
        "could not start: the port, a file or a thread was not to be had; `check`: something has to be mended",
    ),
    (
        2,
        "the settings or the cluster configuration are wrong; all problems were printed",
    ),
    (
        3,
        "a thread that the service cannot do without died; restart it",
    ),
];

/// The address that stands for all addresses of both families.
pub const ALL_ADDRESSES: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn arguments(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn serve(words: &[&str], pairs: &[(&str, &str)]) -> Config {
        match parse(arguments(words), &environment(pairs)) {
            Ok(Command::Serve(config)) => *config,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn check_problems(words: &[&str], pairs: &[(&str, &str)], expected: &[&str]) {
        let problems = parse(arguments(words), &environment(pairs)).unwrap_err();
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn the_defaults_of_the_table_are_good() {
        let config = serve(&[], &[]);
        assert_eq!(config.port, 3333);
        assert_eq!(config.namespace, None);
        assert_eq!(
            config.configmap_selector,
            "config-controller.semafor.ch/template"
        );
        assert_eq!(config.listen, ALL_ADDRESSES);
        assert_eq!(config.start_wait, Duration::from_secs(10));
        assert_eq!(config.front.connections_max, 12_000);
        assert_eq!(config.start_budgets, Budgets::default());
    }

    #[test]
    fn each_budget_has_its_setting() {
        let config = serve(
            &["--start-budget-pull-error=3s"],
            &[("START_BUDGET_READYING", "4s")],
        );
        let mut budgets = Budgets::default();
        budgets.set(Budget::PullError, Duration::from_secs(3));
        budgets.set(Budget::Readying, Duration::from_secs(4));
        assert_eq!(config.start_budgets, budgets);
    }

    #[test]
    fn a_flag_wins_over_its_variable_and_an_empty_variable_is_none() {
        let config = serve(
            &["serve", "--service-port=4000", "--job-namespace", "apps"],
            &[
                ("SERVICE_PORT", "5000"),
                ("START_WAIT", ""),
                ("DRAIN", "20s"),
            ],
        );
        assert_eq!(config.port, 4000);
        assert_eq!(config.namespace.as_deref(), Some("apps"));
        assert_eq!(config.start_wait, Duration::from_secs(10));
        assert_eq!(config.drain, Duration::from_secs(20));
    }

    #[test]
    fn all_problems_are_told_at_once() {
        check_problems(
            &["--nope", "--start-wait"],
            &[
                ("SERVICE_PORT", "70000"),
                ("JOB_NAMESPACE", "Apps"),
                ("LOG_FORMAT", "xml"),
                ("IDLE_TIMEOUT", "5s"),
                ("WORKERS", "0"),
                ("POLL", "soon"),
            ],
            &[
                "'--nope' is no argument of config-controller: see --help for those there are",
                "--start-wait needs a value: --start-wait=VALUE",
                "JOB_NAMESPACE is 'Apps': give a namespace of at most 63 of a-z, 0-9 and -",
                "SERVICE_PORT is '70000': give a port from 0 to 65535",
                "POLL is 'soon': give a duration such as 500ms, 10s or 5m",
                "WORKERS is 0: give a whole number from 1 to 256",
                "LOG_FORMAT is 'xml': give text or json",
                "IDLE_TIMEOUT is 5s or less: clients of the contract keep idle connections for 4 s, so give more than 5s",
            ],
        );
    }

    #[test]
    fn https_needs_certificate_and_key() {
        let both = serve(&["--tls-key=k.pem"], &[("TLS_CERT", "c.pem")]);
        let tls = TlsFiles {
            certificate: "c.pem".into(),
            key: "k.pem".into(),
        };
        assert_eq!(both.tls, Some(tls));
        assert_eq!(serve(&[], &[("TLS_CERT", ""), ("TLS_KEY", "")]).tls, None);
        let rest = "is missing: HTTPS needs TLS_CERT and TLS_KEY, and plain HTTP neither";
        let missing = |name: &str| format!("{name} {rest}");
        check_problems(&[], &[("TLS_CERT", "c.pem")], &[&missing("TLS_KEY")]);
        check_problems(&[], &[("TLS_KEY", "k.pem")], &[&missing("TLS_CERT")]);
    }

    #[test]
    fn check_takes_flags_and_files() {
        let words = ["check", "a.yaml", "--job-namespace", "apps", "b.yaml"];
        let config = serve(&["--job-namespace=apps"], &[]);
        let files = arguments(&["a.yaml", "b.yaml"]);
        assert_eq!(
            parse(arguments(&words), &environment(&[])),
            Ok(Command::Check(Box::new(config), files))
        );
        let expected =
            "'a.yaml' is no argument of config-controller: see --help for those there are";
        check_problems(&["a.yaml"], &[], &[expected]);
        check_problems(&["serve", "a.yaml"], &[], &[expected]);
    }

    #[test]
    fn help_and_version_are_commands() {
        assert_eq!(
            parse(arguments(&["--help"]), &environment(&[])),
            Ok(Command::Help)
        );
        assert_eq!(
            parse(arguments(&["-V"]), &environment(&[])),
            Ok(Command::Version)
        );
        let help = help();
        for setting in SETTINGS {
            assert!(help.contains(&setting.flag()) && help.contains(setting.name));
        }
    }
}
