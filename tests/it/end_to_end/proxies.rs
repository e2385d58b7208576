//! The recipes of `manifests/examples` before real pods: the app types and ports that they name are those
//! of the demo. What each line of a recipe is for is shown without a cluster, in `proxies`.

use super::environment::TestEnvironment;
use super::program::{PATIENT, Program};
use crate::harness::eventually;
use crate::proxies::recipes::{Kind, Running};

/// The port of the demo's apps, which both recipes have.
const PORT: u16 = 8080;

#[test]
#[ignore = "needs a cluster"]
fn nginx_and_envoy_lead_to_apps_that_they_start() {
    let environment = TestEnvironment::shared();
    let kubeconfig = environment.kubeconfig(&environment.token(), None, None);
    let impatient = [("START_WAIT", "1s"), ("START_WAIT_MAX", "1s")];
    let program = Program::start_ready(&kubeconfig, &[PATIENT, &impatient].concat());
    for (kind, name) in [(Kind::Nginx, "ann"), (Kind::Envoy, "bob")] {
        let proxy = Running::start(kind, program.address(), PORT);
        let client = proxy.client();
        // It takes 3 s to be ready.
        let slow = format!("/slow/{name}/");
        let response = client.get(&slow);
        assert_eq!(response.status, 503, "{}", response.text);
        assert_eq!(response.header("retry-after"), "1");
        for app_type in ["slow", "hello"] {
            let page = eventually("the app is there", || {
                let response = client.get(&format!("/{app_type}/{name}/"));
                (response.status == 200).then_some(response.text)
            });
            assert_eq!(page, format!("{app_type}/{name}\n"));
        }
        let failed = eventually("its failure is known", || {
            let response = client.get(&format!("/fails/{name}/"));
            assert_eq!(response.status, 503, "{}", response.text);
            (response.header("retry-after") != "1").then_some(response)
        });
        let secs: u64 = failed.header("retry-after").parse().expect("seconds");
        assert!((2..=10).contains(&secs), "{secs}");
    }
}
