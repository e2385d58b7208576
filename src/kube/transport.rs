//! HTTPS to the API server: the only file that names the HTTP and TLS libraries.
//!
//! [`Transport`] is what the rest of the program (and the simulation) sees; [`HttpTransport`] is
//! the real one. One request is one attempt, with two safe exceptions. A pooled connection that the
//! server has closed is replaced once (never for a POST: its response may be lost). After a 401 the
//! credentials are reloaded once, and the last accepted ones are tried. All other retries belong to the coordinator and the reflectors.
//! Every wait and every body is bounded.

mod body;
mod failure;
mod slices;
mod streams;
#[cfg(test)]
mod tests;

pub use body::{RESPONSE_BYTES_MAX, RESPONSES_BYTES_MAX, SMALL_BYTES};
pub use streams::Cut;

use super::auth::{self, Cluster, Credentials, Proof, Server};
use super::error::{Error, Failure, Verb};
use super::kubeconfig::ClientIdentity;
use super::request::Request;
use super::status::Status;
use super::types::Timestamp;
use crate::budget::{Budget, Charge};
use crate::clock::Clock;
use crate::threads::lock;
use body::read_whole;
use failure::failure;
use slices::Slices;
use std::fmt;
use std::net::ToSocketAddrs as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use streams::{Log, stream_of};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, http};

/// Longest that an idle connection is kept, in seconds.
const IDLE_SECS_MAX: u64 = 20;

/// Largest head of a response, in bytes: the size of a connection's input buffer.
const HEAD_BYTES_MAX: usize = INPUT_BYTES;

/// Sizes of each connection's buffers, in bytes. A connection has them as long as it is open. The
/// default of ureq is 128 KiB for each, more than the rest of an idle process needs.
const INPUT_BYTES: usize = 32 * 1024;
const OUTPUT_BYTES: usize = 16 * 1024;

/// The longest that [`Transport::send`] takes for a call, and for a page of a list: its own time limit,
/// and that of an exec plugin whose credentials are needed first.
pub const CALL_LONGEST: Duration = Duration::from_secs(90);

/// Time limits, and the size of the connection pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Maximum number of requests in flight: the size of the pool.
    pub connections: usize,
    /// Time limit for opening a connection, TLS included.
    pub connect: Duration,
    /// Time limit until a response begins, and between two pieces of it.
    pub response: Duration,
    /// Time limit of a whole call, from its first attempt to the last byte of its response.
    pub call: Duration,
    /// The same for a page of a list.
    pub list: Duration,
    /// How long a read of an open watch waits.
    pub watch_read: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections: 8,
            connect: Duration::from_secs(3),
            response: Duration::from_secs(10),
            call: Duration::from_secs(30),
            list: Duration::from_secs(60),
            watch_read: super::watch::SLICE,
        }
    }
}

/// The response to a request, success or not.
#[derive(Debug, Default)]
pub struct Response {
    /// HTTP status code.
    pub status: u16,
    /// The whole body.
    pub body: Vec<u8>,
    /// From the header `Retry-After`, where it holds seconds.
    pub retry_after: Option<Duration>,
    /// The time by the server's clock, from the header `Date`.
    pub date: Option<Timestamp>,
    /// From its headers `Warning`.
    pub warnings: Vec<Box<str>>,
    /// The memory of the body, where it is large.
    pub charge: Option<Charge>,
}

impl Response {
    /// The response, if it is a success.
    ///
    /// # Errors
    /// The API server's `Status`, if it is not.
    pub fn into_success(self, request: &Request) -> Result<Self, Error> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let status = Box::new(Status::from_body(self.status, &self.body));
        Err(request.error(Failure::Status {
            status,
            retry_after: self.retry_after,
        }))
    }
}

/// An open watch: bytes as they come.
pub trait EventStream: fmt::Debug + Send {
    /// Waits for the next bytes and puts them into `buffer`; 0 when the server has ended the watch.
    ///
    /// # Errors
    /// [`Failure::TimedOut`] when there is nothing yet, and the next read may return more;
    /// [`Failure::Lost`] when the watch has ended.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure>;

    /// Waits for the memory of a large event, which shares a budget with large responses; `None` if
    /// it is not bounded.
    ///
    /// # Errors
    /// [`Failure::TimedOut`] if others hold it for too long.
    fn charge(&self, bytes: usize) -> Result<Option<Charge>, Failure> {
        let _ = bytes;
        Ok(None)
    }
}

/// Sends requests to the API server.
pub trait Transport: fmt::Debug + Send + Sync {
    /// Sends a request and waits for the whole response; every status code is a response.
    ///
    /// # Errors
    /// When there is no response.
    fn send(&self, request: &Request) -> Result<Response, Error>;

