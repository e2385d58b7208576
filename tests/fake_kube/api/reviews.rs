//! TokenReview and SelfSubjectAccessReview. Nothing is stored; a review exists only as a response.

use serde_json::Value;

use super::{Fault, Logged, Model, Outcome, Reply, Request};
use super::{options, refused, response, status};
use crate::fake_kube::cluster::status::Refusal;

/// The kinds of reviews.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// TokenReview.
    Token,
    /// SelfSubjectAccessReview.
    OwnAccess,
}

impl Kind {
    /// The kind for the path of a POST.
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/apis/authentication.k8s.io/v1/tokenreviews" => Some(Self::Token),
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => Some(Self::OwnAccess),
            _ => None,
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Token => "tokenreviews",
            Self::OwnAccess => "selfsubjectaccessreviews",
        }
    }
}

impl Model {
    pub(super) fn review(&mut self, kind: Kind, request: &Request) -> Outcome {
        let now = self.cluster.clock().now_ms();
        let faults = self.faults.meet("create", kind.plural(), now);
        let reply = match self.try_review(kind, request, &faults) {
            _ if faults.contains(&Fault::Drop) => Reply::Nothing,
            Ok(review) => Reply::Response(response(201, review)),
            Err(refusal) => Reply::Response(refused(&refusal)),
        };
        self.journal.push(Logged {
            verb: "create".to_owned(),
            resource: kind.plural().to_owned(),
            namespace: String::new(),
            name: String::new(),
            limit: 0,
            code: match &reply {
                Reply::Response(response) => response.code,
                Reply::Watch(_) | Reply::Log(_) | Reply::Nothing => 0,
            },
            user_agent: request.user_agent.clone(),
            traceparent: request.traceparent.clone(),
        });
        Outcome { reply, faults }
    }

    fn try_review(
        &self,
        kind: Kind,
        request: &Request,
        faults: &[Fault],
    ) -> Result<Value, Refusal> {
        if let Some(Fault::Status(code)) = faults.first() {
            return Err(status::server_error(*code));
        }
        let credentials = request.authorization.as_deref();
        let caller = self
            .access
            .authenticate(credentials, request.has_certificate)?;
        if request.method != "POST" {
            return Err(status::method_not_allowed());
        }
        // Every client may review its own permissions (`system:basic-user`).
        if matches!(kind, Kind::Token) {
            self.access.authorize_review(caller)?;
        }
        options::check_json(request)?;
        let mut review = request.json()?;
        review["status"] = match kind {
            Kind::Token => self.access.review(&review["spec"]),
            Kind::OwnAccess => self.access.review_access(caller, &review["spec"]),
        };
        Ok(review)
    }
}
