//! A misconfigured program reports the problem in one line, and changes nothing.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};

use super::environment::TestEnvironment;
use super::program::{Program, run_to_end};
use crate::cluster;

/// The log's message about a token that the API server rejects.
const NOT_ACCEPTED: &str = "our token or client certificate is not accepted";

/// Starts the program, waits for that message in its log, and checks that it responds as an
/// unsynced replica.
#[track_caller]
fn check_not_synced(kubeconfig: &Path, environment: &[(&str, &str)], message: &str) {
    let program = Program::start(kubeconfig, environment);
    let line = program.wait_log(message);
    cluster::print_line(&format!("LOGGED {line}"));
    for path in ["/app", "/app/hello", "/app/hello/ann"] {
        let got = program.get(path);
        assert_eq!(got.retry_after.as_deref(), Some("1"), "{path}");
        assert_eq!(got.expect(503)["code"], "not_synced", "{path}");
    }
    assert_eq!(program.get("/readyz").code, 503);
    assert_eq!(program.get("/livez").expect(200), json!({"status": "ok"}));
}

#[test]
#[ignore = "needs a cluster"]
fn a_wrong_ca() {
    let environment = TestEnvironment::shared();
    let other = rcgen::generate_simple_self_signed(["another".to_owned()]);
    let other = other.expect("a certificate can be made").cert.pem();
    let kubeconfig = environment.kubeconfig(&environment.token(), None, Some(&other));
    check_not_synced(
        &kubeconfig,
        &[],
        "the configured certificate authority did not sign the API server's certificate",
    );
    assert!(environment.list("jobs").is_empty());
}

#[test]
#[ignore = "needs a cluster"]
fn an_invalid_token() {
    let environment = TestEnvironment::shared();
    let kubeconfig = environment.kubeconfig("garbage", None, None);
    check_not_synced(
        &kubeconfig,
        &[],
        "our token or client certificate is not accepted",
    );
    assert!(environment.list("jobs").is_empty());
}

#[test]
#[ignore = "needs a cluster"]
fn an_expired_token() {
    let environment = TestEnvironment::shared();
    let key = environment.cluster.folder();
    let key = key.join("pki/service-accounts.key");
    let token = environment.token();
    let kubeconfig =
        environment.kubeconfig(&signed_again(&environment, &key, &token, 0), None, None);
    drop(Program::start_ready(&kubeconfig, &[]));

    let expired = signed_again(&environment, &key, &token, 2 * 3600);
    let kubeconfig = environment.kubeconfig(&expired, None, None);
    check_not_synced(&kubeconfig, &[], NOT_ACCEPTED);
    assert!(environment.list("jobs").is_empty());
}

/// The same token, but all its times this much earlier, signed with the cluster's own key.
fn signed_again(
    environment: &TestEnvironment<'_>,
    key: &Path,
    token: &str,
    earlier_secs: i64,
) -> String {
    let parts: Vec<&str> = token.trim().split('.').collect();
    let claims = BASE64.decode(parts[1]).expect("claims are base64");
    let mut claims: Value = serde_json::from_slice(&claims).expect("claims are JSON");
    for time in ["iat", "nbf", "exp"] {
        let secs = claims[time].as_i64().expect("a time is a number");
        claims[time] = json!(secs - earlier_secs);
    }
    let text = format!("{}.{}", parts[0], BASE64.encode(claims.to_string()));
    let (unsigned, signature) = (
        environment.folder.join("unsigned"),
        environment.folder.join("signature"),
    );
    std::fs::write(&unsigned, &text).expect("the file can be written");
    // `tests/cluster` makes its keys with it, so it is there.
    let mut sign = Command::new("openssl");
    sign.args(["dgst", "-sha256", "-sign"]).arg(key);
    cluster::output(sign.arg("-out").arg(&signature).arg(&unsigned));
    let signature = std::fs::read(&signature).expect("it was written");
    format!("{text}.{}", BASE64.encode(plain_signature(&signature)))
}

/// A signature of P-256 as in tokens (two numbers of 32 bytes) from the DER of openssl. DER is a
/// sequence of two integers, each with a length, a sign, and no leading zeros.
fn plain_signature(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut plain = Vec::new();
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(rest[1].into());
        let sign = number.len().saturating_sub(32);
        plain.resize(plain.len() + 32_usize.saturating_sub(number.len()), 0);
        plain.extend(&number[sign..]);
        rest = after;
    }
    plain
}

#[test]
#[ignore = "needs a cluster"]
fn a_namespace_that_does_not_exist() {
    let environment = TestEnvironment::shared();
    let kubeconfig = environment.kubeconfig(&environment.token(), None, None);
    let variables = [("JOB_NAMESPACE", "no-such-namespace")];
    check_not_synced(
        &kubeconfig,
        &variables,
        "check the namespace and the RoleBinding in it",
    );
    assert!(environment.list("jobs").is_empty());
}

#[test]
fn no_cluster_at_all() {
    let (status, printed) = run_to_end(&[("HOME", "/nonexistent")]);
    assert_eq!(status.code(), Some(2), "{printed}");
    assert_eq!(
        printed,
        "config-controller: no Kubernetes cluster is configured: run in a pod with a service account, \
         or set KUBECONFIG to a kubeconfig file, or put one at ~/.kube/config\n"
    );
}
