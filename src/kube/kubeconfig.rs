//! The kubeconfig file: from its text to the one cluster and user that it selects.
//!
//! Pure: files that it names are not read here, only resolved against its folder. Every problem is
//! a message with its fix, and all problems are reported together. Rejected on purpose: skipping
//! the check of the server's certificate (any server could obtain our token), passwords and
//! `auth-provider` (Kubernetes itself has removed both).
//!
//! Source: client-go's `clientcmd/api/v1` types and its rules of precedence.

mod wire;

use base64::Engine as _;
use std::fmt;
use std::path::{Path, PathBuf};
use wire::{ClusterWire, ExecWire, UserWire};

/// A string that must not be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A value that is in the kubeconfig itself, or in another file.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// The value itself.
    Data(Vec<u8>),
    /// The file that contains the value.
    File(PathBuf),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(data) => write!(f, "Data({} bytes)", data.len()),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

/// How we authenticate, besides a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Without credentials.
    Anonymous,
    /// With this token.
    Token(Secret),
    /// With the token in this file, which may change.
    TokenFile(PathBuf),
    /// With the credentials that this program prints.
    Exec(Exec),
}

/// A program that prints credentials (client-go's exec plugin).
#[derive(Clone, PartialEq, Eq)]
pub struct Exec {
    /// `client.authentication.k8s.io/v1` or `…/v1beta1`.
    pub api_version: String,
    /// A path, or a name that is looked up in `PATH`.
    pub command: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment variables that it gets in addition to those of this process.
    pub env: Vec<(String, String)>,
    /// Whether it gets the cluster's address and CA (in `KUBERNETES_EXEC_INFO`).
    pub provide_cluster_info: bool,
    /// The hint to print when it is not installed.
    pub install_hint: Option<String>,
}

impl fmt::Debug for Exec {
    /// Without arguments and variables, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec")
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

/// What the current context of a kubeconfig selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// URL of the API server.
    pub server: String,
    /// The name that the server's certificate must have, if not that of the URL.
    pub tls_server_name: Option<String>,
    /// CA certificates (PEM).
    pub certificate_authority: Option<Source>,
    /// Client certificate and key (PEM).
    pub client_certificate: Option<(Source, Source)>,
    /// Token or the like.
    pub login: Login,
    /// Namespace of the context.
    pub namespace: Option<String>,
}

/// Reads a kubeconfig; `folder` is where it lies.
///
/// # Errors
/// All its problems, one message each.
pub fn parse(text: &str, folder: &Path) -> Result<Selected, Vec<String>> {
    let wire = wire::read(text)?;
    let mut problems = Problems {
        found: Vec::new(),
        folder,
    };
    let Some(context_name) = wire.current_context.filter(|name| !name.is_empty()) else {
        return Err(vec![
            "it has no current-context: set one with kubectl config use-context".into(),
        ]);
    };
    let Some(context) = find(wire.contexts, &context_name).flatten() else {
        return Err(vec![format!(
            "its current-context \"{context_name}\" is not among its contexts"
        )]);
    };

    let cluster_name = context.cluster.unwrap_or_default();
    let cluster = find(wire.clusters, &cluster_name).flatten();
    if cluster.is_none() {
        problems.add(format!(
            "the cluster \"{cluster_name}\" of its current-context is missing"
        ));
    }

    let user_name = context.user.unwrap_or_default();
    let user = find(wire.users, &user_name);
    if user.is_none() && !user_name.is_empty() {
        problems.add(format!(
            "the user \"{user_name}\" of its current-context is missing"
        ));
    }
    let user = user.flatten().unwrap_or_default();

    let client_certificate = problems.client_certificate(&user);
    let login = problems.login(user);
    let selected = cluster.map(|cluster| Selected {
        tls_server_name: cluster
            .tls_server_name
            .clone()
            .filter(|name| !name.is_empty()),
        certificate_authority: problems.cluster(&cluster),
        server: cluster.server.unwrap_or_default(),
        client_certificate,
        login,
        namespace: context.namespace.filter(|name| !name.is_empty()),
    });
    match selected {
        Some(selected) if problems.found.is_empty() => Ok(selected),
        _ => Err(problems.found),
    }
}

/// The first entry of this name, and what is in it.
fn find<T>(all: Vec<(Option<String>, Option<T>)>, name: &str) -> Option<Option<T>> {
    let mut all = all.into_iter();
    all.find(|(known, _)| known.as_deref() == Some(name))
        .map(|(_, content)| content)
}

