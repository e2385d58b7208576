//! Rows about HTTP itself: paths, methods, framing, errors of the front (part B section 2).

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::Duration;

use serde_json::json;

use super::fixture::{Fixture, JSON, Outcome, SUCCESS, exchange, holds, keys, same, soon};
use super::{Body, Exchange, Row, ask, exchanges, fake, fixture};
use crate::harness::{Client, ROLE, TestEnvironment as Fake, eventually};

pub(super) const ROWS: &[Row] = &[
    fixture(
        "B2.headers",
        "every response has date, content-length and content-type: application/json without charset",
        &[],
        headers,
    ),
    exchanges(
        "A18",
        "no Server header, where 2.7.1 sends `server: uvicorn`",
        &[
            ask("GET", "/info", 200, Body::Any).with(&[("server", "")]),
            ask("GET", "/nowhere", 404, NOT_FOUND).with(&[("server", "")]),
            ask("POST", "/info", 405, NOT_ALLOWED).with(&[("server", "")]),
            ask("GET", "/app/", 307, EMPTY).with(&[("server", "")]),
        ],
    ),
    fixture(
        "B2.json",
        "JSON is compact, UTF-8 is not escaped, and keys keep their order",
        &[],
        compact_json,
    ),
    exchanges(
        "B2.cors",
        "no CORS headers and no login, whoever asks",
        &[
            ask("GET", "/app", 200, Body::Any)
                .sending(&[("Origin", "http://example.org")], "")
                .with(NO_CORS),
            ask("OPTIONS", "/app", 405, NOT_ALLOWED)
                .sending(
                    &[
                        ("Origin", "http://example.org"),
                        ("Access-Control-Request-Method", "GET"),
                    ],
                    "",
                )
                .with(NO_CORS),
        ],
    ),
    fixture(
        "B2.keep-alive",
        "a connection without requests is open for 5 s at least, and then serves the next one",
        &[],
        keep_alive,
    ),
    fixture(
        "V13-idle",
        "an idle keep-alive socket survives 5 s and more, also after an error",
        &[],
        keep_alive_after_an_error,
    ),
    exchanges(
        "B2.404",
        "unknown paths are 404 {\"detail\":\"Not Found\"}, whatever the method; paths are case-sensitive",
        UNKNOWN_PATHS,
    ),
    exchanges(
        "B2.405",
        "a known path with another method is 405 {\"detail\":\"Method Not Allowed\"}",
        &[
            ask("POST", "/app", 405, NOT_ALLOWED),
            ask("PUT", "/app/<type>", 405, NOT_ALLOWED),
            ask("POST", "/app/<type>/<new>", 405, NOT_ALLOWED),
            ask("DELETE", "/info", 405, NOT_ALLOWED),
            ask("HEAD", "/app/<type>/<new>", 405, EMPTY),
            ask("OPTIONS", "/app/<type>/<new>", 405, NOT_ALLOWED),
        ],
    ),
    exchanges(
        "A15",
        "a 405 lists all methods of the path in Allow, and HEAD works where GET has no effect; 2.7.1 lists GET alone and refuses HEAD",
        METHODS,
    ),
    exchanges(
        "B2.307",
        "a slash at the end is 307 to the same without it, with the Host that was asked, the query kept, for any method",
        SLASHES,
    ),
    fixture(
        "A15-host",
        "the location of a 307 has the Host header that was sent, with its port",
        &[],
        redirect_keeps_the_host,
    ),
    exchanges(
        "B2.307-encoded",
        "an encoded slash as the last segment counts as slashes at the end",
        &[ask("GET", "/app/%2F", 307, EMPTY).with(&[("location", "http://<host>/app")])],
    ),
    exchanges(
        "B2.404-encoded",
        "an encoded slash inside a segment is 404, for any method",
        &[
            ask("GET", "/app/x/a%2Fb", 404, NOT_FOUND),
            ask("DELETE", "/app/x/a%2fb", 404, NOT_FOUND),
            ask("PATCH", "/app/x/a%2Fb", 404, NOT_FOUND).sending(JSON, "{}"),
            ask("GET", "/app/x%2Fy/a", 404, NOT_FOUND),
        ],
    ),
    fixture(
        "B2.decoding",
        "segments are percent-decoded before use; a plus in a path is a plus",
        &[],
        segments_are_decoded,
    ),
    fake(
        "B2.500",
        "an error of the server is a JSON object too, where 2.7.1 returns `Internal Server Error` as text/plain",
        a_missing_right,
    ),
    fixture(
        "B2.422",
        "a validation error is 422 with the reason phrase `Unprocessable Content` and an array in `detail`",
        &[],
        unprocessable_content,
    ),
    exchanges(
        "B2.envelopes",
        "a GET of an instance has its error at top level, PATCH and DELETE wrap theirs in `detail`",
        &[
            ask(
                "GET",
                "/app/no-such-type/<new>",
                404,
                Body::Error("unknown_type"),
            ),
            ask(
                "PATCH",
                "/app/<type>/<new>",
                404,
                Body::Detail("error", "not_found"),
            )
            .sending(JSON, "{}"),
            ask(
                "DELETE",
                "/app/<type>/<new>",
                404,
                Body::Detail("No job found", "not_found"),
            ),
        ],
    ),
    exchanges(
        "A2",
        "`detail.status` keeps the words of 2.7.1, with `msg` and `code` beside them; unknown paths and methods keep their bodies",
        &[
            ask(
                "PATCH",
                "/app/<type>/<new>",
                404,
                Body::Detail("error", "not_found"),
            )
            .sending(JSON, r#"{"a":"b"}"#),
            ask(
                "DELETE",
                "/app/<type>/<new>",
                404,
                Body::Detail("No job found", "not_found"),
            ),
            ask(
                "GET",
                "/release/<new>",
                404,
                Body::Detail("Not found", "not_found"),
            ),
            ask(
                "PATCH",
                "/app/<type>/<new>",
                422,
                Body::Exactly(MISSING_BODY),
            )
            .sending(JSON, ""),
            ask("GET", "/nowhere", 404, NOT_FOUND),
            ask("PUT", "/app", 405, NOT_ALLOWED),
        ],
    ),
    exchanges(
        "B2.docs",
        "FastAPI's pages are not part of what clients use: they are paths like any other, and never anything but JSON",
        &[
            ask("GET", "/redoc", 404, NOT_FOUND),
            ask("GET", "/docs/oauth2-redirect", 404, NOT_FOUND),
            ask("GET", "/health", 404, NOT_FOUND),
            ask("GET", "/healthz", 404, NOT_FOUND),
        ],
    ),
    exchanges(
        "V8",
        "the shapes of 307, 404, 405 and 422, byte for byte",
        &[
            ask("DELETE", "/app/<type>/", 307, EMPTY).with(&[
                ("location", "http://<host>/app/<type>"),
                ("content-length", "0"),
            ]),
            ask("GET", "/app/a/b/c", 404, NOT_FOUND),
            ask("TRACE", "/app", 405, NOT_ALLOWED),
            ask(
                "PATCH",
                "/app/<type>/<new>",
                422,
                Body::Exactly(MISSING_BODY),
            )
            .sending(JSON, "null"),
            ask("GET", "/create/<type>", 422, Body::Exactly(MISSING_SESSION)),
        ],
    ),
    fixture(
        "A17",
        "a head or target that is not understood is 400 bad_request",
        &[],
        bad_requests,
    ),
    fake(
        "A17-401",
        "without a good token: 401 unauthorized with WWW-Authenticate: Bearer; a type that the token may not use: 403 forbidden",
        tokens,
    ),
    exchanges(
        "A17-403",
        "a page of another site may change nothing: 403 forbidden",
        &[
            ask("GET", "/app/<type>/<new>", 403, Body::Error("forbidden")).sending(CROSS_SITE, ""),
            ask(
                "DELETE",
                "/app/<type>/<new>",
                403,
                Body::Detail("error", "forbidden"),
            )
            .sending(CROSS_SITE, ""),
            ask(
                "GET",
                "/create/<type>?sessionID=<new>",
                403,
                Body::Error("forbidden"),
            )
            .sending(CROSS_SITE, ""),
            ask(
                "GET",
                "/release/<new>",
                403,
                Body::Detail("error", "forbidden"),
            )
            .sending(CROSS_SITE, ""),
            ask("GET", "/app/<type>", 200, Body::Any).sending(CROSS_SITE, ""),
        ],
    ),
    fixture(
        "A17-404",
        "404 unknown_type names the types that there are",
        &[],
        unknown_types,
    ),
    fixture(
        "A17-413",
        "a body that is too large is 413, a target 414, a head 431, each as an object with its code",
        &[],
        too_large,
    ),
    exchanges(
        "A17-422",
        "422 bad_name for `.` and `..`, control characters, those of URLs, a blank at either end and more than 253 bytes; 422 reserved_key",
        BAD_NAMES,
    ),
];

const NOT_FOUND: Body = Body::Exactly(r#"{"detail":"Not Found"}"#);
const NOT_ALLOWED: Body = Body::Exactly(r#"{"detail":"Method Not Allowed"}"#);
const EMPTY: Body = Body::Exactly("");
const CROSS_SITE: &[(&str, &str)] = &[("Sec-Fetch-Site", "cross-site")];

pub(super) const MISSING_BODY: &str =
    r#"{"detail":[{"type":"missing","loc":["body"],"msg":"Field required","input":null}]}"#;
pub(super) const MISSING_SESSION: &str = r#"{"detail":[{"type":"missing","loc":["query","sessionID"],"msg":"Field required","input":null}]}"#;

const NO_CORS: &[(&str, &str)] = &[
    ("access-control-allow-origin", ""),
    ("access-control-allow-methods", ""),
    ("access-control-allow-headers", ""),
    ("access-control-allow-credentials", ""),
    ("www-authenticate", ""),
];

const UNKNOWN_PATHS: &[Exchange] = &[
    ask("GET", "/favicon.ico", 404, NOT_FOUND),
    ask("GET", "//app", 404, NOT_FOUND),
    ask("GET", "/App", 404, NOT_FOUND),
    ask("GET", "/APP/<type>", 404, NOT_FOUND),
    ask("GET", "/app/a/b/c", 404, NOT_FOUND),
    ask("GET", "/release", 404, NOT_FOUND),
    ask("GET", "/create", 404, NOT_FOUND),
    ask("GET", "/api", 404, NOT_FOUND),
    ask("GET", "/api/<type>/<new>", 404, NOT_FOUND),
    ask("GET", "/infos?a=1", 404, NOT_FOUND),
    ask("POST", "/nowhere", 404, NOT_FOUND),
    ask("DELETE", "/nowhere/", 404, NOT_FOUND),
    ask("OPTIONS", "/nowhere", 404, NOT_FOUND),
    ask("HEAD", "/nowhere", 404, EMPTY),
];

const READ: &[(&str, &str)] = &[("allow", "GET, HEAD")];
const ACT: &[(&str, &str)] = &[("allow", "GET")];
const INSTANCE: &[(&str, &str)] = &[("allow", "DELETE, GET, PATCH, PUT")];

const METHODS: &[Exchange] = &[
    ask("POST", "/app", 405, NOT_ALLOWED).with(READ),
    ask("OPTIONS", "/app", 405, NOT_ALLOWED).with(READ),
    ask("DELETE", "/app/<type>", 405, NOT_ALLOWED).with(READ),
    ask("PUT", "/api/<type>", 405, NOT_ALLOWED).with(READ),
    ask("POST", "/info", 405, NOT_ALLOWED).with(READ),
    ask("POST", "/app/<type>/<new>", 405, NOT_ALLOWED).with(INSTANCE),
    ask("OPTIONS", "/app/<type>/<new>", 405, NOT_ALLOWED).with(INSTANCE),
    ask("HEAD", "/app/<type>/<new>", 405, EMPTY).with(INSTANCE),
    ask("POST", "/create/<type>", 405, NOT_ALLOWED).with(ACT),
    ask("HEAD", "/create/<type>?sessionID=<new>", 405, EMPTY).with(ACT),
    ask("DELETE", "/release/<new>", 405, NOT_ALLOWED).with(ACT),
    ask("HEAD", "/release/<new>", 405, EMPTY).with(ACT),
    ask("HEAD", "/app", 200, EMPTY),
    ask("HEAD", "/app/<type>", 200, EMPTY),
    ask("HEAD", "/api/<type>", 200, EMPTY),
    ask("HEAD", "/info", 200, EMPTY),
];

const SAME_PATH: &[(&str, &str)] = &[("location", "http://<host><path>"), ("content-length", "0")];

const SLASHES: &[Exchange] = &[
    ask("GET", "/app/", 307, EMPTY).with(SAME_PATH),
    ask("GET", "/info/", 307, EMPTY).with(SAME_PATH),
    ask("GET", "/app/<type>/", 307, EMPTY).with(SAME_PATH),
    ask("GET", "/app/<type>/<new>/", 307, EMPTY).with(SAME_PATH),
    ask("GET", "/app/<type>/<new>/?a=1&b=%20&c=+", 307, EMPTY).with(SAME_PATH),
    ask("GET", "/app/<type>/a%20b%C3%A4/", 307, EMPTY).with(SAME_PATH),
    ask("DELETE", "/app/<type>/<new>/", 307, EMPTY).with(SAME_PATH),
    ask("PATCH", "/app/<type>/<new>/", 307, EMPTY)
        .sending(JSON, r#"{"a":"b"}"#)
        .with(SAME_PATH),
    ask("POST", "/app/", 307, EMPTY).with(SAME_PATH),
    ask("HEAD", "/app/", 307, EMPTY).with(SAME_PATH),
    ask("GET", "/api/<type>/", 307, EMPTY).with(SAME_PATH),
    ask("GET", "/create/<type>/?sessionID=x", 307, EMPTY).with(SAME_PATH),
    ask("GET", "/release/<new>/", 307, EMPTY).with(SAME_PATH),
];

const BAD_NAME: Body = Body::Error("bad_name");
const BAD_NAME_DETAIL: Body = Body::Detail("error", "bad_name");

/// 254 bytes, one more than a name may have.
const TOO_LONG: &str = "/app/<type>/nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn";

const BAD_NAMES: &[Exchange] = &[
    ask("GET", "/app/<type>/.", 422, BAD_NAME),
    ask("GET", "/app/<type>/..", 422, BAD_NAME),
    ask("GET", "/app/<type>/%2e%2E", 422, BAD_NAME),
    ask("GET", "/app/<type>/a%00b", 422, BAD_NAME),
    ask("GET", "/app/<type>/a%0Ab", 422, BAD_NAME),
    ask("GET", "/app/<type>/keep%3Fx", 422, BAD_NAME),
    ask("GET", "/app/<type>/a%23b", 422, BAD_NAME),
    ask("GET", "/app/<type>/50%25", 422, BAD_NAME),
    ask("GET", "/app/<type>/50%zz", 422, BAD_NAME),
    ask("GET", "/app/<type>/a%5Cb", 422, BAD_NAME),
    ask("GET", "/app/<type>/%20a", 422, BAD_NAME),
    ask("GET", "/app/<type>/a%20", 422, BAD_NAME),
    ask("GET", "/app/<type>/a%C2%A0", 422, BAD_NAME),
    ask("GET", TOO_LONG, 422, BAD_NAME),
    ask("DELETE", "/app/<type>/..", 422, BAD_NAME_DETAIL),
    ask("PATCH", "/app/<type>/..", 422, BAD_NAME_DETAIL).sending(JSON, "{}"),
    ask("PATCH", "/app/<type>/a%3Fb", 422, BAD_NAME_DETAIL).sending(JSON, "{}"),
    ask(
        "PATCH",
        "/app/<type>/<new>",
        422,
        Body::Detail("error", "reserved_key"),
    )
    .sending(JSON, r#"{"ip":"6.6.6.6"}"#),
];

fn headers(fixture: &Fixture) -> Outcome {
    for path in ["/app", "/info", &fixture.list(), "/nowhere"] {
        // Rows beside this one start and stop instances, between a GET and its HEAD, too.
        soon("a HEAD with the length of the GET", || {
            // What all responses must have is checked with each of them.
            let got = fixture.get(path)?.has("content-type", "application/json")?;
            let length = got.text().len().to_string();
            let head = fixture.ask("HEAD", path, &[], "")?.is(got.status())?;
            same(
                "the length in a HEAD",
                head.header("content-length"),
                &length,
            )
        })?;
    }
    Ok(())
}

fn compact_json(fixture: &Fixture) -> Outcome {
    let error = fixture.get("/app/n%C3%B6-such-type/x")?;
    holds(error.text().contains("nö-such-type"), || {
        format!("it has the name as it is: {}", error.text())
    })?;
    error.error(404, "unknown_type")?;
    let path = fixture.path("compact");
    fixture.start(&path)?;
    let odd = json!({"username": "Jürg \"J\" Ünal"});
    fixture.patch(&path, &odd)?.exactly(200, SUCCESS)?;
    let found = fixture.get(&path)?;
    let ending = r#","username":"Jürg \"J\" Ünal"}"#;
    holds(found.text().ends_with(ending), || found.text().to_owned())
}

/// How long a client of 2.7.1 relies on; undici itself closes after 4 s.
const IDLE: Duration = Duration::from_secs(5);

fn keep_alive(fixture: &Fixture) -> Outcome {
    idle_after(fixture, "/info", "200")
}

fn keep_alive_after_an_error(fixture: &Fixture) -> Outcome {
    idle_after(fixture, "/nowhere", "404")?;
    idle_after(fixture, "/app/no-such-type/x", "404")
}

/// Silence must time out, and not be the end of the connection.
fn idle_after(fixture: &Fixture, path: &str, status: &str) -> Outcome {
    let mut stream = fixture.connect()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", fixture.host());
    for _ in 0..2 {
        let sent = stream.write_all(request.as_bytes());
        sent.map_err(|error| format!("{path} on an idle connection: {error}"))?;
        // The response, which is far shorter than this, and then silence.
        stream
            .set_read_timeout(Some(IDLE))
            .map_err(|error| error.to_string())?;
        let (mut received, mut buffer) = (Vec::new(), [0; 16 * 1024]);
        let silence = loop {
            match stream.read(&mut buffer) {
                Ok(0) => return Err(format!("it was closed within {IDLE:?} after {path}")),
                Ok(read) => received.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break error.kind(),
            }
        };
        let timed_out = matches!(silence, ErrorKind::WouldBlock | ErrorKind::TimedOut);
        holds(timed_out, || format!("{path}, and then: {silence}"))?;
        let text = String::from_utf8_lossy(&received);
        let expected = format!("HTTP/1.1 {status} ");
        holds(text.starts_with(&expected), || format!("{path}: {text}"))?;
    }
    Ok(())
}

fn redirect_keeps_the_host(fixture: &Fixture) -> Outcome {
    let response = fixture.raw(
        "GET /app/a/?x=1 HTTP/1.1\r\nHost: config-service:3333\r\nConnection: close\r\n\r\n",
    )?;
    let expected = "location: http://config-service:3333/app/a?x=1\r\n";
    let found = response.to_ascii_lowercase();
    holds(found.contains(expected), || response)
}

fn segments_are_decoded(fixture: &Fixture) -> Outcome {
    for (name, segment) in [
        ("with space", "with%20space"),
        ("Zürich", "Z%C3%BCrich"),
        ("1+1", "1+1"),
        ("1+2", "1%2B2"),
        ("a,b", "a%2cb"),
        ("a&b", "a&b"),
    ] {
        let unique = fixture.name("d");
        let path = fixture.path_of(fixture.app_type(), &format!("{segment}{unique}"));
        fixture.start(&path)?;
        let entry = fixture.entry(fixture.app_type(), &format!("{name}{unique}"))?;
        same("it is ready", &entry["errored"], &json!(false))?;
    }
    Ok(())
}

fn a_missing_right() -> Outcome {
    let role = ROLE.replace("[create, delete, get, list, patch, watch]", "[list, watch]");
    let environment = Fake::builder().role(&role).start();
    let asked = exchange(environment.address(0), "GET", "/app/hello/x", &[], "")?;
    let message = asked.error(500, "not_permitted")?;
    holds(!message.contains("system:"), || message)
}

fn unprocessable_content(fixture: &Fixture) -> Outcome {
    let request = format!(
        "PATCH {}/x HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]",
        fixture.list(),
        fixture.host()
    );
    let response = fixture.raw(&request)?;
    let line = "HTTP/1.1 422 Unprocessable Content\r\n";
    holds(response.starts_with(line), || response.clone())?;
    let body = r#"{"detail":[{"type":"dict_type","loc":["body"],"msg":"Input should be a valid dictionary","input":[]}]}"#;
    holds(response.ends_with(&format!("\r\n\r\n{body}")), || response)
}

/// What the front itself refuses is an object like all errors.
fn refused(fixture: &Fixture, request: &str, status: u16, code: &str) -> Outcome {
    let response = fixture.raw(request)?;
    let shown = response.get(..400).unwrap_or(&response);
    let describe = || format!("{:?}: {shown}", request.lines().next().unwrap_or_default());
    let (head, body) = response.split_once("\r\n\r\n").ok_or_else(describe)?;
    holds(head.starts_with(&format!("HTTP/1.1 {status} ")), describe)?;
    let body: serde_json::Value = serde_json::from_str(body).map_err(|_| describe())?;
    same(&describe(), keys(&body), vec!["status", "msg", "code"])?;
    same(&describe(), &body["code"], &json!(code))
}

fn bad_requests(fixture: &Fixture) -> Outcome {
    let host = fixture.host();
    for line in ["GET app HTTP/1.1", "G(T /app HTTP/1.1", "GET /app HTTP/x"] {
        let request = format!("{line}\r\nHost: {host}\r\n\r\n");
        refused(fixture, &request, 400, "bad_request")?;
    }
    refused(fixture, "GET /app HTTP/1.1\r\n\r\n", 400, "bad_request")
}

fn too_large(fixture: &Fixture) -> Outcome {
    let host = fixture.host();
    let much = "x".repeat(20_000);
    let patch = format!(
        "PATCH /app/x/y HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 2000000000\r\n\r\n"
    );
    refused(fixture, &patch, 413, "body_too_large")?;
    let target = format!("GET /app/{much} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    refused(fixture, &target, 414, "target_too_long")?;
    let field = format!("GET /app HTTP/1.1\r\nHost: {host}\r\nX: {much}\r\n\r\n");
    refused(fixture, &field, 431, "head_too_large")
}

fn unknown_types(fixture: &Fixture) -> Outcome {
    let types = fixture.get("/app")?.json(200)?;
    let message = fixture
        .get("/app/no-such-type/x")?
        .error(404, "unknown_type")?;
    for app_type in types.as_array().into_iter().flatten() {
        let name = app_type.as_str().unwrap_or_default();
        holds(message.contains(name), || format!("{name}: {message}"))?;
    }
    holds(message.contains("'no-such-type'"), || message)
}

fn tokens() -> Outcome {
    let folder = crate::harness::TemporaryFolder::new();
    let file = folder.write(
        "tokens",
        "all-types-secret-of-the-test all\nother-secret-of-the-test bye bye\n",
    );
    let file = file.display().to_string();
    let environment = Fake::builder()
        .setting("AUTH", "token")
        .setting("AUTH_TOKENS_FILE", &file)
        .start();
    let address = environment.address(0);
    let asked = |token: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", authorization.as_str())];
        exchange(address, "GET", "/app/hello/ann", &headers, "")
    };
    let without = exchange(address, "GET", "/app/hello/ann", &[], "")?;
    let challenge = without.header("www-authenticate").to_owned();
    without.error(401, "unauthorized")?;
    holds(challenge.starts_with("Bearer"), || challenge)?;
    asked("wrong")?.error(401, "unauthorized")?;
    for (method, path) in [
        ("PATCH", "/app/hello/ann"),
        ("DELETE", "/app/hello/ann"),
        ("GET", "/release/ann"),
    ] {
        let without = exchange(address, method, path, JSON, "")?;
        without.detail(401, "error", "unauthorized")?;
    }
    asked("other-secret-of-the-test")?.error(403, "forbidden")?;
    asked("all-types-secret-of-the-test")?.is(200)?;
    // Probes have no token.
    let client: Client = environment.client();
    eventually("it is alive", || {
        (client.get("/livez").status == 200).then_some(())
    });
    Ok(())
}
