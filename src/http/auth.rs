//! Who may call: from a request and its route to a [`Caller`], or to why not.
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
use super::router::{Route, Routed};
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

    /// Checks that the caller may use the type that a route names.
    ///
    /// # Errors
    /// [`Denied::Forbidden`] with the type.
    pub fn check(&self, routed: &Routed) -> Result<(), Denied> {
        match app_type(routed) {
            Some(app_type) if !self.types.contain(app_type) => {
                Err(Denied::Forbidden(app_type.to_owned()))
            }
            _ => Ok(()),
        }
    }
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

/// Whether everybody may ask for this: only the probes, whose caller is the kubelet.
#[must_use]
pub fn is_open(routed: &Routed) -> bool {
    matches!(routed, Routed::To(Route::Livez | Route::Readyz))
}

/// The app type that a route is about. A new route has to say so here.
fn app_type(routed: &Routed) -> Option<&str> {
    let Routed::To(route) = routed else {
        return None;
    };
    match route {
        Route::Instances(app_type)
        | Route::LegacyInstances(app_type)
        | Route::LegacyCreate(app_type) => Some(app_type),
        Route::Ensure(key) | Route::Label(key) | Route::Stop(key) => Some(key.app_type.as_str()),
        // Of which type the instance to release is, is not known yet: its handler looks only
        // among the types that the caller may use.
        Route::LegacyRelease(_) => None,
        Route::Types
        | Route::Info
        | Route::Livez
        | Route::Readyz
        | Route::Metrics
        | Route::OpenApi
        | Route::Docs => None,
    }
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
    use crate::http::message::Method;
    use crate::http::router;

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

    #[track_caller]
    fn check_may(method: Method, path: &str, expected: Result<(), &str>) {
        let routed = router::route(&method, path);
        let expected = expected.map_err(|app_type| Denied::Forbidden(app_type.to_owned()));
        assert_eq!(caller(&["hello"]).check(&routed), expected, "{path}");
        assert_eq!(Caller::ANYBODY.check(&routed), Ok(()));
    }

    #[test]
    fn types_are_kept_to() {
        check_may(Method::Get, "/app", Ok(()));
        check_may(Method::Get, "/info", Ok(()));
        check_may(Method::Get, "/nope", Ok(()));
        check_may(Method::Get, "/app/hello", Ok(()));
        check_may(Method::Get, "/app/slow", Err("slow"));
        check_may(Method::Get, "/app/Hello", Err("Hello"));
        check_may(Method::Get, "/api/slow", Err("slow"));
        check_may(Method::Get, "/create/slow", Err("slow"));
        check_may(Method::Get, "/release/ann", Ok(()));
        check_may(Method::Get, "/app/hel%6Co/ann", Ok(()));
        check_may(Method::Get, "/app/slow/hello", Err("slow"));
        check_may(Method::Patch, "/app/slow/ann", Err("slow"));
        check_may(Method::Delete, "/app/slow/ann", Err("slow"));
    }

    #[test]
    fn only_probes_are_open() {
        let open = |method, path| is_open(&router::route(&method, path));
        assert!(open(Method::Get, "/livez") && open(Method::Head, "/readyz"));
        for path in ["/", "/app", "/info", "/livez/", "//livez", "/nope", "*"] {
            assert!(!open(Method::Get, path), "{path}");
        }
        assert!(!open(Method::Post, "/livez"));
    }

    #[test]
    fn a_caller_is_shown_by_name_or_else_by_address() {
        let peer = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(&*caller(&[]).shown(peer), "portal");
        assert_eq!(&*Caller::ANYBODY.shown(peer), "10.0.0.1");
    }
}
