//! Headers and trailers of both directions contain no forbidden field in any spelling, and the app's fields are
//! unchanged.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use sandgate_policy::header;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::hygiene::{
    HeaderChange, clean_request, clean_request_trailers, clean_response, clean_response_trailers,
};

use super::cases;
use crate::ingress::hygiene_table::apply;
use crate::ingress::oracle::as_cgi_reads;
use crate::ingress::support::{APP, authority, config};

/// In a request, whether as a header or a trailer.
const IN_REQUESTS: [&str; 18] = [
    "x-envoy-retry-on",
    "x-sandgate-principal",
    "x-tensorlake-route-hint",
    "x-tensorlake-sandbox-id",
    "x-forwarded-project-id",
    "x-forwarded-host",
    "x-forwarded",
    "forwarded",
    "forwarded-for",
    "client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-real-ip",
    "client-cert",
    "x-scheme",
    "proxy",
];

/// In a response, whether as a header or a trailer.
const IN_RESPONSES: [&str; 12] = [
    "x-envoy-immediate-health-check-fail",
    "x-sandgate-decision",
    "x-accel-redirect",
    "x-sendfile",
    "x-lighttpd-send-file",
    "x-reproxy-url",
    "x-litespeed-location",
    "surrogate-control",
    "edge-control",
    "endpoint-load-metrics-bin",
    "x-esi",
    "alt-svc",
];

/// In trailers of either direction.
const IN_TRAILERS: [&str; 24] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-port",
    "forwarded",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "trailer",
    "te",
    "upgrade",
    "host",
    "authorization",
    "proxy-authorization",
    "www-authenticate",
    "set-cookie",
    "cookie",
    "cache-control",
    "if-match",
    "range",
    "expect",
    "content-type",
    "content-encoding",
    "content-range",
];

/// What is the app's, in every direction.
const OF_APPS: [&str; 12] = [
    "accept",
    "user-agent",
    "x-app",
    "x.app.forwarded",
    "digest",
    "grpc-status",
    "grpc-message",
    "etag",
    "server-timing",
    "forward",
    "x-real-ipv",
    "proxied",
];

/// Every byte that a header name may hold, apart from letters and digits (RFC 9110, section 5.6.2).
const MARKS: &str = "!#$%&'*+-.^_`|~";

/// A name in any spelling that a CGI-style server reads as the same one.
fn spelt(names: &'static [&'static str]) -> impl Strategy<Value = String> {
    let marks = vec(select(MARKS.chars().collect::<Vec<char>>()), 8);
    (select(names), marks, any::<bool>()).prop_map(|(name, marks, upper)| {
        let mut marks = marks.into_iter();
        let name = if upper { name.to_uppercase() } else { name.to_owned() };
        name.chars().map(|c| if c == '-' { marks.next().unwrap_or('_') } else { c }).collect()
    })
}

/// Headers of apps, with forbidden ones in between.
fn fields(forbidden: &'static [&'static str]) -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let field = prop_oneof![
        2 => spelt(forbidden),
        1 => select(&OF_APPS[..]).prop_map(str::to_owned),
    ];
    vec((field, vec(any::<u8>(), 0..4)), 0..12)
}

/// What is left, and that it is all that is the app's, in order.
fn check(
    fields: &[(String, Vec<u8>)],
    changes: &[HeaderChange],
    forbidden: &[&str],
) -> Result<(), TestCaseError> {
    let left = apply(fields, changes);
    for (name, _) in &left {
        let read = as_cgi_reads(name);
        prop_assert!(!forbidden.contains(&read.as_str()), "{name} is left");
    }
    let of_apps: Vec<_> =
        fields.iter().filter(|(name, _)| OF_APPS.contains(&name.as_str())).cloned().collect();
    prop_assert_eq!(left, of_apps);
    Ok(())
}

proptest! {
    #![proptest_config(cases(4_000))]

    #[test]
    fn no_forbidden_header_of_a_request_remains(fields in fields(&IN_REQUESTS)) {
        let changes = clean_request(Head::new(&header::fields(&fields)), &config(), None, None);
        check(&fields, &changes, &IN_REQUESTS)?;
    }

    #[test]
    fn no_forbidden_trailer_of_a_request_remains(
        ours in fields(&IN_REQUESTS),
        anyones in fields(&IN_TRAILERS),
    ) {
        let fields = [ours, anyones].concat();
        let changes = clean_request_trailers(Head::new(&header::fields(&fields)), &config(), None);
        check(&fields, &changes, &[&IN_REQUESTS[..], &IN_TRAILERS[..]].concat())?;
    }

    #[test]
    fn no_forbidden_header_of_a_response_remains(fields in fields(&IN_RESPONSES)) {
        let changes = clean_response(Head::new(&header::fields(&fields)), &authority(APP));
        check(&fields, &changes, &IN_RESPONSES)?;
    }

    #[test]
    fn no_forbidden_trailer_of_a_response_remains(
        ours in fields(&IN_RESPONSES),
        anyones in fields(&IN_TRAILERS),
    ) {
        let fields = [ours, anyones].concat();
        let changes = clean_response_trailers(Head::new(&header::fields(&fields)));
        check(&fields, &changes, &[&IN_RESPONSES[..], &IN_TRAILERS[..]].concat())?;
    }
}
