//! Compares the rendered nftables rules with the files in `sidecar/tests/rules/`. `tests/egress` tests their effect on
//! packets.
//!
//! After an intended change, write the files with `SANDGATE_BLESS=1 cargo test -p sandgate-sidecar --test rules`, and
//! review the difference.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed")]

use std::path::Path;

use sandgate_policy::egress::{OperatorSettings, Policy};
use sandgate_sidecar::nftables::layout::{Interface, Mode, Ports};
use sandgate_sidecar::nftables::{Layout, PacketLog, render};
use serde_json::{Value, json};

fn layout(mode: Mode) -> Layout {
    Layout {
        mode,
        edges: ["198.51.100.0/28", "198.51.100.16/28", "2001:db8:b::1/128"]
            .map(|range| range.parse().unwrap())
            .to_vec(),
        masquerade: true,
        envoy_uid: 64_321,
        agent_uid: 0,
        ports: Ports::default(),
    }
}

fn gateway() -> Mode {
    Mode::Gateway { interface: "sandbox0".parse().unwrap() }
}

fn policy(policy: Value) -> Policy {
    let operator: OperatorSettings =
        serde_json::from_value(json!({ "protected": ["192.0.2.0/30"] })).unwrap();
    Policy::new(&serde_json::from_value(policy).unwrap(), &operator)
}

/// Compares a text with a file, or writes the file if `SANDGATE_BLESS` is set.
fn assert_matches_file(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules").join(name);
    if std::env::var_os("SANDGATE_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; see the top of this file", path.display()));
    let differs = text.lines().zip(expected.lines()).find(|(ours, theirs)| ours != theirs);
    assert!(text == expected, "{name} differs, first at {differs:#?}; see the top of this file");
}

#[test]
fn the_fixed_rules_of_a_gateway() {
    assert_matches_file("gateway.nft", &render::setup(&layout(gateway()), PacketLog::On));
}

#[test]
fn the_fixed_rules_of_a_shared_namespace() {
    assert_matches_file("shared.nft", &render::setup(&layout(Mode::Shared), PacketLog::On));
}

#[test]
fn a_generation_with_internet_off_and_addresses() {
    let policy =
        policy(json!({ "allow_internet_access": false, "allow_out": ["10.0.0.0/8", "8.8.8.8"] }));
    assert_matches_file("addresses.nft", &render::generation(&[&policy], &Ports::default()));
}

#[test]
fn a_generation_of_two_policies_with_names() {
    let old = policy(json!({ "deny_out": ["example.com", "203.0.113.20"] }));
    let new = policy(
        json!({ "allow_internet_access": false, "allow_out": ["ok.test", "2001:db8::/32"] }),
    );
    assert_matches_file("update.nft", &render::generation(&[&old, &new], &Ports::default()));
}

#[test]
fn a_generation_with_known_addresses_of_denied_names() {
    let policy = policy(
        json!({ "deny_out": ["bad.test", "203.0.113.20"], "allow_out": ["1.1.1.1", "9.9.9.0/24"] }),
    );
    let known =
        json!({ "bad.test": ["1.1.1.1", "8.8.8.8", "2606:4700::1"], "other.test": ["8.8.4.4"] });
    let policy = policy.with_denied_addresses(&serde_json::from_value(known).unwrap());
    assert_matches_file("denied.nft", &render::generation(&[&policy], &Ports::default()));
}

#[test]
fn a_generation_with_ports() {
    let policy = policy(json!({
        "allow_internet_access": false,
        "allow_out": ["10.0.0.0/8:5432", "8.8.8.8:53", "[2001:db8::]/32:8000-8100", "ok.test:443"],
        "deny_out": ["203.0.113.20:25", "bad.test:443"],
    }));
    assert_matches_file("ports.nft", &render::generation(&[&policy], &Ports::default()));
}

/// The number of anonymous sets. The kernel searches all of them for each new one, so twice as many take four times as
/// long. `nft` makes no set of a single element.
fn anonymous_sets(text: &str) -> usize {
    let braces = text.lines().flat_map(|line| line.split('{').skip(1));
    braces.filter(|inside| inside.split('}').next().is_some_and(|set| set.contains(','))).count()
}

