//! The pages of the pods, in place of the apps that a cluster would run.
//!
//! A page is a thread with a socket at a pod's address. It responds to every HTTP request with the
//! names of the instances that run there, one a line. There is one name, unless all pods share an
//! address. The page starts and ends with its pod. The number of pages and the size and duration of
//! a request are bounded.
//!
//! This file does not know how pods come and go: others call [`Pages::on_pod`].

use crate::console::Console;
use crate::fake_kube::cluster::meta;
use crate::fake_kube::dynamics::PodChange;
use crate::narrator::instance;
use crate::network::Network;
use crate::page::{REQUEST_MAX, respond};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Pages that are open at the same time at most.
const PAGES_MAX: usize = 256;

/// How much stack a page's thread needs, amply.
const STACK_BYTES: usize = 256 * 1024;

/// All pages that are open, by their address.
#[derive(Debug)]
pub(crate) struct Pages {
    port: u16,
    open: HashMap<Ipv4Addr, Page>,
    console: Console,
}

/// One open page.
#[derive(Debug)]
struct Page {
    shown: Arc<Shown>,
    address: SocketAddr,
    /// Whether it stays when nothing runs there.
    stays: bool,
}

/// What a page's thread looks at.
#[derive(Debug, Default)]
struct Shown {
    /// The instances that run there, by the UIDs of their pods.
    names: Mutex<BTreeMap<String, String>>,
    over: AtomicBool,
}

impl Shown {
    fn names(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    /// No pages yet, but for the one that all pods share, if they share one.
    pub(crate) fn new(network: &Network, console: Console) -> io::Result<Self> {
        let mut pages = Self {
            port: network.port,
            open: HashMap::new(),
            console,
        };
        if let Some(listener) = network.shared_page()? {
            let page = Page::open(listener, true)?;
            pages.open.insert(network.first_address(), page);
        }
        Ok(pages)
    }

    /// Takes note of a pod that begins to run, or ends.
    pub(crate) fn on_pod(&mut self, change: &PodChange) {
        match change {
            PodChange::Running { pod, ip } => {
                if let Err(why) = self.show(*ip, meta(pod, "uid"), instance(pod)) {
                    let (name, port) = (instance(pod), self.port);
                    let text = format!("{name} has no page at http://{ip}:{port}/: {why}");
                    self.console.log_line("sandbox", &text);
                }
            }
            PodChange::Ended { pod, ip } => self.hide(*ip, meta(pod, "uid")),
        }
    }

    fn show(&mut self, ip: Ipv4Addr, uid: &str, name: String) -> Result<(), String> {
        if !self.open.contains_key(&ip) {
            if self.open.len() >= PAGES_MAX {
                return Err(format!(
                    "{PAGES_MAX} pages are open, and more are not opened"
                ));
            }
            let page = TcpListener::bind((ip, self.port))
                .and_then(|listener| Page::open(listener, false))
                .map_err(|error| error.to_string())?;
            self.open.insert(ip, page);
        }
        if let Some(page) = self.open.get(&ip) {
            page.shown.names().insert(uid.to_owned(), name);
        }
        Ok(())
    }

    fn hide(&mut self, ip: Ipv4Addr, uid: &str) {
        let Some(page) = self.open.get(&ip) else {
            return;
        };
        page.shown.names().remove(uid);
        if !page.stays && page.shown.names().is_empty() {
            page.close();
            self.open.remove(&ip);
        }
    }
}

impl Page {
    fn open(listener: TcpListener, stays: bool) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let shown = Arc::new(Shown::default());
        let looked_at = Arc::clone(&shown);
        std::thread::Builder::new()
            .name("page".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || serve(&listener, &looked_at))?;
        Ok(Self {
            shown,
            address,
            stays,
        })
    }

    /// Ends the page's thread, at the latest after the request that it has at hand.
    fn close(&self) {
        self.shown.over.store(true, Ordering::SeqCst);
        // Wakes it; where that fails, the next request does.
        let _ = TcpStream::connect_timeout(&self.address, REQUEST_MAX);
    }
}

/// Serves one connection after the other.
fn serve(listener: &TcpListener, shown: &Shown) {
    for connection in listener.incoming() {
        if shown.over.load(Ordering::SeqCst) {
            return;
        }
        // A client that disconnects, or is too slow, gets nothing more.
        let _ = connection.and_then(|connection| respond(connection, || names(shown)));
    }
}

/// The names of the instances that run there, one a line.
fn names(shown: &Shown) -> String {
    let mut names: Vec<String> = shown.names().values().map(|n| format!("{n}\n")).collect();
    names.sort_unstable();
    names.concat()
}
