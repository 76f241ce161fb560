//! Random requests, responses, and changes of the fleet.

use proptest::prelude::*;
use proptest::sample::select;

use crate::tests::envoy::{Attributes, Headers};
use crate::tests::suite::support::{DOMAIN, KEY, MY_ENV, PAT, PLAIN_KEY, SESSION, SHOP};

/// The names that the filter reads in requests, and some that it does not.
const REQUEST_NAMES: [&str; 34] = [
    ":authority",
    ":path",
    ":method",
    ":scheme",
    ":protocol",
    "authorization",
    "cookie",
    "proxy-authorization",
    "x-sandgate-authorization",
    "x-sandgate-transfer-encoding",
    "x-sandgate-a",
    "x-forwarded-organization-id",
    "x-forwarded-project-id",
    "x-tensorlake-sandbox-id",
    "x-tensorlake-request-timeout-ms",
    "x-envoy-original-path",
    "x-forwarded-for",
    "x-request-id",
    "origin",
    "accept",
    "content-type",
    "content-length",
    "upgrade",
    "connection",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-dest",
    "sec-websocket-protocol",
    "access-control-request-method",
    "access-control-request-headers",
    "te",
    "host",
    "x-app",
    "y",
];

const RESPONSE_NAMES: [&str; 16] = [
    ":status",
    "set-cookie",
    "location",
    "content-type",
    "content-length",
    "grpc-status",
    "grpc-message",
    "x-sandgate-a",
    "x-accel-redirect",
    "x-sendfile",
    "alt-svc",
    "upgrade",
    "connection",
    "access-control-allow-origin",
    "clear-site-data",
    "x-app",
];

const TEXTS: [&str; 40] = [
    "",
    " ",
    "GET",
    "HEAD",
    "POST",
    "OPTIONS",
    "CONNECT",
    "websocket",
    "upgrade",
    "Upgrade, keep-alive",
    "chunked",
    "trailers",
    "application/grpc",
    "application/grpc+proto",
    "application/grpc; charset=x",
    "text/html,*/*",
    "navigate",
    "cross-site",
    "same-origin",
    "document",
    "null",
    "https://app.example.com",
    "https://evil.test",
    "my-env",
    "proj_1",
    "org_1",
    "proj_2",
    "0",
    "5000",
    "99999999999999999999",
    "/?organizationId=org_1&projectId=proj_1",
    "/a%00b?projectId=%ff",
    "a=b; tl.session_token=x; c=d",
    "tl.session_token=; tl-session=S",
    "sid=1; Domain=sandbox.localhost; Path=/",
    "__Host-tl.session_token=1; Secure",
    "/internal/files",
    "200",
    "101",
    "req-1",
];

