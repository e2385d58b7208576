//! What kubectl makes of a text was measured by running its YAML library (sigs.k8s.io/yaml 1.6).

use super::*;
use std::sync::mpsc;
use std::time::Duration;

#[track_caller]
fn check(text: &str, expected: &str) {
    let json = parse(text).and_then(|tree| tree.to_json());
    let json = json.map(|value| value.to_string());
    assert_eq!(json.as_deref(), Ok(expected), "{text:?}");
}

#[track_caller]
fn check_error(text: &str, line: u32, kind: ErrorKind) {
    let error = parse(text).and_then(|tree| tree.to_json()).unwrap_err();
    assert_eq!(error, Error::new(line, kind), "{text:?}");
}

#[test]
fn plain_words_have_types() {
    for text in [
        "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE",
    ] {
        check(text, "true");
    }
    for text in [
        "n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE",
    ] {
        check(text, "false");
    }
    for text in [
        "~", "null", "Null", "NULL", "", "\n", "# c", "---", "---\n---",
    ] {
        check(text, "null");
    }
    for text in [
        "yEs",
        "oN",
        "tRUE",
        "nULL",
        "yes please",
        "=",
        "_1",
        "1.2.3",
        "0x",
        "0b12",
        "x",
    ] {
        check(text, &format!("{text:?}"));
    }
}

