//! The trailers that are forwarded, in both directions, and those that are removed.

use sandgate_policy::header::fields;
use sandgate_policy::ingress::credential::Credential;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::hygiene::{clean_request_trailers, clean_response_trailers};
use test_case::test_case;

use crate::ingress::hygiene_table::{apply, text};
use crate::ingress::support::{APP, KEY, Req, config};

fn header_pairs(pairs: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
}

/// What a client receives of these trailers of a sandbox.
pub(crate) fn response_trailers(pairs: &[(&str, &str)]) -> Vec<String> {
    let trailers = header_pairs(pairs);
    text(&apply(&trailers, &clean_response_trailers(Head::new(&fields(&trailers)))))
}

/// What a sandbox receives of these trailers of a client.
fn request_trailers(pairs: &[(&str, &str)], used: Option<&Credential>) -> Vec<String> {
    let trailers = header_pairs(pairs);
    let changes = clean_request_trailers(Head::new(&fields(&trailers)), &config(), used);
    text(&apply(&trailers, &changes))
}

#[test_case("content-length"; "framing")]
#[test_case("transfer-encoding"; "framing by Transfer-Encoding")]
#[test_case("trailer"; "the list of trailers")]
#[test_case("te"; "the accepted transfer codings")]
#[test_case("connection"; "a field of one connection")]
#[test_case("keep-alive"; "a field of one connection, by an older name")]
#[test_case("proxy-connection"; "a field of one connection, by a wrong name")]
#[test_case("upgrade"; "another protocol")]
#[test_case("host"; "routing")]
#[test_case("x-forwarded-for"; "a client's address")]
#[test_case("x-forwarded-proto"; "a scheme")]
#[test_case("x_forwarded_for"; "the same with underscores")]
#[test_case("x.forwarded.host"; "another field with that prefix, with dots")]
#[test_case("forwarded"; "RFC 7239")]
#[test_case("client-ip"; "an address by another name")]
#[test_case("x-sandgate-principal"; "a field with the gateway's prefix")]
#[test_case("x-envoy-retry-on"; "a field that controls Envoy")]
#[test_case("cache-control"; "a control")]
#[test_case("expect"; "an expectation")]
#[test_case("range"; "a range")]
#[test_case("if-none-match"; "a condition")]
#[test_case("if_match"; "another one with an underscore")]
#[test_case("authorization"; "a credential")]
#[test_case("proxy-authorization"; "a credential for a proxy")]
#[test_case("cookie"; "cookies")]
#[test_case("set-cookie"; "a cookie that the response sets")]
#[test_case("www-authenticate"; "a challenge")]
#[test_case("origin"; "whose page it is")]
#[test_case("sec-fetch-site"; "the same in other words")]
#[test_case("access-control-allow-origin"; "who may read it")]
#[test_case("location"; "the location")]
#[test_case("retry-after"; "the time of a retry")]
#[test_case("vary"; "the fields that a cached response depends on")]
#[test_case("content-type"; "the type of the content")]
#[test_case("content-encoding"; "the coding of the content")]
#[test_case("content-range"; "the range of the content")]
fn fields_that_must_precede_the_content_are_removed_from_trailers(name: &str) {
    let pairs = [("a", "1"), (name, "x"), (name, "y"), ("b", "2")];
    assert_eq!(response_trailers(&pairs), ["a: 1", "b: 2"]);
    assert_eq!(request_trailers(&pairs, None), ["a: 1", "b: 2"]);
}

#[test_case("grpc-status"; "the end of gRPC")]
#[test_case("grpc-message"; "the message of a gRPC status")]
#[test_case("grpc-status-details-bin"; "the details of a gRPC status")]
#[test_case("digest"; "a digest")]
#[test_case("content-digest"; "a digest by RFC 9530")]
#[test_case("etag"; "a tag")]
#[test_case("server-timing"; "timings")]
#[test_case("x-anything"; "a field of the app's own")]
#[test_case("checksum"; "another one")]
#[test_case("ifonly"; "a name that starts like a condition")]
#[test_case("security"; "a name that starts like a browser's")]
fn trailers_of_the_app_are_forwarded(name: &str) {
    let line = format!("{name}: x");
    assert_eq!(response_trailers(&[(name, "x")]), [line.as_str()]);
    assert_eq!(request_trailers(&[(name, "x")], None), [line.as_str()]);
}

#[test]
fn a_trailer_of_a_request_holds_no_secret() {
    let used = Req::get(APP).and("authorization", "Bearer an-older-key-of-this-caller");
    let used = Credential::extract(Head::new(&used.fields()), &config()).ok().flatten();
    let pairs = [
        ("checksum", "abc"),
        ("x-copy", "an-older-key-of-this-caller"),
        ("x-key", KEY),
        ("x-last", "1"),
    ];
    assert_eq!(request_trailers(&pairs, used.as_ref()), ["checksum: abc", "x-last: 1"]);
}
