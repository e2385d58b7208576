//! Kubeconfig files: from their texts to the one cluster and user that they select together.
//!
//! Pure: files that they name are not read here, only resolved against their folders. Every problem is
//! a message with its fix, and all problems are reported together. Rejected on purpose: skipping
//! the check of the server's certificate (any server could obtain our token), passwords and
//! `auth-provider` (Kubernetes itself has removed both).
//!
//! Source: client-go's `clientcmd/api/v1` types and its rules of precedence.

mod schema;

use base64::Engine as _;
use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};

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

/// A client certificate with its chain, and its key (PEM).
pub type ClientIdentity = (Source, Source);

/// How we authenticate, besides a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Without credentials.
    Anonymous,
    /// With this token.
    Token(Secret),
    /// With the token in this file, which may change; with the other one while the file cannot be read.
    TokenFile(PathBuf, Option<Secret>),
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
    pub client_certificate: Option<ClientIdentity>,
    /// Token or the like.
    pub login: Login,
    /// Namespace of the context.
    pub namespace: Option<String>,
}

/// A kubeconfig file that has been read.
#[derive(Debug)]
pub struct File {
    config: Value,
    folder: PathBuf,
}

impl File {
    /// Reads a kubeconfig; `folder` is where it lies.
    ///
    /// # Errors
    /// All problems of its syntax and types, one message each.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Vec<String>> {
        let config = schema::read(text)?;
        let folder = folder.to_owned();
        Ok(Self { config, folder })
    }
}

/// What these files select together. The first that has a current context, or an entry of a name, counts;
/// nothing is added to that entry from the others (as in kubectl).
///
/// # Errors
/// All problems of what is selected, one message each.
pub fn select(files: &[File]) -> Result<Selected, Vec<String>> {
    let mut problems = Problems { found: Vec::new() };
    let mut current = files.iter();
    let current = current.find_map(|file| text_of(&file.config, "current-context"));
    let Some(context_name) = current else {
        return Err(vec![
            "it has no current-context: set one with kubectl config use-context".into(),
        ]);
    };
    let context = find(files, "context", &context_name);
    let Some((context, _)) = context.filter(|(context, _)| !context.is_null()) else {
        return Err(vec![format!(
            "its current-context \"{context_name}\" is not among its contexts"
        )]);
    };

    let cluster_name = text_of(context, "cluster").unwrap_or_default();
    let cluster = find(files, "cluster", &cluster_name);
    let cluster = cluster.filter(|(cluster, _)| !cluster.is_null());
    if cluster.is_none() {
        problems.add(format!(
            "the cluster \"{cluster_name}\" of its current-context is missing"
        ));
    }

    let user_name = text_of(context, "user").unwrap_or_default();
    let user = find(files, "user", &user_name);
    if user.is_none() && !user_name.is_empty() {
        problems.add(format!(
            "the user \"{user_name}\" of its current-context is missing"
        ));
    }
    let user = user.unwrap_or((&Value::Null, Path::new("")));

    let client_certificate = problems.client_certificate(user);
    let login = problems.login(user, client_certificate.is_some());
    let selected = cluster.map(|(cluster, folder)| Selected {
        tls_server_name: text_of(cluster, "tls-server-name"),
        certificate_authority: problems.cluster(cluster, folder),
        server: text_of(cluster, "server").unwrap_or_default(),
        client_certificate,
        login,
        namespace: text_of(context, "namespace"),
    });
    match selected {
        Some(selected) if problems.found.is_empty() => Ok(selected),
        _ => Err(problems.found),
    }
}

/// What the first entry of this kind and name has, null if nothing, and the folder of its file.
fn find<'a>(files: &'a [File], kind: &str, name: &str) -> Option<(&'a Value, &'a Path)> {
    files.iter().find_map(|file| {
        let mut entries = file.config[format!("{kind}s")].as_array()?.iter();
        let entry = entries.find(|entry| entry["name"] == name)?;
        Some((&entry[kind], &*file.folder))
    })
}

/// The text of a field, unless it is empty.
fn text_of(map: &Value, key: &str) -> Option<String> {
    let text = map[key].as_str().filter(|text| !text.is_empty());
    text.map(str::to_owned)
}