#[test]
fn numbers_are_read_as_kubectl_reads_them() {
    for (text, expected) in [
        ("0644", "420"),
        ("010", "8"),
        ("08", "8"),
        ("0_8", "8"),
        ("0o644", "420"),
        ("0O7", "7"),
        ("0x1F", "31"),
        ("0X1f", "31"),
        ("-0x1F", "-31"),
        ("0x_1F", "31"),
        ("0b11", "3"),
        ("+0b11", "3"),
        ("1_000", "1000"),
        ("1__0", "10"),
        ("+12", "12"),
        ("-0", "0"),
        ("1.10", "1.1"),
        ("1.", "1"),
        (".5", "0.5"),
        ("+.5", "0.5"),
        (".5_0", "0.5"),
        ("1_0.5", "10.5"),
        ("1e3", "1000"),
        ("1.e5", "100000"),
        ("1e-7", "1e-7"),
        ("1e17", "100000000000000000"),
        ("1152921504606846976.0", "1152921504606847000"),
        ("9223372036854775808", "9223372036854775808"),
        ("18446744073709551615", "18446744073709551615"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("12:30:45", r#""12:30:45""#),
        ("2001-01-01", r#""2001-01-01""#),
        ("2001-01-01T00:00:00Z", r#""2001-01-01T00:00:00Z""#),
        ("0x1p4", r#""0x1p4""#),
        ("1e", r#""1e""#),
        ("._5", r#""._5""#),
        ("+-1", r#""+-1""#),
        ("0x+1", r#""0x+1""#),
    ] {
        check(text, expected);
    }
}

#[test]
fn numbers_without_a_json_form_are_rejected() {
    for text in [".inf", "+.Inf", "-.INF", ".nan", ".NaN"] {
        check_error(&format!("a: 1\nb: {text}"), 2, ErrorKind::NotFinite);
    }
    for text in [
        "1e400",
        "-1e400",
        ".5e400",
        "18446744073709551616",
        "123456789012345678901",
        "-9223372036854775809",
        "+9223372036854775808",
        "-9_223_372_036_854_775_809",
    ] {
        check_error(&format!("a: 1\nb: {text}"), 2, ErrorKind::NumberTooLarge);
    }
    check("'.inf'", r#"".inf""#);
}

#[test]
fn styles_make_strings() {
    check("a: '12'", r#"{"a":"12"}"#);
    check("a: \"yes\"", r#"{"a":"yes"}"#);
    check("a: |\n  12\n", r#"{"a":"12\n"}"#);
    check("a: |\n  12", r#"{"a":"12"}"#);
    check("a: >-\n  x\n  y\n", r#"{"a":"x y"}"#);
    check("a: 'x\n\n  y'", r#"{"a":"x\ny"}"#);
    check("a: x\n  y", r#"{"a":"x y"}"#);
    check("a: ''", r#"{"a":""}"#);
}

#[test]
fn keys_become_strings() {
    check("on: 1\n", r#"{"true":1}"#);
    check("y: 1\nn: 2", r#"{"true":1,"false":2}"#);
    check("0x10: a", r#"{"16":"a"}"#);
    check("1.10: a", r#"{"1.1":"a"}"#);
    check("1e3: a", r#"{"1000":"a"}"#);
    check("1e6: a", r#"{"1e+06":"a"}"#);
    check("0.00001: a", r#"{"1e-05":"a"}"#);
    check("123456789.5: a", r#"{"1.2345679e+08":"a"}"#);
    check("2001-01-01: a", r#"{"2001-01-01":"a"}"#);
    check("'on': 1", r#"{"on":1}"#);
    check("&k on: 1\nb: *k", r#"{"true":1,"b":true}"#);
    check("b: &k x\n*k : 1", r#"{"b":"x","x":1}"#);
    for text in [
        "~: 1",
        "null: 1",
        ": 1",
        "? [a]\n: 1",
        "{a: 1}: 2",
        "18446744073709551615: 1",
        "1e400: 1",
    ] {
        check_error(text, 1, ErrorKind::BadKey);
    }
    check_error("a: &a [x]\n*a : 1", 2, ErrorKind::BadKey);
}

#[test]
fn the_last_duplicate_key_wins() {
    check("a: 1\nb: 2\na: 3", r#"{"a":3,"b":2}"#);
    check("{1: a, '1': b}", r#"{"1":"b"}"#);
    check("on: 1\n'true': 2\n", r#"{"true":2}"#);
}

#[test]
fn merge_keys_are_resolved_in_their_order() {
    check("<<: {a: 2}\na: 1", r#"{"a":1}"#);
    // Odd, but so kubectl does: what comes later wins, merged or not.
    check("a: 1\n<<: {a: 2}", r#"{"a":2}"#);
    check(
        "b: &b {x: 1}\nc: &c {<<: *b, z: 2}\nd: {<<: [*c, {x: 5, w: 3}]}",
        r#"{"b":{"x":1},"c":{"x":1,"z":2},"d":{"x":1,"w":3,"z":2}}"#,
    );
    check("'<<': {a: 1}", r#"{"<<":{"a":1}}"#);
    check("!!merge <<: {a: 1}", r#"{"a":1}"#);
    check("a: <<", r#"{"a":"<<"}"#);
    check("<<: []\na: 1", r#"{"a":1}"#);
    for text in ["<<: 1", "<<: ~", "<<: [1]", "<<: [[{a: 1}]]"] {
        check_error(text, 1, ErrorKind::BadMerge);
    }
    check_error("x: &x 1\n<<: *x", 2, ErrorKind::BadMerge);
}

#[test]
fn tags_are_heeded_dropped_or_refused() {
    check("!foo bar", r#""bar""#);
    check("!foo 12", r#""12""#);
    check("! 12", r#""12""#);
    check("a: !foo", r#"{"a":""}"#);
    check("!foo {a: 1}", r#"{"a":1}"#);
    check("!!set {a, b}", r#"{"a":null,"b":null}"#);
    check("!!str 12", r#""12""#);
    check("!!str", r#""""#);
    check("!<tag:yaml.org,2002:str> 12", r#""12""#);
    check("!!binary aGk=", r#""hi""#);
    check("!!binary |\n  aG\n  k=\n", r#""hi""#);
    check("!!binary //8=", "\"\u{fffd}\u{fffd}\"");
    check("!!int '12'", "12");
    check("!!float 1", "1");
    check("!!bool 'yes'", "true");
    check("!!null ''", "null");
    check("!!timestamp 2001-01-01", r#""2001-01-01""#);
    for (tag, text) in [
        ("int", "1.5"),
        ("int", "1e3"),
        ("bool", "1"),
        ("null", "x"),
        ("float", "x"),
        ("timestamp", "foo"),
    ] {
        check_error(
            &format!("a:\n  !!{tag} {text}"),
            2,
            ErrorKind::BadTag(tag.into()),
        );
    }
    check_error("!!binary x", 1, ErrorKind::BadBinary);
}

#[test]
fn documents_and_encodings() {
    check("---\na: 1", r#"{"a":1}"#);
    check("# c\n--- # c\na: 1\n--- # c\n# d\n", r#"{"a":1}"#);
    check("a: 1\n...\n", r#"{"a":1}"#);
    check("%YAML 1.1\n---\na: 1\n...\n---\n~\n", r#"{"a":1}"#);
    // kubectl's library takes the first and drops the others, which no author intends.
    for (text, line) in [
        ("--- a\n--- b", 2),
        ("---\n---\nb", 2),
        ("a: 1\n---\n\nb: [", 2),
        ("a: &a 1\n---\n- &b\n", 2),
        ("a: 1\n---\n---\n''", 3),
        ("a: 1\n---\n!!str\n", 2),
        ("a: 1\n...\n---\nb: 1\n", 3),
    ] {
        check_error(text, line, ErrorKind::SecondDocument);
    }
    check("\u{feff}a: b", r#"{"a":"b"}"#);
    check("a: b\r\nc: d\r\n", r#"{"a":"b","c":"d"}"#);
    check("a:\tb", r#"{"a":"b"}"#);
    check("a: 'ä'", r#"{"a":"ä"}"#);
}

#[test]
fn aliases_are_resolved() {
    check("a: &x 1\nb: *x", r#"{"a":1,"b":1}"#);
    check("a: &x\nb: *x", r#"{"a":null,"b":null}"#);
    check("a: &x 1\nb: &x 2\nc: *x", r#"{"a":1,"b":2,"c":2}"#);
    check("- &a {b: [1]}\n- *a", r#"[{"b":[1]},{"b":[1]}]"#);
    check_error("a: 1\nb: *x", 2, ErrorKind::UnknownAlias);
    check_error("- 1\n- &a [*a]", 2, ErrorKind::AliasOfItself);
    check_error("a: &a\n  b: *a", 2, ErrorKind::AliasOfItself);
}

#[test]
fn errors_name_the_line_and_the_fix() {
    check_error("a:\n\tb: c", 2, ErrorKind::Tab);
    check_error("\ta: b", 1, ErrorKind::Tab);
    check_error("# c\n\n  \ta: b", 3, ErrorKind::Tab);
    let message = |text: &str| parse(text).unwrap_err().to_string();
    assert_eq!(
        message("a:\n  b: 1\n\tc: 2"),
        "line 3: a tab in the indentation; use spaces"
    );
    assert_eq!(
        message("a: b: c"),
        "line 1: a second `: ` in one line; quote the value, or begin a new line"
    );
    for text in ["a: [1, 2", "a: {b: 1", "a: ]"] {
        assert!(message(text).contains("brackets"), "{text}");
    }
    for text in ["a: 'x", "a: \"x"] {
        assert!(message(text).contains("quote"), "{text}");
    }
    assert!(message("a: 1\nb").contains("colon"));
    assert!(message("a: @x").contains("quotes"));
    assert!(message("a: \"\\z\"").contains("backslash"));
    assert!(parse("a: \u{1}").is_err());
    assert!(parse("a: \0").is_err());
}

#[test]
fn a_scalar_keeps_text_style_and_line() {
    let tree = parse("a:\n- 0644\n- '0644'\n- !!str yes\n- !!binary aGk=\n- x\n  y\n").unwrap();
    let list = tree.get(tree.root(), "a").unwrap();
    let Kind::Sequence(items) = &tree.node(list).kind else {
        panic!("a list was written");
    };
    let mut seen = Vec::new();
    for item in items {
        let node = tree.node(*item);
        let Kind::Scalar(scalar) = &node.kind else {
            panic!("scalars were written");
        };
        seen.push((node.line, scalar.text.as_str(), scalar.plain));
    }
    let expected = [
        (2, "0644", true),
        (3, "0644", false),
        (4, "yes", false),
        (5, "hi", false),
        (6, "x y", true),
    ];
    assert_eq!(seen, expected);
    assert!(tree.get(list, "a").is_none());
}

#[test]
fn the_length_is_bounded() {
    let text = |length: usize| format!("a: {}", "x".repeat(length - 3));
    assert!(parse(&text(TEXT_BYTES_MAX)).is_ok());
    check_error(
        &text(TEXT_BYTES_MAX + 1),
        1,
        ErrorKind::TooLong(TEXT_BYTES_MAX),
    );
}

#[test]
fn bounds_can_be_others_than_those_of_templates() {
    let bounds = Bounds {
        text_bytes: 10,
        nodes: 3,
        expanded_bytes: 4,
    };
    let kind = |text: &str| {
        parse_within(text, bounds)
            .map(|_| ())
            .map_err(|error| error.kind)
    };
    assert_eq!(kind("[ab, cd]  "), Ok(()));
    assert_eq!(kind("[ab, cd]   "), Err(ErrorKind::TooLong(10)));
    assert_eq!(kind("[a, b, c]"), Err(ErrorKind::TooManyNodes(3)));
    assert_eq!(kind("[ab, cde]"), Err(ErrorKind::TooMuchText(4)));
    assert!([".inf", "1e400"].iter().all(|text| {
        let json = parse(text).and_then(|tree| tree.to_json());
        json.unwrap_err().kind.is_bound()
    }));
    assert!(!parse("[").unwrap_err().kind.is_bound());
}

#[test]
fn the_depth_is_bounded() {
    let flow = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(parse(&flow(DEPTH_MAX)).is_ok());
    check_error(&flow(DEPTH_MAX + 1), 1, ErrorKind::TooDeep);
    let block = |depth: usize| "- ".repeat(depth) + "x";
    assert!(parse(&block(DEPTH_MAX)).is_ok());
    check_error(&block(DEPTH_MAX + 1), 1, ErrorKind::TooDeep);
    check_error(&flow(500_000), 1, ErrorKind::TooDeep);
    // An alias brings its own depth along.
    let alias = |depth: usize| {
        format!(
            "- &a {}\n- {}*a{}",
            flow(DEPTH_MAX - 3),
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    assert!(parse(&alias(2)).is_ok());
    check_error(&alias(3), 2, ErrorKind::TooDeep);
}

#[test]
fn the_number_of_nodes_is_bounded() {
    // The list is a node as well.
    let list = |items: usize| format!("[{}]", "x,".repeat(items));
    assert!(parse(&list(NODES_MAX - 1)).is_ok());
    check_error(&list(NODES_MAX), 1, ErrorKind::TooManyNodes(NODES_MAX));
    // Aliases count as what they stand for: 100 and a list, then 101 each.
    let aliases = |count: usize| format!("- &a {}\n- [{}]", list(100), "*a,".repeat(count));
    let fit = (NODES_MAX - 103) / 101;
    assert!(parse(&aliases(fit)).is_ok());
    check_error(&aliases(fit + 1), 2, ErrorKind::TooManyNodes(NODES_MAX));
}

#[test]
fn text_behind_aliases_is_bounded() {
    let text = |aliases: usize| {
        let anchor = "x".repeat(64 * 1024);
        format!("- &a {anchor}\n- [{}]", "*a,".repeat(aliases))
    };
    let fit = EXPANDED_BYTES_MAX / (64 * 1024) - 1;
    assert!(parse(&text(fit)).is_ok());
    check_error(
        &text(fit + 1),
        2,
        ErrorKind::TooMuchText(EXPANDED_BYTES_MAX),
    );
    check_error(&text(20_000), 2, ErrorKind::TooMuchText(EXPANDED_BYTES_MAX));
}

#[test]
fn an_alias_bomb_is_rejected() {
    let mut text = "a0: &a0 [lol]\n".to_owned();
    for level in 1..=20 {
        let aliases = format!("*a{},", level - 1).repeat(9);
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    assert!(matches!(
        parse(&text).unwrap_err().kind,
        ErrorKind::TooManyNodes(NODES_MAX)
    ));
    let mut text = "a0: &a0 {k: lol}\n".to_owned();
    for level in 1..=20 {
        let aliases = format!("*a{},", level - 1).repeat(9);
        text.push_str(&format!("a{level}: &a{level} {{<<: [{aliases}]}}\n"));
    }
    assert!(matches!(
        parse(&text).unwrap_err().kind,
        ErrorKind::TooManyNodes(NODES_MAX)
    ));
}

/// What is linear takes a hundredth of this, and what is quadratic takes far longer.
const LITTLE_TIME: Duration = Duration::from_secs(60);

#[test]
fn hostile_texts_are_refused_or_parsed_quickly() {
    for piece in [
        "[",
        "{",
        "- ",
        "? ",
        "{a: ",
        "'",
        "\"",
        "&a ",
        "!a ",
        "*a ",
        "|\n ",
        "#",
        "\n",
        "a: ",
        "a:\n",
        "[]",
        "x\n",
        "%",
        ": ",
        "\t",
        "<<: ",
        "a: b\n",
        "- a\n",
        "[a,",
        "{a,",
        "a ",
        "---\n",
        "\\",
        "\u{2028}",
        "\u{85}",
        " \u{2028}",
        "a\u{2028} ",
        "a: b\u{2028}",
    ] {
        let text = piece.repeat(TEXT_BYTES_MAX / piece.len());
        let (done, ended) = mpsc::channel();
        std::thread::spawn(move || {
            let _ = parse(&text).and_then(|tree| tree.to_json());
            done.send(())
        });
        let ended = ended.recv_timeout(LITTLE_TIME);
        assert_eq!(ended, Ok(()), "{TEXT_BYTES_MAX} bytes of {piece:?}");
    }
}

/// One text for each row of what was measured of kubectl, and for what a parser of YAML 1.2 would
/// make something else of.
#[test]
fn a_manifest_is_read_as_kubectl_reads_it() {
    check(
        "a: [yes, no, on, off, y, n]",
        r#"{"a":[true,false,true,false,true,false]}"#,
    );
    check("on: a", r#"{"true":"a"}"#);
    check("y: a\nn: b", r#"{"true":"a","false":"b"}"#);
    check(
        "[0644, 010, 1_000, 0o644, 0x1F, 0b11, 08]",
        "[420,8,1000,420,31,3,8]",
    );
    check("[12:30:45, 2026-05-01]", r#"["12:30:45","2026-05-01"]"#);
    check("a: 1\na: 2", r#"{"a":2}"#);
    check(
        "b: &b {x: 1}\nc: {<<: *b, z: 2}",
        r#"{"b":{"x":1},"c":{"x":1,"z":2}}"#,
    );
    check("---\na: 1\n", r#"{"a":1}"#);
    check_error("a: 1\n---\nb: 1\n", 2, ErrorKind::SecondDocument);
    check("[!foo bar, !!binary aGk=]", r#"["bar","hi"]"#);
    check_error("a: .inf", 1, ErrorKind::NotFinite);
    check_error("a: 1e400", 1, ErrorKind::NumberTooLarge);
    check_error("a: 18446744073709551616", 1, ErrorKind::NumberTooLarge);
    check(
        "[18446744073709551615, -9223372036854775808]",
        "[18446744073709551615,-9223372036854775808]",
    );
    check_error("a:\n  b: 1\n\tc: 2\n", 3, ErrorKind::Tab);
    check("\u{feff}a: b\r\nc: d\r\n", r#"{"a":"b","c":"d"}"#);
    check("", "null");
    check("a:\nb: ''\nc: ~", r#"{"a":null,"b":"","c":null}"#);
    check_error("a: *x", 1, ErrorKind::UnknownAlias);
    check_error("a: &x [*x]", 1, ErrorKind::AliasOfItself);
    check(
        "{1: a, 1.5: b, true: c, 0x10: d}",
        r#"{"1":"a","1.5":"b","true":"c","16":"d"}"#,
    );
}

/// kubectl's reader follows YAML 1.1, where these end lines.
#[test]
fn other_line_breaks_are_those_of_kubectl() {
    for (text, expected) in [
        ("a: b\u{2028}c: d", r#"{"a":"b","c":"d"}"#),
        ("a: b \u{2029}c: d", r#"{"a":"b","c":"d"}"#),
        ("a: b\u{85}c: d", r#"{"a":"b","c":"d"}"#),
        ("a: b # c\u{2028}d: e", r#"{"a":"b","d":"e"}"#),
        ("# c\u{85}d: e", r#"{"d":"e"}"#),
        ("- a\u{2028}- b", r#"["a","b"]"#),
        ("a:\u{2028}  b: c", r#"{"a":{"b":"c"}}"#),
        ("a: [b,\u{2028}c]", r#"{"a":["b","c"]}"#),
        ("a: {b: c,\u{85}d: e}", r#"{"a":{"b":"c","d":"e"}}"#),
        ("a: b\u{85}  c", r#"{"a":"b c"}"#),
        ("a: b\u{85}\u{85}  c", r#"{"a":"b\nc"}"#),
        ("a: b\u{2028}  c", "{\"a\":\"b\u{2028}c\"}"),
        ("a: b\u{2029}  c", "{\"a\":\"b\u{2029}c\"}"),
        ("a: \"b\u{2028}  c\"", "{\"a\":\"b\u{2028}c\"}"),
        ("a: \"b\\\u{2028}  c\"", r#"{"a":"bc"}"#),
        ("a: |\n  b\u{85}  c\n", r#"{"a":"b\nc\n"}"#),
        ("a: |\n  b\u{2028}  c\n", "{\"a\":\"b\u{2028}c\\n\"}"),
        ("a: >\n  b\u{2028}  c\n", "{\"a\":\"b\u{2028}c\\n\"}"),
        ("a: |-\n  b\u{2028}\n", r#"{"a":"b"}"#),
        ("a: |+\n  b\u{2028}\n\n", "{\"a\":\"b\u{2028}\\n\\n\"}"),
        ("a: |\u{2028}", r#"{"a":""}"#),
        ("\u{2028}a: b\u{85}", r#"{"a":"b"}"#),
        (
            "a: \u{100000}\u{2028}b: c",
            "{\"a\":\"\u{100000}\",\"b\":\"c\"}",
        ),
    ] {
        check(text, expected);
    }
}

#[test]
fn other_line_breaks_do_not_count_as_lines() {
    let text = "a: b\u{2028}# c\u{85}d: e\nf: .inf";
    check_error(text, 2, ErrorKind::NotFinite);
    let tree = parse("a: b\u{2028}c: d\ne: f").unwrap();
    let Kind::Mapping(entries) = &tree.node(tree.root()).kind else {
        panic!("it is a map");
    };
    let lines: Vec<u32> = entries.iter().map(|entry| entry.line).collect();
    assert_eq!(lines, [1, 1, 2]);
    let message = "a line without `: ` among the keys of a map; add the colon, or indent the line";
    check_error("a: b\u{2028}c", 1, ErrorKind::Syntax(message));
}
