//! A plain client for an API server: it only sends and receives, so that tests define themselves
//! what they send and what they expect.
//!
//! It must not use the client of `config_controller`: these tests are to find
//! out what that one relies on.

use std::io::{BufRead as _, BufReader};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use ureq::tls::{
    Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsConfigBuilder, parse_pem,
};

/// A silence after which a test gives up on a connection.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A connection to an API server with the credentials of one user.
#[derive(Clone, Debug)]
pub(crate) struct RawKube {
    agent: ureq::Agent,
    base: String,
    token: Option<String>,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Got {
    /// The status code.
    pub(crate) code: u16,
    /// The body as JSON; its text, if it was none.
    pub(crate) body: Value,
    headers: ureq::http::HeaderMap,
}

impl Got {
    /// A header's value; the empty text if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|v| v.to_str().ok()).unwrap_or("")
    }

    /// All values of a header.
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let values = self.headers.get_all(name).iter();
        values.filter_map(|value| value.to_str().ok()).collect()
    }

    /// The reason of a `Status`, or the empty text.
    pub(crate) fn reason(&self) -> &str {
        self.body["reason"].as_str().unwrap_or("")
    }

    /// The message of a `Status`, or the empty text.
    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or("")
    }

    /// The body of a response with this code; anything else fails the test.
    #[track_caller]
    pub(crate) fn expect(self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", self.body);
        self.body
    }

    /// Checks that this is a refusal with that code and reason, in a `Status`.
    #[track_caller]
    pub(crate) fn expect_refusal(self, code: u16, reason: &str) -> Value {
        let (kind, own) = (&self.body["kind"], &self.body["code"]);
        assert_eq!((self.code, self.reason()), (code, reason), "{}", self.body);
        assert_eq!(
            (kind.as_str(), own.as_u64()),
            (Some("Status"), Some(code.into()))
        );
        assert_eq!(self.body["status"], "Failure");
        self.body
    }
}

impl RawKube {
    /// Uses plain HTTP.
    pub(crate) fn plain(base: &str, token: Option<&str>) -> Self {
        Self::build(base, token, None)
    }

    /// Uses TLS to a server of this CA (PEM).
    pub(crate) fn secure(base: &str, ca: &str, token: Option<&str>) -> Self {
        let tls = tls_builder().root_certs(roots(ca));
        Self::build(base, token, Some(tls.build()))
    }

    /// The contents of a kubeconfig with inline data.
    pub(crate) fn from_kubeconfig(text: &str) -> Self {
        let config: Value = serde_yaml::from_str(text).expect("a kubeconfig is YAML");
        let cluster = &config["clusters"][0]["cluster"];
        let user = &config["users"][0]["user"];
        let base = cluster["server"].as_str().expect("a cluster has a server");
        let pem = |value: &Value| {
            let text = value.as_str()?;
            let bytes = BASE64.decode(text).expect("inline data is base64");
            Some(String::from_utf8(bytes).expect("PEM is text"))
        };
        let ca = pem(&cluster["certificate-authority-data"]).expect("a CA");
        let mut tls = tls_builder().root_certs(roots(&ca));
        if let (Some(chain), Some(key)) = (
            pem(&user["client-certificate-data"]),
            pem(&user["client-key-data"]),
        ) {
            let key = PrivateKey::from_pem(key.as_bytes()).expect("a client key");
            let cert = ClientCert::new_with_certs(&certificates(&chain), key);
            tls = tls.client_cert(Some(cert));
        }
        Self::build(base, user["token"].as_str(), Some(tls.build()))
    }

