//! The rows of the contract on 2.7.1, as it is described. Rows about its defects fail for exactly
//! that reason. Rows that it satisfies hold, so that the others do not fail for unrelated reasons.

use super::environment::OnFake;
use super::{ROWS_AT_ONCE, Row, required, run_all, table};
use crate::cluster::print_line;
use crate::fake_kube::FakeKube;
use crate::harness::{NAMESPACE, Replacement, with_replacement};
use crate::predecessor::front::Front;
use crate::predecessor::original::Predecessor;
use crate::raw_kube::RawKube;

/// Rows that fail on 2.7.1, with part of the message of each.
const CAUGHT: &[(&str, &str)] = &[
    (
        "W1",
        "did not come: the instance is ready; the last that was seen: GET /app/ready/",
    ),
    ("W2", "entries: Some(0) instead of Some(1)"),
    ("W3", "how many were answered before that: "),
    ("W4-at-once", "409"),
    ("W5", "202 was expected"),
    (
        "W6",
        "status: String(\"pulling_image\") instead of String(\"app_error\")",
    ),
    ("W7", "it came again after "),
    ("W8", "did not come: the newest pod is ready; "),
    ("W9", "did not come: the reason; "),
    ("W10", "202 was expected"),
    ("W11", "is not listed"),
    ("W12", "500 Internal Server Error: its content-type"),
    ("W13", "500 Internal Server Error: its content-type"),
    ("W14", "'labels'"),
    ("W15", "how often it is listed: 2 instead of 1"),
    ("W16", "409 was expected"),
    ("W17", "Reason: Conflict"),
    ("W18", "Reason: Invalid"),
    ("W19", "404 was expected"),
    ("W20", "Reason: InternalError"),
    ("W21", "max-lifetime: Null instead of Number(7200)"),
    ("W22", "calls: "),
    ("S1", "{\"privileged\":true}"),
    ("S2", "422 was expected"),
    ("S3", "422 was expected"),
    ("S3-by-hand", "6.6.6.6"),
    ("S5", "Some(\"HTTPHeaderDict\")"),
    ("S6", "retry-after: \"\" instead of \"1\""),
    ("A4", "did not come: the instance is ready; "),
    ("A10", "sorted and unique: "),
    ("A15", "allow: \"GET\" instead of \"GET, HEAD\""),
    ("B3.7-empty", "422 was expected"),
];

/// Rows that 2.7.1 satisfies.
const KEPT: &[&str] = &[
    "A15-host",
    "B2.307",
    "B2.307-encoded",
    "B2.404",
    "B2.404-encoded",
    "B2.405",
    "B2.422",
    "B2.cors",
    "B2.docs",
    "B3.1",
    "B3.2-query",
    "B3.3-api",
    "B3.3-entry",
    "B3.3-meta",
    "B3.3-session",
    "B3.4-hang-up",
    "B3.4-once",
    "B3.4-ready",
    "B3.5-content-type",
    "B3.5-dict_type",
    "B3.5-json_invalid",
    "B3.5-label",
    "B3.5-missing",
    "B3.5-ok",
    "B3.6-at-once",
    "B3.7-missing",
    "B3.7-ok",
    "B3.7-variables",
    "V1",
    "V2",
    "V8",
];

impl Replacement for Front {
    fn address(&self) -> std::net::SocketAddr {
        Self::address(self)
    }
}

fn start(kube: &FakeKube) -> Box<dyn Replacement> {
    let api = RawKube::plain(&kube.url(), Some(&kube.token()));
    let original = Predecessor::on_fake(api, NAMESPACE).without_labels();
    Box::new(Front::start(original))
}

/// The messages of the failing rows, each with its id in front.
fn failures(ids: &[&str]) -> Vec<String> {
    let all = table();
    let row = |id: &&str| {
        let found = all.iter().find(|row| row.id == *id);
        *found.unwrap_or_else(|| panic!("there is no row {id}"))
    };
    let rows: Vec<&Row> = ids.iter().map(row).collect();
    let report = run_all(&rows, ROWS_AT_ONCE, &|act| {
        with_replacement(start, || act(&OnFake::new()));
    });
    assert_eq!(report.held + report.failed.len(), ids.len());
    report.failed
}

#[test]
fn each_defect_of_2_7_1_fails_its_row() {
    let ids: Vec<&str> = CAUGHT.iter().map(|(id, _)| *id).collect();
    let failed = failures(&ids);
    let mut wrong = Vec::new();
    for (id, words) in CAUGHT {
        let own = failed
            .iter()
            .find(|line| line.starts_with(&format!("{id}: ")));
        match own {
            None => wrong.push(format!("{id} holds")),
            Some(line) if !line.contains(words) => wrong.push(format!("not by {words:?}: {line}")),
            Some(_) => {}
        }
    }
    print_line(&format!(
        "{} of {} rows fail on 2.7.1, each for its reason",
        ids.len() - wrong.len(),
        ids.len()
    ));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rows_that_2_7_1_satisfies_hold() {
    let failed = failures(KEPT);
    print_line(&format!(
        "{} of {} rows of what is kept hold on 2.7.1",
        KEPT.len() - failed.len(),
        KEPT.len()
    ));
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn each_fault_of_2_7_1_has_a_row_that_fails_on_it() {
    for id in required().iter().filter(|id| id.starts_with(['W', 'S'])) {
        let of = |row: &str| row.split('-').next() == Some(id);
        assert!(CAUGHT.iter().any(|(row, _)| of(row)), "{id}");
    }
}
