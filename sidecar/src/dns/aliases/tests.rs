//! Tests with aliases in unusual encodings.

use std::sync::Arc;

use hickory_proto::rr::rdata::{CNAME, NULL};
use hickory_proto::serialize::binary::BinEncodable;
use sandgate_policy::egress::{NetworkPolicy, OperatorSettings, Policy};

use super::*;

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

fn generation() -> Generation {
    generation_of(r#"{"deny_out":["x.bad.test","*.denied.test"]}"#)
}

fn generation_of(policy: &str) -> Generation {
    let policy: NetworkPolicy = serde_json::from_str(policy).unwrap();
    let policy = Arc::new(Policy::new(&policy, &OperatorSettings::default()));
    Generation::new(1, policy, None, [])
}

fn dname(owner: &str, target: &[u8]) -> Record {
    let data = RData::Unknown { code: RecordType::DNAME, rdata: NULL::with(target.to_vec()) };
    Record::from_rdata(name(owner), 1, data)
}

#[test]
fn a_dname_is_followed_where_the_resolver_has_not_done_it() {
    let answers = [dname("tree.test", &name("bad.test").to_bytes().unwrap())];
    let rule = denied(&name("X.tree.test"), &answers, &generation()).unwrap();
    assert_eq!(rule.to_string(), "deny_out x.bad.test");
    assert_eq!(denied(&name("y.tree.test"), &answers, &generation()), None);
    assert_eq!(denied(&name("tree.test"), &answers, &generation()), None);
}

#[test]
fn a_dname_that_can_not_be_read_leads_nowhere() {
    for target in [&b"\xc0\x0c"[..], b"\x03ba", b"\xff"] {
        let answers = [dname("tree.test", target)];
        assert_eq!(denied(&name("y.tree.test"), &answers, &generation()), Some(Rule::Default));
    }
}

#[test]
fn aliases_count_in_any_order_and_outside_the_chain() {
    let cname = |owner: &str, target: &str| {
        Record::from_rdata(name(owner), 1, RData::CNAME(CNAME(name(target))))
    };
    let answers = [cname("b.test", "a.denied.test"), cname("ok.test", "b.test")];
    assert!(denied(&name("ok.test"), &answers, &generation()).is_some());
    assert!(denied(&name("elsewhere.test"), &answers, &generation()).is_some());
    assert!(denied(&name("ok.test"), &answers[1..], &generation()).is_none());
}

fn a(owner: &str, address: [u8; 4], ttl: u32) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(std::net::Ipv4Addr::from(address).into()))
}

#[test]
fn the_observed_addresses_of_a_denied_name_include_those_of_its_aliases() {
    let cname = |owner: &str, target: &str| {
        Record::from_rdata(name(owner), 1, RData::CNAME(CNAME(name(target))))
    };
    let answers = [
        a("elsewhere.test", [192, 0, 2, 1], 60),
        cname("ok.test", "Y.Denied.test"),
        cname("y.denied.test", "cdn.test"),
        a("CDN.test", [192, 0, 2, 2], 60),
        a("cdn.test", [192, 0, 2, 3], 60),
        a("ok.test", [192, 0, 2, 4], 60),
    ];
    let pairs: Vec<String> = observed(&answers, &generation())
        .into_iter()
        .map(|(name, address)| format!("{name} {address}"))
        .collect();
    assert_eq!(pairs, ["y.denied.test 192.0.2.2", "y.denied.test 192.0.2.3"]);
}

#[test]
fn the_addresses_of_names_that_are_denied_on_some_ports_are_observed() {
    let generation = generation_of(
        r#"{"deny_out":["*.bad.test:443", "cdn.test:25", "ok.test"], "allow_out": ["ok.test"]}"#,
    );
    let cname = |owner: &str, target: &str| {
        Record::from_rdata(name(owner), 1, RData::CNAME(CNAME(name(target))))
    };
    let answers = [
        a("elsewhere.bad.test", [192, 0, 2, 1], 60),
        cname("X.bad.test", "cdn.test"),
        a("cdn.test", [192, 0, 2, 2], 60),
        a("ok.test", [192, 0, 2, 3], 60),
    ];
    let pairs = |asked| -> Vec<String> {
        partly_denied(&name(asked), &answers, &generation)
            .into_iter()
            .map(|(name, address)| format!("{name} {address}"))
            .collect()
    };
    assert_eq!(pairs("x.BAD.test"), ["x.bad.test 192.0.2.2", "cdn.test 192.0.2.2"]);
    assert_eq!(pairs("ok.test"), Vec::<String>::new(), "it is allowed on all ports");
    let ring = [cname("x.bad.test", "cdn.test"), cname("cdn.test", "x.bad.test")];
    assert_eq!(partly_denied(&name("x.bad.test"), &ring, &generation), []);
}

#[test]
fn addresses_are_valid_for_the_minimum_ttl_of_the_chain() {
    let cname = |ttl, owner: &str, target: &str| {
        Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
    };
    let answers = [
        a("b.test", [192, 0, 2, 1], 60),
        cname(30, "a.test", "b.test"),
        a("c.test", [192, 0, 2, 2], 1),
    ];
    let (found, ttl) = addresses(&name("a.test"), &answers);
    assert_eq!(found, BTreeSet::from(["192.0.2.1".parse().unwrap()]));
    assert_eq!(ttl, Some(30));
    let ring = [cname(5, "a.test", "b.test"), cname(5, "b.test", "a.test")];
    assert_eq!(addresses(&name("a.test"), &ring), (BTreeSet::new(), Some(5)));
}
