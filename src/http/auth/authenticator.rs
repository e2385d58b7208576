//! The authenticator that every request passes: lets in, turns away, or asks for a review.
//!
//! It puts the pure parts together and keeps what changes: the tokens' file, the failed
//! attempts, the counters. It calls nobody; a token of Kubernetes is handed back as
//! [`Entry::Review`], and the verdict comes in by [`Authenticator::reviewed`].

use super::attempts::Attempts;
use super::file::TokensFile;
use super::{Caller, Denied, Types, bearer, is_open};
use crate::app::review::{Bearer, Verdict};
use crate::clock::Clock;
use crate::http::message::Request;
use crate::http::router::Routed;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a service account is called among users (Kubernetes, "Authenticating").
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// How callers are known.
#[derive(Clone, Debug)]
pub enum Mode {
    /// Not at all: everybody may call.
    Open,
    /// By the tokens of a file.
    Tokens(Arc<TokensFile>),
    /// By Kubernetes; these service accounts (`namespace/name`) may call.
    Kubernetes(Arc<[Arc<str>]>),
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It goes on.
    In(Caller),
    /// It is answered so.
    Out(Denied),
    /// Kubernetes has to say whose token this is.
    Review(Bearer),
}

/// How many requests were turned away, by cause; for metrics.
#[derive(Debug, Default)]
pub struct AuthStats {
    missing: AtomicU64,
    malformed: AtomicU64,
    unknown: AtomicU64,
    forbidden: AtomicU64,
    slowed: AtomicU64,
}

impl AuthStats {
    /// The counters with the words for their label.
    #[must_use]
    pub fn counts(&self) -> [(&'static str, u64); 5] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("auth_missing", read(&self.missing)),
            ("auth_malformed", read(&self.malformed)),
            ("auth_unknown", read(&self.unknown)),
            ("auth_forbidden", read(&self.forbidden)),
            ("auth_slowed", read(&self.slowed)),
        ]
    }

