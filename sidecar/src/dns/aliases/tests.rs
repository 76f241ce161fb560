//! Aliases that a resolver would not write as we expect them.

use std::sync::Arc;

use hickory_proto::rr::rdata::{CNAME, NULL};
use hickory_proto::serialize::binary::BinEncodable;
use sandgate_policy::egress::{NetworkPolicy, Operator, Policy};

use super::*;

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

fn generation() -> Generation {
    let policy: NetworkPolicy =
        serde_json::from_str(r#"{"deny_out":["x.bad.test","*.denied.test"]}"#).unwrap();
    let policy = Arc::new(Policy::new(&policy, &Operator::default()));
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
