//! The older routes, `/create/{type}` and `/release/{name}`: the words of clients that are older
//! than `/app` (contract 3.7, 3.8, A13).
//!
//! They start and stop by the same way as all others; here stands only how they are asked and
//! answered.

use super::answers::add_finding;
use super::{Api, Pending, asked, problem, variables};
use crate::app::flight::Intent;
use crate::app::{Answer, Asked, Error, Progress, RequestHandle};
use crate::http::auth::Caller;
use crate::http::body;
use crate::http::message::{Request, Response};
use crate::http::problem::Shape;
use crate::http::server::Handled;
use crate::model::labels::SESSION_ID;
use crate::model::names::InstanceKey;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// How errors of `/release` look: what stands in `detail.status` where there is nothing to release.
pub(super) const RELEASE_SHAPE: Shape = Shape::Detail("Not found");

/// How long a start by `/create` is waited for, and then stopped (contract A13).
const CREATE_WAIT: Duration = Duration::from_secs(300);

impl Api {
    /// `GET /create/{type}?sessionID=…`: waits until the instance is ready, and stops it if it is
    /// not in time.
    pub(super) fn create(
        &self,
        app_type: &str,
        request: &Request,
        caller: &Caller,
        token: RequestHandle,
    ) -> Handled<Pending> {
        let variables = match variables(request) {
            Ok(variables) => variables,
            Err(error) => return Handled::Reply(problem(&error, Shape::Plain)),
        };
        let Some(session) = variables.get(SESSION_ID) else {
            let detail = body::missing(&json!(["query", SESSION_ID]));
            let body = json!({ "detail": detail }).to_string();
            return Handled::Reply(Response::json(422, body));
        };
        let key = match InstanceKey::new(app_type, session) {
            Ok(key) => key,
            Err(error) => return Handled::Reply(problem(&Error::BadName(error), Shape::Plain)),
        };
        match self.app.ready(&key) {
            Ok(Some(ready)) => {
                return Handled::Reply(self.aged(created(&Answer::Ready(ready))));
            }
            Ok(None) => {}
            Err(error) => return Handled::Reply(problem(&error, Shape::Plain)),
        }
        let asked = Asked {
            wait: Some(CREATE_WAIT),
            ..asked(key.clone(), request, caller, token)
        };
        let handed_over = self.app.ensure(asked, variables, Intent::StartOrStop);
        self.parked(handed_over, Pending::Create(key))
    }

    /// `GET /release/{name}`: stops the first instance that has this name or session, of those
    /// whose type the caller may use.
    pub(super) fn release(
        &self,
        name: String,
        request: &Request,
        caller: &Caller,
        token: RequestHandle,
    ) -> Handled<Pending> {
        match self
            .app
            .find(&name, |app_type| caller.types.contain(app_type))
        {
            Ok(Some(key)) => {
                let asked = Asked {
                    wait: None,
                    ..asked(key, request, caller, token)
                };
                self.parked(self.app.stop(asked), Pending::Release(name))
            }
            Ok(None) => Handled::Reply(problem(&Error::NoSession(name.into()), RELEASE_SHAPE)),
            Err(error) => Handled::Reply(problem(&error, RELEASE_SHAPE)),
        }
    }
}

/// The answer of `/create` (contract 3.7, A13).
pub(super) fn created(answer: &Answer) -> Response {
    match answer {
        Answer::Ready(ready) => {
            let body = json!({"hostname": ready.ip, "addr": ready.ip});
            Response::json(200, body.to_string())
        }
        Answer::Progress(progress) if progress.is_verdict => start_failed(progress),
        // Before its time is over it hears of progress only when the service ends.
        Answer::Progress(_) => problem(&Error::Draining, Shape::Plain),
        // What was not ready in time has been stopped, or was never there.
        Answer::Done | Answer::Failed(Error::NoInstance(_)) => {
            Response::json(408, r#"{"status":"Could not provision app"}"#)
        }
        Answer::Failed(error) => problem(error, Shape::Plain),
        Answer::Reviewed(_) => problem(&Error::Internal, Shape::Plain),
    }
}

fn start_failed(progress: &Progress) -> Response {
    let mut body = Map::new();
    body.insert("status".into(), json!("error"));
    body.insert("msg".into(), Value::Null);
    body.insert("code".into(), json!("start_failed"));
    add_finding(&mut body, &progress.finding);
    Response::json(502, Value::Object(body).to_string())
}
