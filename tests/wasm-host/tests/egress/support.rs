//! Shared by all tests of the egress filter: a configured host, connections and requests of the
//! sandbox, and their outcomes.

use sandgate_wasm_host::{
    Attributes, Connected, Connection, Headers, Host, Outcome, Stream, Upstream,
};
use serde_json::{Value, json};

pub(crate) const TCP: &str = "sandgate_egress_tcp";
pub(crate) const HTTP: &str = "sandgate_egress_http";

/// The virtual addresses of `ok.test`, and the one that all wildcards share.
pub(crate) const OK: &str = "198.18.0.10";
pub(crate) const OK_V6: &str = "fd53:6700::10";
pub(crate) const WILDCARD: &str = "198.18.0.2";

/// A host with the egress filter.
pub(crate) struct Egress {
    pub(crate) host: Host,
}

/// Internet access off; `ok.test`, all names below it, and some addresses are allowed.
pub(crate) fn allow_list() -> Value {
    json!({
        "allow_internet_access": false,
        "allow_out": ["ok.test", "*.ok.test", "10.0.0.0/8", "2001:db8::/32"],
    })
}

/// Internet access on; a name, the names below it, and a range are denied.
pub(crate) fn deny_list() -> Value {
    json!({ "deny_out": ["bad.test", "*.bad.test", "8.8.4.0/24"] })
}

/// A configuration with these policies.
pub(crate) fn configuration(generation: u64, policies: &[Value]) -> Value {
    json!({
        "version": 1,
        "generation": generation,
        "policies": policies,
        "operator": { "protected": ["10.9.0.0/16"] },
        "virtual_addresses": { OK: "ok.test", OK_V6: "ok.test", WILDCARD: "*" },
    })
}

impl Egress {
    pub(crate) fn with(policy: Value) -> Self {
        let egress = Self::unconfigured();
        egress.configure(&configuration(1, &[policy]));
        egress
    }

    pub(crate) fn unconfigured() -> Self {
        Self { host: Host::load("sandgate_egress") }
    }

    /// Configures both filters, one after the other, as the two files do.
    pub(crate) fn configure(&self, configuration: &Value) {
        for root_id in [TCP, HTTP] {
            self.host
                .configure_root(root_id, &configuration.to_string())
                .expect("a valid configuration");
        }
    }

    /// A connection to `address:port`, with the server name that Envoy's listener filters saw.
    pub(crate) fn connect(&self, destination: &str, sni: &str) -> Connection {
        let mut attributes = destination_of(destination);
        if !sni.is_empty() {
            attributes.insert("connection.requested_server_name".into(), sni.into());
        }
        self.host.connect(TCP, attributes)
    }

    /// A request on a connection to `address:port`.
    pub(crate) fn request(&self, destination: &str, headers: Headers) -> Stream {
        self.host.request_of(HTTP, 0, headers, destination_of(destination))
    }

    /// A GET request for a host.
    pub(crate) fn get(&self, destination: &str, host: &str) -> Stream {
        self.request(destination, Headers::get(host, "/"))
    }

    pub(crate) fn probe(&self) -> Value {
        let mut attributes = destination_of("127.0.0.1:15003");
        attributes.insert("xds.route_name".into(), "sandgate_probe".into());
        let request =
            self.host.request_of(HTTP, 0, Headers::get("probe", "/generation"), attributes);
        let Outcome::Replied(reply) = request.outcome() else { panic!("no reply to the probe") };
        let mut body: Value = serde_json::from_str(&reply.body).expect("JSON");
        body["status"] = reply.status.into();
        body
    }

    pub(crate) fn decisions(&self, what: &str) -> u64 {
        self.host.metric(&format!("sandgate_egress_decisions_total.{what}"))
    }
}

pub(crate) fn destination_of(destination: &str) -> Attributes {
    Attributes::from([("destination.address".into(), destination.into())])
}

/// The outcome of a connection that goes to an address.
pub(crate) fn to_address(address: &str) -> Connected {
    Connected::To(Upstream {
        cluster: Some("original_destination".into()),
        address: Some(address.into()),
        resolved: String::new(),
    })
}

/// The outcome of a connection that goes to a name, which Envoy resolves.
pub(crate) fn to_name(resolved: &str) -> Connected {
    Connected::To(Upstream {
        cluster: Some("by_name".into()),
        address: None,
        resolved: resolved.into(),
    })
}

/// The outcome of a connection without a permit: Envoy's default cluster, which resets it, and no
/// lookup of a name.
pub(crate) fn to_nowhere() -> Connected {
    Connected::To(Upstream { cluster: None, address: None, resolved: String::new() })
}

/// The rule that access logs show for a denied connection.
#[track_caller]
pub(crate) fn denied(connection: &Connection) -> String {
    assert_eq!(connection.outcome(), to_nowhere());
    assert_eq!(connection.property("sandgate_decision").as_deref(), Some("deny"));
    connection.property("sandgate_rule").expect("a rule for access logs")
}

/// The upstream of a forwarded request.
#[track_caller]
pub(crate) fn forwarded(request: &Stream) -> String {
    match request.outcome() {
        Outcome::Forwarded(forwarded) => forwarded.upstream.expect("not into the black hole"),
        other => panic!("not forwarded but {other:?}"),
    }
}

/// The rule of a denied request, from the reply.
#[track_caller]
pub(crate) fn refused(request: &Stream) -> String {
    let Outcome::Replied(reply) = request.outcome() else {
        panic!("not replied to but {:?}", request.outcome())
    };
    assert_eq!(reply.status, 403);
    assert_eq!(reply.headers.values("content-type"), ["application/json"]);
    let body: Value = serde_json::from_str(&reply.body).expect("JSON");
    assert_eq!(body["code"], "EGRESS_DENIED");
    assert!(body["error"].as_str().is_some_and(|error| error.len() > 10), "{body}");
    let rule = body["rule"].as_str().expect("a rule").to_owned();
    assert_eq!(request.property("sandgate_rule").as_ref(), Some(&rule), "for access logs");
    rule
}
