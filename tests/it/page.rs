//! The status page in a browser: `tests/page/drive.js` uses it as a person would, on the sandbox and on a
//! service that wants a token.
//!
//! It needs Debian's chromium, nodejs and npm. What of the page needs no browser is tested where it is served
//! (`src/http/status_page.rs`).

use std::process::Command;

use crate::cluster;
use crate::harness::{TemporaryFolder, TestEnvironment, example, repository};

#[test]
#[ignore = "needs a browser"]
fn the_page_works_in_a_browser() {
    // Pods that come and go change the machine's network, and a browser then fails what is under way.
    let _alone = cluster::alone();
    let folder = TemporaryFolder::new();
    let token = "one-0123456789abcdef";
    let file = folder.write("tokens", &format!("{token} one hello\n"));
    let environment = TestEnvironment::builder()
        .setting("AUTH", "token")
        .setting("AUTH_TOKENS_FILE", &file.display().to_string())
        .start();
    let tests = repository().join("tests/page");
    let output = Command::new(tests.join("programs")).output();
    let output = output.expect("tests/page/programs can be run");
    let modules = String::from_utf8_lossy(&output.stdout);
    let modules = modules.lines().last().unwrap_or_default();
    assert!(output.status.success(), "what drives the browser is there");
    // To look at: `PAGE_SCREENSHOTS=FOLDER`.
    let screenshots = std::env::var_os("PAGE_SCREENSHOTS");
    let driven = Command::new("node")
        .arg(tests.join("drive.js"))
        .args([modules.as_ref(), example("sandbox").as_os_str()])
        .arg(screenshots.unwrap_or_else(|| folder.path("").into_os_string()))
        .arg(format!("http://{}", environment.address(0)))
        .arg(token)
        .output()
        .expect("node can be run");
    assert!(
        driven.status.success(),
        "{}{}",
        String::from_utf8_lossy(&driven.stdout),
        String::from_utf8_lossy(&driven.stderr)
    );
}
