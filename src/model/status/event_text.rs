//! From the text of an Event or of a container's state to a message for callers: the cause, the
//! fix, and Kubernetes' own text in parentheses where it adds details.
//!
//! Pure. The API has no field for most of these causes, so they are recognised by the text of
//! Kubernetes 1.31 to 1.36 and of containerd. These texts appear nowhere else. An unknown text is
//! passed on unchanged and never makes a start terminal.

/// A message for callers, and whether the start can no longer succeed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Diagnosis {
    pub(super) message: String,
    pub(super) is_terminal: bool,
}

/// `text` is Kubernetes' own; it follows in parentheses unless it is empty.
fn diagnosis(is_terminal: bool, message: &str, text: &str) -> Diagnosis {
    let message = if text.is_empty() {
        message.to_owned()
    } else {
        format!("{message} ({text})")
    };
    Diagnosis {
        message,
        is_terminal,
    }
}

/// Why the Job controller cannot create a pod, from its Event `FailedCreate`.
pub(super) fn rejected_pod(message: &str) -> Diagnosis {
    let text = message.strip_prefix("Error creating: ").unwrap_or(message);
    // The generated pod name differs in each Event, so it is cut off.
    let why = after(text, " is forbidden: ").unwrap_or(text);
    let is = |parts: &[&str]| parts.iter().any(|part| why.contains(part));
    if is(&["violates PodSecurity"]) {
        let fix = "the namespace's Pod Security rejects the pod: change the template";
        return diagnosis(true, fix, why);
    }
    if is(&["exceeded quota"]) {
        let fix = "the quota on pods is exhausted: stop an instance or raise the quota; Kubernetes retries";
        return diagnosis(false, fix, why);
    }
    if is(&["failed quota"]) {
        let fix = "a quota requires values that the template does not set: add them";
        return diagnosis(true, fix, why);
    }
    // LimitRange: `maximum cpu usage per Container is …`, `memory max limit to request ratio per …`.
    if is(&[" usage per ", "limit to request ratio per "]) {
        let fix = "a LimitRange rejects the pod: change the requests and limits of the template";
        return diagnosis(true, fix, why);
    }
    if is(&["denied the request", "denied request"]) {
        let fix = "an admission policy rejects the pod: change the template";
        return diagnosis(true, fix, why);
    }
    if let Some(missing) = missing(why) {
        return diagnosis(false, &missing, why);
    }
    if let Some(why) = after(text, " is invalid: ") {
        return diagnosis(true, "the pod is invalid: fix the template", why);
    }
    diagnosis(false, "the pod is rejected; Kubernetes retries", why)
}

/// Why the scheduler finds no node.
pub(super) fn not_scheduled(message: &str) -> String {
    let found = match missing(message) {
        Some(missing) => missing,
        None if message.contains("unbound immediate PersistentVolumeClaims") => {
            "a PersistentVolumeClaim of the pod has no volume: provide one, or fix its storage class"
                .into()
        }
        None => "no node fits the pod: add a node, or change what the template requests".into(),
    };
    diagnosis(false, &found, message).message
}

/// Why a volume cannot be mounted, or the sandbox of a pod not be created.
pub(super) fn not_mounted(is_sandbox: bool, message: &str) -> String {
    let text = without_rpc(message);
    let message = match missing(text) {
        Some(missing) => missing,
        None if is_sandbox => "the node cannot create the pod's sandbox; Kubernetes retries".into(),
        None => "a volume of the pod cannot be mounted; Kubernetes retries".into(),
    };
    diagnosis(false, &message, text).message
}

/// Why a container cannot be created or started.
pub(super) fn not_started(container: &str, message: &str) -> String {
    let text = after(message, "runc create failed: ").unwrap_or_else(|| without_rpc(message));
    let message = match missing(text) {
        Some(missing) => missing,
        None if text.contains("exec format error") => {
            format!("the program of container '{container}' {WRONG_ARCHITECTURE}")
        }
        None if text.contains("unable to start container process") => {
            format!("the command of container '{container}' cannot be run: fix it in the template")
        }
        None => format!(
            "container '{container}' cannot be created as the template describes it: fix the template"
        ),
    };
    diagnosis(false, &message, text).message
}

/// Which containers run, from the message of a pod's condition `Ready` or `ContainersReady`.
pub(super) fn unready_containers(message: &str) -> String {
    let names = after(message, "containers with unready status: [");
    let names = names.and_then(|rest| rest.strip_suffix(']'));
    match names {
        None => "the app is running".to_owned(),
        Some(names) => match names.split_once(' ') {
            None => format!("container '{names}' is running"),
            Some(_) => format!(
                "the containers '{}' are running",
                names.replace(' ', "', '")
            ),
        },
    }
}

/// The kind of the probe that an Event is about.
pub(super) fn probe(message: &str) -> &'static str {
    let kinds = [("Startup", "startup"), ("Liveness", "liveness")];
    let kind = kinds.iter().find(|(word, _)| message.starts_with(word));
    kind.map_or("readiness", |(_, kind)| kind)
}

