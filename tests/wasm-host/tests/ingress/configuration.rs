//! Invalid configurations, and updates of the configuration.

use serde_json::{Value, json};

use super::support::{
    Gateway, MY_ENV, bearer, configuration, denial, denied, forwarded, is_pending, to, with_key,
};

/// The valid configuration with one change.
fn changed(change: impl FnOnce(&mut Value)) -> String {
    let mut configuration = configuration();
    change(&mut configuration);
    configuration.to_string()
}

#[test]
fn an_invalid_configuration_is_refused_with_the_name_of_the_field_and_the_previous_one_stays_active()
 {
    let gateway = Gateway::new();
    gateway.passes(with_key(8080, "my-env"));
    for (bad, names) in [
        (String::new(), ""),
        ("not json".into(), ""),
        ("[]".into(), ""),
        (changed(|c| c["version"] = json!(2)), "version"),
        (changed(|c| c["domain"] = json!("typo")), "domain"),
        (changed(|c| c["limits"] = json!({"waiter": 1})), "waiter"),
        (changed(|c| c["limits"] = json!({"waiters": 0})), "waiters"),
        (changed(|c| c["limits"] = json!({"waiters": -1})), "-1"),
        (changed(|c| c["domains"] = json!([])), "domains"),
        (changed(|c| c["domains"] = json!(["Upper.Case"])), "domains"),
        (changed(|c| c["domains"] = json!(["a.test", "b.a.test"])), "domains"),
        (changed(|c| c["sandbox_cidrs"] = json!([])), "sandbox_cidrs"),
        (changed(|c| c["sandbox_cidrs"] = json!(["10.0.0.0/33"])), ""),
        (changed(|c| c["control_plane"]["cluster"] = json!("")), "cluster"),
        (changed(|c| c["control_plane"]["timeout_ms"] = json!(0)), "timeout_ms"),
        (changed(|c| c["control_plane"]["token"] = json!("x")), "token"),
        (changed(|c| c["platform_prefixes"] = json!([""])), "platform_prefixes"),
        (changed(|c| c["trusted_origins"] = json!(["*"])), "trusted_origins"),
    ] {
        let refused = gateway.host.configure(&bad).expect_err(&bad);
        let said = refused.to_string();
        assert!(said.contains("configuration") && said.contains(names), "{bad}: {said}");
        gateway.passes(with_key(8080, "my-env"));
    }
}

#[test]
fn a_new_configuration_applies_to_new_requests_immediately() {
    let gateway = Gateway::new();
    gateway.passes(with_key(8080, "my-env"));
    let update = changed(|c| c["domains"] = json!(["new.test"]));
    gateway.host.configure(&update).unwrap();
    assert_eq!(gateway.denies(with_key(8080, "my-env")), denial(400, "INVALID_HOST"));
    let new = super::host::Headers::get("8080-my-env.new.test", "/");
    gateway.passes(bearer(new, super::support::KEY));
}

#[test]
fn a_waiting_request_is_decided_although_the_configuration_changes() {
    let gateway = Gateway::new();
    gateway.passes(to(8080, "shop"));
    gateway.fleet().delay = std::time::Duration::from_millis(50);
    let waiting = gateway.send(with_key(8080, "my-env"));
    assert!(is_pending(&waiting));
    gateway.host.configure(&changed(|c| c["limits"] = json!({"waiters": 7}))).unwrap();
    let new = gateway.send(with_key(8080, "my-env"));
    gateway.advance_ms(200);
    forwarded(&waiting);
    forwarded(&new);
    waiting.complete();
    new.complete();
    gateway.fleet().delay = std::time::Duration::ZERO;
    gateway.advance_ms(60_000);
    gateway.passes(with_key(8080, "my-env"));
}

#[test]
fn live_streams_of_the_old_configuration_continue_and_are_closed_when_no_longer_permitted() {
    let gateway = Gateway::new();
    let old = gateway.send(with_key(8080, "my-env"));
    forwarded(&old);
    gateway.host.configure(&changed(|c| c["limits"] = json!({"waiters": 7}))).unwrap();
    let new = gateway.send(with_key(8080, "my-env"));
    gateway.advance_ms(5_000);
    assert!(old.is_open() && new.is_open());
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.exposed_ports.clear());
    gateway.advance_ms(2_000);
    assert!(!old.is_open(), "the stream of the old configuration");
    assert!(!new.is_open(), "the stream of the new configuration");
    let after = gateway.send(with_key(8080, "my-env"));
    assert_eq!(denied(&after), denial(403, "PORT_NOT_EXPOSED"));
}

#[test]
fn many_updates_leave_one_change_feed_and_do_not_increase_memory() {
    let gateway = Gateway::new();
    let update = |rounds: u32| {
        for round in 0..rounds {
            let next = changed(|c| c["limits"] = json!({"waiters": 100 + round}));
            gateway.host.configure(&next).unwrap();
            gateway.passes(with_key(8080, "my-env"));
            gateway.advance_ms(1_000);
        }
    };
    update(10);
    let memory = gateway.host.memory_bytes();
    update(100);
    // The calls of replaced configurations have ended.
    gateway.advance_ms(60_000);
    assert_eq!(gateway.host.calls_in_flight(), 1);
    assert!(gateway.host.memory_bytes() <= memory + (64 << 10), "{memory} grew");
}

#[test]
fn a_configuration_alone_makes_no_call() {
    let gateway = Gateway::configured(&configuration(), 2);
    gateway.advance_ms(60_000);
    assert!(gateway.host.calls().is_empty(), "a VM without requests makes no calls");
}
