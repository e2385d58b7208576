//! Settings: from environment variables and flags to a checked [`Config`].
//!
//! Pure: the environment and the arguments are parameters. The table [`SETTINGS`] lists the settings; this file parses and
//! checks them, and collects all problems. What a value means is decided where it is used, not here.

mod auth;
mod names;
mod relations;
mod settings;
mod syntax;
mod template_defaults;
mod traces;

pub use auth::Auth;
pub use settings::{SETTINGS, Setting};

use crate::app::Waits;
use crate::app::coordinator::Limits as WaitingLimits;
use crate::budget::Division;
use crate::http::hosts::{AllowedHosts, HOSTS_MAX};
use crate::http::message::Limits;
use crate::http::tls::TlsFiles;
use crate::kube::auth::{Environment, SERVICE_ACCOUNT_DIR};
use crate::model::duration::parse_duration;
use crate::model::job::JobSettings;
use crate::model::labels::AllBounds;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The command to run.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Runs the service.
    Serve(Box<Config>),
    /// Checks the permissions and templates of the cluster, or only files.
    Check(Box<Config>, CheckArguments),
    /// Prints the help.
    Help,
    /// Prints the version.
    Version,
}

/// Arguments of `check` that are no settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckArguments {
    /// Files and folders to check instead of the cluster; `-` is standard input.
    pub files: Vec<String>,
    /// Whether to print JSON.
    pub json: bool,
    /// The request whose Job to print, `TYPE?query` or `TYPE/NAME?query`.
    pub render: Option<String>,
}

impl CheckArguments {
    /// Sets `--output` or `--render`; returns the problem if that is impossible.
    fn set(&mut self, flag: &str, value: Option<String>) -> Option<String> {
        match (flag, value.as_deref()) {
            ("--output", Some("json")) => self.json = true,
            ("--output", Some("text")) => self.json = false,
            ("--output", _) => return Some("--output must be text or json".to_owned()),
            (_, None | Some("")) => {
                return Some(format!("{flag} needs a value: {flag}=TYPE?query"));
            }
            (_, Some(_)) => self.render = value,
        }
        None
    }
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Human-readable.
    Text,
    /// One JSON object per line.
    Json,
}

/// The checked settings of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Namespace, if one is configured.
    pub namespace: Option<String>,
    /// The name of this replica's pod.
    pub pod_name: Option<String>,
    /// The UID of this replica's pod.
    pub pod_uid: Option<String>,
    /// Label selector of the template ConfigMaps.
    pub configmap_selector: String,
    /// Address to listen on.
    pub listen: IpAddr,
    /// Port to listen on; 0 lets the system choose.
    pub port: u16,
    /// Certificate and key; `None` means plain HTTP.
    pub tls: Option<TlsFiles>,
    /// The names under which callers may use the service; none means all.
    pub allowed_hosts: AllowedHosts,
    /// How to find the API server.
    pub cluster: Environment,
    /// How long requests wait for their instance.
    pub waits: Waits,
    /// The longest use of an instance that one request may claim.
    pub heartbeat_max: Duration,
    /// How long nobody has used an instance that is restarted when it is idle.
    pub restart_idle_after: Duration,
    /// Settings of templates that do not say otherwise.
    pub template_defaults: JobSettings,
    /// How long requests are still accepted after SIGTERM.
    pub drain_delay: Duration,
    /// Longest time from SIGTERM until the process exits.
    pub drain: Duration,
    /// Interval between two lists of a resource that the service account may not watch.
    pub poll: Duration,
    /// Interval at which the caches are compared with Kubernetes.
    pub relist: Duration,
    /// Threads that serve connections.
    pub io_threads: usize,
    /// Threads that call Kubernetes.
    pub workers: usize,
    /// Logs that are read at the same time.
    pub log_streams: usize,
    /// Bounds on waiting requests.
    pub waiting: WaitingLimits,
    /// Limits of the HTTP server.
    pub front: Limits,
    /// Bytes that requests and responses may hold in all.
    pub held_bytes_max: usize,
    /// Whether that was set.
    pub held_bytes_are_set: bool,
    /// Whether `CONNECTIONS_MAX` is set; its default is lowered where the machine allows fewer.
    pub connections_are_set: bool,
    /// How callers are authenticated.
    pub auth: Auth,
    /// Wrong tokens allowed per minute and peer address.
    pub auth_failures_max: usize,
    /// Log filter in env_logger's syntax.
    pub log_filter: String,
    /// Format of log lines.
    pub log_format: LogFormat,
    /// Settings of tracing; `None` means off.
    pub traces: Option<crate::traces::Settings>,
}

