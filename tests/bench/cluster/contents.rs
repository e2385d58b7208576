//! What a filled fake API server holds: a value read from words such as `ready=2000`, and the
//! objects that it makes. Here nothing is measured or served.
//!
//! Always there are the types `hello` (ready immediately) and `never` (never becomes ready).

use crate::NAMESPACE;
use crate::fake_kube::FakeKube;
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::faults::{Fault, FaultRule};
use serde_json::{Map, Value, json};

/// Prefix of a meta label, as the service stores it.
const META: &str = "config-controller.semafor.ch/meta-";

/// The app types, as a cluster would have them in a ConfigMap.
const APPS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata:
  name: apps
  labels: {config-controller.semafor.ch/template: "true"}
data:
  hello.yaml: |
    spec:
      restartPolicy: Never
      containers: [{name: hello, image: hello}]
  never.yaml: |
    metadata: {annotations: {fake-kube/never-ready: "true"}}
    spec:
      restartPolicy: Never
      containers: [{name: never, image: never}]
"#;

/// Bytes of an entry that is no template.
const NOTE_BYTES: usize = 900_000;

/// Bytes of a long default: with 200 of them there is room for a few other templates.
const DEFAULT_BYTES: usize = 18_000;

/// How much there is of what.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// `ready`: instances that are ready: `hello/i0`, `hello/i1`, …
    ready: usize,
    /// `idle`: seconds that each of them may be unused; 0: for ever.
    idle: usize,
    /// `pairs`: meta labels of each of them, with values of 63 bytes.
    pairs: usize,
    /// `messages`: containers of each of their pods that have failed once, each with a message of 4,000
    /// bytes.
    messages: usize,
    /// `types`: ConfigMaps with one more type each: `t0`, `t1`, …
    types: usize,
    /// `crumbs`: ConfigMaps with 400 templates of 2 KB each, all of it small values.
    crumbs: usize,
    /// `defaults`: ConfigMaps with one more type each whose template has a long default: `d0`, `d1`, …
    defaults: usize,
    /// `notes`: ConfigMaps with one large entry each that is no template.
    notes: usize,
    /// `template`: bytes of the template of the type `large`; without it there is no such type.
    template: usize,
    /// `tokens`: good tokens for TokenReviews, as [`token`] names them.
    tokens: usize,
    /// `endless`: how many of the first lists do not end.
    endless: usize,
}

/// A token, and the service account that it belongs to.
fn token(number: usize) -> (String, &'static str) {
    let token = format!("good-{number}-0123456789abcdef");
    (token, "system:serviceaccount:default:portal")
}

impl Contents {
    /// Reads the words; an error is one sentence.
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let mut contents = Self::default();
        for word in words {
            let (name, count) = word.split_once('=').unwrap_or((word, ""));
            let place = match name {
                "ready" => &mut contents.ready,
                "idle" => &mut contents.idle,
                "pairs" => &mut contents.pairs,
                "messages" => &mut contents.messages,
                "types" => &mut contents.types,
                "crumbs" => &mut contents.crumbs,
                "defaults" => &mut contents.defaults,
                "notes" => &mut contents.notes,
                "template" => &mut contents.template,
                "tokens" => &mut contents.tokens,
                "endless" => &mut contents.endless,
                _ => return Err(format!("'{word}' is nothing that it can hold")),
            };
            *place = count
                .parse()
                .map_err(|_| format!("'{word}' has no number"))?;
        }
        Ok(contents)
    }

    /// Makes all of it.
    pub(crate) fn fill(&self, fake: &FakeKube) -> Result<(), String> {
        let applied = fake.apply_yaml(NAMESPACE, APPS);
        applied.map_err(|refusal| format!("the app types were refused: {refusal:?}"))?;
        self.instances(fake)?;
        if self.pairs > 0 {
            change_pods(fake, |pod| label(pod, self.pairs));
        }
        if self.messages > 0 {
            change_pods(fake, |pod| fail(pod, self.messages));
        }
        let types = (0..self.types).map(|number| app_type(number, 0));
        let notes = (0..self.notes).map(note);
        let crumbs = (0..self.crumbs).map(crumbs);
        let defaults = (0..self.defaults).map(with_default);
        let large = (self.template > 0).then(|| large(self.template));
        let types = types.chain(crumbs).chain(defaults);
        for object in types.chain(notes).chain(large) {
            let applied = fake.apply(NAMESPACE, &object);
            applied.map_err(|refusal| format!("a ConfigMap was refused: {refusal:?}"))?;
        }
        if self.tokens > 0 {
            fake.set_may_review(true);
        }
        for (token, user) in (0..self.tokens).map(token) {
            fake.add_token(&token, user, "config-controller");
        }
        if let Ok(times @ 1..) = u32::try_from(self.endless) {
            fake.fault(FaultRule::new("list", "*", Fault::Endless).times(times));
        }
        Ok(())
    }

    /// Makes the instances, and lets the controllers make them ready.
    fn instances(&self, fake: &FakeKube) -> Result<(), String> {
        fake.set_auto(false);
        for number in 0..self.ready {
            let made = fake.apply(NAMESPACE, &job(number, self.idle));
            made.map_err(|refusal| format!("an instance was refused: {refusal:?}"))?;
        }
        fake.settle();
        fake.set_auto(true);
        let pods = fake.all(Resource::Pods, NAMESPACE);
        match pods.iter().filter(|pod| is_ready(pod)).count() {
            count if count == self.ready => Ok(()),
            count => Err(format!("{count} of {} instances became ready", self.ready)),
        }
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// The Job of an instance, as the service makes it.
fn job(number: usize, idle: usize) -> Value {
    let name = format!("i{number}");
    let marks = json!({
        "config-controller.semafor.ch/instance-type": "hello",
        "config-controller.semafor.ch/instance-name": name,
    });
    let mut annotations = marks.clone();
    if idle > 0 {
        annotations["config-controller.semafor.ch/idle-timeout"] = json!(format!("{idle}s"));
    }
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": format!("hello-{name}"), "labels": marks, "annotations": annotations},
        "spec": {
            "podReplacementPolicy": "Failed",
            "backoffLimit": 0,
            "template": {
                "metadata": {"labels": marks, "annotations": marks},
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{"name": "hello", "image": "hello"}],
                },
            },
        },
    })
}

