//! What a ready instance costs the API server: nothing.

use super::LONG_WAIT;
use super::environment::TestEnvironment;
use super::program::Program;
use super::wire::Relay;
use crate::cluster;
use crate::raw_kube::server_and_ca;

#[test]
#[ignore = "needs a cluster"]
fn a_ready_instance_is_answered_without_a_call() {
    let environment = TestEnvironment::shared();
    let (server, _) = server_and_ca(&environment.cluster.kubeconfig_text());
    let relay = Relay::start(&server);
    let kubeconfig = environment.kubeconfig(&environment.token(), Some(&relay.url), None);
    let program = Program::start_ready(&kubeconfig, &[]);
    let before = relay.sent_bytes();
    program.get_prefer("/app/hello/ann", LONG_WAIT).ip();
    assert!(relay.sent_bytes() > before, "a start sends bytes");

    // A renewed watch sends bytes, too, about every five minutes; then the test retries.
    let is_silent = || {
        let before = relay.sent_bytes();
        for _ in 0..200 {
            program.get("/app/hello/ann").ip();
            program.get("/app/hello").expect(200);
            program.get("/app").expect(200);
        }
        relay.sent_bytes() == before
    };
    assert!((0..3).any(|_| is_silent()), "bytes go to the API server");
    cluster::print_line("FIGURE bytes to the API server during 600 reads: 0");
}
