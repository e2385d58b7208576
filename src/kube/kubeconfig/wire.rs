//! The content of a kubeconfig, before a context is selected.
//!
//! Pure. It is read as kubectl reads it: the YAML of [`crate::yaml`], where `yes` is not text, then
//! a type for each field that we use. Other fields are ignored, and null counts as absent. A field
//! of the wrong type is reported with its path and never with its value, which may be a secret. The
//! file `kubeconfig.rs` decides what the fields mean.

use crate::yaml;
use serde_json::{Map, Value};

/// Most problems that are reported; further ones are left out.
const PROBLEMS_MAX: usize = 16;

pub(super) struct ConfigWire {
    pub(super) current_context: Option<String>,
    pub(super) clusters: Vec<(Option<String>, Option<ClusterWire>)>,
    pub(super) contexts: Vec<(Option<String>, Option<ContextWire>)>,
    pub(super) users: Vec<(Option<String>, Option<UserWire>)>,
}

pub(super) struct ClusterWire {
    pub(super) server: Option<String>,
    pub(super) tls_server_name: Option<String>,
    pub(super) insecure_skip_tls_verify: bool,
    pub(super) certificate_authority: Option<String>,
    pub(super) certificate_authority_data: Option<String>,
    pub(super) proxy_url: Option<String>,
}

pub(super) struct ContextWire {
    pub(super) cluster: Option<String>,
    pub(super) user: Option<String>,
    pub(super) namespace: Option<String>,
}

#[derive(Default)]
pub(super) struct UserWire {
    pub(super) client_certificate: Option<String>,
    pub(super) client_certificate_data: Option<String>,
    pub(super) client_key: Option<String>,
    pub(super) client_key_data: Option<String>,
    pub(super) token: Option<String>,
    pub(super) token_file: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) impersonate: Option<String>,
    pub(super) has_auth_provider: bool,
    pub(super) exec: Option<ExecWire>,
}

pub(super) struct ExecWire {
    pub(super) api_version: Option<String>,
    pub(super) command: Option<String>,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) provide_cluster_info: bool,
    pub(super) interactive_mode: Option<String>,
    pub(super) install_hint: Option<String>,
}

