//! The responses of a sandbox that are forwarded, and the denials that replace the others.

use sandgate_policy::header::fields;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::hygiene::HeaderChange;
use sandgate_policy::ingress::recipient::{DenialFormat, Recipient, RequestId};
use sandgate_policy::ingress::response::{
    ResponseDecision, decide_local_reply, decide_response, without_sent_bytes,
};
use sandgate_policy::ingress::response_context::ResponseContext;
use test_case::test_case;

use crate::ingress::support::{APP, Req, authority, config};

fn get() -> Req {
    Req::get(APP)
}

fn upgrade() -> Req {
    get().and("connection", "upgrade").and("upgrade", "websocket")
}

/// The decision about a response to `request`, as text.
fn outcome(request: &Req, response: &[(&str, &str)]) -> String {
    let headers: Vec<(String, Vec<u8>)> =
        response.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    match decide_response(
        Head::new(&fields(&headers)),
        &ResponseContext::new(authority(APP), Head::new(&request.fields())),
    ) {
        ResponseDecision::Forward(_) => "forwarded".into(),
        ResponseDecision::Replace(denial) => format!("{} {}", denial.status(), denial.code()),
    }
}

#[test_case("200"; "the first final one")]
#[test_case("204"; "without content")]
#[test_case("299"; "an unknown success")]
#[test_case("304"; "not modified")]
#[test_case("399"; "an unknown redirect")]
#[test_case("401"; "the app wants a login")]
#[test_case("418"; "any client error")]
#[test_case("500"; "a fault of the app")]
#[test_case("599"; "the last final one")]
fn a_final_status_is_forwarded(status: &str) {
    assert_eq!(outcome(&get(), &[(":status", status)]), "forwarded");
}

#[test_case("000"; "zero")]
#[test_case("099"; "less than a status")]
#[test_case("100"; "an informational one")]
#[test_case("101"; "another protocol that nobody asked for")]
#[test_case("102"; "processing")]
#[test_case("103"; "early hints")]
#[test_case("199"; "an unknown informational one")]
#[test_case("600"; "one more than the last")]
#[test_case("999"; "the largest number")]
#[test_case("1000"; "four digits")]
#[test_case("0200"; "a zero in front")]
#[test_case("20"; "two digits")]
#[test_case("2 0"; "a space in between")]
#[test_case(" 200"; "a space in front")]
#[test_case("+20"; "a sign")]
#[test_case("2e2"; "an exponent")]
#[test_case(""; "nothing")]
fn any_other_status_is_replaced_by_a_denial(status: &str) {
    let response = [(":status", status), ("upgrade", "websocket"), ("connection", "upgrade")];
    assert_eq!(outcome(&get(), &response), "502 UPSTREAM_INVALID");
}

#[test]
fn a_response_must_have_exactly_one_status() {
    assert_eq!(outcome(&get(), &[("a", "1")]), "502 UPSTREAM_INVALID");
    let twice = [(":status", "200"), (":status", "200")];
    assert_eq!(outcome(&get(), &twice), "502 UPSTREAM_INVALID");
}

