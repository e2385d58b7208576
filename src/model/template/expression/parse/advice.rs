//! What to write instead of Python that templates cannot have: calls, formatted strings, other loops.
//!
//! Each form that is advised works; the tests try them.

use super::VARIABLES_NAME;

/// For a call such as `str(…)`; `rest` begins with its parenthesis.
pub(super) fn of_call(name: &str, rest: &str) -> String {
    let inside = in_parentheses(rest)
        .map(str::trim)
        .filter(|inside| !inside.is_empty());
    match inside {
        Some(inside) if name == "str" => format!(
            "`str(…)` is not supported, and values are strings already; write `{inside}` without it"
        ),
        _ => format!(
            "`{name}(…)` is not supported, since templates call no functions; use the value as it is, or choose between values with `… if … else …`"
        ),
    }
}

/// For a string with a prefix, such as `f"…"`; `rest` begins with its quote.
pub(super) fn of_prefixed(prefix: &str, rest: &str) -> String {
    let unquoted = unformatted(rest).filter(|_| prefix.eq_ignore_ascii_case("f"));
    match unquoted {
        Some(text) => {
            format!("`{prefix}\"…\"` is not supported; write text outside of the braces: `{text}`")
        }
        None => format!(
            "strings with a prefix such as `{prefix}` are not supported; write text outside of the braces, such as `a-${{{VARIABLES_NAME}['x']}}`"
        ),
    }
}

/// For a method of the variables.
pub(super) fn of_method(name: &str, is_called: bool) -> String {
    match name {
        "keys" => format!(
            "`{VARIABLES_NAME}.keys()` is not supported; write `'x' in {VARIABLES_NAME}`, or loop with `% for k, v in {VARIABLES_NAME}.items():`"
        ),
        "values" | "items" => format!(
            "`{VARIABLES_NAME}.{name}()` is not supported here; loop with `% for k, v in {VARIABLES_NAME}.items():`"
        ),
        _ if is_called => format!(
            "`{VARIABLES_NAME}.{name}(…)` is not supported; write `{VARIABLES_NAME}['x']` or `{VARIABLES_NAME}.get('x', 'default')`"
        ),
        _ => {
            format!("`{VARIABLES_NAME}.{name}` does not exist; write `{VARIABLES_NAME}['{name}']`")
        }
    }
}

/// For a loop; `text` is what follows `% for`.
pub(super) fn of_loop(text: &str) -> String {
    let names = text.split(" in ").next().unwrap_or_default();
    let is_name = |name: &&str| {
        let fits = |c: char| c.is_alphanumeric() || c == '_';
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(fits)
    };
    let name = Some(names.trim())
        .filter(is_name)
        .filter(|name| *name != VARIABLES_NAME);
    let (key, value) = match name {
        // The second is not needed, and must have another name.
        Some(key) => (key, if key == "v" { "value" } else { "v" }),
        None => ("k", "v"),
    };
    format!("the only loop is `% for {key}, {value} in {VARIABLES_NAME}.items():`")
}

/// The text in the first pair of parentheses, on its line.
fn in_parentheses(rest: &str) -> Option<&str> {
    let mut depth = 0_usize;
    let line = rest.lines().next()?;
    for (at, c) in line.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return line.get(1..at);
        }
    }
    None
}

/// The text of a formatted string with `${…}` for its braces.
fn unformatted(rest: &str) -> Option<String> {
    let quote = rest.chars().next()?;
    let (inside, _) = rest[quote.len_utf8()..].lines().next()?.split_once(quote)?;
    let mut text = String::new();
    let mut rest = inside;
    while let Some(at) = rest.find(['{', '}', '\\', '$', '%', '<']) {
        text.push_str(&rest[..at]);
        let braced = rest[at..].strip_prefix('{')?;
        let (expression, after) = braced.split_once('}')?;
        // A format or a conversion has no other form.
        if expression.is_empty() || expression.contains(['{', ':', '!']) {
            return None;
        }
        text.push_str(&format!("${{{expression}}}"));
        rest = after;
    }
    text.push_str(rest);
    Some(text)
}

#[cfg(test)]
mod tests {
    use crate::model::template::{Problem, Template, Variables};

    /// The message for a template with this value or control line.
    fn refused(text: &str) -> String {
        let error = Template::parse("t", text).unwrap_err();
        match error.problem {
            Problem::Expression(message) | Problem::Control(message) => message,
            other => panic!("{other:?}"),
        }
    }

    const START: &str = "spec:\n  containers:\n  - name: a\n    args: [";

    /// What the first advice in backticks with that text makes of `x=1`.
    fn advised(message: &str, begin: &str) -> String {
        let pieces = message.split('`').skip(1).step_by(2);
        // The first may be what was refused.
        let is_refused = usize::from(!message.starts_with("the only"));
        let mut pieces = pieces.skip(is_refused);
        let form = pieces.find(|piece| piece.contains(begin)).unwrap();
        let text = match form.strip_prefix('%') {
            Some(_) => format!("{START}]\n    env:\n{form}\n    - name: n\n% endfor\n"),
            None if form.contains("${") => format!("{START}\"{form}\"]\n"),
            None => format!("{START}\"${{{form}}}\"]\n"),
        };
        let template = Template::parse("t", &text).unwrap();
        let variables = Variables::from_query("x=1").unwrap();
        let pod = template.render(&variables).unwrap();
        let container = &pod["spec"]["containers"][0];
        match form.starts_with('%') {
            true => container["env"].to_string(),
            false => container["args"][0].as_str().unwrap().to_owned(),
        }
    }

    #[test]
    fn advice_works() {
        for (wrong, begin, expected) in [
            ("str(alternatives['x'])", "alternatives", "1"),
            ("str(alternatives.get('x', ('a')))", "alternatives", "1"),
            ("f\"a-{alternatives['x']}-b\"", "alternatives", "a-1-b"),
            ("f'{alternatives.get(1)}'", "alternatives", "None"),
            ("f'{alternatives[\"x\"]:02d}'", "alternatives", "a-1"),
            ("'x' in alternatives.keys()", "in alternatives", "True"),
            ("alternatives.x", "alternatives['x']", "1"),
            ("alternatives.pop('x')", "alternatives['x']", "1"),
        ] {
            let message = refused(&format!("{START}\"${{{wrong}}}\"]\n"));
            assert_eq!(advised(&message, begin), expected, "{wrong}: {message}");
        }
        for wrong in [
            "for k in alternatives:",
            "for v in alternatives:",
            "for k in alternatives.keys():",
            "for value in alternatives.values():",
            "for i in range(3):",
            "for k, v in sorted(alternatives.items()):",
            "for alternatives in alternatives:",
        ] {
            let message = refused(&format!("{START}]\n% {wrong}\n% endfor\n"));
            let expected = r#"[{"name":"n"}]"#;
            assert_eq!(advised(&message, "% for"), expected, "{wrong}: {message}");
        }
        let message = refused(&format!("{START}\"${{len(alternatives['x'])}}\"]\n"));
        assert!(
            message.starts_with("`len(…)` is not supported"),
            "{message}"
        );
    }
}
