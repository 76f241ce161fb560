//! Shared by all tests of the ingress filter: a configured host, requests, and their outcomes.

// The path is written out for the native module's tests, which include this file.
#[path = "support/fleet.rs"]
pub(crate) mod fleet;

use std::cell::{Ref, RefCell, RefMut};
use std::rc::Rc;
use std::time::Duration;

use super::host::{Attributes, Forwarded, Headers, Host, Outcome, Reply, Stream};
use proptest::test_runner::Config as ProptestConfig;
use serde_json::{Value, json};

use fleet::Fleet;

/// The domain that requests go to.
pub(crate) const DOMAIN: &str = "sandbox.localhost";
/// The id of the sandbox `my-env`: running, private, ports 3000, 8080 and 50051.
pub(crate) const MY_ENV: &str = "myenv0000000000000001";
/// The id of the sandbox `shop`: running, public, port 8080.
pub(crate) const SHOP: &str = "shop00000000000000002";
/// The id of the sandbox `theirs`, of another organization.
pub(crate) const THEIRS: &str = "theirs000000000000003";
/// The id of the sandbox `asleep`: suspended, resumed on request, port 8080.
pub(crate) const ASLEEP: &str = "asleep000000000000004";
/// The id of a running sandbox without a name, port 8080.
pub(crate) const NAMELESS: &str = "nameless0000000000005";

/// An API key of the project that all but one of the sandboxes belong to.
pub(crate) const KEY: &str = "tl_apiKey_mine_0123456789";
/// An API key that does not look like one.
pub(crate) const PLAIN_KEY: &str = "an-older-key-without-prefix";
/// A personal access token.
pub(crate) const PAT: &str = "tl_pat_alice_0123456789";
/// A browser session.
pub(crate) const SESSION: &str = "session-of-alice";
/// The organization and project of these credentials.
pub(crate) const ORGANIZATION: &str = "org_1";
pub(crate) const PROJECT: &str = "proj_1";

/// The number of random cases of a property, unless `PROPTEST_CASES` sets another one.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        // The default has read it.
        Some(_) => config,
        None => ProptestConfig { cases, ..config },
    }
}

/// A host with the filter, its configuration, and the fleet behind its control plane.
pub(crate) struct Gateway {
    pub(crate) host: Host,
    fleet: Rc<RefCell<Fleet>>,
}

/// The configuration that most tests use.
pub(crate) fn configuration() -> Value {
    json!({
        "version": 1,
        "domains": [DOMAIN, "local"],
        "control_plane": {"cluster": "sandgate_control_plane"},
        "sandbox_cidrs": ["127.64.0.0/16"],
        "trusted_origins": ["https://app.example.com"],
    })
}

/// The configuration with other limits.
pub(crate) fn with_limits(limits: Value) -> Value {
    let mut configuration = configuration();
    configuration["limits"] = limits;
    configuration
}

impl Gateway {
    pub(crate) fn new() -> Self {
        Self::configured(&configuration(), 1)
    }

    pub(crate) fn with_limits(limits: Value) -> Self {
        Self::configured(&with_limits(limits), 1)
    }

    pub(crate) fn configured(configuration: &Value, workers: usize) -> Self {
        let host = Host::load_with_workers("sandgate_ingress", workers);
        host.clusters(&["sandgate_control_plane"]);
        let fleet = Rc::new(RefCell::new(Fleet::new()));
        let behind = Rc::clone(&fleet);
        host.control_plane(move |call| behind.borrow_mut().answer(call));
        host.configure(&configuration.to_string()).expect("a valid configuration");
        Self { host, fleet }
    }

