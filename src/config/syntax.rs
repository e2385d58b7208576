//! The syntax of settings that others read: label selectors (Kubernetes) and log filters (env_logger).
//!
//! Pure: what is wrong would otherwise show only later, as a list that fails or a line that is not
//! logged. The values are used elsewhere, unchanged.

use crate::model::names::{is_dns_subdomain, is_label_name, is_label_value};

/// Whether this is a label selector, by the grammar of Kubernetes' `labels.Parse`; a blank one would
/// select everything, and is none.
pub(super) fn is_selector(text: &str) -> bool {
    let mut depth = 0;
    let requirements = text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    requirements.map(str::trim).all(is_requirement)
}

fn is_requirement(text: &str) -> bool {
    if let Some(key) = text.strip_prefix('!') {
        return is_label_key(key.trim_start());
    }
    let is_end = |c: char| c.is_whitespace() || "=!<>(".contains(c);
    let (key, rest) = text.split_at(text.find(is_end).unwrap_or(text.len()));
    let rest = rest.trim_start();
    let after = |operators: &[&str]| operators.iter().find_map(|word| rest.strip_prefix(word));
    let fits = if rest.is_empty() {
        true
    } else if let Some(value) = after(&["==", "=", "!="]) {
        is_label_value(value.trim_start())
    } else if let Some(number) = after(&["<", ">"]) {
        number.trim_start().parse::<i64>().is_ok()
    } else {
        let values = after(&["in", "notin"]).map(str::trim_start);
        let values = values.and_then(|values| values.strip_prefix('(')?.strip_suffix(')'));
        values.is_some_and(|values| values.split(',').map(str::trim).all(is_label_value))
    };
    is_label_key(key) && fits
}

fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => {
            prefix.len() <= 253 && is_dns_subdomain(prefix) && is_label_name(name)
        }
        None => is_label_name(text),
    }
}

/// Whether env_logger understands all of this filter (`level,target=level,.../text`), and we can log it:
/// the level trace is compiled out.
pub(super) fn is_log_filter(text: &str) -> bool {
    let (directives, pattern) = text.split_once('/').unwrap_or((text, ""));
    let is_level = |word: &str| {
        ["off", "error", "warn", "info", "debug"].contains(&word.to_ascii_lowercase().as_str())
    };
    let is_directive = |directive: &str| match directive.split_once('=') {
        Some((target, level)) => !target.is_empty() && is_level(level),
        None => !directive.eq_ignore_ascii_case("trace"),
    };
    let mut directives = directives.split(',').map(str::trim);
    !pattern.contains('/') && directives.all(is_directive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_those_of_kubernetes() {
        for good in [
            "a",
            "!a",
            "config-controller.semafor.ch/template",
            "a=b",
            "a = b",
            "a==b,c!=d",
            "a=",
            "a in (b, c) , d notin(e),f",
            "a in ()",
            "a>1,b<-2",
            "x.y/Z_1=v.w",
        ] {
            assert!(is_selector(good), "{good}");
        }
        for bad in [
            " ",
            "a,",
            ",a",
            "=b",
            "a=b=c",
            "a b",
            "a in b",
            "a in (b",
            "a in b)",
            "a=-",
            "ä",
            "a/b/c",
            "A/b",
            "/b",
            "a/",
            "! ",
            "a>b",
            "a=b c",
            "a in (b))",
            "(a)",
            "a&b",
        ] {
            assert!(!is_selector(bad), "{bad}");
        }
    }

    #[test]
    fn log_filters_are_those_of_env_logger() {
        for good in [
            "warn",
            "WARN,config_controller=debug",
            "off",
            "ureq",
            "info, ureq=off/watch",
            "info,",
        ] {
            assert!(is_log_filter(good), "{good}");
        }
        for bad in [
            "trace", "a=trace", "a=loud", "a=b=info", "=info", "a=", "info/x/y",
        ] {
            assert!(!is_log_filter(bad), "{bad}");
        }
    }
}
