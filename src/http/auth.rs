//! Authentication and authorization: from a request to its [`Caller`], or to why it is denied.
//!
//! Pure: what a bearer token is, what a caller may do, why a request is denied. The valid tokens are
//! in [`tokens`] (pure) and [`mod@file`] (reads their file), failed attempts are limited in
//! [`attempts`] (pure), and [`authenticator`] combines them. Tokens of Kubernetes are reviewed by
//! [`crate::app::review`]. No error, log line or `Debug` output contains a token.

pub mod attempts;
pub mod authenticator;
pub mod file;
pub mod tokens;

use super::message::Headers;
use crate::app::review::Bearer;
use crate::budget::{Account, PeerKey};
use crate::model::names::AppType;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The app types that a caller may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Types {
    /// All types.
    All,
    /// These types.
    Only(Arc<[AppType]>),
}

impl Types {
    /// Whether the caller may use this type.
    #[must_use]
    pub fn contain(&self, app_type: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(types) => types.iter().any(|known| known.as_str() == app_type),
        }
    }
}

/// What a caller may do beside using types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// `logs`: to read the logs of instances.
    pub logs: bool,
    /// `owner`: to say whose instance it starts.
    pub owner: bool,
}

impl Rights {
    /// Reads their words; `None` if one is unknown.
    #[must_use]
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut rights = Self::default();
        for word in words {
            match word {
                "logs" => rights.logs = true,
                "owner" => rights.owner = true,
                _ => return None,
            }
        }
        Some(rights)
    }
}

/// A caller that is authenticated, or needs not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name that belongs to its token, if any.
    pub name: Option<Arc<str>>,
    /// The types it may use.
    pub types: Types,
    /// What it may do beside.
    pub rights: Rights,
}

impl Caller {
    /// A caller without a name that may use all types.
    pub const ANONYMOUS: Self = Self {
        name: None,
        types: Types::All,
        rights: Rights {
            logs: true,
            owner: true,
        },
    };

    /// How the log and the Job's annotation name the caller: its name, else its address.
    #[must_use]
    pub fn shown(&self, peer: IpAddr) -> Arc<str> {
        let name = self.name.as_ref().map(Arc::clone);
        name.unwrap_or_else(|| peer.to_string().into())
    }

    /// Who is charged for what its requests hold.
    #[must_use]
    pub fn account(&self, peer: IpAddr) -> Account {
        match &self.name {
            Some(name) => Account::Token(Arc::clone(name)),
            None => Account::Peer(PeerKey::of(peer)),
        }
    }

    /// Checks that the caller may use the type that a request names, and what it asks for.
    ///
    /// # Errors
    /// [`Denied::Forbidden`] with the type, [`Denied::Bound`], [`Denied::NoLogs`].
    pub fn check(&self, access: Access, app_type: Option<&str>) -> Result<(), Denied> {
        match (app_type, access) {
            (Some(app_type), _) if !self.types.contain(app_type) => {
                Err(Denied::Forbidden(app_type.to_owned()))
            }
            (_, Access::Unbound) if self.types != Types::All => Err(Denied::Bound),
            (_, Access::Logs) if !self.rights.logs => Err(Denied::NoLogs),
            _ => Ok(()),
        }
    }
}

impl Denied {
    /// The value of the label `cause` of `config_controller_rejected_total`.
    #[must_use]
    pub const fn cause(&self) -> &'static str {
        match self {
            Self::Missing => "auth_missing",
            Self::Malformed => "auth_malformed",
            Self::Unknown => "auth_unknown",
            Self::Forbidden(_) | Self::Bound | Self::NoLogs | Self::NotListed(_) => {
                "auth_forbidden"
            }
            Self::TooMany { .. } => "auth_slowed",
        }
    }
}

/// Whether the caller of an endpoint needs a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It does not: the caller is the kubelet with its probes, or it gets a page without secrets.
    Open,
    /// It does, unless authentication is off (`AUTH=none`).
    Authenticated,
    /// It does, and the token is not bound to types: the response names all of them.
    Unbound,
    /// It does, and the token has the right to read logs, which may hold secrets.
    Logs,
}

