//! Tokens, RBAC, quotas: which caller gets which 4xx.

use serde_json::{Value, json};

use super::{TestEnvironment, checks, job};
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::raw_kube::RawKube;

checks! {
    a_wrong_token_is_unauthorized,
    a_missing_right_is_forbidden,
    access_reviews_report_rights,
    a_quota_on_jobs_names_the_job,
    a_quota_on_pods_is_an_event_of_the_job,
}

const ROLE: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: config-controller}
rules:
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [patch]
";

/// A client with the permissions of [`ROLE`] and no others.
fn restricted(environment: &TestEnvironment) -> RawKube {
    if let Some(fake) = &environment.fake {
        fake.set_role(&environment.namespace, Some(ROLE));
        return environment.api.with_token(&fake.token());
    }
    let account = "config-controller";
    environment.make("serviceaccounts", &json!({"metadata": {"name": account}}));
    let role: Value = serde_yaml::from_str(ROLE).expect("a Role");
    environment.make("roles", &role);
    let subject =
        json!({"kind": "ServiceAccount", "name": account, "namespace": environment.namespace});
    let binding = json!({
        "metadata": {"name": account}, "subjects": [subject],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account},
    });
    environment.make("rolebindings", &binding);
    let path = format!("{}/token", environment.one("serviceaccounts", account));
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let made = environment.api.post(&path, &request).expect(201);
    let token = made["status"]["token"].as_str().expect("a token");
    let server = server_and_ca();
    let api = RawKube::secure(&server.0, &server.1, Some(token));
    // The authorizer learns of the binding through a watch of its own.
    let deadline = std::time::Instant::now() + super::TEST_TIMEOUT;
    while api.get(&environment.all("jobs")).code != 200 {
        assert!(
            std::time::Instant::now() < deadline,
            "the binding never came"
        );
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    api
}

/// Of the real cluster, without the client certificate.
fn server_and_ca() -> (String, String) {
    crate::raw_kube::server_and_ca(&crate::cluster::shared().kubeconfig_text())
}

fn a_wrong_token_is_unauthorized(environment: &TestEnvironment) {
    let stranger = match &environment.fake {
        Some(_) => environment.api.with_token("wrong"),
        None => {
            let server = server_and_ca();
            RawKube::secure(&server.0, &server.1, Some("wrong"))
        }
    };
    let refusal = stranger
        .get(&environment.all("jobs"))
        .expect_refusal(401, "Unauthorized");
    assert_eq!(refusal["message"], "Unauthorized");
}

fn a_missing_right_is_forbidden(environment: &TestEnvironment) {
    let api = restricted(environment);
    let user = format!(
        "system:serviceaccount:{}:config-controller",
        environment.namespace
    );
    let place = format!("in the namespace \"{}\"", environment.namespace);
    let all = environment.all("jobs");
    api.get(&all).expect(200);

    let refusal = api
        .post(&all, &job("a", &json!({})))
        .expect_refusal(403, "Forbidden");
    let expected = format!(
        "jobs.batch is forbidden: User \"{user}\" cannot create resource \"jobs\" in API group \"batch\" {place}"
    );
    assert_eq!(refusal["message"], *expected);
    assert_eq!(
        refusal["details"],
        json!({"group": "batch", "kind": "jobs"})
    );

    let refusal = api
        .patch(&environment.one("pods", "p"), &json!({}))
        .expect_refusal(403, "Forbidden");
    let expected = format!(
        "pods \"p\" is forbidden: User \"{user}\" cannot patch resource \"pods\" in API group \"\" {place}"
    );
    assert_eq!(refusal["message"], *expected);
    assert_eq!(refusal["details"], json!({"name": "p", "kind": "pods"}));

    let refusal = api
        .post(
            &environment.all("leases"),
            &json!({"metadata": {"name": "l"}}),
        )
        .expect_refusal(403, "Forbidden");
    let expected = format!(
        "leases.coordination.k8s.io is forbidden: User \"{user}\" cannot create resource \"leases\" in API group \"coordination.k8s.io\" {place}"
    );
    assert_eq!(refusal["message"], *expected);
    let details = json!({"group": "coordination.k8s.io", "kind": "leases"});
    assert_eq!(refusal["details"], details);

    let pods = environment.all("pods");
    let refusal = api
        .get(&format!("{pods}?fieldSelector=metadata.name%3Dp"))
        .expect_refusal(403, "Forbidden");
    let expected = format!(
        "pods \"p\" is forbidden: User \"{user}\" cannot list resource \"pods\" in API group \"\" {place}"
    );
    assert_eq!(refusal["message"], *expected);

    let watch = api.get(&format!("{all}?watch=1"));
    let message = watch.message().to_owned();
    assert!(
        message.contains("cannot watch resource \"jobs\""),
        "{message}"
    );
    watch.expect_refusal(403, "Forbidden");
    let everywhere = api.get("/apis/batch/v1/jobs");
    assert!(everywhere.message().ends_with("at the cluster scope"));
    everywhere.expect_refusal(403, "Forbidden");
}

