//! The settings of `upstream`: the address that Envoy gets, and the warning about too many addresses.

use super::host::LogLevel;
use serde_json::json;

use super::support::fleet::sandbox;
use super::support::{Gateway, configuration, with_key};

fn with_upstream(upstream: &str) -> Gateway {
    let mut configuration = configuration();
    configuration["upstream"] = json!(upstream);
    Gateway::configured(&configuration, 1)
}

/// Sends a request to each of `number` sandboxes; returns the warnings.
fn warnings_after(gateway: &Gateway, number: usize) -> Vec<String> {
    for i in 0..number {
        let address = format!("127.64.{}.{}", 10 + i / 250, i % 250 + 1);
        let sandbox = sandbox(&format!("{i:021}"), Some(&format!("s{i}")), &address, &[8080]);
        gateway.fleet().put(sandbox);
    }
    gateway.advance_ms(200);
    for i in 0..number {
        gateway.send(with_key(8080, &format!("s{i}")));
    }
    gateway.advance_ms(1_000);
    let logs = gateway.host.logs().into_iter();
    logs.filter(|log| log.level == LogLevel::Warn).map(|log| log.message).collect()
}

#[test]
fn the_address_of_a_permit_is_the_upstream_with_either_setting() {
    for upstream in ["dynamic_forward_proxy", "original_dst"] {
        let forwarded = with_upstream(upstream).passes(with_key(8080, "my-env"));
        assert_eq!(forwarded.upstream.as_deref(), Some("127.64.0.2:8080"), "{upstream}");
    }
}

#[test]
fn more_than_2000_sandboxes_with_the_dynamic_forward_proxy_cause_one_warning() {
    let warnings = warnings_after(&with_upstream("dynamic_forward_proxy"), 2_001);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("SANDGATE_UPSTREAM=original_dst"), "{warnings:?}");
}

#[test]
fn fewer_sandboxes_or_the_other_setting_cause_no_warning() {
    for (upstream, number) in [("dynamic_forward_proxy", 500), ("original_dst", 2_001)] {
        assert!(warnings_after(&with_upstream(upstream), number).is_empty(), "{upstream}");
    }
}
