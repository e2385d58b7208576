//! Each row: the text of Kubernetes, as recorded from a real cluster, and our message.

use super::*;

#[track_caller]
fn check(found: &Diagnosis, is_terminal: bool, message: &str) {
    assert_eq!((found.is_terminal, &*found.message), (is_terminal, message));
}

#[test]
fn rejected_pods() {
    for (words, is_terminal, expected) in [
        (
            r#"pods "app-ann-bpwmj" is forbidden: violates PodSecurity "restricted:latest": privileged (container "main" must not set securityContext.privileged=true)"#,
            true,
            r#"the namespace's Pod Security rejects the pod: change the template (violates PodSecurity "restricted:latest": privileged (container "main" must not set securityContext.privileged=true))"#,
        ),
        (
            r#"pods "app-ann-rnhn9" is forbidden: exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0"#,
            false,
            "the quota on pods is exhausted: stop an instance or raise the quota; Kubernetes retries (exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0)",
        ),
        (
            r#"pods "a-b" is forbidden: failed quota: small: must specify limits.cpu for: main"#,
            true,
            "a quota requires values that the template does not set: add them (failed quota: small: must specify limits.cpu for: main)",
        ),
        (
            r#"pods "app-ann-blcsf" is forbidden: maximum memory usage per Container is 64Mi, but limit is 128Mi"#,
            true,
            "a LimitRange rejects the pod: change the requests and limits of the template (maximum memory usage per Container is 64Mi, but limit is 128Mi)",
        ),
        (
            r#"pods "a-b" is forbidden: cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000"#,
            true,
            "a LimitRange rejects the pod: change the requests and limits of the template (cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000)",
        ),
        (
            r#"admission webhook "w.example.com" denied the request: no latest tags"#,
            true,
            r#"an admission policy rejects the pod: change the template (admission webhook "w.example.com" denied the request: no latest tags)"#,
        ),
        (
            "pods \"a-b\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
            true,
            "an admission policy rejects the pod: change the template (ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no)",
        ),
        (
            r#"pods "app-ann-" is forbidden: error looking up service account apps/worker: serviceaccount "worker" not found"#,
            false,
            r#"the ServiceAccount 'worker' does not exist: create it, or fix its name in the template (error looking up service account apps/worker: serviceaccount "worker" not found)"#,
        ),
        (
            r#"Pod "a-b" is invalid: spec.containers[0].image: Required value"#,
            true,
            "the pod is invalid: fix the template (spec.containers[0].image: Required value)",
        ),
        (
            r#"pods "app-ann-" is forbidden: no PriorityClass with name none was found"#,
            false,
            "the PriorityClass 'none' does not exist: create it, or fix its name in the template (no PriorityClass with name none was found)",
        ),
        (
            r#"pods "app-ann-" is forbidden: pod rejected: RuntimeClass "no-such-class" not found"#,
            false,
            r#"the RuntimeClass 'no-such-class' does not exist: create it, or fix its name in the template (pod rejected: RuntimeClass "no-such-class" not found)"#,
        ),
        (
            r#"Internal error occurred: failed calling webhook "w": connect: connection refused"#,
            false,
            r#"the pod is rejected; Kubernetes retries (Internal error occurred: failed calling webhook "w": connect: connection refused)"#,
        ),
    ] {
        check(
            &rejected_pod(&format!("Error creating: {words}")),
            is_terminal,
            expected,
        );
    }
}

#[test]
fn pods_without_a_node() {
    for (words, expected) in [
        (
            r#"0/2 nodes are available: persistentvolumeclaim "no-such-claim" not found. not found"#,
            r#"the PersistentVolumeClaim 'no-such-claim' does not exist: create it, or fix its name in the template (0/2 nodes are available: persistentvolumeclaim "no-such-claim" not found. not found)"#,
        ),
        (
            "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found",
            "a PersistentVolumeClaim of the pod has no volume: provide one, or fix its storage class (0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found)",
        ),
        (
            "0/3 nodes are available: 3 Insufficient memory.",
            "no node fits the pod: add a node, or change what the template requests (0/3 nodes are available: 3 Insufficient memory.)",
        ),
    ] {
        assert_eq!(not_scheduled(words), expected);
    }
}

