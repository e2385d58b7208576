//! Who may call: from a request and its endpoint to a [`Caller`], or to why not.
//!
//! Pure: what a bearer token is, what a caller may do, why one is turned away. Which
//! tokens there are is in [`tokens`] (pure) and [`mod@file`] (the file they stand in), how
//! guessing is slowed in [`attempts`] (pure), and [`authenticator`] puts these together. Tokens
//! of Kubernetes are looked up by [`crate::app::review`]. A token's text is in no
//! message, no log line and no `Debug` output.

pub mod attempts;
pub mod authenticator;
pub mod file;
pub mod tokens;

use super::message::Headers;
use crate::app::review::Bearer;
use crate::model::names::AppType;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The app types that a caller may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Types {
    /// All that there are.
    All,
    /// These.
    Only(Arc<[AppType]>),
}

impl Types {
    /// Whether this type is among them.
    #[must_use]
    pub fn contain(&self, app_type: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(types) => types.iter().any(|known| known.as_str() == app_type),
        }
    }
}

/// Somebody who may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What the caller is called, where that is known.
    pub name: Option<Arc<str>>,
    /// What the caller may use.
    pub types: Types,
}

impl Caller {
    /// A caller without a name who may use everything.
    pub const ANYBODY: Self = Self {
        name: None,
        types: Types::All,
    };

    /// Who it is, for the log and the Job: the name, else the address.
    #[must_use]
    pub fn shown(&self, peer: IpAddr) -> Arc<str> {
        let name = self.name.as_ref().map(Arc::clone);
        name.unwrap_or_else(|| peer.to_string().into())
    }

    /// Checks that the caller may use the type that a request names.
    ///
    /// # Errors
    /// [`Denied::Forbidden`] with the type.
    pub fn check(&self, app_type: Option<&str>) -> Result<(), Denied> {
        match app_type {
            Some(app_type) if !self.types.contain(app_type) => {
                Err(Denied::Forbidden(app_type.to_owned()))
            }
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
            Self::Forbidden(_) | Self::NotListed(_) => "auth_forbidden",
            Self::TooMany { .. } => "auth_slowed",
        }
    }
}

/// Whether the caller of an endpoint needs a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// No token is asked for: the caller is the kubelet with its probes.
    Open,
    /// A token is asked for, where this service asks for any.
    Authenticated,
}

/// Why a request is turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It carries no token.
    Missing,
    /// Its `Authorization` is not a bearer token, or there are several.
    Malformed,
    /// Nobody has that token.
    Unknown,
    /// The token may not use this app type.
    Forbidden(String),
    /// Kubernetes knows this user, and we do not let it in.
    NotListed(Arc<str>),
    /// Too many wrong tokens came from that address.
    TooMany {
        /// When tokens from there are looked at again.
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
    // Of two, another reader of this request might take the other one.
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
    fn what_a_bearer_token_is() {
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
        }
    }

    #[test]
    fn a_caller_may_use_its_types_only() {
        let hello = caller(&["hello"]);
        for app_type in [None, Some("hello")] {
            assert_eq!(hello.check(app_type), Ok(()));
        }
        for app_type in ["slow", "Hello", ""] {
            let forbidden = Err(Denied::Forbidden(app_type.to_owned()));
            assert_eq!(hello.check(Some(app_type)), forbidden);
            assert_eq!(Caller::ANYBODY.check(Some(app_type)), Ok(()));
        }
    }

    #[test]
    fn a_caller_is_shown_by_name_or_else_by_address() {
        let peer = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(&*caller(&[]).shown(peer), "portal");
        assert_eq!(&*Caller::ANYBODY.shown(peer), "10.0.0.1");
    }
}
