//! What a catalog has after changes of ConfigMaps, and what it reports.

use super::*;
use crate::kube::types::Resource;
use crate::model::job::UNREAD_SETTINGS_MAX;
use crate::random::Random;
use serde_json::{Value, json};

const GOOD: &str = "spec:\n  restartPolicy: Never\n  containers:\n  - name: app\n    image: i\n";

fn config_map(name: &str, data: Value) -> Arc<ConfigMap> {
    let text = json!({"metadata": {"name": name}, "data": data}).to_string();
    Arc::new(ConfigMap::decode(text.as_bytes()).unwrap().unwrap())
}

fn types(catalog: &Catalog) -> Vec<&str> {
    catalog.types().map(AppType::as_str).collect()
}

#[test]
fn types_are_listed_sorted_and_once() {
    let maps = [
        config_map("b", json!({"scim.yaml": GOOD, "zeta.yaml": GOOD})),
        config_map(
            "a",
            json!({"scim.yaml": GOOD, "notes.txt": "x", "other.yml": "x", ".yaml": GOOD}),
        ),
        config_map("c", json!(null)),
    ];
    let (catalog, notes) = Catalog::read(&maps, &JobSettings::default());
    assert_eq!(types(&catalog), ["scim", "zeta"]);
    assert!(notes.contains(&Note::Duplicate {
        app_type: AppType::new("scim").unwrap(),
        used: "a".into(),
        ignored: "b".into(),
    }));
}

#[test]
fn a_broken_template_stays_listed_and_affects_no_other() {
    let maps = [config_map(
        "a",
        json!({"bad.yaml": "spec: [", "good.yaml": GOOD}),
    )];
    let (catalog, _) = Catalog::read(&maps, &JobSettings::default());
    assert_eq!(types(&catalog), ["bad", "good"]);
    assert!(
        catalog
            .get(&AppType::new("bad").unwrap())
            .unwrap()
            .template
            .is_err()
    );
    assert!(
        catalog
            .get(&AppType::new("good").unwrap())
            .unwrap()
            .template
            .is_ok()
    );
}

#[test]
fn settings_of_the_process_are_the_defaults_for_annotations() {
    use crate::model::status::{Budget, Budgets};
    use std::time::Duration;
    let secs = Duration::from_secs;
    let mut of_process = Budgets::default();
    of_process.set(Budget::Mounting, secs(7));
    of_process.set(Budget::Pulling, secs(8));
    let text = json!({
        "metadata": {"name": "a", "annotations": {"config-controller.semafor.ch/start-budget.pulling": "9s",
            "config-controller.semafor.ch/ttl-after-finished": "never"}},
        "data": {"scim.yaml": GOOD},
    });
    let map = Arc::new(
        ConfigMap::decode(text.to_string().as_bytes())
            .unwrap()
            .unwrap(),
    );
    let defaults = JobSettings {
        budgets: of_process,
        max_lifetime: Some(secs(60)),
        ttl_after_finished: Some(secs(70)),
        ..JobSettings::default()
    };
    let (catalog, _) = Catalog::read(&[map], &defaults);
    let budget = |name: &str, budget| {
        let app_type = AppType::new(name).unwrap();
        catalog.settings(&app_type).budgets.get(budget)
    };
    assert_eq!(budget("scim", Budget::Mounting), secs(7));
    let scim = catalog.settings(&AppType::new("scim").unwrap());
    assert_eq!(scim.max_lifetime, Some(secs(60)));
    assert_eq!(scim.ttl_after_finished, None, "the annotation says never");
    assert_eq!(budget("scim", Budget::Pulling), secs(9));
    assert_eq!(budget("gone", Budget::Pulling), secs(8));
}

/// The change from one state of a ConfigMap to another.
fn change(old: Option<&Arc<ConfigMap>>, new: Option<&Arc<ConfigMap>>) -> Change<ConfigMap> {
    Change {
        old: old.cloned(),
        new: new.cloned(),
    }
}

