//! Whatever a caller sends, no header of a response has a line break: random requests with line
//! breaks everywhere, also where the reader of requests would refuse them.

use super::bench::{Bench, resumed};
use super::*;
use crate::app::RequestId;
use crate::http::conditional::Condition;
use crate::http::wire::{Heads, Persistence};
use crate::random::Random;
use std::time::SystemTime;

/// How many requests are made.
const RUNS: u64 = 20_000;

/// What would end a header line, or could be read as a line of its own.
const PIECES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\0",
    "\r\n\r\n",
    "Set-Cookie: a=b",
    "X-Forged: 1",
    ": ",
    " ",
    "\t",
    "\u{7f}",
    "\u{85}",
    "\u{2028}",
    "ä",
    "%0d%0a",
    "%0D%0AX-Forged:%201",
    "%00",
    "%",
    "%c3%a4",
    "/",
    "//",
    "?",
    "&",
    "=",
    "..",
    "a",
    "scim",
    "n1",
    "wait=1",
    "create=false",
    "\"",
    ",",
    ";",
    "<",
    "\\",
    "1",
    "-1",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
];

const PATHS: &[&str] = &[
    "",
    "/",
    "/app",
    "/app/",
    "/app/scim/",
    "/app/scim/n1",
    "/app/scim/n1/",
    "/api/",
    "/create/",
    "/create/scim/",
    "/release/",
    "/info",
    "/info/",
    "/docs/",
    "/livez",
    "/metrics/",
    "*",
];

const FIELDS: &[&str] = &[
    "Host",
    "X-Request-Id",
    "traceparent",
    "tracestate",
    "Prefer",
    "Authorization",
    "Content-Type",
    "Content-Encoding",
    "Accept",
    "Origin",
    "Sec-Fetch-Site",
    "If-None-Match",
    "If-Match",
    "Cookie",
];

/// Requests made of random numbers.
struct Requests(Random);

impl Requests {
    fn text(&mut self) -> String {
        (0..self.0.below(6)).map(|_| self.0.pick(PIECES)).collect()
    }

    fn request(&mut self) -> Request {
        let method = match self.0.below(6) {
            0 => Method::Patch,
            1 => Method::Delete,
            2 => Method::Other(self.text().into()),
            _ => Method::Get,
        };
        let mut request = Request::new(method, "/");
        request.path = format!("{}{}", self.0.pick(PATHS), self.text());
        request.query = (self.0.below(2) == 0).then(|| self.text());
        request.authority = (self.0.below(4) == 0).then(|| self.text());
        request.secure = self.0.below(2) == 0;
        for _ in 0..self.0.below(5) {
            let (name, value) = (self.0.pick(FIELDS), self.text());
            request.headers.push(name, value.as_bytes());
        }
        request.body = self.text().into_bytes();
        request
    }
}

/// Names of the fields of a head that is what it should be: one line for each field, nothing else.
#[track_caller]
fn check_head(mut response: Response, id: Option<&[u8]>, cause: &dyn std::fmt::Debug) {
    response.request_id = id.and_then(RequestId::given);
    let mut out = Vec::new();
    let mut heads = Heads::new(SystemTime::UNIX_EPOCH);
    let written = heads.write(&mut out, &response, Persistence::Close);
    assert_eq!(written, Ok(()), "{cause:?}");
    let head = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = head
        .strip_suffix("\r\n\r\n")
        .unwrap()
        .split("\r\n")
        .collect();
    let is_visible = |line: &str| line.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    assert!(
        lines.iter().all(|line| is_visible(line)),
        "{head:?} {cause:?}"
    );
    let names = lines[1..]
        .iter()
        .map(|line| line.split_once(": ").unwrap().0);
    let own = response.headers.iter().map(|(name, _)| name.as_ref());
    let id = response.request_id.as_ref().map(|_| "X-Request-Id");
    let expected = ["Connection", "Date"].into_iter().chain(own);
    let expected = expected.chain(["Content-Length"]).chain(id);
    assert_eq!(
        names.collect::<Vec<_>>(),
        expected.collect::<Vec<_>>(),
        "{cause:?}"
    );
}

#[test]
fn no_header_has_a_line_break_whatever_a_caller_sends() {
    let bench = Bench::new();
    let mut statuses = std::collections::BTreeSet::new();
    for run in 1..=RUNS {
        let request = Requests(Random::new(run)).request();
        let id = request
            .headers
            .get_bytes("x-request-id")
            .map(<[u8]>::to_vec);
        if let Handled::Reply(response) = bench.send(request.clone()) {
            statuses.insert(response.status);
            check_head(response, id.as_deref(), &request);
        }
        bench.inbox.take(usize::MAX);
    }
    for status in [200, 307, 404, 405, 422] {
        assert!(statuses.contains(&status), "only {statuses:?}");
    }
}

/// What Kubernetes, webhooks and other callers said is in bodies alone.
#[test]
fn no_header_has_a_line_break_whatever_kubernetes_says() {
    let bench = Bench::new();
    let text = "no\r\nX-Forged: 1\r\n\r\n";
    let mut finding = Finding::admitting();
    finding.reason = text.into();
    finding.message = text.into();
    finding.last_output = Some(text.into());
    let errors = [
        Error::Refused(text.into()),
        Error::TemplateInvalid(text.into()),
        Error::VariableInvalid(text.into()),
        Error::NoSession(text.into()),
        Error::Unavailable {
            retry_after: Duration::MAX,
            said: Some(text.into()),
        },
    ];
    let mut responses: Vec<_> = errors.into_iter().map(app::Response::Failed).collect();
    responses.push(app::Response::Progress {
        instance: None,
        progress: Progress {
            position: None,
            finding,
            is_failure_report: true,
            kept_for: Duration::ZERO,
        },
        timings: None,
    });
    for response in responses {
        let cause = format!("{response:?}");
        check_head(
            resumed(
                &bench,
                Pending::Ensure(
                    Starts::AsAsked,
                    Condition::default(),
                    NotReady::Accepted,
                    true,
                ),
                response,
            ),
            None,
            &cause,
        );
    }
}
