//! Dry runs while the API server is slow, fails or says nothing, and the ConfigMap is edited: no result is
//! shown that is of an older template, and all are right once the API server is.

use config_controller::model::job::JobSettings;
use config_controller::model::revision;
use config_controller::model::template::Template;

use super::*;

/// Version `number` of the template, and whether Kubernetes accepts it.
fn version(number: usize) -> (String, &'static str) {
    let text = TEMPLATE.replace("app:1", &format!("app:{number}"));
    match number % 3 {
        0 => (text.replace("Never", "Always"), "invalid"),
        _ => (text, "valid"),
    }
}

fn revision_of(text: &str) -> String {
    let template = Template::parse("t", text).expect("it can be read");
    revision::of_template(&template, &JobSettings::default())
}

/// What `/templates` says is of the revision that it names.
#[track_caller]
fn check(environment: &TestEnvironment, versions: usize) {
    let found = entry(environment, "hello");
    let mut all = (0..=versions).map(version);
    let (_, truth) = all
        .find(|(text, _)| found["revision"] == revision_of(text))
        .expect("it is one of the versions");
    let verdict = found["verdict"].as_str().unwrap_or_default();
    assert!(["unchecked", truth].contains(&verdict), "{truth}: {found}");
}

fn faults() -> [Fault; 10] {
    let retry_after_secs = 1;
    [
        Fault::Delay(Duration::from_millis(150)),
        // Longer than a dry run may take.
        Fault::Delay(Duration::from_secs(60)),
        Fault::TooManyRequests { retry_after_secs },
        Fault::Status(500),
        Fault::Status(504),
        Fault::Drop,
        Fault::LoseAnswer,
        Fault::HalfBody,
        Fault::Endless,
        Fault::Raw(422, "<html>unprocessable"),
    ]
}

#[test]
fn no_result_is_of_an_older_template_whatever_fails_and_all_are_right_in_the_end() {
    for resource in ["jobs", "pods"] {
        let environment = with_pods().start();
        tried(&environment, "hello");
        let mut number = 0;
        for fault in faults() {
            environment.kube.fault(dry_run(resource, fault));
            for _ in 0..3 {
                number += 1;
                let (text, _) = version(number);
                let types = [("hello", text.as_str())];
                apply_templates(&environment.kube, "templates", &types, json!({}));
                (0..5).for_each(|_| check(&environment, number));
            }
            environment.kube.clear_faults();
            (0..5).for_each(|_| check(&environment, number));
        }
        // Starts do not wait for any of them.
        let (text, verdict) = version(number);
        assert_eq!(verdict, "invalid");
        let found = wait_verdict(&environment, "hello", verdict);
        assert_eq!(found["revision"], revision_of(&text));
        let types = [("hello", TEMPLATE)];
        apply_templates(&environment.kube, "templates", &types, json!({}));
        wait_verdict(&environment, "hello", "valid");
        environment.start_instance("/app/hello/ann");
        assert!(environment.kube.most_dry_runs() <= AT_ONCE);
    }
}

/// An API server that answers no dry run holds up neither starts nor what is known without it.
#[test]
fn dry_runs_that_are_never_answered_hold_up_nothing() {
    let environment = with_pods().start();
    tried(&environment, "hello");
    environment
        .kube
        .fault(dry_run("*", Fault::Delay(Duration::from_secs(60))));
    let broken = "spec: [";
    let names: Vec<String> = (0..8).map(|number| format!("t{number}")).collect();
    let mut types: Vec<(&str, &str)> = names.iter().map(|it| (it.as_str(), TEMPLATE)).collect();
    types.extend([("hello", TEMPLATE), ("broken", broken)]);
    apply_templates(&environment.kube, "templates", &types, json!({}));
    wait_verdict(&environment, "broken", "invalid");
    for name in &names {
        assert_eq!(entry(&environment, name)["verdict"], "unchecked");
    }
    environment.start_instance("/app/t7/ann");
    let started = Instant::now();
    environment.start_instance("/app/hello/ann");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(environment.get("/livez").status, 200);
}
