//! Logs: the query of a request, and how a log becomes a response in parts.
//!
//! Where a log comes from is decided in [`crate::app::logs`]. Nothing here looks into it.

use super::{Api, Call, Outcome, Pending};
use crate::app::logs::{
    LINES_DEFAULT, LINES_MAX, LogCaller, LogEnd, LogFrom, LogPart, LogReader, LogRequest,
    PIPE_BYTES, state,
};
use crate::app::{self, Error, InstanceRequest, Intent, NoLog};
use crate::budget::Purpose;
use crate::http::message::{Body, Method, Response};
use crate::http::selection::{self, said};
use crate::http::server::{Handled, Part};
use crate::model::duration::parse_duration;
use crate::model::names::{InstanceKey, is_dns_label};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a request waits for the report of an instance whose pod is gone: longer than the coordinator
/// waits for it.
const REPORT_WAIT: Duration = Duration::from_secs(2);

/// Marks what is not the log itself.
const SOURCE: &str = "x-log-source";

/// The longest time back.
const SINCE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// A request whose log is read.
#[derive(Debug)]
pub(in crate::http) struct PendingLog {
    reader: LogReader,
    has_begun: bool,
    /// It wants no more than the head.
    is_head: bool,
}

impl Api {
    /// `GET /app/{type}/{name}/logs`
    pub(in crate::http) fn logs(&self, call: &Call<'_>, key: InstanceKey) -> Outcome {
        let mut wanted = parse(call.request.query.as_deref().unwrap_or_default())?;
        let is_head = call.request.method == Method::Head;
        wanted.follow &= !is_head;
        let tail = wanted.tail;
        let caller = || {
            let account = call.caller.account(call.request.peer);
            let bytes = call.request.parked_bytes() + PIPE_BYTES;
            Ok(LogCaller {
                handle: call.handle,
                hold: (call.bounds.bytes).hold(account, Purpose::Transfer, bytes)?,
                trace: call.request.trace.clone(),
            })
        };
        match self.app.log(&key, wanted, caller)? {
            LogFrom::Kubernetes(reader) => Ok(Handled::Parked(Pending::Log(PendingLog {
                reader,
                has_begun: false,
                is_head,
            }))),
            LogFrom::Memory => {
                let pending = Pending::Report(key.clone(), tail);
                call.park(key, Purpose::Start, pending, |request| {
                    let request = InstanceRequest {
                        wait: Some(REPORT_WAIT),
                        reads: false,
                        ..request
                    };
                    self.app.ensure(request, Intent::Report)
                })
            }
        }
    }
}

impl PendingLog {
    /// What there is of the log now. It is cut when its service drains, too: its container goes on.
    pub(super) fn pull(&mut self, is_draining: bool, room: usize) -> Part {
        if !self.has_begun {
            self.has_begun = true;
            return Part {
                begins: Some(text(Body::default())),
                is_last: self.is_head,
                ..Part::default()
            };
        }
        if is_draining && self.reader.follows {
            return Part::CUT;
        }
        let LogPart { bytes, end } = self.reader.take(room);
        match end {
            // What there was is sent first.
            Some(LogEnd::Cut) if bytes.is_empty() => Part::CUT,
            _ => Part {
                is_last: end == Some(LogEnd::Regular),
                bytes: Body::Owned(bytes),
                ..Part::default()
            },
        }
    }
}

fn text(body: Body) -> Response {
    Response::with_type(200, "text/plain; charset=utf-8", body)
        .header("cache-control", "no-store")
        .header("x-content-type-options", "nosniff")
        .header("x-accel-buffering", "no")
}

/// The last lines that are remembered of an instance whose pod is gone.
pub(super) fn report(
    key: &InstanceKey,
    response: app::Response,
    tail: u32,
) -> Result<Response, Error> {
    let progress = match response {
        app::Response::Progress { progress, .. } => progress,
        app::Response::Failed(error) => return Err(error),
        // It has a pod by now.
        _ => return Err(Error::UNAVAILABLE),
    };
    let finding = &progress.finding;
    if !progress.is_failure_report {
        let text = state(&key.to_string(), finding);
        return Err(Error::NoLog(NoLog::NotStarted, text.into()));
    }
    let Some(output) = finding.last_output.as_deref() else {
        let text = format!(
            "the pod of {key} is gone, and left no last lines; it ended with {} ({})",
            finding.reason, finding.message
        );
        return Err(Error::NoLog(NoLog::Gone, text.into()));
    };
    let tail = usize::try_from(tail).unwrap_or(usize::MAX);
    let lines: Vec<&str> = output.lines().collect();
    let lines = &lines[lines.len().saturating_sub(tail)..];
    let body = Body::Owned(lines.join("\n").into_bytes());
    Ok(text(body).header(SOURCE, "termination-report"))
}

