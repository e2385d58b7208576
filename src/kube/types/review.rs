//! TokenReview (authentication.k8s.io/v1): the user and the audience of a token. Responses only;
//! requests are made in [`crate::kube::request`].

use serde::Deserialize;

/// Longest name of a user that counts, in bytes: it is kept for each token. That of a service account has
/// at most 339; only those can be allowed.
const USER_BYTES_MAX: usize = 512;

/// The API server's response about a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct TokenReview {
    /// Required, since any other JSON object would deny the token.
    status: ReviewStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct ReviewStatus {
    authenticated: Option<bool>,
    user: Option<ReviewedUser>,
    audiences: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct ReviewedUser {
    username: Option<Box<str>>,
}

impl TokenReview {
    /// The user of the token, if it was issued for this audience. A server that returns no audience
    /// does not support them. Then the token is valid for the API server itself (API reference,
    /// `status.audiences`) and not for this service.
    #[must_use]
    pub fn into_user(self, audience: &str) -> Option<Box<str>> {
        let status = self.status;
        let audiences = status.audiences.unwrap_or_default();
        let for_us = audiences.iter().any(|known| known == audience);
        let user = status.user?.username?;
        let good = status.authenticated == Some(true) && for_us && !user.is_empty();
        let good = good && user.len() <= USER_BYTES_MAX;
        good.then_some(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: Option<&str>) {
        let review: TokenReview = serde_json::from_str(json).unwrap();
        assert_eq!(review.into_user("us").as_deref(), expected, "{json}");
    }

    #[test]
    fn a_user_counts_only_for_our_audience() {
        check(
            r#"{"kind":"TokenReview","spec":{"token":"t"},"status":{"authenticated":true,"user":{"username":"u","groups":["g"]},"audiences":["us"]}}"#,
            Some("u"),
        );
        let long = |bytes: usize| {
            let (user, status) = (
                "u".repeat(bytes),
                r#""authenticated":true,"audiences":["us"]"#,
            );
            let json = format!(r#"{{"status":{{{status},"user":{{"username":"{user}"}}}}}}"#);
            (json, user)
        };
        let (json, user) = long(USER_BYTES_MAX);
        check(&json, Some(&user));
        check(&long(USER_BYTES_MAX + 1).0, None);
        for none in [
            r#"{"status":{"authenticated":true,"user":{"username":"u"},"audiences":["other"]}}"#,
            r#"{"status":{"authenticated":true,"user":{"username":"u"}}}"#,
            r#"{"status":{"authenticated":true,"user":{"username":""},"audiences":["us"]}}"#,
            r#"{"status":{"authenticated":true,"user":{},"audiences":["us"]}}"#,
            r#"{"status":{"authenticated":false,"user":{"username":"u"},"audiences":["us"]}}"#,
            // The response of 1.36 to an invalid token.
            r#"{"status":{"user":{},"error":"invalid bearer token"}}"#,
        ] {
            check(none, None);
        }
        for other in ["{}", r#"{"status":null}"#, r#"{"status":"Failure"}"#] {
            assert!(
                serde_json::from_str::<TokenReview>(other).is_err(),
                "{other}"
            );
        }
    }
}