/// Variables that are read in addition to [`SETTINGS`].
const SURROUNDINGS: [&str; 3] = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "HOME"];

/// As [`parse`], from strings that need not be UTF-8. `further` finds the problems that only the machine knows.
///
/// # Errors
/// As [`parse`], and those of `further`; if an argument or a variable that is read is not UTF-8,
/// only those problems. Other variables are ignored.
pub fn parse_os(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    further: impl FnOnce(&Config) -> Vec<String>,
) -> Result<Command, Vec<String>> {
    let mut problems = Vec::new();
    let arguments: Vec<String> = (1..)
        .zip(arguments)
        .map(|(place, argument)| {
            argument.into_string().unwrap_or_else(|argument| {
                let shown = argument.to_string_lossy().into_owned();
                problems.push(format!("argument {place} ('{shown}') is not valid UTF-8"));
                shown
            })
        })
        .collect();
    let mut texts = BTreeMap::new();
    for (name, value) in environment {
        let Ok(name) = name.into_string() else {
            continue;
        };
        if let Ok(value) = value.into_string() {
            texts.insert(name, value);
        } else if SURROUNDINGS.contains(&name.as_str())
            || SETTINGS.iter().any(|setting| setting.name == name)
        {
            // Without the value, which may be a secret.
            problems.push(format!("{name} is not valid UTF-8"));
        }
    }
    match parse_with(arguments, &texts, further) {
        Ok(command @ (Command::Help | Command::Version)) => Ok(command),
        _ if !problems.is_empty() => Err(problems),
        parsed => parsed,
    }
}

/// Reads arguments (without the program's name) and environment; a flag takes precedence over its variable.
///
/// # Errors
/// All problems, in the order of the table.
pub fn parse<I>(
    arguments: I,
    environment: &BTreeMap<String, String>,
) -> Result<Command, Vec<String>>
where
    I: IntoIterator<Item = String>,
{
    parse_with(arguments, environment, |_| Vec::new())
}

fn parse_with<I>(
    arguments: I,
    environment: &BTreeMap<String, String>,
    further: impl FnOnce(&Config) -> Vec<String>,
) -> Result<Command, Vec<String>>
where
    I: IntoIterator<Item = String>,
{
    let mut problems = Vec::new();
    let mut arguments = arguments.into_iter().peekable();
    let command = arguments.next_if(|first| first == "check" || first == "serve");
    let check = command.filter(|it| it == "check");
    let mut check = check.map(|_| CheckArguments::default());
    let flags = match parse_flags(arguments, check.as_mut(), &mut problems) {
        Ok(flags) => flags,
        Err(command) => return Ok(command),
    };
    let mut reader = Reader {
        flags: &flags,
        environment,
        problems,
    };
    let config = reader.config();
    let mut problems = reader.problems;
    if check.is_none() {
        problems.extend(further(&config));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let config = Box::new(config);
    Ok(match check {
        Some(arguments) => Command::Check(config, arguments),
        None => Command::Serve(config),
    })
}

/// The values of flags, by setting. What is no setting goes to `check`, if that is the command.
///
/// # Errors
/// [`Command::Help`] or [`Command::Version`], which take precedence over everything else.
fn parse_flags(
    mut arguments: impl Iterator<Item = String>,
    mut check: Option<&mut CheckArguments>,
    problems: &mut Vec<String>,
) -> Result<BTreeMap<&'static str, String>, Command> {
    let mut values = BTreeMap::new();
    while let Some(argument) = arguments.next() {
        let is_file = argument == "-" || !argument.starts_with('-');
        if let Some(check) = check.as_mut().filter(|_| is_file) {
            check.files.push(argument);
            continue;
        }
        let (flag, attached) = match argument.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (argument, None),
        };
        match flag.as_str() {
            "--help" | "-h" => return Err(Command::Help),
            "--version" | "-V" => return Err(Command::Version),
            _ => {}
        }
        if let Some(check) = &mut check
            && ["--output", "--render"].contains(&flag.as_str())
        {
            problems.extend(check.set(&flag, attached.or_else(|| arguments.next())));
            continue;
        }
        let Some(setting) = SETTINGS.iter().find(|setting| setting.flag() == flag) else {
            problems.push(format!("unknown argument '{flag}'; see --help"));
            continue;
        };
        match attached.or_else(|| arguments.next()) {
            Some(value) => {
                values.insert(setting.name, value);
            }
            None => problems.push(format!("{flag} needs a value: {flag}=VALUE")),
        }
    }
    Ok(values)
}

