//! Running a kubeconfig's exec plugin and reading the `ExecCredential` that it prints.
//!
//! Bounded in time and output. Its stderr goes to the stream of our log, as with kubectl; its
//! stdout contains secrets and is never logged. Source: client-go's `client.authentication.k8s.io`
//! types.

use super::{Cluster, Proof, check_token};
use crate::kube::kubeconfig::{Exec, Source};
use crate::kube::types::time_of;
use serde::Deserialize;
use serde_json::json;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// How long a plugin may run.
pub(super) const RUN_MAX: Duration = Duration::from_secs(30);

/// How much a plugin may print, in bytes.
const OUTPUT_BYTES_MAX: u64 = 1024 * 1024;

/// Runs the plugin, for at most `limit`.
pub(super) fn run(plugin: &Exec, cluster: &Cluster, limit: Duration) -> Result<Proof, String> {
    let shown = plugin.command.display();
    let mut child = Command::new(&plugin.command)
        .args(&plugin.args)
        .envs(plugin.env.iter().map(|(name, value)| (name, value)))
        .env("KUBERNETES_EXEC_INFO", exec_info(plugin, cluster))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| match &plugin.install_hint {
            Some(hint) => format!("cannot run the exec plugin {shown}: {error}: {hint}"),
            None => format!("cannot run the exec plugin {shown}: {error}"),
        })?;
    let output = output_of(&mut child, limit);
    if output.is_err() {
        // Killing a process that has just ended is harmless; waiting leaves no zombie.
        let _ = child.kill();
    }
    let status = child
        .wait()
        .map_err(|error| format!("exec plugin {shown}: {error}"))?;
    let output = output.map_err(|why| format!("the exec plugin {shown} {why}"))?;
    if !status.success() {
        return Err(format!("the exec plugin {shown} failed: {status}"));
    }
    read(&output, plugin).map_err(|why| format!("the exec plugin {shown} {why}"))
}

/// All output of the child, until it closes its output and has ended.
fn output_of(child: &mut Child, limit: Duration) -> Result<Vec<u8>, String> {
    let pipe = child.stdout.take().ok_or("has no output")?;
    let (sender, receiver) = mpsc::channel();
    // A read has no timeout, so a thread does it. The thread ends when the pipe is
    // closed; a pipe that a grandchild keeps open costs a thread, not a request.
    let reader = move || {
        let mut bytes = Vec::new();
        let read = pipe.take(OUTPUT_BYTES_MAX + 1).read_to_end(&mut bytes);
        let _ = sender.send(read.map(|_| bytes));
    };
    std::thread::Builder::new()
        .name("exec-plugin".into())
        .spawn(reader)
        .map_err(|error| format!("cannot be read: {error}"))?;
    let read = receiver
        .recv_timeout(limit)
        .map_err(|_| format!("did not end within {} s", limit.as_secs()))?;
    let bytes = read.map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > OUTPUT_BYTES_MAX {
        return Err(format!("printed more than {OUTPUT_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

/// The value of `KUBERNETES_EXEC_INFO` for the plugin.
fn exec_info(plugin: &Exec, cluster: &Cluster) -> String {
    let mut spec = json!({"interactive": false});
    if plugin.provide_cluster_info {
        let scheme = if cluster.server.tls { "https" } else { "http" };
        let (authority, path) = (cluster.server.authority(), &cluster.server.base_path);
        spec["cluster"] = json!({"server": format!("{scheme}://{authority}{path}")});
        if let Some(name) = &cluster.tls_server_name {
            spec["cluster"]["tls-server-name"] = json!(name);
        }
        let ca = cluster
            .certificate_authority
            .as_ref()
            .map(super::read_source);
        if let Some(Ok(ca)) = ca {
            use base64::Engine as _;
            let ca = base64::engine::general_purpose::STANDARD.encode(ca);
            spec["cluster"]["certificate-authority-data"] = json!(ca);
        }
    }
    json!({"kind": "ExecCredential", "apiVersion": plugin.api_version, "spec": spec}).to_string()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CredentialWire {
    kind: Option<String>,
    api_version: Option<String>,
    status: Option<StatusWire>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatusWire {
    expiration_timestamp: Option<String>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

/// Reads an `ExecCredential`. Errors never quote it.
pub(super) fn read(output: &[u8], plugin: &Exec) -> Result<Proof, String> {
    let wire: CredentialWire =
        serde_json::from_slice(output).map_err(|_| "printed no ExecCredential")?;
    if wire.kind.as_deref() != Some("ExecCredential") {
        return Err("printed no ExecCredential".into());
    }
    if wire.api_version.as_deref() != Some(&plugin.api_version) {
        return Err(format!(
            "printed an apiVersion other than {}",
            plugin.api_version
        ));
    }
    let status = wire.status.ok_or("printed no status")?;
    let token = status
        .token
        .filter(|token| !token.is_empty())
        .map(check_token);
    let token = token
        .transpose()
        .map_err(|why| format!("printed a token that {why}"))?;
    let filled = |data: Option<String>| {
        let data = data.filter(|data| !data.is_empty())?;
        Some(Source::Data(data.into()))
    };
    let certificate = filled(status.client_certificate_data);
    let key = filled(status.client_key_data);
    let certificate = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err("printed a certificate without key, or a key without certificate".into()),
    };
    if token.is_none() && certificate.is_none() {
        return Err("printed neither a token nor a certificate".into());
    }
    let expires = status
        .expiration_timestamp
        .map(|text| time_of(&text).ok_or("printed an expirationTimestamp that is not a time"));
    Ok(Proof {
        token: token.map(Arc::new),
        certificate: certificate.map(Arc::new),
        expires: expires.transpose()?,
        generation: 0,
    })
}
