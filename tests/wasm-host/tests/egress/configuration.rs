//! Invalid configurations, and the order in which the two filters are configured.

use serde_json::{Value, json};

use crate::support::{
    Egress, HTTP, OK, TCP, allow_list, configuration, denied, deny_list, forwarded, to_address,
};

fn changed(change: impl FnOnce(&mut Value)) -> String {
    let mut configuration = configuration(2, &[deny_list()]);
    change(&mut configuration);
    configuration.to_string()
}

#[test]
fn an_invalid_configuration_is_refused_with_the_name_of_the_field_and_the_previous_one_stays_active()
 {
    let egress = Egress::with(allow_list());
    let live = egress.connect("10.1.2.3:22", "");
    for (bad, names) in [
        (String::new(), ""),
        ("not json".into(), ""),
        ("[]".into(), ""),
        (changed(|c| c["version"] = json!(2)), "version"),
        (changed(|c| c["polices"] = json!([])), "polices"),
        (changed(|c| c["policies"] = json!([])), "policies"),
        (changed(|c| c["policies"] = json!([{}, {}, {}])), "policies"),
        (changed(|c| c["policies"][0]["deny_out"] = json!(["bad..test"])), "bad..test"),
        (changed(|c| c["policies"][0]["deny_out"] = json!(["bad.test:080"])), "bad.test:080"),
        (changed(|c| c["policies"][0]["allow_internet_access"] = json!("no")), "no"),
        (changed(|c| c["operator"]["protected"] = json!(["10.0.0.0/33"])), "10.0.0.0/33"),
        (changed(|c| c["virtual_addresses"]["8.8.8.8"] = json!("ok.test")), "8.8.8.8"),
        (changed(|c| c["generation"] = json!(-1)), "-1"),
    ] {
        for root_id in [TCP, HTTP] {
            let refused = egress.host.configure_root(root_id, &bad).expect_err(&bad);
            let named = refused.logs.iter().any(|log| log.message.contains(names));
            assert!(named, "{bad}: {:?}", refused.logs);
        }
    }
    assert!(live.is_open());
    assert_eq!(denied(&egress.connect("8.8.8.8:443", "")), "default deny");
    assert_eq!(egress.probe()["generation"], 1);
}

#[test]
fn a_root_id_of_another_module_is_refused() {
    let egress = Egress::unconfigured();
    for root_id in ["", "sandgate_egress", "sandgate_ingress"] {
        let good = configuration(1, &[allow_list()]).to_string();
        let refused = egress.host.configure_root(root_id, &good).expect_err(root_id);
        assert!(refused.logs.iter().any(|log| log.message.contains("root_id")), "{refused}");
    }
}

#[test]
fn a_new_generation_is_active_once_one_filter_has_it_and_reported_once_both_have_it() {
    let egress = Egress::with(deny_list());
    let next = configuration(2, &[allow_list()]).to_string();
    egress.host.configure_root(TCP, &next).expect("good");
    assert_eq!(
        egress.probe(),
        json!({"generation": 1, "tcp": 2, "http": 1, "judging": false, "status": 200})
    );
    crate::support::refused(&egress.get("8.8.8.8:80", "good.test"));
    egress.host.configure_root(HTTP, &next).expect("good");
    assert_eq!(
        egress.probe(),
        json!({"generation": 2, "tcp": 2, "http": 2, "judging": false, "status": 200})
    );
    assert_eq!(egress.host.metric("sandgate_egress_generation"), 2);
}

#[test]
fn an_older_generation_does_not_replace_a_newer_one() {
    let egress = Egress::unconfigured();
    egress.configure(&configuration(7, &[allow_list()]));
    egress.configure(&configuration(6, &[deny_list()]));
    assert_eq!(denied(&egress.connect("8.8.8.8:443", "")), "default deny");
    egress.configure(&configuration(7, &[deny_list()]));
    assert_eq!(egress.connect("8.8.8.8:443", "").outcome(), to_address("8.8.8.8:443"));
}

#[test]
fn the_probe_is_not_ready_until_both_filters_have_a_configuration() {
    let egress = Egress::unconfigured();
    let first = configuration(1, &[allow_list()]).to_string();
    egress.host.configure_root(HTTP, &first).expect("good");
    assert_eq!(egress.probe()["status"], 503);
    egress.host.configure_root(TCP, &first).expect("good");
    assert_eq!(egress.probe()["status"], 200);
    assert_eq!(forwarded(&egress.get(&format!("{OK}:80"), "ok.test")), "ok.test:80");
}

#[test]
fn many_updates_do_not_increase_memory() {
    let egress = Egress::with(allow_list());
    let live = egress.connect("10.1.2.3:22", "");
    let update = |from: u64, to: u64| {
        for generation in from..to {
            let mut policy = allow_list();
            policy["deny_out"] = json!([format!("n{generation}.test")]);
            egress.configure(&configuration(generation, &[policy]));
            egress.connect("10.1.2.3:22", "").leave();
        }
    };
    update(2, 30);
    let memory = egress.host.memory_bytes();
    update(30, 300);
    assert!(egress.host.memory_bytes() <= memory + (64 << 10), "{memory} grew");
    assert!(live.is_open());
}