/// Why a request is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It has no token.
    Missing,
    /// Its `Authorization` is not a bearer token, or there are several.
    Malformed,
    /// The token is not valid.
    Unknown,
    /// The token may not use this app type.
    Forbidden(String),
    /// The token may use some app types only, and the response would name all.
    Bound,
    /// The token has no right to read logs.
    NoLogs,
    /// The token belongs to this Kubernetes user, which is not in `AUTH_ALLOW`.
    NotListed(Arc<str>),
    /// Too many invalid tokens came from this address.
    TooMany {
        /// The time until tokens from this address are checked again.
        retry_after: Duration,
    },
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750 §2.1).
///
/// # Errors
/// [`Denied::Missing`] or [`Denied::Malformed`].
pub fn bearer(headers: &Headers) -> Result<Bearer, Denied> {
    let mut values = headers.get_all("authorization");
    let value = values.next().ok_or(Denied::Missing)?;
    // A proxy in front might have checked the other of two tokens.
    if values.next().is_some() {
        return Err(Denied::Malformed);
    }
    let value = std::str::from_utf8(value).map_err(|_| Denied::Malformed)?;
    let (scheme, token) = value.split_once(' ').ok_or(Denied::Malformed)?;
    let token = token.trim_start_matches(' ');
    if scheme.eq_ignore_ascii_case("bearer") && is_token(token) {
        Ok(Bearer::new(token))
    } else {
        Err(Denied::Malformed)
    }
}

/// Whether the text can be sent as a bearer token: `b64token` of RFC 6750 §2.1.
#[must_use]
pub fn is_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !body.is_empty() && body.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_bearer(values: &[&[u8]], expected: Result<&str, Denied>) {
        let mut headers = Headers::default();
        for value in values {
            headers.push("Authorization", value);
        }
        assert_eq!(bearer(&headers), expected.map(Bearer::new));
    }

    #[test]
    fn bearer_tokens_are_parsed_from_the_authorization_field() {
        check_bearer(&[], Err(Denied::Missing));
        check_bearer(&[b"Bearer abc.DEF-1_~+/=="], Ok("abc.DEF-1_~+/=="));
        check_bearer(&[b"bEARER   abc"], Ok("abc"));
        for malformed in [
            &b"Bearer"[..],
            b"Bearer ",
            b"Bearer =",
            b"Bearer a b",
            b"Bearer a,b",
            b"Bearer a=b",
            b"Bearer \xc3\xa4",
            b"Bearer \xff",
            b"Bearer\tabc",
            b"Basic YTpi",
            b"abc",
            b"",
        ] {
            check_bearer(&[malformed], Err(Denied::Malformed));
        }
        check_bearer(&[b"Bearer a", b"Bearer a"], Err(Denied::Malformed));
    }

    fn caller(types: &[&str]) -> Caller {
        let types = types.iter().map(|name| AppType::new(name).unwrap());
        Caller {
            name: Some("portal".into()),
            types: Types::Only(types.collect()),
            rights: Rights::default(),
        }
    }

    #[test]
    fn a_caller_may_use_its_types_only() {
        let hello = caller(&["hello"]);
        let access = Access::Authenticated;
        for app_type in [None, Some("hello")] {
            assert_eq!(hello.check(access, app_type), Ok(()));
        }
        for app_type in ["slow", "Hello", ""] {
            let forbidden = Err(Denied::Forbidden(app_type.to_owned()));
            assert_eq!(hello.check(access, Some(app_type)), forbidden);
            assert_eq!(hello.check(Access::Logs, Some(app_type)), forbidden);
            assert_eq!(Caller::ANONYMOUS.check(access, Some(app_type)), Ok(()));
        }
        assert_eq!(hello.check(Access::Unbound, None), Err(Denied::Bound));
        assert_eq!(
            hello.check(Access::Logs, Some("hello")),
            Err(Denied::NoLogs)
        );
        assert_eq!(Caller::ANONYMOUS.check(Access::Logs, Some("hello")), Ok(()));
    }

    #[test]
    fn a_caller_is_shown_by_name_or_else_by_address() {
        let peer = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(&*caller(&[]).shown(peer), "portal");
        assert_eq!(&*Caller::ANONYMOUS.shown(peer), "10.0.0.1");
    }
}
