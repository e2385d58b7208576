//! Revisions: what an instance was made from, as short hashes that its Job and its pod carry as
//! annotations.
//!
//! Pure. The template's revision says whether a running instance is from the present template, that of
//! the values whether it was made with the values of a request. Both are stable: they do not depend on
//! what this version of the program adds to a Job. What counts of a template and of values is decided in
//! `template/digest.rs`, what follows from a difference in [`crate::app`].

use super::job::JobSettings;
use super::template::{Digest, RenderError, Template, Variables, json_digest};
use crate::kube::types::{JOB_VALUES, Job};
use serde_json::{Map, json};

/// Hexadecimal digits of a template's revision. Whoever may write a template may run anything, so nobody
/// gains by two with the same revision, and 64 bits tell apart all that ever meet.
pub const TEMPLATE_DIGITS: usize = 16;

/// Hexadecimal digits of the revision of values: 128 bits. Callers choose values, and none may find
/// some that pass for those of another.
pub const VALUES_DIGITS: usize = 32;

/// The revision of a template and its settings: of what it makes without values, and of the settings
/// that Jobs carry. Those that only this program heeds (`restart-delay`, `start-budget.…`) apply to
/// running instances, too, so they do not count.
#[must_use]
pub fn of_template(template: &Template, settings: &JobSettings) -> String {
    let mut written = Map::new();
    // Only those that are set, so that the revision stays the same when there are more settings.
    if let Some(limit) = settings.backoff_limit {
        written.insert("backoff-limit".into(), json!(limit));
    }
    if let Some(timeout) = settings.idle_timeout {
        let millis = timeout.as_millis().to_string();
        written.insert("idle-timeout".into(), json!(millis));
    }
    if let Some(lifetime) = settings.max_lifetime {
        written.insert("max-lifetime".into(), json!(lifetime.as_secs()));
    }
    if let Some(ttl) = settings.ttl_after_finished {
        written.insert("ttl-after-finished".into(), json!(ttl.as_secs()));
    }
    if !settings.min_ready.is_zero() {
        let millis = settings.min_ready.as_millis().to_string();
        written.insert("min-ready".into(), json!(millis));
    }
    let template = hex(&template.digest(), 64);
    let all = json!({"template": template, "settings": written});
    hex(&json_digest(&all), TEMPLATE_DIGITS)
}

/// The revision of values: the same where a template makes the same of them for containers; see
/// [`Template::values_digest`].
///
/// # Errors
/// If the template cannot be rendered with them, for example for want of a variable.
pub fn of_values(template: &Template, variables: &Variables) -> Result<String, RenderError> {
    Ok(hex(&template.values_digest(variables)?, VALUES_DIGITS))
}

/// The same, for threads that others wait for; see [`Template::short_values_digest`].
///
/// # Errors
/// As [`of_values`].
pub fn of_values_soon(
    template: &Template,
    variables: &Variables,
) -> Option<Result<String, RenderError>> {
    let digest = template.short_values_digest(variables)?;
    Some(digest.map(|digest| hex(&digest, VALUES_DIGITS)))
}

/// The values that a Job was made with, if they are known. One that does not carry them may have been made without
/// any.
#[must_use]
pub fn values_of(job: &Job, template: &Template) -> Option<Variables> {
    let Some(text) = job.metadata.annotations.get(JOB_VALUES) else {
        let none = Variables::default();
        let revision = of_values(template, &none).ok()?;
        return (job.values_revision() == Some(&*revision)).then_some(none);
    };
    let pairs: Vec<(String, String)> = serde_json::from_str(text).ok()?;
    Variables::from_pairs(pairs).ok()
}

