//! [`Credentials`]: our credentials, reloaded before they expire or when the API server rejects them.
//!
//! Their sources are in [`super`]. One thread reloads at a time, and no lock is held meanwhile. An
//! exec plugin may run for half a minute; other threads continue with the credentials that are
//! still valid.

use super::{Cluster, Proof, check_token, exec, read_token};
use crate::clock::Clock;
use crate::kube::kubeconfig::{Login, Secret};
use crate::threads::lock;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Interval at which a token file is reloaded, in seconds.
/// Kubernetes rotates tokens long before they expire; client-go reads as often.
const TOKEN_REREAD_SECS: u64 = 60;

/// Credentials of an exec plugin are renewed this long before they expire.
const EXPIRY_MARGIN_SECS: u64 = 10;

/// Our credentials, reloaded when due; shared by all connections.
#[derive(Debug)]
pub struct Credentials {
    cluster: Cluster,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
    /// Signals that a read is over.
    is_read: Condvar,
}

#[derive(Debug, Default)]
struct Held {
    proof: Option<Proof>,
    read_at: Option<Instant>,
    /// The last ones that the API server has accepted.
    accepted: Option<Proof>,
    /// The generation that it does not accept, as logged.
    refused: Option<u64>,
    /// The error of the last read, if it failed.
    failure: Option<String>,
    /// Whether a thread is reading now.
    is_reading: bool,
    /// Number of completed reads.
    reads: u64,
}

impl Credentials {
    /// Credentials for that cluster; nothing is read before it is needed.
    #[must_use]
    pub fn new(cluster: &Cluster, clock: Arc<dyn Clock>) -> Self {
        Self {
            cluster: cluster.clone(),
            clock,
            held: Mutex::default(),
            is_read: Condvar::new(),
        }
    }

    /// The credentials to use now. A token file is read at most every minute, a plugin
    /// runs when its credentials are about to expire. Valid credentials stay in use while
    /// another thread reads, and while reading fails (logged once).
    ///
    /// # Errors
    /// The error of the read, if no read has succeeded yet.
    pub fn current(&self) -> Result<Proof, String> {
        let held = lock(&self.held);
        match &held.proof {
            Some(proof) if !self.is_due(&held) => Ok(proof.clone()),
            Some(proof) if held.is_reading && !self.expires_within(&held, 0) => Ok(proof.clone()),
            _ => self.read(held),
        }
    }

    /// To be called when the API server has rejected `used`: reloads, unless another thread already has.
    ///
    /// # Errors
    /// As [`Self::current`].
    pub fn renew(&self, used: &Proof) -> Result<Proof, String> {
        let held = lock(&self.held);
        match &held.proof {
            Some(proof) if proof.generation != used.generation => Ok(proof.clone()),
            _ => self.read(held),
        }
    }

    /// The API server has accepted these.
    pub fn accepted(&self, proof: &Proof) {
        let mut held = lock(&self.held);
        let last = held.accepted.as_ref();
        if last.is_none_or(|last| last.generation < proof.generation) {
            held.accepted = Some(proof.clone());
        }
    }

    /// The last ones that the API server has accepted, now that it does not accept `used`, unless those
    /// are the same.
    #[must_use]
    pub fn last_accepted(&self, used: &Proof) -> Option<Proof> {
        let mut held = lock(&self.held);
        let last = held.accepted.clone();
        let last = last.filter(|last| last.generation != used.generation)?;
        if held.refused.replace(used.generation) != Some(used.generation) {
            log::error!(
                "the API server does not accept the credentials that were reloaded; trying the last ones that it has accepted"
            );
        }
        Some(last)
    }

    /// Whether a reload is due.
    fn is_due(&self, held: &Held) -> bool {
        match &self.cluster.login {
            Login::Anonymous | Login::Token(_) => false,
            Login::TokenFile(..) => held.read_at.is_none_or(|at| {
                let ago = self.clock.now().saturating_duration_since(at);
                ago >= Duration::from_secs(TOKEN_REREAD_SECS)
            }),
            Login::Exec(_) => self.expires_within(held, EXPIRY_MARGIN_SECS),
        }
    }

    /// By the clock of this machine, on which the plugin runs. If that clock is behind, a token may expire
    /// earlier: the API server rejects it, and the plugin runs then. If it is ahead, the plugin runs sooner.
    fn expires_within(&self, held: &Held, secs: u64) -> bool {
        let then = self.clock.wall_now() + Duration::from_secs(secs);
        let expires = held.proof.as_ref().and_then(|proof| proof.expires);
        expires.is_some_and(|expires| then >= expires)
    }

    /// Reads, or waits for the thread that is reading.
    fn read<'a>(&'a self, mut held: MutexGuard<'a, Held>) -> Result<Proof, String> {
        if held.is_reading {
            let before = held.reads;
            let read = self.is_read.wait_while(held, |held| held.reads == before);
            return read.unwrap_or_else(PoisonError::into_inner).result();
        }
        held.is_reading = true;
        drop(held);
        // Other threads wait for this, so the read must end even if it panics.
        let read = catch_unwind(AssertUnwindSafe(|| self.read_login()));
        let read = read.unwrap_or_else(|_| Err("reading the credentials panicked".into()));
        let mut held = lock(&self.held);
        held.take(read, self.clock.now());
        self.is_read.notify_all();
        held.result()
    }

    /// The token that is in the configuration itself.
    fn given(&self, token: &Secret) -> Result<Proof, String> {
        let token = check_token(token.0.clone());
        token
            .map(Proof::of_token)
            .map_err(|why| format!("the token of the {} {why}", self.cluster.origin))
    }

    fn read_login(&self) -> Result<Proof, String> {
        match &self.cluster.login {
            Login::Anonymous => Ok(Proof::default()),
            Login::Token(token) => self.given(token),
            Login::TokenFile(path, other) => match (read_token(path), other) {
                (Ok(token), _) => Ok(Proof::of_token(token)),
                (Err(_), Some(other)) => self.given(other),
                (Err(error), None) => Err(error),
            },
            Login::Exec(plugin) => exec::run(plugin, &self.cluster, exec::RUN_MAX),
        }
    }
}

impl Held {
    /// Stores the result of a read.
    fn take(&mut self, read: Result<Proof, String>, now: Instant) {
        self.is_reading = false;
        self.reads += 1;
        self.read_at = Some(now);
        match read {
            Ok(mut proof) => {
                if self.failure.take().is_some() && self.proof.is_some() {
                    log::info!("reloading the credentials works again");
                }
                proof.generation = match &self.proof {
                    Some(old) if old.is_same(&proof) => old.generation,
                    Some(old) => old.generation + 1,
                    None => 1,
                };
                self.proof = Some(proof);
            }
            Err(error) => {
                if self.failure.is_none() && self.proof.is_some() {
                    log::error!(
                        "cannot reload the credentials: {error}; keeping the last valid ones"
                    );
                }
                self.failure = Some(error);
            }
        }
    }

    fn result(&self) -> Result<Proof, String> {
        let failure = || self.failure.clone().unwrap_or_default();
        self.proof.clone().ok_or_else(failure)
    }
}
