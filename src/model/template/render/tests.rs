use super::*;
use serde_json::json;

#[track_caller]
fn template(text: &str) -> Template {
    Template::parse("t.yaml", text).unwrap()
}

fn one(value: &str) -> Variables {
    [("x", value)].into_iter().collect()
}

/// One variable at every kind of place.
const PLACES: &str = r#"
metadata:
  labels:
    plain: ${alternatives['x']}
    key-${alternatives['x']}: k
  annotations: {note: "a ${alternatives['x']} b"}
spec:
  restartPolicy: Never
  nodeSelector: {zone: ${alternatives['x']}}
  containers:
  - name: app
    image: reg/app:${alternatives['x']}
    command: [run, ${alternatives['x']}, '${alternatives['x']}']
    args:
    - ${alternatives['x']}
    - |
      echo ${alternatives['x']}
      exit
    - >-
      fold ${alternatives['x']}
      ed
    env:
    - name: TZ
      value: ${alternatives['x']}
    ports:
    - containerPort: ${alternatives['x']}
  terminationGracePeriodSeconds: 1${alternatives['x']}
"#;

fn expected_at_places(value: &str, port: &Value, grace: &Value) -> Value {
    json!({
        "metadata": {
            "labels": {"plain": value, format!("key-{value}"): "k"},
            "annotations": {"note": format!("a {value} b")},
        },
        "spec": {
            "restartPolicy": "Never",
            "nodeSelector": {"zone": value},
            "containers": [{
                "name": "app",
                "image": format!("reg/app:{value}"),
                "command": ["run", value, value],
                "args": [value, format!("echo {value}\nexit\n"), format!("fold {value} ed")],
                "env": [{"name": "TZ", "value": value}],
                "ports": [{"containerPort": port}],
            }],
            "terminationGracePeriodSeconds": grace,
        },
    })
}

#[test]
fn values_take_their_type_from_the_place() {
    let template = template(PLACES);
    for (value, port, grace) in [
        ("8080", json!(8080), json!(18080)),
        ("0644", json!(420), json!(10644)),
        ("yes", json!(true), json!("1yes")),
        ("", json!(null), json!(1)),
        ("null", json!(null), json!("1null")),
        ("1.10", json!(1.1), json!(11.1)),
        (" 5 ", json!(" 5 "), json!("1 5 ")),
        ("UTC", json!("UTC"), json!("1UTC")),
    ] {
        let rendered = template.render(&one(value));
        assert_eq!(rendered, Ok(expected_at_places(value, &port, &grace)));
    }
}

#[test]
fn values_cannot_change_the_structure() {
    let template = template(PLACES);
    for value in [
        "UTC\n    securityContext:\n      privileged: true",
        "x\"\n  hostNetwork: true\n#",
        "x', evil: true, y: '",
        "\"",
        "'",
        "`",
        ": ",
        " #",
        "#",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "a: b",
        "- a\n- b",
        "{a: b}",
        "[1]",
        "&a",
        "*a",
        "!!binary aGk=",
        "!foo",
        "<<",
        "| ",
        "|\n",
        ">-",
        "---",
        "\n---\n",
        "...",
        "%TAG",
        "${alternatives['y']}",
        "${",
        "}",
        "% if True:",
        "## x",
        "\\",
        "\\\n",
        "<% x %>",
        "\t",
        "\r\n",
        "\u{1}\u{7f}\u{85}\u{2028}\u{feff}",
        "\u{f0000}0\u{f0001}",
        "\u{f0000}",
        "ä€😀",
        "@",
        "?",
        "=",
    ] {
        let rendered = template.render(&one(value));
        let grace = json!(format!("1{value}"));
        assert_eq!(
            rendered,
            Ok(expected_at_places(value, &json!(value), &grace))
        );
    }
}

#[test]
fn an_injection_stays_a_value() {
    // What made a privileged Job with a hostPath volume of an environment variable.
    let template = template(
        "spec:\n  containers:\n  - name: app\n    env:\n    - name: TZ\n      value: ${alternatives['tz']}\n",
    );
    let tz = "UTC\n    securityContext: {privileged: true}\n  hostNetwork: true\n  volumes:\n  \
              - {name: root, hostPath: {path: /}}";
    let rendered = template.render(&[("tz", tz)].into_iter().collect());
    let expected = json!({
        "spec": {"containers": [{"name": "app", "env": [{"name": "TZ", "value": tz}]}]},
    });
    assert_eq!(rendered, Ok(expected));
}

#[test]
fn a_value_with_nul_is_rejected_by_name() {
    let template = template(PLACES);
    let refused = |name: &str| {
        let name = name.to_owned();
        Err(RenderError::ValueWithNul { name })
    };
    assert_eq!(template.render(&one("a\0b")), refused("x"));
    // One that is not used does no harm.
    let unused = [("x", "a"), ("y", "\0")].into_iter().collect();
    assert!(template.render(&unused).is_ok());
    let all = self::template(
        "spec:\n  containers:\n  - args:\n% for k, v in alternatives.items():\n    - ${k}\n% endfor\n",
    );
    assert_eq!(
        all.render(&[("a\0", "")].into_iter().collect()),
        refused("a\u{fffd}")
    );
}