/// The items of a list.
fn items_of<'a>(map: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    map[key].as_array().into_iter().flatten()
}

/// The problems found so far.
struct Problems {
    found: Vec<String>,
}

impl Problems {
    fn add(&mut self, problem: impl Into<String>) {
        self.found.push(problem.into());
    }

    /// Checks the cluster; returns the source of its CA.
    fn cluster(&mut self, cluster: &Value, folder: &Path) -> Option<Source> {
        if text_of(cluster, "server").is_none() {
            self.add("its cluster has no server");
        }
        if cluster["insecure-skip-tls-verify"] == true {
            self.add("its insecure-skip-tls-verify is not supported, since any server could obtain our token: set certificate-authority");
        }
        if text_of(cluster, "proxy-url").is_some() {
            self.add("its proxy-url is not supported: use a server that can be reached directly");
        }
        self.source((cluster, folder), "certificate-authority")
    }

    fn client_certificate(&mut self, user: (&Value, &Path)) -> Option<ClientIdentity> {
        let certificate = self.source(user, "client-certificate");
        let key = self.source(user, "client-key");
        match (&certificate, &key) {
            (Some(_), None) => self.add("its user has a client-certificate without client-key"),
            (None, Some(_)) => self.add("its user has a client-key without client-certificate"),
            _ => {}
        }
        certificate.zip(key)
    }

    /// The value under `<key>-data`, or the file under this key. Data takes precedence, as in
    /// client-go; base64 is decoded.
    fn source(&mut self, (map, folder): (&Value, &Path), key: &str) -> Option<Source> {
        if let Some(data) = text_of(map, &format!("{key}-data")) {
            let compact: String = data.split_ascii_whitespace().collect();
            match base64::engine::general_purpose::STANDARD.decode(compact) {
                Ok(data) => return Some(Source::Data(data)),
                Err(error) => self.add(format!("its {key}-data is not base64: {error}")),
            }
            return None;
        }
        Some(Source::File(folder.join(text_of(map, key)?)))
    }

    /// A client certificate or a token takes precedence over a plugin, as in client-go.
    fn login(&mut self, (user, folder): (&Value, &Path), has_certificate: bool) -> Login {
        let has = |key: &str| text_of(user, key).is_some();
        if !user["auth-provider"].is_null() {
            self.add("its user has an auth-provider, which Kubernetes has removed: use an exec plugin or a token");
        }
        if has("username") || has("password") {
            self.add("its user has a username and password, which Kubernetes has removed: use a token or a client certificate");
        }
        if has("as") {
            self.add("its user impersonates another one (as), which is not supported: use that user's own credentials");
        }
        let token = text_of(user, "token").map(Secret);
        if let Some(file) = text_of(user, "tokenFile") {
            return Login::TokenFile(folder.join(file), token);
        }
        match (token, &user["exec"]) {
            (Some(token), _) => Login::Token(token),
            (None, Value::Null) => Login::Anonymous,
            (None, _) if has_certificate => Login::Anonymous,
            (None, exec) => self.exec(exec, folder),
        }
    }

    fn exec(&mut self, exec: &Value, folder: &Path) -> Login {
        let api_version = text_of(exec, "apiVersion").unwrap_or_default();
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
        if exec["interactiveMode"] == "Always" {
            self.add(
                "its exec plugin has interactiveMode Always, but a service cannot answer prompts: use IfAvailable or Never",
            );
        }
        let command = text_of(exec, "command").unwrap_or_default();
        if command.is_empty() {
            self.add("its exec plugin has no command");
        }
        // As in client-go: a path is relative to the file, a bare name is looked up.
        let has_folder = command.contains('/');
        let command = if has_folder {
            folder.join(command)
        } else {
            command.into()
        };
        let own = |text: &Value| text.as_str().unwrap_or_default().to_owned();
        let env = items_of(exec, "env");
        Login::Exec(Exec {
            api_version,
            command,
            args: items_of(exec, "args").map(own).collect(),
            env: env
                .map(|item| (own(&item["name"]), own(&item["value"])))
                .collect(),
            provide_cluster_info: exec["provideClusterInfo"] == true,
            install_hint: exec["installHint"].as_str().map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests;
