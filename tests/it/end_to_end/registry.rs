//! An image registry that serves no image: each repository fails in its own way.
//!
//! It listens on 127.0.0.1, where containerd uses plain HTTP. The first part of a repository's name
//! selects the response, modelled on real registries (OCI distribution specification, "Error
//! Codes"; Docker's "Token Authentication Specification").

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// A running registry; its threads end with the connections, and with the test program.
#[derive(Debug)]
pub(super) struct Registry {
    address: SocketAddr,
}

/// What a repository's name asks for.
const REFUSALS: &[(&str, Refusal)] = &[
    ("r401", Refusal::code("401 Unauthorized", "UNAUTHORIZED")),
    (
        "r401-basic",
        Refusal {
            challenge: Challenge::Basic,
            ..Refusal::code("401 Unauthorized", "UNAUTHORIZED")
        },
    ),
    (
        "r401-no-token",
        Refusal {
            challenge: Challenge::Token { given: false },
            ..Refusal::code("401 Unauthorized", "UNAUTHORIZED")
        },
    ),
    (
        "r401-scope",
        Refusal {
            challenge: Challenge::Token { given: true },
            ..Refusal::code("401 Unauthorized", "UNAUTHORIZED")
        },
    ),
    ("r403", Refusal::code("403 Forbidden", "DENIED")),
    ("r404", Refusal::code("404 Not Found", "MANIFEST_UNKNOWN")),
    (
        "r429",
        Refusal::code("429 Too Many Requests", "TOOMANYREQUESTS"),
    ),
    (
        "r500",
        Refusal::code("500 Internal Server Error", "UNKNOWN"),
    ),
];

/// How a repository is refused.
struct Refusal {
    status: &'static str,
    error: &'static str,
    challenge: Challenge,
}

impl Refusal {
    const fn code(status: &'static str, error: &'static str) -> Self {
        Self {
            status,
            error,
            challenge: Challenge::None,
        }
    }
}

/// What a 401 asks its caller for.
enum Challenge {
    None,
    /// A user and a password, of which our node has none.
    Basic,
    /// A token of the registry's token server, which issues one to every client or to none. An
    /// issued token is insufficient, as for a private repository.
    Token {
        given: bool,
    },
}

impl Registry {
    /// Starts one.
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || serve(client, address));
            }
        });
        Self { address }
    }

    /// Host and port, as images name it.
    pub(super) fn host(&self) -> String {
        self.address.to_string()
    }

    /// An image of a repository that is refused like this; `never` gets no response at all.
    pub(super) fn image(&self, refusal: &str) -> String {
        format!("{}/{refusal}/app:1", self.address)
    }
}

/// Serves one request; the node opens a new connection for the next.
fn serve(client: TcpStream, address: SocketAddr) {
    let mut reader = BufReader::new(&client);
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() {
        return;
    }
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let mut rest = String::new();
    while rest.trim_end() != "" || rest.is_empty() {
        rest.clear();
        if !matches!(reader.read_line(&mut rest), Ok(1..)) {
            return;
        }
    }
    let repository = path.strip_prefix("/v2/").unwrap_or("");
    let first = repository.split('/').next().unwrap_or("");
    if first == "never" {
        // Until the node hangs up.
        let _ = reader.read_to_end(&mut Vec::new());
        return;
    }
    let (head, body) = response(path, first, address);
    let body_sent = if method == "HEAD" { "" } else { body.as_str() };
    let length = body.len();
    // A node that has hung up wants no response.
    let _ = write!(
        &client,
        "HTTP/1.1 {head}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body_sent}"
    );
}

/// The status with the headers that only this response has, and the body.
fn response(path: &str, repository: &str, address: SocketAddr) -> (String, String) {
    if path.starts_with("/token/r401-scope") {
        return ("200 OK".into(), r#"{"token":"without-scope"}"#.into());
    }
    if path.starts_with("/token/") {
        return (
            "401 Unauthorized".into(),
            r#"{"details":"incorrect username or password"}"#.into(),
        );
    }
    let Some((name, refusal)) = REFUSALS.iter().find(|(name, _)| *name == repository) else {
        return ("200 OK".into(), "{}".into());
    };
    let challenge = match refusal.challenge {
        Challenge::None => String::new(),
        Challenge::Basic => "\r\nWWW-Authenticate: Basic realm=\"registry\"".into(),
        Challenge::Token { given } => {
            let error = if given {
                ",error=\"insufficient_scope\""
            } else {
                ""
            };
            format!(
                "\r\nWWW-Authenticate: Bearer realm=\"http://{address}/token/{name}\",service=\"registry\",scope=\"repository:{name}/app:pull\"{error}"
            )
        }
    };
    let body = format!(
        r#"{{"errors":[{{"code":"{}","message":"refused by the tests' registry"}}]}}"#,
        refusal.error
    );
    (format!("{}{challenge}", refusal.status), body)
}
