//! The storage alone.

use super::*;
use read::ListOptions;
use selector::Selector;

fn cluster(history_max: usize) -> Cluster {
    Cluster::new(Clock::manual(), history_max)
}

fn config_map(cluster: &mut Cluster, name: &str) -> u64 {
    let object = json!({"metadata": {"name": name}, "data": {"none": null}});
    let made = cluster.create(Resource::ConfigMaps, "default", object, false);
    let made = made.expect("a valid ConfigMap");
    meta(&made, "resourceVersion").parse().expect("a number")
}

#[test]
fn the_history_is_bounded_and_reports_its_beginning() {
    let mut cluster = cluster(3);
    let versions: Vec<u64> = (0..5)
        .map(|n| config_map(&mut cluster, &format!("c{n}")))
        .collect();
    assert_eq!(cluster.compacted(), versions[1]);
    let events = |from| {
        let selector = Selector::default();
        let events = cluster.watch_events(Resource::ConfigMaps, "default", &selector, from);
        events.map(|e| e.len()).map_err(|refusal| refusal.code)
    };
    assert_eq!(events(versions[0]), Err(410));
    assert_eq!(events(versions[1]), Ok(3));
    assert_eq!(events(versions[4]), Ok(0));
}

#[test]
fn an_exact_list_shows_an_old_version() {
    let mut cluster = cluster(100);
    let then = config_map(&mut cluster, "a");
    config_map(&mut cluster, "b");
    cluster.remove(&(Resource::ConfigMaps, "default".to_owned(), "a".to_owned()));
    let options = ListOptions {
        version: then.to_string(),
        exact: true,
        ..ListOptions::default()
    };
    let list = cluster.list(Resource::ConfigMaps, "default", &options);
    let list = list.expect("the history reaches back");
    let metadata = &list["items"][0]["metadata"];
    assert_eq!(metadata["name"], "a");
    assert_eq!(metadata["resourceVersion"], then.to_string());
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
}

#[test]
fn writes_of_unknown_kinds_leave_gaps_in_the_versions() {
    let mut cluster = cluster(100);
    let first = config_map(&mut cluster, "a");
    cluster.skip_revisions(7);
    assert_eq!(config_map(&mut cluster, "b"), first + 8);
}

#[test]
fn nulls_are_not_stored() {
    let mut cluster = cluster(100);
    config_map(&mut cluster, "a");
    let key = (Resource::ConfigMaps, "default".to_owned(), "a".to_owned());
    let stored = cluster.object(&key).expect("it is there");
    assert_eq!(stored["data"], json!({}));
    assert!(!cluster.change(&key, |o| o["metadata"]["labels"] = Value::Null));
}
