//! The memory of the program where the cluster holds, or the API server sends, more than it should:
//! never more than the limit in our manifests.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use rustix::process::{Resource as Limited, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Map, json};

use super::Running;
use crate::fake_kube::FakeKube;
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::cluster::write::Part;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{
    NAMESPACE, PREFIX, TEMPLATE, TEST_TIMEOUT, TemporaryFolder, apply_templates, eventually,
    name_of,
};

/// The memory limit of our manifests.
const LIMIT_KIB: u64 = 96 * 1024;

/// A fake with the app type `hello`.
fn fake() -> FakeKube {
    let fake = FakeKube::builder().start().expect("the fake can listen");
    apply_templates(&fake, "apps", &[("hello", TEMPLATE)], json!({}));
    fake
}

fn start(fake: &FakeKube) -> Running {
    let folder = TemporaryFolder::new();
    let kubeconfig = folder.write("kubeconfig", &fake.kubeconfig(NAMESPACE));
    Running::start(&kubeconfig)
}

/// Fails if it has held more than this.
#[track_caller]
fn check_peak(running: &Running, max_kib: u64) {
    let status = fs::read_to_string(format!("/proc/{}/status", running.child.id()));
    let status = status.expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let peak = peak.expect("the kernel counts it");
    println!("peak: {peak} KiB");
    assert!(peak <= max_kib, "{peak} KiB");
}

/// The labels of some instances, set by kubectl, take nearly all that etcd has for one object.
#[test]
fn many_labels_of_other_clients() {
    const INSTANCES: usize = 60;
    let fake = fake();
    let watching = start(&fake);
    watching.wait_ready();
    for n in 0..INSTANCES {
        let started = watching.client.get(&format!("/app/hello/i{n}"));
        assert_eq!(started.status, 200, "{}", started.text);
    }
    let label = |n: usize| (format!("{PREFIX}meta-k{n:04}"), json!("v".repeat(50)));
    let labels: Map<_, _> = (0..9500).map(label).collect();
    let patch = json!({"metadata": {"labels": labels}});
    for pod in fake.all(Resource::Pods, NAMESPACE) {
        let key = (Resource::Pods, NAMESPACE.to_owned(), name_of(&pod));
        let patched = fake.with(|model| model.cluster.merge_patch(&key, &patch, Part::Main, false));
        patched.expect("the labels are valid");
    }
    let listing = start(&fake);
    listing.wait_ready();
    let labels_of = |running: &Running, n: usize| {
        let found = running.client.get(&format!("/app/hello/i{n}"));
        let found = found.json();
        let keys = found.as_object().expect("an object").keys();
        keys.filter(|key| key.starts_with('k')).count()
    };
    for running in [&watching, &listing] {
        eventually("the labels are seen", || {
            let all = (0..INSTANCES).all(|n| labels_of(running, n) == 64);
            all.then_some(())
        });
        check_peak(running, LIMIT_KIB);
    }
}

#[test]
fn entries_of_config_maps_that_are_no_templates() {
    let fake = fake();
    for n in 0..60 {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("m{n}"), "labels": {format!("{PREFIX}template"): "true"}},
            "data": {"notes.txt": "x".repeat(900_000)},
        });
        fake.apply(NAMESPACE, &object).expect("a ConfigMap");
    }
    let running = start(&fake);
    running.wait_ready();
    check_peak(&running, LIMIT_KIB / 2);
}

