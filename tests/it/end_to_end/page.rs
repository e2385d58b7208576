//! The status page in a browser, served by our program on a real cluster: the walk that the sandbox is taken
//! through, too (`tests/page/walk.js`), with pods that really start, fail, write logs and outlive the replica.

use serde_json::{Value, json};

use super::environment::{TestEnvironment, real};
use super::logs::permit;
use super::program::PROGRAM;
use crate::cluster;
use crate::page::drive;

/// The text of its page, which the app writes into its log.
const HOSTILE: &str = "</pre><img src=x onerror=alert(1)>";

/// The walk on this cluster, with a token where callers need one.
fn walk(environment: &TestEnvironment, token: Option<&str>) -> Value {
    let kubeconfig = environment.kubeconfig(&environment.token(), None, None);
    let mut settings = json!({
        "KUBECONFIG": kubeconfig, "LISTEN": "127.0.0.1", "SERVICE_PORT": "PORT",
        "START_BUDGET_PULL_ERROR": "1s", "DRAIN_DELAY": "0s",
    });
    if let Some(token) = token {
        let file = environment.folder.join("tokens");
        std::fs::write(&file, format!("{token} page * logs\n")).expect("it can be written");
        settings["AUTH"] = json!("token");
        settings["AUTH_TOKENS_FILE"] = json!(file);
    }
    json!({
        "name": if token.is_some() { "a real cluster, with a token" } else { "a real cluster" },
        "service": {
            "command": ["setpriv", "--pdeathsig", "KILL", PROGRAM],
            "environment": settings,
            "listens": r"serves namespace .* on (\S+)",
        },
        "token": token,
        "phases": ["readying"],
        "log": format!("\"{HOSTILE}\" listens on"),
        "failure": "127.0.0.1:1/none",
        "survives": true,
    })
}

#[test]
#[ignore = "needs a cluster"]
fn the_page_works_on_a_real_cluster() {
    // Pods that come and go change the machine's network, and a browser then fails what is under way.
    let _alone = cluster::alone();
    let environment = [(); 2].map(|()| TestEnvironment::new(cluster::shared()));
    for environment in &environment {
        permit(environment);
        environment.offer(
            "late",
            "late",
            &real(HOSTILE, 1, &[("START_DELAY_SECS", "1")]),
        );
        let unpullable = real("x", 1, &[]).replace("config-controller-demo:1", "127.0.0.1:1/none");
        environment.offer("never", "never", &unpullable);
    }
    let [open, guarded] = &environment;
    drive(&json!({"walks": [
        walk(open, None),
        walk(guarded, Some("one-0123456789abcdef")),
    ]}));
}