#[test_case("101", Some("websocket") => "forwarded"; "the app upgraded to WebSocket; over HTTP/2, Envoy sends 200")]
#[test_case("101", Some("WebSocket") => "forwarded"; "in other case")]
#[test_case("101", Some("h2c") => "502 UPSTREAM_INVALID"; "the app upgraded to something else")]
#[test_case("101", None => "502 UPSTREAM_INVALID"; "the app names no protocol")]
#[test_case("200", None => "502 UPSTREAM_INVALID"; "the app served a page")]
#[test_case("204", Some("websocket") => "502 UPSTREAM_INVALID"; "another success")]
#[test_case("302", None => "forwarded"; "a redirect")]
#[test_case("401", None => "forwarded"; "the app wants a login")]
#[test_case("426", None => "forwarded"; "the app wants another upgrade")]
#[test_case("503", None => "forwarded"; "the app is unavailable")]
#[test_case("600", None => "502 UPSTREAM_INVALID"; "no status at all")]
fn only_101_opens_a_websocket(status: &str, protocol: Option<&str>) -> String {
    let mut response = vec![(":status", status)];
    response.extend(protocol.map(|protocol| ("upgrade", protocol)));
    let over_http1 = upgrade().and("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(outcome(&over_http1, &response), outcome(&upgrade(), &response));
    outcome(&upgrade(), &response)
}

#[test_case("Upgrade" => None; "the upgrade alone")]
#[test_case("upgrade, x-frame-options" => Some("Upgrade".into()); "a header that a proxy in front would remove")]
#[test_case("keep-alive, upgrade" => Some("Upgrade".into()); "a header of one connection")]
fn the_connection_header_of_a_101_names_only_the_upgrade(connection: &str) -> Option<String> {
    let response = [(":status", "101"), ("upgrade", "websocket"), ("connection", connection)];
    let response = response.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
    match decide_response(
        Head::new(&fields(&response)),
        &ResponseContext::new(authority(APP), Head::new(&upgrade().fields())),
    ) {
        ResponseDecision::Forward(changes) => match changes.as_slice() {
            [] => None,
            [HeaderChange::Set(name, value)] if *name == "connection" => {
                Some(String::from_utf8_lossy(value).into_owned())
            }
            other => panic!("other changes: {other:?}"),
        },
        ResponseDecision::Replace(denial) => panic!("refused: {denial:?}"),
    }
}

/// What a denial to the sender of a request carries beside its own headers.
fn carried(request: &Req) -> Vec<String> {
    let recipient = Recipient::of(Head::new(&request.fields()), &config());
    recipient.headers().map(|(name, value)| format!("{name}: {value}")).collect()
}

#[test]
fn a_page_of_a_trusted_origin_may_read_a_denial() {
    let expected = [
        "access-control-allow-origin: https://app.example.com",
        "access-control-allow-credentials: true",
        "access-control-expose-headers: retry-after, www-authenticate, x-request-id",
        "vary: Origin",
    ];
    assert_eq!(carried(&get().and("origin", "https://app.example.com")), expected);
    // In the operator's spelling, not the request's.
    assert_eq!(carried(&get().and("origin", "HTTPS://APP.example.com")), expected);
}

#[test_case(get(); "no origin")]
#[test_case(get().and("origin", "null"); "an opaque one")]
#[test_case(get().and("origin", ""); "an empty one")]
#[test_case(get().and("origin", "https://evil.test"); "a foreign one")]
#[test_case(get().and("origin", "https://app.example.com.evil.test"); "one that starts alike")]
#[test_case(get().and("origin", "http://app.example.com"); "another scheme")]
#[test_case(get().and("origin", "https://app.example.com:8443"); "another port")]
#[test_case(get().and("origin", "https://app.example.com").and("origin", "https://evil.test"); "two")]
#[test_case(get().and("origin", "https://8080-my-env.sandbox.example.com"); "the sandbox's own, which needs no permission")]
fn a_page_of_an_untrusted_origin_may_not_read_a_denial(request: Req) {
    assert_eq!(carried(&request), Vec::<String>::new());
}

#[test_case("9f2c1a70-5d3e-4b8a-9c61-0e7d4f1b2a33"; "a UUID")]
#[test_case("Root=1-67891233-abcdef012345678912345678"; "a load balancer's")]
#[test_case("req_1.2~3:4+5/6@7"; "with marks")]
fn a_safe_request_id_is_in_the_denial(id: &str) {
    assert_eq!(carried(&get().and("x-request-id", id)), [format!("x-request-id: {id}")]);
}

#[test]
fn a_request_id_consists_of_letters_digits_and_a_few_marks() {
    for byte in 0..=u8::MAX {
        let is_safe = byte.is_ascii_alphanumeric() || b"-._~:=+/@".contains(&byte);
        assert_eq!(RequestId::parse(&[b'a', byte, b'a']).is_some(), is_safe, "{byte}");
    }
}

#[test_case("<script>"; "HTML")]
#[test_case("a\"b"; "a quote")]
#[test_case("a b"; "a space")]
#[test_case("a&b"; "an entity")]
#[test_case("é"; "no ASCII")]
#[test_case("a,b"; "two joined")]
#[test_case(""; "nothing")]
#[test_case(&"a".repeat(129); "too long")]
fn an_unsafe_request_id_is_not_in_the_denial(id: &str) {
    assert_eq!(carried(&get().and("x-request-id", id)), Vec::<String>::new());
    assert_eq!(RequestId::parse(id.as_bytes()), None);
}

#[test_case(get() => DenialFormat::Json; "a program")]
#[test_case(get().and("accept", "text/html") => DenialFormat::Html; "a browser that navigates")]
#[test_case(upgrade().and("accept", "text/html") => DenialFormat::Json; "an upgrade")]
#[test_case(get().and("accept", "text/html").and("content-type", "application/grpc") => DenialFormat::Grpc; "gRPC")]
fn each_client_gets_the_format_that_it_understands(request: Req) -> DenialFormat {
    Recipient::of(Head::new(&request.fields()), &config()).format()
}

/// The decision about a 503 of Envoy with these headers, as text.
fn local_outcome(headers: &[(&str, &str)]) -> String {
    let headers: Vec<(String, Vec<u8>)> = [(":status", "503")]
        .iter()
        .chain(headers)
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    let fields = fields(&headers);
    match decide_local_reply(Head::new(&fields), &Recipient::default()) {
        ResponseDecision::Forward(changes) => format!("forwarded with {changes:?}"),
        ResponseDecision::Replace(denial) => format!("{} {}", denial.status(), denial.code()),
    }
}

#[test_case(&[], "forwarded with []"; "a failure before any attempt")]
#[test_case(&[("x-sandgate-sent", "0")], "forwarded with [Remove(\"x-sandgate-sent\")]"; "nothing was sent")]
#[test_case(&[("x-sandgate-sent", "271")], "502 UPSTREAM_RESET"; "an attempt was sent")]
#[test_case(&[("x-sandgate-sent", "")], "502 UPSTREAM_RESET"; "it is unknown whether an attempt was sent")]
#[test_case(&[("x-sandgate-sent", "0"), ("x-sandgate-sent", "1")], "502 UPSTREAM_RESET"; "the header contradicts itself")]
fn a_503_of_envoy_promises_that_nothing_was_sent(headers: &[(&str, &str)], expected: &str) {
    assert_eq!(local_outcome(headers), expected);
}

#[test]
fn nobody_else_sees_how_much_was_sent() {
    let headers = [("x-sandgate-sent".to_owned(), b"0".to_vec())];
    let removal = HeaderChange::Remove("x-sandgate-sent".into());
    assert_eq!(without_sent_bytes(Head::new(&fields(&headers))), Some(removal));
    assert_eq!(without_sent_bytes(Head::new(&[])), None);
}
