//! Two workers, each at a replica of its own, that change what they know and nothing else.

use super::LONG_WAIT;
use super::TEST_TIMEOUT;
use super::environment::{STAND_IN, TestEnvironment};
use super::program::Program;
use crate::cluster;
use crate::harness::Response;
use std::time::Instant;

/// How often both change the same state.
const ROUNDS: usize = 60;

const PATH: &str = "/app/hello/ann";

/// The tag of the instance, and that of its UID.
#[track_caller]
fn tags(program: &Program) -> [String; 2] {
    let prefer = [("Prefer", LONG_WAIT)];
    let response = program.client().begin("GET", PATH, &prefer, "").finish();
    response.expect(200);
    let uid = response.header("instance-id");
    [response.header("etag").to_owned(), format!("\"uid:{uid}\"")]
}

fn change_if(program: &Program, tag: &str, owner: Option<&str>) -> crate::harness::Pending {
    let headers = [("If-Match", tag), ("Content-Type", "application/json")];
    let client = program.client();
    match owner {
        Some(owner) => client.begin(
            "PATCH",
            PATH,
            &headers,
            &format!(r#"{{"owner":"{owner}"}}"#),
        ),
        None => client.begin("DELETE", PATH, &headers, ""),
    }
}

#[track_caller]
fn refused(response: &Response) {
    response.expect_detail(412, "error", "precondition_failed");
}

#[test]
#[ignore = "needs a cluster"]
fn two_workers_fence_each_other() {
    let cluster = cluster::shared();
    let environment = TestEnvironment::new(cluster);
    environment.offer("apps", "hello", STAND_IN);
    let replicas = environment.replicas::<2>();
    let mut won = [0, 0];
    let mut known = tags(&replicas[0]);
    for round in 0..ROUNDS {
        let owners = [0, 1].map(|worker| format!("{worker}-{round}"));
        let begin = |worker: usize| change_if(&replicas[worker], &known[0], Some(&owners[worker]));
        let responses = [begin(0), begin(1)].map(|pending| pending.finish());
        let winners: Vec<usize> = [0, 1]
            .into_iter()
            .filter(|it| responses[*it].status == 200)
            .collect();
        assert_eq!(winners.len(), 1, "{responses:?}");
        let winner = winners[0];
        refused(&responses[1 - winner]);
        // The loser, whose replica may lag, cannot stop it either.
        refused(&change_if(&replicas[1 - winner], &known[0], None).finish());
        let now = responses[winner].header("etag").to_owned();
        assert_eq!(tags(&replicas[winner])[0], now);
        let shown = replicas[winner].get(PATH).expect(200);
        assert_eq!(shown["owner"], owners[winner].as_str());
        known[0] = now;
        won[winner] += 1;
    }
    // A successor is not the one that is known, whatever a replica has seen of it.
    change_if(&replicas[0], &known[0], None)
        .finish()
        .expect(200);
    let began = Instant::now();
    let next = loop {
        let next = tags(&replicas[0]);
        if next[1] != known[1] {
            break next;
        }
        assert!(began.elapsed() < TEST_TIMEOUT, "it has no successor");
    };
    for program in &replicas {
        for tag in &known {
            refused(&change_if(program, tag, None).finish());
            refused(&change_if(program, tag, Some("2")).finish());
        }
    }
    change_if(&replicas[1], &next[1], None).finish().expect(200);
    cluster::print_line(&format!("FIGURE of {ROUNDS} races the workers won {won:?}"));
}
