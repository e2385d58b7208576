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
    let lines = text.lines().filter(|line| line.starts_with(STARTS.name));
    assert_eq!(lines.count(), REASONS_MAX + 1);
    let rest = "result=\"failed\",type=\"hello\"}";
    for (reason, count) in [("_other", 10), ("reason-0", 2)] {
        let line = format!("{{reason=\"{reason}\",{rest} {count}\n");
        assert!(text.contains(&line), "{line} is not in {text}");
    }
}