#[test]
fn volumes_that_are_not_mounted() {
    for (is_sandbox, words, expected) in [
        (
            false,
            r#"MountVolume.SetUp failed for volume "settings" : configmap "settings" not found"#,
            r#"the ConfigMap 'settings' does not exist: create it, or fix its name in the template (MountVolume.SetUp failed for volume "settings" : configmap "settings" not found)"#,
        ),
        (
            false,
            r#"MountVolume.SetUp failed for volume "data" : references non-existent secret key: k"#,
            r#"a volume of the pod cannot be mounted; Kubernetes retries (MountVolume.SetUp failed for volume "data" : references non-existent secret key: k)"#,
        ),
        (
            false,
            r#"MountVolume.SetUp failed for volume "settings" : failed to sync configmap cache: timed out waiting for the condition"#,
            r#"the node has not loaded a ConfigMap of the template yet; Kubernetes retries (MountVolume.SetUp failed for volume "settings" : failed to sync configmap cache: timed out waiting for the condition)"#,
        ),
        (
            true,
            r#"Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox runtime: no runtime for "none" is configured"#,
            r#"the node cannot create the pod's sandbox; Kubernetes retries (failed to get sandbox runtime: no runtime for "none" is configured)"#,
        ),
    ] {
        assert_eq!(not_mounted(is_sandbox, words), expected);
    }
}

#[test]
fn containers_that_do_not_start() {
    for (words, expected) in [
        (
            r#"secret "password" not found"#,
            r#"the Secret 'password' does not exist: create it, or fix its name in the template (secret "password" not found)"#,
        ),
        (
            "failed to sync secret cache: timed out waiting for the condition",
            "the node has not loaded a Secret of the template yet; Kubernetes retries (failed to sync secret cache: timed out waiting for the condition)",
        ),
        (
            "couldn't find key token in Secret apps/password",
            "the Secret 'password' has no key 'token': add it, or fix the template (couldn't find key token in Secret apps/password)",
        ),
        (
            "couldn't find key token in ConfigMap apps/settings",
            "the ConfigMap 'settings' has no key 'token': add it, or fix the template (couldn't find key token in ConfigMap apps/settings)",
        ),
        (
            r#"failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "/none": stat /none: no such file or directory: unknown"#,
            r#"the command of container 'app' cannot be run: fix it in the template (unable to start container process: exec: "/none": stat /none: no such file or directory: unknown)"#,
        ),
        (
            r#"failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: "/app": exec format error"#,
            r#"the program of container 'app' is not built for the architecture of the node: use another image, or select other nodes in the template (unable to start container process: error during container init: exec: "/app": exec format error)"#,
        ),
        (
            "container has runAsNonRoot and image will run as root",
            "container 'app' cannot be created as the template describes it: fix the template (container has runAsNonRoot and image will run as root)",
        ),
        (
            "",
            "container 'app' cannot be created as the template describes it: fix the template",
        ),
    ] {
        assert_eq!(not_started("app", words), expected);
    }
}

const UNPACK: &str =
    r#"failed to pull and unpack image "r/x:1": failed to resolve reference "r/x:1": "#;

/// A reason, the kubelet's text, and our message.
type Row = (&'static str, String, bool, &'static str);

