//! App types, instance names, and the Job name derived from them.
//!
//! The Job name is the lock that guarantees one instance per name, so it is a pure function of type
//! and name. Every replica derives the same one, and so does 2.7.1 for the names that it accepts.
//! Whether a Job of that name exists is not known here.

use sha2::{Digest, Sha256};
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Maximum length of an app type or instance name, in bytes: that of a file name or ConfigMap key.
pub const NAME_BYTES_MAX: usize = 253;

/// Maximum length of a Job name, in characters: Kubernetes copies it into the label `job-name`, and a
/// label value has at most 63.
pub const JOB_NAME_CHARS_MAX: usize = 63;

/// Hexadecimal digits of the hash in derived names.
const HASH_DIGITS: usize = 10;

/// Why a string is not a valid name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// The empty string.
    Empty,
    /// More than [`NAME_BYTES_MAX`] bytes; holds the number of bytes.
    TooLong(usize),
    /// A `/`, which separates path segments.
    Slash,
    /// A control character, including U+0000; holds it.
    Control(char),
    /// `.` or `..`, which clients and proxies resolve before sending.
    Dots,
    /// A character that has a meaning in URLs; holds it.
    OfUrls(char),
    /// A blank at either end, which clients remove.
    Blank,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the name is empty; use 1 to {NAME_BYTES_MAX} bytes"),
            Self::TooLong(bytes) => write!(
                f,
                "the name has {bytes} bytes; at most {NAME_BYTES_MAX} are allowed"
            ),
            Self::Slash => write!(f, "the name contains a '/'; remove it"),
            Self::Control(c) => write!(
                f,
                "the name contains the control character U+{:04X}; remove it",
                u32::from(*c)
            ),
            Self::Dots => write!(
                f,
                "the names '.' and '..' are not allowed, because clients and proxies resolve them; choose another name"
            ),
            Self::OfUrls(c) => write!(
                f,
                "the name contains '{c}', which clients that put names into URLs take for a part of the URL; remove it"
            ),
            Self::Blank => write!(
                f,
                "the name begins or ends with a blank, which clients remove; remove it"
            ),
        }
    }
}

fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong(text.len()));
    }
    if text == "." || text == ".." {
        return Err(NameError::Dots);
    }
    // Each GET comes here; `find` instead of the loop takes a fifth more instructions.
    for c in text.chars() {
        if c == '/' {
            return Err(NameError::Slash);
        }
        if c.is_control() {
            return Err(NameError::Control(c));
        }
    }
    Ok(())
}

/// A type of app: the ConfigMap key of its template without `.yaml`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppType(Arc<str>);

/// The name of an instance, as the caller wrote it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceName(Arc<str>);

macro_rules! checked_name {
    ($name:ident) => {
        impl $name {
            /// Accepts 1 to 253 bytes without `/` and control characters, except `.` and `..`.
            ///
            /// # Errors
            /// The violated rule.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check(text).map(|()| Self(text.into()))
            }

            /// The original text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        /// They compare and hash as their text.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

checked_name!(AppType);
checked_name!(InstanceName);

impl InstanceName {
    /// Whether it arrives as it is when a client puts it into a URL without encoding it: `DELETE
    /// /app/hello/keep?x` stops `keep`. So no instance with another name is started.
    ///
    /// # Errors
    /// The character that must not be in it, or [`NameError::Blank`].
    pub fn check_in_urls(&self) -> Result<(), NameError> {
        let name = self.as_str();
        match name.chars().find(|c| matches!(c, '?' | '#' | '%' | '\\')) {
            Some(c) => Err(NameError::OfUrls(c)),
            None if name.trim().len() < name.len() => Err(NameError::Blank),
            None => Ok(()),
        }
    }
}

/// The identity of an instance: app type and name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceKey {
    /// The app type.
    pub app_type: AppType,
    /// The name.
    pub name: InstanceName,
}

impl InstanceKey {
    /// The key of these two texts.
    ///
    /// # Errors
    /// The rule that the type violates, or else the name.
    pub fn new(app_type: &str, name: &str) -> Result<Self, NameError> {
        Ok(Self {
            app_type: AppType::new(app_type)?,
            name: InstanceName::new(name)?,
        })
    }

    /// The name of the Job that is this instance.
    ///
    /// `<type>-<name>` if that is a valid Job name (as in 2.7.1), else
    /// `<slug of type>-<slug of name>-<10 hex digits of SHA-256(type, 0, name)>`.
    #[must_use]
    pub fn job_name(&self) -> String {
        let plain = [self.app_type.as_str(), self.name.as_str()].join("-");
        if is_dns_subdomain(&plain) && plain.len() <= JOB_NAME_CHARS_MAX {
            return plain;
        }
        let hash = hash_digits(&[self.app_type.as_str(), self.name.as_str()]);
        // Both slugs share the characters left by the hash and two hyphens; a short type leaves more.
        let room = JOB_NAME_CHARS_MAX - HASH_DIGITS - 2;
        let app_type = slug(self.app_type.as_str(), room / 2, is_dns_char, true);
        let name = slug(self.name.as_str(), room - app_type.len(), is_dns_char, true);
        format!("{app_type}-{name}-{hash}")
    }

    /// The types, longer than its own, of which the Job name may be an instance: `hello/b-x` and
    /// `hello-b/x` have the same.
    pub fn other_types(&self) -> impl Iterator<Item = AppType> {
        let job_name = self.job_name();
        let hyphens: Vec<usize> = job_name.match_indices('-').map(|(at, _)| at).collect();
        let own = self.app_type.as_str().len();
        let longer = hyphens.into_iter().filter(move |at| *at > own);
        longer.map(move |at| AppType(job_name[..at].into()))
    }
}

impl fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app_type, self.name)
    }
}

