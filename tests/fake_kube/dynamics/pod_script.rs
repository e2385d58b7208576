//! The script of a pod: how long each phase takes, and where it gets stuck or
//! ends. It comes from annotations of the pod (so from the app type's template),
//! from a test through `FakeKube::set_pod_script`, or from the environment of the
//! demo app, which does the same on a real node.

use serde_json::Value;

/// All annotations that are read here start with this.
pub(crate) const PREFIX: &str = "fake-kube/";

/// The image of the demo app, with any tag.
const DEMO_IMAGE: &str = "config-controller-demo:";

/// How a container exits by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// How long it runs.
    pub(crate) after_ms: i64,
    /// Its exit code.
    pub(crate) code: i64,
    /// `Completed`, `Error`, `OOMKilled`; empty: derived from the code.
    pub(crate) reason: String,
    /// The termination message.
    pub(crate) message: String,
}

impl Exit {
    /// At once, with this code, and without a reason or message.
    pub(crate) const fn at_once(code: i64) -> Self {
        Self {
            after_ms: 0,
            code,
            reason: String::new(),
            message: String::new(),
        }
    }
}

/// A pod's script. The default takes no time and becomes ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodScript {
    /// `held`: starts only when a test moves it.
    pub(crate) held: bool,
    /// `lingers`: once deleted, ends only when a test moves it.
    pub(crate) lingers: bool,
    /// `never-ready`: runs, but its probe always fails.
    pub(crate) never_ready: bool,
    /// `schedule-ms`: from creation to PodScheduled.
    pub(crate) schedule_ms: i64,
    /// `mount-ms`: from there to a sandbox with an address.
    pub(crate) mount_ms: i64,
    /// `pull-ms`: from there to running containers.
    pub(crate) pull_ms: i64,
    /// `ready-ms`: from there to Ready.
    pub(crate) ready_ms: i64,
    /// `restart-ms`: the back-off of a crash loop.
    pub(crate) restart_ms: i64,
    /// `terminate-ms`: from the deletion to the containers' end.
    pub(crate) terminate_ms: i64,
    /// `exit-on-stop`: the exit code on SIGTERM.
    pub(crate) exit_on_stop: i64,
    /// `unschedulable`: the scheduler's message; the pod stays Pending.
    pub(crate) unschedulable: Option<String>,
    /// `waiting`: `<reason>: <message>` that its containers get stuck in before
    /// they start (ErrImagePull, CreateContainerConfigError, …).
    pub(crate) waiting: Option<(String, String)>,
    /// `exit-code`, `exit-after-ms`, `exit-reason`, `exit-message`.
    pub(crate) exit: Option<Exit>,
}

impl PodScript {
    /// A pod that starts and ends only when a test moves it.
    pub(crate) fn by_hand() -> Self {
        Self {
            held: true,
            lingers: true,
            ..Self::default()
        }
    }

    /// This script, overridden by the environment of a pod's first container where
    /// that is the demo app (`tests/demo`); only what templates of the demo use.
    pub(crate) fn with_demo_environment(mut self, pod: &Value) -> Self {
        let container = &pod["spec"]["containers"][0];
        let image = container["image"].as_str().unwrap_or("");
        if !image.starts_with(DEMO_IMAGE) {
            return self;
        }
        let variable = |name: &str| {
            let mut all = container["env"].as_array()?.iter();
            all.find(|one| one["name"] == name)?["value"].as_str()
        };
        let number = |name: &str| variable(name)?.parse::<i64>().ok();
        let delay_ms = number("START_DELAY_SECS").map(|secs| secs.saturating_mul(1000));
        match number("EXIT_CODE") {
            Some(code) => {
                self.exit = Some(Exit {
                    after_ms: delay_ms.unwrap_or(0),
                    code,
                    reason: String::new(),
                    message: variable("EXIT_MESSAGE").unwrap_or("").to_owned(),
                });
            }
            None => self.ready_ms = delay_ms.unwrap_or(self.ready_ms),
        }
        self
    }

    /// This script, overridden by a pod's annotations.
    pub(crate) fn with_annotations(mut self, annotations: &Value) -> Self {
        let text = |name: &str| annotations[format!("{PREFIX}{name}")].as_str();
        let is_set = |name: &str| text(name).map(|value| value == "true");
        let number = |name: &str| text(name).and_then(|value| value.parse::<i64>().ok());
        for (flag, name) in [
            (&mut self.held, "held"),
            (&mut self.lingers, "lingers"),
            (&mut self.never_ready, "never-ready"),
        ] {
            *flag = is_set(name).unwrap_or(*flag);
        }
        for (millis, name) in [
            (&mut self.schedule_ms, "schedule-ms"),
            (&mut self.mount_ms, "mount-ms"),
            (&mut self.pull_ms, "pull-ms"),
            (&mut self.ready_ms, "ready-ms"),
            (&mut self.restart_ms, "restart-ms"),
            (&mut self.terminate_ms, "terminate-ms"),
            (&mut self.exit_on_stop, "exit-on-stop"),
        ] {
            *millis = number(name).unwrap_or(*millis);
        }
        if let Some(message) = text("unschedulable") {
            self.unschedulable = Some(message.to_owned());
        }
        if let Some(stuck) = text("waiting") {
            let (reason, message) = stuck.split_once(": ").unwrap_or((stuck, ""));
            self.waiting = Some((reason.to_owned(), message.to_owned()));
        }
        if let Some(code) = number("exit-code") {
            self.exit = Some(Exit {
                after_ms: number("exit-after-ms").unwrap_or(0),
                code,
                reason: text("exit-reason").unwrap_or("").to_owned(),
                message: text("exit-message").unwrap_or("").to_owned(),
            });
        }
        self
    }
}

/// A pod_script and the pods that it applies to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PodScriptRule {
    /// The pod's name, its Job's name, or `*` for every pod.
    pub(crate) name: String,
    /// Its script.
    pub(crate) pod_script: PodScript,
}

impl PodScriptRule {
    /// Whether the rule applies to this pod.
    pub(crate) fn is_about(&self, pod: &Value) -> bool {
        let meta = &pod["metadata"];
        self.name == "*" || meta["name"] == *self.name || meta["labels"]["job-name"] == *self.name
    }
}
