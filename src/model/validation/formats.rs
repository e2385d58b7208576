//! Formats of texts that Kubernetes checks: quantities, times, names, paths.
//!
//! Each function is a predicate or a number; sentences are made where rules are.

use serde_json::Value;
use std::net::IpAddr;

/// A quantity as a number, for comparisons; `None` if it is none (Kubernetes' `resource.ParseQuantity`).
pub(super) fn quantity(value: &Value) -> Option<f64> {
    match value {
        // As the API server reads it in a map.
        Value::Null => Some(0.0),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => parse_quantity(text),
        _ => None,
    }
}

fn parse_quantity(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !(c.is_ascii_digit() || c == '.'));
    let (digits, suffix) = unsigned.split_at(end.unwrap_or(unsigned.len()));
    let is_number = digits.bytes().filter(|byte| *byte == b'.').count() <= 1
        && digits.bytes().any(|byte| byte.is_ascii_digit());
    let number: f64 = is_number.then(|| digits.parse().ok())??;
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    Some(sign * number * factor(suffix)?)
}

fn factor(suffix: &str) -> Option<f64> {
    let decimal = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(place) = decimal.iter().position(|known| *known == suffix) {
        return Some(1000_f64.powi(i32::try_from(place).ok()? - 3));
    }
    if let Some(place) = binary.iter().position(|known| *known == suffix) {
        return Some(1024_f64.powi(i32::try_from(place).ok()? + 1));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number
        .then(|| exponent.parse().ok())
        .flatten()
        .map(|power: i32| 10_f64.powi(power))
}

/// RFC 3339, by its outline.
pub(super) fn is_time(text: &str) -> bool {
    let outline = b"0000-00-00T00:00:00";
    let fits = |(byte, wanted): (u8, &u8)| match wanted {
        b'0' => byte.is_ascii_digit(),
        wanted => byte == *wanted,
    };
    text.len() > outline.len() && text.bytes().zip(outline).all(fits)
}

/// Name of a port: at most 15 of a-z, 0-9 and -, with a letter, no two - in a row.
pub(super) fn is_port_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=15).contains(&text.len())
        && text.bytes().all(fits)
        && text.bytes().any(|byte| byte.is_ascii_lowercase())
        && !text.contains("--")
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Name of an environment variable: any printable ASCII characters but `=`.
pub(super) fn is_env_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| (0x20..0x7f).contains(&byte) && byte != b'=')
}

/// Name of an HTTP header, as probes have them.
pub(super) fn is_header_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !text.is_empty() && text.bytes().all(fits)
}

/// A field of its pod that a container or volume may know.
pub(super) fn is_field_path(text: &str) -> bool {
    let known = [
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "metadata.labels",
        "metadata.annotations",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    let (map, key) = text.split_once("['").unwrap_or((text, "x']"));
    let is_map = ["metadata.labels", "metadata.annotations"].contains(&map);
    known.contains(&text) || is_map && key.len() > 2 && key.ends_with("']")
}

/// A resource of its container that a container or volume may know.
pub(super) fn is_resource_field(text: &str) -> bool {
    let name = ["limits.", "requests."]
        .iter()
        .find_map(|begin| text.strip_prefix(begin));
    name.is_some_and(|name| {
        ["cpu", "memory", "ephemeral-storage"].contains(&name) || name.starts_with("hugepages-")
    })
}

/// A key of a ConfigMap or Secret.
pub(crate) fn is_data_key(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=253).contains(&text.len())
        && text.bytes().all(fits)
        && text != "."
        && !text.starts_with("..")
}

/// A path that stays inside its folder.
pub(super) fn is_path_below(text: &str) -> bool {
    !text.starts_with('/') && has_no_parent(text)
}

/// A path without `..`.
pub(super) fn has_no_parent(text: &str) -> bool {
    !text.split('/').any(|part| part == "..")
}

