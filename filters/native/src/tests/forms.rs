//! The native module and the wasm form treat every request alike: the same decision, the same reply, and the same headers for
//! the sandbox and for the client.
//!
//! Both hosts have the same clock and equal fleets behind them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;

use super::envoy::{Attributes, Headers, Outcome, Stream};
use super::suite::support::fleet::Fleet;
use super::suite::support::{
    DOMAIN, Gateway, KEY, MY_ENV, PAT, PLAIN_KEY, SESSION, SHOP, cases, configuration,
};

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
struct Rest {
    request_trailers: Option<Headers>,
    response: Headers,
    details: Option<&'static str>,
    response_trailers: Option<Headers>,
    /// The stream stays open.
    stays: bool,
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
enum Step {
    Request(Headers, Attributes, Rest),
    Expose(&'static str, Vec<u16>),
    Publish(bool),
    Move,
    Revoke,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
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

/// Both forms, with equal fleets.
struct Both {
    native: Gateway,
    wasm: sandgate_wasm_host::Host,
    fleet: Rc<RefCell<Fleet>>,
    open: Vec<(Stream, sandgate_wasm_host::Stream)>,
}

impl Both {
    fn new() -> Self {
        let wasm = sandgate_wasm_host::Host::load("sandgate_ingress");
        wasm.clusters(&["sandgate_control_plane"]);
        let fleet = Rc::new(RefCell::new(Fleet::new()));
        let behind = Rc::clone(&fleet);
        wasm.control_plane(move |call| behind.borrow_mut().answer(call));
        wasm.configure(&configuration().to_string()).expect("a valid configuration");
        Self { native: Gateway::new(), wasm, fleet, open: Vec::new() }
    }

    fn change(&self, change: impl Fn(&mut Fleet)) {
        change(&mut self.native.fleet());
        change(&mut self.fleet.borrow_mut());
    }

    fn advance(&self, ms: u64) {
        self.native.advance_ms(ms);
        self.wasm.advance(Duration::from_millis(ms));
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Request(headers, attributes, rest) => self.request(headers, attributes, rest)?,
            Step::Expose(id, ports) => self.change(|fleet| {
                fleet.change(id, |sandbox| sandbox.exposed_ports.clone_from(&ports));
            }),
            Step::Publish(public) => self.change(|fleet| {
                fleet.change(SHOP, |sandbox| sandbox.allow_unauthenticated_access = public);
            }),
            Step::Move => self.change(|fleet| {
                fleet.change(MY_ENV, |sandbox| {
                    sandbox.generation += 1;
                    sandbox.address = "127.64.0.78".parse().ok();
                });
            }),
            Step::Revoke => self.change(|fleet| {
                if fleet.knows(PLAIN_KEY) {
                    fleet.revoke(PLAIN_KEY);
                }
            }),
            Step::Wait(ms) => self.advance(ms),
        }
        self.native.host.run();
        self.wasm.run();
        Ok(())
    }

    fn request(
        &mut self,
        headers: Headers,
        attributes: Attributes,
        rest: Rest,
    ) -> Result<(), TestCaseError> {
        let native = self.native.host.request_of("", 0, headers.clone(), attributes.clone());
        let wasm = self.wasm.request_of("", 0, headers, attributes);
        self.native.host.run();
        self.wasm.run();
        if native.outcome() == Outcome::Pending {
            prop_assert_eq!(wasm.outcome(), Outcome::Pending);
            self.advance(3_000);
        }
        prop_assert_eq!(comparable(native.outcome()), comparable(wasm.outcome()));
        if let Some(trailers) = rest.request_trailers {
            prop_assert_eq!(native.send_trailers(trailers.clone()), wasm.send_trailers(trailers));
        }
        if let Some(details) = rest.details {
            native.set_attribute("response.code_details", details);
            wasm.set_attribute("response.code_details", details);
        }
        if matches!(native.outcome(), Outcome::Forwarded(_)) {
            let response = rest.response;
            prop_assert_eq!(native.respond(response.clone()), wasm.respond(response));
            if let Some(trailers) = rest.response_trailers {
                let native = native.respond_with_trailers(trailers.clone());
                prop_assert_eq!(native, wasm.respond_with_trailers(trailers));
            }
        }
        if rest.stays {
            self.open.push((native, wasm));
            return Ok(());
        }
        native.complete();
        wasm.complete();
        self.compare_ended(&native, &wasm)
    }

    fn compare_ended(
        &self,
        native: &Stream,
        wasm: &sandgate_wasm_host::Stream,
    ) -> Result<(), TestCaseError> {
        prop_assert_eq!(comparable(native.outcome()), comparable(wasm.outcome()));
        for name in ["sandgate_decision", "sandgate_principal", "sandgate_generation"] {
            prop_assert_eq!(native.property(name), wasm.property(name), "{}", name);
        }
        Ok(())
    }

    /// Lets all changes take effect, and compares what is left.
    fn compare(&self) -> Result<(), TestCaseError> {
        self.advance(5_000);
        for (native, wasm) in &self.open {
            prop_assert_eq!(native.is_open(), wasm.is_open());
            native.complete();
            wasm.complete();
            self.compare_ended(native, wasm)?;
        }
        // The first lookups may come before or after the first response of the change feed, so their number differs.
        let is_compared =
            |name: &String| !name.contains("_lookups_total") && !name.contains("_rechecks_");
        for name in self.native.host.metric_names().into_iter().filter(is_compared) {
            let count = self.native.host.metric(&name);
            prop_assert_eq!(count, self.wasm.metric(&name), "{}", name);
        }
        prop_assert_eq!(self.native.host.metric(super::faults::HOST_ERRORS), 0);
        Ok(())
    }
}

/// The outcome without the order of a reply's fields: one form adds the gRPC status itself.
fn comparable(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Replied(mut reply) => {
            let mut fields: Vec<_> =
                reply.headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
            fields.sort();
            reply.headers = fields.into_iter().collect();
            Outcome::Replied(reply)
        }
        other => other,
    }
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn random_requests_and_responses_are_treated_alike_by_both_forms(
        steps in proptest::collection::vec(step(), 1..80)
    ) {
        let mut both = Both::new();
        for step in steps {
            both.take(step)?;
        }
        both.compare()?;
    }
}