    fn build(base: &str, token: Option<&str>, tls: Option<TlsConfig>) -> Self {
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(SILENCE_MAX))
            .timeout_recv_response(Some(SILENCE_MAX))
            .timeout_per_read(Some(SILENCE_MAX));
        if let Some(tls) = tls {
            config = config.tls_config(tls);
        }
        Self {
            agent: config.build().into(),
            base: base.to_owned(),
            token: token.map(str::to_owned),
        }
    }

    /// The same server, as another user.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        let mut other = self.clone();
        other.token = Some(token.to_owned());
        other
    }

    fn run(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("accept", "application/json");
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_empty() {
            self.agent.run(request.body(())?)
        } else {
            self.agent.run(request.body(body.to_owned())?)
        }
    }

    /// Sends anything; Err is a connection that broke.
    pub(crate) fn try_send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> Result<Got, ureq::Error> {
        let mut response = self.run(method, path, content_type, body)?;
        let text = response.body_mut().read_to_string()?;
        Ok(Got {
            code: response.status().as_u16(),
            body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
            headers: response.headers().clone(),
        })
    }

    /// Sends anything to a server that must respond.
    #[track_caller]
    pub(crate) fn send(&self, method: &str, path: &str, content_type: &str, body: &str) -> Got {
        self.try_send(method, path, content_type, body)
            .expect("the API server responds")
    }

    /// GET.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Got {
        self.send("GET", path, "", "")
    }

    /// POST of JSON.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Got {
        self.send("POST", path, "application/json", &body.to_string())
    }

    /// PUT of JSON.
    #[track_caller]
    pub(crate) fn put(&self, path: &str, body: &Value) -> Got {
        self.send("PUT", path, "application/json", &body.to_string())
    }

    /// PATCH with a JSON merge patch.
    #[track_caller]
    pub(crate) fn patch(&self, path: &str, body: &Value) -> Got {
        let kind = "application/merge-patch+json";
        self.send("PATCH", path, kind, &body.to_string())
    }

    /// PATCH with a JSON patch.
    #[track_caller]
    pub(crate) fn json_patch(&self, path: &str, operations: &Value) -> Got {
        let kind = "application/json-patch+json";
        self.send("PATCH", path, kind, &operations.to_string())
    }

    /// DELETE with options.
    #[track_caller]
    pub(crate) fn delete(&self, path: &str, options: &Value) -> Got {
        self.send("DELETE", path, "application/json", &options.to_string())
    }

    /// Opens a watch; each item is one event, or None where the stream broke
    /// in the middle of a line.
    #[track_caller]
    pub(crate) fn watch(&self, path: &str) -> impl Iterator<Item = Option<Value>> + use<> {
        let (status, events) = self.try_watch(path).expect("the watch opens");
        assert_eq!(status, 200, "a watch is let in");
        events
    }

    /// The same for a server that may be away, with the status code of its response.
    pub(crate) fn try_watch(
        &self,
        path: &str,
    ) -> Result<(u16, impl Iterator<Item = Option<Value>> + use<>), ureq::Error> {
        let response = self.run("GET", path, "", "")?;
        let status = response.status().as_u16();
        let lines = BufReader::new(response.into_body().into_reader()).lines();
        let events = lines
            // After an error the same error would come for ever.
            .map_while(Result::ok)
            .map(|line| serde_json::from_str(&line).ok());
        Ok((status, events))
    }
}

fn certificates(pem: &str) -> Vec<Certificate<'static>> {
    parse_pem(pem.as_bytes())
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(found)) => Some(found),
            _ => None,
        })
        .collect()
}

fn roots(ca: &str) -> RootCerts {
    RootCerts::Specific(Arc::new(certificates(ca)))
}

fn tls_builder() -> TlsConfigBuilder {
    let provider = rustls::crypto::ring::default_provider();
    TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(provider))
}

/// The server of a kubeconfig, and its CA.
pub(crate) fn server_and_ca(kubeconfig: &str) -> (String, String) {
    let config: Value = serde_yaml::from_str(kubeconfig).expect("a kubeconfig is YAML");
    let cluster = &config["clusters"][0]["cluster"];
    let server = cluster["server"].as_str().expect("a cluster has a server");
    let ca = cluster["certificate-authority-data"]
        .as_str()
        .expect("a CA");
    let bytes = BASE64.decode(ca).expect("inline data is base64");
    let pem = String::from_utf8(bytes).expect("PEM is text");
    (server.to_owned(), pem)
}
