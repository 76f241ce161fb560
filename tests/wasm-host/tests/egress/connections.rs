//! The upstream of a connection, by address and by name.

use crate::support::{
    Egress, OK, OK_V6, WILDCARD, allow_list, denied, deny_list, to_address, to_name,
};

#[test]
fn a_connection_to_an_allowed_address_goes_there_whatever_server_name_it_shows() {
    let egress = Egress::with(allow_list());
    for sni in ["", "bad.test", "ok.test"] {
        let connection = egress.connect("10.1.2.3:5432", sni);
        assert_eq!(connection.outcome(), to_address("10.1.2.3:5432"), "{sni}");
    }
    let connection = egress.connect("[2001:db8::7]:443", "bad.test");
    assert_eq!(connection.outcome(), to_address("[2001:db8::7]:443"));
    assert_eq!(connection.property("sandgate_rule").as_deref(), Some("allow_out 2001:db8::/32"));
    assert_eq!(egress.decisions("tcp.allow.allow_out"), 4);
}

#[test]
fn a_connection_to_a_virtual_address_goes_to_its_name_in_any_protocol() {
    let egress = Egress::with(allow_list());
    for address in [format!("{OK}:22"), format!("[{OK_V6}]:22")] {
        let connection = egress.connect(&address, "");
        assert_eq!(connection.outcome(), to_name("ok.test:22"), "{address}");
    }
    let connection = egress.connect(&format!("{OK}:443"), "OK.test.");
    assert_eq!(connection.outcome(), to_name("ok.test:443"));
}

#[test]
fn envoy_resolves_an_allowed_name_whatever_the_original_destination_is() {
    let egress = Egress::with(allow_list());
    for destination in ["203.0.113.66:8443", "8.8.8.8:8443", "192.168.0.1:8443"] {
        let connection = egress.connect(destination, "a.ok.test");
        assert_eq!(connection.outcome(), to_name("a.ok.test:8443"), "{destination}");
    }
    let connection = egress.connect(&format!("{WILDCARD}:8443"), "a.ok.test");
    assert_eq!(connection.outcome(), to_name("a.ok.test:8443"));
}

#[test]
fn an_allow_list_denies_everything_else() {
    let egress = Egress::with(allow_list());
    for (destination, sni, rule) in [
        ("8.8.8.8:443", "", "default deny"),
        ("8.8.8.8:443", "bad.test", "default deny"),
        ("198.18.0.10:443", "bad.test", "default deny"),
        ("198.18.0.2:443", "", "no name shown"),
        ("198.18.0.2:443", "ok.test.bad.test", "default deny"),
        ("198.18.0.2:443", "notok.test", "default deny"),
        ("8.8.8.8:443", "xn--k-gka.test", "default deny"),
        ("8.8.8.8:443", "8.8.8.8", "default deny"),
        ("198.18.0.99:443", "ok.test", "guardrail 198.18.0.0/15"),
        ("169.254.169.254:80", "ok.test", "guardrail 169.254.0.0/16"),
        ("10.9.1.1:443", "ok.test", "guardrail 10.9.0.0/16"),
        ("[::ffff:8.8.8.8]:443", "", "default deny"),
        ("[64:ff9b::169.254.169.254]:80", "ok.test", "guardrail 169.254.0.0/16"),
        ("[::ffff:10.9.1.1]:443", "", "guardrail 10.9.0.0/16"),
        ("[2002:a09:101::1]:443", "", "guardrail 10.9.0.0/16"),
    ] {
        let connection = egress.connect(destination, sni);
        assert_eq!(denied(&connection), rule, "{destination} {sni}");
    }
}

#[test]
fn a_deny_list_allows_everything_except_its_entries() {
    let egress = Egress::with(deny_list());
    for (destination, sni) in
        [("8.8.8.8:443", "good.test"), ("8.8.8.8:22", ""), ("1.1.1.1:443", "")]
    {
        assert_eq!(egress.connect(destination, sni).outcome(), to_address(destination));
    }
    for (destination, sni, rule) in [
        ("8.8.8.8:443", "bad.test", "deny_out bad.test"),
        ("8.8.8.8:443", "BAD.test.", "deny_out bad.test"),
        ("8.8.8.8:443", "a.b.bad.test", "deny_out *.bad.test"),
        ("8.8.4.4:443", "good.test", "deny_out 8.8.4.0/24"),
        ("192.168.0.1:443", "good.test", "not globally routable"),
        ("8.8.8.8:443", "b\u{e4}d.test", "SNI not understood"),
    ] {
        let connection = egress.connect(destination, sni);
        assert_eq!(denied(&connection), rule, "{destination} {sni}");
    }
    assert_eq!(egress.decisions("tcp.deny.deny_out"), 4);
    assert_eq!(egress.decisions("tcp.deny.not_global"), 1);
    assert_eq!(egress.host.metric("sandgate_egress_host_errors_total"), 0);
}

#[test]
fn during_an_update_both_policies_must_allow() {
    let egress = Egress::unconfigured();
    egress.configure(&crate::support::configuration(1, &[allow_list(), deny_list()]));
    assert_eq!(denied(&egress.connect("8.8.8.8:443", "")), "default deny");
    assert_eq!(denied(&egress.connect("8.8.8.8:443", "bad.test")), "default deny");
    assert_eq!(egress.connect("8.8.8.8:443", "ok.test").outcome(), to_name("ok.test:443"));
}
