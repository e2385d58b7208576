//! Large and endless responses: each is bounded, and so are all together.

use super::*;
use crate::kube::types::{Pod, decode_list};
use std::sync::Barrier;

/// A server with a body of so many bytes for each request, in chunks if their length is not said.
fn serving(bytes: usize, has_length: bool) -> Peer {
    Peer::new(move |_, wire| {
        while wire.receive() {
            if has_length {
                wire.answer(200, &"x".repeat(bytes));
            } else {
                wire.write(STREAM_HEAD);
                send_chunks(wire, bytes);
                wire.write("0\r\n\r\n");
            }
        }
    })
}

/// Sends so many bytes; false when the client has closed.
fn send_chunks(wire: &mut Wire, bytes: usize) -> bool {
    const CHUNK: usize = 64 * 1024;
    let mut left = bytes;
    while left > 0 {
        let size = left.min(CHUNK);
        let chunk = format!("{size:x}\r\n{}\r\n", "x".repeat(size));
        let stream = wire.stream.get_mut();
        if stream.write_all(chunk.as_bytes()).is_err() {
            return false;
        }
        left -= size;
    }
    true
}

#[test]
fn responses_are_bounded() {
    for has_length in [true, false] {
        let length_of = |bytes: usize| {
            let peer = serving(bytes, has_length);
            let transport = peer.transport_within(Login::Anonymous, Duration::from_secs(60));
            let sent = transport.send(&get());
            let length = sent.map(|response| {
                let charge = response.charge.as_ref().map_or(0, Charge::bytes);
                assert!(
                    charge >= response.body.len() || bytes <= SMALL_BYTES,
                    "{bytes}"
                );
                response.body.len()
            });
            assert_eq!(transport.budget.used(), 0, "all is released");
            length
        };
        for fits in [0, 1, SMALL_BYTES, SMALL_BYTES + 1, RESPONSE_BYTES_MAX] {
            assert_eq!(length_of(fits), Ok(fits));
        }
        let error = length_of(RESPONSE_BYTES_MAX + 1).unwrap_err();
        assert!(matches!(error.failure, Failure::TooLarge(_)), "{error:?}");
        assert_eq!(error.class(), Class::Unavailable);
    }
}

#[test]
fn of_an_error_only_the_beginning_is_read() {
    let peer = Peer::new(|_, wire| {
        while wire.receive() {
            wire.answer(503, &"x".repeat(2 * SMALL_BYTES));
        }
    });
    let response = peer.transport(Login::Anonymous).send(&get()).unwrap();
    assert_eq!((response.status, response.body.len()), (503, SMALL_BYTES));
    assert!(response.charge.is_none());
}

/// At most two of the largest responses are read at a time, and one that holds its memory for too long
/// costs the others no more than their own time.
#[test]
fn endless_responses_share_one_budget() {
    const CALLERS: usize = 4;
    let together = Arc::new(Barrier::new(CALLERS));
    let peer = Peer::new(move |_, wire| {
        if wire.receive() {
            wire.write(STREAM_HEAD);
            // Each holds as much as it gets without the budget when the others begin.
            send_chunks(wire, SMALL_BYTES);
            together.wait();
            while send_chunks(wire, RESPONSE_BYTES_MAX) {}
        }
    });
    let transport = peer.transport_within(Login::Anonymous, Duration::from_secs(60));
    let transport = Arc::new(transport);
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let transport = Arc::clone(&transport);
            thread::spawn(move || transport.send(&post()).unwrap_err().failure)
        })
        .collect();
    let mut used_max = 0;
    while callers.iter().any(|caller| !caller.is_finished()) {
        used_max = used_max.max(transport.budget.used());
        thread::yield_now();
    }
    assert!(used_max <= RESPONSES_BYTES_MAX, "{used_max}");
    assert_eq!(transport.budget.used(), 0);
    for caller in callers {
        let failure = caller.join().unwrap();
        assert!(matches!(failure, Failure::TooLarge(_)), "{failure:?}");
    }
}

#[test]
fn a_response_waits_for_the_memory_of_others_until_its_time_limit() {
    let peer = serving(SMALL_BYTES + 1, false);
    let transport = peer.transport(Login::Anonymous);
    let held = transport.budget.charge(RESPONSES_BYTES_MAX).unwrap();
    let error = transport.send(&get()).unwrap_err();
    assert!(matches!(error.failure, Failure::TimedOut(_)), "{error:?}");
    assert!(error.to_string().contains("no memory"), "{error}");
    assert_eq!(error.class(), Class::Unavailable);
    let waiting = thread::scope(|scope| {
        let waiting = scope.spawn(|| transport.send(&get()).map(|response| response.status));
        drop(held);
        waiting.join().unwrap()
    });
    assert_eq!(waiting, Ok(200));
}

/// etcd takes an object of 1.5 MiB. Each of its bytes may be one that takes six in JSON.
#[test]
fn the_largest_object_that_etcd_takes_is_read_alone() {
    let object = r"\u003c".repeat(1024 * 1024 + 512 * 1024);
    let list = format!(
        r#"{{"metadata":{{"resourceVersion":"9"}},"items":[{{"metadata":{{"name":"a","annotations":{{"x":"{object}"}}}}}}]}}"#
    );
    let peer = Peer::new(move |_, wire| {
        while wire.receive() {
            wire.answer(200, &list);
        }
    });
    let transport = peer.transport(Login::Anonymous);
    let list = request::list(PODS, &Scope::all("apps"), None, 1).unwrap();
    let page = decode_list::<Pod>(&transport.send(&list).unwrap().body).unwrap();
    assert_eq!(page.items.len(), 1);
}
