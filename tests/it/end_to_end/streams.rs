//! Streams of events with real objects: a start on a real node, and a storm that all readers are told of truly.

use std::time::{Duration, Instant};

use super::environment::{STAND_IN, TestEnvironment, real};
use super::program::Program;
use super::{LONG_WAIT, eventually, number_from_env};
use crate::cluster;
use crate::streams::{EventReader, STREAMS, ends_told, read_each};

const CLIENTS: usize = 12;

#[test]
#[ignore = "needs a cluster"]
fn a_start_on_a_real_node_is_followed_phase_by_phase() {
    let cluster = cluster::shared();
    let _beside = cluster::beside_others();
    let environment = TestEnvironment::new(cluster);
    environment.offer("app", "app", &real("hello", 1, &[]));
    let program = environment.program();
    let mut all = EventReader::open(program.address(), "/instances", &[]).expect("it is a stream");
    let mut stream =
        EventReader::open(program.address(), "/app/app/ann", &[]).expect("it is a stream");
    let (names, ready) = stream.until("ready");
    assert_eq!(names[0], "created", "{names:?}");
    let got = program.get("/app/app/ann").expect(200);
    assert_eq!(ready.data, got, "the end is the 200");
    program.delete("/app/app/ann").expect(200);
    let (names, _) = all.until("gone");
    assert_eq!(names[..3], ["relist", "requested", "created"], "{names:?}");
    assert!(names.contains(&"ready".to_owned()), "{names:?}");
    assert_eq!(names[names.len() - 2..], ["stopping", "gone"], "{names:?}");
}

#[test]
#[ignore = "needs a cluster"]
fn a_storm_is_told_truly_though_a_replica_is_killed() {
    let cluster = cluster::shared();
    let _alone = cluster::alone();
    let environment = TestEnvironment::new(cluster);
    environment.offer("stand-in", "stand-in", STAND_IN);
    let replicas = environment.replicas::<3>();
    let readers = read_each(replicas.iter().map(Program::address));
    let length = Duration::from_secs(number_from_env("STORM_SECS", 8) as u64);
    let begun = Instant::now();
    let made: usize = std::thread::scope(|scope| {
        let client = |number: usize| {
            let replicas = &replicas;
            scope.spawn(move || {
                let mut round = 0;
                while begun.elapsed() < length {
                    let path = format!("/app/stand-in/n{number}-{}", round % 3);
                    let [one, other] = [1 + number % 2, 1 + (number + round) % 2];
                    replicas[one].get_prefer(&path, LONG_WAIT);
                    replicas[other].delete(&path);
                    round += 1;
                }
                round
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        std::thread::park_timeout(length / 2);
        replicas[0].kill();
        clients
            .into_iter()
            .map(|it| it.join().expect("it is served"))
            .sum()
    });
    eventually("no Job is left", || {
        environment.list("jobs").is_empty().then_some(())
    });
    replicas[1]
        .get_prefer("/app/stand-in/last", LONG_WAIT)
        .expect(200);
    replicas[1].delete("/app/stand-in/last").expect(200);
    let gone = ends_told(readers);
    cluster::print_line(&format!(
        "FIGURE streams in a storm of {made} starts and stops: {} readers at two replicas, Jobs that are gone: {gone:?}",
        2 * STREAMS
    ));
}