fn value() -> impl Strategy<Value = Vec<u8>> {
    let secrets = [
        format!("Bearer {KEY}"),
        format!("bearer  {PLAIN_KEY}"),
        format!("Bearer {PAT}"),
        format!("Basic {KEY}"),
        format!("Bearer {KEY}x"),
        format!("tl.session_token={SESSION}"),
        format!("a=1; tl.session_token={SESSION}; b=2"),
        format!("8080-shop.{DOMAIN}"),
        format!("8080-{MY_ENV}.{DOMAIN}:443"),
    ];
    let known: Vec<Vec<u8>> =
        TEXTS.iter().map(|text| text.as_bytes().to_vec()).chain(secrets.map(Into::into)).collect();
    prop_oneof![
        8 => select(known),
        2 => proptest::collection::vec(any::<u8>(), 0..24),
        1 => (any::<u8>(), 0..60_000usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn fields(
    names: &'static [&'static str],
    most: usize,
) -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let name = prop_oneof![
        6 => select(names).prop_map(str::to_owned),
        1 => "[a-z][a-z0-9-]{0,12}",
    ];
    // A few fields, each of which may stand several times.
    let few = proptest::collection::vec((name, value(), 1..3usize), 0..most).prop_map(|fields| {
        let repeat = |(name, value, times)| std::iter::repeat_n((name, value), times);
        fields.into_iter().flat_map(repeat).collect()
    });
    // As many fields as Envoy passes, or more.
    let many = (150..260usize).prop_map(|number| {
        (0..number).map(|number| (format!("x-{number}"), b"1".to_vec())).collect()
    });
    prop_oneof![20 => few, 1 => many]
}

fn add(headers: Headers, fields: Vec<(String, Vec<u8>)>) -> Headers {
    fields.into_iter().fold(headers, |all, (name, value)| {
        // A pseudo-header stands once.
        let rest = if name.starts_with(':') { all.without(&name) } else { all };
        rest.with(name, value)
    })
}

fn request() -> impl Strategy<Value = Headers> {
    let sandbox =
        select(vec!["my-env", "shop", "asleep", "theirs", "gone", MY_ENV, "nameless0000000000005"]);
    let port = select(vec![8080u16, 8080, 3000, 50_051, 9501]);
    let host = prop_oneof![
        8 => (port, sandbox).prop_map(|(port, sandbox)| format!("{port}-{sandbox}.{DOMAIN}")),
        1 => Just(DOMAIN.to_owned()),
        1 => Just(format!("my-env.{DOMAIN}")),
        1 => "[0-9a-zA-Z.:-]{0,30}",
    ];
    let method = select(vec!["GET", "GET", "POST", "OPTIONS", "HEAD", "CONNECT"]);
    let credential = prop_oneof![
        3 => Just(None),
        4 => Just(Some(("authorization", format!("Bearer {KEY}")))),
        1 => Just(Some(("authorization", format!("Bearer {PAT}")))),
        1 => Just(Some(("cookie", format!("tl.session_token={SESSION}")))),
    ];
    (host, method, credential, fields(&REQUEST_NAMES, 10)).prop_map(
        |(host, method, credential, fields)| {
            let head = Headers::request(method, &host, "/");
            let head = match credential {
                Some((name, value)) => head.with(name, value),
                None => head,
            };
            add(head, fields)
        },
    )
}

fn response() -> impl Strategy<Value = Headers> {
    let status = prop_oneof![
        6 => select(vec!["200", "204", "101", "302", "304", "404", "500", "503", "100", "407", "x", ""])
            .prop_map(str::to_owned),
        1 => (0..1000u32).prop_map(|status| status.to_string()),
    ];
    (status, fields(&RESPONSE_NAMES, 8))
        .prop_map(|(status, fields)| add(Headers::new().with(":status", status), fields))
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let client = proptest::option::of(select(vec![
        "192.0.2.1:4000",
        "192.0.2.2:4000",
        "[2001:db8::1]:4000",
        "not an address",
    ]));
    let protocol = proptest::option::of(select(vec!["HTTP/1.1", "HTTP/2", "HTTP/1.0", ""]));
    (client, protocol).prop_map(|(client, protocol)| {
        let attribute = |(name, value): (&str, Option<&str>)| {
            value.map(|value| (name.to_owned(), value.as_bytes().to_vec()))
        };
        let all = [("source.address", client), ("request.protocol", protocol)];
        all.into_iter().filter_map(attribute).collect()
    })
}

/// How a stream goes on after it was forwarded.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    pub(super) request_trailers: Option<Headers>,
    pub(super) response: Headers,
    pub(super) details: Option<&'static str>,
    pub(super) response_trailers: Option<Headers>,
    /// The stream stays open.
    pub(super) stays: bool,
}

fn rest() -> impl Strategy<Value = Rest> {
    let trailers = |names| {
        let fields = fields(names, 4);
        proptest::option::of(fields.prop_map(|fields| add(Headers::new(), fields)))
    };
    let details = proptest::option::of(select(vec![
        "via_upstream",
        "upstream_reset_before_response_started{connection_failure}",
        "route_not_found",
        "",
    ]));
    let trailers = (trailers(&REQUEST_NAMES[5..]), trailers(&RESPONSE_NAMES[1..]));
    (trailers, response(), details, any::<bool>()).prop_map(
        |((request_trailers, response_trailers), response, details, stays)| Rest {
            request_trailers,
            response,
            details,
            response_trailers,
            stays,
        },
    )
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Request(Headers, Attributes, Rest),
    Expose(&'static str, Vec<u16>),
    Publish(bool),
    Move,
    Revoke,
    Wait(u64),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let ports = proptest::collection::vec(select(vec![8080u16, 3000]), 0..3);
    prop_oneof![
        30 => (request(), attributes(), rest()).prop_map(|(it, of, rest)| Step::Request(it, of, rest)),
        1 => (select(vec![MY_ENV, SHOP]), ports).prop_map(|(id, ports)| Step::Expose(id, ports)),
        1 => any::<bool>().prop_map(Step::Publish),
        1 => Just(Step::Move),
        1 => Just(Step::Revoke),
        3 => (1..4_000u64).prop_map(Step::Wait),
    ]
}
