//! What follows from the dry runs of a template: its report, and whether to try again.
//!
//! Pure. A template is invalid only if the API server itself says so (400, 422), or an admission policy
//! with 403. A quota frees up, so it is a warning; and where a dry run could not be made, or admission
//! could not judge it, nothing is known.

use super::report::{Report, Verdict};
use crate::kube::client::Warnings;
use crate::kube::error::Failure;
use crate::kube::status::Status;
use crate::kube::{self, Class};

/// The dry run of one object.
#[derive(Debug)]
pub(super) struct Tried {
    /// The result.
    pub(super) result: Result<(), kube::Error>,
    /// What the API server warned of.
    pub(super) warnings: Warnings,
}

/// What is tried of the pod itself.
#[derive(Debug)]
pub(super) enum Pod {
    /// It was.
    Tried(Tried),
    /// We may not, as Kubernetes has said in these words.
    NotPermitted(Box<str>),
}

/// What one dry run says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Finding {
    /// The object would be created.
    Passed,
    /// It would, if there were room for it.
    OverQuota(Box<str>),
    /// It would never be.
    Refused {
        message: Box<str>,
        place: Option<Box<str>>,
    },
    /// Nothing follows.
    Unknown(Box<str>),
}

/// The report of a template by the dry runs of its Job and, if that passed, of its pod.
pub(super) fn report(job: Tried, pod: Option<Pod>) -> Report {
    let found = find(&job.result);
    let mut report = match (&found, &pod) {
        (Finding::Refused { .. } | Finding::Unknown(_), _) | (_, None) => of(&found),
        (_, Some(Pod::Tried(pod))) => of(&find(&pod.result)),
        (_, Some(Pod::NotPermitted(why))) => Report::new(Verdict::Valid)
            .saying(&format!("only its Job was tried, not the pod: {why}")),
    };
    let mut warnings = job.warnings;
    if let Finding::OverQuota(text) = found {
        warnings.push(text);
    }
    if let Some(Pod::Tried(pod)) = pod {
        if let Finding::OverQuota(text) = find(&pod.result) {
            warnings.push(text);
        }
        warnings.extend(pod.warnings);
    }
    report.warn(warnings.iter().map(|text| in_template(text)));
    report
}

fn of(finding: &Finding) -> Report {
    match finding {
        Finding::Passed | Finding::OverQuota(_) => Report::new(Verdict::Valid),
        Finding::Refused { message, place } => Report {
            place: place.clone(),
            ..Report::new(Verdict::Invalid).saying(message)
        },
        Finding::Unknown(why) => Report::new(Verdict::Unchecked).saying(why),
    }
}

fn find(result: &Result<(), kube::Error>) -> Finding {
    let Err(error) = result else {
        return Finding::Passed;
    };
    // That is found last, when all else is well.
    if error.class() == Class::AlreadyExists {
        return Finding::Passed;
    }
    let Failure::Status { status, .. } = &error.failure else {
        return Finding::Unknown(error.user_message().into());
    };
    let message = || in_template(&error.user_message());
    if error.class() == Class::QuotaExceeded {
        return Finding::OverQuota(message());
    }
    if is_final(status, error.class()) {
        return Finding::Refused {
            message: message(),
            place: place(status),
        };
    }
    Finding::Unknown(message())
}

/// Whether the object would never be created, as far as its content goes.
fn is_final(status: &Status, class: Class) -> bool {
    let of_webhook = status.message.starts_with("admission webhook ");
    match status.code {
        // A webhook chooses its code, and one with side effects makes a dry run a 400.
        400 | 422 => status.is_invalid() && !of_webhook,
        403 => class == Class::Refused && !is_terminating(status),
        _ => false,
    }
}

/// Whether nothing can be created since the namespace is being deleted.
fn is_terminating(status: &Status) -> bool {
    status.message.ends_with("because it is being terminated")
}

/// The path of the field that is at fault, in the pod template.
fn place(status: &Status) -> Option<Box<str>> {
    // "… into Go struct field ContainerPort.spec.template.spec.containers.ports.containerPort of type int32"
    let of_decoder = || {
        let (_, field) = status.message.split_once("Go struct field ")?;
        let (field, _) = field.split_once(" of type ")?;
        field.split_once('.').map(|(_, path)| path)
    };
    let mut causes = status.details.causes.iter();
    let field = causes.find_map(|cause| cause.field.as_deref());
    let field = field
        .filter(|field| !field.is_empty())
        .or_else(of_decoder)?;
    Some(field.strip_prefix(OF_JOB).unwrap_or(field).into())
}

