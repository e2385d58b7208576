//! The status page in a browser: `tests/page/drive.js` uses it as a person would, on the sandbox and on
//! services that want a token or may not read logs. (On a real cluster: `end_to_end::page`.)
//!
//! It needs Debian's chromium, nodejs and npm. What of the page needs no browser is tested where it is served
//! (`src/http/status_page.rs`).

use std::process::Command;

use serde_json::{Value, json};

use crate::cluster;
use crate::harness::{
    Client, NAMESPACE, ROLE, Response, TEMPLATE, TemporaryFolder, TestEnvironment, example,
    repository,
};
use crate::logs::READ_LOGS;

const TOKEN: &str = "one-0123456789abcdef";
const WITHOUT_LOGS: &str = "two-0123456789abcdef";

/// Lets a browser do this, a plan for `tests/page/drive.js`.
#[track_caller]
pub(crate) fn drive(plan: &Value) {
    let folder = TemporaryFolder::new();
    let tests = repository().join("tests/page");
    let output = Command::new(tests.join("programs")).output();
    let output = output.expect("tests/page/programs can be run");
    let modules = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "what drives the browser is there");
    let mut plan = plan.clone();
    plan["modules"] = json!(modules.lines().last());
    // To look at: `PAGE_SCREENSHOTS=FOLDER`.
    let screenshots = std::env::var("PAGE_SCREENSHOTS");
    plan["screenshots"] =
        json!(screenshots.unwrap_or_else(|_| folder.path("").display().to_string()));
    let driven = Command::new("node")
        .arg(tests.join("drive.js"))
        .arg(plan.to_string())
        .output()
        .expect("node can be run");
    let output = String::from_utf8_lossy(&driven.stdout);
    assert!(
        driven.status.success(),
        "{output}{}",
        String::from_utf8_lossy(&driven.stderr)
    );
    for line in output.lines() {
        cluster::print_line(line);
    }
}

#[test]
#[ignore = "needs a browser"]
fn the_page_works_in_a_browser() {
    // Pods that come and go change the machine's network, and a browser then fails what is under way.
    let _alone = cluster::alone();
    let folder = TemporaryFolder::new();
    let guarded = guarded(&folder);
    let unpermitted = TestEnvironment::new();
    unpermitted.start_instance("/app/hello/ann");
    let apps = repository().join("tests/page/apps.yaml");
    let sandbox = json!({
        "command": [example("sandbox"), "--port", "PORT", "--templates", apps],
        "environment": {},
        "listens": r"The service listens at http://(\S+)[^]*Ctrl-C stops everything\.",
    });
    drive(&json!({
        "walks": [{
            "name": "the sandbox",
            "service": sandbox,
            "phases": ["readying"],
            "log": "app runs",
            "failure": "exit code 3",
            "looks": true,
        }],
        "sandbox": sandbox,
        "secured": {
            "url": format!("http://{}", guarded.address(0)),
            "token": TOKEN,
            "without": WITHOUT_LOGS,
        },
        "unpermitted": format!("http://{}", unpermitted.address(0)),
    }));
}

/// A service that wants a token, with an instance whose log is hostile and one that has none yet.
fn guarded(folder: &TemporaryFolder) -> TestEnvironment {
    let tokens = format!("{TOKEN} one hello,stuck logs\n{WITHOUT_LOGS} two hello\n");
    let file = folder.write("tokens", &tokens);
    let stuck =
        format!("metadata: {{annotations: {{fake-kube/pull-ms: \"3600000\"}}}}\n{TEMPLATE}");
    let environment = TestEnvironment::builder()
        .role(&format!("{ROLE}---\n{READ_LOGS}"))
        .template("stuck", &stuck)
        .setting("AUTH", "token")
        .setting("AUTH_TOKENS_FILE", &file.display().to_string())
        .start();
    get(environment.client(), "/app/hello/log").expect(200);
    get(environment.client(), "/app/stuck/ann").expect(202);
    let log = format!(
        "{}\n\x1b[31;1ma red \x1b[0mword\n</pre><img src=x onerror=alert(1)><script>alert(1)</script>\n<b>the last line\n",
        "x".repeat(1 << 20)
    );
    let pod = environment.wait_pod("hello-log");
    environment.kube.write_log(NAMESPACE, &pod, "app", &log);
    environment
}

fn get(client: Client, path: &str) -> Response {
    let token = format!("Bearer {TOKEN}");
    let headers = [("Authorization", token.as_str()), ("Prefer", "wait=0")];
    let headers = &headers[..if path.contains("stuck") { 2 } else { 1 }];
    client.begin("GET", path, headers, "").finish()
}