/// The problems found so far.
struct Problems<'a> {
    found: Vec<String>,
    folder: &'a Path,
}

impl Problems<'_> {
    fn add(&mut self, problem: impl Into<String>) {
        self.found.push(problem.into());
    }

    /// Checks the cluster; returns the source of its CA.
    fn cluster(&mut self, cluster: &ClusterWire) -> Option<Source> {
        if cluster.server.as_deref().unwrap_or_default().is_empty() {
            self.add("its cluster has no server");
        }
        if cluster.insecure_skip_tls_verify {
            self.add("its insecure-skip-tls-verify is not supported, since any server could obtain our token: set certificate-authority");
        }
        if cluster
            .proxy_url
            .as_deref()
            .is_some_and(|url| !url.is_empty())
        {
            self.add("its proxy-url is not supported: use a server that can be reached directly");
        }
        let data = &cluster.certificate_authority_data;
        self.source(
            "certificate-authority",
            data,
            &cluster.certificate_authority,
        )
    }

    fn client_certificate(&mut self, user: &UserWire) -> Option<(Source, Source)> {
        let (data, file) = (&user.client_certificate_data, &user.client_certificate);
        let certificate = self.source("client-certificate", data, file);
        let key = self.source("client-key", &user.client_key_data, &user.client_key);
        match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                self.add("its user has a client-certificate without client-key");
                None
            }
            (None, Some(_)) => {
                self.add("its user has a client-key without client-certificate");
                None
            }
        }
    }

    /// Data takes precedence over a file, as in client-go; base64 is decoded.
    fn source(
        &mut self,
        what: &str,
        data: &Option<String>,
        file: &Option<String>,
    ) -> Option<Source> {
        if let Some(data) = data.as_deref().filter(|data| !data.is_empty()) {
            let compact: String = data.split_ascii_whitespace().collect();
            match base64::engine::general_purpose::STANDARD.decode(compact) {
                Ok(data) => return Some(Source::Data(data)),
                Err(error) => self.add(format!("its {what}-data is not base64: {error}")),
            }
            return None;
        }
        let file = file.as_deref().filter(|file| !file.is_empty())?;
        Some(Source::File(self.folder.join(file)))
    }

    fn login(&mut self, user: UserWire) -> Login {
        if user.has_auth_provider {
            self.add("its user has an auth-provider, which Kubernetes has removed: use an exec plugin or a token");
        }
        if user.username.is_some() || user.password.is_some() {
            self.add("its user has a username and password, which Kubernetes has removed: use a token or a client certificate");
        }
        if user.impersonate.is_some() {
            self.add("its user impersonates another one (as), which is not supported: use that user's own credentials");
        }
        if let Some(file) = user.token_file.filter(|file| !file.is_empty()) {
            return Login::TokenFile(self.folder.join(file));
        }
        if let Some(token) = user.token.filter(|token| !token.is_empty()) {
            return Login::Token(Secret(token));
        }
        match user.exec {
            Some(exec) => self.exec(exec),
            None => Login::Anonymous,
        }
    }

    fn exec(&mut self, wire: ExecWire) -> Login {
        let api_version = wire.api_version.unwrap_or_default();
        const KNOWN: [&str; 2] = [
            "client.authentication.k8s.io/v1",
            "client.authentication.k8s.io/v1beta1",
        ];
        if !KNOWN.contains(&api_version.as_str()) {
            self.add(format!(
                "its exec plugin has the apiVersion \"{api_version}\": {} and {} are supported",
                KNOWN[0], KNOWN[1]
            ));
        }
        if wire.interactive_mode.as_deref() == Some("Always") {
            self.add(
                "its exec plugin has interactiveMode Always, but a service cannot answer prompts: use IfAvailable or Never",
            );
        }
        let command = wire.command.unwrap_or_default();
        if command.is_empty() {
            self.add("its exec plugin has no command");
        }
        // As in client-go: a path is relative to the file, a bare name is looked up.
        let has_folder = command.contains('/');
        let command = if has_folder {
            self.folder.join(command)
        } else {
            command.into()
        };
        Login::Exec(Exec {
            api_version,
            command,
            args: wire.args,
            env: wire.env,
            provide_cluster_info: wire.provide_cluster_info,
            install_hint: wire.install_hint,
        })
    }
}

#[cfg(test)]
mod tests;
