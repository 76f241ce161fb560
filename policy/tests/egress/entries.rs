//! The entries that owners and operators may write, and the errors for invalid ones.

use sandgate_policy::egress::{Entry, NetworkPolicy, OperatorSettings};
use test_case::test_case;

#[test_case("8.8.8.8" => "8.8.8.8"; "an address")]
#[test_case("8.8.8.8/32" => "8.8.8.8"; "a range of one is its address")]
#[test_case("10.0.0.0/8" => "10.0.0.0/8"; "a range")]
#[test_case("0.0.0.0/0" => "0.0.0.0/0"; "everything")]
#[test_case("2001:DB8::1" => "2001:db8::1"; "ipv6 in upper case")]
#[test_case("2001:db8:0:0::/32" => "2001:db8::/32"; "ipv6 written long")]
#[test_case("::/0" => "::/0"; "all of ipv6")]
#[test_case("::ffff:10.0.0.0/104" => "10.0.0.0/8"; "a mapped range is the range")]
#[test_case("::ffff:8.8.8.8" => "8.8.8.8"; "a mapped address is the address")]
#[test_case("64:ff9b::/96" => "64:ff9b::/96"; "nat64 stays as it is")]
#[test_case("example.com" => "example.com"; "a name")]
#[test_case("EXAMPLE.com." => "example.com"; "upper case and a trailing dot")]
#[test_case("*.Example.com." => "*.example.com"; "all names below one")]
#[test_case("*.com" => "*.com"; "all names below a top-level domain")]
#[test_case("registry" => "registry"; "a single label")]
#[test_case("_dmarc.example.com" => "_dmarc.example.com"; "an underscore")]
#[test_case("xn--mnchen-3ya.example" => "xn--mnchen-3ya.example"; "punycode")]
#[test_case("1e100.net" => "1e100.net"; "a label that starts with a digit")]
#[test_case("0x7f.example" => "0x7f.example"; "a number that is not last")]
fn is_an_entry(entry: &str) -> String {
    Entry::parse(entry).expect("the table says so").to_string()
}

