//! The removal of parameters from service bindings.

use std::str::FromStr;

use hickory_proto::rr::{RData, RecordType};
use test_case::test_case;

use super::*;

#[test_case("1 . alpn=h2 ipv4hint=192.0.2.1", "1 . alpn=h2,", 1, 0; "an empty hint is removed")]
#[test_case("1 . ipv4hint=192.0.2.1,203.0.113.1", "1 . ipv4hint=203.0.113.1,", 1, 0; "other addresses stay")]
#[test_case("1 . mandatory=ech ech=AAAA", "1 .", 0, 1; "an empty list of mandatory parameters is removed")]
#[test_case("1 . mandatory=port,ech port=8443 ech=AAAA", "1 . mandatory=port, port=8443", 0, 1; "other mandatory parameters stay")]
#[test_case("1 . mandatory=ipv4hint alpn=h2 ipv4hint=192.0.2.1", "1 . alpn=h2,", 1, 0; "removed hints are not mandatory")]
#[test_case("0 other.test.", "0 other.test.", 0, 0; "an alias mode record stays")]
fn a_binding_is_cleaned(text: &str, expected: &str, addresses: u64, ech: u64) {
    let data = RData::try_from_str(RecordType::HTTPS, text).unwrap();
    let mut record = Record::from_rdata(Name::from_str("ok.test.").unwrap(), 1, data);
    let bad: IpAddr = "192.0.2.1".parse().unwrap();
    let removed = clean(binding(&mut record).unwrap(), true, |address| address != bad);
    assert_eq!(record.data.to_string().trim_end(), expected);
    assert_eq!(removed, Removed { addresses, ech });
}