/// Reads the query.
fn parse(query: &str) -> Result<LogRequest, Error> {
    let invalid = |text: String| Error::QueryInvalid(text.into());
    let mut request = LogRequest {
        tail: LINES_DEFAULT,
        since_secs: None,
        container: None,
        previous: false,
        follow: false,
    };
    let mut names = BTreeSet::new();
    selection::read(Some(query), |key, value| {
        let expected = match key {
            "tail" => value
                .parse()
                .ok()
                .filter(|lines| *lines <= LINES_MAX)
                .map_or(Some("a whole number from 0 to 100000"), |lines| {
                    request.tail = lines;
                    None
                }),
            "since" => {
                let since = parse_duration(value);
                let since = since.filter(|it| !it.is_zero() && *it <= SINCE_MAX);
                let rounded = since.map(|it| it.as_millis().div_ceil(1000));
                request.since_secs = rounded.and_then(|secs| u32::try_from(secs).ok());
                let is_bad = request.since_secs.is_none();
                is_bad.then_some(
                    "a time back such as 30s, 10m or 2h, or a number of seconds, at most 720h",
                )
            }
            "container" => {
                request.container = Some(value.into());
                (!is_dns_label(value)).then_some("the name of a container")
            }
            "previous" | "follow" => {
                let flag = match value {
                    "" | "true" | "1" => Some(true),
                    "false" | "0" => Some(false),
                    _ => None,
                };
                let place = match key {
                    "previous" => &mut request.previous,
                    _ => &mut request.follow,
                };
                *place = flag.unwrap_or_default();
                flag.is_none().then_some("true or false")
            }
            _ => {
                let text = format!(
                    "unknown parameter '{}'; logs have tail, since, container, previous and follow",
                    said(key)
                );
                return Err(invalid(text));
            }
        };
        if let Some(expected) = expected {
            let text = format!("{key} is '{}'; expected {expected}", said(value));
            return Err(invalid(text));
        }
        match names.insert(key.to_owned()) {
            true => Ok(()),
            false => Err(selection::repeated(key)),
        }
    })?;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Progress;
    use crate::model::status::{Finding, Phase};

    #[test]
    fn the_query_is_read_in_all_forms() {
        let default = parse("").unwrap();
        assert_eq!((default.tail, default.follow), (LINES_DEFAULT, false));
        let all = parse("tail=0&since=1500ms&container=a-b&previous&follow=1").unwrap();
        let expected = LogRequest {
            tail: 0,
            since_secs: Some(2),
            container: Some("a-b".into()),
            previous: true,
            follow: true,
        };
        assert_eq!(all, expected);
        assert_eq!(parse("since=10m").unwrap().since_secs, Some(600));
        assert_eq!(parse("since=90").unwrap().since_secs, Some(90));
        assert_eq!(parse("tail=100000").unwrap().tail, LINES_MAX);
        assert!(!parse("previous=false&follow=0").unwrap().follow);
    }

    #[test]
    fn what_cannot_be_read_is_named_with_what_is_expected() {
        for (query, words) in [
            ("tail=100001", "tail is '100001'; expected a whole number"),
            ("tail=-1", "tail is '-1'"),
            ("tail", "tail is ''"),
            ("since=0", "since is '0'; expected a time back"),
            ("since=721h", "since is '721h'"),
            ("since=2026-01-01T00:00:00Z", "since is"),
            ("container=", "container is ''; expected the name"),
            ("container=A", "container is 'A'"),
            ("follow=yes", "follow is 'yes'; expected true or false"),
            ("previous=2", "previous is '2'"),
            (
                "lines=5",
                "unknown parameter 'lines'; logs have tail, since",
            ),
            ("%00", "unknown parameter"),
            ("tail=1&tail=2", "tail is given twice; send it once"),
            ("follow&tail=1&follow", "follow is given twice"),
            (&"x".repeat(4096), "unknown parameter 'xxx"),
            (
                &"x".repeat(4097),
                "the query has 4097 bytes, and may have 4096",
            ),
        ] {
            let error = parse(query).unwrap_err();
            assert!(matches!(error, Error::QueryInvalid(_)), "{query}");
            assert!(error.to_string().contains(words), "{query}: {error}");
            assert!(error.to_string().len() < 200, "{error}");
        }
    }

    #[test]
    fn what_is_remembered_of_a_pod_is_no_log() {
        let key = InstanceKey::new("hello", "ann").unwrap();
        let ask = |output: Option<&str>, is_failure_report| {
            let finding = Finding {
                last_output: output.map(Into::into),
                ..Finding::admitting()
            };
            let response = app::Response::Progress {
                progress: Progress {
                    position: None,
                    finding,
                    is_failure_report,
                    kept_for: Duration::ZERO,
                },
                instance: None,
                timings: None,
            };
            report(&key, response, 2)
        };
        let response = ask(Some("a\nb\nc\n"), true).unwrap();
        assert_eq!(&*response.body, b"b\nc");
        let marked = (SOURCE.into(), "termination-report".into());
        assert!(response.headers.contains(&marked));
        let error = ask(None, true).unwrap_err();
        assert!(matches!(error, Error::NoLog(NoLog::Gone, _)));
        let error = ask(Some("a"), false).unwrap_err();
        assert!(matches!(error, Error::NoLog(NoLog::NotStarted, _)));
        assert!(error.to_string().contains(Phase::Admitting.as_str()));
    }
}