/// Reads all fields that we use.
///
/// # Errors
/// All problems, one message each.
pub(super) fn read(text: &str) -> Result<ConfigWire, Vec<String>> {
    let json = yaml::parse(text).and_then(|tree| tree.to_json());
    let json = json.map_err(|error| vec![format!("it is not a kubeconfig: {error}")])?;
    let nothing = Map::new();
    let map = match &json {
        Value::Object(map) => map,
        Value::Null => &nothing,
        other => {
            let kind = kind_of(other);
            return Err(vec![format!(
                "it is not a kubeconfig: it is {kind}, not a map with clusters, users and contexts"
            )]);
        }
    };
    let mut reader = Reader::default();
    let root = Place {
        map,
        path: String::new(),
    };
    let config = ConfigWire {
        current_context: reader.text(&root, "current-context"),
        clusters: reader.named(&root, "clusters", "cluster", Reader::cluster),
        contexts: reader.named(&root, "contexts", "context", Reader::context),
        users: reader.named(&root, "users", "user", Reader::user),
    };
    if reader.problems.is_empty() {
        Ok(config)
    } else {
        Err(reader.problems)
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// A map of the file, and its path: empty, or ending with a dot.
struct Place<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

impl<'a> Place<'a> {
    /// The value under this key, unless it is null.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }
}

#[derive(Default)]
struct Reader {
    problems: Vec<String>,
}

impl Reader {
    fn wrong(&mut self, path: &str, found: &Value, wanted: &str) {
        let remedy = match found {
            Value::Bool(_) | Value::Number(_) if wanted == "text" => ": put quotes around it",
            _ => "",
        };
        if self.problems.len() < PROBLEMS_MAX {
            let found = kind_of(found);
            self.problems
                .push(format!("its {path} is {found}, not {wanted}{remedy}"));
        }
    }

    fn as_text(&mut self, path: &str, value: &Value) -> Option<String> {
        let text = value.as_str();
        if text.is_none() {
            self.wrong(path, value, "text");
        }
        text.map(str::to_owned)
    }

    fn text(&mut self, at: &Place<'_>, key: &str) -> Option<String> {
        self.as_text(&format!("{}{key}", at.path), at.get(key)?)
    }

    fn flag(&mut self, at: &Place<'_>, key: &str) -> bool {
        let Some(value) = at.get(key) else {
            return false;
        };
        if !value.is_boolean() {
            self.wrong(&format!("{}{key}", at.path), value, "true or false");
        }
        *value == true
    }

    fn as_map<'a>(&mut self, path: String, value: &'a Value) -> Option<Place<'a>> {
        let map = value.as_object();
        if map.is_none() {
            self.wrong(&path, value, "a map");
        }
        map.map(|map| Place {
            map,
            path: path + ".",
        })
    }

    fn map<'a>(&mut self, at: &Place<'a>, key: &str) -> Option<Place<'a>> {
        self.as_map(format!("{}{key}", at.path), at.get(key)?)
    }

    /// The items of a list, each with its path.
    fn items<'a>(&mut self, at: &Place<'a>, key: &str) -> Vec<(String, &'a Value)> {
        let path = format!("{}{key}", at.path);
        match at.get(key) {
            None => Vec::new(),
            Some(Value::Array(items)) => (0..)
                .zip(items)
                .map(|(number, item): (u32, _)| (format!("{path}[{number}]"), item))
                .collect(),
            Some(other) => {
                self.wrong(&path, other, "a list");
                Vec::new()
            }
        }
    }

    /// A list of maps with a name and, under this key, the named value.
    fn named<T>(
        &mut self,
        at: &Place<'_>,
        list: &str,
        key: &str,
        read: fn(&mut Self, &Place<'_>) -> T,
    ) -> Vec<(Option<String>, Option<T>)> {
        let mut all = Vec::new();
        for (path, item) in self.items(at, list) {
            let Some(place) = self.as_map(path, item) else {
                continue;
            };
            let name = self.text(&place, "name");
            let content = self.map(&place, key).map(|content| read(self, &content));
            all.push((name, content));
        }
        all
    }

    fn cluster(&mut self, at: &Place<'_>) -> ClusterWire {
        ClusterWire {
            server: self.text(at, "server"),
            tls_server_name: self.text(at, "tls-server-name"),
            insecure_skip_tls_verify: self.flag(at, "insecure-skip-tls-verify"),
            certificate_authority: self.text(at, "certificate-authority"),
            certificate_authority_data: self.text(at, "certificate-authority-data"),
            proxy_url: self.text(at, "proxy-url"),
        }
    }

    fn context(&mut self, at: &Place<'_>) -> ContextWire {
        ContextWire {
            cluster: self.text(at, "cluster"),
            user: self.text(at, "user"),
            namespace: self.text(at, "namespace"),
        }
    }

    fn user(&mut self, at: &Place<'_>) -> UserWire {
        UserWire {
            client_certificate: self.text(at, "client-certificate"),
            client_certificate_data: self.text(at, "client-certificate-data"),
            client_key: self.text(at, "client-key"),
            client_key_data: self.text(at, "client-key-data"),
            token: self.text(at, "token"),
            token_file: self.text(at, "tokenFile"),
            username: self.text(at, "username"),
            password: self.text(at, "password"),
            impersonate: self.text(at, "as"),
            has_auth_provider: at.get("auth-provider").is_some(),
            exec: self.map(at, "exec").map(|exec| self.exec(&exec)),
        }
    }

    fn exec(&mut self, at: &Place<'_>) -> ExecWire {
        let args = self.items(at, "args").into_iter();
        let args = args.filter_map(|(path, value)| self.as_text(&path, value));
        ExecWire {
            args: args.collect(),
            env: self.env(at),
            api_version: self.text(at, "apiVersion"),
            command: self.text(at, "command"),
            provide_cluster_info: self.flag(at, "provideClusterInfo"),
            interactive_mode: self.text(at, "interactiveMode"),
            install_hint: self.text(at, "installHint"),
        }
    }

    fn env(&mut self, at: &Place<'_>) -> Vec<(String, String)> {
        let mut env = Vec::new();
        for (path, item) in self.items(at, "env") {
            let Some(place) = self.as_map(path, item) else {
                continue;
            };
            match self.text(&place, "name") {
                Some(name) => env.push((name, self.text(&place, "value").unwrap_or_default())),
                None => self.wrong(&format!("{}name", place.path), &Value::Null, "text"),
            }
        }
        env
    }
}
