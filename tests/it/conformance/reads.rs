//! Selectors, lists, pages.

use serde_json::{Value, json};

use super::{TestEnvironment, checks, names, version};

checks! {
    lists_are_selected_by_labels,
    an_invalid_selector_is_a_bad_request,
    lists_are_selected_by_fields,
    a_list_of_one_name_has_a_version_also_for_none,
    items_of_a_list_have_no_kind,
    a_namespace_that_does_not_exist_has_an_empty_list,
    pages_show_one_version,
    a_page_of_a_selector_has_a_continue_token,
    an_invalid_continue_token_is_a_bad_request,
    unknown_paths_are_not_found,
    a_version_from_the_future_is_refused,
    a_list_of_an_exact_version_shows_what_was_there,
    a_list_of_a_compacted_version_is_expired,
    a_version_that_is_none_is_a_bad_request,
}

fn three(environment: &TestEnvironment) {
    environment.config_map("a", &json!({"color": "red", "size": "1"}));
    environment.config_map("b", &json!({"color": "blue", "size": "2"}));
    environment.config_map("c", &json!({"size": "3"}));
}

fn lists_are_selected_by_labels(environment: &TestEnvironment) {
    three(environment);
    for (selector, expected) in [
        ("color", &["a", "b"][..]),
        ("color=red", &["a"]),
        ("color%3D%3Dred", &["a"]),
        ("color!=red,size", &["b", "c"]),
        ("color+in+(red,green)", &["a"]),
        ("color+notin+(red),size", &["b", "c"]),
        ("!color,size", &["c"]),
        ("size,color=blue", &["b"]),
        ("size%3E1", &["b", "c"]),
        ("none", &[]),
    ] {
        let list = environment.list("configmaps", &format!("labelSelector={selector}"));
        assert_eq!(names(&list), expected, "{selector}");
    }
}

fn an_invalid_selector_is_a_bad_request(environment: &TestEnvironment) {
    let all = environment.all("configmaps");
    for selector in ["a+in+1", "a+b", "=x", "a=b+c", "a+in+(x", "-a"] {
        let got = environment
            .api
            .get(&format!("{all}?labelSelector={selector}"));
        assert_eq!((got.code, got.reason()), (400, "BadRequest"), "{selector}");
    }
    let got = environment
        .api
        .get(&format!("{all}?fieldSelector=data.k%3Dv"));
    got.expect_refusal(400, "BadRequest");
}

fn lists_are_selected_by_fields(environment: &TestEnvironment) {
    three(environment);
    let list = environment.list("configmaps", "fieldSelector=metadata.name%3Db");
    assert_eq!(names(&list), ["b"]);
    for (name, kind) in [("e1", "Normal"), ("e2", "Warning")] {
        let event = json!({
            "metadata": {"name": name}, "type": kind, "reason": "R", "message": "m",
            "involvedObject": {"kind": "Job", "name": "j", "namespace": environment.namespace, "uid": "u"},
        });
        environment.make("events", &event);
    }
    let list = environment.list("events", "fieldSelector=type!%3DNormal");
    assert_eq!(names(&list), ["e2"]);
    let list = environment.list(
        "events",
        "fieldSelector=involvedObject.name%3Dj,type%3DNormal",
    );
    assert_eq!(names(&list), ["e1"]);
}

/// The version of such a list lies after everything that has happened to the name, and before what comes.
fn a_list_of_one_name_has_a_version_also_for_none(environment: &TestEnvironment) {
    let number = |object: &Value| version(object).parse::<u64>().expect("a version");
    let read = || environment.list("configmaps", "fieldSelector=metadata.name%3Dd");
    let made = environment.config_map("d", &json!({}));
    let found = read();
    assert_eq!(names(&found), ["d"]);
    assert!(number(&found) >= number(&made));
    environment
        .api
        .delete(&environment.one("configmaps", "d"), &json!({}))
        .expect(200);
    let none = read();
    assert!(names(&none).is_empty());
    assert!(number(&none) > number(&found));
    let again = environment.config_map("d", &json!({}));
    assert!(number(&again) > number(&none));
}