#[test]
fn an_unchanged_template_is_reported_once() {
    let data = json!({"bad.yaml": "spec: [", "good.yaml": GOOD});
    let first = config_map("a", data.clone());
    let mut sources = Sources::default();
    let catalog = Catalog::default();
    let (catalog, notes) = catalog.after(&mut sources, &[change(None, Some(&first))]);
    assert_eq!(notes.len(), 2);
    let second = config_map("a", data);
    let (catalog, notes) = catalog.after(&mut sources, &[change(Some(&first), Some(&second))]);
    assert_eq!(notes, []);
    let (_, notes) = catalog.after(&mut sources, &[change(Some(&second), None)]);
    let gone = |name| Note::Gone(AppType::new(name).unwrap());
    assert_eq!(notes, [gone("bad"), gone("good")]);
}

#[test]
fn only_config_maps_that_changed_are_read() {
    let [other, first] = ["a", "b"].map(|name| {
        let data = json!({format!("of-{name}.yaml"): GOOD});
        config_map(name, data)
    });
    let catalog = SharedCatalog::default();
    catalog.update(&[change(None, Some(&other)), change(None, Some(&first))]);
    let offer = |name| {
        let current = catalog.current();
        Arc::clone(&current.offers[&AppType::new(name).unwrap()])
    };
    let [of_other, of_first] = ["of-a", "of-b"].map(offer);
    let second = config_map("b", json!({"of-b.yaml": GOOD, "notes.txt": "x"}));
    catalog.update(&[change(Some(&first), Some(&second))]);
    assert!(Arc::ptr_eq(&offer("of-a"), &of_other));
    let [before, after] = [of_first, offer("of-b")].map(|offer| offer.template.clone().unwrap());
    assert!(
        Arc::ptr_eq(&before, &after),
        "the same text is not parsed again"
    );
}

/// What the catalog of these ConfigMaps is, read all at once: the types with the name of the
/// ConfigMap, the text and the problem, and the duplicates that are not used.
#[derive(Default, PartialEq, Debug)]
struct Model {
    offers: BTreeMap<String, (String, String, Option<String>)>,
    duplicates: BTreeMap<(String, String), String>,
}

impl Model {
    fn of(config_maps: &BTreeMap<String, Arc<ConfigMap>>) -> Self {
        let mut model = Self::default();
        for (name, config_map) in config_maps {
            for (key, text) in &config_map.data {
                let app_type = key.strip_suffix(".yaml").unwrap().to_owned();
                if let Some((used, _, _)) = model.offers.get(&app_type) {
                    let used = used.clone();
                    model.duplicates.insert((app_type, name.clone()), used);
                    continue;
                }
                let problem = Template::parse(&format!("{name}/{key}"), text).err();
                let problem = problem.map(|error| error.to_string());
                let offer = (name.clone(), text.clone(), problem);
                model.offers.insert(app_type, offer);
            }
        }
        model
    }

    /// What is to be reported after that other state.
    fn notes_after(&self, before: &Self) -> Vec<String> {
        let mut notes = Vec::new();
        for (app_type, (name, text, problem)) in &self.offers {
            let known = before.offers.get(app_type);
            if known.is_none_or(|(_, old, was)| (old, was) != (text, problem)) {
                notes.push(format!("{app_type} of {name}: {problem:?}"));
            }
        }
        for ((app_type, ignored), used) in &self.duplicates {
            if !before
                .duplicates
                .contains_key(&(app_type.clone(), ignored.clone()))
            {
                notes.push(format!("{app_type}: {used}, not {ignored}"));
            }
        }
        let gone = before.offers.keys();
        let gone = gone.filter(|app_type| !self.offers.contains_key(*app_type));
        notes.extend(gone.map(|app_type| format!("no {app_type}")));
        notes.sort();
        notes
    }
}

fn in_words(note: &Note) -> String {
    match note {
        Note::Read {
            app_type,
            config_map,
            problem,
        } => format!("{app_type} of {config_map}: {problem:?}"),
        Note::Duplicate {
            app_type,
            used,
            ignored,
        } => format!("{app_type}: {used}, not {ignored}"),
        Note::Unread {
            config_map, key, ..
        } => format!("unread {key} of {config_map}"),
        Note::UnreadSetting { config_map, why } => format!("{config_map}: {why}"),
        Note::Gone(app_type) => format!("no {app_type}"),
    }
}