/// The policies with the most sets that `NetworkPolicy` accepts. Each port of a list has several addresses, which are not
/// adjacent, in both families, and the sets of ports overlap in many ways.
fn with_many_sets() -> [Policy; 2] {
    let allowed = |n: usize| format!("{}-{}", 1 + n % 16 * 4_000, 1_000 + n % 16 * 4_000);
    let denied = |n: usize| format!("{}-65535", 500 + n % 16 * 4_000);
    let addresses = |first: u8, ports: &dyn Fn(usize) -> String| -> Vec<String> {
        let v4 = (0..470).map(|n| format!("{first}.0.{}.{}:{}", n / 100, n % 100 * 2, ports(n)));
        let v6 = (0..470).map(|n| format!("[2606::{first}:{n}:0]:{}", ports(n)));
        v4.chain(v6).collect()
    };
    let names = |ports: &dyn Fn(usize) -> String| -> Vec<String> {
        (0..30).map(|n| format!("n{n}.test{}", ports(n))).collect()
    };
    let known: serde_json::Map<String, Value> = (0..30)
        .map(|n| {
            let of_name = [
                format!("9.9.{n}.1"),
                format!("9.9.{n}.3"),
                format!("2620::{n}:1:0"),
                format!("2620::{n}:3:0"),
            ];
            (format!("n{n}.test"), json!(of_name))
        })
        .collect();
    let known = serde_json::from_value(Value::Object(known)).unwrap();
    [1, 2].map(|first| {
        let with_ports = |n| format!(":{}", allowed(n));
        let allow = [names(&with_ports), addresses(first, &allowed)].concat();
        let deny = [names(&|_| String::new()), addresses(first + 2, &denied)].concat();
        let lists = policy(json!({ "allow_out": allow, "deny_out": deny }));
        lists.with_denied_addresses(&known)
    })
}

#[test]
fn the_number_of_sets_is_bounded() {
    let [old, new] = with_many_sets();
    let text = render::generation(&[&old, &new], &Ports::default());
    let (sets, rules) = (anonymous_sets(&text), text.lines().count());
    assert!(sets < 2_000 && rules < 2_500, "{sets} sets in {rules} lines");
    // The sets of an ordinary policy don't depend on the number of its entries.
    let entries: Vec<String> =
        (0..1_000).map(|n| format!("1.0.{}.{}:443", n / 100, n % 100 * 2)).collect();
    let sets = |entries: &[String]| {
        let policy = policy(json!({ "allow_internet_access": false, "allow_out": entries }));
        anonymous_sets(&render::generation(&[&policy], &Ports::default()))
    };
    assert_eq!(sets(&entries), sets(&entries[..2]));
}

#[test]
fn without_a_policy_all_traffic_is_denied() {
    let text = render::setup(&layout(gateway()), PacketLog::On);
    for chain in ["outward", "inward", "dial"] {
        let refuses = format!("  chain {chain} {{\n    goto refuse_unready\n");
        assert!(text.contains(&refuses), "{text}");
    }
    // The set `alive` is empty.
    assert!(!text.contains("add element"), "{text}");
}

/// A rule that counts and refuses a packet itself would bypass the chain that logs the packet.
#[test]
fn every_refused_packet_is_logged() {
    let policy = policy(json!({ "deny_out": ["example.com", "203.0.113.20"] }));
    let mut text = render::generation(&[&policy], &Ports::default());
    for mode in [gateway(), Mode::Shared] {
        text.push_str(&render::setup(&layout(mode), PacketLog::On));
    }
    let unlogged = text.lines().map(str::trim).filter(|line| {
        line.contains("counter name")
            && (line.ends_with("goto refuse") || line.ends_with("drop") || line.contains(" reject"))
    });
    assert_eq!(unlogged.collect::<Vec<_>>(), Vec::<&str>::new(), "see nftables/refuse_chains.rs");
}

#[test]
fn a_generation_never_replaces_a_chain_with_a_hook() {
    let text = render::generation(&[&policy(json!({}))], &Ports::default());
    assert!(!text.contains("hook") && !text.contains("delete table"), "{text}");
}

#[test]
fn an_interface_name_cannot_contain_a_rule() {
    for bad in ["", "a\" accept", "a b", "a;b", "sixteen-letters-", "..", "a\n", "é"] {
        assert!(bad.parse::<Interface>().is_err(), "{bad:?}");
    }
    for good in ["eth0", "veth1234@if5", "sbx-1.2", "tap_0"] {
        assert_eq!(good.parse::<Interface>().unwrap().to_string(), good);
    }
}