#[test_case("" => "is empty; expected an IP address, a range like `10.0.0.0/8`, or a domain like `example.com` or `*.example.com`"; "empty")]
#[test_case("10.0.0.5/8" => "has bits set after its prefix; write `10.0.0.0/8` for the range or `10.0.0.5` for the address"; "host bits")]
#[test_case("::ffff:10.0.0.5/104" => "has bits set after its prefix; write `::ffff:10.0.0.0/104` for the range or `::ffff:10.0.0.5` for the address"; "host bits of a mapped range")]
#[test_case("10.0.0.0/33" => "has no valid prefix length after its `/`; expected a number up to 32 (IPv4) or 128 (IPv6), without leading zeros"; "too long a prefix")]
#[test_case("10.0.0.0/08" => "has no valid prefix length after its `/`; expected a number up to 32 (IPv4) or 128 (IPv6), without leading zeros"; "a prefix with a leading zero")]
#[test_case("10.0.0.0/" => "has no valid prefix length after its `/`; expected a number up to 32 (IPv4) or 128 (IPv6), without leading zeros"; "no prefix")]
#[test_case("10.0.0.0/+8" => "has no valid prefix length after its `/`; expected a number up to 32 (IPv4) or 128 (IPv6), without leading zeros"; "a sign")]
#[test_case("10.0.0.0/255.0.0.0" => "has no valid prefix length after its `/`; expected a number up to 32 (IPv4) or 128 (IPv6), without leading zeros"; "a netmask")]
#[test_case("example.com/24" => "has a `/` after text that is not an IP address"; "a range of a name")]
#[test_case("example.com/path" => "has a `/` after text that is not an IP address"; "a path")]
#[test_case("10.0/8" => "has a `/` after text that is not an IP address"; "a short range")]
#[test_case("example.com:443" => "has a port; a policy applies to hosts: remove the `:port`"; "a port")]
#[test_case("8.8.8.8:53" => "has a port; a policy applies to hosts: remove the `:port`"; "a port of an address")]
#[test_case("[2001:db8::1]" => "has square brackets; write the IPv6 address without them"; "brackets")]
#[test_case("[2001:db8::1]:443" => "has square brackets; write the IPv6 address without them"; "brackets and port")]
#[test_case("fe80::1%eth0" => "has a zone (`%…`), which has a meaning on one machine only; remove it"; "a zone")]
#[test_case("http://example.com" => "is a URL; write only its host"; "a url")]
#[test_case(" example.com" => "contains white space; remove it"; "a leading space")]
#[test_case("example.com\n" => "contains white space; remove it"; "a trailing line feed")]
#[test_case("a\u{a0}b" => "contains white space; remove it"; "a no-break space")]
#[test_case("*" => "has a misplaced `*`; a `*` must be the whole first label, before a domain: `*.example.com`"; "a star alone")]
#[test_case("*." => "has a misplaced `*`; a `*` must be the whole first label, before a domain: `*.example.com`"; "a star and a dot")]
#[test_case("*.." => "has a misplaced `*`; a `*` must be the whole first label, before a domain: `*.example.com`"; "a star and two dots")]
#[test_case("*.*.example.com" => "has a misplaced `*`; a `*` must be the whole first label, before a domain: `*.example.com`"; "two stars")]
#[test_case("a.*.example.com" => "has a misplaced `*`; a `*` must be the whole first label, before a domain: `*.example.com`"; "a star inside")]
#[test_case("*a.example.com" => "has a misplaced `*`; a `*` must be the whole first label, before a domain: `*.example.com`"; "a star as part of a label")]
#[test_case("1.2.3" => "looks like an IP address but is not valid; write an IPv4 address as four decimal numbers without leading zeros; expected an IP address, a range like `10.0.0.0/8`, or a domain like `example.com` or `*.example.com`"; "a short address")]
#[test_case("0x7f.1" => "looks like an IP address but is not valid; write an IPv4 address as four decimal numbers without leading zeros; expected an IP address, a range like `10.0.0.0/8`, or a domain like `example.com` or `*.example.com`"; "a hexadecimal address")]
#[test_case("010.0.0.1" => "looks like an IP address but is not valid; write an IPv4 address as four decimal numbers without leading zeros; expected an IP address, a range like `10.0.0.0/8`, or a domain like `example.com` or `*.example.com`"; "leading zeros")]
#[test_case("2130706433" => "looks like an IP address but is not valid; write an IPv4 address as four decimal numbers without leading zeros; expected an IP address, a range like `10.0.0.0/8`, or a domain like `example.com` or `*.example.com`"; "an address as one number")]
#[test_case("*.1.2.3.4" => "looks like an IP address but is not valid; write an IPv4 address as four decimal numbers without leading zeros; expected an IP address, a range like `10.0.0.0/8`, or a domain like `example.com` or `*.example.com`"; "a wildcard before an address")]
#[test_case("münchen.example" => "is not ASCII; write the name's ASCII form, whose labels start with `xn--`; expected an IP address, a range like `10.0.0.0/8`, or a domain like `example.com` or `*.example.com`"; "a unicode label")]
#[test_case("ex!ample.com" => "contains '!'; a label consists of letters, digits, `-` and `_`; expected an IP address, a range like `10.0.0.0/8`, or a domain like `example.com` or `*.example.com`"; "another character")]
#[test_case(".example.com" => "has an empty label; write one dot between two labels; expected an IP address, a range like `10.0.0.0/8`, or a domain like `example.com` or `*.example.com`"; "a leading dot")]
#[test_case("a..b" => "has an empty label; write one dot between two labels; expected an IP address, a range like `10.0.0.0/8`, or a domain like `example.com` or `*.example.com`"; "two dots")]
#[test_case("." => "has an empty label; write one dot between two labels; expected an IP address, a range like `10.0.0.0/8`, or a domain like `example.com` or `*.example.com`"; "the root")]
fn is_not_an_entry(entry: &str) -> String {
    Entry::parse(entry).expect_err("the table says so").to_string()
}