/// The default of `CONNECTIONS_MAX` with TLS: each connection keeps about 11 KiB of state, with its
/// handshake, which must fit beside everything else in the memory limit of the manifests.
const TLS_CONNECTIONS: usize = 2000;

/// Looks up settings and collects their problems.
struct Reader<'a> {
    flags: &'a BTreeMap<&'static str, String>,
    environment: &'a BTreeMap<String, String>,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn config(&mut self) -> Config {
        let division = Division {
            caller: self.number("CALLER_SHARE_MAX", 1, 100),
            writes: self.number("WRITE_RESERVE", 0, 50),
        };
        let mut config = Config {
            namespace: self.namespace(),
            pod_name: self.pod_name(),
            pod_uid: self.raw("POD_UID").map(Into::into),
            configmap_selector: self.selector(),
            listen: self.parsed("LISTEN", "an IP address such as 127.0.0.1 or ::"),
            port: self.parsed("SERVICE_PORT", "a port from 0 to 65535"),
            tls: self.tls(),
            allowed_hosts: self.allowed_hosts(),
            cluster: self.cluster(),
            waits: Waits {
                start_wait: self.duration("START_WAIT"),
                start_wait_max: self.duration("START_WAIT_MAX"),
            },
            heartbeat_max: self.duration("HEARTBEAT_MAX"),
            restart_idle_after: self.duration("RESTART_IDLE_AFTER"),
            template_defaults: self.template_defaults(),
            drain_delay: self.duration("DRAIN_DELAY"),
            drain: self.duration("DRAIN"),
            poll: self.duration("POLL"),
            relist: self.duration("RELIST"),
            io_threads: self.number("IO_THREADS", 1, 64),
            workers: self.number("WORKERS", 1, 256),
            log_streams: self.number("LOG_STREAMS", 1, 256),
            waiting: WaitingLimits {
                max_starting: self.cap("MAX_STARTING"),
                place_kept: Duration::ZERO,
                parked_max: self.number("PARKED_MAX", 1, 1_000_000),
                parked_per_key_max: self.number("PARKED_PER_KEY_MAX", 1, 1_000_000),
                division,
                label_bounds: AllBounds::DEFAULT,
                force_stop: self.word("FORCE_STOP", &["node-lost", "never"]) == "node-lost",
            },
            front: self.front(),
            held_bytes_max: self.number("HELD_BYTES_MAX", 1 << 20, 1 << 40),
            held_bytes_are_set: self.raw("HELD_BYTES_MAX").is_some(),
            connections_are_set: self.raw("CONNECTIONS_MAX").is_some(),
            auth: self.auth(),
            auth_failures_max: self.number("AUTH_FAILURES_MAX", 1, 1_000_000),
            log_filter: self.log_filter(),
            log_format: self.log_format(),
            traces: self.traces(),
        };
        if config.tls.is_some() && !config.connections_are_set {
            config.front.fit(TLS_CONNECTIONS);
        }
        config.waiting.place_kept = config.waits.start_wait;
        self.check_relations(&config);
        config
    }

    fn front(&mut self) -> Limits {
        Limits {
            connections: self.number("CONNECTIONS_MAX", 1, 1_000_000),
            connections_per_peer: self.number("CONNECTIONS_PER_PEER_MAX", 1, 1_000_000),
            idle_timeout: self.duration("IDLE_TIMEOUT"),
            head_timeout: self.duration("HEAD_TIMEOUT"),
            head_bytes: self.number("HEAD_BYTES_MAX", 256, 1 << 20),
            header_count: self.number("HEADERS_MAX", 1, Limits::HEADER_COUNT_MAX),
            body_timeout: self.duration("BODY_TIMEOUT"),
            // The labels of an instance are smaller by far.
            body_bytes: self.number("BODY_BYTES_MAX", 0, 1 << 20),
            ..Limits::default()
        }
    }

    fn raw(&self, name: &str) -> Option<&str> {
        let flag = self.flags.get(name).map(String::as_str);
        flag.or_else(|| self.environment.get(name).map(String::as_str))
            .filter(|value| !value.is_empty())
    }

    fn default(name: &str) -> &'static str {
        let setting = SETTINGS.iter().find(|setting| setting.name == name);
        let setting = setting.expect("every name that is read stands in the table");
        setting.default
    }

    fn text(&self, name: &str) -> String {
        self.raw(name)
            .unwrap_or_else(|| Self::default(name))
            .to_owned()
    }

    fn problem(&mut self, name: &str, text: &str) {
        self.problems.push(format!("{name} {text}"));
    }

    fn unexpected(&mut self, name: &str, text: &str, expected: &str) {
        self.problem(name, &format!("is '{text}'; expected {expected}"));
    }

    fn parsed<T: std::str::FromStr>(&mut self, name: &str, expected: &str) -> T {
        let text = self.text(name);
        text.parse().unwrap_or_else(|_| {
            self.unexpected(name, &text, expected);
            Self::default(name)
                .parse()
                .unwrap_or_else(|_| unreachable!("the defaults of the table are tested"))
        })
    }

    fn number(&mut self, name: &str, least: usize, most: usize) -> usize {
        let expected = format!("a whole number from {least} to {most}");
        let text = self.text(name);
        let Ok(number) = text.parse() else {
            self.unexpected(name, &text, &expected);
            return least;
        };
        if (least..=most).contains(&number) {
            return number;
        }
        self.problem(name, &format!("is {number}; expected {expected}"));
        least
    }

    fn duration(&mut self, name: &str) -> Duration {
        let text = self.text(name);
        parse_duration(&text).unwrap_or_else(|| {
            self.unexpected(
                name,
                &text,
                "a duration such as 500ms, 10s or 5m, at most 720h",
            );
            parse_duration(Self::default(name)).expect("the defaults of the table are tested")
        })
    }

    fn selector(&mut self) -> String {
        let name = "CONFIGMAP_SELECTOR";
        let selector = self.text(name);
        if !syntax::is_selector(&selector) {
            let expected = "a label selector such as apps, app=portal or app in (portal, daemon)";
            self.unexpected(name, &selector, expected);
        }
        selector
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
            "is missing: set TLS_CERT and TLS_KEY for HTTPS, or neither for plain HTTP",
        );
        None
    }

    fn allowed_hosts(&mut self) -> AllowedHosts {
        let text = self.text("ALLOWED_HOSTS");
        let hosts = AllowedHosts::parse(&text).unwrap_or_else(|bad| {
            for entry in bad {
                let text = format!(
                    "contains '{entry}'; expected hosts such as portal.example, *.portal.example, cc:3333 or [::1]"
                );
                self.problem("ALLOWED_HOSTS", &text);
            }
            AllowedHosts::default()
        });
        if hosts.count() > HOSTS_MAX {
            let text = format!(
                "has {} hosts; at most {HOSTS_MAX} are possible",
                hosts.count()
            );
            self.problem("ALLOWED_HOSTS", &text);
        }
        hosts
    }

    /// A variable that has no flag.
    fn variable(&self, name: &str) -> Option<String> {
        let value = self.environment.get(name);
        value.filter(|value| !value.is_empty()).cloned()
    }

    fn cluster(&self) -> Environment {
        Environment {
            // The flag takes precedence over being inside a cluster.
            service_host: self
                .variable("KUBERNETES_SERVICE_HOST")
                .filter(|_| !self.flags.contains_key("KUBECONFIG")),
            service_port: self.variable("KUBERNETES_SERVICE_PORT"),
            kubeconfig: self.raw("KUBECONFIG").map(str::to_owned),
            home: self.variable("HOME").map(PathBuf::from),
            service_account_dir: SERVICE_ACCOUNT_DIR.into(),
        }
    }

    fn log_filter(&mut self) -> String {
        // Messages of libraries below a warning do not help operators.
        let of_us = |level: &str| format!("warn,config_controller={level}");
        let level = self.text("LOG_LEVEL");
        let filter = match level.to_ascii_lowercase().as_str() {
            level @ ("error" | "warn" | "info" | "debug") => of_us(level),
            // Deployments of 2.7.1 may use Python's names of levels.
            "warning" => of_us("warn"),
            _ => {
                self.unexpected("LOG_LEVEL", &level, "error, warn, info or debug");
                of_us("info")
            }
        };
        let Some(filter) = self.variable("RUST_LOG") else {
            return filter;
        };
        if !syntax::is_log_filter(&filter) {
            let expected = "levels and targets of env_logger such as info,ureq=debug, without the level trace, which is compiled out";
            self.unexpected("RUST_LOG", &filter, expected);
        }
        filter
    }

    fn log_format(&mut self) -> LogFormat {
        match self.word("LOG_FORMAT", &["text", "json"]) {
            "json" => LogFormat::Json,
            _ => LogFormat::Text,
        }
    }

    /// One of `known`; the first one after a problem.
    fn word(&mut self, name: &str, known: &[&'static str]) -> &'static str {
        let text = self.text(name);
        let word = known.iter().find(|word| **word == text).copied();
        word.unwrap_or_else(|| {
            self.unexpected(name, &text, &known.join(" or "));
            known[0]
        })
    }
}

/// The text of `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(
        "Starts and finds app instances in a Kubernetes namespace: a GET returns the address of an\n\
         instance, and starts it first if it is not running.\n\n\
         Usage: config-controller [serve] [--SETTING=VALUE ...]\n       \
         config-controller check [--SETTING=VALUE ...] [--output=json] [--render=TYPE[/NAME][?QUERY]] [FILE|FOLDER|- ...]\n       \
         config-controller --help | --version\n\n\
         `check` verifies the permissions of the service account and the templates of the namespace;\n\
         with FILEs (manifests with ConfigMaps, or plain templates), FOLDERs of manifests or `-` (standard\n\
         input) it verifies only those. --render prints the Job that a request would make.\n\n\
         Each setting is an environment variable or a flag; the flag takes precedence.\n\n",
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

/// Exit codes and their meaning.
pub const EXIT_CODES: &[(u8, &str)] = &[
    (
        0,
        "stopped by a signal, or printed what was requested; `check`: no problem, or only warnings",
    ),
    (
        1,
        "could not start: the port, a file or a thread was unavailable; standard output could not be written; `check`: something must be fixed",
    ),
    (
        2,
        "the settings or the cluster configuration are invalid; all problems were printed",
    ),
    (3, "an essential thread died; restart the process"),
];

#[cfg(test)]
mod tests;
