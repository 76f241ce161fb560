//! The entries that owners and operators may write, and the errors for invalid ones.

use sandgate_policy::egress::{Entry, NetworkPolicy, OperatorSettings};
use sandgate_policy::gateway_api::SandboxNetworkPolicy;
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
#[test_case("8.8.8.8:53" => "8.8.8.8:53"; "an address with a port")]
#[test_case("8.8.8.8/32:53-53" => "8.8.8.8:53"; "a range of one port is that port")]
#[test_case("10.0.0.0/8:5432" => "10.0.0.0/8:5432"; "a range with a port")]
#[test_case("Example.com.:443" => "example.com:443"; "a name with a port")]
#[test_case("*.example.com:8000-8100" => "*.example.com:8000-8100"; "names below one, with ports")]
#[test_case("example.com:1-65535" => "example.com:1-65535"; "all ports but no ping")]
#[test_case("[2001:DB8::1]:443" => "[2001:db8::1]:443"; "an ipv6 address with a port")]
#[test_case("[2001:db8::1]/128:443" => "[2001:db8::1]:443"; "an ipv6 range of one with a port")]
#[test_case("[2001:db8::]/32:8000-8100" => "[2001:db8::]/32:8000-8100"; "an ipv6 range with ports")]
#[test_case("[::ffff:8.8.8.8]:53" => "8.8.8.8:53"; "a mapped address with a port is the address")]
#[test_case("[::ffff:10.0.0.0]/104:53" => "10.0.0.0/8:53"; "a mapped range with a port is the range")]
#[test_case("2001:db8::1:443/128" => "2001:db8::1:443/128"; "an ipv6 address that ends like a port")]
#[test_case("2001:4860:4860::8888" => "2001:4860:4860::8888"; "an ipv6 address whose last part follows two colons")]
#[test_case("2001:db8:1:2:3:4:5:443" => "2001:db8:1:2:3:4:5:443"; "an ipv6 address of eight parts")]
#[test_case("2001:db8::1:0443/128" => "2001:db8::1:443/128"; "an ipv6 address whose last part has a leading zero")]
fn is_an_entry(entry: &str) -> String {
    Entry::parse(entry).expect("the table says so").to_string()
}

const BAD_PORT: &str = "has no valid port after its `:`; expected a number from 1 to 65535, or a range like `8000-8100`, without leading zeros";
const BAD_BRACKETS: &str = "has square brackets in a wrong place; they enclose only an IPv6 address before a port: `[2001:db8::1]:443` or `[2001:db8::]/32:443`";
const SEVERAL_COLONS: &str = "has several `:` but is not an IPv6 address or range; with a port, write the address in square brackets: `[2001:db8::1]:443` or `[2001:db8::]/32:443`";

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
#[test_case("[2001:db8::1]" => "has square brackets; write the IPv6 address without them"; "brackets")]
#[test_case("[2001:db8::]/32" => "has square brackets; write the IPv6 address without them"; "brackets of a range")]
#[test_case("example.com:" => BAD_PORT; "no port after a colon")]
#[test_case("example.com:0" => BAD_PORT; "port zero")]
#[test_case("example.com:65536" => BAD_PORT; "a port that is too large")]
#[test_case("example.com:0443" => BAD_PORT; "a port with a leading zero")]
#[test_case("example.com:+443" => BAD_PORT; "a port with a sign")]
#[test_case("example.com:https" => BAD_PORT; "a service as port")]
#[test_case("example.com:443/tcp" => BAD_PORT; "a protocol after a port")]
#[test_case("example.com:443,80" => BAD_PORT; "a list of ports")]
#[test_case("example.com:*" => BAD_PORT; "a star as port")]
#[test_case("example.com:80-" => BAD_PORT; "a range of ports without an end")]
#[test_case("example.com:-80" => BAD_PORT; "a range of ports without a begin")]
#[test_case("example.com:443-80" => BAD_PORT; "a range of ports in the wrong order")]
#[test_case("example.com:0-80" => BAD_PORT; "a range of ports from zero")]
#[test_case("example.com:1-2-3" => BAD_PORT; "three ports")]
#[test_case("10.0.0.0:5432/8" => BAD_PORT; "a port before the prefix")]
#[test_case("[2001:db8::1]:" => BAD_PORT; "brackets and no port after the colon")]
#[test_case("[2001:db8::1]:443:80" => BAD_PORT; "brackets and two ports")]
#[test_case("[8.8.8.8]:53" => BAD_BRACKETS; "brackets of an ipv4 address")]
#[test_case("[example.com]:443" => BAD_BRACKETS; "brackets of a name")]
#[test_case("[2001:db8::1:443" => BAD_BRACKETS; "a bracket that is not closed")]
#[test_case("2001:db8::1]:443" => BAD_BRACKETS; "a bracket that is not opened")]
#[test_case("[[2001:db8::1]]:443" => BAD_BRACKETS; "two pairs of brackets")]
#[test_case("[2001:db8::/32]:443" => BAD_BRACKETS; "brackets around a range")]
#[test_case("[2001:db8::1]443" => BAD_BRACKETS; "no colon after the bracket")]
#[test_case("[]:443" => BAD_BRACKETS; "empty brackets")]
#[test_case("[2001:db8::1]x:443" => BAD_BRACKETS; "text after the bracket")]
#[test_case("x[2001:db8::1]:443" => BAD_BRACKETS; "text before the bracket")]
#[test_case("2001:db8::1:443" => "can be read as an IPv6 address or as an address with a port; write `2001:db8::1:443/128` for the address, or `[2001:db8::1]:443` for the port"; "attack: an ipv6 address that ends like a port")]
#[test_case("::ffff:1:2" => "can be read as an IPv6 address or as an address with a port; write `::ffff:0.1.0.2/128` for the address, or `[::ffff:1]:2` for the port"; "attack: a mapped address that ends like a port")]
#[test_case("2001:db8::1:70000" => SEVERAL_COLONS; "an ipv6 address with a port that is too large")]
#[test_case("2001:db8::/32:443" => SEVERAL_COLONS; "an ipv6 range with a port and no brackets")]
#[test_case("2001:db8:1:2:3:4:5:6:443" => SEVERAL_COLONS; "an ipv6 address of eight parts with a port")]
#[test_case("::ffff:8.8.8.8:53" => SEVERAL_COLONS; "a mapped address with a port and no brackets")]
#[test_case("example.com:443:80" => SEVERAL_COLONS; "two ports")]
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
    assert!(Entry::parse(&format!("{name}.:65534-65535")).is_ok());
    assert!(Entry::parse(&format!("*.{}:65534-65535", name.split_at(2).1)).is_ok());
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
#[test_case(r#"{"deny_out":["example.com:443","example.com:0"]}"# => "`deny_out[1]` (`example.com:0`) has no valid port after its `:`; expected a number from 1 to 65535, or a range like `8000-8100`, without leading zeros"; "a port that is not valid")]
#[test_case(r#"{"allow_out":["2001:db8::1:443"]}"# => "`allow_out[0]` (`2001:db8::1:443`) can be read as an IPv6 address or as an address with a port; write `2001:db8::1:443/128` for the address, or `[2001:db8::1]:443` for the port"; "an ambiguous address")]
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