fn change_pods(fake: &FakeKube, change: impl Fn(&mut Value)) {
    for pod in fake.all(Resource::Pods, NAMESPACE) {
        let name = crate::fake_kube::cluster::meta(&pod, "name").to_owned();
        let key = (Resource::Pods, NAMESPACE.to_owned(), name);
        fake.with(|model| model.cluster.change(&key, &change));
    }
}

/// Gives a pod so many meta labels, as another client could.
fn label(pod: &mut Value, pairs: usize) {
    let value = "v".repeat(63);
    for number in 0..pairs {
        pod["metadata"]["labels"][format!("{META}k{number}")] = json!(value);
    }
}

/// Lets so many containers of a pod fail, as the kubelet would report it.
fn fail(pod: &mut Value, containers: usize) {
    let message = "m".repeat(4_000);
    let time = "2026-01-02T03:04:05Z";
    let ended = json!({"terminated": {
        "exitCode": 1, "reason": "Error", "message": message, "startedAt": time, "finishedAt": time,
    }});
    let runs = json!({"running": {"startedAt": time}});
    let status = |number| json!({"name": format!("c{number}"), "state": runs, "lastState": ended});
    pod["status"]["containerStatuses"] = (0..containers).map(status).collect();
}

fn config_map(name: String, data: Map<String, Value>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "labels": {"config-controller.semafor.ch/template": "true"},
        },
        "data": data,
    })
}

/// A ConfigMap with one type; another text in each round.
pub(crate) fn app_type(number: usize, round: u64) -> Value {
    let name = format!("t{number}");
    let template = format!(
        "metadata: {{annotations: {{round: \"{round}\"}}}}\n\
         spec: {{restartPolicy: Never, containers: [{{name: app, image: app}}]}}\n"
    );
    let data = [(format!("{name}.yaml"), json!(template))];
    config_map(name, data.into_iter().collect())
}

/// A ConfigMap with many templates of as many values as possible.
fn crumbs(number: usize) -> Value {
    let values = "0,".repeat(1_000);
    let template = json!(format!(
        "spec: {{containers: [{{name: a, image: a, x: [{values}0]}}]}}"
    ));
    let data = (0..400).map(|n| (format!("c{number}-{n}.yaml"), template.clone()));
    config_map(format!("crumbs-{number}"), data.collect())
}

/// A ConfigMap with a template whose variable has a long default.
fn with_default(number: usize) -> Value {
    let default = "d".repeat(DEFAULT_BYTES);
    let template = format!(
        "spec:\n  restartPolicy: Never\n  containers:\n\
         \x20 - {{name: a, image: a, args: [\"${{alternatives.get('v', '{default}')}}\"]}}\n"
    );
    let data = [(format!("d{number}.yaml"), json!(template))];
    config_map(format!("d{number}"), data.into_iter().collect())
}

/// A ConfigMap with an entry that is no template.
fn note(number: usize) -> Value {
    let data = [("note.txt".to_owned(), json!("n".repeat(NOTE_BYTES)))];
    config_map(format!("note-{number}"), data.into_iter().collect())
}

/// A ConfigMap with a valid template of this size.
fn large(bytes: usize) -> Value {
    let argument = "x".repeat(990);
    let arguments = vec![argument; bytes / 1_000].join("\", \"");
    let template = format!(
        "spec:\n  restartPolicy: Never\n  containers:\n\
         \x20 - {{name: large, image: large, args: [\"{arguments}\"]}}\n"
    );
    let data = [("large.yaml".to_owned(), json!(template))];
    config_map("large".to_owned(), data.into_iter().collect())
}
