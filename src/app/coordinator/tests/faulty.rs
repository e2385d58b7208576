//! Responses that are not those of a healthy API server: each call is retried, and its callers get 503
//! at their deadline. Nothing that Kubernetes, or a proxy before it, does is a bug of this service.

use super::ready;
use crate::app::fixture::{Fixture, exists, failed, invalid, status_error};
use crate::kube::error::{Error, Failure, Verb};

/// A call, by the verb of its request: the start of its line, and a fixture in which it is in flight for
/// request 1.
type Case = (Verb, &'static str, fn() -> Fixture);

const CALLS: [Case; 4] = [
    (Verb::Create, "call create", || {
        let mut fixture = Fixture::new();
        fixture.get(1);
        fixture
    }),
    (Verb::List, "call read", || {
        let mut fixture = Fixture::new();
        fixture.stop(1);
        fixture
    }),
    (Verb::Delete, "call delete", || {
        let mut fixture = ready();
        fixture.stop(1);
        fixture
    }),
    (Verb::Patch, "call label", || {
        let mut fixture = ready();
        fixture.label(1);
        fixture
    }),
];

/// The bodies of a `Status` with a reason that means nothing here, and of what is none.
const BODIES: [&str; 6] = [
    "",
    "{}",
    "<html>slow down</html>",
    r#"{"message":"slow down"}"#,
    r#"{"kind":"Status","reason":"Odd","message":"slow down"}"#,
    r#"{"kind":"Status","reason":"TooManyReq"#,
];

/// What a class means only to one kind of call, and what is no class at all.
fn faulty(verb: Verb) -> Vec<Error> {
    let mut errors: Vec<Error> = [
        Failure::InvalidResponse("EOF while parsing".into()),
        Failure::TooLarge("more than 12 MiB".into()),
        Failure::Lost("reset".into()),
        Failure::TimedOut("global".into()),
    ]
    .map(|failure| failed(verb, failure))
    .into();
    let codes = [
        100, 204, 302, 304, 400, 402, 405, 406, 408, 410, 411, 413, 415, 418, 422, 425, 429, 431,
        451, 499, 500, 501, 502, 503, 504, 507, 520, 599,
    ];
    for code in codes {
        errors.extend(BODIES.map(|body| status_error(verb, code, body)));
    }
    for (code, reason) in [
        (410, "Expired"),
        (410, "Gone"),
        (405, "MethodNotAllowed"),
        (406, "NotAcceptable"),
        (415, "UnsupportedMediaType"),
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (500, "ServerTimeout"),
        (503, "ServiceUnavailable"),
        (504, "Timeout"),
        (507, "StoreReadError"),
    ] {
        let body = format!(r#"{{"kind":"Status","reason":"{reason}","message":"says it"}}"#);
        errors.push(status_error(verb, code, &body));
    }
    if verb != Verb::Create {
        errors.push(exists());
    }
    if verb == Verb::List {
        errors.push(status_error(verb, 404, "404 page not found"));
        errors.push(status_error(verb, 409, r#"{"reason":"Conflict"}"#));
    }
    errors
}

#[test]
fn a_call_with_a_faulty_response_is_retried_and_then_succeeds() {
    for (verb, call, in_flight) in CALLS {
        for error in faulty(verb) {
            let mut fixture = in_flight();
            assert_eq!(fixture.fails(error.clone()), super::NOTHING, "{error}");
            let retried = fixture.pass(1.0);
            assert!(
                retried.len() == 1 && retried[0].starts_with(call),
                "{error}: {retried:?}"
            );
        }
    }
}

#[test]
fn a_call_whose_responses_stay_faulty_is_unavailable_at_the_deadline() {
    for (verb, _, in_flight) in CALLS {
        for error in faulty(verb) {
            let mut fixture = in_flight();
            let mut lines = fixture.fails(error.clone());
            for _ in 0..20 {
                lines.extend(fixture.pass(1.0));
                if fixture.call().is_some() {
                    lines.extend(fixture.fails(error.clone()));
                }
            }
            let responses: Vec<_> = lines.iter().filter(|line| line.starts_with("1:")).collect();
            assert_eq!(responses, ["1: Unavailable"], "{error}");
            fixture.check_idle();
        }
    }
}

/// A webhook chooses the status code, and it may deny each verb.
#[test]
fn a_denial_by_admission_is_a_refusal_whatever_its_code_and_verb() {
    let policy = r#"jobs.batch \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"#;
    let messages = [
        r#"admission webhook \"w.example.com\" denied the request: no"#,
        r#"admission webhook \"w.example.com\" denied the request without explanation"#,
        policy,
    ];
    for (verb, _, in_flight) in CALLS {
        for message in messages {
            for code in [400, 401, 403, 404, 409, 410, 413, 418, 422, 429, 500, 503] {
                for reason in ["", "Forbidden", "Invalid", "NotFound", "TooManyRequests"] {
                    let body = format!(r#"{{"reason":"{reason}","message":"{message}"}}"#);
                    let mut fixture = in_flight();
                    let error = status_error(verb, code, &body);
                    assert_eq!(
                        fixture.fails(error),
                        ["1: Refused"],
                        "{verb:?} {code} {body}"
                    );
                }
            }
        }
    }
}

/// Kubernetes says that a request without content of a caller or a template is wrong, or it could not
/// even be built.
#[test]
fn only_what_this_service_does_wrong_is_an_internal_error() {
    let unbuilt = |verb| failed(verb, Failure::Request("an empty name".into()));
    for (verb, _, in_flight) in CALLS {
        assert_eq!(in_flight().fails(unbuilt(verb)), ["1: Internal"]);
    }
    for (_, call, in_flight) in CALLS {
        let expected = match call {
            "call create" => "1: TemplateInvalid",
            "call label" => "1: ValueInvalid",
            _ => "1: Internal",
        };
        assert_eq!(in_flight().fails(invalid(Verb::List)), [expected]);
    }
}
