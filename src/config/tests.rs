//! Settings by literals: which are read, which are rejected, and that all problems are reported.

use super::*;
use crate::model::status::{Budget, Budgets};
use std::net::Ipv6Addr;

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
fn the_defaults_of_the_table_are_valid() {
    let config = serve(&[], &[]);
    assert_eq!(config.port, 3333);
    assert_eq!(config.namespace, None);
    assert_eq!(
        config.configmap_selector,
        "config-controller.semafor.ch/template"
    );
    assert_eq!(config.listen, IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    assert_eq!(config.waits.start_wait, Duration::from_secs(10));
    assert_eq!(config.front.connections, 4_300);
    assert_eq!(config.template_defaults, JobSettings::default());
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
    assert_eq!(config.template_defaults.budgets, budgets);
}

#[test]
fn templates_may_have_default_lifetimes() {
    let config = serve(
        &["--instance-max-lifetime=8h"],
        &[("INSTANCE_TTL_AFTER_FINISHED", "10m")],
    );
    let secs = |duration: Option<Duration>| duration.map(|it| it.as_secs());
    let defaults = &config.template_defaults;
    assert_eq!(secs(defaults.max_lifetime), Some(8 * 3600));
    assert_eq!(secs(defaults.ttl_after_finished), Some(600));
    let config = serve(&["--instance-max-lifetime=never"], &[]);
    assert_eq!(config.template_defaults, JobSettings::default());
    check_problems(
        &["--instance-max-lifetime=999ms"],
        &[("INSTANCE_TTL_AFTER_FINISHED", "0")],
        &["INSTANCE_MAX_LIFETIME is '999ms'; expected at least 1s, or never"],
    );
    check_problems(
        &["--instance-max-lifetime=soon"],
        &[],
        &[
            "INSTANCE_MAX_LIFETIME is 'soon'; expected a duration such as 10m or 2h, of at most 30 days, or never",
        ],
    );
}

#[test]
fn a_flag_takes_precedence_and_an_empty_variable_is_unset() {
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
    assert_eq!(config.waits.start_wait, Duration::from_secs(10));
    assert_eq!(config.drain, Duration::from_secs(20));
}

#[test]
fn all_problems_are_reported_together() {
    check_problems(
        &["--nope", "--start-wait"],
        &[
            ("SERVICE_PORT", "70000"),
            ("JOB_NAMESPACE", "Apps"),
            ("POD_NAME", "Pod_1"),
            ("LOG_FORMAT", "xml"),
            ("IDLE_TIMEOUT", "5s"),
            ("WORKERS", "0"),
            ("POLL", "soon"),
        ],
        &[
            "unknown argument '--nope'; see --help",
            "--start-wait needs a value: --start-wait=VALUE",
            "JOB_NAMESPACE is 'Apps'; expected at most 63 characters of a-z, 0-9 and -",
            "POD_NAME is 'Pod_1'; expected the name of this pod (fieldPath metadata.name): at most 253 characters of a-z, 0-9, - and .",
            "SERVICE_PORT is '70000'; expected a port from 0 to 65535",
            "POLL is 'soon'; expected a duration such as 500ms, 10s or 5m, at most 720h",
            "WORKERS is 0; expected a whole number from 1 to 256",
            "LOG_FORMAT is 'xml'; expected text or json",
            "IDLE_TIMEOUT is '5s'; expected more than 5s, because clients keep idle connections for 4 s",
        ],
    );
}

/// Each would be accepted and not be obeyed.
#[test]
fn values_that_cannot_be_honoured_are_refused() {
    let above = |bound: &str, limit: &str| {
        format!("at most {bound}, which is '{limit}': lower it, or raise {bound}")
    };
    let selector = "a label selector such as apps, app=portal or app in (portal, daemon)";
    let filter = "levels and targets of env_logger such as info,ureq=debug, without the level trace, which is compiled out";
    for (name, value, expected) in [
        ("START_WAIT", "301s", above("START_WAIT_MAX", "300s")),
        ("DRAIN_DELAY", "16s", above("DRAIN", "15s")),
        ("PARKED_MAX", "4301", above("CONNECTIONS_MAX", "4300")),
        ("PARKED_PER_KEY_MAX", "4001", above("PARKED_MAX", "4000")),
        (
            "CONNECTIONS_PER_PEER_MAX",
            "12001",
            above("CONNECTIONS_MAX", "4300"),
        ),
        (
            "HELD_BYTES_MAX",
            "1048576",
            "at least 2162688, 4 times HEAD_BYTES_MAX and BODY_BYTES_MAX together: raise it, or lower those".into(),
        ),
        ("HEARTBEAT_MAX", "169h", "at most 168h".into()),
        ("RESTART_IDLE_AFTER", "999ms", "1s to 168h".into()),
        ("RESTART_IDLE_AFTER", "169h", "1s to 168h".into()),
        ("POLL", "0", "at least 1ms".into()),
        ("HEAD_TIMEOUT", "0ms", "at least 1ms".into()),
        ("BODY_TIMEOUT", "0s", "at least 1ms".into()),
        ("CONFIGMAP_SELECTOR", "a b", selector.into()),
        ("CONFIGMAP_SELECTOR", "app in (x", selector.into()),
        ("RUST_LOG", "trace", filter.into()),
        (
            "START_WAIT_MAX",
            "721h",
            "a duration such as 500ms, 10s or 5m, at most 720h".into(),
        ),
    ] {
        let problem = format!("{name} is '{value}'; expected {expected}");
        let large_bodies = ("BODY_BYTES_MAX", "524288");
        check_problems(&[], &[large_bodies, (name, value)], &[&problem]);
    }
    for (name, least, most) in [
        ("IO_THREADS", 1, 64),
        ("WORKERS", 1, 256),
        ("PARKED_MAX", 1, 1_000_000),
        ("CONNECTIONS_MAX", 1, 1_000_000),
        ("HEAD_BYTES_MAX", 256, 1 << 20),
        ("HEADERS_MAX", 1, 256),
        ("BODY_BYTES_MAX", 0, 1 << 20),
        ("AUTH_FAILURES_MAX", 1, 1_000_000),
    ] {
        let value = (most + 1).to_string();
        let problem = format!("{name} is {value}; expected a whole number from {least} to {most}");
        let problems = parse([], &environment(&[(name, &value)])).unwrap_err();
        assert_eq!(problems[0], problem);
        let most = most.to_string();
        let pairs = [
            ("CONNECTIONS_MAX", "1000000"),
            ("HELD_BYTES_MAX", "16777216"),
            (name, most.as_str()),
        ];
        assert!(parse([], &environment(&pairs)).is_ok(), "{name}={most}");
    }
    // Defaults that a smaller bound never reaches.
    let small = serve(&[], &[("CONNECTIONS_MAX", "10")]);
    assert_eq!(small.waiting.parked_max, 4000);
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
    assert_eq!(both.front.connections, 2000, "each takes more memory");
    assert_eq!(both.front.connections_per_peer, 1302);
    let set = serve(
        &["--tls-key=k", "--connections-max=9000"],
        &[("TLS_CERT", "c")],
    );
    assert_eq!(set.front.connections, 9000);
    let rest = "is missing: set TLS_CERT and TLS_KEY for HTTPS, or neither for plain HTTP";
    let missing = |name: &str| format!("{name} {rest}");
    check_problems(&[], &[("TLS_CERT", "c.pem")], &[&missing("TLS_KEY")]);
    check_problems(&[], &[("TLS_KEY", "k.pem")], &[&missing("TLS_CERT")]);
}

#[test]
fn hosts_that_are_none_are_named() {
    let hosts = |list| serve(&[], &[("ALLOWED_HOSTS", list)]).allowed_hosts;
    assert_eq!(hosts(""), AllowedHosts::default());
    assert_eq!(hosts("a, *.b:1 ,").count(), 2);
    assert_eq!(hosts(&vec!["a"; HOSTS_MAX].join(",")).count(), HOSTS_MAX);
    let many = vec!["a"; HOSTS_MAX + 1].join(",");
    let too_many = "ALLOWED_HOSTS has 65 hosts; at most 64 are possible";
    check_problems(&[], &[("ALLOWED_HOSTS", &many)], &[too_many]);
    let text = |entry| {
        format!(
            "ALLOWED_HOSTS contains '{entry}'; expected hosts such as portal.example, *.portal.example, cc:3333 or [::1]"
        )
    };
    let bad = ["http://a", "*"].map(text);
    let bad = bad.each_ref().map(String::as_str);
    check_problems(&["--allowed-hosts=http://a,b,*"], &[], &bad);
    // No entry would allow all hosts.
    check_problems(&["--allowed-hosts=,"], &[], &[&text(",")]);
}

#[test]
fn check_takes_flags_and_files() {
    let words = [
        "check",
        "a.yaml",
        "--job-namespace",
        "apps",
        "-",
        "--output=json",
    ];
    let config = serve(&["--job-namespace=apps"], &[]);
    let mut expected = CheckArguments {
        files: arguments(&["a.yaml", "-"]),
        json: true,
        render: None,
    };
    let check = |more: &[&str], expected: &CheckArguments| {
        let found = parse(arguments(&[&words, more].concat()), &environment(&[]));
        let config = Box::new(config.clone());
        assert_eq!(found, Ok(Command::Check(config, expected.clone())));
    };
    check(&[], &expected);
    (expected.json, expected.render) = (false, Some("hello?x=1".into()));
    check(&["--output", "text", "--render=hello?x=1"], &expected);
    check_problems(
        &["check", "--output=xml"],
        &[],
        &["--output must be text or json"],
    );
    let missing = "--render needs a value: --render=TYPE?query";
    check_problems(&["check", "--render"], &[], &[missing]);
    check_problems(
        &["--output=json"],
        &[],
        &["unknown argument '--output'; see --help"],
    );
    let expected = "unknown argument 'a.yaml'; see --help";
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
