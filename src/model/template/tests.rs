use super::*;
use serde_json::{Value, json};

mod fuzz;
mod grammar;

/// A template with one container; each line of `lines` is an entry of its `args`.
fn with_args(lines: &str) -> String {
    format!("spec:\n  containers:\n  - name: app\n    args:\n{lines}")
}

#[track_caller]
fn render(text: &str, query: &str) -> Result<Value, RenderError> {
    let template = Template::parse("t.yaml", text).unwrap();
    template.render(&Variables::from_query(query).unwrap())
}

/// What the text of a block scalar is after the text rules.
#[track_caller]
fn check_text(inside: &str, query: &str, expected: &str) {
    let lines: String = inside
        .split_inclusive('\n')
        .map(|line| format!("      {line}"))
        .collect();
    let text = with_args(&format!("    - |-\n{lines}"));
    let pod_template = render(&text, query).unwrap();
    assert_eq!(
        pod_template["spec"]["containers"][0]["args"][0], expected,
        "{inside:?}"
    );
}

/// What `${inside}` is with `query`.
#[track_caller]
fn check_value(inside: &str, query: &str, expected: &str) {
    let text = with_args(&format!("    - ${{{inside}}}\n"));
    let pod_template = render(&text, query).unwrap();
    assert_eq!(
        pod_template["spec"]["containers"][0]["args"][0], expected,
        "{inside}"
    );
}

#[track_caller]
fn check_error(text: &str, line: u32, part: &str) {
    let error = Template::parse("t.yaml", text).unwrap_err();
    assert_eq!(error.line, line, "{text}: {error}");
    assert!(error.to_string().contains(part), "{text}: {error}");
    assert!(error.to_string().starts_with("t.yaml, line "), "{error}");
}

