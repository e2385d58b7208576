//! Values are data for Kubernetes, too: it replaces `$(NAME)` in commands and environment variables by other
//! variables of the container, such as secrets, so a value must not contain or complete such a reference.
//!
//! Pure. The rules of Kubernetes (its package `third_party/forked/golang/expansion`): `$$` becomes `$`;
//! `$(NAME)` becomes the value of NAME, or stays if there is none; any other `$` stays. So a `$` of a value
//! before one of these is doubled. Where this applies is decided in `fill.rs`.

use std::borrow::Cow;

/// A value, so that Kubernetes makes of it what it was.
pub(super) fn escape(value: &str) -> Cow<'_, str> {
    if !value.contains('$') {
        return Cow::Borrowed(value);
    }
    let mut escaped = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('$') {
        // What follows the value is not known here.
        let is_text = !after.is_empty() && !after.starts_with(['$', '(']);
        escaped.push_str(before);
        escaped.push_str(if is_text { "$" } else { "$$" });
        rest = after;
    }
    escaped.push_str(rest);
    Cow::Owned(escaped)
}

/// A text of the template that a value follows, unless it is the last. Its references and `$$` stay. A `$`
/// or `$(` that a value would make a reference is text.
pub(super) fn close(text: &str, is_last: bool) -> Cow<'_, str> {
    if is_last || !text.contains('$') {
        return Cow::Borrowed(text);
    }
    let mut closed = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        closed.push_str(before);
        let reference = after.starts_with('(').then(|| after.find(')'));
        let (taken, is_open) = match (after.chars().next(), reference) {
            (None, _) => (0, true),
            (Some(_), Some(None)) => (1, true),
            (Some(_), Some(Some(end))) => (end + 1, false),
            (Some(next), None) => (next.len_utf8(), false),
        };
        closed.push_str(if is_open { "$$" } else { "$" });
        closed.push_str(&after[..taken]);
        rest = &after[taken..];
    }
    closed.push_str(rest);
    Cow::Owned(closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Kubernetes makes of a text where the variable `A` has the value `<A>`, and no other exists.
    fn expand(text: &str) -> String {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            expanded.push_str(before);
            let name = after.strip_prefix('(').and_then(|it| it.split_once(')'));
            rest = if let Some((name, after)) = name {
                expanded.push_str(&match name {
                    "A" => "<A>".to_owned(),
                    _ => format!("$({name})"),
                });
                after
            } else if let Some(after) = after.strip_prefix('$') {
                expanded.push('$');
                after
            } else {
                expanded.push('$');
                let taken = after.chars().next().map_or(0, char::len_utf8);
                expanded.push_str(&after[..taken]);
                &after[taken..]
            };
        }
        expanded + rest
    }

    #[test]
    fn the_oracle_expands_as_kubernetes_does() {
        // From the examples of its documentation and its own tests.
        for (text, expanded) in [
            ("$(A)", "<A>"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$<A>"),
            ("$$$$(A)", "$$(A)"),
            ("$(B)", "$(B)"),
            ("$(A", "$(A"),
            ("$A$", "$A$"),
            ("($(A)$", "(<A>$"),
            ("$($(A)", "$($(A)"),
            ("\\$(A)", "\\<A>"),
        ] {
            assert_eq!(expand(text), expanded, "{text}");
        }
    }

    /// All texts of up to two of these characters and some longer ones, around and as two values.
    #[test]
    fn values_are_what_they_were_and_references_of_the_template_stay() {
        let letters = ["$", "(", "A", ")"];
        let mut texts: Vec<String> = letters.map(str::to_owned).to_vec();
        for (first, second) in letters
            .iter()
            .flat_map(|it| letters.map(|other| (it, other)))
        {
            texts.push(format!("{first}{second}"));
        }
        texts.extend(["", "$(A)", "$$(A)", "$(A", "$(é $"].map(str::to_owned));
        for (own, first) in pairs(&texts) {
            for (second, last) in pairs(&texts) {
                let mut rendered = close(own, false).into_owned();
                rendered.push_str(&escape(first));
                rendered.push_str(&escape(second));
                rendered.push_str(&close(last, true));
                let expected = format!("{}{first}{second}{}", expand(own), expand(last));
                assert_eq!(expand(&rendered), expected, "{rendered}");
            }
        }
    }

    fn pairs(texts: &[String]) -> impl Iterator<Item = (&String, &String)> {
        let firsts = texts.iter();
        firsts.flat_map(|first| texts.iter().map(move |second| (first, second)))
    }
}
