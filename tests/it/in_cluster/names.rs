//! `manifests/examples/dns-names.yaml`: a pod finds an instance, and later its successor, by its name in the
//! cluster's DNS.

use std::net::{IpAddr, ToSocketAddrs as _};

use super::runner::Runner;
use crate::cluster::{self, Cluster};
use crate::end_to_end::environment::TestEnvironment;
use crate::harness::{Client, eventually};

/// What [`leads_to_an_address`] looks up, in the pod in which it runs.
const NAME: &str = "NAME_IN_DNS";

/// Where that leads.
const ADDRESS: &str = "ADDRESS_IN_DNS";

#[test]
#[ignore = "needs a cluster"]
fn an_instance_has_a_name_in_dns_and_so_has_its_successor() {
    let environment = TestEnvironment::shared();
    let cluster: &Cluster = cluster::shared();
    let place = ["--namespace", &environment.namespace];
    let example = "--filename=manifests/examples/dns-names.yaml";
    cluster.kubectl(&[&place[..], &["apply", "--validate=strict", example]].concat());
    let program = environment.program();
    let client = Client::new(program.address());
    eventually("the type is known", || {
        client.get("/app").text.contains("\"named\"").then_some(())
    });
    client
        .get("/app/named/ann")
        .expect_error(422, "variable_missing");
    let name = format!("ann.apps.{}", environment.namespace);
    let mut before = String::new();
    for _ in 0..2 {
        let patient = [("Prefer", "wait=60, strict")];
        let started = client.begin("GET", "/app/named/ann?host=ann", &patient, "");
        let ready = started.finish();
        let ip = ready.expect(200)["ip"].clone();
        let ip = ip.as_str().expect("an address");
        assert_eq!(ready.header("x-instance-address"), ip);
        assert_ne!(ip, before);
        before = ip.to_owned();
        let variables = [(NAME, name.as_str()), (ADDRESS, ip)];
        let test = "in_cluster::names::leads_to_an_address";
        let logs = Runner::new(cluster).run_test(test, &variables);
        assert!(logs.contains(&format!("{name} is {ip}")), "{logs}");
        let stopped = client.begin("DELETE", "/app/named/ann", &patient, "");
        stopped.finish().expect(200);
    }
}

/// Nothing, unless it runs in a pod of the test above.
#[test]
fn leads_to_an_address() {
    let variable = |name| std::env::var(name);
    let (Ok(name), Ok(address)) = (variable(NAME), variable(ADDRESS)) else {
        return;
    };
    let address: IpAddr = address.parse().expect("an address");
    eventually("the name leads there alone", || {
        let found = (name.as_str(), 8080).to_socket_addrs().ok()?;
        let found: Vec<IpAddr> = found.map(|socket| socket.ip()).collect();
        let is_it = !found.is_empty() && found.iter().all(|ip| *ip == address);
        is_it.then_some(())
    });
    println!("{name} is {address}");
}
