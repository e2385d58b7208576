//! What the settings of a service name and this machine does not have: files that cannot be used,
//! more connections than files may be open, and more memory than the container may use.
//!
//! Everything is looked at and nothing is started, so that one attempt reports all problems. The
//! syntax of settings is checked in [`crate::config`].

use super::front::{front_settings, memory_of};
use super::{Error, auth_mode, connect};
use crate::budget::Memory;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::http::server;
use crate::process;
use crate::threads::Heartbeats;
use crate::traces;
use std::sync::Arc;

/// All of them, each with the name of its setting.
#[must_use]
pub fn problems(config: &Config) -> Vec<String> {
    let traces = config.traces.as_ref().map_or(Ok(()), traces::check);
    [
        check_kubeconfig(config),
        front_settings(config, &Heartbeats::default(), 0).map(drop),
        auth_mode(config).map(drop),
        traces.map_err(|problem| Error::Settings(vec![problem])),
        check_connections(config, server::connections_possible()),
        check_memory(config, process::memory_max()),
    ]
    .into_iter()
    .filter_map(Result::err)
    .flat_map(Error::into_problems)
    .collect()
}

/// Without a kubeconfig there may be no cluster, which is no problem of a setting.
fn check_kubeconfig(config: &Config) -> Result<(), Error> {
    if config.cluster.kubeconfig.is_none() {
        return Ok(());
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    connect(config, &clock).map(drop)
}

/// `possible` is how many connections the limit of open files allows.
fn check_connections(config: &Config, possible: Option<usize>) -> Result<(), Error> {
    let wanted = config.front.connections;
    match possible {
        Some(possible) if config.connections_are_set && possible < wanted => {
            Err(Error::Settings(vec![format!(
                "CONNECTIONS_MAX is {wanted}; expected at most {possible}, for which the limit of open files has room: lower it, or raise that limit (ulimit -Hn)"
            )]))
        }
        _ => Ok(()),
    }
}

/// `limit` is the memory limit of the container, in bytes.
fn check_memory(config: &Config, limit: Option<u64>) -> Result<(), Error> {
    let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else {
        return Ok(());
    };
    let held = config.held_bytes_max;
    // The default may leave little in a small container.
    let held_max = match config.held_bytes_are_set {
        true => Memory::held_bytes_max(limit),
        false => limit.saturating_sub(1),
    };
    if held > held_max {
        return Err(Error::Settings(vec![format!(
            "HELD_BYTES_MAX is {held}; expected at most {held_max}, so that connections and instances have some of the {limit} bytes that the container may use: lower it, or raise that limit"
        )]));
    }
    let wanted = config.front.connections;
    let possible = memory_of(config, limit).connections_max();
    if config.connections_are_set && wanted > possible {
        return Err(Error::Settings(vec![format!(
            "CONNECTIONS_MAX is {wanted}; expected at most {possible}, for which the {limit} bytes that the container may use have room beside HELD_BYTES_MAX: lower one of them, or raise that limit"
        )]));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Command, parse};
    use std::collections::BTreeMap;

    fn config(pairs: &[(&str, &str)]) -> Config {
        let pairs = pairs.iter();
        let owned = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        match parse([], &owned.collect::<BTreeMap<_, _>>()) {
            Ok(Command::Serve(config)) => *config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_files_that_cannot_be_used_are_reported_together() {
        let config = config(&[
            ("KUBECONFIG", "/no/kubeconfig"),
            ("TLS_CERT", "/no/certificate"),
            ("TLS_KEY", "/no/key"),
            ("AUTH", "token"),
            ("AUTH_TOKENS_FILE", "/no/tokens"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/ca"),
        ]);
        let problems = problems(&config);
        let files = ["kubeconfig", "certificate", "tokens", "ca"];
        assert_eq!(problems.len(), files.len(), "{problems:?}");
        for (problem, file) in problems.iter().zip(files) {
            assert!(problem.contains(&format!("/no/{file}")), "{problem}");
        }
    }

    #[test]
    fn only_connections_that_were_asked_for_must_be_possible() {
        let default = config(&[]);
        assert_eq!(check_connections(&default, Some(960)), Ok(()));
        let set = config(&[("CONNECTIONS_MAX", "961")]);
        assert_eq!(check_connections(&set, Some(961)), Ok(()));
        assert_eq!(check_connections(&set, None), Ok(()));
        let problem = "CONNECTIONS_MAX is 961; expected at most 960, for which the limit of open files has room: lower it, or raise that limit (ulimit -Hn)";
        let refused = Err(Error::Settings(vec![problem.into()]));
        assert_eq!(check_connections(&set, Some(960)), refused);
    }

    #[test]
    fn what_was_asked_for_must_fit_into_the_container() {
        const LIMIT: u64 = 96 << 20;
        let held = config(&[("HELD_BYTES_MAX", "81788929")]);
        assert_eq!(check_memory(&held, Some(LIMIT + 1)), Ok(()));
        assert_eq!(check_memory(&held, None), Ok(()));
        let problem = "HELD_BYTES_MAX is 81788929; expected at most 81788928, so that connections and instances have some of the 100663296 bytes that the container may use: lower it, or raise that limit";
        let refused = Err(Error::Settings(vec![problem.into()]));
        assert_eq!(check_memory(&held, Some(LIMIT)), refused);

        let connections = config(&[("CONNECTIONS_MAX", "4331")]);
        assert_eq!(check_memory(&connections, None), Ok(()));
        assert_eq!(check_memory(&connections, Some(LIMIT + (1 << 20))), Ok(()));
        let problem = "CONNECTIONS_MAX is 4331; expected at most 4330, for which the 100663296 bytes that the container may use have room beside HELD_BYTES_MAX: lower one of them, or raise that limit";
        let refused = Err(Error::Settings(vec![problem.into()]));
        assert_eq!(check_memory(&connections, Some(LIMIT)), refused);
        // The default of one follows the container, that of the other must fit.
        let default = config(&[]);
        assert_eq!(check_memory(&default, Some(25 << 20)), Ok(()));
        assert!(check_memory(&default, Some(24 << 20)).is_err());
    }
}
