//! `PUT /app/{type}/{name}`: an instance is replaced now.
//!
//! Its values are in the query, as those of a GET, and its response is that of a GET.

use super::{Api, Call, NotReady, Outcome, Pending, Starts, reply};
use crate::app::{Error, InstanceRequest, Intent};
use crate::budget::Purpose;
use crate::http::conditional::{self, Condition};
use crate::http::{prefer, problem};
use crate::model::names::InstanceKey;
use serde_json::json;

/// The message of the 422 of a request with a body.
const NO_BODY: &str =
    "expected no body: values for the template are in the query, labels are set with PATCH";

impl Api {
    /// `PUT /app/{type}/{name}`
    pub(in crate::http) fn replace(&self, call: &Call<'_>, key: InstanceKey) -> Outcome {
        let headers = &call.request.headers;
        let expectation = conditional::precondition(headers)?;
        if !call.request.body.is_empty() {
            let detail =
                json!([{"type": "value_error", "loc": ["body"], "msg": NO_BODY, "input": ""}]);
            return reply(problem::detail(422, detail));
        }
        let variables = call.variables()?;
        if let (_, Starts::Refused) = self.start(call, &key, Intent::Find)? {
            return Err(Error::NameOfOtherType(key));
        }
        let not_ready = match prefer::strict(headers) {
            true => NotReady::Error,
            false => NotReady::Accepted,
        };
        let pending = Pending::Ensure(Starts::AsAsked, Condition::default(), not_ready, true);
        call.park(key, Purpose::Start, pending, |request| {
            let request = InstanceRequest {
                expectation,
                ..request
            };
            self.app.replace(request, variables)
        })
    }
}
