use super::*;

#[test]
fn header_names_are_found_in_any_case_and_order_is_kept() {
    let mut headers = Headers::default();
    headers.push("Accept", b"a");
    headers.push("X-One", b"1");
    headers.push("accept", b"b");
    assert_eq!(headers.get("ACCEPT"), Some("a"));
    assert_eq!(headers.get("x-two"), None);
    let all: Vec<_> = headers.get_all("accept").collect();
    assert_eq!(all, [b"a", b"b"]);
    let names: Vec<_> = headers.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["Accept", "X-One", "accept"]);
}

#[test]
fn a_value_that_is_not_utf8_is_available_as_bytes_only() {
    let mut headers = Headers::default();
    headers.push("x", b"\xff");
    assert_eq!(headers.get("x"), None);
    assert_eq!(headers.get_bytes("x"), Some(&b"\xff"[..]));
}

#[test]
fn debug_output_shows_no_credentials() {
    let mut headers = Headers::default();
    headers.push("Authorization", b"Bearer secret");
    headers.push("X-One", b"a\nb");
    let shown = format!("{headers:?}");
    assert_eq!(shown, r#"{"Authorization": "[hidden]", "X-One": "a\nb"}"#);
}

#[test]
fn refusals_have_the_shape_of_the_contract() {
    let response = Refusal::BadRequest("a \"quoted\" word").response();
    assert_eq!(response.status, 400);
    assert_eq!(
        &*response.body,
        br#"{"status":"error","msg":"a \"quoted\" word","code":"bad_request"}"#
    );
    let response = Refusal::TooManyFromPeer.response();
    assert_eq!(response.status, 429);
    assert!(
        response
            .headers
            .contains(&("retry-after".into(), "1".into()))
    );
}

#[test]
fn every_refusal_has_its_index_and_a_distinct_label() {
    let mut labels = std::collections::HashSet::new();
    for (index, cause) in Refusal::ALL.into_iter().enumerate() {
        assert_eq!(cause.index(), index);
        assert!(labels.insert(cause.label()));
    }
}

#[test]
fn an_absolute_target_replaces_the_host_field() {
    let mut request = Request::new(Method::Get, "/app?x=1");
    assert_eq!(request.query.as_deref(), Some("x=1"));
    request.headers.push("Host", b"one");
    assert_eq!(request.host(), Some("one"));
    request.authority = Some("two".into());
    assert_eq!(request.host(), Some("two"));
}
