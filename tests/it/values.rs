//! Values of callers for a template are data, in any form.

use serde_json::{Value, json};

use crate::harness::TestEnvironment;

/// Every form that a template may have, with the value of `x` in it.
const EACH_FORM: &str = r###"
## dropped ${HOME} <%
metadata:
  annotations:
    plain: a ${alternatives['x']} b
    double: "a ${alternatives["x"]} b"
    single: 'a ${alternatives['x']} b'
spec:
  restartPolicy: Never
  containers:
  - name: app
    image: example/app:1
    command: [run, ${alternatives['x']}, '${ alternatives [ 'x' ] }']
    args:
    - ${alternatives['x']}
    - ${alternatives.get('x', 'd')}
    - ${alternatives.get("nope", "d")}
    - ${alternatives.get('nope')}
    - ${alternatives.get('nope') or alternatives['x']}
    - ${alternatives['x'] if 'x' in alternatives else 'd'}
    - ${alternatives['x'] | u}
    - ${alternatives['x'] | h}
    - ${alternatives['x'] | trim}
    - |
      %% d ${alternatives['x']} \
      joined $HOME $(X) $$ {{x}} 5%
      ## dropped
      <%text>${HOME} % if</%text> <%doc>${HOME}</%doc># end
    - >-
      folded
      ${alternatives['x']}
    # a comment with ${alternatives['x']}
% if 'nope' in alternatives:
    - wrong
% elif alternatives['x'] == alternatives.get('x') and not 'x' not in alternatives:
    - elif ${alternatives['x']}
% else:
    - wrong
% endif
% if alternatives.get('x') != alternatives['x'] or 'nope' in alternatives:
    - wrong
% endif
    env:
    - name: FIRST
      value: ${alternatives['x']}
% for k, v in alternatives.items():
    - name: V_${k}
      value: ${v}
% endfor
"###;

/// Texts that might be taken for something else on their way.
const NASTY: &[&str] = &[
    "",
    "a",
    "'",
    "\"",
    "\"'\"",
    "a\nb",
    "\n",
    "\r\n",
    "a: b",
    ": ",
    "#",
    " # c",
    "{",
    "}",
    "[",
    "]",
    "{a: b}",
    "- ",
    "- a\n- b",
    "&a",
    "*a",
    "&a x",
    "!!binary aGk=",
    "${",
    "${alternatives['y']}",
    "${'x'}",
    "%",
    "% if True:",
    "\n% endif\n",
    "%%",
    "##",
    "\n## c",
    "\\",
    "a\\\n",
    "<% x %>",
    "</%text>",
    "<<",
    "---",
    "\n---\nb: c",
    "...",
    "~",
    "null",
    "yes",
    "0644",
    "1e400",
    ".inf",
    "|",
    ">-",
    "\t",
    " a ",
    "\u{1}\u{8}\u{c}\u{1b}\u{1f}.",
    "\u{7f}\u{80}\u{85}",
    "\u{2028}\u{2029}",
    "\u{feff}a",
    "\u{fffd}\u{fffe}\u{ffff}",
    "ä€",
    "😀👩‍💻",
    "\u{f0000}0\u{f0001}",
    "\u{10ffff}",
    "+",
    "&",
    "=",
    "a=b&c=d",
    "?",
    "/../",
    "%2541",
    "$(FIRST)",
    "{{x}}",
    "UTC\n    securityContext: {privileged: true}\n  hostNetwork: true",
];

