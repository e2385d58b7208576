//! Every response carries the ID of its request.

use super::harness::{ClientResponse, Front};

fn id(response: &ClientResponse) -> &str {
    let mut fields = response
        .head
        .lines()
        .filter_map(|line| line.strip_prefix("X-Request-Id: "));
    let id = fields.next().expect("every response names its request");
    assert_eq!(fields.next(), None, "it does so once");
    id
}

#[test]
fn a_request_without_an_id_gets_a_new_one() {
    let front = Front::start();
    let mut client = front.connect();
    let first = client.get("/a").read();
    let second = client.get("/a").read();
    assert_eq!(id(&first).len(), 16);
    assert_ne!(id(&first), id(&second));
}

#[test]
fn the_id_of_the_caller_is_returned_if_it_is_valid() {
    let front = Front::start();
    let mut client = front.connect();
    let mut ask = |name: &str| {
        let head = format!("GET / HTTP/1.1\r\nHost: test\r\nx-request-ID: {name}\r\n\r\n");
        id(&client.send(&head).read()).to_owned()
    };
    assert_eq!(ask("Root=1-abc:7"), "Root=1-abc:7");
    assert_ne!(ask("a,b"), "a,b");
    assert_ne!(ask("\"a\""), "\"a\"");
}

#[test]
fn a_parked_request_keeps_its_id() {
    let front = Front::start();
    let mut client = front.connect();
    client.send("GET /park?one HTTP/1.1\r\nHost: test\r\nX-Request-Id: mine\r\n\r\n");
    let handle = front.next_parked();
    front.mailboxes.answer(handle, "answered");
    assert_eq!(id(&client.read()), "mine");
    assert_ne!(id(&client.get("/").read()), "mine");
}

#[test]
fn refusals_and_panics_have_an_id_too() {
    let front = Front::with(|limits| limits.connections = 1);
    let mut client = front.connect();
    client.send("GET /panic HTTP/1.1\r\nHost: test\r\nX-Request-Id: ill\r\n\r\n");
    let response = client.read();
    assert_eq!((response.status, id(&response)), (500, "ill"));
    let one_too_many = front.connect().read_last();
    assert_eq!((one_too_many.status, id(&one_too_many).len()), (503, 16));
    let response = client.send("nonsense\r\n\r\n").read_last();
    assert_eq!((response.status, id(&response).len()), (400, 16));
}