/// The first hexadecimal digits.
fn hex(digest: &Digest, digits: usize) -> String {
    let bytes = digest.iter().take(digits / 2);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::types::{JOB_VALUES_BYTES_MAX, Resource as _};
    use crate::model::job::carry_values;
    use serde_json::Value;
    use std::time::Duration;

    fn template(text: &str) -> Template {
        Template::parse("demo/app.yaml", text).unwrap()
    }

    fn revision(text: &str) -> String {
        of_template(&template(text), &JobSettings::default())
    }

    fn values(text: &str, query: &str) -> String {
        of_values(&template(text), &Variables::from_query(query).unwrap()).unwrap()
    }

    const PLAIN: &str = "spec:\n  containers:\n  - {name: a, image: 'i:1'}\n";
    const FILLED: &str = "spec:\n  containers:\n  - name: a\n    env:\n    - {name: TZ, value: \"${alternatives.get('tz', 'UTC')}\"}\n    - {name: LANG, value: \"${alternatives['lang']}\"}\n";
    const CHOOSING: &str = "spec:\n  containers:\n  - name: a\n% if alternatives.get('debug') == '1':\n    args: [-v]\n% endif\n";
    const LOOPING: &str = "spec:\n  containers:\n  - name: a\n    env:\n% for k, v in alternatives.items():\n    - {name: \"V_${k}\", value: \"${v}\"}\n% endfor\n";

    /// A change here makes every running instance one of another template and of other values.
    #[test]
    fn revisions_stay_the_same_from_version_to_version() {
        let found = [PLAIN, FILLED, CHOOSING, LOOPING].map(revision);
        assert_eq!(
            found,
            [
                "72759fb9365df22b",
                "315931fdca119bd7",
                "d6fad7119672f192",
                "6775ad6f7f1e728b"
            ]
        );
        let found = [
            values(PLAIN, ""),
            values(FILLED, "lang=de&tz=Europe/Zurich"),
            values(CHOOSING, "debug=1"),
            values(LOOPING, "a=1&b=2"),
        ];
        let expected = [
            "3f79bb7b435b05321651daefd374cdc6",
            "e29e46a5d3465ae159ae67af87bb4111",
            "05ec98bddddb4e88447b5b4b81cd13fb",
            "f6a0fff93bbdaf64bf1b8fd7e5974646",
        ];
        assert_eq!(found, expected);
        let settings = JobSettings {
            backoff_limit: Some(2),
            max_lifetime: Some(Duration::from_secs(60)),
            ttl_after_finished: Some(Duration::ZERO),
            min_ready: Duration::from_millis(1500),
            ..JobSettings::default()
        };
        assert_eq!(of_template(&template(PLAIN), &settings), "12982cc3cd05fa1a");
    }

    #[test]
    fn only_what_a_template_makes_counts() {
        for same in [
            "# a comment\nspec:\n    containers: [{image: \"i:1\", name: a}]\n",
            "## dropped\nspec: {containers: [{name: 'a', image: i:1}]} # end\n",
        ] {
            assert_eq!(revision(same), revision(PLAIN), "{same}");
        }
        for other in [
            PLAIN.replace("i:1", "i:2"),
            PLAIN.replace("name: a", "name: a, tty: true"),
            FILLED.replace("UTC", "CET"),
        ] {
            assert_ne!(revision(&other), revision(PLAIN), "{other}");
        }
        assert_ne!(revision(FILLED), revision(&FILLED.replace("UTC", "CET")));
        // The number 1 is not the text.
        let port = |port: &str| {
            revision(&format!(
                "spec: {{containers: [{{name: a, ports: [{port}]}}]}}"
            ))
        };
        assert_ne!(port("1"), port("'1'"));
    }

    #[test]
    fn settings_of_jobs_count_and_others_do_not() {
        let of = |settings: JobSettings| of_template(&template(PLAIN), &settings);
        let none = of(JobSettings::default());
        let delayed = JobSettings {
            restart_delay: Duration::from_secs(99),
            restart_failed: false,
            ..JobSettings::default()
        };
        assert_eq!(of(delayed), none);
        for changed in [
            JobSettings {
                backoff_limit: Some(0),
                ..JobSettings::default()
            },
            JobSettings {
                min_ready: Duration::from_secs(1),
                ..JobSettings::default()
            },
        ] {
            assert_ne!(of(changed), none);
        }
    }

    #[test]
    fn values_count_as_containers_get_them() {
        for (text, one, other) in [
            (PLAIN, "", "tz=CET"),
            // Order, unused variables, and the template's own default.
            (FILLED, "lang=de&tz=CET", "x=1&tz=CET&lang=de"),
            (FILLED, "lang=de", "lang=de&tz=UTC"),
            (FILLED, "lang=de&tz=UTC&tz=CET", "lang=de&tz=CET"),
            // A condition counts, not what it compares.
            (CHOOSING, "", "debug=0"),
            (LOOPING, "a=1&b=2", "b=2&a=1"),
        ] {
            assert_eq!(values(text, one), values(text, other), "{one} {other}");
        }
        for (text, one, other) in [
            (FILLED, "lang=de&tz=CET", "lang=de&tz=UTC"),
            (FILLED, "lang=de&tz=fr", "lang=fr&tz=de"),
            (FILLED, "lang=$(X)", "lang=$$(X)"),
            (FILLED, "lang=", "lang=%20"),
            (CHOOSING, "debug=1", "debug=0"),
            (LOOPING, "a=1&b=2", "a=2&b=1"),
            (LOOPING, "a=1", "a=1&b="),
            (LOOPING, "a=1b", "a1=b"),
            (LOOPING, "", "a="),
        ] {
            assert_ne!(values(text, one), values(text, other), "{one} {other}");
        }
    }

    /// So an edit of a template leaves the values of its instances what they were.
    #[test]
    fn the_revision_of_values_is_not_that_of_the_template() {
        let edited = FILLED.replace("name: a", "name: b");
        let query = "lang=de&tz=CET";
        assert_eq!(values(FILLED, query), values(&edited, query));
        assert_ne!(revision(FILLED), revision(&edited));
        assert_eq!(values(PLAIN, ""), values(&PLAIN.replace("i:1", "i:2"), ""));
    }

    #[test]
    fn a_missing_variable_is_an_error() {
        let error = of_values(&template(FILLED), &Variables::default()).unwrap_err();
        let name = "lang".to_owned();
        assert_eq!(error, RenderError::VariableMissing { name });
    }

    fn job(annotations: &Value) -> Job {
        let job = json!({"metadata": {"name": "a", "annotations": annotations}, "spec": {"template": {"metadata": {
            "labels": {"config-controller.semafor.ch/instance-type": "t", "config-controller.semafor.ch/instance-name": "n"},
        }}}});
        Job::decode(job.to_string().as_bytes()).unwrap().unwrap()
    }

    fn valued() -> Template {
        let text =
            "spec:\n  containers:\n  - {name: a, image: \"i:${alternatives.get('x', '1')}\"}\n";
        Template::parse("t.yaml", text).unwrap()
    }

    #[test]
    fn a_job_carries_its_values() {
        for query in ["", "x=1", "b=2&a=%22%F0%9F%98%80&b=3", "x=%0A"] {
            let variables = Variables::from_query(query).unwrap();
            let mut annotations = json!({});
            carry_values(&mut annotations, &variables, None);
            assert_eq!(
                values_of(&job(&annotations), &valued()),
                Some(variables),
                "{query}"
            );
        }
    }

    #[test]
    fn values_are_carried_up_to_a_bound() {
        let most = JOB_VALUES_BYTES_MAX - r#"[["x",""]]"#.len();
        for (length, is_carried) in [(most, true), (most + 1, false)] {
            let query = format!("x={}", "v".repeat(length));
            let variables = Variables::from_query(&query).unwrap();
            let mut annotations = json!({});
            carry_values(&mut annotations, &variables, None);
            let known = values_of(&job(&annotations), &valued());
            assert_eq!(known, is_carried.then_some(variables), "{length}");
        }
    }

    #[test]
    fn a_job_without_values_is_known_by_their_revision() {
        let of = |query: &str| {
            let variables = Variables::from_query(query).unwrap();
            let revision = of_values(&valued(), &variables).unwrap();
            let job = job(&json!({"config-controller.semafor.ch/values-revision": revision}));
            values_of(&job, &valued())
        };
        assert_eq!(of(""), Some(Variables::default()));
        assert_eq!(of("x=2"), None);
        assert_eq!(values_of(&job(&json!({})), &valued()), None);
        for text in ["", "{}", "[[\"a\"]]", "[[\"a\", 1]]"] {
            assert_eq!(
                values_of(&job(&json!({ JOB_VALUES: text })), &valued()),
                None,
                "{text}"
            );
        }
    }
}
