//! [`AllowedHosts`]: the names under which the service may be called, against DNS rebinding. Pure.
//!
//! A page can point a name of its own at the address of this service. Browsers then send its
//! requests here, mark them as `same-origin` and let the page read the responses. Such a request
//! has the page's name in `Host`, which a page cannot change. Which endpoints need a listed name is
//! in [`super::endpoints`], when it is checked in [`super::dispatcher`].

use std::net::{Ipv4Addr, Ipv6Addr};

/// Most hosts in a list, since each request is compared with all of them.
pub const HOSTS_MAX: usize = 64;

/// Longest host name, and longest part of one (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// The hosts that requests may name; an empty list allows all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedHosts(Vec<Pattern>);

/// One entry of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    host: PatternHost,
    /// `None` allows each port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PatternHost {
    /// A name or an IPv4 address.
    Name(String),
    /// All names below this one; begins with a dot.
    Below(String),
    V6(Ipv6Addr),
}

/// The host of a request, without a final dot.
#[derive(Clone, Copy, Debug)]
enum Host<'a> {
    Name(&'a str),
    V6(Ipv6Addr),
}

impl AllowedHosts {
    /// Reads a comma-separated list of `name`, `*.name`, IPv4 addresses and IPv6 addresses in
    /// brackets, each with an optional `:port`.
    ///
    /// # Errors
    /// The entries that are none of these; the whole text if it is not empty and has no entry, since
    /// that would allow all hosts.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let entries = text.split(',').map(str::trim).filter(|it| !it.is_empty());
        let (mut patterns, mut bad) = (Vec::new(), Vec::new());
        for entry in entries {
            match Pattern::parse(entry) {
                Some(pattern) => patterns.push(pattern),
                None => bad.push(entry.to_owned()),
            }
        }
        if patterns.is_empty() && bad.is_empty() && !text.is_empty() {
            bad.push(text.to_owned());
        }
        if bad.is_empty() {
            Ok(Self(patterns))
        } else {
            Err(bad)
        }
    }

    /// The number of entries.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether a request with this `Host` (or authority of an absolute-form target) may be served;
    /// `secure` means that it came through TLS, which has another default port.
    #[must_use]
    pub fn allow(&self, authority: Option<&str>, secure: bool) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let Some((host, port)) = authority.and_then(split) else {
            return false;
        };
        let port = port.unwrap_or(if secure { 443 } else { 80 });
        self.0.iter().any(|pattern| pattern.fits(host, port))
    }
}

/// Whether this `Host` is an IP address. No name was resolved for it, so none was rebound.
#[must_use]
pub fn is_address(authority: Option<&str>) -> bool {
    match authority.and_then(split) {
        Some((Host::V6(_), _)) => true,
        Some((Host::Name(name), _)) => name.parse::<Ipv4Addr>().is_ok(),
        None => false,
    }
}

impl Pattern {
    fn parse(entry: &str) -> Option<Self> {
        let (rest, is_below) = match entry.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (entry, false),
        };
        // A lone colon is nobody's port.
        let (host, port) = split(rest).filter(|_| !rest.ends_with(':'))?;
        let host = match host {
            Host::V6(address) if !is_below => PatternHost::V6(address),
            Host::Name(name) if is_name(name) && is_below => PatternHost::Below(format!(".{name}")),
            Host::Name(name) if is_name(name) => PatternHost::Name(name.to_owned()),
            _ => return None,
        };
        Some(Self { host, port })
    }

    fn fits(&self, host: Host<'_>, port: u16) -> bool {
        let is_host = match (&self.host, host) {
            (PatternHost::Name(own), Host::Name(name)) => own.eq_ignore_ascii_case(name),
            (PatternHost::Below(end), Host::Name(name)) => {
                let (name, end) = (name.as_bytes(), end.as_bytes());
                let begin = name.len().checked_sub(end.len());
                begin.is_some_and(|at| at > 0 && name[at..].eq_ignore_ascii_case(end))
            }
            (PatternHost::V6(own), Host::V6(address)) => *own == address,
            _ => false,
        };
        is_host && self.port.is_none_or(|own| own == port)
    }
}

/// Host and port of `uri-host [ ":" port ]` (RFC 9110 §7.2), of which the port may be empty
/// (RFC 3986 §3.2.3).
fn split(authority: &str) -> Option<(Host<'_>, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (Host::V6(address.parse().ok()?), port)
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (name, port) = authority.split_at(end);
            // The final dot of an absolute name.
            let name = name.strip_suffix('.').unwrap_or(name);
            (Host::Name(name), port)
        }
    };
    let port = match port {
        "" | ":" => None,
        port => {
            let digits = port.strip_prefix(':')?;
            let digits = Some(digits).filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
            Some(digits?.parse().ok()?)
        }
    };
    let is_empty = matches!(host, Host::Name(""));
    (!is_empty).then_some((host, port))
}

