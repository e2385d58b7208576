//! `PUT /app/{type}/{name}/heartbeat`: an instance is used, now or for longer.
//!
//! How long is a duration, never a time of day: clocks of callers differ.

use super::{Api, Call, Outcome, expiring, reply, responses};
use crate::http::{body, problem};
use crate::model::duration::parse_duration;
use crate::model::names::InstanceKey;
use serde_json::{Value, json};
use std::time::Duration;

/// The key of the body that says for how long.
const FOR: &str = "for";

impl Api {
    /// `PUT /app/{type}/{name}/heartbeat`
    pub(in crate::http) fn heartbeat(&self, call: &Call<'_>, key: InstanceKey) -> Outcome {
        let lasts = match self.lasts(call) {
            Ok(lasts) => lasts,
            Err(detail) => return reply(problem::detail(422, detail)),
        };
        let left = self.app.note_use(&key, lasts)?;
        reply(expiring(responses::success(), left))
    }

    /// For how long an instance is used, by the body of a request; or the details of the 422.
    fn lasts(&self, call: &Call<'_>) -> Result<Duration, Value> {
        let request = call.request;
        if request.body.is_empty() {
            return Ok(Duration::ZERO);
        }
        let content_type = request.headers.get("content-type");
        let object = body::object(content_type, &request.body, 1)?;
        let longest = self.app.heartbeat_max();
        let invalid = |key: &str, input: &str, what: String| {
            json!([{
                "type": "value_error", "loc": ["body", key], "msg": what, "input": input,
            }])
        };
        if let Some(other) = object.keys().find(|key| *key != FOR) {
            let what = format!("unknown key; expected only \"{FOR}\"");
            return Err(invalid(other, "", what));
        }
        let Some(value) = object.get(FOR) else {
            return Ok(Duration::ZERO);
        };
        let text = value.as_str().unwrap_or_default();
        let duration = parse_duration(text).filter(|duration| *duration <= longest);
        duration.ok_or_else(|| {
            let most = longest.as_secs();
            let what = format!(
                "expected a duration such as \"30m\" or \"2h\", of at most {most}s (HEARTBEAT_MAX)"
            );
            invalid(FOR, text, what)
        })
    }
}
