//! Alerts and dashboard: they use existing metrics. Prometheus' own tool accepts the rules, and
//! each alert fires when it should, and no other. A real Prometheus raises one for the first failures.

use std::collections::BTreeSet;

use config_controller::metrics::{ALL, Kind};
use serde_json::Value;

use super::text_of;
use super::tools::promtool;
use crate::cluster::output;
use crate::harness::{TemporaryFolder, eventually};
use crate::in_cluster::prometheus::Prometheus;
use crate::sandbox::{Sandbox, get};

/// The specification of our PrometheusRule, which is a file of rules.
pub(crate) fn rules() -> Value {
    let text = text_of("manifests/monitoring/prometheus-rule.yaml");
    let mut rule: Value = serde_yaml::from_str(&text).expect("the rules are YAML");
    rule["spec"].take()
}

fn dashboard() -> Value {
    let text = text_of("manifests/monitoring/grafana-dashboard.json");
    serde_json::from_str(&text).expect("the dashboard is JSON")
}

/// The texts of all members called `expr`, however deep.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match member.as_str().filter(|_| key == "expr") {
                    Some(text) => found.push(text.to_owned()),
                    None => expressions(member, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

/// The names of samples that there are: those of a histogram have their endings.
fn samples() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for family in ALL {
        match family.kind {
            Kind::Histogram(_) => {
                let endings = ["bucket", "count", "sum"];
                all.extend(endings.map(|ending| format!("{}_{ending}", family.name)));
            }
            _ => {
                all.insert(family.name.to_owned());
            }
        }
    }
    all
}

#[test]
fn alerts_and_dashboard_use_existing_metrics() {
    let samples = samples();
    for (part, least) in [(rules(), 7), (dashboard(), 14)] {
        let mut found = Vec::new();
        expressions(&part, &mut found);
        assert!(found.len() >= least, "{found:?}");
        for expression in found {
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let ours = |word: &&str| {
                word.starts_with("config_controller_") || word.starts_with("process_")
            };
            let named: Vec<&str> = words.filter(ours).collect();
            assert!(!named.is_empty(), "{expression} names no metric of ours");
            for name in named {
                assert!(samples.contains(name), "{expression}: there is no {name}");
            }
        }
    }
}

#[test]
#[ignore = "needs a cluster"]
fn each_alert_fires_when_it_should_and_no_other() {
    let folder = TemporaryFolder::new();
    // JSON is YAML, too.
    let rules_file = folder.write("rules.json", &rules().to_string());
    output(promtool().args(["check", "rules"]).arg(rules_file));
    let cases = text_of("tests/it/manifests/alerts.test.yaml");
    for rule in rules()["groups"][0]["rules"]
        .as_array()
        .expect("a list of rules")
    {
        let name = rule["alert"].as_str().expect("a rule is an alert");
        assert!(
            cases.contains(&format!("alertname=\"{name}\"")),
            "{name} is tried"
        );
    }
    let cases = folder.write("alerts.test.yaml", &cases);
    output(promtool().args(["test", "rules"]).arg(cases));
}

/// They are the first ones that this Prometheus hears of, so their counter must have been there before.
#[test]
#[ignore = "needs a cluster"]
fn a_real_prometheus_raises_the_alert_after_six_failed_starts() {
    let mut sandbox = Sandbox::start(&[]);
    let url = sandbox.url();
    let address = url.trim_start_matches("http://").parse();
    let prometheus = Prometheus::start(address.expect("an address"));
    prometheus.await_up();
    assert_eq!(prometheus.firing(), []);
    for n in 1..=6 {
        let (status, body) = get(&format!("{url}/app/fails/n{n}"));
        assert!(status == 202 && body.contains("app_error"), "{body}");
    }
    let firing = eventually("an alert fires", || {
        let firing = prometheus.firing();
        (!firing.is_empty()).then_some(firing)
    });
    let expected = ("ConfigControllerStartsFail".into(), "fails".into());
    assert_eq!(firing, [expected]);
}
