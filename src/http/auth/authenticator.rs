//! The authenticator that every request passes: admits it, denies it, or asks for a token review.
//!
//! It puts the pure parts together and keeps what changes: the tokens' file and the failed
//! attempts. It makes no API calls: a token of Kubernetes is returned as [`Authentication::Review`],
//! and [`Authenticator::reviewed`] receives the status of the token.

use super::attempts::{Attempts, Failed};
use super::file::TokensFile;
use super::tokens::Tokens;
use super::{Access, Caller, Denied, Rights, Types, bearer};
use crate::app::TokenStatus;
use crate::app::review::{Bearer, Scope};
use crate::clock::Clock;
use crate::http::message::Request;
use crate::threads::lock;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often at most the caller of what lasts is checked again.
pub const CHECK_PAUSE: Duration = Duration::from_secs(10);

/// What lasts goes on for so long while Kubernetes does not say whether its token is still good.
pub const UNCONFIRMED_MAX: Duration = Duration::from_secs(300);

/// The prefix of service accounts in user names (Kubernetes, "Authenticating").
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Comes before each right of an account in `AUTH_ALLOW`; no name can contain it.
const BEFORE_RIGHT: char = '+';

/// How callers are known.
#[derive(Clone, Debug)]
pub enum Mode {
    /// No authentication: every request is permitted.
    Open,
    /// By the tokens of a file.
    Tokens(Arc<TokensFile>),
    /// By Kubernetes; these service accounts (`namespace/name`) may call, each with its rights: `+logs`, `+owner`.
    Kubernetes(Arc<[Arc<str>]>),
}

/// The result of [`Authenticator::authenticate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// The caller is known and may call.
    Admitted(Caller),
    /// Kubernetes has to review this token, unless its status is cached.
    Review {
        /// The token.
        bearer: Bearer,
        /// With how many others: a few, if too many wrong ones came from its address.
        scope: Scope,
    },
}

/// The token of a response that lasts, which may be withdrawn meanwhile.
#[derive(Debug)]
pub struct Standing {
    bearer: Bearer,
    peer: IpAddr,
    /// Those among which its token was found the last time.
    among: Option<Arc<Tokens>>,
    /// None until the response has begun.
    checked: Option<Instant>,
    confirmed: Instant,
}

impl Standing {
    /// The response has begun: its caller is checked from now on.
    pub const fn begin(&mut self) {
        self.checked = Some(self.confirmed);
    }
}

/// The authenticator of a service.
#[derive(Debug)]
pub struct Authenticator {
    mode: Mode,
    attempts: Mutex<Attempts>,
    /// Whether there is anything in `attempts`: without failed attempts no request waits for its lock.
    any_failed: AtomicBool,
    clock: Arc<dyn Clock>,
}

impl Authenticator {
    /// An authenticator of this kind that looks at `failures_max` wrong tokens of an address in a
    /// minute.
    #[must_use]
    pub fn new(mode: Mode, failures_max: u32, clock: Arc<dyn Clock>) -> Self {
        Self {
            mode,
            attempts: Mutex::new(Attempts::new(failures_max)),
            any_failed: AtomicBool::new(false),
            clock,
        }
    }

    /// Authenticates the caller of a request; `app_type` is the type that the request names.
    ///
    /// # Errors
    /// The reason for the denial.
    pub fn authenticate(
        &self,
        request: &Request,
        access: Access,
        app_type: Option<&str>,
    ) -> Result<Authentication, Denied> {
        if matches!(self.mode, Mode::Open) || access == Access::Open {
            return Ok(Authentication::Admitted(Caller::ANONYMOUS));
        }
        let bearer = bearer(&request.headers)?;
        let Mode::Tokens(file) = &self.mode else {
            let scope = self.scope(request.peer);
            return Ok(Authentication::Review { bearer, scope });
        };
        let caller = file.tokens().find(&bearer).cloned();
        let caller = self.decide(request.peer, access, app_type, caller)?;
        Ok(Authentication::Admitted(caller))
    }