fn items_of_a_list_have_no_kind(environment: &TestEnvironment) {
    three(environment);
    let list = environment.list("configmaps", "labelSelector=size");
    assert_eq!(list["kind"], "ConfigMapList");
    assert_eq!(list["apiVersion"], "v1");
    let items = list["items"].as_array().expect("items");
    assert!(
        items
            .iter()
            .all(|i| i["kind"].is_null() && i["apiVersion"].is_null())
    );
}

fn a_namespace_that_does_not_exist_has_an_empty_list(environment: &TestEnvironment) {
    let got = environment
        .api
        .get("/apis/batch/v1/namespaces/not-there/jobs");
    let list = got.expect(200);
    assert!(names(&list).is_empty());
    assert!(!version(&list).is_empty());
}

fn pages_show_one_version(environment: &TestEnvironment) {
    for name in ["a", "b", "c", "d", "e"] {
        environment.config_map(name, &json!({"paged": "1"}));
    }
    let first = environment.list("configmaps", "limit=2");
    assert_eq!(names(&first).len(), 2);
    let seen: Vec<String> = names(&first).iter().map(|n| (*n).to_owned()).collect();
    assert!(first["metadata"]["remainingItemCount"].as_u64() >= Some(3));
    let path = environment.one("configmaps", "d");
    environment.api.delete(&path, &json!({})).expect(200);
    environment.config_map("bb", &json!({}));
    let mut all = seen;
    let mut token = first["metadata"]["continue"].clone();
    while let Some(text) = token.as_str().filter(|t| !t.is_empty()) {
        let page = environment.list("configmaps", &format!("limit=2&continue={text}"));
        assert_eq!(version(&page), version(&first));
        all.extend(names(&page).iter().map(|n| (*n).to_owned()));
        token = page["metadata"]["continue"].clone();
    }
    all.retain(|name| name != "kube-root-ca.crt");
    assert_eq!(all, ["a", "b", "c", "d", "e"]);
}

fn a_page_of_a_selector_has_a_continue_token(environment: &TestEnvironment) {
    three(environment);
    let first = environment.list("configmaps", "labelSelector=size&limit=1");
    assert_eq!(names(&first), ["a"]);
    assert!(first["metadata"]["remainingItemCount"].is_null());
    let token = first["metadata"]["continue"]
        .as_str()
        .expect("there is more");
    let rest = environment.list(
        "configmaps",
        &format!("labelSelector=size&limit=5&continue={token}"),
    );
    assert_eq!(names(&rest), ["b", "c"]);
    assert!(rest["metadata"]["continue"].is_null());
    // A full page does not know that nothing more is chosen: an empty one follows.
    environment.config_map("z", &json!({}));
    let full = environment.list("configmaps", "labelSelector=size&limit=3");
    let token = full["metadata"]["continue"].as_str().expect("perhaps more");
    let rest = environment.list(
        "configmaps",
        &format!("labelSelector=size&limit=3&continue={token}"),
    );
    assert!(names(&rest).is_empty());
    assert!(rest["metadata"]["continue"].is_null());
}

fn an_invalid_continue_token_is_a_bad_request(environment: &TestEnvironment) {
    let got = environment.api.get(&format!(
        "{}?limit=1&continue=nonsense",
        environment.all("configmaps")
    ));
    got.expect_refusal(400, "BadRequest");
}

fn unknown_paths_are_not_found(environment: &TestEnvironment) {
    let got = environment.api.get(&environment.all("gadgets"));
    let refusal = got.expect_refusal(404, "NotFound");
    let message = "the server could not find the requested resource";
    assert_eq!(refusal["message"], message);
    let got = environment
        .api
        .send("DELETE", &environment.all("configmaps/a/b"), "", "");
    assert_eq!(got.code, 404);
}

fn a_version_from_the_future_is_refused(environment: &TestEnvironment) {
    let all = environment.all("configmaps");
    let got = environment
        .api
        .get(&format!("{all}?resourceVersion=99999999999"));
    let refusal = got.expect_refusal(504, "Timeout");
    let causes = &refusal["details"]["causes"];
    assert_eq!(causes[0]["reason"], "ResourceVersionTooLarge");
    let message = refusal["message"].as_str().unwrap_or("");
    let begin = "Timeout: Too large resource version: 99999999999, current: ";
    assert!(message.starts_with(begin), "{message}");
    environment
        .api
        .get(&format!(
            "{all}?resourceVersion=99999999999&resourceVersionMatch=Exact"
        ))
        .expect_refusal(504, "Timeout");
    environment
        .api
        .get(&format!("{all}?resourceVersion=0"))
        .expect(200);
}

