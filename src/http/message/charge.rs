//! The bytes that a waiting request is charged in the [`Ledger`](crate::budget::Ledger).
//!
//! The bound must hold before a request is parked. What is kept of it is not decided by then: all
//! of it while its token is reviewed, later the variables of its query or the patch of its body.
//! The charge is an upper bound of all of these, computed from the bytes received. It may be too
//! high by a small factor, never too low. Pure; nothing is counted here.

use super::Request;
use crate::model::template::VARIABLES_MAX;

/// What every waiting request keeps, in bytes: entries in the coordinator and in tables of pending
/// requests, names in its path, caller, request ID.
const FIXED: usize = 1024;

/// Bytes that one name-value pair keeps beyond its text: entries in collections (at worst a
/// half-empty node of a `BTreeMap`), and the allocator's overhead for two strings.
const PAIR: usize = 256;

impl Request {
    /// The most that this request keeps in memory while it waits, in bytes.
    ///
    /// Text is counted twice, since decoding may leave a buffer twice as large as its content.
    #[must_use]
    pub fn parked_bytes(&self) -> usize {
        let query = self.query.as_deref().unwrap_or_default();
        let authority = self.authority.as_ref().map_or(0, String::len);
        let text = self.path.len() + query.len() + authority + self.body.len();
        FIXED
            + self.headers.held_bytes()
            + 2 * text
            + PAIR * (pairs_of_query(query) + pairs_of_json(&self.body))
    }
}

/// At least as many pairs as the query string has; with more than [`VARIABLES_MAX`] it is refused.
fn pairs_of_query(query: &str) -> usize {
    match query {
        "" => 0,
        query => (count(query.as_bytes(), b'&') + 1).min(VARIABLES_MAX),
    }
}

/// An upper bound of the number of pairs in the objects of this JSON text. Each pair has a colon
/// and two quotes; all but the first of an object have a comma before them.
fn pairs_of_json(body: &[u8]) -> usize {
    if body.is_empty() {
        return 0;
    }
    let commas = count(body, b',') + count(body, b'{');
    commas.min(count(body, b':')).min(count(body, b'"') / 2)
}

fn count(bytes: &[u8], wanted: u8) -> usize {
    bytes.iter().filter(|&&byte| byte == wanted).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::message::Method;

    /// The charge of a request beyond that of one to `/app/t/n` without query, headers and body.
    fn extra(target: &str, body: &str) -> usize {
        let mut request = Request::new(Method::Get, target);
        request.body = body.into();
        request.parked_bytes() - Request::new(Method::Get, "/app/t/n").parked_bytes()
    }

    #[test]
    fn text_is_charged_twice_and_pairs_are_charged_by_their_number() {
        assert_eq!(extra("/app/t/n", ""), 0);
        assert_eq!(extra("/app/t/n?", ""), 0);
        assert_eq!(extra("/app/t/n?abc=d", ""), 2 * 5 + PAIR);
        assert_eq!(extra("/app/t/n?a=b&c=d", ""), 2 * 7 + 2 * PAIR);
        assert_eq!(extra("/app/t/n", r#"{"a":"b"}"#), 2 * 9 + PAIR);
        assert_eq!(extra("/app/t/n", r#"{"a":1,"b":null}"#), 2 * 16 + 2 * PAIR);
    }

    #[test]
    fn many_short_pairs_weigh_more_than_one_long_one() {
        let short: Vec<String> = (0..1000)
            .map(|number| format!("\"{number}\":\"\""))
            .collect();
        let short = format!("{{{}}}", short.join(","));
        assert_eq!(extra("/app/t/n", &short), 2 * short.len() + 1000 * PAIR);
        let long = format!(r#"{{"a":"{}"}}"#, "x,".repeat(4000));
        assert_eq!(extra("/app/t/n", &long), 2 * long.len() + PAIR);
    }

    #[test]
    fn header_fields_are_charged() {
        let mut request = Request::new(Method::Get, "/app/t/n");
        let before = request.parked_bytes();
        request
            .headers
            .push("cookie", "x".repeat(10_000).as_bytes());
        assert!(request.parked_bytes() >= before + 10_006);
    }
}
