//! A real Prometheus, from Debian's package: it scrapes the service, and has our rules.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use config_controller::metrics::ALL;
use serde_json::{Value, json};

use crate::harness::{TemporaryFolder, eventually};
use crate::manifests::monitoring;
use crate::raw_kube::RawKube;

/// One that runs; it is killed when this is dropped.
pub(crate) struct Prometheus {
    child: Child,
    api: RawKube,
    _folder: TemporaryFolder,
}

impl Prometheus {
    /// Has one scrape that address each second.
    #[track_caller]
    pub(crate) fn start(target: SocketAddr) -> Self {
        let folder = TemporaryFolder::new();
        let rules = folder.write("rules.json", &monitoring::rules().to_string());
        // JSON is YAML, too.
        let config = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [rules],
            "scrape_configs": [{
                "job_name": "config-controller",
                "static_configs": [{"targets": [target.to_string()]}],
            }],
        });
        Self::run(&config.to_string(), folder)
    }

    /// Runs one with this configuration, whose files may be in that folder.
    #[track_caller]
    pub(crate) fn run(config: &str, folder: TemporaryFolder) -> Self {
        let config = folder.write("prometheus.yaml", config);
        let (child, address) = spawn(&config, &folder);
        Self {
            child,
            api: RawKube::plain(&format!("http://{address}"), None),
            _folder: folder,
        }
    }

    /// Waits until all of its scrapes succeed.
    #[track_caller]
    pub(crate) fn await_up(&self) {
        eventually("a scrape succeeds", || {
            let data = self.get("/api/v1/query?query=min(up)")?;
            (data["result"][0]["value"][1] == "1").then_some(())
        });
    }

    /// The alerts that fire: the name of each, and its app type where it has one.
    pub(crate) fn firing(&self) -> Vec<(String, String)> {
        let alerts = self.get("/api/v1/alerts").unwrap_or_default();
        let alerts = alerts["alerts"].as_array().cloned().unwrap_or_default();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        let label = |alert: &Value, name: &str| {
            let label = alert["labels"][name].as_str();
            label.unwrap_or_default().to_owned()
        };
        firing
            .map(|alert| (label(alert, "alertname"), label(alert, "type")))
            .collect()
    }

    /// The response to a query of its API.
    fn get(&self, path: &str) -> Option<Value> {
        // It may not listen yet.
        let mut body = self.api.try_send("GET", path, "", "").ok()?.body;
        (body["status"] == "success").then(|| body["data"].take())
    }

    /// Checks that its scrapes succeed, that it knows each of our metrics as what it is, and that our
    /// rules are loaded and evaluated.
    #[track_caller]
    pub(super) fn check(&self) {
        let value = |query: &str| {
            let data = self.get(&format!("/api/v1/query?query={query}"))?;
            data["result"][0]["value"][1].as_str().map(str::to_owned)
        };
        self.await_up();
        let info = eventually("samples are stored", || {
            value("config_controller_build_info")
        });
        assert_eq!(info, "1");
        let known = eventually("it knows as many metrics as there are", || {
            let known = self.get("/api/v1/targets/metadata")?.as_array()?.clone();
            (known.len() >= ALL.len()).then_some(known)
        });
        for family in ALL {
            let found = known.iter().find(|one| one["metric"] == family.name);
            let found = found.unwrap_or_else(|| panic!("it has no {}", family.name));
            assert_eq!(found["type"], family.kind.word(), "{}", family.name);
            assert_eq!(found["help"], family.help, "{}", family.name);
        }
        let all = eventually("all rules are evaluated", || {
            let rules = self.get("/api/v1/rules")?["groups"][0]["rules"].take();
            let rules = rules.as_array()?.clone();
            rules
                .iter()
                .all(|rule| rule["health"] == "ok")
                .then_some(rules)
        });
        let ours = monitoring::rules()["groups"][0]["rules"]
            .as_array()
            .map(Vec::len);
        assert_eq!(Some(all.len()), ours);
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It has nothing to keep.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts it on a port that is free.
#[track_caller]
fn spawn(config: &Path, folder: &TemporaryFolder) -> (Child, SocketAddr) {
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.expect("a port is free");
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.path("data").display()
        ))
        .arg(format!("--web.listen-address={address}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let child = child.unwrap_or_else(|error| {
        panic!("prometheus cannot be run ({error}); it is in Debian's package prometheus")
    });
    (child, address)
}