#[test]
fn lengths_are_bounded_where_dns_bounds_them() {
    let label = "a".repeat(63);
    let name = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    assert_eq!(name.len(), 253);
    assert!(Entry::parse(&name).is_ok());
    assert!(Entry::parse(&format!("{name}.")).is_ok());
    assert!(Entry::parse(&format!("{name}b")).is_err());
    assert!(Entry::parse(&format!("a{label}.example")).is_err());
    assert!(Entry::parse(&"a.".repeat(100_000)).is_err());
}

#[test_case(r#"{}"# => r#"{"allow_internet_access":true,"allow_out":[],"deny_out":[]}"#; "the defaults")]
#[test_case(r#"{"allow_internet_access":false}"# => r#"{"allow_internet_access":false,"allow_out":[],"deny_out":[]}"#; "internet off")]
#[test_case(r#"{"allow_out":["10.0.0.0/8","8.8.8.8"]}"# => r#"{"allow_internet_access":true,"allow_out":["10.0.0.0/8","8.8.8.8"],"deny_out":[]}"#; "only one list")]
#[test_case(r#"{"deny_out":["*.Example.com."]}"# => r#"{"allow_internet_access":true,"allow_out":[],"deny_out":["*.example.com"]}"#; "entries are normalised")]
fn is_a_policy(json: &str) -> String {
    let policy: NetworkPolicy = serde_json::from_str(json).expect("the table says so");
    serde_json::to_string(&policy).expect("a policy can be written")
}

#[test_case(r#"{"allow_out":["8.8.8.8","10.0.0.5/8"]}"# => "`allow_out[1]` (`10.0.0.5/8`) has bits set after its prefix; write `10.0.0.0/8` for the range or `10.0.0.5` for the address"; "the error names the entry")]
#[test_case(r#"{"deny_out":["example.com:443"]}"# => "`deny_out[0]` (`example.com:443`) has a port; a policy applies to hosts: remove the `:port`"; "a port")]
#[test_case(r#"{"deny_out":["a\u0000b\nc d"]}"# => "`deny_out[0]` (`a\\0b\\nc d`) contains white space; remove it"; "control characters are escaped")]
#[test_case(r#"{"denyOut":[]}"# => "unknown field `denyOut`, expected one of `allow_internet_access`, `allow_out`, `deny_out` at line 1 column 10"; "a typo")]
#[test_case(r#"{"allow_internet_access":"no"}"# => "invalid type: string \"no\", expected a boolean at line 1 column 29"; "not a boolean")]
fn is_not_a_policy(json: &str) -> String {
    serde_json::from_str::<NetworkPolicy>(json).expect_err("the table says so").to_string()
}

#[test]
fn a_long_invalid_entry_is_truncated_in_the_error() {
    let json = serde_json::json!({ "allow_out": ["!".repeat(200)] });
    let error = serde_json::from_value::<NetworkPolicy>(json).expect_err("it is bad").to_string();
    assert!(error.contains(&format!("(`{}`)", "!".repeat(80))), "{error}");
}

#[test]
fn a_list_has_at_most_a_thousand_entries() {
    let of = |count: usize| serde_json::json!({ "deny_out": vec!["example.com"; count] });
    assert!(serde_json::from_value::<NetworkPolicy>(of(1_000)).is_ok());
    let error = serde_json::from_value::<NetworkPolicy>(of(1_001)).expect_err("too many");
    assert!(error.to_string().starts_with("`deny_out` has 1001 entries; at most 1000"), "{error}");
}

#[test_case(r#"{"protected":["example.com"]}"# => "`protected[0]` (`example.com`) is not an IP address or range"; "a name as guardrail")]
#[test_case(r#"{"also_global":["10.0.0.1/8"]}"# => "`also_global[0]` (`10.0.0.1/8`) has bits set after its prefix; write `10.0.0.0/8` for the range or `10.0.0.1` for the address"; "host bits")]
#[test_case(r#"{"rule_order":"deny"}"# => "unknown variant `deny`, expected `allow_first` or `deny_first` at line 1 column 20"; "an unknown order")]
#[test_case(r#"{"protect":[]}"# => "unknown field `protect`, expected one of `rule_order`, `protected`, `also_global` at line 1 column 10"; "a typo in the settings")]
fn is_not_an_operator(json: &str) -> String {
    serde_json::from_str::<OperatorSettings>(json).expect_err("the table says so").to_string()
}