    /// Opens a watch.
    ///
    /// # Errors
    /// When there is no response, or it is not a success.
    fn open(&self, request: &Request) -> Result<Box<dyn EventStream>, Error>;

    /// Opens a log, which ends after `longest`, or once it is cut; `None` where Kubernetes has none (204).
    /// One that `follows` may be silent all the time.
    ///
    /// # Errors
    /// When there is no response, or it is not a success.
    fn open_log(
        &self,
        request: &Request,
        longest: Duration,
        follows: bool,
        cut: &Cut,
    ) -> Result<Option<Box<dyn EventStream>>, Error>;
}

/// The connection pool of a request; each has its own agent and time limits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pool {
    /// Short calls.
    Call,
    /// Lists of the reflectors.
    List,
    /// The same, each over a new connection.
    Apart,
    /// Watches.
    Watch,
}

/// How a request goes out.
#[derive(Clone, Copy)]
enum Way<'a> {
    /// Over a pool.
    Pool(Pool),
    /// Over a connection of its own, which can be cut.
    Log(&'a Log<'a>),
}

/// HTTPS, with a pool of connections for calls and separate ones for lists and watches.
pub struct HttpTransport {
    cluster: Cluster,
    settings: Settings,
    credentials: Credentials,
    clock: Arc<dyn Clock>,
    agents: Mutex<Agents>,
    /// For large responses and events.
    budget: Arc<Budget>,
}

/// Built from the current content of the files.
struct Agents {
    /// Those of all pools, in their order.
    by_pool: [Agent; 4],
    ca: Vec<u8>,
    certificate: Option<Arc<ClientIdentity>>,
    /// Lists and watches have been closed for good.
    closed: bool,
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport")
            .field("server", &self.cluster.server)
            .finish_non_exhaustive()
    }
}

impl HttpTransport {
    /// Prepares a connection pool for that cluster; sends nothing yet.
    ///
    /// # Errors
    /// A CA file without certificates, a client certificate that does not match its key.
    pub fn new(
        cluster: &Cluster,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let ca = read_ca(cluster)?;
        let agents = build(cluster, settings, ca, None)
            .map_err(|why| format!("{}: {why}", cluster.origin))?;
        Ok(Self {
            credentials: Credentials::new(cluster, Arc::clone(&clock)),
            clock,
            cluster: cluster.clone(),
            settings,
            agents: Mutex::new(agents),
            budget: Budget::new(RESPONSES_BYTES_MAX),
        })
    }

    /// Closes all lists and watches within milliseconds, and refuses new ones; for shutdown.
    pub fn close_watches(&self) {
        let mut agents = lock(&self.agents);
        agents.closed = true;
        let [_, list, apart, watch] = agents.by_pool.clone();
        drop(agents);
        list.shutdown();
        apart.shutdown();
        watch.shutdown();
    }

    /// The agent of that pool, rebuilt first when an exec plugin has returned another certificate.
    fn agent(&self, pool: Pool, proof: &Proof) -> Result<Agent, Failure> {
        let mut agents = lock(&self.agents);
        if agents.closed && pool != Pool::Call {
            return Err(Failure::Connect("this replica is shutting down".into()));
        }
        if agents.certificate != proof.certificate {
            let ca = agents.ca.clone();
            let built = build(&self.cluster, self.settings, ca, proof.certificate.clone());
            let closed = agents.closed;
            *agents = Agents {
                closed,
                ..built.map_err(Failure::Credentials)?
            };
        }
        Ok(agents.by_pool[pool as usize].clone())
    }

    /// Reloads the CA and builds new agents if it has changed; returns whether it has.
    fn reload_ca(&self) -> bool {
        let Ok(ca) = read_ca(&self.cluster) else {
            return false;
        };
        let mut agents = lock(&self.agents);
        if agents.ca == ca || agents.closed {
            return false;
        }
        match build(&self.cluster, self.settings, ca, agents.certificate.clone()) {
            Ok(built) => {
                log::info!("reloaded the CA of the API server, which has changed");
                *agents = built;
                true
            }
            Err(why) => {
                log::error!(
                    "cannot reload the CA of the API server: {why}; keeping the last valid one"
                );
                false
            }
        }
    }