    pub(crate) fn fleet(&self) -> RefMut<'_, Fleet> {
        self.fleet.borrow_mut()
    }

    pub(crate) fn look(&self) -> Ref<'_, Fleet> {
        self.fleet.borrow()
    }

    /// Sends a request, and processes all events that need no time.
    pub(crate) fn send(&self, headers: Headers) -> Stream {
        let stream = self.host.request(headers);
        self.host.run();
        stream
    }

    /// Sends a request, asserts that it is forwarded immediately, and ends it.
    pub(crate) fn passes(&self, headers: Headers) -> Forwarded {
        let stream = self.send(headers);
        let forwarded = forwarded(&stream);
        stream.complete();
        forwarded
    }

    /// Sends a request, asserts that it is denied immediately, and returns status and code.
    pub(crate) fn denies(&self, headers: Headers) -> (u16, String) {
        denied(&self.send(headers))
    }

    pub(crate) fn advance_ms(&self, ms: u64) {
        self.host.advance(Duration::from_millis(ms));
    }

    /// The bodies of the reports of denials.
    pub(crate) fn reports(&self) -> Vec<String> {
        let calls = self.host.calls();
        let reports = calls.iter().filter(|call| call.path() == "/gateway/v1/denials");
        reports.map(|call| String::from_utf8(call.body.clone()).expect("JSON")).collect()
    }

    /// The number of calls whose method and path start with `start`.
    pub(crate) fn calls(&self, start: &str) -> usize {
        let line = |call: &super::host::Call| format!("{} {}", call.method(), call.path());
        self.host.calls().iter().filter(|call| line(call).starts_with(start)).count()
    }
}

/// Sends a request of the client with this address, and processes all events that need no time.
pub(crate) fn from(gateway: &Gateway, client: &str, headers: Headers) -> Stream {
    let address = format!("{client}:4000");
    let attributes = Attributes::from([("source.address".to_owned(), address.into())]);
    let stream = gateway.host.request_of("", 0, headers, attributes);
    gateway.host.run();
    stream
}

/// A request to a port of a sandbox, without a credential.
pub(crate) fn to(port: u16, sandbox: &str) -> Headers {
    Headers::get(&format!("{port}-{sandbox}.{DOMAIN}"), "/health")
}

/// A request to a port of a sandbox, with the API key.
pub(crate) fn with_key(port: u16, sandbox: &str) -> Headers {
    bearer(to(port, sandbox), KEY)
}

pub(crate) fn bearer(headers: Headers, token: &str) -> Headers {
    headers.with("authorization", format!("Bearer {token}"))
}

/// Adds the organization and the project that a token or a session needs.
pub(crate) fn in_project(headers: Headers) -> Headers {
    headers
        .with("x-forwarded-organization-id", ORGANIZATION)
        .with("x-forwarded-project-id", PROJECT)
}

pub(crate) fn with_session(headers: Headers) -> Headers {
    in_project(headers).with("cookie", format!("tl.session_token={SESSION}"))
}

/// Makes a request a WebSocket upgrade.
pub(crate) fn websocket(headers: Headers) -> Headers {
    headers.with("connection", "upgrade").with("upgrade", "websocket")
}

/// The forwarded request. The test fails if the request was not forwarded.
pub(crate) fn forwarded(stream: &Stream) -> Forwarded {
    match stream.outcome() {
        Outcome::Forwarded(forwarded) => forwarded,
        other => panic!("not forwarded but {other:?}"),
    }
}

/// The filter's reply. The test fails if there is none.
pub(crate) fn replied(stream: &Stream) -> Reply {
    match stream.outcome() {
        Outcome::Replied(reply) => reply,
        other => panic!("not replied to but {other:?}"),
    }
}

/// Status and code of a denial in JSON. The test fails on anything else.
pub(crate) fn denied(stream: &Stream) -> (u16, String) {
    let reply = replied(stream);
    let body: Value = serde_json::from_str(&reply.body)
        .unwrap_or_else(|error| panic!("not JSON ({error}): {reply:?}"));
    assert_eq!(reply.headers.values("content-type"), ["application/json"]);
    assert!(body["error"].as_str().is_some_and(|error| error.len() > 10), "{body}");
    let code = body["code"].as_str().expect("a code").to_owned();
    assert_eq!(stream.property("sandgate_decision").as_ref(), Some(&code), "for access logs");
    (reply.status, code)
}

pub(crate) fn is_pending(stream: &Stream) -> bool {
    stream.outcome() == Outcome::Pending
}

/// The expected result of [`denied`].
pub(crate) fn denial(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}
