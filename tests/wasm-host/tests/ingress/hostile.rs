//! No input of a client traps the filter, and no request is forwarded without a permit.

use super::host::{Headers, Outcome};
use proptest::prelude::*;

use super::support::{
    DOMAIN, Gateway, KEY, PAT, SESSION, bearer, cases, denial, denied, forwarded, to, with_key,
    with_session,
};

const JUNK: [&[u8]; 9] = [
    b"\xff\xfe",
    b"",
    b" ",
    b"\x00",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"Bearer \xff",
    b"a=\xff; tl.session_token=\xfe",
    b"%ff%00%",
];

/// All headers that the filter reads.
const NAMES: [&str; 22] = [
    ":authority",
    ":path",
    ":method",
    "authorization",
    "cookie",
    "x-sandgate-authorization",
    "x-forwarded-organization-id",
    "x-forwarded-project-id",
    "x-tensorlake-sandbox-id",
    "x-tensorlake-request-timeout-ms",
    "origin",
    "accept",
    "content-type",
    "upgrade",
    "connection",
    "sec-fetch-mode",
    "sec-fetch-site",
    "access-control-request-method",
    "access-control-request-headers",
    ":protocol",
    "x-anything",
    "proxy-authorization",
];

#[test]
fn bytes_that_are_not_utf_8_in_any_header_do_not_trap() {
    let gateway = Gateway::new();
    for name in NAMES {
        for junk in JUNK {
            for base in
                [with_key(8080, "my-env"), to(8080, "shop"), with_session(to(8080, "my-env"))]
            {
                let added = gateway.send(base.clone().with(name, junk));
                added.abort();
                let replaced = gateway.send(base.without(name).with(name, junk));
                replaced.abort();
            }
        }
    }
    gateway.passes(with_key(8080, "my-env"));
}

#[test]
fn bytes_that_are_not_utf_8_in_the_apps_own_headers_reach_the_app() {
    let forwarded = Gateway::new().passes(
        with_key(8080, "my-env").with("x-raw", [0xff, 0xfe, 0x80]).with("x-raw", [0xc3, 0x28]),
    );
    let raw: Vec<&[u8]> =
        forwarded.headers.iter().filter(|(name, _)| *name == b"x-raw").map(|(_, v)| v).collect();
    assert_eq!(raw, [&[0xff, 0xfe, 0x80][..], &[0xc3, 0x28]]);
}