#[test]
fn keys_that_look_like_templates_and_are_not_read_are_reported_once() {
    let map = |binary: Value, data: Value| {
        let text = json!({"metadata": {"name": "a"}, "binaryData": binary, "data": data});
        let text = text.to_string();
        Arc::new(ConfigMap::decode(text.as_bytes()).unwrap().unwrap())
    };
    let binary = json!({"latin.yaml": "6Q==", "logo.png": "6Q=="});
    let data = json!({"x.yml": GOOD, "y.json": "{}", "notes.txt": "", ".yml": "", "z.yaml": GOOD});
    let (first, second) = (
        map(binary, data),
        map(json!(null), json!({"x.yml": "changed"})),
    );
    let (mut sources, empty) = (Sources::default(), Catalog::default());
    let words = |notes: &[Note]| notes.iter().map(in_words).collect::<Vec<_>>();
    let unread = |catalog: &Catalog| -> Vec<String> {
        let keys = catalog.unread_keys();
        keys.map(|unread| unread.to_string()).collect()
    };
    let (catalog, notes) = empty.after(&mut sources, &[change(None, Some(&first))]);
    let expected = [
        "unread latin.yaml of a",
        "unread x.yml of a",
        "unread y.json of a",
        "z of a: None",
    ];
    assert_eq!(words(&notes), expected);
    let all = unread(&catalog);
    assert_eq!(all.len(), 3);
    assert!(all[0].contains("save its text as UTF-8"), "{all:?}");
    assert!(all[1].contains("end with .yaml; rename it"), "{all:?}");
    let (catalog, notes) = catalog.after(&mut sources, &[change(Some(&first), Some(&second))]);
    assert_eq!(words(&notes), ["no z"]);
    assert_eq!(unread(&catalog).len(), 1);
    let (catalog, _) = catalog.after(&mut sources, &[change(Some(&second), None)]);
    assert_eq!(unread(&catalog).len(), 0);
}

#[test]
fn the_keys_that_are_not_read_are_bounded() {
    let keys = (0..1000).map(|number| (format!("k{number:03}.yml"), json!("")));
    let map = config_map("a", Value::Object(keys.collect()));
    assert_eq!(map.unread.len(), types::UNREAD_KEYS_MAX);
    assert_eq!(&*map.unread[0].key, "k000.yml");
}

#[test]
fn after_any_changes_the_catalog_is_that_of_all_config_maps_read_at_once() {
    let mut random = Random::new(7);
    let mut maps: BTreeMap<String, Arc<ConfigMap>> = BTreeMap::new();
    let (mut sources, mut catalog) = (Sources::default(), Catalog::default());
    for _ in 0..2000 {
        let before = Model::of(&maps);
        let mut changes = Vec::new();
        for _ in 0..=random.below(3) {
            let name = format!("m{}", random.below(4));
            if changes
                .iter()
                .any(|change: &Change<ConfigMap>| *change.object().metadata.name == *name)
            {
                continue;
            }
            let mut data = json!({});
            for _ in 0..random.below(4) {
                let text = random.pick(&[GOOD, "spec: [", "x"]);
                data[format!("t{}.yaml", random.below(4))] = json!(text);
            }
            let new = (random.below(4) > 0).then(|| config_map(&name, data));
            let old = match &new {
                Some(new) => maps.insert(name, Arc::clone(new)),
                None => maps.remove(&name),
            };
            if old.is_some() || new.is_some() {
                changes.push(change(old.as_ref(), new.as_ref()));
            }
        }
        let (next, notes) = catalog.after(&mut sources, &changes);
        catalog = next;
        let after = Model::of(&maps);
        let mut notes: Vec<String> = notes.iter().map(in_words).collect();
        notes.sort();
        assert_eq!(notes, after.notes_after(&before));
        let offers = catalog.offers.iter().map(|(app_type, offer)| {
            let name = offer.source.metadata.name.to_string();
            let text = offer.source.data[&key_of(app_type)].clone();
            (app_type.to_string(), (name, text, offer.problem()))
        });
        assert_eq!(offers.collect::<BTreeMap<_, _>>(), after.offers);
    }
}

