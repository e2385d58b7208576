//! [`Post`]: sends bytes to a collector by HTTP or HTTPS, one attempt each.
//!
//! The HTTP and TLS libraries are named here, and for the API server in [`crate::kube::transport`].
//! This client has a single URL and CA, no renewed credentials and no watches, and traces must not
//! depend on the client for Kubernetes. Every wait is bounded; redirects and proxies are not
//! followed.

use super::Settings;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Error};

/// Maximum size of a response body that is read, in bytes.
const RESPONSE_BYTES_MAX: u64 = 64 * 1024;

/// Maximum size of a response head, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(20);

/// An HTTP client for one collector.
#[derive(Debug)]
pub(super) struct Post {
    agent: Agent,
    url: Uri,
    /// The values are marked as sensitive, so that `Debug` does not show them.
    headers: HeaderMap,
}

impl Post {
    /// A client that has not connected yet.
    ///
    /// # Errors
    /// The problem of the URL, the headers or the CA file.
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let endpoint = &settings.endpoint;
        let url = Uri::try_from(endpoint).map_err(|error| {
            format!("OTEL_EXPORTER_OTLP_ENDPOINT: {endpoint} is not a URL: {error}")
        })?;
        let is_secure = url.scheme_str() == Some("https");
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::new_with_certs(&roots(settings)?))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .https_only(is_secure)
            .proxy(None)
            .user_agent(concat!("config-controller/", env!("CARGO_PKG_VERSION")))
            .max_response_header_size(HEAD_BYTES_MAX)
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            .max_idle_age(IDLE)
            .timeout_global(Some(settings.timeout))
            .build();
        Ok(Self {
            agent: agent.into(),
            url,
            headers: headers(settings)?,
        })
    }

    /// Sends one body and returns the response body of a success.
    ///
    /// # Errors
    /// A short cause that is the same whenever the cause is, so that callers can compare it.
    pub(super) fn send(&self, body: &[u8]) -> Result<Vec<u8>, String> {
        let mut request = self.agent.post(&self.url);
        if let Some(all) = request.headers_mut() {
            all.extend(self.headers.clone());
        }
        let mut response = request.send(body).map_err(|error| cause(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("status {status}"));
        }
        let body = response.body_mut().with_config().limit(RESPONSE_BYTES_MAX);
        // The status code is a success, so an unreadable body is not an error.
        Ok(body.read_to_vec().unwrap_or_default())
    }
}

fn headers(settings: &Settings) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(
        "content-type",
        HeaderValue::from_static("application/x-protobuf"),
    );
    for (name, value) in &settings.headers.0 {
        let bad = || format!("OTEL_EXPORTER_OTLP_HEADERS: the header {name} cannot be sent");
        let mut value = HeaderValue::try_from(value).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.insert(HeaderName::try_from(name).map_err(|_| bad())?, value);
    }
    Ok(headers)
}

fn roots(settings: &Settings) -> Result<Vec<Certificate<'static>>, String> {
    let Some(file) = &settings.certificate else {
        return Ok(Vec::new());
    };
    let problem = |why: String| format!("OTEL_EXPORTER_OTLP_CERTIFICATE: {} {why}", file.display());
    let pem = std::fs::read(file).map_err(|error| problem(format!("cannot be read: {error}")))?;
    let mut roots = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        if let PemItem::Certificate(root) =
            item.map_err(|error| problem(format!("is not PEM: {error}")))?
        {
            roots.push(root);
        }
    }
    if roots.is_empty() {
        return Err(problem(
            "contains no certificate; expected a PEM file with the CA".into(),
        ));
    }
    Ok(roots)
}

fn cause(error: &Error) -> String {
    match error {
        Error::Timeout(_) => "no response in time".to_owned(),
        Error::HostNotFound => "unknown host".to_owned(),
        other => other.to_string(),
    }
}