#[test]
fn as_many_headers_as_pass_are_forwarded_in_order() {
    let gateway = Gateway::new();
    let mut headers = with_key(8080, "my-env");
    for number in 0..200 {
        headers = headers.with(format!("x-{}", number % 80), number.to_string());
    }
    let forwarded = gateway.passes(headers);
    let values: Vec<String> = forwarded
        .headers
        .iter()
        .filter(|(name, _)| name.starts_with(b"x-") && name.get(2).is_some_and(u8::is_ascii_digit))
        .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        .collect();
    assert_eq!(values, (0..200).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn two_hundred_internal_headers_and_a_thousand_cookies_are_removed() {
    let mut headers = with_key(8080, "my-env");
    let mut cookie = "a=1".to_owned();
    for number in 0..200 {
        headers = headers.with(format!("x-sandgate-{number}"), "1");
    }
    for number in 0..1_000 {
        cookie.push_str(&format!("; c{number}=x"));
    }
    let forwarded =
        Gateway::new().passes(headers.with("cookie", format!("{cookie}; tl-session=S")));
    assert!(!forwarded.headers.mention("x-sandgate-"));
    assert_eq!(forwarded.headers.values("cookie"), [cookie]);
}

#[test]
fn long_headers_do_not_trap() {
    let gateway = Gateway::new();
    // The first is longer than what is forwarded.
    for length in [1 << 20, 90_000] {
        let long = "a".repeat(length);
        for name in NAMES {
            let stream = gateway.send(with_key(8080, "my-env").without(name).with(name, &long));
            stream.abort();
        }
    }
    let token = gateway.send(bearer(to(8080, "my-env"), &format!("tl_{}", "a".repeat(90_000))));
    assert!(matches!(token.outcome(), Outcome::Replied(reply) if reply.status == 401));
    gateway.passes(with_key(8080, "my-env"));
}

#[test]
fn more_or_larger_headers_than_pass_are_denied_whatever_the_host() {
    let gateway = Gateway::new();
    for host in ["8080-my-env.sandbox.localhost", "sandbox.localhost", "elsewhere.test"] {
        let mut many = Headers::get(host, "/");
        for number in 0..209 {
            many = many.with(format!("x-{number}"), "1");
        }
        let large = Headers::get(host, "/").with("x-large", "a".repeat(98_304));
        for headers in [many, large] {
            assert_eq!(gateway.denies(headers), denial(431, "HEADERS_TOO_LARGE"), "{host}");
        }
    }
    assert_eq!(gateway.calls("GET /gateway/v1/sandboxes"), 0);
}

#[test]
fn a_transfer_coding_in_http_1_0_is_denied_and_reading_the_protocol_may_fail() {
    let gateway = Gateway::new();
    let send = |protocol: Option<&str>| {
        let attributes =
            protocol.map(|protocol| ("request.protocol".to_owned(), protocol.as_bytes().to_vec()));
        let headers = with_key(8080, "my-env").with("x-sandgate-transfer-encoding", "chunked");
        let attributes = attributes.into_iter().collect();
        let stream = gateway.host.request_of("", 0, headers, attributes);
        gateway.host.run();
        stream
    };
    for protocol in [Some("HTTP/1.0"), None] {
        assert_eq!(denied(&send(protocol)), denial(400, "INVALID_REQUEST"), "{protocol:?}");
    }
    for protocol in ["HTTP/1.1", "HTTP/2"] {
        let received = forwarded(&send(Some(protocol))).headers;
        assert!(!received.mention("x-sandgate-transfer-encoding"));
    }
}

#[test]
fn a_request_without_its_pseudo_headers_is_denied() {
    let gateway = Gateway::new();
    assert_eq!(gateway.denies(Headers::new()), denial(400, "INVALID_HOST"));
    let no_host = with_key(8080, "my-env").without(":authority");
    assert_eq!(gateway.denies(no_host), denial(400, "INVALID_HOST"));
    let stream = gateway.send(with_key(8080, "my-env").without(":path").without(":method"));
    forwarded(&stream);
}

#[test]
fn a_host_header_beside_the_authority_grants_no_access() {
    let gateway = Gateway::new();
    let headers = to(8080, "my-env").with("host", format!("8080-shop.{DOMAIN}"));
    assert_eq!(gateway.denies(headers).0, 401);
}

/// Values that have a meaning to the filter, and other values.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<Vec<u8>> = [
        "GET",
        "POST",
        "OPTIONS",
        "CONNECT",
        "websocket",
        "upgrade",
        "application/grpc",
        "text/html",
        "navigate",
        "cross-site",
        "null",
        "https://app.example.com",
        "my-env",
        "shop",
        "proj_1",
        "org_1",
        "5000",
        "0",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([
        format!("Bearer {KEY}").into_bytes(),
        format!("Bearer {PAT}").into_bytes(),
        format!("tl.session_token={SESSION}").into_bytes(),
        format!("8080-my-env.{DOMAIN}").into_bytes(),
        format!("8080-shop.{DOMAIN}").into_bytes(),
        format!("asleep.{DOMAIN}").into_bytes(),
        DOMAIN.as_bytes().to_vec(),
        b"/?organizationId=org_1&projectId=proj_1".to_vec(),
    ])
    .collect();
    prop_oneof![
        4 => proptest::sample::select(known),
        1 => proptest::collection::vec(any::<u8>(), 0..24),
    ]
}

fn headers() -> impl Strategy<Value = Headers> {
    let host = prop_oneof![
        Just(format!("8080-my-env.{DOMAIN}")),
        Just(format!("9501-shop.{DOMAIN}")),
        Just(format!("8080-shop.{DOMAIN}")),
        Just(format!("8080-asleep.{DOMAIN}")),
        Just(format!("8080-theirs.{DOMAIN}")),
        Just(DOMAIN.to_owned()),
        "[0-9a-z.-]{0,30}",
    ];
    let more = proptest::collection::vec((proptest::sample::select(NAMES.to_vec()), value()), 0..8);
    (host, more).prop_map(|(host, more)| {
        more.into_iter().fold(Headers::get(&host, "/"), |all, (name, value)| all.with(name, value))
    })
}

/// Whether a request may have this upstream: never the sandbox of the other organization, and never port
/// 9501 or a private port without a valid credential.
fn is_sound(request: &Headers, upstream: &str) -> bool {
    let valid = request.mention(KEY)
        || (request.mention("proj_1")
            && request.mention("org_1")
            && (request.mention(PAT) || request.mention(SESSION)));
    match upstream {
        "127.64.0.3:8080" => true,
        "127.64.0.2:8080" | "127.64.0.2:9501" | "127.64.0.3:9501" | "127.64.0.5:8080"
        | "127.64.0.5:9501" => valid,
        _ => false,
    }
}

/// Whether a header contains a recognizable platform secret, or a cookie a session. The filter never
/// changes a path.
fn shows_a_secret(headers: &Headers) -> bool {
    headers.iter().filter(|(name, _)| !name.starts_with(b":")).any(|(name, value)| {
        let value = String::from_utf8_lossy(value);
        [KEY, PAT].iter().any(|secret| value.contains(secret))
            || (name == b"cookie" && value.contains("tl.session_token="))
    })
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn random_requests_never_trap_and_are_never_forwarded_without_a_permit(
        requests in proptest::collection::vec((headers(), 0u64..400, any::<bool>()), 1..40)
    ) {
        let gateway = Gateway::new();
        let mut streams = Vec::new();
        for (headers, pause, leaves) in requests {
            let stream = gateway.host.request(headers.clone());
            if leaves {
                stream.abort();
            }
            streams.push((headers, stream));
            gateway.advance_ms(pause);
        }
        gateway.advance_ms(40_000);
        for (headers, stream) in &streams {
            match stream.outcome() {
                Outcome::Pending => prop_assert!(false, "left hanging: {headers:?}"),
                Outcome::Forwarded(forwarded) => {
                    if let Some(upstream) = &forwarded.upstream {
                        prop_assert!(is_sound(headers, upstream), "{upstream}: {headers:?}");
                        prop_assert!(!shows_a_secret(&forwarded.headers), "{forwarded:?}");
                    }
                }
                Outcome::Replied(_) | Outcome::Reset | Outcome::Aborted => {}
            }
        }
    }
}