#[test]
fn what_is_kept_of_problems_is_bounded() {
    let long = "x".repeat(100_000);
    let texts = [
        format!("{long}: 1\n{long}: 2\n"),
        format!("a: !!{long} b\n"),
        format!("a: ${{{long}}}\n"),
        format!("a: ${{alternatives[\"{long}\"] 'b'}}\n"),
        format!("% {long}\n"),
    ];
    for text in texts {
        let key = AppType::new("bad").unwrap();
        let maps = [config_map("a", json!({"bad.yaml": text}))];
        let problem = Catalog::read(&maps, &JobSettings::default()).0;
        let problem = problem.get(&key).unwrap().problem().unwrap();
        let start: String = problem.chars().take(100).collect();
        assert!(problem.len() < 2 * PROBLEM_BYTES_MAX, "{start}");
    }
    let key = format!("{}start-budget.{long}", crate::model::labels::PREFIX);
    let map = json!({
        "metadata": {"name": "a", "annotations": {key: "1s"}},
        "data": {"good.yaml": GOOD},
    });
    let map = ConfigMap::decode(map.to_string().as_bytes()).unwrap();
    let catalog = Catalog::read(&[Arc::new(map.unwrap())], &JobSettings::default()).0;
    let offer = catalog.get(&AppType::new("good").unwrap()).unwrap();
    assert_eq!(offer.problem().unwrap().len(), PROBLEM_BYTES_MAX);
}

#[test]
fn a_setting_that_nobody_reads_is_reported_once() {
    let prefix = crate::model::labels::PREFIX;
    let map = |annotations: Value, data: Value| {
        let map = json!({"metadata": {"name": "a", "annotations": annotations}, "data": data});
        let map = ConfigMap::decode(map.to_string().as_bytes()).unwrap();
        Arc::new(map.unwrap())
    };
    let annotations =
        json!({format!("{prefix}min-redy"): "1s", format!("b.{prefix}min-ready"): "1s"});
    let first = map(annotations.clone(), json!({"a.yaml": GOOD}));
    let second = map(annotations, json!({"a.yaml": GOOD, "b.yaml": GOOD}));
    let mut sources = Sources::default();
    let reported = |notes: Vec<Note>| {
        let words = notes.iter().map(in_words);
        words.filter(|it| it.contains("not read")).count()
    };
    let (catalog, notes) = Catalog::default().after(&mut sources, &[change(None, Some(&first))]);
    assert_eq!(reported(notes), 2);
    let (catalog, notes) = catalog.after(&mut sources, &[change(Some(&first), Some(&second))]);
    assert_eq!(reported(notes), 0);
    let (_, notes) = catalog.after(&mut sources, &[change(Some(&second), Some(&first))]);
    assert_eq!(reported(notes), 1);
    let many = (0..100).map(|number| (format!("{prefix}x{number}"), json!("")));
    let many = map(Value::Object(many.collect()), json!({"a.yaml": GOOD}));
    let (_, notes) = Catalog::read(&[many], &JobSettings::default());
    assert_eq!(reported(notes), UNREAD_SETTINGS_MAX);
}

/// Types and annotations of one ConfigMap, each so many.
fn large(count: usize) -> Arc<ConfigMap> {
    let types = (0..count).map(|number| (format!("t{number}.yaml"), json!(GOOD)));
    let annotation = |number| format!("config-controller.semafor.ch/unknown-{number}");
    let annotations = (0..count).map(|number| (annotation(number), json!("x")));
    let text = json!({
        "metadata": {"name": "large", "annotations": annotations.collect::<serde_json::Map<_, _>>()},
        "data": types.collect::<serde_json::Map<_, _>>(),
    });
    let text = text.to_string();
    Arc::new(ConfigMap::decode(text.as_bytes()).unwrap().unwrap())
}

/// The author of a ConfigMap could else keep the thread busy that follows all of them.
#[test]
fn settings_cost_no_more_for_a_type_with_more_annotations() {
    let time = |config_map: &Arc<ConfigMap>| {
        let start = std::time::Instant::now();
        let (catalog, _) = Catalog::read(&[Arc::clone(config_map)], &JobSettings::default());
        assert_eq!(catalog.types().count(), config_map.data.len());
        start.elapsed()
    };
    let [small, large] = [large(100), large(800)];
    // By turns, so that other load slows down both; the least disturbed count.
    let times: Vec<_> = (0..5).map(|_| (time(&small), time(&large))).collect();
    let least = times.iter().map(|(small, _)| *small).min().unwrap();
    let most = times.iter().map(|(_, large)| *large).min().unwrap();
    // Eight times as much is proportional, 64 times is each type times each annotation.
    assert!(most < 24 * least, "{most:?} after {least:?}");
}