    /// The caller of a reviewed token.
    ///
    /// # Errors
    /// The reason for the denial.
    pub fn reviewed(
        &self,
        peer: IpAddr,
        access: Access,
        app_type: Option<&str>,
        status: &TokenStatus,
    ) -> Result<Caller, Denied> {
        let TokenStatus::User(user) = status else {
            return self.decide(peer, access, app_type, None);
        };
        let account = self.listed(user);
        let (account, rights) = account.ok_or_else(|| Denied::NotListed(Arc::clone(user)))?;
        let caller = Caller {
            name: Some(account),
            types: Types::All,
            rights,
        };
        self.decide(peer, access, app_type, Some(caller))
    }

    /// What there is to check of the caller of this request, if it is let in and its response lasts.
    #[must_use]
    pub fn standing(&self, request: &Request) -> Option<Box<Standing>> {
        if matches!(self.mode, Mode::Open) {
            return None;
        }
        Some(Box::new(Standing {
            bearer: bearer(&request.headers).ok()?,
            peer: request.peer,
            among: None,
            checked: None,
            confirmed: self.clock.now(),
        }))
    }

    /// Whether this caller may still have what lasts: whether its token is the same caller's as before. `ask`
    /// returns what is known of a token of Kubernetes.
    pub fn still_admits(
        &self,
        standing: &mut Standing,
        caller: &Caller,
        ask: impl FnOnce(&Bearer, IpAddr) -> Option<TokenStatus>,
    ) -> bool {
        let now = self.clock.now();
        let is_due = |at: Instant| now.saturating_duration_since(at) >= CHECK_PAUSE;
        if !standing.checked.is_some_and(is_due) {
            return true;
        }
        standing.checked = Some(now);
        let Mode::Tokens(file) = &self.mode else {
            return match ask(&standing.bearer, standing.peer) {
                Some(TokenStatus::User(_)) => {
                    standing.confirmed = now;
                    true
                }
                Some(TokenStatus::Unknown) => false,
                None => now.saturating_duration_since(standing.confirmed) < UNCONFIRMED_MAX,
            };
        };
        let tokens = file.tokens();
        let is_same = |among: &Arc<Tokens>| Arc::ptr_eq(among, &tokens);
        let is_admitted = standing.among.as_ref().is_some_and(is_same)
            || tokens.find(&standing.bearer) == Some(caller);
        standing.among = Some(tokens);
        is_admitted
    }

    fn scope(&self, peer: IpAddr) -> Scope {
        let any_failed = self.any_failed.load(Ordering::Relaxed);
        if any_failed && lock(&self.attempts).are_used(peer, self.clock.now()) {
            Scope::Few
        } else {
            Scope::All
        }
    }

    /// Checks what the owner of a good token may do; counts a wrong token, which has no owner.
    fn decide(
        &self,
        peer: IpAddr,
        access: Access,
        app_type: Option<&str>,
        caller: Option<Caller>,
    ) -> Result<Caller, Denied> {
        let caller = caller.ok_or_else(|| self.failed(peer))?;
        caller.check(access, app_type)?;
        Ok(caller)
    }

    fn failed(&self, peer: IpAddr) -> Denied {
        let failed = lock(&self.attempts).failed(peer, self.clock.now());
        self.any_failed.store(true, Ordering::Relaxed);
        match failed {
            Failed::Allowed => Denied::Unknown,
            Failed::FirstBeyond(retry_after) => {
                log::warn!(
                    "too many wrong tokens from {peer}; refusing further ones for {} s",
                    retry_after.as_secs()
                );
                Denied::TooMany { retry_after }
            }
            Failed::Beyond(retry_after) => Denied::TooMany { retry_after },
        }
    }

