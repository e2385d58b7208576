//! The cases that are recorded: what is started, what is done meanwhile, and until when it is watched.

use std::rc::Rc;
use std::time::Duration;

use config_controller::model::job::JobSettings;
use serde_json::json;

use super::super::ground::text;
use super::super::troubles::{self, NodeLabel};
use super::super::watcher::{is_ready, says};
use super::Scene;

/// A case.
pub(super) struct Case {
    /// The name of its file.
    pub(super) name: &'static str,
    /// A word that must be in it, in some status or event.
    pub(super) word: &'static str,
    /// Starts it, and watches it to its end.
    pub(super) play: fn(&mut Scene<'_>),
}

const fn case(name: &'static str, word: &'static str, play: fn(&mut Scene<'_>)) -> Case {
    Case { name, word, play }
}

/// All cases, in the order of a start's phases.
pub(super) const CASES: &[Case] = &[
    case("ok", "\"Ready\"", ok),
    // Admitting: what the POST of the Job is answered with.
    case("invalid-job", "Invalid", |scene| {
        scene.start_refused(
            troubles::app(|spec| spec["restartPolicy"] = json!("Always")),
            422,
        );
    }),
    case("quota-on-jobs", "exceeded quota", quota_on_jobs),
    // Creating: what the Job controller says of a pod that it cannot make.
    case("quota-on-pods-raised", "exceeded quota", quota_on_pods),
    case("quota-wants-limits", "failed quota", |scene| {
        troubles::make_quota(&scene.ground, "limits.memory", "1Gi");
        scene.start(troubles::app(|_| ()));
        scene.until_event("FailedCreate");
    }),
    case("pod-security", "violates PodSecurity", pod_security),
    case("limit-range", "maximum memory usage", limit_range),
    case("no-priority-class", "PriorityClass", |scene| {
        scene.start(troubles::app(|spec| {
            spec["priorityClassName"] = json!("none")
        }));
        scene.until_event("FailedCreate");
    }),
    case("no-service-account", "service account", no_service_account),
    case("suspended", "Suspended", suspended),
    // Scheduling.
    case("unschedulable-then-node", "Unschedulable", unschedulable),
    case("too-large-for-any-node", "Insufficient memory", |scene| {
        scene.start(troubles::with_memory("900Ti"));
        scene.until_pod("Unschedulable");
    }),
    // Mounting.
    case(
        "no-config-map-for-volume",
        "FailedMount",
        config_map_for_volume,
    ),
    case("no-sandbox", "FailedCreatePodSandBox", no_sandbox),
    // Pulling.
    case("registry-401", "401 Unauthorized", |scene| {
        pull(scene, "r401")
    }),
    case("registry-401-basic", "401 Unauthorized", |scene| {
        pull(scene, "r401-basic")
    }),
    case("registry-401-no-token", "401 Unauthorized", |scene| {
        pull(scene, "r401-no-token")
    }),
    case("registry-401-scope", "insufficient_scope", |scene| {
        pull(scene, "r401-scope")
    }),
    case("registry-403", "403 Forbidden", |scene| pull(scene, "r403")),
    case("registry-404", "not found", |scene| pull(scene, "r404")),
    case("registry-429", "429 Too Many Requests", |scene| {
        pull(scene, "r429")
    }),
    case("registry-500", "500 Internal Server Error", |scene| {
        pull(scene, "r500")
    }),
    case("registry-never-answers", "Pulling", |scene| {
        scene.start(troubles::image(&scene.registry.image("never")));
        scene.until_event("Pulling");
        scene.for_a_while(Duration::from_secs(30));
    }),
    case(
        "registry-refuses-connection",
        "connection refused",
        |scene| {
            // Nobody listens on port 1.
            scene.start(troubles::image("127.0.0.1:1/team/app:1"));
            scene.until_pod("ImagePullBackOff");
        },
    ),
    case("invalid-image-name", "InvalidImageName", |scene| {
        scene.start(troubles::image("No/Such:Image:Name"));
        scene.until_pod("InvalidImageName");
    }),
    case("image-may-not-be-pulled", "ErrImageNeverPull", |scene| {
        scene.start(troubles::never_pulled());
        scene.until_pod("ErrImageNeverPull");
    }),
    // Initialising.
    case("init-fails", "no database to prepare", |scene| {
        scene.start(troubles::failing_init());
        scene.until_job("\"Failed\"");
    }),
    case("init-fails-and-is-retried", "CrashLoopBackOff", |scene| {
        scene.start(troubles::on_failure(troubles::failing_init()));
        scene.until_pod("CrashLoopBackOff");
        scene.until_pod("\"restartCount\":2");
    }),
    // Starting.
    case(
        "secret-appears",
        "CreateContainerConfigError",
        secret_appears,
    ),
    case("no-seccomp-profile", "CreateContainerError", |scene| {
        scene.start(troubles::app(|spec| {
            spec["securityContext"] = json!({
                "seccompProfile": {"type": "Localhost", "localhostProfile": "none.json"}});
        }));
        scene.until_pod("CreateContainerError");
    }),
    case("bad-command", "StartError", |scene| {
        scene.start(troubles::bad_command());
        scene.until_job("\"Failed\"");
    }),
    case("bad-command-is-retried", "RunContainerError", |scene| {
        scene.start(troubles::on_failure(troubles::bad_command()));
        scene.until_pod("CrashLoopBackOff");
    }),
    case("exit-3", "no licence", |scene| {
        scene.start(troubles::exits("3", "no licence"));
        scene.until_job("\"Failed\"");
    }),
    case(
        "exit-3-with-retries",
        "BackoffLimitExceeded",
        exit_with_retries,
    ),
    case("exit-0", "Completed", |scene| {
        scene.start(troubles::exits("0", "nothing to do"));
        scene.until_job("\"Complete\"");
    }),
    case("out-of-memory", "OOMKilled", |scene| {
        scene.start(troubles::out_of_memory());
        scene.until_job("\"Failed\"");
    }),
    case("crash-loop-to-the-end", "BackoffLimitExceeded", crash_loop),
    // Readying.
    case("probe-never-passes", "Unhealthy", |scene| {
        scene.start(troubles::never_ready());
        scene.until_event("Unhealthy");
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
    case("lifetime-is-over", "DeadlineExceeded", |scene| {
        let settings = JobSettings {
            max_lifetime: Some(Duration::from_secs(4)),
            ..JobSettings::default()
        };
        scene.start_with(troubles::app(|_| ()), &settings);
        scene.until_ready();
        scene.until_job("\"Failed\"");
    }),
];

fn ok(scene: &mut Scene<'_>) {
    scene.start(troubles::app(|_| ()));
    scene.until_ready();
}

/// An image of a repository that is refused like this, until the kubelet has tried twice.
fn pull(scene: &mut Scene<'_>, refusal: &str) {
    scene.start(troubles::image(&scene.registry.image(refusal)));
    scene.until_pod("ImagePullBackOff");
    scene.until_pod("ErrImagePull");
}

fn quota_on_jobs(scene: &mut Scene<'_>) {
    troubles::make_quota(&scene.ground, "count/jobs.batch", "0");
    scene.start_refused(troubles::app(|_| ()), 403);
}

fn quota_on_pods(scene: &mut Scene<'_>) {
    troubles::make_quota(&scene.ground, "pods", "0");
    scene.start(troubles::app(|_| ()));
    scene.until_event("exceeded quota");
    scene.for_a_while(Duration::from_secs(3));
    troubles::raise_quota(&scene.ground, "pods", "5");
    scene.until_ready();
}

fn pod_security(scene: &mut Scene<'_>) {
    troubles::restrict(&scene.ground);
    scene.start(troubles::privileged());
    scene.until_event("FailedCreate");
}

fn limit_range(scene: &mut Scene<'_>) {
    troubles::limit_memory(&scene.ground, "64Mi");
    scene.start(troubles::with_memory("128Mi"));
    scene.until_event("FailedCreate");
}

fn no_service_account(scene: &mut Scene<'_>) {
    scene.start(troubles::app(|spec| {
        spec["serviceAccountName"] = json!("worker")
    }));
    scene.until_event("FailedCreate");
    let account = json!({"metadata": {"name": "worker"}});
    troubles::make(&scene.ground, "serviceaccounts", &account);
    scene.until_ready();
}

fn suspended(scene: &mut Scene<'_>) {
    scene.start(troubles::app(|_| ()));
    scene.until_ready();
    let suspend = |suspend: bool| json!({"spec": {"suspend": suspend}});
    scene.change("jobs", "app-ann", &suspend(true));
    scene.until("a suspended Job without pods", "Job", |job| {
        says(job, "Suspended") && job["status"]["terminating"] == 0
    });
    scene.change("jobs", "app-ann", &suspend(false));
    scene.until_ready();
}

fn unschedulable(scene: &mut Scene<'_>) {
    let label = format!("recordings/{}", scene.ground.namespace);
    scene.start(troubles::selecting(&label));
    scene.until_pod("Unschedulable");
    scene.for_a_while(Duration::from_secs(2));
    let ground = Rc::clone(&scene.ground);
    let _label = NodeLabel::set(&ground, &label);
    scene.until_ready();
}

fn config_map_for_volume(scene: &mut Scene<'_>) {
    scene.start(troubles::config_volume());
    scene.until_event("FailedMount");
    troubles::make_settings(&scene.ground);
    scene.until_ready();
}

/// A runtime that the node does not have.
fn no_sandbox(scene: &mut Scene<'_>) {
    let classes = "/apis/node.k8s.io/v1/runtimeclasses";
    let name = scene.ground.namespace.clone();
    let class = json!({"metadata": {"name": name}, "handler": "no-such-runtime"});
    scene.ground.api.post(classes, &class).expect(201);
    scene.start(troubles::app(|spec| spec["runtimeClassName"] = json!(name)));
    scene.until_event("FailedCreatePodSandBox");
    let class = format!("{classes}/{name}");
    scene.ground.api.delete(&class, &json!({})).expect(200);
}

fn secret_appears(scene: &mut Scene<'_>) {
    scene.start(troubles::secret_variable());
    scene.until_pod("CreateContainerConfigError");
    troubles::make_secret(&scene.ground);
    scene.until_ready();
}

fn exit_with_retries(scene: &mut Scene<'_>) {
    let settings = JobSettings {
        backoff_limit: Some(1),
        ..JobSettings::default()
    };
    scene.start_with(troubles::exits("3", "no licence"), &settings);
    scene.until_job("\"Failed\"");
}

/// Kubernetes' own limit is 6, which takes minutes.
fn crash_loop(scene: &mut Scene<'_>) {
    let settings = JobSettings {
        backoff_limit: Some(2),
        ..JobSettings::default()
    };
    let template = troubles::on_failure(troubles::exits("3", "no licence"));
    scene.start_with(template, &settings);
    scene.until_job("\"Failed\"");
}

fn liveness_fails(scene: &mut Scene<'_>) {
    let mut template = troubles::stubborn();
    let main = &mut template["spec"]["containers"][0];
    main["readinessProbe"]["httpGet"]["port"] = json!(8081);
    main["livenessProbe"] = main["readinessProbe"].clone();
    scene.start(template);
    scene.until_event("Killing");
    scene.until_job("\"Failed\"");
}

/// Asks for the eviction of the pod once it is ready, as a drain of its node does.
fn evict(scene: &mut Scene<'_>) -> String {
    let name = scene.until_ready();
    let path = format!("{}/{name}/eviction", scene.ground.all("pods"));
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    scene.ground.api.post(&path, &eviction).expect(201);
    name
}

fn evicted(scene: &mut Scene<'_>) {
    scene.start(troubles::stubborn());
    let old = evict(scene);
    scene.until("the next pod is ready", "Pod", |pod| {
        is_ready(pod) && text(&pod["metadata"]["name"]) != old
    });
}

fn evicted_and_exits_0(scene: &mut Scene<'_>) {
    scene.start(troubles::app(|_| ()));
    evict(scene);
    scene.until_job("\"Complete\"");
}

fn pod_deleted(scene: &mut Scene<'_>) {
    scene.start(troubles::stubborn());
    let name = scene.until_ready();
    let path = format!("{}/{name}", scene.ground.all("pods"));
    scene.ground.api.delete(&path, &json!({})).expect(200);
    scene.until_job("\"Failed\"");
}
