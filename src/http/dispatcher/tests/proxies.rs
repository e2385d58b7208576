//! What proxies need that take any 2xx for a yes (forward authentication): the address in a header, and
//! an error for an instance that is not ready (`Prefer: strict`).

use super::*;

/// The response to a strict request for an instance that is not ready.
fn not_ready(is_failure_report: bool, kept_for: Duration) -> Response {
    let progress = Progress {
        position: None,
        finding: Finding::admitting(),
        is_failure_report,
        kept_for,
    };
    resumed(
        &Bench::new(),
        Pending::Ensure(Starts::AsAsked, Condition::default(), NotReady::Error, true),
        app::Response::Progress {
            instance: None,
            progress,
            timings: None,
        },
    )
}

#[test]
fn a_strict_request_gets_an_error_until_the_instance_is_ready() {
    let ms = Duration::from_millis;
    for (failed, code, kept_for, retry_after) in [
        (false, "not_ready", ms(0), "1"),
        (true, "start_failed", ms(0), "1"),
        (true, "start_failed", ms(7001), "8"),
    ] {
        let response = not_ready(failed, kept_for);
        let body = format!(
            r#"{{"status":"error","msg":"the Job is being created","code":"{code}","phase":"admitting","reason":"Admitting"}}"#
        );
        check(&response, 503, &body);
        assert_eq!(header(&response, "retry-after"), Some(retry_after));
        assert_eq!(header(&response, "preference-applied"), Some("strict"));
    }
}

#[test]
fn a_request_is_strict_where_it_says_so() {
    let bench = Bench::new();
    for (prefer, expected) in [
        ("strict, wait=0", NotReady::Error),
        ("wait=0", NotReady::Accepted),
    ] {
        let mut request = Request::new(Method::Get, "/app/scim/n1");
        request.headers.push("Prefer", prefer.as_bytes());
        let Pending::Ensure(.., found, _) = parked(bench.send(request)) else {
            panic!("it waits for its instance");
        };
        assert_eq!(found, expected, "{prefer}");
    }
}