    /// The account, as `namespace/name`, if the user is one that may call, and its rights.
    fn listed(&self, user: &str) -> Option<(Arc<str>, Rights)> {
        let Mode::Kubernetes(allowed) = &self.mode else {
            return None;
        };
        let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')?;
        let find = |entry: &Arc<str>| {
            let mut parts = entry.split(BEFORE_RIGHT);
            let account = parts.next()?;
            let is_it = account.split_once('/') == Some((namespace, name));
            is_it.then(|| Some((account.into(), Rights::parse(parts)?)))?
        };
        allowed.iter().find_map(find)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::http::auth::Access::{Authenticated, Open};
    use crate::http::message::Method;

    fn authenticator(mode: Mode) -> Authenticator {
        Authenticator::new(mode, 3, Arc::new(SystemClock))
    }

    fn kubernetes() -> Authenticator {
        authenticator(Mode::Kubernetes(Arc::new(["apps/portal".into()])))
    }

    fn authenticate(
        authenticator: &Authenticator,
        access: Access,
        token: Option<&str>,
    ) -> Result<Authentication, Denied> {
        let mut request = Request::new(Method::Get, "/");
        if let Some(token) = token {
            let value = format!("Bearer {token}");
            request.headers.push("Authorization", value.as_bytes());
        }
        authenticator.authenticate(&request, access, Some("hello"))
    }

    fn reviewed(authenticator: &Authenticator, status: &TokenStatus) -> Result<Caller, Denied> {
        let peer = IpAddr::from([127, 0, 0, 1]);
        authenticator.reviewed(peer, Authenticated, Some("hello"), status)
    }

    const ADMITTED: Result<Authentication, Denied> =
        Ok(Authentication::Admitted(Caller::ANONYMOUS));
    const MISSING: Result<Authentication, Denied> = Err(Denied::Missing);

    #[test]
    fn without_authentication_every_request_is_permitted() {
        let open = authenticator(Mode::Open);
        for token in [None, Some("not a token")] {
            assert_eq!(authenticate(&open, Authenticated, token), ADMITTED);
        }
    }

    #[test]
    fn a_token_of_kubernetes_is_reviewed() {
        let authenticator = kubernetes();
        assert_eq!(authenticate(&authenticator, Open, None), ADMITTED);
        assert_eq!(authenticate(&authenticator, Authenticated, None), MISSING);
        let review = Ok(Authentication::Review {
            bearer: Bearer::new("a-token"),
            scope: Scope::All,
        });
        let token = Some("a-token");
        assert_eq!(authenticate(&authenticator, Authenticated, token), review);
    }

    #[test]
    fn only_service_accounts_on_the_list_may_call() {
        let authenticator = kubernetes();
        let user = |user: &str| TokenStatus::User(user.into());
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
            reviewed(&authenticator, &TokenStatus::Unknown),
            Err(Denied::Unknown)
        );
    }

    #[test]
    fn after_too_many_wrong_tokens_few_are_reviewed_at_the_same_time() {
        let authenticator = kubernetes();
        let scope = || {
            let asked = authenticate(&authenticator, Authenticated, Some("a-token"));
            match asked {
                Ok(Authentication::Review { scope, .. }) => scope,
                other => panic!("{other:?}"),
            }
        };
        for _ in 0..3 {
            assert_eq!(scope(), Scope::All);
            assert_eq!(
                reviewed(&authenticator, &TokenStatus::Unknown),
                Err(Denied::Unknown)
            );
        }
        assert_eq!(scope(), Scope::Few);
        let further = reviewed(&authenticator, &TokenStatus::Unknown);
        assert!(
            matches!(further, Err(Denied::TooMany { .. })),
            "{further:?}"
        );
        let user = TokenStatus::User("system:serviceaccount:apps:portal".into());
        assert!(reviewed(&authenticator, &user).is_ok());
        assert_eq!(authenticate(&authenticator, Open, None), ADMITTED);
        assert_eq!(authenticate(&authenticator, Authenticated, None), MISSING);
    }
}