/// How a replica learns what preceded its own Job: by the version of the response to its POST.
fn a_list_of_an_exact_version_shows_what_was_there(environment: &TestEnvironment) {
    let suspended = |name: &str| {
        let mut object = super::job(name, &json!({"suspend": true}));
        object["metadata"]["labels"] = json!({"l": "1"});
        environment.make("jobs", &object)
    };
    let label = "labelSelector=l%3D1";
    let at = |version: &str, more: &str| {
        let query = format!("{label}&resourceVersion={version}&resourceVersionMatch=Exact{more}");
        environment.list("jobs", &query)
    };
    let first = suspended("a");
    let second = suspended("b");
    let options = json!({"propagationPolicy": "Background"});
    let path = environment.one("jobs", "a");
    environment.api.delete(&path, &options).expect(200);
    let third = suspended("c");
    for (made, expected) in [
        (&first, &["a"][..]),
        (&second, &["a", "b"]),
        (&third, &["b", "c"]),
    ] {
        let list = at(version(made), "");
        assert_eq!(names(&list), expected);
        assert_eq!(version(&list), version(made));
    }
    let page = at(version(&second), "&limit=1");
    assert_eq!(names(&page), ["a"]);
    let token = page["metadata"]["continue"].as_str().expect("more");
    let rest = environment.list("jobs", &format!("{label}&limit=1&continue={token}"));
    assert_eq!(names(&rest), ["b"]);
    assert_eq!(version(&rest), version(&second));
    // Without a rule a list with a limit is exact, one without is not.
    let query = format!("{label}&resourceVersion={}", version(&second));
    let limited = environment.list("jobs", &format!("{query}&limit=5"));
    assert_eq!(names(&limited), ["a", "b"]);
    for rule in ["", "&resourceVersionMatch=NotOlderThan"] {
        let list = environment.list("jobs", &format!("{query}{rule}"));
        assert_eq!(names(&list), ["b", "c"]);
    }
}

fn a_list_of_a_compacted_version_is_expired(environment: &TestEnvironment) {
    let all = environment.all("jobs");
    let got = environment.api.get(&format!(
        "{all}?resourceVersion=1&resourceVersionMatch=Exact"
    ));
    if environment.fake.is_none() && got.code == 200 {
        // A cluster that was set up just now has forgotten nothing yet.
        return;
    }
    let refusal = got.expect_refusal(410, "Expired");
    let message = "The resourceVersion for the provided list is too old.";
    assert_eq!(refusal["message"], message);
    environment.list(
        "jobs",
        "resourceVersion=1&resourceVersionMatch=NotOlderThan",
    );
}

fn a_version_that_is_none_is_a_bad_request(environment: &TestEnvironment) {
    let all = environment.all("jobs");
    let got = environment.api.get(&format!("{all}?resourceVersion=x"));
    let refusal = got.expect_refusal(400, "BadRequest");
    assert_eq!(
        refusal["message"],
        "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: \
         parsing \"x\": invalid syntax"
    );
    for (query, why) in [
        (
            "resourceVersionMatch=Exact",
            "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            "resourceVersion=0&resourceVersionMatch=Exact",
            "Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ),
        (
            "resourceVersion=1&resourceVersionMatch=Exact&continue=x",
            "Forbidden: resourceVersionMatch is forbidden when continue is provided",
        ),
        (
            "resourceVersion=1&resourceVersionMatch=exact",
            "Unsupported value: \"exact\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
        ),
    ] {
        let got = environment.api.get(&format!("{all}?{query}"));
        let refusal = got.expect_refusal(422, "Invalid");
        let cause = &refusal["details"]["causes"][0];
        assert_eq!(cause["message"], why, "{query}");
        assert_eq!(cause["field"], "resourceVersionMatch");
    }
}