fn images() -> [Row; 10] {
    let pulled = |words: &str| format!("{UNPACK}{words}");
    [
        (
            "InvalidImageName",
            r#"Failed to apply default image tag "No/Such:Image:Name": couldn't parse image name "No/Such:Image:Name": invalid reference format"#.into(),
            true,
            r#"image 'No/Such:Image:Name' has an invalid name: fix it in the template (Failed to apply default image tag "No/Such:Image:Name": couldn't parse image name "No/Such:Image:Name": invalid reference format)"#,
        ),
        (
            "ErrImageNeverPull",
            r#"Container image "x:1" is not present with pull policy of Never"#.into(),
            true,
            r#"image 'x:1' is not on the node, and its imagePullPolicy forbids pulling it: change that in the template (Container image "x:1" is not present with pull policy of Never)"#,
        ),
        (
            "ErrImagePull",
            format!("rpc error: code = NotFound desc = {}", pulled("r/x:1: not found")),
            true,
            "image 'r/x:1' does not exist in the registry: check its name and tag in the template (r/x:1: not found)",
        ),
        (
            "ImagePullBackOff",
            format!(r#"Back-off pulling image "r/x:1": ErrImagePull: rpc error: code = NotFound desc = {}"#, pulled("r/x:1: not found")),
            true,
            "image 'r/x:1' does not exist in the registry: check its name and tag in the template (r/x:1: not found)",
        ),
        (
            "ErrImagePull",
            pulled("pulling from host r failed with status code [manifests 1]: 403 Forbidden"),
            true,
            "image 'r/x:1' cannot be pulled, because the registry denies access: check its name and the template's imagePullSecrets (pulling from host r failed with status code [manifests 1]: 403 Forbidden)",
        ),
        (
            "ErrImagePull",
            pulled("failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized"),
            true,
            "image 'r/x:1' cannot be pulled, because the registry denies access: check its name and the template's imagePullSecrets (failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized)",
        ),
        (
            "ErrImagePull",
            pulled("pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed"),
            true,
            "image 'r/x:1' cannot be pulled, because the registry denies access: check its name and the template's imagePullSecrets (pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed)",
        ),
        (
            "ErrImagePull",
            pulled("pulling from host r failed with status code [manifests 1]: 500 Internal Server Error"),
            false,
            "image 'r/x:1' cannot be pulled; Kubernetes retries (pulling from host r failed with status code [manifests 1]: 500 Internal Server Error)",
        ),
        (
            "ImagePullBackOff",
            r#"Back-off pulling image "r/x:1""#.into(),
            false,
            r#"image 'r/x:1' cannot be pulled; Kubernetes retries (Back-off pulling image "r/x:1")"#,
        ),
        (
            "RegistryUnavailable",
            String::new(),
            false,
            "the image of container 'app' cannot be pulled; Kubernetes retries",
        ),
    ]
}

/// As containerd 1.6 writes it for a registry that has the reference.
fn contents() -> [Row; 5] {
    let pulled = |words: &str| format!(r#"failed to pull and unpack image "r/x:1": {words}"#);
    let not_found = "rpc error: code = NotFound desc = ";
    [
        (
            "ErrImagePull",
            format!(
                "{not_found}{}",
                pulled("no match for platform in manifest: not found")
            ),
            true,
            "image 'r/x:1' is not built for the architecture of the node: use another image, or select other nodes in the template (no match for platform in manifest: not found)",
        ),
        (
            "ErrImagePull",
            format!(
                "{not_found}{}",
                pulled(
                    "failed to unpack image on snapshotter overlayfs: content digest sha256:1: not found"
                )
            ),
            false,
            "image 'r/x:1' cannot be pulled; Kubernetes retries (failed to unpack image on snapshotter overlayfs: content digest sha256:1: not found)",
        ),
        (
            "ErrImagePull",
            format!(
                "{not_found}{}",
                pulled(
                    "failed to copy: httpReadSeeker: failed open: content at http://r/v2/x/manifests/sha256:3 not found: not found"
                )
            ),
            false,
            "image 'r/x:1' cannot be pulled; Kubernetes retries (failed to copy: httpReadSeeker: failed open: content at http://r/v2/x/manifests/sha256:3 not found: not found)",
        ),
        (
            "ErrImagePull",
            pulled(
                "failed to copy: httpReadSeeker: failed open: unexpected status code https://cdn/blobs/sha256:4: 403 Forbidden",
            ),
            false,
            "image 'r/x:1' cannot be pulled; Kubernetes retries (failed to copy: httpReadSeeker: failed open: unexpected status code https://cdn/blobs/sha256:4: 403 Forbidden)",
        ),
        (
            "ErrImagePull",
            pulled(
                "failed to extract layer sha256:4: mount callback failed on /tmp/m: unexpected EOF: unknown",
            ),
            false,
            "image 'r/x:1' cannot be pulled; Kubernetes retries (failed to extract layer sha256:4: mount callback failed on /tmp/m: unexpected EOF: unknown)",
        ),
    ]
}

#[test]
fn images_that_cannot_be_pulled() {
    for (reason, words, is_terminal, expected) in images().into_iter().chain(contents()) {
        check(&no_image("app", reason, &words), is_terminal, expected);
    }
}

#[test]
fn unknown_texts_are_passed_on() {
    for words in [
        "",
        "\"",
        "image \"",
        "image ",
        "couldn't find key ",
        "secret \"",
        "ä\": ",
        "rpc error: code = ",
    ] {
        assert!(
            !no_image("app", "ErrImagePull", words).is_terminal,
            "{words}"
        );
        assert!(!rejected_pod(words).is_terminal, "{words}");
        assert!(not_started("app", words).contains("'app'"), "{words}");
        assert!(not_mounted(false, words).contains("volume"), "{words}");
    }
    assert!(is_bare_back_off("Back-off pulling image \"x\""));
    assert!(!is_bare_back_off(
        "Back-off pulling image \"x\": ErrImagePull: no"
    ));
}