    /// Sends a request, and retries once where that is safe (see the head of this file); its response
    /// ends before `until`, if that is given.
    fn exchange(
        &self,
        way: Way<'_>,
        request: &Request,
        until: Option<Instant>,
    ) -> Result<http::Response<ureq::Body>, Failure> {
        if matches!(way, Way::Pool(Pool::Watch)) {
            self.reload_ca();
        }
        let proof = self.credentials.current().map_err(Failure::Credentials)?;
        let first = match self.attempt(way, request, &proof, until) {
            Err(Failure::Connect(why)) => {
                if !self.reload_ca() {
                    return Err(Failure::Connect(why));
                }
                self.attempt(way, request, &proof, until)
            }
            Err(Failure::Lost(_)) if request.verb != Verb::Create => {
                self.attempt(way, request, &proof, until)
            }
            first => first,
        }?;
        if !is_unauthorized(&first) {
            self.credentials.accepted(&proof);
            return Ok(first);
        }
        let renewed = self
            .credentials
            .renew(&proof)
            .map_err(Failure::Credentials)?;
        let second = if renewed.generation == proof.generation {
            first
        } else {
            self.attempt(way, request, &renewed, until)?
        };
        if !is_unauthorized(&second) {
            self.credentials.accepted(&renewed);
            return Ok(second);
        }
        match self.credentials.last_accepted(&renewed) {
            Some(last) => self.attempt(way, request, &last, until),
            None => Ok(second),
        }
    }

    fn attempt(
        &self,
        way: Way<'_>,
        request: &Request,
        proof: &Proof,
        until: Option<Instant>,
    ) -> Result<http::Response<ureq::Body>, Failure> {
        let left = until.map(|until| until.saturating_duration_since(self.clock.now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(Failure::TimedOut("the time limit of the call".into()));
        }
        let agent = match way {
            Way::Pool(pool) => self.agent(pool, proof)?,
            Way::Log(log) => log.agent(&self.agent(Pool::Apart, proof)?, &self.cluster.server)?,
        };
        let http = self
            .http_request(request, proof)
            .map_err(|error| Failure::Request(error.to_string()))?;
        let response = match &request.body {
            Some(body) => {
                let http = http.map(|()| body.as_slice());
                agent.run(agent.configure_request(http).timeout_global(left).build())
            }
            None => {
                let mut config = agent.configure_request(http).timeout_global(left);
                if matches!(way, Way::Log(Log { follows: true, .. })) {
                    config = config.timeout_recv_response(left).timeout_per_read(left);
                }
                agent.run(config.build())
            }
        };
        response.map_err(failure)
    }

    fn http_request(
        &self,
        request: &Request,
        proof: &Proof,
    ) -> Result<http::Request<()>, http::Error> {
        let server = &self.cluster.server;
        let real = server.authority();
        let name = self.cluster.tls_server_name.as_ref();
        let named = name.map_or_else(|| real.clone(), |name| auth::authority(name, server.port));
        let scheme = if server.tls { "https" } else { "http" };
        let (base, path) = (&server.base_path, &request.path_and_query);
        let url = format!("{scheme}://{named}{base}{path}");
        let mut builder = http::Request::builder()
            .method(request.verb.method())
            .uri(url)
            .header("host", real)
            .header("accept", "application/json");
        if let Some(content_type) = request.content_type {
            builder = builder.header("content-type", content_type);
        }
        if let Some(context) = &request.trace {
            builder = builder.header("traceparent", context.traceparent());
            if let Some(state) = &context.state {
                builder = builder.header("tracestate", &**state);
            }
        }
        if let Some(token) = &proof.token {
            let mut value = http::HeaderValue::try_from(format!("Bearer {}", token.0))?;
            value.set_sensitive(true);
            builder = builder.header("authorization", value);
        }
        builder.body(())
    }
}

impl Transport for HttpTransport {
    fn send(&self, request: &Request) -> Result<Response, Error> {
        let (pool, time) = match request.verb {
            Verb::List if request.is_apart => (Pool::Apart, self.settings.list),
            // A list of one name is a call like any other.
            Verb::List if request.name.is_none() => (Pool::List, self.settings.list),
            _ => (Pool::Call, self.settings.call),
        };
        let until = Some(self.clock.now() + time);
        let deadline = Instant::now() + time;
        let exchange = || self.exchange(Way::Pool(pool), request, until);
        let whole = || read_whole(exchange()?, &self.budget, deadline);
        let response = match whole() {
            // The response was cut off. Repeating a GET is safe.
            Err(Failure::Lost(_)) if request.verb.method() == "GET" => whole(),
            other => other,
        };
        response.map_err(|failure| request.error(failure))
    }

    fn open(&self, request: &Request) -> Result<Box<dyn EventStream>, Error> {
        let response = self.exchange(Way::Pool(Pool::Watch), request, None);
        let stream = stream_of(self, request, response)?;
        stream.ok_or_else(|| request.error(Failure::InvalidResponse("it is empty".into())))
    }

