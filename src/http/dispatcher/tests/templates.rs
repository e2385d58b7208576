//! `/templates`: that there always is a list, whatever texts templates have.

use super::bench::Bench;
use super::*;
use crate::app::fixture::added;
use crate::app::templates::{ROOMS, TEMPLATES_MAX, UNREAD_KEYS_MAX, UNREAD_LISTED_MAX};
use crate::budget::{Division, Ledger};
use serde_json::{Map, Value, json};

/// A template with this default of its variable.
fn with_default(text: &str) -> String {
    format!(
        "spec: {{containers: [{{name: a, image: \"${{alternatives.get('v', '{text}')}}\"}}]}}\n"
    )
}

fn add(bench: &Bench, name: &str, data: impl Iterator<Item = (String, String)>) {
    let data: Map<String, Value> = data.map(|(key, text)| (key, json!(text))).collect();
    let map = json!({"metadata": {"name": name}, "data": data});
    bench.catalog.update(&[added(&map)]);
}

/// The entries, without those of the bench.
fn entries(bench: &Bench) -> Vec<Value> {
    let response = bench.list(Request::new(Method::Get, "/templates"));
    assert_eq!(response.status, 200, "{response:?}");
    let entries: Vec<Value> = serde_json::from_slice(&response.body).unwrap();
    let is_other = |entry: &Value| entry["config_map"] != "apps";
    entries.into_iter().filter(is_other).collect()
}

fn default_of(entry: &Value) -> &str {
    entry["variables"][0]["default"].as_str().unwrap()
}

#[test]
fn long_texts_are_cut_and_marked() {
    let bench = Bench::new();
    let most = ROOMS[0] / 8;
    let lengths = [3, most, most + 1, 700_000, 700_000, 700_000, 700_000];
    let types = lengths.iter().enumerate();
    let types = types.map(|(number, length)| {
        let text = with_default(&"x".repeat(*length));
        (format!("t{number}.yaml"), text)
    });
    add(&bench, "long", types);
    let entries = entries(&bench);
    assert_eq!(entries.len(), lengths.len());
    for (entry, length) in entries.iter().zip(lengths) {
        let (default, is_cut) = (default_of(entry), length > most);
        assert_eq!(default.len(), length.min(most));
        assert_eq!(default.ends_with('…'), is_cut);
        assert_eq!(entry.get("cut").is_some(), is_cut);
        assert_eq!(entry["variables"][0]["name"], "v");
    }
}

/// As many as there may be, with the longest names, and with long texts of which JSON makes longer ones.
#[test]
fn there_is_a_list_of_as_many_templates_as_there_may_be() {
    let bench = Bench::new();
    let default = "\\t".repeat(1000);
    let types = (0..TEMPLATES_MAX).map(|number| {
        let name = format!("t{number:04}{}", "x".repeat(243));
        (format!("{name}.yaml"), with_default(&default))
    });
    add(&bench, &"c".repeat(253), types);
    let entries = entries(&bench);
    assert_eq!(entries.len(), TEMPLATES_MAX);
    for entry in entries {
        assert_eq!(entry["cut"], true);
        assert!(default_of(&entry).len() > 32, "{entry}");
    }
}

#[test]
fn keys_that_are_not_read_are_listed_up_to_a_bound() {
    let bench = Bench::new();
    for number in 0..=UNREAD_LISTED_MAX / UNREAD_KEYS_MAX {
        let keys = (0..UNREAD_KEYS_MAX).map(|key| (format!("k{key:02}.yml"), "x".into()));
        add(&bench, &format!("c{number:02}"), keys);
    }
    add(
        &bench,
        "d",
        [("good.yaml".into(), with_default("x"))].into_iter(),
    );
    let entries = entries(&bench);
    assert_eq!(entries.len(), UNREAD_LISTED_MAX + 1);
    assert_eq!(entries[0]["type"], "good");
    let last = |entry: &Value| entry["config_map"] == "c16";
    assert!(!entries.iter().any(last));
}

#[test]
fn a_list_that_is_still_too_large_says_what_to_do() {
    let mut bench = Bench::new();
    bench.dispatcher.bounds.bytes = Ledger::of_bytes(4096, Division::default());
    let types = (0..16).map(|number| (format!("t{number}.yaml"), with_default("x")));
    add(&bench, "many", types);
    let response = bench.list(Request::new(Method::Get, "/templates"));
    assert_eq!(response.status, 503);
    let text = String::from_utf8_lossy(&response.body);
    assert!(
        text.contains("raise HELD_BYTES_MAX, or have fewer instances and templates"),
        "{text}"
    );
}
