//! Parsing of a TLS handshake's server name and of a request's authority.

use sandgate_policy::egress::ShownName;
use test_case::test_case;

fn show(fact: ShownName) -> String {
    match fact {
        ShownName::Absent => "absent".to_owned(),
        ShownName::Address(address) => format!("address {address}"),
        ShownName::Name(name) => format!("name {name}"),
        ShownName::Unparsable => "unparsable".to_owned(),
    }
}

#[test_case(b"example.com" => "name example.com"; "a name")]
#[test_case(b"EXAMPLE.com." => "name example.com"; "upper case and a trailing dot")]
#[test_case(b"example.com:443" => "name example.com"; "a port is dropped")]
#[test_case(b"example.com:" => "unparsable"; "a colon without a port")]
#[test_case(b"example.com:99999" => "unparsable"; "a port out of range")]
#[test_case(b"user@example.com" => "unparsable"; "user information")]
#[test_case(b"example.com/x" => "unparsable"; "a path")]
#[test_case(b"8.8.8.8" => "address 8.8.8.8"; "an address")]
#[test_case(b"8.8.8.8:80" => "address 8.8.8.8"; "an address with a port")]
#[test_case(b"[2001:db8::1]:80" => "address 2001:db8::1"; "ipv6 with a port")]
#[test_case(b"[2001:db8::1]" => "address 2001:db8::1"; "ipv6 without one")]
#[test_case(b"2001:db8::1" => "unparsable"; "ipv6 without brackets")]
#[test_case(b"[8.8.8.8]" => "unparsable"; "ipv4 in brackets")]
#[test_case(b"[fe80::1%eth0]" => "unparsable"; "a zone")]
#[test_case(b"0x7f.1" => "unparsable"; "a hexadecimal address")]
#[test_case(b"127.1" => "unparsable"; "a short address")]
#[test_case(b"" => "unparsable"; "nothing in a Host")]
#[test_case(b"\xff.example" => "unparsable"; "not utf-8")]
#[test_case("münchen.example".as_bytes() => "unparsable"; "not ascii")]
fn of_an_authority(authority: &[u8]) -> String {
    show(ShownName::from_authority(authority))
}

#[test_case(b"" => "absent"; "nothing")]
#[test_case(b"Example.com" => "name example.com"; "name")]
#[test_case(b"example.com:443" => "unparsable"; "port")]
#[test_case(b"8.8.8.8" => "address 8.8.8.8"; "an address, against RFC 6066")]
#[test_case(b"a\0.example.com" => "unparsable"; "zero byte")]
fn of_a_handshake(sni: &[u8]) -> String {
    show(ShownName::from_sni(sni))
}
