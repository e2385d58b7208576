//! A relay before the API server that counts the bytes that go to it.
//!
//! TLS passes unchanged, so the count covers all bytes from our program to Kubernetes and no
//! others. If no byte passes, there was no call.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A running relay; its threads end with the connections, and with the test program.
#[derive(Debug)]
pub(super) struct Relay {
    /// Where it listens.
    pub(super) url: String,
    sent_bytes: Arc<AtomicU64>,
}

impl Relay {
    /// Starts a relay to the server of that URL.
    pub(super) fn start(server: &str) -> Self {
        let target = server
            .strip_prefix("https://")
            .expect("a server has an https URL");
        let target = target.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let sent_bytes = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&sent_bytes);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(&target).expect("the API server listens");
                // A connection counts as a call, too, even without bytes.
                count.fetch_add(1, Ordering::SeqCst);
                relay(&client, &server, Some(Arc::clone(&count)));
                relay(&server, &client, None);
            }
        });
        Self {
            url: format!("https://{address}"),
            sent_bytes,
        }
    }

    /// How many bytes have gone to the server so far.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::SeqCst)
    }
}

/// Passes on what comes, until there is no more.
fn relay(from: &TcpStream, to: &TcpStream, count: Option<Arc<AtomicU64>>) {
    let mut from = from.try_clone().expect("a socket can be cloned");
    let mut to = to.try_clone().expect("a socket can be cloned");
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if let Some(count) = &count {
                count.fetch_add(read as u64, Ordering::SeqCst);
            }
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        // Either end may be gone already.
        let _ = to.shutdown(Shutdown::Write);
    });
}
