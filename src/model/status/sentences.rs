//! What Kubernetes says of a start that does not get on, as a sentence of ours: the cause and what
//! to do about it, with Kubernetes' own words behind it where they say more.
//!
//! Pure. Much of this can be told apart by Kubernetes' words alone, since the API has no field
//! for it; they are those of Kubernetes 1.31 to 1.36 and of containerd, and stand here only.
//! Words that nobody knows are passed on as they are, and never make a start hopeless.

/// A sentence, and whether the start cannot succeed any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) sentence: String,
    pub(super) is_hopeless: bool,
}

fn told(is_hopeless: bool, sentence: &str, words: &str) -> Told {
    let sentence = if words.is_empty() {
        sentence.to_owned()
    } else {
        format!("{sentence} ({words})")
    };
    Told {
        sentence,
        is_hopeless,
    }
}

/// Why the Job controller cannot make a pod, from its `FailedCreate`.
pub(super) fn refused_pod(message: &str) -> Told {
    let words = message.strip_prefix("Error creating: ").unwrap_or(message);
    // The name of a pod that never was is another each time.
    let why = after(words, " is forbidden: ").unwrap_or(words);
    let is = |parts: &[&str]| parts.iter().any(|part| why.contains(part));
    if is(&["violates PodSecurity"]) {
        let fix = "the namespace's Pod Security rejects the pod: change the template";
        return told(true, fix, why);
    }
    if is(&["exceeded quota"]) {
        let fix = "the quota on pods is exhausted: stop an instance or raise the quota; Kubernetes retries";
        return told(false, fix, why);
    }
    if is(&["failed quota"]) {
        let fix = "a quota requires values that the template does not set: add them";
        return told(true, fix, why);
    }
    // LimitRange: `maximum cpu usage per Container is …`, `memory max limit to request ratio per …`.
    if is(&[" usage per ", "limit to request ratio per "]) {
        let fix = "a LimitRange rejects the pod: change the requests and limits of the template";
        return told(true, fix, why);
    }
    if is(&["denied the request", "denied request"]) {
        let fix = "an admission policy rejects the pod: change the template";
        return told(true, fix, why);
    }
    if is(&["error looking up service account"]) {
        let fix = "the service account of the pod does not exist: create it, or fix its name in the template";
        return told(false, fix, why);
    }
    if let Some(why) = after(words, " is invalid: ") {
        return told(true, "the pod is invalid: fix the template", why);
    }
    told(false, "the pod is rejected; Kubernetes retries", why)
}

/// Why a volume or the sandbox of a pod cannot be made.
pub(super) fn not_mounted(is_sandbox: bool, message: &str) -> String {
    let words = without_rpc(message);
    let sentence = match missing(words) {
        Some(missing) => missing,
        None if is_sandbox => "the node cannot create the pod's sandbox; Kubernetes retries".into(),
        None => "a volume of the pod cannot be mounted; Kubernetes retries".into(),
    };
    told(false, &sentence, words).sentence
}

/// Why a container cannot be made or started.
pub(super) fn not_started(container: &str, message: &str) -> String {
    let words = after(message, "runc create failed: ").unwrap_or_else(|| without_rpc(message));
    if let Some(missing) = missing(words) {
        return told(false, &missing, words).sentence;
    }
    if words.contains("unable to start container process") {
        let sentence =
            format!("the command of container '{container}' cannot be run: fix it in the template");
        return told(false, &sentence, words).sentence;
    }
    let sentence = format!(
        "container '{container}' cannot be created as the template describes it: fix the template"
    );
    told(false, &sentence, words).sentence
}

/// What is named by a template and is not there, or not known to be.
fn missing(words: &str) -> Option<String> {
    // The kubelet waits a second for what it has not read before: on a busy node that is too short.
    let unread = [("secret", "Secret"), ("configmap", "ConfigMap")];
    let is_it = |word: &str| words.contains(&format!("failed to sync {word} cache"));
    if let Some((_, kind)) = unread.iter().find(|(word, _)| is_it(word)) {
        return Some(format!(
            "the node has not loaded a {kind} of the template yet; Kubernetes retries"
        ));
    }
    // CreateContainerConfigError: `couldn't find key K in Secret NAMESPACE/NAME`.
    if let Some((_, rest)) = words.split_once("couldn't find key ") {
        let mut parts = rest.split_whitespace();
        let (key, kind) = (parts.next()?, parts.nth(1)?);
        let name = parts.next()?.rsplit('/').next()?;
        return Some(format!(
            "the {kind} '{name}' has no key '{key}': add it, or fix the template"
        ));
    }
    let kinds = [
        ("secret \"", "Secret"),
        ("configmap \"", "ConfigMap"),
        ("persistentvolumeclaim \"", "PersistentVolumeClaim"),
    ];
    kinds.iter().find_map(|(before, kind)| {
        let (name, rest) = words.split_once(before)?.1.split_once('"')?;
        rest.starts_with(" not found").then(|| {
            format!(
                "the {kind} '{name}' does not exist: create it, or fix its name in the template"
            )
        })
    })
}

/// Why an image is not to be had.
pub(super) fn no_image(container: &str, reason: &str, message: &str) -> Told {
    let image = match image_in(message) {
        Some(image) => format!("image '{image}'"),
        None => format!("the image of container '{container}'"),
    };
    let words = why_not_pulled(message);
    let is = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    let (is_hopeless, what) = if reason == "InvalidImageName" {
        (true, "has an invalid name: fix it in the template")
    } else if reason == "ErrImageNeverPull" {
        (
            true,
            "is not on the node, and its imagePullPolicy forbids pulling it: change that in the template",
        )
    } else if words.trim_end().ends_with(": not found")
        || is(&["404 Not Found", "manifest unknown"])
    {
        (
            true,
            "does not exist in the registry: check its name and tag in the template",
        )
    } else if is(&[
        "401 Unauthorized",
        "403 Forbidden",
        "pull access denied",
        "authorization failed",
    ]) {
        (
            true,
            "cannot be pulled, because the registry denies access: check its name and the template's imagePullSecrets",
        )
    } else {
        (false, "cannot be pulled; Kubernetes retries")
    };
    told(is_hopeless, &format!("{image} {what}"), words)
}

/// Whether this says only that it is tried again later, and not why (Kubernetes before 1.32).
pub(super) fn is_bare_back_off(message: &str) -> bool {
    message.starts_with(BACK_OFF) && !message.contains("ErrImagePull")
}

/// Whether both are about the same image.
pub(super) fn is_same_image(message: &str, other: &str) -> bool {
    image_in(message) == image_in(other)
}

const BACK_OFF: &str = "Back-off pulling image ";

/// The image that a message about it names first.
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

/// The end of what containerd and the kubelet say, where the cause stands.
fn why_not_pulled(message: &str) -> &str {
    let words = after(message, "\": ErrImagePull: ").unwrap_or(message);
    let words = without_rpc(words);
    let named = [
        "failed to resolve reference \"",
        "failed to pull and unpack image \"",
    ];
    named
        .iter()
        .find_map(|before| after(after(words, before)?, "\": "))
        .unwrap_or(words)
}

/// Without `… rpc error: code = X desc = `, which tells people nothing.
fn without_rpc(words: &str) -> &str {
    after(words, "rpc error: code = ")
        .and_then(|rest| after(rest, " desc = "))
        .unwrap_or(words)
}

/// What comes behind the first `mark`.
fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark).map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests;
