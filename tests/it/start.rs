//! Find or start: one GET makes one Job, whoever else asks, and whatever its name.

use serde_json::{Value, json};

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{NAMESPACE, PREFIX, TEMPLATE, TestEnvironment, apply_templates, eventually};

#[test]
fn a_get_starts_an_instance_and_finds_it_again() {
    let environment = TestEnvironment::new();
    let ip = environment.start_instance("/app/hello/ann");
    let again = environment.get("/app/hello/ann");
    again.expect_text(200, &format!(r#"{{"ip":"{ip}"}}"#));
    assert_eq!(environment.jobs(), ["hello-ann"]);
    assert_eq!(environment.kube.count("create", "jobs"), 1);
}

#[test]
fn an_unknown_type_is_a_404_that_names_those_there_are() {
    let environment = TestEnvironment::builder()
        .template("slow", TEMPLATE)
        .start();
    let sentence = environment
        .get("/app/nope/ann")
        .expect_error(404, "unknown_type");
    assert_eq!(
        sentence,
        "there is no app type 'nope'; there are: hello, slow"
    );
    assert_eq!(environment.jobs(), [""; 0]);
}

#[test]
fn a_hundred_gets_of_one_new_name_make_one_job() {
    let environment = TestEnvironment::by_hand();
    let client = environment.client();
    let callers: Vec<_> = (0..100)
        .map(|_| client.begin_get("/app/hello/ann"))
        .collect();
    environment.make_ready("hello-ann");
    let bodies: Vec<Value> = callers
        .into_iter()
        .map(|caller| caller.finish().expect(200))
        .collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    assert_eq!(environment.jobs(), ["hello-ann"]);
    assert_eq!(environment.kube.count("create", "jobs"), 1);
}

#[test]
fn the_job_has_the_template_and_what_keeps_one_pod_a_name() {
    let environment = TestEnvironment::builder()
        .annotation("max-lifetime", "2h")
        .annotation("ttl-after-finished", "5m")
        .start();
    environment.start_instance("/app/hello/ann");
    let job = environment.job("hello-ann").expect("the Job is there");
    let key = |name: &str| format!("{PREFIX}{name}");
    for at in [&job["metadata"], &job["spec"]["template"]["metadata"]] {
        for map in ["labels", "annotations"] {
            assert_eq!(at[map][key("instance-type")], "hello", "{map}");
            assert_eq!(at[map][key("instance-name")], "ann", "{map}");
        }
    }
    assert_eq!(
        job["metadata"]["annotations"][key("started-by")],
        "127.0.0.1"
    );
    let spec = &job["spec"];
    assert_eq!(spec["podReplacementPolicy"], "Failed");
    assert_eq!(spec["backoffLimit"], 0);
    assert_eq!(spec["activeDeadlineSeconds"], 7200);
    assert_eq!(spec["ttlSecondsAfterFinished"], 300);
    let rules = &spec["podFailurePolicy"]["rules"];
    assert_eq!(rules[0]["action"], "Ignore");
    assert_eq!(rules[0]["onPodConditions"][0]["type"], "DisruptionTarget");
    let container = &spec["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "example/app:1");
    assert_eq!(
        container["terminationMessagePolicy"],
        "FallbackToLogsOnError"
    );
}

#[test]
fn a_job_that_kubernetes_retries_keeps_its_default_limit() {
    let text = TEMPLATE.replace("Never", "OnFailure");
    let environment = TestEnvironment::builder().template("again", &text).start();
    environment.start_instance("/app/again/ann");
    let job = environment.job("again-ann").expect("the Job is there");
    assert_eq!(job["spec"]["backoffLimit"], 6, "what Kubernetes fills in");
    assert!(job["spec"]["podFailurePolicy"].is_null());
    assert_eq!(job["spec"]["podReplacementPolicy"], "Failed");
}

/// The fake is slow to tell of a Job that somebody else made, so our POST meets it.
#[test]
fn a_job_that_is_already_there_is_joined() {
    let environment = TestEnvironment::new();
    environment.count_from_here();
    let silent = FaultRule::new("watch", "jobs", Fault::SilentWatch);
    environment.kube.fault(silent);
    environment.kube.cut_connections();
    eventually("the watch of Jobs is silent", || {
        (environment.kube.count("watch", "jobs") > 0).then_some(())
    });
    let theirs = job("hello-ann", "hello", "ann");
    environment
        .kube
        .apply(NAMESPACE, &theirs)
        .expect("a Job is taken");
    environment.get("/app/hello/ann").expect(200);
    assert_eq!(environment.jobs(), ["hello-ann"]);
    let refused = environment.kube.requests();
    let refused = refused
        .iter()
        .find(|request| request.verb == "create" && request.resource == "jobs");
    assert_eq!(refused.map(|request| request.code), Some(409));
    assert_eq!(environment.kube.count("get", "jobs"), 1);
}

#[test]
fn a_name_that_another_pair_has_is_409() {
    let environment = TestEnvironment::builder()
        .template("a", TEMPLATE)
        .template("a-b", TEMPLATE)
        .start();
    environment.start_instance("/app/a/b-c");
    environment
        .get("/app/a-b/c")
        .expect_error(409, "name_taken");
    environment
        .patch("/app/a-b/c", &json!({"k": "v"}))
        .expect_detail(404, "error", "not_found");
    environment
        .delete("/app/a-b/c")
        .expect_detail(404, "No job found", "not_found");
    assert_eq!(environment.jobs(), ["a-b-c"]);
    environment.get("/app/a-b").expect_text(200, "[]");
    environment.get("/app/a/b-c").expect(200);
}

#[test]
fn a_name_that_a_job_of_others_has_is_409() {
    let environment = TestEnvironment::new();
    let mut others = job("hello-ann", "hello", "ann");
    others["spec"]["template"]["metadata"] = json!({});
    environment
        .kube
        .apply(NAMESPACE, &others)
        .expect("a Job is taken");
    environment
        .get("/app/hello/ann")
        .expect_error(409, "name_taken");
    environment
        .delete("/app/hello/ann")
        .expect_detail(404, "No job found", "not_found");
    assert_eq!(environment.jobs(), ["hello-ann"], "it is left alone");
    environment.get("/app/hello").expect_text(200, "[]");
}

#[test]
fn an_answer_that_was_lost_makes_no_second_job() {
    let environment = TestEnvironment::new();
    let lost = FaultRule::new("create", "jobs", Fault::LoseAnswer).times(1);
    environment.kube.fault(lost);
    environment.get("/app/hello/ann").expect(200);
    assert_eq!(environment.jobs(), ["hello-ann"]);
    assert_eq!(environment.kube.all(Resource::Pods, NAMESPACE).len(), 1);
}

/// Each with the path that asks for it, as a client would write it.
const ODD_NAMES: [(&str, &str); 7] = [
    ("Abc_9-XY", "Abc_9-XY"),
    ("-leading.and-trailing_", "-leading.and-trailing_"),
    ("with space", "with%20space"),
    ("Zürich", "Z%C3%BCrich"),
    ("a,b=c!", "a,b=c!"),
    ("dots.in.it", "dots.in.it"),
    ("50%", "50%25"),
];

#[test]
fn names_that_are_not_dns_work_everywhere() {
    let environment = TestEnvironment::new();
    for (name, segment) in ODD_NAMES {
        let path = format!("/app/hello/{segment}");
        let ip = environment.start_instance(&path);
        let body = json!({"username": name});
        environment
            .patch(&path, &body)
            .expect_text(200, r#"{"status":"Success"}"#);
        let found = environment.get(&path).expect(200);
        assert_eq!(found, json!({"ip": ip, "username": name}));
    }
    let list = environment.get("/app/hello").expect(200);
    let mut listed: Vec<&str> = names(&list);
    listed.sort_unstable();
    let mut expected = ODD_NAMES.map(|(name, _)| name);
    expected.sort_unstable();
    assert_eq!(listed, expected);
    for (_, segment) in ODD_NAMES {
        let path = format!("/app/hello/{segment}");
        environment
            .delete(&path)
            .expect_text(200, r#"{"status":"Success"}"#);
    }
    eventually("all are gone", || {
        (environment.get("/app/hello").text == "[]").then_some(())
    });
}

#[test]
fn names_that_differ_only_where_kubernetes_cannot_tell_are_two_instances() {
    let environment = TestEnvironment::new();
    let one = environment.start_instance("/app/hello/Ann");
    let other = environment.start_instance("/app/hello/ann");
    assert_ne!(one, other);
    assert_eq!(environment.jobs().len(), 2);
}

#[test]
fn a_name_of_253_bytes_is_possible() {
    let environment = TestEnvironment::new();
    let name = "n".repeat(253);
    environment.start_instance(&format!("/app/hello/{name}"));
    let list = environment.get("/app/hello").expect(200);
    assert_eq!(names(&list), [name.as_str()]);
}

#[test]
fn a_refusal_is_told_with_kubernetes_own_sentence() {
    let environment = TestEnvironment::new();
    let sentence = "exceeded quota: jobs, requested: count/jobs.batch=1";
    let refused = Fault::Refused(sentence.to_owned());
    environment
        .kube
        .fault(FaultRule::new("create", "jobs", refused).times(1));
    let told = environment
        .get("/app/hello/ann")
        .expect_error(403, "refused");
    assert!(told.contains(sentence), "{told}");
    let denied = Fault::Webhook("admission webhook \"w\" denied the request: no".to_owned());
    environment
        .kube
        .fault(FaultRule::new("create", "jobs", denied).times(1));
    let told = environment
        .get("/app/hello/ann")
        .expect_error(403, "refused");
    assert!(told.contains("denied the request: no"), "{told}");
    environment.get("/app/hello/ann").expect(200);
}

#[test]
fn variables_of_the_query_reach_the_template() {
    let environment = TestEnvironment::new();
    let text = format!("{TEMPLATE}    args: [\"${{alternatives['tz']}}\"]\n");
    apply_templates(&environment.kube, "more", &[("var", &text)], json!({}));
    eventually("the type is on offer", || {
        environment.get("/app").text.contains("var").then_some(())
    });
    let told = environment
        .get("/app/var/a")
        .expect_error(422, "variable_missing");
    assert!(told.contains("'tz'"), "{told}");
    environment.get("/app/var/a?tz=+%222%0Ab&x=").expect(200);
    let job = environment.job("var-a").expect("the Job is there");
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["args"], json!([" \"2\nb"]));
}

fn names(list: &Value) -> Vec<&str> {
    let entries = list.as_array().expect("a list is an array");
    entries.iter().filter_map(|e| e["name"].as_str()).collect()
}

/// A Job as 2.7.1 made it, labelled on its pod template only.
fn job(job_name: &str, app_type: &str, name: &str) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job_name},
        "spec": {"template": {
            "metadata": {"labels": {
                format!("{PREFIX}instance-type"): app_type,
                format!("{PREFIX}instance-name"): name,
            }},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "i"}]},
        }},
    })
}

#[test]
fn who_only_looks_starts_nothing() {
    let environment = TestEnvironment::by_hand();
    let look = |name: &str| {
        let headers = [("Prefer", "create=false")];
        let path = format!("/app/hello/{name}");
        environment.client().begin("GET", &path, &headers, "")
    };
    look("ann").finish().expect_error(404, "not_found");
    assert!(environment.jobs().is_empty());
    let starting = environment.client().begin_get("/app/hello/ann");
    environment.wait_pod("hello-ann");
    let looking = look("ann");
    environment.make_ready("hello-ann");
    let (started, found) = (starting.finish().expect(200), looking.finish().expect(200));
    assert_eq!(started, found);
    assert_eq!(look("ann").finish().expect(200), found);
}
