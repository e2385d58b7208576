//! The end of a replica: nobody who asks is left without an answer.

use std::time::Duration;

use crate::fake_kube::dynamics::fate::Fate;
use crate::harness::{Connection, Ground, eventually};

/// Long enough for a busy machine to look at what goes on meanwhile.
const DELAY: Duration = Duration::from_secs(3);

/// When it is over at the latest.
const LONGEST: Duration = Duration::from_secs(60);

#[test]
fn while_endpoints_are_taken_away_all_goes_on() {
    let mut ground = Ground::new();
    let ip = ground.start_instance("/app/hello/ann");
    let client = ground.client();
    let service = ground.take_service();
    let ending = std::thread::spawn(move || service.drain(DELAY, LONGEST));
    eventually("readyz says so", || {
        let answer = client.get("/readyz");
        (answer.status == 503).then(|| answer.expect_error(503, "draining"))
    });
    let answer = client.get("/app/hello/ann");
    answer.expect_text(200, &format!(r#"{{"ip":"{ip}"}}"#));
    assert_eq!(answer.header("connection"), "close");
    client.get("/app/hello/new").expect(200);
    client.get("/livez").expect(200);
    let ended = ending.join().expect("the draining thread ends");
    assert_eq!(ended, Ok(()));
    assert_eq!(
        ground.jobs().len(),
        2,
        "instances are never stopped by our own end"
    );
}

#[test]
fn who_waits_at_the_end_is_answered_202_and_later_ones_503() {
    let mut ground = Ground::builder().fate(Fate::by_hand()).start();
    let client = ground.client();
    // One that is idle, and is not closed at once.
    let mut idle = Connection::open(ground.address(0)).expect("a connection");
    idle.send("GET", "/livez", &[], "").expect("a request");
    assert_eq!(idle.read(false).expect("an answer").status, 200);
    let waiting = client.begin_get("/app/hello/ann");
    ground.wait_pod("hello-ann");
    let service = ground.take_service();
    let ending = std::thread::spawn(move || service.drain(Duration::ZERO, LONGEST));
    let told = waiting.finish();
    assert_eq!(told.header("connection"), "close");
    let told = told.expect(202);
    assert_eq!(told["status"], "node_not_ready");
    idle.send("GET", "/app/hello/new", &[], "")
        .expect("a request");
    let late = idle.read(false).expect("an answer");
    late.expect_error(503, "draining");
    assert_eq!(late.header("retry-after"), "1");
    assert_eq!(late.header("connection"), "close");
    let ended = ending.join().expect("the draining thread ends");
    assert_eq!(ended, Ok(()));
    assert_eq!(ground.jobs(), ["hello-ann"]);
}