/// More templates than are kept, each as large as a ConfigMap may be.
#[test]
fn templates_of_many_megabytes() {
    let fake = fake();
    let entry = "    - {name: SOME_NAME, value: \"some value of a variable, which is a bit longer than most others are\"}\n";
    let template = format!(
        "spec:\n  restartPolicy: Never\n  containers:\n  - name: app\n    image: i\n    env:\n{}",
        entry.repeat(950_000 / entry.len())
    );
    for n in 0..40 {
        let name = format!("t{n:02}");
        let types = [(name.as_str(), template.as_str())];
        apply_templates(&fake, &name, &types, json!({}));
    }
    let running = start(&fake);
    running.wait_ready();
    let types = running.client.get("/app").json();
    assert_eq!(types.as_array().map(Vec::len), Some(5), "{types}");
    // Each is rendered for its dry run, too. Without optimisation that takes seconds.
    eventually("all were tried", || {
        let templates = running.client.get("/templates").text;
        (templates.matches(r#""verdict":"valid""#).count() == 5).then_some(())
    });
    let started = running.client.get("/app/t00/ann");
    assert_eq!(started.status, 200, "{}", started.text);
    check_peak(&running, LIMIT_KIB * 3 / 4);
}

/// Connections with TLS, each with most of a head that does not end. What is beyond the bound on
/// bytes is refused, and no session keeps the buffer of a record that has ended.
#[test]
fn heads_that_do_not_end_over_tls() {
    const CONNECTIONS: usize = 2600;
    raise_files();
    let folder = TemporaryFolder::new();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
    let made = made.expect("a certificate can be made");
    let path = |name: &str, text: &str| folder.write(name, text).display().to_string();
    let settings = [
        ("TLS_CERT", &*path("tls.crt", &made.cert.pem())),
        (
            "TLS_KEY",
            &*path("tls.key", &made.signing_key.serialize_pem()),
        ),
        ("CONNECTIONS_MAX", "3000"),
        ("CONNECTIONS_PER_PEER_MAX", "3000"),
        ("CALLER_SHARE_MAX", "100"),
    ];
    let fake = fake();
    let kubeconfig = folder.write("kubeconfig", &fake.kubeconfig(NAMESPACE));
    let running = Running::with(&kubeconfig, &settings);
    let client = trusting(made.cert.der());
    let mut peers: Vec<_> = (0..CONNECTIONS)
        .map(|_| secure(&running, &client).expect("a connection"))
        .collect();
    let head = format!("GET /app HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(15_000));
    for peer in &mut peers {
        // One that is refused while it is sent is what the test is about.
        let _ = peer.write_all(head.as_bytes());
    }
    // The last has been processed, then all have.
    let mut status = [0; 9];
    let last = peers.last_mut().expect("there are many");
    last.read_exact(&mut status)
        .expect("it is refused, at the latest when it takes too long");
    assert_eq!(&status, b"HTTP/1.1 ");
    check_peak(&running, LIMIT_KIB * 3 / 4);
}

/// The system lets this process have as many files as it may.
fn raise_files() {
    let maximum = getrlimit(Limited::Nofile).maximum;
    let current = maximum;
    setrlimit(Limited::Nofile, Rlimit { current, maximum }).expect("it is no more than it may be");
}

fn trusting(certificate: &CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them");
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// A connection after its handshake.
fn secure(
    running: &Running,
    client: &Arc<ClientConfig>,
) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let socket = TcpStream::connect(running.address)?;
    socket.set_read_timeout(Some(TEST_TIMEOUT))?;
    let name = "127.0.0.1".try_into().expect("an address");
    let connection = ClientConnection::new(Arc::clone(client), name).expect("a client");
    let mut peer = StreamOwned::new(connection, socket);
    while peer.conn.is_handshaking() {
        peer.conn.complete_io(&mut peer.sock)?;
    }
    Ok(peer)
}

#[test]
fn responses_that_never_end() {
    let fake = fake();
    let running = start(&fake);
    running.wait_ready();
    let started = running.client.get("/app/hello/ann");
    assert_eq!(started.status, 200, "{}", started.text);
    fake.fault(FaultRule::new("*", "*", Fault::Endless));
    fake.cut_connections();
    let patches: Vec<_> = (0..20)
        .map(|n| (running.client).begin_patch("/app/hello/ann", &json!({format!("k{n}"): "v"})))
        .collect();
    let lists_failed = |resource: &str| {
        let metrics = running.client.get("/metrics").text;
        let name = "config_controller_watch_restarts_total";
        let line = format!("{name}{{resource=\"{resource}\",cause=\"too_large\"}} ");
        let count = metrics.lines().find_map(|found| found.strip_prefix(&line));
        count.is_some_and(|count| count != "0")
    };
    for resource in ["configmaps", "jobs", "pods", "events"] {
        eventually(resource, || lists_failed(resource).then_some(()));
    }
    for patch in patches {
        let response = patch.finish();
        response.expect_detail(503, "error", "kubernetes_unavailable");
    }
    assert_eq!(running.client.get("/livez").status, 200);
    check_peak(&running, LIMIT_KIB / 2);
    fake.clear_faults();
    eventually("it works again", || {
        let patched = running.client.patch("/app/hello/ann", &json!({"k": "v"}));
        (patched.status == 200).then_some(())
    });
}
