//! Which cluster we use, and how we authenticate to it.
//!
//! Three sources, in this order: inside a pod, the service account; else the file
//! that `KUBECONFIG` names; else `~/.kube/config`. What a kubeconfig means is in
//! [`super::kubeconfig`]; reloading credentials is in the file `credentials.rs`,
//! running an exec plugin in `exec.rs`; sending is in [`super::transport`]. Tokens
//! appear in no log line and no error.

use super::kubeconfig::{self, ClientIdentity, File, Login, Secret, Source};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

mod credentials;
mod exec;

pub use credentials::Credentials;

/// Where Kubernetes mounts the service account of a pod.
pub const SERVICE_ACCOUNT_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Longest token or certificate file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// CA certificates of the system, for a kubeconfig that names none.
const SYSTEM_CA_FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The inputs that decide which cluster we use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// `KUBERNETES_SERVICE_HOST`: set in every pod.
    pub service_host: Option<String>,
    /// `KUBERNETES_SERVICE_PORT`.
    pub service_port: Option<String>,
    /// `KUBECONFIG`: a path, or several with `:` between them.
    pub kubeconfig: Option<String>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// Folder with `token`, `ca.crt` and `namespace`.
    pub service_account_dir: PathBuf,
}

/// The address of the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// False only for a loopback address.
    pub tls: bool,
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path before all paths of the API, without `/` at its end; mostly empty.
    pub base_path: String,
}

impl Server {
    /// Reads a URL.
    ///
    /// Plain `http://` is accepted for a loopback address only, where no traffic leaves the
    /// machine: for a fake API server, and for `kubectl proxy`.
    ///
    /// # Errors
    /// A message with the problem.
    pub fn parse(url: &str) -> Result<Self, String> {
        let bad = |why: &str| Err(format!("the server \"{url}\" {why}"));
        let (tls, rest) = match url.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return bad("is not an https:// URL"),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let plain_path = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%:".contains(&byte);
        if authority.contains('@') || !path.bytes().all(plain_path) {
            return bad("must not have a user, query, fragment or spaces");
        }
        let (host, port) = match authority
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'))
        {
            Some((host, rest)) => (
                host,
                rest.strip_prefix(':')
                    .or_else(|| rest.is_empty().then_some("")),
            ),
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, Some("")),
            },
        };
        let port = match port {
            Some("") => Some(if tls { 443 } else { 80 }),
            Some(port) => port.parse().ok().filter(|port| *port != 0),
            None => None,
        };
        let Some(port) = port else {
            return bad("has no valid port");
        };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_host) {
            return bad("has no valid host");
        }
        let loopback = host == "localhost"
            || host
                .parse()
                .is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        if !tls && !loopback {
            return bad("is not encrypted, so our token could be intercepted: use https://");
        }
        let base_path = path.trim_end_matches('/').into();
        Ok(Self {
            tls,
            host: host.into(),
            port,
            base_path,
        })
    }

    /// Host (an IPv6 address in brackets) and port, as a URL has them.
    #[must_use]
    pub fn authority(&self) -> String {
        authority(&self.host, self.port)
    }
}

/// Host (an IPv6 address in brackets) and port, as a URL has them.
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// A cluster and how to authenticate to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The API server.
    pub server: Server,
    /// The name that its certificate must have, if not that of the address.
    pub tls_server_name: Option<String>,
    /// The CA of its certificate (PEM); always set with TLS.
    pub certificate_authority: Option<Source>,
    /// Client certificate and key (PEM).
    pub client_certificate: Option<ClientIdentity>,
    /// Token or the like.
    pub login: Login,
    /// The namespace to use when the settings name none.
    pub namespace: String,
    /// The source of this configuration, for the log.
    pub origin: String,
}

/// Credentials as of one moment.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    /// Sent in the header `Authorization: Bearer …`.
    pub token: Option<Arc<Secret>>,
    /// The certificate of an exec plugin; that of a kubeconfig is not kept here.
    pub certificate: Option<Arc<ClientIdentity>>,
    /// When they expire, if that is known.
    expires: Option<SystemTime>,
    /// Increases whenever token or certificate change.
    pub generation: u64,
}