/// Where the pod template is in a Job.
const OF_JOB: &str = "spec.template.";

/// A sentence about a Job in terms of its pod template, which is what an author wrote: so that of the pod is
/// the same.
fn in_template(text: &str) -> Box<str> {
    let mut text = text.to_owned();
    for before in ["\"", " ", "["] {
        text = text.replace(&format!("{before}{OF_JOB}"), before);
    }
    text.strip_prefix(OF_JOB).unwrap_or(&text).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::error::Verb;
    use serde_json::{Value, json};

    fn refused(resource: &'static str, code: u16, body: Value) -> Tried {
        let status = Box::new(Status::from_body(code, body.to_string().as_bytes()));
        let failure = Failure::Status {
            status,
            retry_after: None,
        };
        let error = kube::Error {
            verb: Verb::DryRun,
            resource,
            name: Some("hello-dry-run".into()),
            failure,
        };
        tried(Err(error), &[])
    }

    fn tried(result: Result<(), kube::Error>, warnings: &[&str]) -> Tried {
        Tried {
            result,
            warnings: warnings.iter().map(|text| (*text).into()).collect(),
        }
    }

    fn named(kind: &str) -> Value {
        json!({"kind": kind, "name": "hello-dry-run"})
    }

    #[track_caller]
    fn check(job: Tried, pod: Option<Pod>, verdict: Verdict, message: Option<&str>) -> Report {
        let report = report(job, pod);
        assert_eq!(report.verdict, verdict, "{report:?}");
        assert_eq!(report.message.as_deref(), message);
        report
    }

    #[test]
    fn what_the_api_server_itself_refuses_is_invalid_and_has_a_place() {
        let message = "Job.batch \"hello-dry-run\" is invalid: spec.template.spec.restartPolicy: Required value";
        let causes = json!([{"field": "spec.template.spec.restartPolicy"}]);
        let body = json!({"reason": "Invalid", "message": message, "details": {"causes": causes}});
        let refused_job = refused("jobs", 422, body);
        let expected =
            Some("Job.batch \"hello-dry-run\" is invalid: spec.restartPolicy: Required value");
        let report = check(refused_job, None, Verdict::Invalid, expected);
        assert_eq!(report.place.as_deref(), Some("spec.restartPolicy"));
        let message = "Job in version \"v1\" cannot be handled as a Job: json: cannot unmarshal string into Go struct field ContainerPort.spec.template.spec.containers.ports.containerPort of type int32";
        let body = json!({"reason": "BadRequest", "message": message});
        let report = check(
            refused("jobs", 400, body),
            None,
            Verdict::Invalid,
            Some(message),
        );
        let place = Some("spec.containers.ports.containerPort");
        assert_eq!(report.place.as_deref(), place);
    }

    #[test]
    fn a_policy_with_403_makes_a_template_invalid() {
        for (message, details) in [
            (
                "pods \"hello-dry-run\" is forbidden: violates PodSecurity \"restricted:latest\": x",
                named("pods"),
            ),
            (
                "pods \"hello-dry-run\" is forbidden: error looking up service account a/b: not found",
                named("pods"),
            ),
            (
                "pods \"hello-dry-run\" is forbidden: failed quota: q: must specify requests.cpu for: app",
                named("pods"),
            ),
            (
                "admission webhook \"w\" denied the request: no",
                Value::Null,
            ),
        ] {
            let body = json!({"reason": "Forbidden", "message": message, "details": details});
            let pod = Some(Pod::Tried(refused("pods", 403, body)));
            check(tried(Ok(()), &[]), pod, Verdict::Invalid, Some(message));
        }
        let message = "jobs.batch \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no";
        let body = json!({"reason": "Invalid", "message": message});
        check(
            refused("jobs", 422, body),
            None,
            Verdict::Invalid,
            Some(message),
        );
    }

    #[test]
    fn what_could_not_be_judged_is_unchecked() {
        let kind_only = json!({"kind": "jobs"});
        for (code, reason, message, details) in [
            (
                403,
                "Forbidden",
                "jobs.batch is forbidden: User \"u\" cannot create resource",
                kind_only,
            ),
            (
                403,
                "Forbidden",
                "Forbidden: user u may not create jobs here",
                Value::Null,
            ),
            (403, "", "access denied", Value::Null),
            (
                403,
                "Forbidden",
                "jobs.batch \"a\" is forbidden: unable to create new content in namespace n because it is being terminated",
                named("jobs"),
            ),
            (
                400,
                "BadRequest",
                "admission webhook \"w\" does not support dry run",
                Value::Null,
            ),
            (
                422,
                "Invalid",
                "admission webhook \"w\" denied the request: no",
                Value::Null,
            ),
            (
                500,
                "InternalError",
                "Internal error occurred: failed calling webhook \"w\"",
                Value::Null,
            ),
            (503, "", "apiserver is starting", Value::Null),
            (429, "TooManyRequests", "later", Value::Null),
            (404, "NotFound", "namespaces \"n\" not found", Value::Null),
            (413, "RequestEntityTooLarge", "too large", Value::Null),
        ] {
            let body = json!({"reason": reason, "message": message, "details": details});
            check(
                refused("jobs", code, body),
                None,
                Verdict::Unchecked,
                Some(message),
            );
        }
        // A proxy gives no reason.
        check(
            refused("jobs", 400, json!("<html>")),
            None,
            Verdict::Unchecked,
            Some("\"<html>\""),
        );
    }

    /// Of a large template it is longer than what is read of an error.
    #[test]
    fn a_refusal_of_any_length_is_one() {
        let fields =
            (0..4000).map(|number| format!("spec.template.spec.containers[{number}].name"));
        let all: Vec<String> = fields
            .map(|field| format!("{field}: Required value"))
            .collect();
        let causes: Vec<Value> = all
            .iter()
            .map(|text| json!({"message": text, "field": text}))
            .collect();
        let message = json!(format!("Job.batch \"a\" is invalid: [{}]", all.join(", ")));
        let details = json!({"name": "a", "kind": "Job", "causes": causes});
        let body = format!(
            r#"{{"kind":"Status","status":"Failure","message":{message},"reason":"Invalid","details":{details},"code":422}}"#
        );
        for read in [body.len(), 256 * 1024, 100 * 1024] {
            let mut job = refused("jobs", 422, Value::Null);
            if let Err(kube::Error {
                failure: Failure::Status { status, .. },
                ..
            }) = &mut job.result
            {
                **status = Status::from_body(422, &body.as_bytes()[..read]);
            }
            let report = report(job, None);
            assert_eq!(report.verdict, Verdict::Invalid, "{read} of {}", body.len());
            let message = report.message.unwrap_or_default();
            assert!(
                message.starts_with("Job.batch \"a\" is invalid: [spec"),
                "{message}"
            );
            assert!(message.ends_with('…'), "{message}");
        }
    }

    #[test]
    fn a_quota_is_a_warning() {
        let message = |kind: &str| {
            format!("{kind} \"hello-dry-run\" is forbidden: exceeded quota: q, requested: x")
        };
        let over = |resource, kind: &str| {
            let body =
                json!({"reason": "Forbidden", "message": message(kind), "details": named(kind)});
            refused(resource, 403, body)
        };
        let pod = Some(Pod::Tried(over("pods", "pods")));
        let report = check(over("jobs", "jobs.batch"), pod, Verdict::Valid, None);
        let expected = ["jobs.batch", "pods"].map(|kind| message(kind).into());
        assert_eq!(report.warnings, expected);
    }

    #[test]
    fn a_name_that_is_taken_and_a_pod_that_may_not_be_tried_are_no_faults() {
        let taken = json!({"reason": "AlreadyExists", "message": "exists"});
        let pod = Some(Pod::NotPermitted("no right".into()));
        let message = Some("only its Job was tried, not the pod: no right");
        check(refused("jobs", 409, taken), pod, Verdict::Valid, message);
    }

    #[test]
    fn warnings_of_job_and_pod_are_in_terms_of_the_template_each_once() {
        let of_job = [
            "unknown field \"spec.template.spec.containers[0].x\"",
            "spec.template.spec.containers[0].env[1].name: duplicate name",
            "would violate PodSecurity \"restricted:latest\"",
            "is invalid: [spec.template.spec.a: b, spec.template.metadata.c: d]",
        ];
        let of_pod = ["unknown field \"spec.containers[0].x\"", "other"];
        let pod = Some(Pod::Tried(tried(Ok(()), &of_pod)));
        let report = check(tried(Ok(()), &of_job), pod, Verdict::Valid, None);
        let expected = [
            "unknown field \"spec.containers[0].x\"",
            "spec.containers[0].env[1].name: duplicate name",
            "would violate PodSecurity \"restricted:latest\"",
            "is invalid: [spec.a: b, metadata.c: d]",
            "other",
        ];
        let warnings: Vec<&str> = report.warnings.iter().map(|text| &**text).collect();
        assert_eq!(warnings, expected);
    }
}
