//! The cases that are recorded: what is started, what is done meanwhile, and until when it is watched.

use std::rc::Rc;
use std::time::Duration;

use config_controller::model::job::JobSettings;
use serde_json::json;

use super::super::environment::text;
use super::super::troubles::{self, NodeLabel};
use super::super::watcher::{is_ready, says};
use super::Fixture;

/// A case.
pub(super) struct Case {
    /// The name of its file.
    pub(super) name: &'static str,
    /// A word that must be in it, in some status or event.
    pub(super) word: &'static str,
    /// Starts it, and watches it to its end.
    pub(super) play: fn(&mut Fixture<'_>),
}

const fn case(name: &'static str, word: &'static str, play: fn(&mut Fixture<'_>)) -> Case {
    Case { name, word, play }
}

/// All cases, in the order of a start's phases.
pub(super) const CASES: &[Case] = &[
    case("ok", "\"Ready\"", ok),
    // Admitting: what the POST of the Job is answered with.
    case("invalid-job", "Invalid", |fixture| {
        fixture.start_refused(
            troubles::app(|spec| spec["restartPolicy"] = json!("Always")),
            422,
        );
    }),
    case("quota-on-jobs", "exceeded quota", quota_on_jobs),
    // Creating: what the Job controller says of a pod that it cannot make.
    case("quota-on-pods-raised", "exceeded quota", quota_on_pods),
    case("quota-wants-limits", "failed quota", |fixture| {
        troubles::make_quota(&fixture.environment, "limits.memory", "1Gi");
        fixture.start(troubles::app(|_| ()));
        fixture.until_event("FailedCreate");
    }),
    case("pod-security", "violates PodSecurity", pod_security),
    case("limit-range", "maximum memory usage", limit_range),
    case("no-priority-class", "PriorityClass", |fixture| {
        fixture.start(troubles::app(|spec| {
            spec["priorityClassName"] = json!("none")
        }));
        fixture.until_event("FailedCreate");
    }),
    case("no-service-account", "service account", no_service_account),
    case("suspended", "Suspended", suspended),
    // Scheduling.
    case("unschedulable-then-node", "Unschedulable", unschedulable),
    case("too-large-for-any-node", "Insufficient memory", |fixture| {
        fixture.start(troubles::with_memory("900Ti"));
        fixture.until_pod("Unschedulable");
    }),
    // Mounting.
    case(
        "no-config-map-for-volume",
        "FailedMount",
        config_map_for_volume,
    ),
    case("no-sandbox", "FailedCreatePodSandBox", no_sandbox),
    // Pulling.
    case("registry-401", "401 Unauthorized", |fixture| {
        pull(fixture, "r401")
    }),
    case("registry-401-basic", "401 Unauthorized", |fixture| {
        pull(fixture, "r401-basic")
    }),
    case("registry-401-no-token", "401 Unauthorized", |fixture| {
        pull(fixture, "r401-no-token")
    }),
    case("registry-401-scope", "insufficient_scope", |fixture| {
        pull(fixture, "r401-scope")
    }),
    case("registry-403", "403 Forbidden", |fixture| {
        pull(fixture, "r403")
    }),
    case("registry-404", "not found", |fixture| pull(fixture, "r404")),
    case("registry-429", "429 Too Many Requests", |fixture| {
        pull(fixture, "r429")
    }),
    case("registry-500", "500 Internal Server Error", |fixture| {
        pull(fixture, "r500")
    }),
    case("registry-never-answers", "Pulling", |fixture| {
        fixture.start(troubles::image(&fixture.registry.image("never")));
        fixture.until_event("Pulling");
        fixture.for_a_while(Duration::from_secs(30));
    }),
    case(
        "registry-refuses-connection",
        "connection refused",
        |fixture| {
            // Nobody listens on port 1.
            fixture.start(troubles::image("127.0.0.1:1/team/app:1"));
            fixture.until_pod("ImagePullBackOff");
        },
    ),
    case("invalid-image-name", "InvalidImageName", |fixture| {
        fixture.start(troubles::image("No/Such:Image:Name"));
        fixture.until_pod("InvalidImageName");
    }),
    case("image-may-not-be-pulled", "ErrImageNeverPull", |fixture| {
        fixture.start(troubles::never_pulled());
        fixture.until_pod("ErrImageNeverPull");
    }),
    // Initialising.
    case("init-fails", "no database to prepare", |fixture| {
        fixture.start(troubles::failing_init());
        fixture.until_job("\"Failed\"");
    }),
    case("init-fails-and-is-retried", "CrashLoopBackOff", |fixture| {
        fixture.start(troubles::on_failure(troubles::failing_init()));
        fixture.until_pod("CrashLoopBackOff");
        fixture.until_pod("\"restartCount\":2");
    }),
    // Starting.
    case(
        "secret-appears",
        "CreateContainerConfigError",
        secret_appears,
    ),
    case("no-seccomp-profile", "CreateContainerError", |fixture| {
        fixture.start(troubles::app(|spec| {
            spec["securityContext"] = json!({
                "seccompProfile": {"type": "Localhost", "localhostProfile": "none.json"}});
        }));
        fixture.until_pod("CreateContainerError");
    }),
    case("bad-command", "StartError", |fixture| {
        fixture.start(troubles::bad_command());
        fixture.until_job("\"Failed\"");
    }),
    case("bad-command-is-retried", "RunContainerError", |fixture| {
        fixture.start(troubles::on_failure(troubles::bad_command()));
        fixture.until_pod("CrashLoopBackOff");
    }),
    case("exit-3", "no licence", |fixture| {
        fixture.start(troubles::exits("3", "no licence"));
        fixture.until_job("\"Failed\"");
    }),
    case(
        "exit-3-with-retries",
        "BackoffLimitExceeded",
        exit_with_retries,
    ),
    case("exit-0", "Completed", |fixture| {
        fixture.start(troubles::exits("0", "nothing to do"));
        fixture.until_job("\"Complete\"");
    }),
    case("out-of-memory", "OOMKilled", |fixture| {
        fixture.start(troubles::out_of_memory());
        fixture.until_job("\"Failed\"");
    }),
    case("crash-loop-to-the-end", "BackoffLimitExceeded", crash_loop),
    // Readying.
    case("probe-never-passes", "Unhealthy", |fixture| {
        fixture.start(troubles::never_ready());
        fixture.until_event("Unhealthy");
    }),
    case("liveness-fails", "Killing", liveness_fails),
    // Ends of what was ready.
    case("evicted", "DisruptionTarget", evicted),
    case(
        "evicted-and-exits-0",
        "DisruptionTarget",
        evicted_and_exits_0,
    ),
    case("pod-deleted-by-hand", "\"Failed\"", pod_deleted),
    case("lifetime-is-over", "DeadlineExceeded", |fixture| {
        let settings = JobSettings {
            max_lifetime: Some(Duration::from_secs(4)),
            ..JobSettings::default()
        };
        fixture.start_with(troubles::app(|_| ()), &settings);
        fixture.until_ready();
        fixture.until_job("\"Failed\"");
    }),
];

fn ok(fixture: &mut Fixture<'_>) {
    fixture.start(troubles::app(|_| ()));
    fixture.until_ready();
}

/// An image of a repository that is refused like this, until the kubelet has tried twice.
fn pull(fixture: &mut Fixture<'_>, refusal: &str) {
    fixture.start(troubles::image(&fixture.registry.image(refusal)));
    fixture.until_pod("ImagePullBackOff");
    fixture.until_pod("ErrImagePull");
}

fn quota_on_jobs(fixture: &mut Fixture<'_>) {
    troubles::make_quota(&fixture.environment, "count/jobs.batch", "0");
    fixture.start_refused(troubles::app(|_| ()), 403);
}

fn quota_on_pods(fixture: &mut Fixture<'_>) {
    troubles::make_quota(&fixture.environment, "pods", "0");
    fixture.start(troubles::app(|_| ()));
    fixture.until_event("exceeded quota");
    fixture.for_a_while(Duration::from_secs(3));
    troubles::raise_quota(&fixture.environment, "pods", "5");
    fixture.until_ready();
}

fn pod_security(fixture: &mut Fixture<'_>) {
    troubles::restrict(&fixture.environment);
    fixture.start(troubles::privileged());
    fixture.until_event("FailedCreate");
}

fn limit_range(fixture: &mut Fixture<'_>) {
    troubles::limit_memory(&fixture.environment, "64Mi");
    fixture.start(troubles::with_memory("128Mi"));
    fixture.until_event("FailedCreate");
}

fn no_service_account(fixture: &mut Fixture<'_>) {
    fixture.start(troubles::app(|spec| {
        spec["serviceAccountName"] = json!("worker")
    }));
    fixture.until_event("FailedCreate");
    let account = json!({"metadata": {"name": "worker"}});
    troubles::make(&fixture.environment, "serviceaccounts", &account);
    fixture.until_ready();
}

fn suspended(fixture: &mut Fixture<'_>) {
    fixture.start(troubles::app(|_| ()));
    fixture.until_ready();
    let suspend = |suspend: bool| json!({"spec": {"suspend": suspend}});
    fixture.change("jobs", "app-ann", &suspend(true));
    fixture.until("a suspended Job without pods", "Job", |job| {
        says(job, "Suspended") && job["status"]["terminating"] == 0
    });
    fixture.change("jobs", "app-ann", &suspend(false));
    fixture.until_ready();
}

fn unschedulable(fixture: &mut Fixture<'_>) {
    let label = format!("recordings/{}", fixture.environment.namespace);
    fixture.start(troubles::selecting(&label));
    fixture.until_pod("Unschedulable");
    fixture.for_a_while(Duration::from_secs(2));
    let environment = Rc::clone(&fixture.environment);
    let _label = NodeLabel::set(&environment, &label);
    fixture.until_ready();
}

fn config_map_for_volume(fixture: &mut Fixture<'_>) {
    fixture.start(troubles::config_volume());
    fixture.until_event("FailedMount");
    troubles::make_settings(&fixture.environment);
    fixture.until_ready();
}

/// A runtime that the node does not have.
fn no_sandbox(fixture: &mut Fixture<'_>) {
    let classes = "/apis/node.k8s.io/v1/runtimeclasses";
    let name = fixture.environment.namespace.clone();
    let class = json!({"metadata": {"name": name}, "handler": "no-such-runtime"});
    fixture.environment.api.post(classes, &class).expect(201);
    fixture.start(troubles::app(|spec| spec["runtimeClassName"] = json!(name)));
    fixture.until_event("FailedCreatePodSandBox");
    let class = format!("{classes}/{name}");
    fixture
        .environment
        .api
        .delete(&class, &json!({}))
        .expect(200);
}

fn secret_appears(fixture: &mut Fixture<'_>) {
    fixture.start(troubles::secret_variable());
    fixture.until_pod("CreateContainerConfigError");
    troubles::make_secret(&fixture.environment);
    fixture.until_ready();
}

fn exit_with_retries(fixture: &mut Fixture<'_>) {
    let settings = JobSettings {
        backoff_limit: Some(1),
        ..JobSettings::default()
    };
    fixture.start_with(troubles::exits("3", "no licence"), &settings);
    fixture.until_job("\"Failed\"");
}

/// Kubernetes' own limit is 6, which takes minutes.
fn crash_loop(fixture: &mut Fixture<'_>) {
    let settings = JobSettings {
        backoff_limit: Some(2),
        ..JobSettings::default()
    };
    let template = troubles::on_failure(troubles::exits("3", "no licence"));
    fixture.start_with(template, &settings);
    fixture.until_job("\"Failed\"");
}

fn liveness_fails(fixture: &mut Fixture<'_>) {
    let mut template = troubles::stubborn();
    let main = &mut template["spec"]["containers"][0];
    main["readinessProbe"]["httpGet"]["port"] = json!(8081);
    main["livenessProbe"] = main["readinessProbe"].clone();
    fixture.start(template);
    fixture.until_event("Killing");
    fixture.until_job("\"Failed\"");
}

/// Asks for the eviction of the pod once it is ready, as a drain of its node does.
fn evict(fixture: &mut Fixture<'_>) -> String {
    let name = fixture.until_ready();
    let path = format!("{}/{name}/eviction", fixture.environment.all("pods"));
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    fixture.environment.api.post(&path, &eviction).expect(201);
    name
}

fn evicted(fixture: &mut Fixture<'_>) {
    fixture.start(troubles::stubborn());
    let old = evict(fixture);
    fixture.until("the next pod is ready", "Pod", |pod| {
        is_ready(pod) && text(&pod["metadata"]["name"]) != old
    });
}

fn evicted_and_exits_0(fixture: &mut Fixture<'_>) {
    fixture.start(troubles::app(|_| ()));
    evict(fixture);
    fixture.until_job("\"Complete\"");
}

fn pod_deleted(fixture: &mut Fixture<'_>) {
    fixture.start(troubles::stubborn());
    let name = fixture.until_ready();
    let path = format!("{}/{name}", fixture.environment.all("pods"));
    fixture
        .environment
        .api
        .delete(&path, &json!({}))
        .expect(200);
    fixture.until_job("\"Failed\"");
}