fn access_reviews_report_rights(environment: &TestEnvironment) {
    let api = restricted(environment);
    let may = |verb: &str, group: &str, resource: &str, namespace: &str| {
        let asked =
            json!({"verb": verb, "group": group, "resource": resource, "namespace": namespace});
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let response = api.post(path, &review).expect(201);
        response["status"]["allowed"]
            .as_bool()
            .expect("a word on it")
    };
    let own = environment.namespace.as_str();
    assert!(may("list", "batch", "jobs", own));
    assert!(!may("watch", "batch", "jobs", own));
    assert!(!may("list", "batch", "jobs", ""));
    assert!(!may("list", "", "jobs", own));
    assert!(!may("list", "", "pods", own));
    assert!(may("patch", "coordination.k8s.io", "leases", own));
    assert!(!may("watch", "coordination.k8s.io", "leases", own));
    assert!(!may("patch", "", "leases", own));
    assert!(!may("create", "authentication.k8s.io", "tokenreviews", ""));
}

/// Limits what the namespace may hold; the fake refuses what it is configured to.
fn quota(environment: &TestEnvironment, what: &str) {
    let object = json!({"metadata": {"name": "quota"}, "spec": {"hard": {what: "0"}}});
    environment.make("resourcequotas", &object);
    let path = environment.all("resourcequotas");
    environment.wait_at(&path, "", |quotas| {
        quotas.values().any(|q| !q["status"]["hard"].is_null())
    });
}

/// Waits until admission knows the quota, which it learns through a watch.
fn wait_until_refused(environment: &TestEnvironment) {
    let path = format!("{}?dryRun=All", environment.all("jobs"));
    let deadline = std::time::Instant::now() + super::TEST_TIMEOUT;
    while environment.api.post(&path, &job("a", &json!({}))).code != 403 {
        assert!(std::time::Instant::now() < deadline, "the quota never came");
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
}

fn a_quota_on_jobs_names_the_job(environment: &TestEnvironment) {
    match &environment.fake {
        Some(fake) => {
            let why = "exceeded quota: quota, requested: count/jobs.batch=1, used: \
                       count/jobs.batch=0, limited: count/jobs.batch=0";
            let fault = Fault::Refused(why.to_owned());
            fake.fault(FaultRule::new("create", "jobs", fault));
        }
        None => {
            quota(environment, "count/jobs.batch");
            wait_until_refused(environment);
        }
    }
    let refusal = environment
        .api
        .post(&environment.all("jobs"), &job("a", &json!({})))
        .expect_refusal(403, "Forbidden");
    let message = refusal["message"].as_str().unwrap_or("");
    assert!(
        message.starts_with("jobs.batch \"a\" is forbidden: exceeded quota: quota, requested:"),
        "{message}"
    );
    let details = json!({"name": "a", "group": "batch", "kind": "jobs"});
    assert_eq!(refusal["details"], details);
}

fn a_quota_on_pods_is_an_event_of_the_job(environment: &TestEnvironment) {
    match &environment.fake {
        Some(fake) => fake.refuse_pods(Some(
            "pods \"a-x\" is forbidden: exceeded quota: quota, requested: pods=1, used: pods=0, limited: pods=0",
        )),
        None => quota(environment, "pods"),
    }
    let made = environment.make("jobs", &job("a", &json!({})));
    let events = environment.wait("events", "fieldSelector=type!%3DNormal", |events| {
        events.values().any(|e| e["reason"] == "FailedCreate")
    });
    let event = events
        .values()
        .find(|e| e["reason"] == "FailedCreate")
        .expect("it was waited for");
    let message = event["message"].as_str().unwrap_or("");
    assert!(
        message.starts_with("Error creating: pods \"a-"),
        "{message}"
    );
    assert!(message.contains("exceeded quota: quota"), "{message}");
    assert_eq!(event["involvedObject"]["uid"], super::uid(&made));
    assert_eq!(event["involvedObject"]["kind"], "Job");
    let job = environment
        .api
        .get(&environment.one("jobs", "a"))
        .expect(200);
    assert!(
        job["status"]["conditions"].is_null(),
        "the Job does not show it"
    );
}