/// Whether this is a host name as it is sent: letters of other scripts are `xn--…` there.
fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label =
        |label: &str| (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.bytes().all(fits);
    text.len() <= NAME_BYTES_MAX && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(list: &str, allowed: &[&str], refused: &[&str]) {
        let hosts = AllowedHosts::parse(list).unwrap();
        for host in allowed {
            assert!(hosts.allow(Some(host), false), "{list} allows {host}");
        }
        for host in refused {
            assert!(!hosts.allow(Some(host), false), "{list} refuses {host}");
        }
        assert!(!hosts.allow(None, false), "{list} needs a host");
    }

    #[test]
    fn without_a_list_each_host_is_allowed() {
        let hosts = AllowedHosts::parse("").unwrap();
        assert!(hosts.allow(Some("evil.example"), false) && hosts.allow(None, false));
        assert_eq!(AllowedHosts::parse(" , "), Err(vec![" , ".to_owned()]));
    }

    #[test]
    fn names_are_compared_without_case_port_and_final_dot() {
        check(
            "Portal.example, cc",
            &[
                "portal.example",
                "PORTAL.Example.",
                "portal.example:3333",
                "portal.example.:80",
                "cc:",
            ],
            &[
                "evil.example",
                "portal.example.evil.example",
                "evil-portal.example",
                "x.portal.example",
                "portal",
                "portal.example..",
                "",
                ".",
                ":3333",
                "portal.example:x",
                "portal.example:99999",
                "portal.example:+80",
                "portal.example:80:80",
                "portal.example@evil.example",
                "portal%2eexample",
                "[cc]",
            ],
        );
    }

    #[test]
    fn a_port_in_the_list_is_the_only_one() {
        check(
            "cc:3333",
            &["cc:3333", "CC.:3333"],
            &["cc", "cc:", "cc:80", "cc:33333"],
        );
        check("cc:80", &["cc", "cc:", "cc:80"], &["cc:443"]);
        let secure = AllowedHosts::parse("cc:443").unwrap();
        assert!(secure.allow(Some("cc"), true) && !secure.allow(Some("cc"), false));
    }

    #[test]
    fn a_star_stands_for_one_or_more_labels() {
        check(
            "*.apps.example",
            &["a.apps.example", "a.b.Apps.Example.:1"],
            &[
                "apps.example",
                ".apps.example",
                "aapps.example",
                "a.apps.example.org",
                "example",
            ],
        );
    }

    #[test]
    fn addresses_are_allowed_like_names() {
        check(
            "10.0.0.7,[2001:DB8::1],[::1]:3333",
            &[
                "10.0.0.7:3333",
                "[2001:db8:0::1]",
                "[2001:db8::0001]:80",
                "[::1]:3333",
            ],
            &[
                "10.0.0.8",
                "10.7",
                "[::1]",
                "::1",
                "[2001:db8::1",
                "[2001:db8::1]x",
                "[2001:db8::2]",
            ],
        );
        for address in ["10.0.0.7", "10.0.0.7:3333", "[fd00::1]:3333"] {
            assert!(is_address(Some(address)), "{address}");
        }
        for name in [
            None,
            Some("localhost"),
            Some("10.0.0.7.evil.example"),
            Some("10.7"),
            Some(""),
        ] {
            assert!(!is_address(name), "{name:?}");
        }
    }

    #[test]
    fn what_is_no_host_is_named() {
        let label = "a".repeat(LABEL_BYTES_MAX + 1);
        let name = format!("{}a", "a.".repeat(NAME_BYTES_MAX / 2 + 1));
        let bad = [
            "*",
            "*.",
            "*.*.example",
            "a*.example",
            "http://a",
            "a/b",
            "a b",
            "a..b",
            ".a",
            "ä",
            "a:",
            "a:x",
            "a:70000",
            "::1",
            "[::1",
            "*.[::1]",
            "u@a",
            label.as_str(),
            name.as_str(),
        ];
        let list = format!("good.example,{},[::1]:80", bad.join(","));
        assert_eq!(
            AllowedHosts::parse(&list),
            Err(bad.map(str::to_owned).to_vec())
        );
        let most = [&"a".repeat(LABEL_BYTES_MAX), "*.a_b", "a.:1"].join(",");
        assert_eq!(AllowedHosts::parse(&most).unwrap().count(), 3);
    }
}
