//! The filter looks for the guards that Envoy's configuration must have around it.

use super::host::{Attributes, LogLevel};

use super::support::{Gateway, forwarded, with_key};

const BLACK_HOLE: &str = "filter_state.envoy.upstream.dynamic_host";
const ADDRESS_CHECK: &str = "xds.cluster_metadata.filter_metadata.sandgate.address_check";

/// Sends a request in a configuration that has these values in the places of the guards.
fn send(gateway: &Gateway, values: &[(&str, &str)]) {
    let of = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
    let attributes: Attributes = values.iter().map(of).collect();
    let stream = gateway.host.request_of("", 0, with_key(8080, "my-env"), attributes);
    gateway.host.run();
    forwarded(&stream);
}

fn critical(gateway: &Gateway) -> Vec<String> {
    let logs = gateway.host.logs().into_iter();
    logs.filter(|log| log.level == LogLevel::Critical).map(|log| log.message).collect()
}

#[test]
fn a_configuration_with_both_guards_causes_no_report() {
    let gateway = Gateway::new();
    send(&gateway, &[]);
    assert!(critical(&gateway).is_empty());
    assert_eq!(gateway.host.metric("sandgate_ingress_missing_black_holes_total"), 0);
}

#[test]
fn a_missing_guard_is_reported_and_the_request_still_forwarded() {
    let gateway = Gateway::new();
    send(&gateway, &[(BLACK_HOLE, ""), (ADDRESS_CHECK, "")]);
    let reports = critical(&gateway);
    assert_eq!(reports.len(), 2, "{reports:?}");
    assert!(reports[0].contains("black hole") && reports[1].contains("no address check"));
    assert_eq!(gateway.host.metric("sandgate_ingress_missing_black_holes_total"), 1);
    assert_eq!(gateway.host.metric("sandgate_ingress_missing_address_checks_total"), 1);
}

#[test]
fn an_address_check_for_another_network_is_reported() {
    let gateway = Gateway::new();
    send(&gateway, &[(ADDRESS_CHECK, "127.0.0.0/8")]);
    assert!(critical(&gateway)[0].contains("not for the networks of `sandbox_cidrs`"));
}

#[test]
fn the_report_is_repeated_after_a_while_and_not_for_each_request() {
    let gateway = Gateway::new();
    (0..20).for_each(|_| send(&gateway, &[(BLACK_HOLE, "")]));
    assert_eq!(critical(&gateway).len(), 1);
    gateway.advance_ms(10_000);
    send(&gateway, &[(BLACK_HOLE, "")]);
    assert_eq!(critical(&gateway).len(), 2);
}
