use super::*;

#[test]
fn metric_names_are_valid_and_unique() {
    let mut names = BTreeSet::new();
    for family in ALL {
        let has_prefix = family.name.starts_with("config_controller_");
        assert!(
            has_prefix || family.name.starts_with("process_"),
            "{}",
            family.name
        );
        assert!(names.insert(family.name), "{} twice", family.name);
        let counts = family.name.ends_with("_total");
        assert_eq!(family.kind == Kind::Counter, counts, "{}", family.name);
        if let Kind::Histogram(bounds) = family.kind {
            assert!(bounds.is_sorted() && family.name.ends_with("_seconds"));
        }
    }
    // Creates all vectors: the crate checks their names.
    let _ = Metrics::new(1, &[]);
}

#[test]
fn label_values_are_escaped() {
    let metrics = Metrics::new(1, &[]);
    metrics.start_ended("hello", "failed", "a\"b\\c\nd");
    let mut registry = Registry::default();
    metrics.encode(&mut registry);
    let text = registry.text();
    assert!(text.contains(r#"reason="a\"b\\c\nd""#), "{text}");
}

#[test]
fn reasons_beyond_the_bound_share_one_series() {
    let metrics = Metrics::new(1, &[]);
    for number in 0..REASONS_MAX + 10 {
        metrics.start_ended("hello", "failed", &format!("reason-{number}"));
    }
    metrics.start_ended("hello", "failed", "reason-0");
    let mut registry = Registry::default();
    metrics.encode(&mut registry);
    let text = registry.text();
    let lines = text
        .lines()
        .filter(|line| line.starts_with(START_REASONS.name));
    assert_eq!(lines.count(), REASONS_MAX + 1);
    let rest = "result=\"failed\",type=\"hello\"}";
    for (reason, count) in [("_other", 10), ("reason-0", 2)] {
        let line = format!("{{reason=\"{reason}\",{rest} {count}\n");
        assert!(text.contains(&line), "{line} is not in {text}");
    }
}

#[test]
fn starts_and_stops_of_each_type_begin_at_zero() {
    let metrics = Metrics::new(1, &[]);
    metrics.start_ended("hello", "failed", "Error");
    metrics.stopped("gone", "asked");
    let mut registry = Registry::default();
    metrics.encode(&mut registry);
    registry.begin_types(["hello", "slow"].into_iter());
    let text = registry.text();
    let samples = |family: &Family| -> Vec<&str> {
        let name = format!("{}{{", family.name);
        let lines = text.lines().filter_map(|line| line.strip_prefix(&name));
        lines.collect()
    };
    let expected = [
        r#"result="failed",type="hello"} 1"#,
        r#"result="ready",type="hello"} 0"#,
        r#"result="denied",type="hello"} 0"#,
        r#"result="ready",type="slow"} 0"#,
        r#"result="failed",type="slow"} 0"#,
        r#"result="denied",type="slow"} 0"#,
    ];
    assert_eq!(samples(&STARTS), expected);
    let stops = samples(&STOPS);
    assert_eq!(stops.len(), 1 + 2 * STOP_CAUSES.len());
    assert!(
        stops.contains(&r#"cause="forced",type="slow"} 0"#),
        "{stops:?}"
    );
    let reasons = samples(&START_REASONS);
    assert_eq!(
        reasons,
        [r#"reason="Error",result="failed",type="hello"} 1"#]
    );
}