impl fmt::Debug for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:?}", self.app_type, self.name)
    }
}

/// The label value that represents `text`: the text itself if it is a valid label value, else
/// `<slug>-<10 hex digits of its SHA-256>`.
#[must_use]
pub fn label_value(text: &str) -> String {
    if is_label_value(text) {
        return text.to_owned();
    }
    let hash = hash_digits(&[text]);
    let room = LABEL_CHARS_MAX - HASH_DIGITS - 1;
    format!("{}-{hash}", slug(text, room, is_label_char, false))
}

/// Maximum length of a label value and of the name part of a label key, in characters (Kubernetes).
const LABEL_CHARS_MAX: usize = 63;

/// Whether `text` is a valid label value: empty, or at most 63 of
/// `[A-Za-z0-9_.-]` that begin and end with a letter or digit.
#[must_use]
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_label_name(text)
}

/// Whether `text` is a valid name part of a label key: a label value that is not empty.
#[must_use]
pub fn is_label_name(text: &str) -> bool {
    let is_end = |c: char| c.is_ascii_alphanumeric();
    text.len() <= LABEL_CHARS_MAX
        && text.chars().all(is_label_char)
        && text.starts_with(is_end)
        && text.ends_with(is_end)
}

/// Whether `text` is a DNS-1123 subdomain (RFC 1123 §2.1 as Kubernetes applies it): labels joined
/// by dots.
#[must_use]
pub fn is_dns_subdomain(text: &str) -> bool {
    text.split('.').all(is_dns_label)
}

/// Whether `text` is a DNS-1123 label of any length: it consists of `[a-z0-9-]`, and begins and ends
/// with a letter or digit.
#[must_use]
pub fn is_dns_label(text: &str) -> bool {
    let is_end = |c: char| c != '-';
    text.chars().all(is_dns_char) && text.starts_with(is_end) && text.ends_with(is_end)
}

fn is_dns_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

fn is_label_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// `text` with each run of invalid characters replaced by one hyphen, cut to `chars_max`
/// characters. It begins and ends with a letter or digit; `x` if nothing is left.
fn slug(text: &str, chars_max: usize, takes: fn(char) -> bool, lower: bool) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        let c = if lower { c.to_ascii_lowercase() } else { c };
        let c = if takes(c) { c } else { '-' };
        if slug.len() == chars_max {
            break;
        }
        let follows_hyphen = slug.is_empty() || slug.ends_with('-');
        if !(c == '-' && follows_hyphen) {
            slug.push(c);
        }
    }
    let trimmed = slug.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if trimmed.is_empty() {
        "x".into()
    } else {
        trimmed.to_owned()
    }
}