/// An object that the template names and that does not exist, or that the node has not loaded yet.
fn missing(text: &str) -> Option<String> {
    // The kubelet waits one second for an object that it has not cached, too short on a busy node.
    let unread = [("secret", "Secret"), ("configmap", "ConfigMap")];
    let is_it = |word: &str| text.contains(&format!("failed to sync {word} cache"));
    if let Some((_, kind)) = unread.iter().find(|(word, _)| is_it(word)) {
        return Some(format!(
            "the node has not loaded a {kind} of the template yet; Kubernetes retries"
        ));
    }
    // CreateContainerConfigError: `couldn't find key K in Secret NAMESPACE/NAME`.
    if let Some((_, rest)) = text.split_once("couldn't find key ") {
        let mut parts = rest.split_whitespace();
        let (key, kind) = (parts.next()?, parts.nth(1)?);
        let name = parts.next()?.rsplit('/').next()?;
        return Some(format!(
            "the {kind} '{name}' has no key '{key}': add it, or fix the template"
        ));
    }
    let kinds = [
        ("secret \"", "\" not found", "Secret"),
        ("configmap \"", "\" not found", "ConfigMap"),
        (
            "persistentvolumeclaim \"",
            "\" not found",
            "PersistentVolumeClaim",
        ),
        ("serviceaccount \"", "\" not found", "ServiceAccount"),
        ("RuntimeClass \"", "\" not found", "RuntimeClass"),
        ("no PriorityClass with name ", " was found", "PriorityClass"),
    ];
    kinds.iter().find_map(|(before, behind, kind)| {
        let (name, _) = after(text, before)?.split_once(behind)?;
        let is_name = !name.contains([' ', '"']);
        is_name.then(|| {
            format!(
                "the {kind} '{name}' does not exist: create it, or fix its name in the template"
            )
        })
    })
}

const WRONG_ARCHITECTURE: &str = "is not built for the architecture of the node: use another image, or select other nodes in the template";

/// Why an image cannot be pulled.
pub(super) fn no_image(container: &str, reason: &str, message: &str) -> Diagnosis {
    let named = image_in(message);
    let image = match named {
        Some(image) => format!("image '{image}'"),
        None => format!("the image of container '{container}'"),
    };
    let text = why_not_pulled(message);
    let is = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    // Errors of content, such as a layer, may pass: the node's store or a cache of the registry lost it.
    let is_of_reference = !is(&CONTENT);
    let is_unresolved = message.contains("failed to resolve reference");
    let not_found = text.trim_end().strip_suffix(": not found");
    let has_no_reference = not_found
        .is_some_and(|what| is_unresolved || named.is_some_and(|image| what.ends_with(image)));
    let (is_terminal, what) = if reason == "InvalidImageName" {
        (true, "has an invalid name: fix it in the template")
    } else if reason == "ErrImageNeverPull" {
        (
            true,
            "is not on the node, and its imagePullPolicy forbids pulling it: change that in the template",
        )
    } else if is(&[
        "no match for platform",
        "no matching manifest for",
        "no image found in image index for architecture",
    ]) {
        (true, WRONG_ARCHITECTURE)
    } else if has_no_reference || is_of_reference && is(&["404 Not Found", "manifest unknown"]) {
        (
            true,
            "does not exist in the registry: check its name and tag in the template",
        )
    } else if is_of_reference
        && is(&[
            "401 Unauthorized",
            "403 Forbidden",
            "pull access denied",
            "authorization failed",
        ])
    {
        (
            true,
            "cannot be pulled, because the registry denies access: check its name and the template's imagePullSecrets",
        )
    } else {
        (false, "cannot be pulled; Kubernetes retries")
    };
    diagnosis(is_terminal, &format!("{image} {what}"), text)
}

/// Whether the text announces only the back-off without its cause (Kubernetes before 1.32).
pub(super) fn is_bare_back_off(message: &str) -> bool {
    message.starts_with(BACK_OFF) && !message.contains("ErrImagePull")
}

/// Whether both texts name the same image.
pub(super) fn is_same_image(message: &str, other: &str) -> bool {
    image_in(message) == image_in(other)
}

/// Texts about the content of an image, of containerd and CRI-O.
const CONTENT: [&str; 5] = [
    "failed to copy",
    "failed to extract",
    "failed to unpack",
    "content digest ",
    "reading blob",
];

const BACK_OFF: &str = "Back-off pulling image ";

/// The image that a text names first.
fn image_in(message: &str) -> Option<&str> {
    // `image "x"`, `image tag "x"`, `image name "x"`.
    let after_word = message.match_indices("image ").find_map(|(at, word)| {
        let rest = &message[at + word.len()..];
        let rest = ["tag ", "name "]
            .iter()
            .find_map(|word| rest.strip_prefix(word))
            .unwrap_or(rest);
        rest.strip_prefix('"')
    });
    after_word?.split_once('"').map(|(image, _)| image)
}

/// The end of a text of containerd or the kubelet, which has the cause.
fn why_not_pulled(message: &str) -> &str {
    let text = after(message, "\": ErrImagePull: ").unwrap_or(message);
    let text = without_rpc(text);
    let named = [
        "failed to resolve reference \"",
        "failed to pull and unpack image \"",
    ];
    named
        .iter()
        .find_map(|before| after(after(text, before)?, "\": "))
        .unwrap_or(text)
}

/// Without the prefix `… rpc error: code = X desc = `, which does not help a reader.
fn without_rpc(text: &str) -> &str {
    after(text, "rpc error: code = ")
        .and_then(|rest| after(rest, " desc = "))
        .unwrap_or(text)
}

/// The text after the first `mark`.
fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark).map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests;
