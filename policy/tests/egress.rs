//! Egress tests: tables for each module, and properties against a reference implementation of the
//! rules.

mod address_rules;
mod config;
mod decisions;
mod denied_addresses;
mod entries;
mod facts;
mod first_bytes;
mod global;
mod ports;
mod properties;
mod queries;
mod reference;

use std::net::IpAddr;

use sandgate_policy::egress::{
    ConnectionFacts, Destination, NetworkPolicy, OperatorSettings, Policy, ShownName,
};
use sandgate_policy::egress::{Route, Verdict, VirtualMeaning};

/// A policy as an owner writes it.
#[track_caller]
fn network(json: &str) -> NetworkPolicy {
    serde_json::from_str(json).expect("the table's policy is valid")
}

/// Settings as an operator writes them.
#[track_caller]
fn operator(json: &str) -> OperatorSettings {
    serde_json::from_str(json).expect("the table's settings are valid")
}

/// A policy under the tables' operator settings: one protected range, and one range that counts as
/// globally routable.
#[track_caller]
fn policy(json: &str) -> Policy {
    let operator = operator(r#"{"protected": ["10.9.0.0/16"], "also_global": ["203.0.113.0/24"]}"#);
    Policy::new(&network(json), &operator)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("the table's address is valid")
}

/// The verdict as text: `allow`, the route and the rule; or `deny` and the rule.
fn text(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allow(permit) => match permit.route() {
            Route::ByName(name) => format!("allow by name {name}: {}", permit.rule()),
            Route::Original(address) => format!("allow {address}: {}", permit.rule()),
        },
        Verdict::Deny(denial) => format!("deny: {}", denial.rule()),
    }
}

/// Decides about `destination`: an address, or `virtual` followed by a name or `*`. The port is 443.
#[track_caller]
fn decide(policy: &Policy, destination: &str, sni: &str, host: &str) -> String {
    decide_at(policy, destination, Some(443), sni, host)
}

/// Like [`decide`], with a port, or without one for traffic without ports.
#[track_caller]
fn decide_at(
    policy: &Policy,
    destination: &str,
    port: Option<u16>,
    sni: &str,
    host: &str,
) -> String {
    let destination = match destination.strip_prefix("virtual ") {
        Some(means) => {
            Destination::Virtual(VirtualMeaning::try_from(means.to_owned()).expect("it is a name"))
        }
        None => Destination::Address(ip(destination)),
    };
    let host = match host {
        "" => ShownName::Absent,
        host => ShownName::from_authority(host.as_bytes()),
    };
    let facts = ConnectionFacts {
        destination: &destination,
        port,
        sni: ShownName::from_sni(sni.as_bytes()),
        host,
    };
    text(&policy.decide(&facts))
}
