//! The syntax of settings that others read: label selectors (Kubernetes) and log filters (env_logger).
//!
//! Pure: what is wrong would otherwise show only later, as a list that fails or a line that is not
//! logged. The values are used elsewhere, unchanged.

use crate::model::names::{is_dns_subdomain, is_label_name, is_label_value};

/// Whether this is a label selector, by the grammar of Kubernetes' `labels.Parse`; a blank one would
/// select everything, and is none.
pub(super) fn is_selector(text: &str) -> bool {
    let tokens = selector_tokens(text);
    let mut rest = tokens.as_slice();
    loop {
        let Some(after) = after_requirement(rest) else {
            return false;
        };
        match after {
            [] => return true,
            [",", others @ ..] => rest = others,
            _ => return false,
        }
    }
}

/// The symbols and words of a selector. Only these four characters separate words there.
fn selector_tokens(text: &str) -> Vec<&str> {
    const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "<", ">", "(", ")", ","];
    const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(BLANKS);
    while !rest.is_empty() {
        let symbol = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol));
        let ends = |c: char| BLANKS.contains(&c) || "=!<>(),".contains(c);
        let length = match symbol {
            Some(symbol) => symbol.len(),
            None => rest.find(ends).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after.trim_start_matches(BLANKS);
    }
    tokens
}

/// What follows the requirement at the beginning of these tokens; `None` if there is none.
fn after_requirement<'a, 'b>(tokens: &'a [&'b str]) -> Option<&'a [&'b str]> {
    let after = match tokens {
        ["!", key, rest @ ..] if is_label_key(key) => return Some(rest),
        [key, rest @ ..] if is_label_key(key) => rest,
        _ => return None,
    };
    match after {
        [] | [",", ..] => Some(after),
        ["=" | "==" | "!="] => Some(&[]),
        ["=" | "==" | "!=", rest @ ..] if rest[0] == "," => Some(rest),
        ["=" | "==" | "!=", value, rest @ ..] if is_label_value(value) => Some(rest),
        ["<" | ">", number, rest @ ..] => {
            let fits = is_label_value(number) && number.parse::<i64>().is_ok();
            fits.then_some(rest)
        }
        ["in" | "notin", "(", rest @ ..] => after_values(rest),
        _ => None,
    }
}

/// What follows a list of values and its closing parenthesis. Values may be empty.
fn after_values<'a, 'b>(mut tokens: &'a [&'b str]) -> Option<&'a [&'b str]> {
    loop {
        if let [value, rest @ ..] = tokens
            && ![",", ")"].contains(value)
        {
            tokens = is_label_value(value).then_some(rest)?;
        }
        match tokens {
            [")", rest @ ..] => return Some(rest),
            [",", rest @ ..] => tokens = rest,
            _ => return None,
        }
    }
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

    /// Measured with `labels.Parse` of k8s.io/apimachinery 0.36.3.
    const SELECTORS: &[&str] = &[
        "a",
        "!a",
        "a=b",
        "a = b",
        "a==b,c!=d",
        "a=",
        "a in (b, c) , d notin(e),f",
        "a in ()",
        "x.y/Z_1=v.w",
        "in in (in)",
        "notin",
        "in",
        "a in (in)",
        "a=in",
        "a=notin",
        "a in (b,)",
        "a in (,b)",
        "a in (,)",
        "a in (b,,c)",
        "a in(b)",
        "a  in\t(b)",
        "a\nin (b)",
        "a=b\n",
        "a\t=\tb",
        "a!= b",
        "a !=b",
        "! a",
        "a<1",
        "a> 1",
        "a==",
        "a!=",
        "a,b in (c),d",
        "a in (B_.-b)",
        "a notin (b), !c",
        "a in (b)\r\n",
        "a\r=b",
        "!in",
    ];

    /// Those that it refuses, and blank ones, which would select everything.
    const NO_SELECTORS: &[&str] = &[
        "a>1,b<-2",
        " ",
        "",
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
        "app in (x",
        "app in x)",
        "app in",
        "app notin",
        "a in (b c)",
        "ain (b)",
        "a!b",
        "!a=b",
        "!a in (b)",
        "!!a",
        "a>1.5",
        "a>+1",
        "a>",
        "a>99999999999999999999",
        "a=<b",
        "a<>b",
        "a=>b",
        "a=!b",
        "a=b,",
        "a=b,,c=d",
        "a=(b)",
        "a in (b),c in (d",
        "a in ((b))",
        "a===b",
        "a!==b",
        "a\u{b}b",
        "a\u{a0}=b",
        "a=b\u{a0}",
        "a=1234567890123456789012345678901234567890123456789012345678901234",
        "a in (b)c",
        "a in (b) c",
        "exists a",
        "a>0x10",
        "a>1_000",
        "!",
        "a in (!b)",
        "a in (b=c)",
        "a in (b>c)",
        "a>1,",
    ];

    #[test]
    fn selectors_are_those_of_kubernetes() {
        for text in SELECTORS {
            assert!(is_selector(text), "{text}");
        }
        for text in NO_SELECTORS {
            assert!(!is_selector(text), "{text}");
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