/// The first ten hexadecimal digits of the SHA-256 of the parts, joined by a zero byte.
#[must_use]
pub fn hash_digits(parts: &[&str]) -> String {
    let digest = Sha256::digest(parts.join("\0"));
    let digits = digest.iter().map(|byte| format!("{byte:02x}"));
    digits.take(HASH_DIGITS / 2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(app_type: &str, name: &str) -> InstanceKey {
        InstanceKey {
            app_type: AppType::new(app_type).unwrap(),
            name: InstanceName::new(name).unwrap(),
        }
    }

    #[track_caller]
    fn check_job_name(app_type: &str, name: &str, expected: &str) {
        let job_name = key(app_type, name).job_name();
        assert_eq!(job_name, expected);
        assert!(is_dns_subdomain(&job_name) && job_name.len() <= JOB_NAME_CHARS_MAX);
    }

    #[test]
    fn a_job_name_may_be_that_of_instances_of_longer_types() {
        let of = |app_type: &str, name: &str| -> Vec<String> {
            let key = key(app_type, name);
            key.other_types().map(|it| it.to_string()).collect()
        };
        assert_eq!(of("hello", "b-x-y"), ["hello-b", "hello-b-x"]);
        assert_eq!(of("hello-b", "x"), [""; 0], "a shorter type does not count");
        assert_eq!(of("hello", "x"), [""; 0]);
        // A derived name may be the plain one of another.
        assert_eq!(of("hello", "B")[..1], ["hello-b"]);
    }

    #[test]
    fn job_names_equal_those_of_2_7_1_where_kubernetes_permits_them() {
        check_job_name("scim", "n1", "scim-n1");
        check_job_name("scim", "a.b", "scim-a.b");
        check_job_name(
            "scim",
            "0f8fad5b-d9cb-469f-a165-70867728950e",
            "scim-0f8fad5b-d9cb-469f-a165-70867728950e",
        );
        let longest = "n".repeat(58);
        check_job_name("scim", &longest, &format!("scim-{longest}"));
    }

    #[test]
    fn other_names_become_a_slug_and_a_hash() {
        check_job_name("scim", "A_b", "scim-a-b-0e3e87cbd2");
        check_job_name("scim", "a..b", "scim-a-b-e84a51c62c");
        check_job_name("scim", "-", "scim-x-37107599f6");
        check_job_name("scim", "ä", "scim-x-6fa0169d6c");
        check_job_name(
            "scim",
            &"n".repeat(59),
            &format!("scim-{}-887f439162", "n".repeat(47)),
        );
        let key = key(&"t".repeat(253), &"n".repeat(253));
        assert_eq!(key.job_name().len(), JOB_NAME_CHARS_MAX);
    }

    #[test]
    fn names_that_look_alike_as_slugs_are_different_jobs() {
        assert_ne!(key("scim", "A").job_name(), key("scim", "a").job_name());
        assert_ne!(key("scim", "a_b").job_name(), key("scim", "a b").job_name());
    }

    #[track_caller]
    fn check_name(text: &str, expected: Result<(), NameError>) {
        assert_eq!(InstanceName::new(text).map(|_| ()), expected);
    }

    #[test]
    fn names_are_checked() {
        check_name("", Err(NameError::Empty));
        check_name(&"n".repeat(253), Ok(()));
        check_name(&"n".repeat(254), Err(NameError::TooLong(254)));
        check_name("a/b", Err(NameError::Slash));
        check_name("a\0", Err(NameError::Control('\0')));
        check_name("a\u{85}", Err(NameError::Control('\u{85}')));
        check_name(".", Err(NameError::Dots));
        check_name("..", Err(NameError::Dots));
        check_name("...", Ok(()));
        check_name("Ä b,c", Ok(()));
    }

    #[test]
    fn names_that_clients_would_change_in_urls_are_found() {
        for (name, expected) in [
            ("Ä b,c&d=e+f;g:h@i!$'()*", Ok(())),
            ("a?b", Err(NameError::OfUrls('?'))),
            ("#", Err(NameError::OfUrls('#'))),
            ("50%", Err(NameError::OfUrls('%'))),
            ("a\\b", Err(NameError::OfUrls('\\'))),
            (" a", Err(NameError::Blank)),
            ("a\u{a0}", Err(NameError::Blank)),
        ] {
            let name = InstanceName::new(name).unwrap();
            assert_eq!(name.check_in_urls(), expected, "{name}");
        }
    }

    #[track_caller]
    fn check_label_value(text: &str, expected: &str) {
        let value = label_value(text);
        assert_eq!(value, expected);
        assert!(is_label_value(&value), "{value}");
    }

    #[test]
    fn label_values_are_raw_where_they_can_be() {
        check_label_value("", "");
        check_label_value("A_b.c-d", "A_b.c-d");
        check_label_value("-a", "a-c274891790");
        check_label_value(&"v".repeat(63), &"v".repeat(63));
        check_label_value(&"v".repeat(64), &format!("{}-c354e92947", "v".repeat(52)));
    }
}