/// An earlier version accepted such an address, without a port.
#[test]
fn an_ambiguous_address_of_an_accepted_policy_is_an_address() {
    let json = r#"{"allow_out": ["2001:db8::1:443", "8.8.8.8", "a.test:443"]}"#;
    let policy = NetworkPolicy::from_accepted_json(json).expect("it was accepted");
    let shown: Vec<String> = policy.allow_out.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["2001:db8::1:443/128", "8.8.8.8", "a.test:443"]);
    for bad in [r#"{"allow_out": ["a:0"]}"#, r#"{"allow": []}"#, "", "{} x"] {
        assert!(NetworkPolicy::from_accepted_json(bad).is_err(), "{bad}");
    }
    // A control plane of an earlier version.
    let mut response =
        serde_json::json!({ "sandbox_id": "a1b2c3d4e5f6g7h8i9j0k", "revision": "1" });
    response["network_policy"] = serde_json::from_str(json).expect("it is JSON");
    let response: SandboxNetworkPolicy = serde_json::from_value(response).expect("it is valid");
    assert_eq!(response.network_policy, policy);
}

#[test]
fn a_list_has_at_most_a_thousand_entries() {
    let of = |count: usize| serde_json::json!({ "deny_out": vec!["example.com"; count] });
    assert!(serde_json::from_value::<NetworkPolicy>(of(1_000)).is_ok());
    let error = serde_json::from_value::<NetworkPolicy>(of(1_001)).expect_err("too many");
    assert!(error.to_string().starts_with("`deny_out` has 1001 entries; at most 1000"), "{error}");
}

/// Each port is a set for nftables in each chain. A thousand different ones took the kernel 20 seconds, and the sidecar
/// refuses traffic after 2 seconds without a renewal.
#[test]
fn a_list_has_at_most_16_different_ports() {
    let entries = |ports: u16| -> Vec<String> {
        (0..1_000_u16).map(|n| format!("10.0.{}.{}:{}", n / 250, n % 250, 1 + n % ports)).collect()
    };
    for list in ["allow_out", "deny_out"] {
        let of = |ports| serde_json::json!({ list: entries(ports) });
        assert!(serde_json::from_value::<NetworkPolicy>(of(16)).is_ok());
        for (ports, shown) in [(17, "17"), (1_000, "1000")] {
            let error = serde_json::from_value::<NetworkPolicy>(of(ports)).expect_err("too many");
            let start = format!(
                "`{list}` has {shown} different ports and ranges of ports; at most 16 are allowed"
            );
            assert!(error.to_string().starts_with(&start), "{error}");
            assert!(NetworkPolicy::from_accepted_json(&of(ports).to_string()).is_err());
        }
    }
}

#[test_case(r#"{"protected":["example.com"]}"# => "`protected[0]` (`example.com`) is not an IP address or range"; "a name as guardrail")]
#[test_case(r#"{"protected":["10.0.0.0/8:443"]}"# => "`protected[0]` (`10.0.0.0/8:443`) has a port, but this list applies to all ports; remove the `:port`"; "a port of a guardrail")]
#[test_case(r#"{"also_global":["10.0.0.1/8"]}"# => "`also_global[0]` (`10.0.0.1/8`) has bits set after its prefix; write `10.0.0.0/8` for the range or `10.0.0.1` for the address"; "host bits")]
#[test_case(r#"{"rule_order":"deny"}"# => "unknown variant `deny`, expected `allow_first` or `deny_first` at line 1 column 20"; "an unknown order")]
#[test_case(r#"{"protect":[]}"# => "unknown field `protect`, expected one of `rule_order`, `protected`, `also_global` at line 1 column 10"; "a typo in the settings")]
fn is_not_an_operator(json: &str) -> String {
    serde_json::from_str::<OperatorSettings>(json).expect_err("the table says so").to_string()
}
