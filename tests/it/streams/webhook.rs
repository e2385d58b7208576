//! `manifests/examples/webhook.sh` with the service itself: a hook gets each event, also after it was away.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::Value;

use crate::harness::{TEST_TIMEOUT, TemporaryFolder, TestEnvironment, repository};

/// The script, until the test is over.
struct Script(Child);

impl Drop for Script {
    fn drop(&mut self) {
        // Its pipeline ends with it: the processes are a group of their own.
        let group = i32::try_from(self.0.id()).ok();
        if let Some(group) = group.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

/// A hook that takes what is posted, but the first event; what comes.
fn hook() -> (SocketAddr, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it has one");
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for (number, connection) in listener.incoming().enumerate() {
            let mut connection = connection.expect("a request comes");
            let mut reader = BufReader::new(connection.try_clone().expect("it can be shared"));
            let (mut name, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("it can be read");
                match line.trim_end().split_once(": ") {
                    Some(("Event", value)) => value.clone_into(&mut name),
                    Some(("Content-Length", value)) => length = value.parse().expect("a number"),
                    None if line == "\r\n" => break,
                    _ => {}
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("the body comes");
            let status = if number == 0 {
                "400 Not Now"
            } else {
                "204 No Content"
            };
            let response =
                format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            connection
                .write_all(response.as_bytes())
                .expect("it can be sent");
            let data = serde_json::from_slice(&body).expect("the body is JSON");
            if sender.send((name, data)).is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

#[test]
fn the_webhook_recipe_posts_each_event_and_goes_on_where_it_was() {
    use std::os::unix::process::CommandExt as _;
    let environment = TestEnvironment::new();
    let folder = TemporaryFolder::new();
    let (address, events) = hook();
    let script = Command::new("sh")
        .arg(repository().join("manifests/examples/webhook.sh"))
        .arg("type=hello")
        .env("URL", format!("http://{}", environment.address(0)))
        .env("HOOK", format!("http://{address}/"))
        .env("STATE", folder.path("last"))
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let _script = Script(script.expect("sh can be run"));
    let next = || events.recv_timeout(TEST_TIMEOUT).expect("an event comes");
    // The hook has refused it, and it comes again.
    assert_eq!([next().0, next().0], ["relist", "relist"]);
    environment.get("/app/hello/ann").expect(200);
    environment.delete("/app/hello/ann").expect(200);
    let mut names = Vec::new();
    while names.last().is_none_or(|last| last != "gone") {
        let (name, data) = next();
        assert_eq!(data["name"], "ann", "{name}");
        names.push(name);
    }
    assert_eq!(names[..2], ["requested", "created"], "{names:?}");
    assert!(names.contains(&"ready".to_owned()), "{names:?}");
}
