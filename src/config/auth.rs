//! The settings of authentication: `AUTH` and the variables that belong to it.
//!
//! Pure, a part of [`super`]. How a token is checked is in [`crate::http::auth`], not here.

use super::Reader;
use crate::http::auth::Rights;

/// How callers are authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// No authentication: every client that can reach the port may call.
    None,
    /// By bearer tokens.
    Token {
        /// The file with the tokens.
        file: String,
    },
    /// By service account tokens.
    Kubernetes {
        /// The service accounts that may call, as `namespace/name`; each with its rights: `+logs`, `+owner`.
        allow: Vec<String>,
    },
}

impl Reader<'_> {
    pub(super) fn auth(&mut self) -> Auth {
        let word = self.text("AUTH");
        let file = self.raw("AUTH_TOKENS_FILE").map(str::to_owned);
        let allow = self.raw("AUTH_ALLOW").map(str::to_owned);
        if !matches!(word.as_str(), "none" | "token" | "kubernetes") {
            self.unexpected("AUTH", &word, "none, token or kubernetes");
            return Auth::None;
        }
        // Otherwise a forgotten AUTH would silently leave the port open.
        if file.is_some() && word != "token" {
            let text = format!("is set, but AUTH is {word}: set AUTH=token or unset it");
            self.problem("AUTH_TOKENS_FILE", &text);
        }
        if allow.is_some() && word != "kubernetes" {
            let text = format!("is set, but AUTH is {word}: set AUTH=kubernetes or unset it");
            self.problem("AUTH_ALLOW", &text);
        }
        match (word.as_str(), file, allow) {
            ("token", Some(file), _) => Auth::Token { file },
            ("token", None, _) => {
                self.problem(
                    "AUTH_TOKENS_FILE",
                    "is missing: AUTH=token requires a file of tokens",
                );
                Auth::None
            }
            ("kubernetes", _, allow) => Auth::Kubernetes {
                allow: self.allowed(allow.as_deref().unwrap_or_default()),
            },
            _ => Auth::None,
        }
    }

    fn allowed(&mut self, list: &str) -> Vec<String> {
        let entries = list.split([',', ' ']).filter(|entry| !entry.is_empty());
        let (good, bad): (Vec<&str>, Vec<&str>) = entries.partition(|entry| {
            let mut parts = entry.split('+');
            parts.next().is_some_and(is_account) && Rights::parse(parts).is_some()
        });
        for entry in &bad {
            let text = format!(
                "contains '{entry}'; expected service accounts as namespace/name, with their rights: namespace/name+logs+owner"
            );
            self.problem("AUTH_ALLOW", &text);
        }
        if good.is_empty() && bad.is_empty() {
            let text = "is missing: AUTH=kubernetes requires the service accounts that may call, as namespace/name";
            self.problem("AUTH_ALLOW", text);
        }
        good.into_iter().map(str::to_owned).collect()
    }
}

/// Whether namespace and name consist of characters that Kubernetes allows.
fn is_account(entry: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    let is_name = |name: &str| !name.is_empty() && name.chars().all(fits);
    entry
        .split_once('/')
        .is_some_and(|(namespace, name)| is_name(namespace) && is_name(name))
}

#[cfg(test)]
mod tests {
    use super::Auth;
    use crate::config::{Command, parse};

    fn auth(pairs: &[(&str, &str)]) -> Result<Auth, Vec<String>> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        match parse([], &pairs.iter().map(owned).collect()) {
            Ok(Command::Serve(config)) => Ok(config.auth),
            Ok(other) => panic!("{other:?}"),
            Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
        }
    }

    #[track_caller]
    fn check_problems(pairs: &[(&str, &str)], expected: &[&str]) {
        let problems = auth(pairs).unwrap_err();
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, words) in problems.iter().zip(expected) {
            assert!(problem.contains(words), "{problem}");
        }
    }

    #[test]
    fn each_mode_is_read_from_the_settings() {
        assert_eq!(auth(&[]), Ok(Auth::None));
        let file = "/etc/tokens".to_owned();
        assert_eq!(
            auth(&[("AUTH", "token"), ("AUTH_TOKENS_FILE", "/etc/tokens")]),
            Ok(Auth::Token { file })
        );
        let allow = vec!["apps/portal".to_owned(), "other/daemon+logs".to_owned()];
        assert_eq!(
            auth(&[
                ("AUTH", "kubernetes"),
                ("AUTH_ALLOW", "apps/portal, other/daemon+logs,")
            ]),
            Ok(Auth::Kubernetes { allow })
        );
    }

    #[test]
    fn contradictory_settings_are_rejected() {
        check_problems(&[("AUTH", "Token")], &["AUTH is 'Token'"]);
        check_problems(&[("AUTH", "token")], &["AUTH_TOKENS_FILE is missing"]);
        check_problems(&[("AUTH", "kubernetes")], &["AUTH_ALLOW is missing"]);
        check_problems(
            &[("AUTH_TOKENS_FILE", "/x"), ("AUTH_ALLOW", "a/b")],
            &[
                "AUTH_TOKENS_FILE is set, but AUTH is none",
                "AUTH_ALLOW is set, but AUTH is none",
            ],
        );
        let list = "portal,a/b/c,A/b,/b,a/,a/b+log";
        let names = ["'portal'", "'a/b/c'", "'A/b'", "'/b'", "'a/'", "'a/b+log'"];
        check_problems(&[("AUTH", "kubernetes"), ("AUTH_ALLOW", list)], &names);
    }
}
