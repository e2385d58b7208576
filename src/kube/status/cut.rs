//! What a `Status` says whose body was cut: an API server lists each invalid field twice, so that of a
//! large object is longer than what is read of an error.
//!
//! Pure. The API server writes the message first, then the reason, then the fields.

use super::{CAUSES_MAX, Cause, Details, MESSAGE_BYTES_MAX, Status};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Reads what is there of the body of a response with that status code; `None` if it is no `Status`.
pub(super) fn read(code: u16, body: &[u8]) -> Option<Status> {
    let (mut status, mut kind) = (Status::default(), String::new());
    // It ends in the middle, which is no matter.
    let mut reader = serde_json::Deserializer::from_slice(body);
    let _ = (&mut reader).deserialize_map(Whole(&mut status, &mut kind));
    if kind != "Status" {
        return None;
    }
    if status.message.is_empty() {
        status.message = beginning_of_message(body)?;
    }
    if status.reason.is_empty() {
        // As the API server gives them for its own refusals.
        let reasons = [(400, "BadRequest"), (422, "Invalid")];
        let reason = reasons.iter().find(|(of, _)| *of == code);
        status.reason = reason.map_or("", |(_, reason)| reason).to_owned();
    }
    Some(status)
}

/// The beginning of a message whose end is not there.
fn beginning_of_message(body: &[u8]) -> Option<String> {
    const FIELD: &[u8] = b"\"message\":\"";
    let mut places = body.windows(FIELD.len());
    let begin = places.position(|bytes| bytes == FIELD)? + FIELD.len();
    let rest = &body[begin..];
    let end = rest.len().min(MESSAGE_BYTES_MAX);
    // It may be cut within a character, or within an escape sequence of up to twelve bytes.
    (0..12).find_map(|less| {
        let text = rest.get(..end.checked_sub(less)?)?;
        let quoted = [b"\"", text, b"\""].concat();
        serde_json::from_slice(&quoted).ok()
    })
}

struct Whole<'a>(&'a mut Status, &'a mut String);

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Status")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(status, kind) = self;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "kind" => *kind = map.next_value()?,
                "message" => status.message = or_default(map.next_value())?,
                "reason" => status.reason = or_default(map.next_value())?,
                "details" => map.next_value_seed(InDetails(&mut status.details))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

fn or_default<E>(value: Result<Option<String>, E>) -> Result<String, E> {
    value.map(Option::unwrap_or_default)
}

struct InDetails<'a>(&'a mut Details);

impl<'de> DeserializeSeed<'de> for InDetails<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for InDetails<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its details")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "name" => self.0.name = or_default(map.next_value())?,
                "kind" => self.0.kind = or_default(map.next_value())?,
                "causes" => map.next_value_seed(InCauses(&mut self.0.causes))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct InCauses<'a>(&'a mut Vec<Cause>);

impl<'de> DeserializeSeed<'de> for InCauses<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for InCauses<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid fields")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        while let Some(cause) = all.next_element()? {
            if self.0.len() < CAUSES_MAX {
                self.0.push(cause);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As the API server writes it.
    fn body(count: usize) -> String {
        let field = |number| format!("spec.template.spec.containers[{number}].name");
        let causes = (0..count).map(|number| {
            json!({"reason": "FieldValueInvalid", "message": "Invalid value: \"Ä\u{1}\"", "field": field(number)})
        });
        let causes: Vec<_> = causes.collect();
        let all: Vec<String> = (0..count)
            .map(|n| format!("{}: Invalid value: \"Ä\u{1}\"", field(n)))
            .collect();
        let message = json!(format!("Job.batch \"a\" is invalid: [{}]", all.join(", ")));
        let details = json!({"name": "a", "group": "batch", "kind": "Job", "causes": causes});
        format!(
            r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":{message},"reason":"Invalid","details":{details},"code":422}}"#
        )
    }

    #[test]
    fn wherever_it_is_cut_reason_and_message_are_there() {
        let whole = body(40);
        let message = Status::from_body(422, whole.as_bytes()).message;
        let begin = whole.find("\"message\":\"").unwrap() + "\"message\":\"".len();
        for end in begin + 30..whole.len() {
            let status = Status::from_body(422, &whole.as_bytes()[..end]);
            assert_eq!((status.code, &*status.reason), (422, "Invalid"), "{end}");
            assert!(message.starts_with(&status.message), "{}", status.message);
            assert!(
                status.message.len() + 40 > (end - begin).min(1000) * 2 / 3,
                "{end}"
            );
        }
        let status = Status::from_body(422, &whole.as_bytes()[..whole.len() - 1]);
        assert_eq!(status.details.causes.len(), CAUSES_MAX);
        assert_eq!(status.details.name, "a");
        let field = status.details.causes[3].field.as_deref();
        assert_eq!(field, Some("spec.template.spec.containers[3].name"));
    }

    #[test]
    fn a_proxy_says_nothing() {
        for body in [
            "{\"message\":\"x\",\"reason\":\"Inv",
            "<html>{\"kind\":\"Status\"",
            "{\"kind\":\"Sta",
            "[1,",
        ] {
            assert_eq!(Status::from_body(422, body.as_bytes()).reason, "", "{body}");
        }
    }
}
