//! The cases that are recorded: what is started, what is done meanwhile, and until when it is watched.

use std::rc::Rc;
use std::time::Duration;

use config_controller::model::job::JobSettings;
use serde_json::json;

use super::super::environment::text;
use super::super::failing_pods::{self, NodeLabel};
use super::super::watcher::{is_ready, mentions};
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
    // Admitting: the responses to the POST of the Job.
    case("invalid-job", "Invalid", |fixture| {
        fixture.start_refused(
            failing_pods::app(|spec| spec["restartPolicy"] = json!("Always")),
            422,
        );
    }),
    case("quota-on-jobs", "exceeded quota", quota_on_jobs),
    // Creating: the Job controller's events about a pod that it cannot create.
    case("quota-on-pods-raised", "exceeded quota", quota_on_pods),
    case("quota-wants-limits", "failed quota", |fixture| {
        failing_pods::make_quota(&fixture.environment, "limits.memory", "1Gi");
        fixture.start(failing_pods::app(|_| ()));
        fixture.until_event("FailedCreate");
    }),
    case("pod-security", "violates PodSecurity", pod_security),
    case("limit-range", "maximum memory usage", limit_range),
    case("no-priority-class", "PriorityClass", |fixture| {
        fixture.start(failing_pods::app(|spec| {
            spec["priorityClassName"] = json!("none")
        }));
        fixture.until_event("FailedCreate");
    }),
    case("no-service-account", "service account", no_service_account),
    case("suspended", "Suspended", suspended),
    // Scheduling.
    case("unschedulable-then-node", "Unschedulable", unschedulable),
    case("too-large-for-any-node", "Insufficient memory", |fixture| {
        fixture.start(failing_pods::with_memory("900Ti"));
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
        fixture.start(failing_pods::image(&fixture.registry.image("never")));
        fixture.until_event("Pulling");
        fixture.for_a_while(Duration::from_secs(30));
    }),
    case(
        "registry-refuses-connection",
        "connection refused",
        |fixture| {
            // Port 1 is closed.
            fixture.start(failing_pods::image("127.0.0.1:1/team/app:1"));
            fixture.until_pod("ImagePullBackOff");
        },
    ),
    case("invalid-image-name", "InvalidImageName", |fixture| {
        fixture.start(failing_pods::image("No/Such:Image:Name"));
        fixture.until_pod("InvalidImageName");
    }),
    case("image-may-not-be-pulled", "ErrImageNeverPull", |fixture| {
        fixture.start(failing_pods::never_pulled());
        fixture.until_pod("ErrImageNeverPull");
    }),
    // Initialising.
    case("init-fails", "no database to prepare", |fixture| {
        fixture.start(failing_pods::failing_init());
        fixture.until_job("\"Failed\"");
    }),
    case("init-fails-and-is-retried", "CrashLoopBackOff", |fixture| {
        fixture.start(failing_pods::on_failure(failing_pods::failing_init()));
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
        fixture.start(failing_pods::app(|spec| {
            spec["securityContext"] = json!({
                "seccompProfile": {"type": "Localhost", "localhostProfile": "none.json"}});
        }));
        fixture.until_pod("CreateContainerError");
    }),
    case("bad-command", "StartError", |fixture| {
        fixture.start(failing_pods::bad_command());
        fixture.until_job("\"Failed\"");
    }),
    case("bad-command-is-retried", "RunContainerError", |fixture| {
        fixture.start(failing_pods::on_failure(failing_pods::bad_command()));
        fixture.until_pod("CrashLoopBackOff");
    }),
    case("exit-3", "no licence", |fixture| {
        fixture.start(failing_pods::exits("3", "no licence"));
        fixture.until_job("\"Failed\"");
    }),
    case(
        "exit-3-with-retries",
        "BackoffLimitExceeded",
        exit_with_retries,
    ),
    case("exit-0", "Completed", |fixture| {
        fixture.start(failing_pods::exits("0", "nothing to do"));
        fixture.until_job("\"Complete\"");
    }),
    // Its reason is `Error` where the kubelet hears of the end before it hears of the OOM kill.
    case("out-of-memory", "137", |fixture| {
        fixture.start(failing_pods::out_of_memory());
        fixture.until_job("\"Failed\"");
    }),
    case("crash-loop-to-the-end", "BackoffLimitExceeded", crash_loop),
    // Readying.
    case("probe-never-passes", "Unhealthy", |fixture| {
        fixture.start(failing_pods::never_ready());
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
        fixture.start_with(failing_pods::app(|_| ()), &settings);
        fixture.until_ready();
        fixture.until_job("\"Failed\"");
    }),
];

fn ok(fixture: &mut Fixture<'_>) {
    fixture.start(failing_pods::app(|_| ()));
    fixture.until_ready();
}

/// An image of a repository that is refused like this, until the kubelet has tried twice.
fn pull(fixture: &mut Fixture<'_>, refusal: &str) {
    fixture.start(failing_pods::image(&fixture.registry.image(refusal)));
    fixture.until_pod("ImagePullBackOff");
    fixture.until_pod("ErrImagePull");
}

