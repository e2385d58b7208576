//! The port with a certificate.

use crate::harness::{TemporaryFolder, TestEnvironment, eventually};
use crate::raw_kube::RawKube;

#[test]
fn over_https_a_start_is_answered_and_redirects_stay_there() {
    let folder = TemporaryFolder::new();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
    let made = made.expect("a certificate can be made");
    let certificate = folder.write("tls.crt", &made.cert.pem());
    let key = folder.write("tls.key", &made.signing_key.serialize_pem());
    let mut environment = TestEnvironment::builder()
        .setting("TLS_CERT", &certificate.display().to_string())
        .setting("TLS_KEY", &key.display().to_string())
        .unstarted()
        .start();
    let replica = environment.add_replica();
    let base = format!("https://{}", environment.address(replica));
    let client = RawKube::secure(&base, &made.cert.pem(), None);
    eventually("the service is ready", || {
        (client.get("/readyz").code == 200).then_some(())
    });
    let response = client.get("/app/hello/ann").expect(200);
    assert!(response["ip"].is_string(), "{response}");
    let redirect = client.get("/app/");
    assert_eq!(redirect.code, 307);
    assert_eq!(redirect.header("location"), format!("{base}/app"));
    environment.get("/app").expect_error(400, "bad_request");
    let metrics = client.get("/metrics").body;
    let counted = "config_controller_connections_closed_total{cause=\"handshake\"} 1\n";
    assert!(metrics.as_str().is_some_and(|text| text.contains(counted)));
}