/// In a query, with all that might mean something there escaped.
fn encoded(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'_' | b'.' | b'-' | b'~' => char::from(byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

fn html(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let text = text.replace('>', "&gt;").replace('"', "&#34;");
    text.replace('\'', "&#39;")
}

/// The pod template of the Job of that instance.
fn pod_template(environment: &TestEnvironment, job: &str) -> Value {
    let job = environment.job(job).expect("the Job is there");
    job["spec"]["template"].clone()
}

/// The value without its texts.
fn shape(value: &Value) -> Value {
    match value {
        Value::String(_) => json!(""),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| (key.clone(), shape(value)));
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}

/// What a container gets of a text, where its variable FIRST has this value (Kubernetes, "Define dependent
/// environment variables").
fn expanded(text: &Value, first: &str) -> Value {
    let mut expanded = String::new();
    let mut rest = text.as_str().expect("it is a text");
    while let Some((before, after)) = rest.split_once('$') {
        let (name, taken) = match (after.strip_prefix('('), after.strip_prefix('$')) {
            (_, Some(after)) => ("$", after),
            (Some(named), _) if named.starts_with("FIRST)") => (first, &named["FIRST)".len()..]),
            _ => ("$", after),
        };
        expanded += before;
        expanded += name;
        rest = taken;
    }
    Value::String(expanded + rest)
}

fn each_expanded(texts: &Value, first: &str) -> Value {
    let texts = texts.as_array().expect("it is a list").iter();
    texts.map(|text| expanded(text, first)).collect()
}

/// Starts an instance with `x` as `query` has it, and checks that `x` is `value` at each place.
#[track_caller]
fn check_each_form(environment: &TestEnvironment, name: &str, query: &str, value: &str) {
    environment.start_instance(&format!("/app/each/{name}?x={query}"));
    let found = pod_template(environment, &format!("each-{name}"));
    let block =
        format!("% d {value}       joined $HOME $(X) $ {{{{x}}}} 5%\n${{HOME}} % if # end\n");
    let container = &found["spec"]["containers"][0];
    let command = each_expanded(&container["command"], "another");
    assert_eq!(command, json!(["run", value, value]), "{value:?}");
    let args = json!([
        value,
        value,
        "d",
        "None",
        value,
        value,
        encoded(value).replace("%20", "+"),
        html(value),
        value.trim(),
        block,
        format!("folded {value}"),
        format!("elif {value}"),
    ]);
    let found_args = each_expanded(&container["args"], "another");
    assert_eq!(found_args, args, "{value:?}");
    for (place, name) in ["FIRST", "V_x"].into_iter().enumerate() {
        let variable = &container["env"][place];
        assert_eq!(variable["name"], name);
        assert_eq!(expanded(&variable["value"], "another"), value, "{value:?}");
    }
    assert_eq!(container["env"].as_array().map(Vec::len), Some(2));
    let padded = json!(format!("a {value} b"));
    let annotations = &found["metadata"]["annotations"];
    for style in ["plain", "double", "single"] {
        assert_eq!(annotations[style], padded, "{value:?}");
    }
    // The same as with harmless values, for every text.
    let harmless = pod_template(environment, "each-harmless");
    assert_eq!(shape(&found["spec"]), shape(&harmless["spec"]), "{value:?}");
}

#[test]
fn every_form_accepts_any_text() {
    let environment = TestEnvironment::builder()
        .template("each", EACH_FORM)
        .start();
    environment.start_instance("/app/each/harmless?x=harmless");
    for (number, value) in NASTY.iter().enumerate() {
        check_each_form(&environment, &format!("v{number}"), &encoded(value), value);
    }
    let long = "x#: ".repeat(1_000);
    check_each_form(&environment, "long", &encoded(&long), &long);
    // Bytes that are no UTF-8, and percent signs that begin no escape.
    check_each_form(&environment, "bytes", "%FFa%C3", "\u{fffd}a\u{fffd}");
    check_each_form(&environment, "percent", "%zz%4", "%zz%4");
    check_each_form(&environment, "last-wins", "1&x=2", "2");
}

#[test]
fn a_missing_variable_is_named() {
    let environment = TestEnvironment::builder()
        .template("each", EACH_FORM)
        .start();
    for query in ["", "?", "?y=1", "?X=1"] {
        let response = environment.get(&format!("/app/each/ann{query}"));
        let response = response.expect_error(422, "variable_missing");
        assert!(response.contains("'x'"), "{response}");
    }
    assert_eq!(environment.jobs(), [""; 0]);
}

#[test]
fn values_with_a_nul_are_rejected() {
    let environment = TestEnvironment::builder()
        .template("each", EACH_FORM)
        .start();
    // Kubernetes takes a NUL, and then the container never starts.
    for (query, expected) in [("x=a%00b", "`x`"), ("x=a&b%00=c", "NUL")] {
        let response = environment.get(&format!("/app/each/ann?{query}"));
        let response = response.expect_error(422, "variable_invalid");
        assert!(response.contains(expected), "{response}");
    }
    // Where it is not used, it does no harm.
    environment.start_instance("/app/hello/ann?x=%00");
    assert_eq!(environment.jobs(), ["hello-ann"]);
}

#[test]
fn values_are_bounded() {
    let repeated = "    - \"${alternatives['x']}\"\n".repeat(64);
    let text = format!(
        "spec:\n  restartPolicy: Never\n  containers:\n  - name: app\n    image: a\n    args:\n{repeated}"
    );
    let environment = TestEnvironment::builder()
        .template("each", EACH_FORM)
        .template(
            "once",
            &text.replace(&repeated, "    - ${alternatives['x']}\n"),
        )
        .template("many", &text)
        .setting("HEAD_BYTES_MAX", "131072")
        .start();
    let names = |count: usize| -> String { (1..count).map(|n| format!("&v{n}=")).collect() };
    environment.start_instance(&format!("/app/each/names?x=1{}", names(256)));
    // As much as a query has room for, at each place.
    environment.start_instance("/app/each/harmless?x=harmless");
    let much = "x#: ".repeat(6_500);
    check_each_form(&environment, "much", &encoded(&much), &much);
    let long = |bytes: usize| "a".repeat(bytes - "x=".len());
    environment.start_instance(&format!("/app/once/long?x={}", long(64 * 1024)));
    let found = pod_template(&environment, "once-long");
    assert_eq!(
        found["spec"]["containers"][0]["args"],
        json!([long(64 * 1024)])
    );
    // In JSON a control character is six bytes: 64 of these texts make just less than 1 MiB.
    environment.start_instance(&format!("/app/many/ann?x={}", "%01".repeat(2_700)));
    let jobs = environment.jobs().len();
    for (path, status, code, expected) in [
        (
            format!("/app/each/ann?x=1{}", names(257)),
            422,
            "variable_invalid",
            "256 variables",
        ),
        (
            format!("/app/each/ann?x={}", long(64 * 1024 + 1)),
            422,
            "variable_invalid",
            "65536 bytes",
        ),
        (
            format!("/app/many/bob?x={}", "%01".repeat(2_731)),
            422,
            "variable_invalid",
            "1048576 bytes",
        ),
        (
            format!("/app/many/bob?x={}", "%22".repeat(10_000)),
            422,
            "variable_invalid",
            "1048576 bytes",
        ),
        (
            format!("/app/each/ann?x={}", long(1024 * 1024)),
            414,
            "target_too_long",
            "",
        ),
    ] {
        let response = environment.get(&path).expect_error(status, code);
        assert!(response.contains(expected), "{response}");
    }
    assert_eq!(environment.jobs().len(), jobs);
}

/// A key or a number that a value made invalid is reported as such, and affects no other instance.
#[test]
fn values_that_kubernetes_refuses_are_reported() {
    let text = "metadata:\n  labels:\n    fixed: a\n    ${alternatives.get('key', 'k')}: ${alternatives.get('label', 'l')}\n\
                spec:\n  restartPolicy: Never\n  terminationGracePeriodSeconds: ${alternatives.get('grace', '5')}\n  \
                containers:\n  - {name: app, image: a}\n";
    let environment = TestEnvironment::builder().template("picky", text).start();
    for (query, code, expected) in [
        ("key=fixed", "variable_invalid", "`fixed`"),
        ("grace=.inf", "template_invalid", ".inf"),
        ("grace=1e400", "template_invalid", "64 bits"),
        ("label=a%0Ab", "template_invalid", "label"),
        ("key=a%20b", "template_invalid", "label"),
    ] {
        let response = environment.get(&format!("/app/picky/ann?{query}"));
        let response = response.expect_error(422, code);
        assert!(response.contains(expected), "{query}: {response}");
    }
    assert_eq!(environment.jobs(), [""; 0]);
    environment.start_instance("/app/picky/ann?grace=0x10&key=yes&label=0644");
    let found = pod_template(&environment, "picky-ann");
    assert_eq!(found["spec"]["terminationGracePeriodSeconds"], 16);
    assert_eq!(found["metadata"]["labels"]["yes"], "0644");
}