fn quota_on_jobs(fixture: &mut Fixture<'_>) {
    failing_pods::make_quota(&fixture.environment, "count/jobs.batch", "0");
    fixture.start_refused(failing_pods::app(|_| ()), 403);
}

fn quota_on_pods(fixture: &mut Fixture<'_>) {
    failing_pods::make_quota(&fixture.environment, "pods", "0");
    fixture.start(failing_pods::app(|_| ()));
    fixture.until_event("exceeded quota");
    fixture.for_a_while(Duration::from_secs(3));
    failing_pods::raise_quota(&fixture.environment, "pods", "5");
    fixture.until_ready();
}

fn pod_security(fixture: &mut Fixture<'_>) {
    failing_pods::restrict(&fixture.environment);
    fixture.start(failing_pods::privileged());
    fixture.until_event("FailedCreate");
}

fn limit_range(fixture: &mut Fixture<'_>) {
    failing_pods::limit_memory(&fixture.environment, "64Mi");
    fixture.start(failing_pods::with_memory("128Mi"));
    fixture.until_event("FailedCreate");
}

fn no_service_account(fixture: &mut Fixture<'_>) {
    fixture.start(failing_pods::app(|spec| {
        spec["serviceAccountName"] = json!("worker")
    }));
    fixture.until_event("FailedCreate");
    let account = json!({"metadata": {"name": "worker"}});
    failing_pods::make(&fixture.environment, "serviceaccounts", &account);
    fixture.until_ready();
}

fn suspended(fixture: &mut Fixture<'_>) {
    fixture.start(failing_pods::app(|_| ()));
    fixture.until_ready();
    let suspend = |suspend: bool| json!({"spec": {"suspend": suspend}});
    fixture.change("jobs", "app-ann", &suspend(true));
    fixture.until("a suspended Job without pods", "Job", |job| {
        mentions(job, "Suspended") && job["status"]["terminating"] == 0
    });
    fixture.change("jobs", "app-ann", &suspend(false));
    fixture.until_ready();
}

fn unschedulable(fixture: &mut Fixture<'_>) {
    let label = format!("recordings/{}", fixture.environment.namespace);
    fixture.start(failing_pods::selecting(&label));
    fixture.until_pod("Unschedulable");
    fixture.for_a_while(Duration::from_secs(2));
    let environment = Rc::clone(&fixture.environment);
    let _label = NodeLabel::set(&environment, &label);
    fixture.until_ready();
}

fn config_map_for_volume(fixture: &mut Fixture<'_>) {
    fixture.start(failing_pods::config_volume());
    fixture.until_event("FailedMount");
    failing_pods::make_settings(&fixture.environment);
    fixture.until_ready();
}

/// A runtime that the node does not have.
fn no_sandbox(fixture: &mut Fixture<'_>) {
    let classes = "/apis/node.k8s.io/v1/runtimeclasses";
    let name = fixture.environment.namespace.clone();
    let class = json!({"metadata": {"name": name}, "handler": "no-such-runtime"});
    fixture.environment.api.post(classes, &class).expect(201);
    fixture.start(failing_pods::app(|spec| {
        spec["runtimeClassName"] = json!(name)
    }));
    fixture.until_event("FailedCreatePodSandBox");
    let class = format!("{classes}/{name}");
    fixture
        .environment
        .api
        .delete(&class, &json!({}))
        .expect(200);
}

fn secret_appears(fixture: &mut Fixture<'_>) {
    fixture.start(failing_pods::secret_variable());
    fixture.until_pod("CreateContainerConfigError");
    failing_pods::make_secret(&fixture.environment);
    fixture.until_ready();
}

fn exit_with_retries(fixture: &mut Fixture<'_>) {
    let settings = JobSettings {
        backoff_limit: Some(1),
        ..JobSettings::default()
    };
    fixture.start_with(failing_pods::exits("3", "no licence"), &settings);
    fixture.until_job("\"Failed\"");
}

/// Kubernetes' own limit is 6, which takes minutes.
fn crash_loop(fixture: &mut Fixture<'_>) {
    let settings = JobSettings {
        backoff_limit: Some(2),
        ..JobSettings::default()
    };
    let template = failing_pods::on_failure(failing_pods::exits("3", "no licence"));
    fixture.start_with(template, &settings);
    fixture.until_job("\"Failed\"");
}

fn liveness_fails(fixture: &mut Fixture<'_>) {
    let mut template = failing_pods::stubborn();
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
    fixture.start(failing_pods::stubborn());
    let old = evict(fixture);
    fixture.until("the next pod is ready", "Pod", |pod| {
        is_ready(pod) && text(&pod["metadata"]["name"]) != old
    });
}

fn evicted_and_exits_0(fixture: &mut Fixture<'_>) {
    fixture.start(failing_pods::app(|_| ()));
    evict(fixture);
    fixture.until_job("\"Complete\"");
}

fn pod_deleted(fixture: &mut Fixture<'_>) {
    fixture.start(failing_pods::stubborn());
    let name = fixture.until_ready();
    let path = format!("{}/{name}", fixture.environment.all("pods"));
    fixture
        .environment
        .api
        .delete(&path, &json!({}))
        .expect(200);
    fixture.until_job("\"Failed\"");
}