    fn open_log(
        &self,
        request: &Request,
        longest: Duration,
        follows: bool,
        cut: &Cut,
    ) -> Result<Option<Box<dyn EventStream>>, Error> {
        let (log, until) = (Log { follows, cut }, self.clock.now() + longest);
        let response = self.exchange(Way::Log(&log), request, Some(until));
        stream_of(self, request, response)
    }
}

fn is_unauthorized(response: &http::Response<ureq::Body>) -> bool {
    response.status().as_u16() == 401
}

fn read_ca(cluster: &Cluster) -> Result<Vec<u8>, String> {
    cluster
        .certificate_authority
        .as_ref()
        .map_or(Ok(Vec::new()), auth::read_source)
}

/// Builds agents; `certificate` (of an exec plugin) takes precedence over that of the kubeconfig.
fn build(
    cluster: &Cluster,
    settings: Settings,
    ca: Vec<u8>,
    certificate: Option<Arc<ClientIdentity>>,
) -> Result<Agents, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let identity = certificate.as_deref();
    let identity = identity.or(cluster.client_certificate.as_ref());
    let client_cert = identity
        .map(|identity| client_cert(identity, &provider))
        .transpose()?;
    let roots = certificates(&ca).map_err(|why| format!("its certificate authority {why}"))?;
    if cluster.server.tls && roots.is_empty() {
        return Err("its certificate authority contains no certificate".into());
    }
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::new_with_certs(&roots))
        .client_cert(client_cert)
        .unversioned_rustls_crypto_provider(provider)
        .build();
    let agent = |pool: Pool| agent(cluster, settings, tls.clone(), pool);
    Ok(Agents {
        by_pool: [Pool::Call, Pool::List, Pool::Apart, Pool::Watch].map(agent),
        ca,
        certificate,
        closed: false,
    })
}

/// The agent of a pool.
fn agent(cluster: &Cluster, settings: Settings, tls: TlsConfig, pool: Pool) -> Agent {
    let idle = match pool {
        Pool::Apart => 0,
        _ => settings.connections,
    };
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .https_only(cluster.server.tls)
        .proxy(None)
        .user_agent(concat!("config-controller/", env!("CARGO_PKG_VERSION")))
        .max_response_header_size(HEAD_BYTES_MAX)
        .input_buffer_size(INPUT_BYTES)
        .output_buffer_size(OUTPUT_BYTES)
        .max_idle_connections(idle)
        .max_idle_connections_per_host(idle)
        .max_idle_age(Duration::from_secs(IDLE_SECS_MAX))
        // Our resolver ignores time limits: a thread per lookup would be needed for them.
        .timeout_connect(Some(settings.connect))
        .timeout_recv_response(Some(settings.response))
        .timeout_per_read(Some(settings.response))
        .timeout_per_write(Some(settings.response))
        .build();
    let resolver = ServerResolver(cluster.server.clone());
    match pool {
        Pool::Watch => {
            let connector = Slices::over(DefaultConnector::default(), settings.watch_read);
            Agent::with_parts(config, connector, resolver)
        }
        _ => Agent::with_parts(config, DefaultConnector::default(), resolver),
    }
}

/// Resolves every name to our API server, so that the URL can contain the name in
/// its certificate (`tls-server-name`).
#[derive(Debug)]
struct ServerResolver(Server);

impl Resolver for ServerResolver {
    fn resolve(
        &self,
        _: &http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut found = self.empty();
        let addresses = (self.0.host.as_str(), self.0.port).to_socket_addrs();
        for address in addresses
            .map_err(|_| ureq::Error::HostNotFound)?
            .take(ADDRESSES_MAX)
        {
            found.push(address);
        }
        if found.is_empty() {
            Err(ureq::Error::HostNotFound)
        } else {
            Ok(found)
        }
    }
}

/// How many addresses of a name are tried; the library accepts no more than 16.
const ADDRESSES_MAX: usize = 16;

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, String> {
    let items = ureq::tls::parse_pem(pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
        Ok(_) => None,
        Err(error) => Some(Err(format!("is not PEM: {error}"))),
    });
    items.collect()
}

/// Makes a client certificate after checking that the key belongs to it: the HTTP
/// library would panic otherwise.
fn client_cert(
    (certificate, key): &ClientIdentity,
    provider: &rustls::crypto::CryptoProvider,
) -> Result<ClientCert, String> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let (certificate, key_pem) = (auth::read_source(certificate)?, auth::read_source(key)?);
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&certificate)
        .collect::<Result<_, _>>()
        .map_err(|_| "its client certificate is not PEM")?;
    let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| "its client key is not PEM")?;
    rustls::sign::CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| format!("its client certificate and client key do not match: {error}"))?;
    let chain = certificates(&certificate)?;
    let key = PrivateKey::from_pem(&key_pem).map_err(|_| "its client key is not PEM")?;
    Ok(ClientCert::new_with_certs(&chain, key))
}