#[test]
fn fields_that_kubernetes_requires_as_strings_keep_the_text() {
    let text = r"
metadata:
  labels: {a: 0644, b: yes, c: 1.10, d: 2001-01-01, e: 1e400, f: 'x', g: .inf, h: ~, on: off}
  annotations:
    &a n: &b 18446744073709551616
spec:
  nodeSelector: {a: 1_000}
  initContainers:
  - command: [1, no]
    lifecycle: {preStop: {exec: {command: [sleep, 5]}}}
  containers:
  - name: yes
    args: [0x1F, !!str 12, !!binary aGk=, *b]
    env:
    - {name: N, value: 1e3}
    - name: E
      value:
    - {name: F, valueFrom: {fieldRef: {optional: yes}}}
    livenessProbe: {exec: {command: [on]}, periodSeconds: 0b11}
  topologySpreadConstraints: [{labelSelector: {matchLabels: {a: 1}}, maxSkew: 1}]
  volumes:
  - configMap: {defaultMode: 0644}
";
    let expected = json!({
        "metadata": {
            "labels": {
                "a": "0644", "b": "yes", "c": "1.10", "d": "2001-01-01", "e": "1e400", "f": "x",
                "g": ".inf", "h": null, "true": "off",
            },
            "annotations": {"false": "18446744073709551616"},
        },
        "spec": {
            "nodeSelector": {"a": "1_000"},
            "initContainers": [{
                "command": ["1", "no"],
                "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
            }],
            "containers": [{
                "name": true,
                "args": ["0x1F", "12", "hi", "18446744073709551616"],
                "env": [
                    {"name": "N", "value": "1e3"},
                    {"name": "E", "value": null},
                    {"name": "F", "valueFrom": {"fieldRef": {"optional": true}}},
                ],
                "livenessProbe": {"exec": {"command": ["on"]}, "periodSeconds": 3},
            }],
            "topologySpreadConstraints": [{"labelSelector": {"matchLabels": {"a": "1"}}, "maxSkew": 1}],
            "volumes": [{"configMap": {"defaultMode": 420}}],
        },
    });
    assert_eq!(template(text).render(&Variables::default()), Ok(expected));
}

#[test]
fn tags_and_quotes_hold_for_values() {
    let template = template(
        "spec:\n  containers:\n  - a: '${alternatives['x']}'\n    b: !!str ${alternatives['x']}\n    \
         c: !foo ${alternatives['x']}\n    d: \"${alternatives['x']}\"\n    e: ${alternatives['x']}\n",
    );
    let rendered = template.render(&one("12")).unwrap();
    assert_eq!(
        rendered["spec"]["containers"][0],
        json!({"a": "12", "b": "12", "c": "12", "d": "12", "e": 12})
    );
    let error = template.render(&one("1e400")).unwrap_err();
    assert!(
        matches!(&error, RenderError::Invalid(error) if error.line == 7),
        "{error}"
    );
}

#[test]
fn anchors_and_merges_are_filled_in_everywhere() {
    let template = template(
        "base: &base {image: ${alternatives['x']}, name: a}\nspec:\n  containers:\n  - <<: *base\n    \
         name: b\n  - *base\n",
    );
    let rendered = template.render(&one("i:1")).unwrap();
    assert_eq!(
        rendered["spec"]["containers"],
        json!([{"image": "i:1", "name": "b"}, {"image": "i:1", "name": "a"}])
    );
}

#[test]
fn a_value_in_a_key_is_one_key() {
    let template = template(
        "metadata:\n  labels:\n    ${alternatives['x']}: 1\n    fixed: 2\n    <<: {m: 3}\nspec:\n  containers: [{a: b}]\n",
    );
    for key in ["k", "<<", "yes", "a: b", "", "0644", "x\ny"] {
        let rendered = template.render(&one(key)).unwrap();
        let expected = json!({key: "1", "fixed": "2", "m": "3"});
        assert_eq!(rendered["metadata"]["labels"], expected, "{key}");
    }
    let twice = |key: &str, line: u32| {
        let key = key.to_owned();
        Err(RenderError::KeyTwice { line, key })
    };
    assert_eq!(template.render(&one("fixed")), twice("fixed", 4));
    assert_eq!(template.render(&one("m")), twice("m", 5));
}

