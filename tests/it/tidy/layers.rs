//! What a file may name: which modules and crates, and whether it may touch the world.

use super::{Source, check_none, sources};

/// Where a crate may be named; everywhere else it may not.
const CRATES_AT_HOME: &[(&str, &[&str])] = &[
    // The collector of traces is another server, with another CA and nothing else in common, and
    // traces are a leaf.
    ("ureq", &["src/kube/transport.rs", "src/traces/post.rs"]),
    (
        "rustls",
        &[
            "src/kube/transport.rs",
            "src/http/tls.rs",
            "src/traces/post.rs",
        ],
    ),
    ("opentelemetry", &["src/traces/otlp.rs"]),
    ("opentelemetry_proto", &["src/traces/otlp.rs"]),
    ("opentelemetry_sdk", &["src/traces/otlp.rs"]),
    ("prost", &["src/traces/otlp.rs"]),
    ("tiny_http", &["src/http/wire.rs"]),
];

#[test]
fn large_crates_are_named_in_few_files() {
    let mut offences = Vec::new();
    for (name, homes) in CRATES_AT_HOME {
        for source in sources("src") {
            let at_home = homes.iter().any(|home| source.path == *home);
            // The tests of that one file are in a folder beside it.
            let beside = homes
                .iter()
                .any(|home| source.path.starts_with(home.trim_end_matches(".rs")));
            let path = format!("{name}::");
            let named = source.code().find(|line| line.contains(&path));
            if let Some(line) = named.filter(|_| !at_home && !beside) {
                offences.push(format!("{} names {name}: {line}", source.path));
            }
            if at_home && !source.code().any(|line| line.contains(&path)) {
                offences.push(format!("{} does not name {name}", source.path));
            }
        }
    }
    check_none("crates outside their home", &offences);
}

/// The request reader of tiny_http has known weaknesses (`deny.toml`); its values have none.
#[test]
fn only_values_of_tiny_http_are_used() {
    let wire = sources("src/http");
    let wire = wire.iter().find(|source| source.path == "src/http/wire.rs");
    let lines = wire.expect("it is there").code();
    let named: Vec<&str> = lines.filter(|line| line.contains("tiny_http")).collect();
    assert_eq!(named, ["use tiny_http::{Header, StatusCode};"]);
}

/// The modules that a module may name, besides itself; nothing points back.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &["kube::types"]),
    ("kube", &["budget", "clock"]),
    ("store", &["kube", "budget", "clock", "shutdown", "threads"]),
    (
        "app",
        &["store", "kube", "model", "budget", "clock", "threads"],
    ),
    (
        "http",
        &[
            "app", "model", "health", "budget", "clock", "threads", "logging",
        ],
    ),
];

#[test]
fn layers_point_one_way() {
    let modules = ["app", "http", "kube", "model", "store", "service"];
    let mut offences = Vec::new();
    for (layer, allowed) in LAYERS {
        // Tests make what comes from below by hand.
        let sources = sources(&format!("src/{layer}"));
        for source in sources.iter().filter(|s| !s.path.ends_with("/tests.rs")) {
            for line in source.code().filter(|line| line.contains("crate::")) {
                for module in modules.iter().filter(|module| *module != layer) {
                    let named = line.contains(&format!("crate::{module}::"))
                        || line.contains(&format!("crate::{module};"))
                        || line.contains(&format!("crate::{{{module}"));
                    let fine = allowed.iter().any(|allowed| {
                        allowed.split("::").next() == Some(*module)
                            && line.contains(&format!("crate::{allowed}"))
                    });
                    if named && !fine {
                        offences.push(format!("{}: {}", source.path, line.trim()));
                    }
                }
            }
        }
    }
    check_none("a layer names one above it", &offences);
}

/// Files that take time, bytes and words as values (design: marked pure).
const PURE: &[&str] = &[
    "src/config.rs",
    "src/config/",
    "src/health.rs",
    "src/model/",
    "src/kube/types",
    "src/kube/status.rs",
    "src/kube/request.rs",
    "src/kube/watch",
    "src/kube/error.rs",
    "src/store/store.rs",
    "src/store/backoff.rs",
    "src/app/api_call.rs",
    "src/app/cache.rs",
    "src/app/catalog.rs",
    "src/app/changes.rs",
    "src/app/coordinator",
    "src/app/error.rs",
    "src/app/keys.rs",
    "src/app/list",
    "src/app/lifecycle.rs",
    "src/app/request.rs",
    "src/app/request_handle.rs",
    "src/app/request_id.rs",
    "src/app/review/memory.rs",
    "src/app/timings.rs",
    "src/http/auth.rs",
    "src/http/auth/attempts.rs",
    "src/http/auth/tokens.rs",
    "src/http/body.rs",
    "src/http/conditional.rs",
    "src/http/connection",
    "src/http/message",
    "src/http/openapi",
    "src/http/prefer.rs",
    "src/http/problem.rs",
    "src/http/router.rs",
    "src/http/timing.rs",
    "src/traces/context.rs",
    "src/traces/settings.rs",
    "src/yaml",
];

/// What a pure file may not name. Addresses are values, sockets are not.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::thread",
    "std::env",
    "std::process",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "Instant::now()",
    "SystemTime::now()",
    "Timestamp::now()",
    "thread::",
    "fs::",
];

#[test]
fn pure_files_do_no_io() {
    let mut offences = Vec::new();
    let all = sources("src");
    for marked in PURE {
        let of_it = all.iter().filter(|source| source.path.starts_with(marked));
        let files: Vec<&Source> = of_it.filter(|source| !source.is_test()).collect();
        if files.is_empty() {
            offences.push(format!("{marked} is marked pure, but is not there"));
        }
        for source in files {
            for line in source.code() {
                let named = IMPURE.iter().find(|word| line.contains(**word));
                if named.is_some() {
                    offences.push(format!("{}: {}", source.path, line.trim()));
                }
            }
        }
    }
    check_none("a pure file touches the world", &offences);
}
