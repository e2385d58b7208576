//! [`Credentials`]: what proves who we are, read anew before it expires or when it was refused.
//!
//! Where they come from is in [`super`]. One thread reads at a time, and no lock is held
//! meanwhile: an exec plugin may run for half a minute, and other threads go on with what
//! is still good.

use super::{ClientIdentity, Cluster, check_token, exec, read_token};
use crate::clock::Clock;
use crate::kube::kubeconfig::{Login, Secret};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A token file is read again when this much time has passed since the last time.
/// Kubernetes rotates tokens long before they expire; client-go reads as often.
const TOKEN_REREAD_SECS: u64 = 60;

/// Credentials of an exec plugin are renewed this long before they expire.
const EXPIRY_MARGIN_SECS: u64 = 10;

/// What proves who we are, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    /// Goes into the header `Authorization: Bearer …`.
    pub token: Option<Arc<Secret>>,
    /// Of an exec plugin; that of a kubeconfig is not in here.
    pub certificate: Option<Arc<ClientIdentity>>,
    /// Another number means another proof.
    pub generation: u64,
}

/// Our credentials, kept fresh; shared by all connections.
#[derive(Debug)]
pub struct Credentials {
    cluster: Cluster,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
    /// A read is over.
    is_read: Condvar,
}

#[derive(Debug, Default)]
struct Held {
    proof: Option<Proof>,
    read_at: Option<Instant>,
    expires: Option<SystemTime>,
    /// Why the last read failed, if it did.
    failure: Option<String>,
    /// Whether a thread reads now.
    is_reading: bool,
    /// How many reads are over.
    reads: u64,
}

impl Credentials {
    /// Those of that cluster; nothing is read before it is needed.
    #[must_use]
    pub fn new(cluster: &Cluster, clock: Arc<dyn Clock>) -> Self {
        Self {
            cluster: cluster.clone(),
            clock,
            held: Mutex::default(),
            is_read: Condvar::new(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The credentials to use now. A token file is read at most every minute, a plugin
    /// runs when its credentials are about to expire. What was good stays in use while
    /// another thread reads, and while reading fails (logged once).
    ///
    /// # Errors
    /// Why nothing could be read, when nothing ever was.
    pub fn current(&self) -> Result<Proof, String> {
        let held = self.held();
        match &held.proof {
            Some(proof) if !self.is_due(&held) => Ok(proof.clone()),
            Some(proof) if held.is_reading && !self.is_expired(&held) => Ok(proof.clone()),
            _ => self.read(held),
        }
    }

    /// The API server has refused `used`: reads anew, unless another thread has done so already.
    ///
    /// # Errors
    /// As [`Self::current`].
    pub fn renew(&self, used: &Proof) -> Result<Proof, String> {
        let held = self.held();
        match &held.proof {
            Some(proof) if proof.generation != used.generation => Ok(proof.clone()),
            _ => self.read(held),
        }
    }

    /// Whether it is time to read again.
    fn is_due(&self, held: &Held) -> bool {
        match &self.cluster.login {
            Login::Anonymous | Login::Token(_) => false,
            Login::TokenFile(_) => held.read_at.is_none_or(|at| {
                let ago = self.clock.now().saturating_duration_since(at);
                ago >= Duration::from_secs(TOKEN_REREAD_SECS)
            }),
            Login::Exec(_) => self.expires_within(held, EXPIRY_MARGIN_SECS),
        }
    }

    fn is_expired(&self, held: &Held) -> bool {
        self.expires_within(held, 0)
    }

    fn expires_within(&self, held: &Held, secs: u64) -> bool {
        let then = self.clock.wall_now() + Duration::from_secs(secs);
        held.expires.is_some_and(|expires| then >= expires)
    }

    /// Reads, or waits for the thread that does.
    fn read<'a>(&'a self, mut held: MutexGuard<'a, Held>) -> Result<Proof, String> {
        if held.is_reading {
            let before = held.reads;
            let read = self.is_read.wait_while(held, |held| held.reads == before);
            return read.unwrap_or_else(PoisonError::into_inner).result();
        }
        held.is_reading = true;
        drop(held);
        // Others wait for this, so it is over even if the read panics.
        let mut over = Over {
            credentials: self,
            read: Err("reading the credentials has panicked".into()),
        };
        over.read = self.read_login();
        drop(over);
        self.held().result()
    }

    fn read_login(&self) -> Result<exec::Given, String> {
        match &self.cluster.login {
            Login::Anonymous => Ok(exec::Given::default()),
            Login::Token(token) => check_token(token.0.clone())
                .map(exec::Given::token)
                .map_err(|why| format!("the token of the {} {why}", self.cluster.origin)),
            Login::TokenFile(path) => read_token(path).map(exec::Given::token),
            Login::Exec(plugin) => exec::run(plugin, &self.cluster),
        }
    }
}

/// Ends a read when it is dropped.
struct Over<'a> {
    credentials: &'a Credentials,
    read: Result<exec::Given, String>,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let read = std::mem::replace(&mut self.read, Err(String::new()));
        let mut held = self.credentials.held();
        held.take(read, self.credentials.clock.now());
        self.credentials.is_read.notify_all();
    }
}

impl Held {
    /// What a read has brought.
    fn take(&mut self, read: Result<exec::Given, String>, now: Instant) {
        self.is_reading = false;
        self.reads += 1;
        self.read_at = Some(now);
        match read {
            Ok(given) => {
                if self.failure.take().is_some() && self.proof.is_some() {
                    log::info!("credentials can be read again");
                }
                self.expires = given.expires;
                self.proof = Some(Proof {
                    generation: generation_after(self.proof.as_ref(), &given),
                    token: given.token.map(Arc::new),
                    certificate: given.certificate.map(Arc::new),
                });
            }
            Err(error) => {
                if self.failure.is_none() && self.proof.is_some() {
                    log::error!("keeping the last good credentials: {error}");
                }
                self.failure = Some(error);
            }
        }
    }

    fn result(&self) -> Result<Proof, String> {
        match (&self.proof, &self.failure) {
            (Some(proof), _) => Ok(proof.clone()),
            (None, failure) => Err(failure.clone().unwrap_or_default()),
        }
    }
}

/// Counts up when what was read differs from what is held.
fn generation_after(old: Option<&Proof>, given: &exec::Given) -> u64 {
    match old {
        None => 1,
        Some(old) => {
            let same = old.token.as_deref() == given.token.as_ref()
                && old.certificate.as_deref() == given.certificate.as_ref();
            old.generation + u64::from(!same)
        }
    }
}