#[test]
fn the_result_is_bounded() {
    let once = template("spec:\n  containers:\n  - a: ${alternatives['x']}\n");
    let keys = "speccontainersa".len();
    let at_bound = "x".repeat(RENDERED_BYTES_MAX - keys);
    assert!(once.render(&one(&at_bound)).is_ok());
    assert_eq!(
        once.render(&one(&(at_bound + "x"))),
        Err(RenderError::TooLarge)
    );
    let mebibyte = "x".repeat(1024 * 1024);
    assert_eq!(
        template(PLACES).render(&one(&mebibyte)),
        Err(RenderError::TooLarge)
    );
    // In JSON a quote is two bytes, and most control characters are six.
    for (text, bytes) in [
        ("\"", 2),
        ("\\", 2),
        ("\n", 2),
        ("\u{8}", 2),
        ("\u{1}", 6),
        ("\u{7f}", 1),
    ] {
        let fit = text.repeat((RENDERED_BYTES_MAX - keys) / bytes);
        let rendered = once.render(&one(&fit)).unwrap();
        assert!(
            rendered.to_string().len() <= RENDERED_BYTES_MAX + 64,
            "{text:?}"
        );
        let beyond = once.render(&one(&(fit + text)));
        assert_eq!(beyond, Err(RenderError::TooLarge), "{text:?}");
    }
    // A value behind aliases counts each time.
    let aliases = format!(
        "x: [&a '${{alternatives['x']}}', {}]\nspec:\n  containers: [{{a: b}}]\n",
        "*a,".repeat(20_000)
    );
    let aliases = template(&aliases);
    assert!(aliases.render(&one("x")).is_ok());
    assert_eq!(
        aliases.render(&one(&"x".repeat(10_000))),
        Err(RenderError::TooLarge)
    );
}

#[test]
fn a_template_may_be_used_often() {
    let template = template(PLACES);
    assert_eq!(template.render(&one("a")), template.render(&one("a")));
    assert_eq!(template.source_name, "t.yaml");
}

#[test]
fn a_forged_placeholder_is_text() {
    let template = template(
        "spec:\n  containers:\n  - {a: ${'x'}, b: \"\\U000f00007\\U000f0001\", c: \"\\U000f0000\"}\n",
    );
    let rendered = template.render(&Variables::default()).unwrap();
    // The number of a value that does not exist; what matters is that nothing breaks.
    assert_eq!(rendered["spec"]["containers"][0]["a"], "x");
}

#[test]
fn a_check_finds_that_a_variable_is_missing_in_any_template() {
    let container = "spec:\n  containers:\n  - name: ${alternatives['x']}\n";
    let optional = "    image: ${alternatives.get('y', 'a')}\n";
    let conditional = "% if 'z' in alternatives:\n    image: ${alternatives['z']}\n% endif\n";
    let long = format!("    # {}\n", "x".repeat(100_000));
    for rest in ["", optional, conditional, &long] {
        let template = template(&format!("{container}{rest}"));
        let missing = template.check(&[("X", "a")].into_iter().collect());
        let name = "x".to_owned();
        assert_eq!(
            missing,
            Err(RenderError::VariableMissing { name }),
            "{rest}"
        );
        for given in [vec![("x", "a")], vec![("z", "b"), ("x", "a")]] {
            let given: Variables = given.into_iter().collect();
            assert_eq!(template.check(&given), Ok(()), "{rest}");
            assert!(template.render(&given).is_ok(), "{rest}");
        }
    }
}

/// Where Kubernetes replaces `$(NAME)`, a value is escaped; elsewhere it is as it was.
#[test]
fn a_value_refers_to_no_variable_of_the_container() {
    let text = "
metadata: {annotations: {note: $(OWN) ${alternatives['x']}}}
spec:
  containers:
  - name: app
    image: ${alternatives['x']}
    workingDir: /$${alternatives['x']}
    command: [run, $(OWN) ${alternatives['x']}]
    args: [a$${alternatives['x']}, '$$(${alternatives[\"x\"]})', $$(OWN)]
    env:
    - {name: '${alternatives[\"x\"]}', value: '${alternatives[\"x\"]}${alternatives[\"x\"]} $$'}
    volumeMounts: [{name: v, subPathExpr: $(OWN)/${alternatives['x']}}]
    livenessProbe: {exec: {command: [test, ${alternatives['x']}]}}
    lifecycle: {preStop: {exec: {command: [stop, ${alternatives['x']}]}}}
";
    let rendered = template(text).render(&one("$(PW)")).unwrap();
    let expected = json!({
        "metadata": {"annotations": {"note": "$(OWN) $(PW)"}},
        "spec": {"containers": [{
            "name": "app",
            "image": "$(PW)",
            "workingDir": "/$$(PW)",
            "command": ["run", "$(OWN) $$(PW)"],
            "args": ["a$$$$(PW)", "$$($$(PW))", "$$(OWN)"],
            "env": [{"name": "$(PW)", "value": "$$(PW)$$(PW) $$"}],
            "volumeMounts": [{"name": "v", "subPathExpr": "$(OWN)/$$(PW)"}],
            "livenessProbe": {"exec": {"command": ["test", "$$(PW)"]}},
            "lifecycle": {"preStop": {"exec": {"command": ["stop", "$(PW)"]}}},
        }]},
    });
    assert_eq!(rendered, expected);
    // Alone, without a `$`: as before.
    let simple = template(text).render(&one("5")).unwrap();
    assert_eq!(simple["spec"]["containers"][0]["command"][1], "$(OWN) 5");
}