pub(super) fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// Name of an iSCSI node, of one of three kinds: `iqn.<year>-<month>.<domain>:<any>`, `eui.` with 16
/// letters or digits, `naa.` with 32.
pub(super) fn is_iscsi_name(text: &str) -> bool {
    let digits = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_iqn = |rest: &str| {
        let (date, rest) = rest.split_once('.')?;
        let (year, month) = date.split_once('-')?;
        let (domain, any) = rest.split_once(':')?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
        let is_any = !any.is_empty()
            && !any.contains([',', ';', '*', '&', '$', '|', ' ', '\t', '\n', '\r', '\u{c}']);
        Some(
            digits(year, 4)
                && digits(month, 2)
                && !domain.is_empty()
                && domain.bytes().all(fits)
                && is_any,
        )
    };
    let is_number = |rest: &str, length: usize| {
        let mut rest = rest.chars();
        rest.next();
        let rest = rest.as_str();
        rest.len() == length && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    match text.split_at_checked(3) {
        Some(("iqn", rest)) => rest.strip_prefix('.').and_then(is_iqn) == Some(true),
        // Any character separates here.
        Some(("eui", rest)) => is_number(rest, 16),
        Some(("naa", rest)) => is_number(rest, 32),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for (text, expected) in [
            ("1", 1.0),
            ("0.5", 0.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("500m", 0.5),
            ("2Ki", 2048.0),
            ("1Mi", 1_048_576.0),
            ("1k", 1000.0),
            ("1e3", 1000.0),
            ("1E3", 1000.0),
            ("1E", 1e18),
            ("-1", -1.0),
            ("+2", 2.0),
            ("1e-1", 0.1),
        ] {
            let found = quantity(&json!(text)).unwrap();
            assert!(
                (found - expected).abs() <= expected.abs() * 1e-9,
                "{text}: {found}"
            );
        }
        for text in [
            "", "m", "1 Mi", "1mi", "1KI", "1K", "1.2.3", "Mi", "1e", "1e+", "true", "-", "1Mib",
            "0x1", ".",
        ] {
            assert_eq!(quantity(&json!(text)), None, "{text}");
        }
        assert_eq!(quantity(&json!(2)), Some(2.0));
        assert_eq!(quantity(&json!(true)), None);
    }

    #[test]
    fn names_and_times_are_those_of_kubernetes() {
        assert!(["http", "a", "a-1", "1a"].into_iter().all(is_port_name));
        let bad = [
            "",
            "Http",
            "80",
            "a--b",
            "-a",
            "a-",
            "abcdefghijklmnop",
            "a_b",
        ];
        assert!(!bad.into_iter().any(is_port_name));
        assert!(is_env_name("a b.c") && !is_env_name("a=b") && !is_env_name(""));
        assert!(is_time("2026-01-31T12:00:00Z") && !is_time("2026-01-31") && !is_time("x"));
        assert!(is_path_below("a/b") && !is_path_below("/a") && !is_path_below("a/../b"));
        assert!(is_data_key("a.b_c") && !is_data_key("..a") && !is_data_key("a/b"));
        assert!(is_field_path("status.podIP") && is_field_path("metadata.labels['a/b']"));
        assert!(!is_field_path("metadata.nam") && !is_field_path("spec['a']"));
        assert!(is_resource_field("limits.cpu") && !is_resource_field("limits.gpu"));
        assert!(is_header_name("X-A") && !is_header_name("a b") && !is_header_name(""));
        assert!(is_ip("::1") && !is_ip("1.2.3"));
        let eui = format!("eui.{}", "a1".repeat(8));
        let naa = format!("naa.{}", "a1".repeat(16));
        for name in ["iqn.2001-04.com.example:storage:a.b", &eui, &naa] {
            assert!(is_iscsi_name(name), "{name}");
        }
        for name in [
            "",
            "iqn",
            "iqn.2001-04.com.example",
            "iqn.2001-04.com.example:",
            "iqn.2001-4.a:b",
            "iqn.2001-04.a_b:c",
            "iqn.2001-04.a:b c",
            "storage",
            &eui[1..],
            &naa[..35],
            "eui.",
            "eui",
            "äui.",
        ] {
            assert!(!is_iscsi_name(name), "{name}");
        }
    }
}
