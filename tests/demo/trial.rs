//! `demo try URL TYPE NAME`: starts an instance by config-controller and stops it, as `helm test` does.
//!
//! A client of one route, in plain HTTP: the image of the demo app has no room for TLS. It prints each
//! response, so that the log of the pod says what went wrong. Every wait and every size is bounded.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// How long the start may take in all.
const START_MAX: Duration = Duration::from_secs(120);

/// How long a response may be that of a moment ago: the ConfigMap of the template has just come, or
/// after an upgrade a replica with the former settings answers, or one that ends.
const CHANGE_MAX: Duration = Duration::from_secs(10);

/// How long each request asks the service to wait.
const WAIT_SECS: u64 = 30;

/// How long a connection, and each pause of a response, may take.
const IO_MAX: Duration = Duration::from_secs(WAIT_SECS + 10);

/// Between two requests whose answer came at once.
const PAUSE: Duration = Duration::from_millis(500);

/// Bytes of a response at most.
const RESPONSE_BYTES_MAX: u64 = 64 * 1024;

/// Waits that long.
pub(crate) fn pause(time: Duration) {
    let (_nothing_is_sent, receiver) = channel::<()>();
    // Ends at its time limit.
    let _ = receiver.recv_timeout(time);
}

/// Where the service is, and who calls.
pub(crate) struct Trial {
    /// `host:port`.
    pub(crate) host: String,
    /// `/app/<type>/<name>`.
    pub(crate) path: String,
    /// The header with the caller's token, or nothing.
    pub(crate) authorization: String,
}

impl Trial {
    /// Reads the arguments, and the token where there is a file of it. An error is one sentence.
    pub(crate) fn new(arguments: &[String], token_file: &str) -> Result<Self, String> {
        let [url, app_type, name] = arguments else {
            return Err("Usage: demo try http://HOST:PORT TYPE NAME".to_owned());
        };
        let host = url.strip_prefix("http://").unwrap_or("");
        let host = host.trim_end_matches('/');
        if host.is_empty() || host.contains('/') {
            return Err(format!("{url} is not http://HOST:PORT."));
        }
        let authorization = match token_file {
            "" => String::new(),
            file => {
                let token = std::fs::read_to_string(file);
                let token = token.map_err(|error| format!("{file} cannot be read: {error}."))?;
                format!("Authorization: Bearer {}\r\n", token.trim())
            }
        };
        Ok(Self {
            host: host.to_owned(),
            path: format!("/app/{app_type}/{name}"),
            authorization,
        })
    }

    /// Starts the instance, and stops it whatever came of that.
    pub(crate) fn run(&self) -> Result<(), String> {
        let started = self.start();
        let stopped = self.stop();
        started.and(stopped)
    }

    fn start(&self) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let (code, body) = self.settled("GET")?;
            match code {
                200 => return Ok(()),
                202 if body.contains("\"app_error\"") => {
                    return Err("The start failed.".to_owned());
                }
                202 | 429 | 503 if begun.elapsed() < START_MAX => {}
                _ => return Err(format!("The instance did not become ready: {code}.")),
            }
            pause(PAUSE);
        }
    }

    fn stop(&self) -> Result<(), String> {
        match self.settled("DELETE")? {
            (200, _) => Ok(()),
            (code, _) => Err(format!("The instance was not stopped: {code}.")),
        }
    }

    /// Sends the request again while its response may be that of a moment ago.
    fn settled(&self, method: &str) -> Result<(u16, String), String> {
        let begun = Instant::now();
        loop {
            let sent = self.send(method);
            let may_change = matches!(sent, Err(_) | Ok((401 | 403 | 404, _)));
            if !may_change || begun.elapsed() >= CHANGE_MAX {
                return sent;
            }
            if let Err(error) = &sent {
                println!("{error}");
            }
            pause(PAUSE);
        }
    }

    /// Sends a request; the status code and the body.
    fn send(&self, method: &str) -> Result<(u16, String), String> {
        let failed = |error: std::io::Error| format!("{} cannot be called: {error}.", self.host);
        let mut response = Vec::new();
        let mut connection = self.connect().map_err(failed)?;
        write!(
            connection,
            "{method} {} HTTP/1.1\r\nHost: {}\r\nPrefer: wait={WAIT_SECS}\r\n\
             Connection: close\r\n{}\r\n",
            self.path, self.host, self.authorization
        )
        .map_err(failed)?;
        let limited = connection.take(RESPONSE_BYTES_MAX);
        { limited }.read_to_end(&mut response).map_err(failed)?;
        let response = String::from_utf8_lossy(&response);
        let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let code = code.ok_or_else(|| format!("{} does not speak HTTP.", self.host))?;
        println!("{method} {}: {code} {}", self.path, body.trim_end());
        Ok((code, body.to_owned()))
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let mut last = std::io::ErrorKind::NotFound.into();
        for address in self.host.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, IO_MAX) {
                Ok(connection) => {
                    connection.set_read_timeout(Some(IO_MAX))?;
                    connection.set_write_timeout(Some(IO_MAX))?;
                    return Ok(connection);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}