    fn count(&self, denied: &Denied) {
        let counter = match denied {
            Denied::Missing => &self.missing,
            Denied::Malformed => &self.malformed,
            Denied::Unknown => &self.unknown,
            Denied::Forbidden(_) | Denied::NotListed(_) => &self.forbidden,
            Denied::TooMany { .. } => &self.slowed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The authenticator of a service.
#[derive(Debug)]
pub struct Authenticator {
    mode: Mode,
    attempts: Mutex<Attempts>,
    /// Whether there is anything in `attempts`: as long as nobody fails, nobody waits for its lock.
    any_failed: AtomicBool,
    clock: Arc<dyn Clock>,
    stats: Arc<AuthStats>,
}

impl Authenticator {
    /// A authenticator of this kind; so many wrong tokens of an address are looked at in a minute.
    #[must_use]
    pub fn new(mode: Mode, failures_max: u32, clock: Arc<dyn Clock>) -> Self {
        Self {
            mode,
            attempts: Mutex::new(Attempts::new(failures_max)),
            any_failed: AtomicBool::new(false),
            clock,
            stats: Arc::default(),
        }
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Arc<AuthStats> {
        Arc::clone(&self.stats)
    }

    /// What becomes of this request, which `routed` says the meaning of.
    #[must_use]
    pub fn enter(&self, request: &Request, routed: &Routed) -> Entry {
        if matches!(self.mode, Mode::Open) || is_open(routed) {
            return Entry::In(Caller::ANYBODY);
        }
        match self.presented(request) {
            Ok(bearer) => self.look_up(bearer, request.peer, routed),
            Err(denied) => self.out(denied),
        }
    }

    /// Whether the user of a reviewed token gets in.
    ///
    /// # Errors
    /// Why not.
    pub fn reviewed(
        &self,
        bearer: &Bearer,
        peer: IpAddr,
        routed: &Routed,
        verdict: &Verdict,
    ) -> Result<Caller, Denied> {
        let Verdict::User(user) = verdict else {
            return self.settle(bearer, peer, routed, None);
        };
        let caller = self.listed(user).map(|account| Caller {
            name: Some(account),
            types: Types::All,
        });
        let Some(caller) = caller else {
            let denied = Denied::NotListed(Arc::clone(user));
            self.stats.count(&denied);
            return Err(denied);
        };
        self.settle(bearer, peer, routed, Some(caller))
    }

    /// The token of this request, if tokens from there are looked at.
    fn presented(&self, request: &Request) -> Result<Bearer, Denied> {
        let bearer = bearer(&request.headers)?;
        if self.any_failed.load(Ordering::Relaxed) {
            let now = self.clock.now();
            let refused = self.attempts().refused_for(request.peer, &bearer, now);
            if let Some(retry_after) = refused {
                return Err(Denied::TooMany { retry_after });
            }
        }
        Ok(bearer)
    }

    fn look_up(&self, bearer: Bearer, peer: IpAddr, routed: &Routed) -> Entry {
        match &self.mode {
            Mode::Open => Entry::In(Caller::ANYBODY),
            Mode::Kubernetes(_) => Entry::Review(bearer),
            Mode::Tokens(file) => {
                let caller = file.tokens().find(&bearer).cloned();
                match self.settle(&bearer, peer, routed, caller) {
                    Ok(caller) => Entry::In(caller),
                    Err(denied) => Entry::Out(denied),
                }
            }
        }
    }

    /// Notes whether the token was good, and checks what its owner may do.
    fn settle(
        &self,
        bearer: &Bearer,
        peer: IpAddr,
        routed: &Routed,
        caller: Option<Caller>,
    ) -> Result<Caller, Denied> {
        self.note(bearer, peer, caller.is_some());
        let checked = caller.ok_or(Denied::Unknown).and_then(|caller| {
            caller.check(routed)?;
            Ok(caller)
        });
        checked.inspect_err(|denied| self.stats.count(denied))
    }

    fn note(&self, bearer: &Bearer, peer: IpAddr, good: bool) {
        if good {
            if self.any_failed.load(Ordering::Relaxed) {
                self.attempts().passed(peer, bearer);
            }
            return;
        }
        let refused = self.attempts().failed(peer, self.clock.now());
        self.any_failed.store(true, Ordering::Relaxed);
        if refused {
            log::warn!("tokens of {peer} are refused for up to a minute: too many wrong ones");
        }
    }

    fn out(&self, denied: Denied) -> Entry {
        self.stats.count(&denied);
        Entry::Out(denied)
    }

    /// The account, as `namespace/name`, if the user is one that may call.
    fn listed(&self, user: &str) -> Option<Arc<str>> {
        let Mode::Kubernetes(allowed) = &self.mode else {
            return None;
        };
        let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')?;
        let is_user = |account: &&Arc<str>| {
            account
                .split_once('/')
                .is_some_and(|known| known == (namespace, name))
        };
        allowed.iter().find(is_user).map(Arc::clone)
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::http::message::Method;
    use crate::http::router;

    fn authenticator(mode: Mode) -> Authenticator {
        Authenticator::new(mode, 3, Arc::new(SystemClock))
    }

    fn kubernetes() -> Authenticator {
        authenticator(Mode::Kubernetes(Arc::new(["apps/portal".into()])))
    }

    fn enter(authenticator: &Authenticator, path: &str, token: Option<&str>) -> Entry {
        let mut request = Request::new(Method::Get, path);
        if let Some(token) = token {
            let value = format!("Bearer {token}");
            request.headers.push("Authorization", value.as_bytes());
        }
        let routed = router::route(&request.method, &request.path);
        authenticator.enter(&request, &routed)
    }

    fn reviewed(authenticator: &Authenticator, verdict: &Verdict) -> Result<Caller, Denied> {
        let routed = router::route(&Method::Get, "/app/hello");
        let peer = IpAddr::from([127, 0, 0, 1]);
        authenticator.reviewed(&Bearer::new("a-token"), peer, &routed, verdict)
    }

    #[test]
    fn an_open_gate_lets_everybody_in() {
        let open = authenticator(Mode::Open);
        assert_eq!(enter(&open, "/app", None), Entry::In(Caller::ANYBODY));
        let odd = enter(&open, "/app", Some("not a token"));
        assert_eq!(odd, Entry::In(Caller::ANYBODY));
    }

    #[test]
    fn a_token_of_kubernetes_is_reviewed() {
        let authenticator = kubernetes();
        assert_eq!(
            enter(&authenticator, "/livez", None),
            Entry::In(Caller::ANYBODY)
        );
        assert_eq!(
            enter(&authenticator, "/app", None),
            Entry::Out(Denied::Missing)
        );
        let review = Entry::Review(Bearer::new("a-token"));
        assert_eq!(enter(&authenticator, "/app", Some("a-token")), review);
    }

    #[test]
    fn service_accounts_on_the_list_get_in_and_nobody_else() {
        let authenticator = kubernetes();
        let user = |user: &str| Verdict::User(user.into());
        let caller = reviewed(&authenticator, &user("system:serviceaccount:apps:portal")).unwrap();
        assert_eq!(caller.name.as_deref(), Some("apps/portal"));
        for other in [
            "apps/portal",
            "portal",
            "system:serviceaccount:apps/portal",
            "system:serviceaccount:apps:portal2",
            "system:serviceaccount:other:portal",
            "system:serviceaccount:apps:",
            "",
        ] {
            let denied = Denied::NotListed(other.into());
            assert_eq!(reviewed(&authenticator, &user(other)), Err(denied));
        }
        assert_eq!(
            reviewed(&authenticator, &Verdict::Unknown),
            Err(Denied::Unknown)
        );
        assert_eq!(
            authenticator.stats().counts().map(|(_, count)| count),
            [0, 0, 1, 7, 0]
        );
    }

    #[test]
    fn wrong_tokens_are_counted_and_then_not_looked_at() {
        let authenticator = kubernetes();
        for _ in 0..3 {
            assert!(matches!(
                enter(&authenticator, "/app", Some("a-token")),
                Entry::Review(_)
            ));
            assert_eq!(
                reviewed(&authenticator, &Verdict::Unknown),
                Err(Denied::Unknown)
            );
        }
        let entry = enter(&authenticator, "/app", Some("another"));
        assert!(
            matches!(entry, Entry::Out(Denied::TooMany { .. })),
            "{entry:?}"
        );
        assert_eq!(
            enter(&authenticator, "/livez", None),
            Entry::In(Caller::ANYBODY)
        );
        assert_eq!(
            enter(&authenticator, "/app", None),
            Entry::Out(Denied::Missing)
        );
        assert_eq!(authenticator.stats().counts()[4], ("auth_slowed", 1));
    }
}
