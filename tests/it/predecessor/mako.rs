//! What 2.7.1 makes of a template before it is YAML: text put into text, unescaped (S1), and
//! Python that runs without a word (S2). Of Mako as much as the templates of the tests use.

/// What a request has given: names and values.
pub(crate) type Given = [(String, String)];

/// The text with its control lines evaluated and its expressions filled in; Err is Python's
/// message.
pub(crate) fn render(text: &str, given: &Given) -> Result<String, String> {
    let text = without_blocks(text)?;
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut out = String::new();
    lines_of(&lines, given, &[], &mut out)?;
    Ok(out)
}

/// `<% … %>` and `<%def>` run and leave nothing; there is nowhere to include from.
fn without_blocks(text: &str) -> Result<String, String> {
    if text.contains("<%include") {
        return Err("Can't locate template for uri".to_owned());
    }
    let mut text = text.to_owned();
    for (begin, end) in [("<%def", "</%def>"), ("<%", "%>")] {
        while let Some(from) = text.find(begin) {
            let length = text[from..].find(end).ok_or("Expected: %>")? + end.len();
            text.replace_range(from..from + length, "");
        }
    }
    Ok(text)
}

/// The control line's words, without `%` and `:`.
fn control(line: &str) -> Option<&str> {
    let words = line.trim().strip_prefix('%')?;
    (!words.starts_with('%')).then(|| words.trim().trim_end_matches(':'))
}

/// Where the block ends that begins at the first line, and where its branches begin.
fn branches(lines: &[&str]) -> Result<(Vec<usize>, usize), String> {
    let (mut depth, mut found) = (0, Vec::new());
    for (at, line) in lines.iter().enumerate() {
        match control(line) {
            Some(words) if words.starts_with("if ") || words.starts_with("for ") => depth += 1,
            Some("endif" | "endfor") => depth -= 1,
            Some(words) if depth == 1 && words.starts_with("el") => found.push(at),
            _ => {}
        }
        if depth == 0 {
            return Ok((found, at));
        }
    }
    Err("Unterminated control keyword".to_owned())
}

fn lines_of(
    mut lines: &[&str],
    given: &Given,
    locals: &[(String, String)],
    out: &mut String,
) -> Result<(), String> {
    while let Some((line, rest)) = lines.split_first() {
        let Some(words) = control(line) else {
            if !line.trim_start().starts_with("##") {
                out.push_str(&filled(line, given, locals)?);
            }
            lines = rest;
            continue;
        };
        let (starts, end) = branches(lines)?;
        if words.starts_with("for ") {
            for (key, value) in given {
                let pair = [
                    ("key".to_owned(), key.clone()),
                    ("value".to_owned(), value.clone()),
                ];
                lines_of(&lines[1..end], given, &pair, out)?;
            }
        } else {
            let mut from = 0;
            for next in starts.into_iter().chain([end]) {
                if holds(control(lines[from]).unwrap_or_default(), given)? {
                    lines_of(&lines[from + 1..next], given, locals, out)?;
                    break;
                }
                from = next;
            }
        }
        lines = &lines[end + 1..];
    }
    Ok(())
}

/// `if 'x' in alternatives`, `elif alternatives.get('x') == '1'`, `else`.
fn holds(words: &str, given: &Given) -> Result<bool, String> {
    let Some((_, condition)) = words.split_once("if ") else {
        return Ok(words == "else");
    };
    let quoted: Vec<&str> = condition.split('\'').collect();
    match quoted.as_slice() {
        ["", name, " in alternatives"] => Ok(value(name, given).is_some()),
        ["alternatives.get(", name, ") == ", text, ""] => {
            Ok(value(name, given).as_deref() == Some(*text))
        }
        _ => Err(format!("not modelled: {condition}")),
    }
}

/// Of several values the last counts.
fn value(name: &str, given: &Given) -> Option<String> {
    let own = given.iter().rev().find(|(known, _)| known == name);
    own.map(|(_, value)| value.clone())
}

fn filled(line: &str, given: &Given, locals: &[(String, String)]) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), line);
    while let Some((before, after)) = rest.split_once("${") {
        let (expression, after) = after.split_once('}').ok_or("Expected: }")?;
        out.push_str(before);
        out.push_str(&expressed(expression.trim(), given, locals)?);
        rest = after;
    }
    Ok(out + rest)
}

fn expressed(
    expression: &str,
    given: &Given,
    locals: &[(String, String)],
) -> Result<String, String> {
    let quoted: Vec<&str> = expression.split('\'').collect();
    match quoted.as_slice() {
        ["alternatives[", name, "]"] => value(name, given).ok_or_else(|| format!("'{name}'")),
        ["alternatives.get(", name, ", ", default, ")"] => {
            Ok(value(name, given).unwrap_or_else(|| (*default).to_owned()))
        }
        [name] => value(name, locals).ok_or_else(|| "Undefined".to_owned()),
        _ => Err(format!("not modelled: {expression}")),
    }
}

#[test]
fn values_become_text_of_the_template() {
    let text = "a: \"${alternatives['x']}\"\n% for key, value in alternatives.items():\n${key}: ${value}\n% endfor\n\
                % if 'y' in alternatives:\ny\n% elif alternatives.get('x') == '1':\none\n% else:\nnone\n% endif\n";
    let given = |value: &str| [("x".to_owned(), value.to_owned())];
    let one = "a: \"1\"\nx: 1\none\n";
    assert_eq!(render(text, &given("1")).as_deref(), Ok(one));
    let split = "a: \"2\"\nb: \"\"\nx: 2\"\nb: \"\nnone\n";
    assert_eq!(render(text, &given("2\"\nb: \"")).as_deref(), Ok(split));
    assert_eq!(render(text, &[]), Err("'x'".to_owned()));
    assert_eq!(render("a: ${HOME}", &[]), Err("Undefined".to_owned()));
    assert_eq!(render("<% x %>a\n", &[]).as_deref(), Ok("a\n"));
}
