//! The older routes `/create/{type}` and `/release/{name}`, for clients older than `/app` (contract
//! 3.7, 3.8, A13).
//!
//! They start and stop instances through the same app as the other routes; only their requests and
//! responses differ, and only that is here.

use super::responses::not_ready;
use super::{Api, Call, Outcome, Pending, Starts, expiring, reply};
use crate::app::{self, Error, Expectation, InstanceRequest, Intent};
use crate::budget::Purpose;
use crate::http::message::Response;
use crate::http::{body, prefer, problem};
use crate::model::labels::SESSION_ID;
use crate::model::names::InstanceKey;
use serde_json::json;
use std::time::Duration;

/// `detail.status` of the 404 of `/release`.
pub(in crate::http) const NO_INSTANCE_TO_RELEASE: &str = "Not found";

/// How long `/create` waits before it stops the start (contract A13).
const CREATE_WAIT: Duration = Duration::from_secs(300);

impl Api {
    /// `GET /create/{type}?sessionID=…`: waits until the instance is ready, and stops it if it is
    /// not in time.
    pub(in crate::http) fn create(&self, call: &Call<'_>, app_type: &str) -> Outcome {
        let variables = call.variables()?;
        let Some(session) = variables.get(SESSION_ID) else {
            let detail = body::missing(&json!(["query", SESSION_ID]));
            return reply(problem::detail(422, detail));
        };
        let key = InstanceKey::new(app_type, session).map_err(Error::BadName)?;
        key.name.check_in_urls().map_err(Error::BadName)?;
        let touches = prefer::touches(&call.request.headers);
        if let Some(ready) = self.app.ready(&key, &Expectation::None)? {
            let (left, timings) = (self.app.found(&ready, touches), None);
            let found = app::Response::Ready { ready, timings };
            let response = created(found, Starts::AsAsked)?;
            return reply(self.aged(expiring(response, left)));
        }
        let intent = Intent::StartOrStop(variables.into());
        let (intent, starts) = self.start(call, &key, intent)?;
        call.park(
            key,
            Purpose::Start,
            Pending::Create(starts, touches),
            |request| {
                let request = InstanceRequest {
                    wait: Some(CREATE_WAIT),
                    is_patient: false,
                    ..request
                };
                self.app.ensure(request, intent)
            },
        )
    }

    /// `GET /release/{name}`: stops the first instance with this name or session whose type the
    /// caller may use.
    pub(in crate::http) fn release(&self, call: &Call<'_>, name: String) -> Outcome {
        let may_use = |app_type: &str| call.caller.types.contain(app_type);
        let Some(key) = self.app.find(&name, may_use)? else {
            return Err(Error::NoSession(name.into()));
        };
        call.park(key, Purpose::Write, Pending::Release(name), |request| {
            let wait = None;
            self.app.stop(InstanceRequest { wait, ..request })
        })
    }
}

/// The response of `/create` (contract 3.7, A13).
pub(super) fn created(response: app::Response, starts: Starts) -> Result<Response, Error> {
    use app::Response::{Done, Failed, Progress, Ready};
    Ok(match response {
        Ready { ready, .. } => {
            let body = json!({"hostname": ready.ip, "addr": ready.ip});
            Response::json(200, body.to_string())
        }
        Progress { progress, .. } if progress.is_failure_report => not_ready(&progress, 502),
        // The app reports progress of what it has started only when it shuts down; otherwise it
        // stops an instance that is not ready in time.
        Progress { .. } if starts == Starts::AsAsked => return Err(Error::Draining),
        // The instance was not ready in time, or never existed.
        Progress { .. } | Done | Failed(Error::NoInstance(_)) => {
            Response::json(408, r#"{"status":"Could not provision app"}"#)
        }
        Failed(error) => return Err(error),
        _ => return Err(Error::Internal),
    })
}