impl Proof {
    fn of_token(token: Secret) -> Self {
        Self {
            token: Some(Arc::new(token)),
            ..Self::default()
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.token == other.token && self.certificate == other.certificate
    }
}

/// Finds the cluster.
///
/// # Errors
/// All problems of the first of the three sources that exists, each a message that says what to do;
/// if none does, one problem that names all three.
pub fn resolve(environment: &Environment) -> Result<Cluster, Vec<String>> {
    if environment.service_host.is_some() {
        return in_cluster(environment);
    }
    if let Some(list) = &environment.kubeconfig {
        // As kubectl does: one that does not exist may be made later.
        let paths = list.split(':').filter(|path| !path.is_empty());
        let paths: Vec<&Path> = paths.map(Path::new).filter(|path| path.exists()).collect();
        if paths.is_empty() {
            return Err(vec![format!(
                "KUBECONFIG names no file that exists: {list}"
            )]);
        }
        return from_kubeconfigs(&paths);
    }
    let default = environment
        .home
        .as_ref()
        .map(|home| home.join(".kube/config"));
    match default.filter(|path| path.exists()) {
        Some(path) => from_kubeconfigs(&[&path]),
        None => Err(vec![
            "no Kubernetes cluster is configured: run in a pod with a service account, or set KUBECONFIG to a kubeconfig file, or put one at ~/.kube/config".into(),
        ]),
    }
}

fn in_cluster(environment: &Environment) -> Result<Cluster, Vec<String>> {
    let folder = &environment.service_account_dir;
    let host = environment.service_host.as_deref().unwrap_or_default();
    let port = environment.service_port.as_deref().unwrap_or("443");
    let mut problems = Vec::new();
    let server = port
        .parse()
        .map_err(|_| format!("KUBERNETES_SERVICE_PORT is not a port: \"{port}\""))
        .and_then(|port| Server::parse(&format!("https://{}", authority(host, port))));
    for name in ["token", "ca.crt"] {
        if let Err(error) = read_file(&folder.join(name)) {
            problems.push(format!(
                "KUBERNETES_SERVICE_HOST is set, but the service account has no {name}: {error}; let the pod mount its token (automountServiceAccountToken)"
            ));
        }
    }
    let namespace = read_file(&folder.join("namespace")).ok();
    let namespace = namespace.and_then(|bytes| String::from_utf8(bytes).ok());
    let namespace = namespace
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty());
    let server = server.map_err(|problem| problems.push(problem)).ok();
    match server {
        Some(server) if problems.is_empty() => Ok(Cluster {
            server,
            tls_server_name: None,
            certificate_authority: Some(Source::File(folder.join("ca.crt"))),
            client_certificate: None,
            login: Login::TokenFile(folder.join("token"), None),
            namespace: namespace.unwrap_or_else(|| "default".into()),
            origin: "the service account of this pod".into(),
        }),
        _ => Err(problems),
    }
}

fn from_kubeconfigs(paths: &[&Path]) -> Result<Cluster, Vec<String>> {
    let of = |origin: &str, problems: Vec<String>| -> Vec<String> {
        let problems = problems.into_iter();
        problems
            .map(|problem| format!("{origin}: {problem}"))
            .collect()
    };
    let mut files = Vec::new();
    let mut broken = Vec::new();
    for path in paths {
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        let text = read_file(path).map_err(|error| vec![error]);
        let parse = |text: Vec<u8>| File::parse(&String::from_utf8_lossy(&text), folder);
        match text.and_then(parse) {
            Ok(file) => files.push(file),
            Err(problems) => broken.extend(of(&origin_of(&[path]), problems)),
        }
    }
    if !broken.is_empty() {
        return Err(broken);
    }
    let origin = origin_of(paths);
    let selected = kubeconfig::select(&files).map_err(|problems| of(&origin, problems))?;

    let mut problems = Vec::new();
    let server = Server::parse(&selected.server)
        .map_err(|problem| problems.push(problem))
        .ok();
    let tls = server.as_ref().is_none_or(|server| server.tls);
    let certificate_authority = selected.certificate_authority.or_else(system_ca);
    if tls && certificate_authority.is_none() {
        problems.push("its cluster has no certificate-authority, and the system has no CA certificates: set it".into());
    }
    let client = selected.client_certificate.iter();
    let client = client.flat_map(|(certificate, key)| [certificate, key]);
    let authority = certificate_authority.iter().filter(|_| tls);
    for source in authority.chain(client) {
        if let Err(error) = read_source(source) {
            problems.push(error);
        }
    }
    if let Login::TokenFile(path, None) = &selected.login
        && let Err(error) = read_token(path)
    {
        problems.push(error);
    }
    match server {
        Some(server) if problems.is_empty() => Ok(Cluster {
            server,
            tls_server_name: selected.tls_server_name,
            certificate_authority: certificate_authority.filter(|_| tls),
            client_certificate: selected.client_certificate,
            login: selected.login,
            namespace: selected.namespace.unwrap_or_else(|| "default".into()),
            origin,
        }),
        _ => Err(of(&origin, problems)),
    }
}

/// These files in the log and in problems.
fn origin_of(paths: &[&Path]) -> String {
    let names: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    format!("kubeconfig {}", names.join(":"))
}

fn system_ca() -> Option<Source> {
    let path = SYSTEM_CA_FILES
        .iter()
        .map(Path::new)
        .find(|path| path.exists())?;
    Some(Source::File(path.into()))
}

/// Reads a file of at most [`FILE_BYTES_MAX`].
fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let read = fs::File::open(path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let bytes = read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!(
            "{} is larger than {FILE_BYTES_MAX} bytes",
            path.display()
        ));
    }
    Ok(bytes)
}

/// Reads the value, from memory or from its file.
///
/// # Errors
/// A message that names the file.
pub(super) fn read_source(source: &Source) -> Result<Vec<u8>, String> {
    match source {
        Source::Data(data) => Ok(data.clone()),
        Source::File(path) => read_file(path),
    }
}

fn read_token(path: &Path) -> Result<Secret, String> {
    let bytes = read_file(path)?;
    let token = String::from_utf8_lossy(&bytes).trim().to_owned();
    check_token(token).map_err(|why| format!("the token in {} {why}", path.display()))
}

fn check_token(token: String) -> Result<Secret, &'static str> {
    if token.is_empty() {
        return Err("is empty");
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("contains characters that are not allowed in a token");
    }
    Ok(Secret(token))
}

#[cfg(test)]
mod tests;
