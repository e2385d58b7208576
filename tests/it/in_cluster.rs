//! Our image in a real cluster: installed as in the README, and called from inside by its Service.
//!
//! Callers are pods that know the service by its name. On a cluster of `tests/cluster`, requests go
//! through the cluster's name server and kube-proxy's rules to one of the replicas. Not covered:
//! NetworkPolicy enforcement (the test network does not support it).
//!
//! | module | what it shows |
//! |---|---|
//! | (here) | what `kubectl apply -k` and `helm install` bring up is restricted and serves the wire contract; Prometheus scrapes it |
//! | `upgrade` | a `helm upgrade` and its roll-back fail no request |
//! | `image` | our image, on the cluster's node |
//! | `commands` | the README's commands, word for word |
//! | `names` | an instance by its name in the cluster's DNS |
//! | `runner` | pods that run a test or a program of this repository |
//! | `prometheus` | a real Prometheus |

mod commands;
pub(crate) mod image;
mod names;
pub(crate) mod prometheus;
mod runner;
mod upgrade;

#[path = "../load/interface.rs"]
mod load;

use std::net::SocketAddr;
use std::sync::RwLockReadGuard;

use crate::cluster::{self, Cluster, print_line};
use crate::harness::{Client, Connection, eventually};
use crate::manifests::tools::{CHART, Helm, Namespace, RESTRICTED, TIMEOUT};
use load::PORT;
use prometheus::Prometheus;
use runner::Runner;

/// What a test of a release needs: a cluster that has our image, a namespace there, and Helm.
#[derive(Debug)]
pub(crate) struct Site {
    namespace: Namespace<'static>,
    helm: Helm,
    /// Helm's argument for that namespace.
    place: String,
    pub(crate) cluster: &'static Cluster,
    _beside: RwLockReadGuard<'static, ()>,
}

impl Site {
    /// In a new namespace with these labels.
    #[track_caller]
    pub(crate) fn new(labels: &[&str]) -> Self {
        let cluster = cluster::shared();
        let beside = cluster::beside_others();
        image::import(cluster);
        let namespace = Namespace::new(cluster, labels);
        Self {
            place: format!("--namespace={}", namespace.name),
            namespace,
            helm: Helm::new(cluster),
            cluster,
            _beside: beside,
        }
    }

    /// The namespace, Helm, and Helm's argument for that namespace.
    pub(crate) fn parts(&self) -> (&Namespace<'static>, &Helm, &str) {
        (&self.namespace, &self.helm, &self.place)
    }
}

/// Where a Service is, as seen from this machine too, once it leads to a pod: kube-proxy may learn of
/// the ready pods later than those who wait for a roll-out.
#[track_caller]
pub(crate) fn address(namespace: &Namespace<'_>, service: &str) -> SocketAddr {
    let query = "--output=jsonpath={.spec.clusterIP}";
    let ip = namespace.kubectl(&["get", "service", service, query]);
    let address = SocketAddr::new(ip.parse().expect("a Service has an address"), PORT);
    eventually("the Service leads to a pod", || {
        Connection::open(address).ok()
    });
    address
}

/// Checks that the replicas are up, as they are meant to be, and that none was restarted.
#[track_caller]
fn check_replicas(namespace: &Namespace<'_>, selector: &str) {
    let pods = namespace.list("pods", selector);
    assert_eq!(pods.len(), 2, "{pods:?}");
    for pod in &pods {
        let status = &pod["status"]["containerStatuses"][0];
        assert_eq!(
            (&status["ready"], &status["restartCount"]),
            (&true.into(), &0.into()),
            "{pod}"
        );
        let image = status["image"].as_str().expect("a container has an image");
        assert!(image.ends_with(&image::name()), "{image}");
    }
}

/// Checks a service against the wire contract, from a pod of another namespace; its instances are
/// in `jobs`.
#[track_caller]
fn check_contract(
    runner: &Runner<'_>,
    (namespace, service): (&Namespace<'_>, &str),
    jobs: &Namespace<'_>,
    more: &[(&str, &str)],
) {
    address(namespace, service);
    let url = format!("http://{service}.{}:{PORT}", namespace.name);
    let own = [
        ("CONTRACT_URL", url.as_str()),
        ("CONTRACT_NAMESPACE", jobs.name.as_str()),
        ("CONTRACT_AT_ONCE", "8"),
        ("KUBECONFIG", runner::KUBECONFIG),
    ];
    let logs = runner.run_test("contract::at_a_url", &[&own[..], more].concat());
    let row = logs
        .lines()
        .find(|line| line.contains("rows of the contract hold"));
    print_line(&format!(
        "{url}: {}",
        row.unwrap_or_else(|| panic!("no row ran: {logs}"))
    ));
}

#[test]
#[ignore = "needs a cluster"]
fn the_demo_is_restricted_serves_the_contract_and_is_scraped() {
    let site = Site::new(RESTRICTED);
    let (namespace, ..) = site.parts();
    namespace.kubectl(&["apply", "--validate=strict", "--kustomize=manifests/demo"]);
    namespace.kubectl(&["rollout", "status", "deployment/config-controller", TIMEOUT]);
    check_replicas(namespace, "app.kubernetes.io/name=config-controller");
    let address = address(namespace, "config-controller");
    let prometheus = Prometheus::start(address);
    let service = (namespace, "config-controller");
    check_contract(&Runner::new(site.cluster), service, namespace, &[]);
    // Some metrics are there once something was counted, and `sessionAffinity` brings what comes from
    // here to the replica that is scraped.
    let client = Client::new(address);
    let patient = [("Prefer", "wait=60")];
    let started = client.begin("GET", "/app/hello/scraped", &patient, "");
    started.finish().expect(200);
    client.delete("/app/hello/scraped").expect(200);
    prometheus.check();
}

#[test]
#[ignore = "needs a cluster"]
fn the_chart_serves_the_contract() {
    let site = Site::new(RESTRICTED);
    let (namespace, helm, place) = site.parts();
    // The types that the suite brings are not restricted, so they are where that is not asked.
    let jobs = Namespace::new(site.cluster, &[]);
    let jobs_are_in = format!("--set=jobNamespace={}", jobs.name);
    let install = [
        "install",
        "portal",
        CHART,
        place,
        &jobs_are_in,
        "--wait",
        TIMEOUT,
    ];
    let output = helm.run(&install);
    assert!(
        output.contains("http://portal-config-controller:3333"),
        "{output}"
    );
    check_replicas(namespace, "app.kubernetes.io/instance=portal");
    check_contract(
        &Runner::new(site.cluster),
        (namespace, "portal-config-controller"),
        &jobs,
        &[("CONTRACT_EDIT", "1")],
    );
}