#[track_caller]
fn check_variables(text: &str, expected: &[(&str, bool)]) {
    let template = Template::parse("t.yaml", text).unwrap();
    let found: Vec<_> = template
        .variables()
        .iter()
        .map(|variable| (variable.name.as_str(), variable.required))
        .collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn a_variable_has_the_default_that_is_a_fixed_text() {
    for (expression, default) in [
        ("alternatives['x']", None),
        ("alternatives.get('x')", None),
        ("alternatives.get('x', 'UTC')", Some("UTC")),
        ("alternatives.get('x', 8080)", Some("8080")),
        ("alternatives.get('x') or 'UTC'", Some("UTC")),
        ("alternatives.get('x', alternatives.get('y', 'a'))", None),
    ] {
        let text = format!("spec:\n  containers:\n  - image: \"${{{expression}}}\"\n");
        let template = Template::parse("t.yaml", &text).unwrap();
        let found = template.variables()[0].default.as_deref();
        assert_eq!(found, default, "{expression}");
    }
}

#[test]
fn text_that_only_looks_special_is_kept() {
    for text in [
        "$(X) $X $$ {{x}} 100% a%b %",
        "# a comment with one sign",
        "a <b> </b> < % a",
        "a\\b \\n \\",
    ] {
        check_text(text, "", text);
    }
}

#[test]
fn comment_lines_are_dropped() {
    check_text(
        "a\n## dropped ${HOME} <%\n  ## too\nb ## kept",
        "",
        "a\nb ## kept",
    );
    check_text("a\n## joined \\\nto this\nb", "", "a\nb");
    let text = "## first\nspec:\n## <% x %>\n  containers: [{name: a}] # ok\n## last";
    assert_eq!(
        render(text, "").unwrap()["spec"],
        json!({"containers": [{"name": "a"}]})
    );
}

#[test]
fn percent_signs_and_backslashes() {
    check_text("%%a\n  %% b\n%%% c", "", "%a\n  % b\n%% c");
    check_text("a \\\nb", "", "a       b");
    check_text("a \\\r\nb", "", "a       b");
    check_text("a\\\\\nb", "", "a\\      b");
    // A control line may be joined as well.
    check_text(
        "% if 'x' \\\n  in alternatives:\nyes\n% endif\nend",
        "x=",
        "yes\nend",
    );
}

#[test]
fn blocks_of_text_and_doc() {
    check_text("a <%text>${b} <% c %></%text> d", "", "a ${b} <% c %> d");
    check_text("a <%doc>${b} <% c %></%doc>d", "", "a d");
    check_error("spec: <%text>", 1, "add `</%text>`");
    check_error("a: 1\nb: <%doc>\n", 2, "add `</%doc>`");
}

#[test]
fn code_in_a_template_is_rejected_with_its_line() {
    for text in [
        "<% x = 1 %>",
        "<%! import os %>",
        "<%include file=\"x\"/>",
        "<%def name=\"f()\">",
        "<%block>",
        "<%namespace name='a'/>",
        "<%inherit file='a'/>",
        "<%page args='a'/>",
        "<%text filter='h'>",
        "</%def>",
    ] {
        check_error(&format!("a: 1\n\nb: {text}\n"), 3, "not supported");
    }
}

#[test]
fn unknown_names_are_rejected_with_a_hint() {
    check_error("a: 1\nb: ${HOME}\n", 2, "`$HOME`");
    check_error("a: ${HOME}", 1, "`$(HOME)`");
    check_error("a: ${HOME:-/tmp}", 1, "`$HOME`");
    check_error("a: 1\n## ${X}\n# ${X}\n", 3, "`$X`");
    check_error("a: ${alternatives.x}", 1, "alternatives['x']");
    check_error("a: ${alternatives}", 1, "alternatives['x']");
    check_error("a: ${k}", 1, "`k` is not known");
    for text in [
        "a: ${",
        "a: ${}",
        "a: ${'x}",
        "a: ${'x'",
        "a: ${open('/etc/passwd')}",
        "a: ${alternatives['x'].upper()}",
        "a: ${alternatives['x'] + '1'}",
        "a: ${alternatives.get()}",
        "a: ${alternatives.pop('x')}",
        "a: ${1 < 2}",
        "a: ${'a' == 'b' == 'c'}",
        "a: ${'\\x41'}",
        "a: ${'\0'}",
        "a: ${0x1}",
        "a: ${1.2.3}",
        "a: ${1234567890123456}",
        "a: ${__import__('os')}",
        "a: ${lambda: 1}",
        "a: ${{}}",
        "a: ${'x' | sh}",
        "a: ${'x' |}",
        "a: ${'x' is 'x'}",
        "a: ${# x}",
        "a: ${alternatives[1]}",
        "a: ${alternatives[None]}",
        "a: ${alternatives['x'}",
        "a: ${alternatives.get('x', default='d')}",
        "a: ${alternatives['x'][0]}",
        "a: ${alternatives.items()}",
        "a: ${len(alternatives)}",
        "a: ${'a' 'b'}",
        "a: ${f'{x}'}",
        "a: ${'a' == 'b' in alternatives}",
        "a: ${x := 1}",
        "a: ${loop.index}",
        "a: ${'a',}",
        "a: ${'a'; 'b'}",
    ] {
        check_error(text, 1, "`");
    }
}

#[test]
fn values_are_formatted_as_by_python() {
    let query = "x=a+b&n=1&e=&q=%3Ca%3E%26%22%27&s=++t++";
    for (inside, expected) in [
        ("alternatives['x']", "a b"),
        ("alternatives[\"x\"]", "a b"),
        (" alternatives [ 'x' ] ", "a b"),
        ("alternatives\n['x']", "a b"),
        ("alternatives.get('x')", "a b"),
        ("alternatives.get('y')", "None"),
        ("alternatives.get('y', 'd')", "d"),
        ("alternatives.get('y','')", ""),
        ("alternatives.get('e', 'd')", ""),
        ("alternatives.get('y', alternatives['n'])", "1"),
        ("alternatives.get('y', 5)", "5"),
        ("alternatives.get('y') or 'd'", "d"),
        (
            "alternatives.get('e') or alternatives.get('x') or 'd'",
            "a b",
        ),
        ("alternatives.get('x') and 'd'", "d"),
        ("'yes' if 'x' in alternatives else 'no'", "yes"),
        ("'yes' if alternatives['n'] == '2' else 'no'", "no"),
        ("'text'", "text"),
        ("'it\\'s \\\"a\\\\b\\\"'", "it's \"a\\b\""),
        ("'${HOME}'", "${HOME}"),
        ("\"}|\"", "}|"),
        ("5", "5"),
        ("1.0", "1.0"),
        ("1.50", "1.5"),
        ("0.0001", "0.0001"),
        ("0.00001", "1e-05"),
        ("0.00000000000025", "2.5e-13"),
        ("99999999999999.5", "99999999999999.5"),
        ("True", "True"),
        ("None", "None"),
        ("'a' == 'a'", "True"),
        ("not 'a'", "False"),
        ("not not 'a'", "True"),
        ("alternatives['n'] == '1'", "True"),
        ("alternatives['n'] == 1", "False"),
        ("1 == 1.0", "True"),
        ("alternatives['n'] != '1'", "False"),
        ("'x' in alternatives and 'y' not in alternatives", "True"),
        ("'b' in alternatives['x']", "True"),
        ("'b' in (alternatives['x'])", "True"),
        ("alternatives['n'] in ('1', '2')", "True"),
        ("alternatives['n'] not in ['1', '2',]", "False"),
        ("'a' in ('b',)", "False"),
        ("alternatives.get('y') is None", "True"),
        ("alternatives.get('x') is not None", "True"),
        ("(('x'))", "x"),
    ] {
        check_value(inside, query, expected);
    }
}

#[test]
fn filters_behave_as_those_of_mako() {
    let query = "x=a+b&q=%3Ca%3E%26%22%27&s=++t++";
    for (inside, expected) in [
        ("alternatives['x'] | u", "a+b"),
        ("alternatives['q'] | u", "%3Ca%3E%26%22%27"),
        ("alternatives['q'] | h", "&lt;a&gt;&amp;&#34;&#39;"),
        ("alternatives['q'] | n", "<a>&\"'"),
        ("alternatives['s'] | trim", "t"),
        ("alternatives['s']|trim,u", "t"),
        ("alternatives['s'] | u, trim", "++t++"),
        (
            "'\u{1c}\u{1f}\u{85}\u{a0}\u{2028}\u{3000}t\u{b}\u{1e}' | trim",
            "t",
        ),
        ("'\u{200b}\u{feff}t' | trim", "\u{200b}\u{feff}t"),
        ("alternatives['q'] | x", "&lt;a&gt;&amp;&#34;&#39;"),
        (
            "alternatives['q'] | h, h",
            "&amp;lt;a&amp;gt;&amp;amp;&amp;#34;&amp;#39;",
        ),
        ("alternatives.get('y') | str", "None"),
        ("'ä~/' | u", "%C3%A4~%2F"),
    ] {
        check_value(inside, query, expected);
    }
}

#[test]
fn a_missing_variable_is_named() {
    let missing = |name: &str| {
        let name = name.to_owned();
        Err(RenderError::VariableMissing { name })
    };
    let text = with_args("    - ${alternatives['utcOffset']}\n");
    assert_eq!(render(&text, "x=1"), missing("utcOffset"));
    let text = with_args("    - ${alternatives[alternatives['a']]}\n");
    assert_eq!(render(&text, "a=b"), missing("b"));
    // As in Python, a default is worked out even if it is not needed.
    let text = with_args("    - ${alternatives.get('a', alternatives['b'])}\n");
    assert_eq!(render(&text, "a=1"), missing("b"));
    for text in [
        "'x' in alternatives.get('a')",
        "alternatives[alternatives.get('a')]",
    ] {
        let text = with_args(&format!("    - ${{{text}}}\n"));
        let Err(RenderError::Invalid(error)) = render(&text, "None=x") else {
            panic!("{text}");
        };
        assert_eq!(error.line, 5, "{error}");
    }
}

#[test]
fn control_lines_choose_lines() {
    let text = "% if 'x' in alternatives:\nis\n% elif alternatives.get('y') == '1':\ny1\n\
                % else:\nnone\n% endif\nend";
    check_text(text, "x=1", "is\nend");
    check_text(text, "y=1", "y1\nend");
    check_text(text, "y=2", "none\nend");
    check_text("%if True: # why\na\n%  endif # so\nb", "", "a\nb");
    let nested = "% if 'a' in alternatives:\n  % if 'b' in alternatives:\nab\n  % else:\na\n  % endif\n% endif\n.";
    check_text(nested, "a=&b=", "ab\n.");
    check_text(nested, "a=", "a\n.");
    check_text(nested, "b=", ".");
}

#[test]
fn loops_go_over_all_variables() {
    let text = "% for k, v in alternatives.items():\n${k}=${v};\n% endfor\n.";
    check_text(text, "b=1&a=2&b=3", "b=3;\na=2;\n.");
    check_text(text, "", ".");
    // A name is free again where its loop has ended.
    let twice = "% for k, v in alternatives.items():\n${v}\n% endfor\n".repeat(2) + ".";
    check_text(&twice, "a=1&b=2", "1\n2\n1\n2\n.");
    let text = "% for (k, v) in alternatives.items():\n% for l, w in alternatives.items():\n\
                % if k != l:\n${k}${w}\n% endif\n% endfor\n% endfor\n.";
    check_text(text, "a=1&b=2", "a2\nb1\n.");
    let env = "spec:\n  containers:\n  - name: app\n    env:\n% for k, v in alternatives.items():\n    \
               - name: ${k}\n      value: ${v}\n% endfor\n";
    let pod_template = render(env, "A=yes&B=0644").unwrap();
    assert_eq!(
        pod_template["spec"]["containers"][0]["env"],
        json!([{"name": "A", "value": "yes"}, {"name": "B", "value": "0644"}])
    );
}

#[test]
fn misplaced_control_lines_are_rejected() {
    for (text, line, part) in [
        ("a: 1\n% if True:\nb: 2\n", 2, "add `% endif`"),
        ("% for k, v in alternatives.items():\n", 1, "add `% endfor`"),
        ("a: 1\n% endif\n", 2, "without its `% if`"),
        ("% endfor\n", 1, "without its `% for`"),
        ("% else:\n", 1, "without its `% if`"),
        ("% elif True:\n", 1, "without its `% if`"),
        ("% if True:\n% else:\n% else:\n% endif", 3, "after `% else`"),
        ("% if True:\n% endfor\n", 2, "`% endif` is expected"),
        (
            "% for k, v in alternatives.items():\n% endif\n",
            2,
            "`% endfor` is expected",
        ),
        (
            "% for k, v in alternatives.items():\n% else:\n% endfor",
            2,
            "without its `% if`",
        ),
        ("% if True\n% endif", 1, "`:`"),
        ("% if :\n% endif", 1, "a value"),
        ("% if x:\n% endif", 1, "`x` is not known"),
        ("% for k in alternatives:\n% endfor", 1, "the only loop"),
        ("% for i in range(9):\n% endfor", 1, "the only loop"),
        (
            "% for alternatives, v in alternatives.items():\n% endfor",
            1,
            "cannot be called",
        ),
        (
            "% for k, v in alternatives.items():\n% for v, w in alternatives.items():\n% endfor\n% endfor",
            2,
            "`v` is already used",
        ),
        (
            "% while True:\n% endwhile",
            1,
            "not a supported control line",
        ),
        ("a: 1\n% import os\n", 2, "not a supported control line"),
        ("a: |\n  %d\n", 2, "write `%%`"),
        ("% endif x\n", 1, "not a supported control line"),
        ("%\n", 1, "not a supported control line"),
        (
            "% for k, v in alternatives.items():\n% endfor\na: ${k}",
            3,
            "`k` is not known",
        ),
    ] {
        check_error(text, line, part);
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        let begin = "% if True:\n".repeat(depth);
        let end = "% endif\n".repeat(depth);
        format!("{begin}spec: {{containers: [{{name: a}}]}}\n{end}")
    };
    assert!(render(&nested(CONTROL_DEPTH_MAX), "").is_ok());
    let beyond = u32::try_from(CONTROL_DEPTH_MAX + 1).unwrap();
    check_error(&nested(CONTROL_DEPTH_MAX + 1), beyond, "nested more than");
    let brackets = |depth: usize| {
        let value = format!("${{{}'x'{}}}", "(".repeat(depth), ")".repeat(depth));
        with_args(&format!("    - {value}\n"))
    };
    assert!(render(&brackets(EXPRESSION_DEPTH_MAX - 1), "").is_ok());
    check_error(&brackets(EXPRESSION_DEPTH_MAX), 5, "nested more than");
    check_error(&brackets(100_000), 5, "nested more than");
    // Chains do not nest.
    let chain = with_args(&format!("    - ${{{}'x'}}\n", "'' or not ".repeat(10_000)));
    let pod_template = render(&chain, "").unwrap();
    let args = &pod_template["spec"]["containers"][0]["args"];
    assert_eq!(args[0], "True");
}

#[test]
fn placeholders_and_steps_are_bounded() {
    let many = |count: usize| with_args(&"    - ${'x'}\n".repeat(count));
    assert!(render(&many(PLACEHOLDERS_MAX), "").is_ok());
    let line = u32::try_from(PLACEHOLDERS_MAX + 5).unwrap();
    check_error(&many(PLACEHOLDERS_MAX + 1), line, "placeholders `${…}`");
    let loops = |depth: usize, body: &str| {
        let begin: String = (0..depth)
            .map(|n| format!("% for k{n}, v{n} in alternatives.items():\n"))
            .collect();
        let end = "% endfor\n".repeat(depth);
        format!("spec: {{containers: [{{name: a}}]}}\n{begin}{body}{end}")
    };
    let query: Vec<String> = (0..VARIABLES_MAX).map(|n| format!("v{n}=1")).collect();
    let query = query.join("&");
    assert!(render(&loops(1, "# ${k0}\n"), &query).is_ok());
    for (depth, body) in [(2, "# ${k0}\n"), (8, ""), (3, "x\n"), (16, "\n")] {
        let rendered = render(&loops(depth, body), &query);
        assert_eq!(rendered, Err(RenderError::TooLarge), "{depth}");
    }
}

#[test]
fn variables_are_collected() {
    let args = |lines: &str| with_args(lines);
    check_variables(&args("    - a\n"), &[]);
    check_variables(
        &args("    - ${alternatives['b']} ${alternatives.get('a')} ${alternatives['b']}\n"),
        &[("b", true), ("a", false)],
    );
    check_variables(
        &args("    - ${alternatives.get('a') or alternatives['b']}\n"),
        &[("a", false), ("b", false)],
    );
    check_variables(
        &args("    - ${alternatives.get('a', alternatives['b'])}\n    - ${alternatives['a']}\n"),
        &[("a", true), ("b", true)],
    );
    check_variables(
        &args("    - ${alternatives['a'] if 'b' in alternatives else 'c'}\n"),
        &[("b", false), ("a", false)],
    );
    check_variables(
        "% if alternatives['m'] == '1':\nspec: ${alternatives['a']}\n% elif alternatives['n']:\n% endif\n\
         % for k, v in alternatives.items():\n${alternatives[k]} ${alternatives['l']}\n% endfor\n\
         ${alternatives['z']}",
        &[
            ("m", true),
            ("a", false),
            ("n", false),
            ("l", false),
            ("z", true),
        ],
    );
}

#[test]
fn a_template_without_containers_is_rejected() {
    for (text, line, part) in [
        ("", 1, "start with `spec:`"),
        ("# nothing\n", 1, "start with `spec:`"),
        ("- a\n", 1, "start with `spec:`"),
        ("text", 1, "start with `spec:`"),
        ("metadata: {}\n", 1, "must have `spec`"),
        ("metadata: {}\nspec:\n", 2, "must have `spec`"),
        ("spec: ${'x'}\n", 1, "must have `spec`"),
        ("spec:\n  a: 1\n", 2, "must have `spec`"),
        ("spec:\n  containers:\n", 2, "at least one"),
        ("spec:\n  containers: []\n", 2, "at least one"),
        ("spec:\n  containers: ${'x'}\n", 2, "at least one"),
        ("spec:\n  containers: {a: b}\n", 2, "at least one"),
        ("spec:\n  containers:\n  - a: 1\n  - b\n", 4, "each a map"),
        (
            "metadata: []\nspec:\n  containers: [{a: b}]\n",
            1,
            "`metadata` must be a map",
        ),
        (
            "metadata:\n  labels: x\nspec:\n  containers: [{a: b}]\n",
            2,
            "must be maps",
        ),
        (
            "metadata:\n  annotations: [x]\nspec:\n  containers: [{a: b}]\n",
            2,
            "must be maps",
        ),
    ] {
        check_error(text, line, part);
    }
}

#[test]
fn yaml_errors_name_the_line_of_the_template() {
    check_error("## one\na: 1\n## three\n\tb: 2\n", 4, "use spaces");
    check_error("a: x \\\n  y\nb: [\nc: 1\n", 3, "brackets");
    check_error("a: '${'x'}'\nb: *c\n", 2, "anchor");
    check_error("a: 1\nb: .inf\nspec: {containers: [{a: b}]}", 2, "`.inf`");
    check_error("a: 1\nb: \u{f0000}0\u{f0001}\n", 2, "U+F0000");
    check_error("spec: {containers: [{a: *x}]}", 1, "anchor");
    let chosen = "% if True:\nspec:\n  containers:\n  - a: [\n% endif\n";
    let Err(RenderError::Invalid(error)) = render(chosen, "") else {
        panic!("the list is not closed");
    };
    assert!(error.line == 4 || error.line == 5, "{error}");
    let long = "#".repeat(yaml::TEXT_BYTES_MAX + 1);
    check_error(&long, 1, "shorten it");
    assert!(Template::parse("t", "\u{feff}spec: {containers: [{a: b}]}").is_ok());
}

#[test]
fn a_template_may_say_when_its_app_is_ready() {
    for (text, expected) in [
        ("spec:\n  containers:\n  - name: a\n", false),
        (
            "spec:\n  containers:\n  - name: a\n  - name: b\n    readinessProbe: {}\n",
            true,
        ),
        (
            "spec:\n  containers:\n  - name: a\n    startupProbe: {}\n",
            true,
        ),
        (
            "spec:\n  readinessGates: []\n  containers:\n  - name: a\n",
            true,
        ),
        // That depends on a value.
        (
            "spec:\n  containers:\n  - name: a\n% if 'x' in alternatives:\n    readinessProbe: {}\n% endif\n",
            true,
        ),
    ] {
        let template = Template::parse("t", text).unwrap();
        assert_eq!(template.may_have_probe(), expected, "{text}");
    }
}

/// Its author could else keep the thread busy that follows all ConfigMaps.
#[test]
fn variables_cost_no_more_where_there_are_more() {
    let text = |count: usize| {
        let all: Vec<String> = (0..count)
            .map(|number| format!("'v{number}' in alternatives"))
            .collect();
        let condition = all.join(" or ");
        format!("spec:\n  containers:\n  - name: a\n% if {condition}:\n    tty: true\n% endif\n")
    };
    let time = |text: &str, count: usize| {
        let start = std::time::Instant::now();
        assert_eq!(Template::parse("t", text).unwrap().variables().len(), count);
        start.elapsed()
    };
    let [small, large] = [1000, 20_000].map(text);
    // By turns, so that other load slows down both; the least disturbed count.
    let times: Vec<_> = (0..3)
        .map(|_| (time(&small, 1000), time(&large, 20_000)))
        .collect();
    let least = times.iter().map(|(small, _)| *small).min().unwrap();
    let most = times.iter().map(|(_, large)| *large).min().unwrap();
    assert!(most < 60 * least, "{most:?} after {least:?}");
}
