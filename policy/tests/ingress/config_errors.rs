//! The errors for invalid configurations, which name the field.

use sandgate_policy::ingress::config::{IngressConfig, Upstream};
use test_case::test_case;

/// A good configuration with one piece of its text replaced.
fn error(good: &str, bad: &str) -> String {
    let json = r#"{"version": 1, "domains": ["sandbox.example.com", "local"], "api_hosts": ["api.example.com"],
        "control_plane": {"cluster": "control_plane", "timeout_ms": 2000},
        "sandbox_cidrs": ["10.1.0.0/16"], "trusted_origins": ["https://app.example.com"],
        "platform_prefixes": ["tl_"], "personal_access_token_prefixes": ["tl_pat"],
        "limits": {"waiters": 10}}"#;
    assert!(IngressConfig::from_json(json.as_bytes()).is_ok(), "the original is good");
    assert_eq!(json.matches(good).count(), 1, "`{good}` stands once");
    match IngressConfig::from_json(json.replace(good, bad).as_bytes()) {
        Ok(_) => "accepted".into(),
        Err(error) => error.to_string(),
    }
}

#[test_case(r#""version": 1"#, r#""version": 2"# => "the ingress configuration's `version` is 2; this filter reads 1"; "another version")]
#[test_case(r#"["sandbox.example.com", "local"]"#, "[]" => "the ingress configuration's `domains` is empty; name the domain that sandboxes are reached under"; "no domain")]
#[test_case(r#""local""#, r#""Local""# => "the ingress configuration's `domains` has an invalid entry: `Local` is not a domain: expected lower-case labels of a-z, 0-9 and `-`, like `sandbox.example.com`"; "a domain in capitals")]
#[test_case(r#""local""#, r#""*.local""# => "the ingress configuration's `domains` has an invalid entry: `*.local` is not a domain: expected lower-case labels of a-z, 0-9 and `-`, like `sandbox.example.com`"; "a wildcard domain")]
#[test_case(r#""local""#, r#""example.com""# => "the ingress configuration's `domains` holds `sandbox.example.com`, which `example.com` covers already"; "a domain and its parent")]
#[test_case(r#""local""#, r#""api.sandbox.example.com""# => "the ingress configuration's `domains` holds `api.sandbox.example.com`, which `sandbox.example.com` covers already"; "a domain and its API")]
#[test_case(r#""local""#, r#""sandbox.example.com""# => "the ingress configuration's `domains` holds `sandbox.example.com`, which `sandbox.example.com` covers already"; "a domain twice")]
#[test_case("api.example.com", "api.example.com:443" => "the ingress configuration's `api_hosts` has an invalid entry: `api.example.com:443` is not a domain: expected lower-case labels of a-z, 0-9 and `-`, like `sandbox.example.com`"; "an API host with a port")]
#[test_case("api.example.com", "api.sandbox.example.com" => "the ingress configuration's `api_hosts` holds `api.sandbox.example.com`, which the domain `sandbox.example.com` covers already"; "an API host that is one already")]
#[test_case("api.example.com", "8080-x.local" => "the ingress configuration's `api_hosts` holds `8080-x.local`, which the domain `local` covers already"; "a sandbox's host as the API's")]
#[test_case(r#""cluster": "control_plane""#, r#""cluster": """# => "the ingress configuration's `control_plane.cluster` is empty; name an Envoy cluster"; "no cluster")]
#[test_case(r#""timeout_ms": 2000"#, r#""timeout_ms": 0"# => "the ingress configuration's `control_plane.timeout_ms` is 0; a lookup needs a time limit"; "no time limit")]
#[test_case(r#""timeout_ms": 2000"#, r#""authority": """# => "the ingress configuration's `control_plane.authority` is ``; expected a host with an optional port, like `gateway.sandgate.internal`"; "no authority")]
#[test_case(r#""timeout_ms": 2000"#, r#""authority": "a b\r\n""# => "the ingress configuration's `control_plane.authority` is `a b\\r\\n`; expected a host with an optional port, like `gateway.sandgate.internal`"; "an authority with a line end")]
#[test_case(r#"["10.1.0.0/16"]"#, "[]" => "the ingress configuration's `sandbox_cidrs` is empty; without it no sandbox can be reached"; "no sandbox addresses")]
#[test_case(r#"["tl_"]"#, r#"["tl_", ""]"# => "the ingress configuration's `platform_prefixes` holds ``; expected the visible ASCII that secrets start with, like `tl_`"; "an empty prefix, which every token has")]
#[test_case(r#"["tl_"]"#, r#"["tl_", " tl_"]"# => "the ingress configuration's `platform_prefixes` holds ` tl_`; expected the visible ASCII that secrets start with, like `tl_`"; "a prefix with a space, which no token has")]
#[test_case(r#"["tl_"]"#, r#"["tl_", "tl_,x"]"# => "the ingress configuration's `platform_prefixes` holds `tl_,x`; expected the visible ASCII that secrets start with, like `tl_`"; "two prefixes in one")]
#[test_case(r#"["tl_"]"#, r#"["tl_", "tl="]"# => "the ingress configuration's `platform_prefixes` holds `tl=`; expected the visible ASCII that secrets start with, like `tl_`"; "a prefix that is split in a header")]
#[test_case(r#"["tl_"]"#, r#"["tl_", "schlüssel"]"# => "the ingress configuration's `platform_prefixes` holds `schlüssel`; expected the visible ASCII that secrets start with, like `tl_`"; "a prefix outside of ASCII")]
#[test_case(r#"["tl_pat"]"#, r#"["pat_"]"# => "the ingress configuration's `personal_access_token_prefixes` holds `pat_`, which starts with none of `platform_prefixes`"; "a token prefix that is no platform prefix")]
#[test_case(r#"["tl_pat"]"#, r#"[""]"# => "the ingress configuration's `personal_access_token_prefixes` holds ``, which starts with none of `platform_prefixes`"; "an empty token prefix")]
#[test_case(r#"["tl_"]"#, "[]" => "the ingress configuration's `personal_access_token_prefixes` holds `tl_pat`, which starts with none of `platform_prefixes`"; "no platform prefix for the tokens")]
#[test_case(r#""waiters": 10"#, r#""waiters": 0"# => "the ingress configuration's `limits.waiters` is 0; expected at least 1"; "no waiters")]
#[test_case(r#""waiters": 10"#, r#""cache_entries": 0"# => "the ingress configuration's `limits.cache_entries` is 0; expected at least 1"; "no cache")]
#[test_case(r#""waiters": 10"#, r#""lookups_in_flight": 0"# => "the ingress configuration's `limits.lookups_in_flight` is 0; expected at least 1"; "no lookups")]
#[test_case(r#""waiters": 10"#, r#""requests_per_sandbox": 0"# => "the ingress configuration's `limits.requests_per_sandbox` is 0; expected at least 3, one for each class of requests: management, authenticated, anonymous"; "no requests")]
#[test_case(r#""waiters": 10"#, r#""requests_per_sandbox": 2"# => "the ingress configuration's `limits.requests_per_sandbox` is 2; expected at least 3, one for each class of requests: management, authenticated, anonymous"; "too few requests for three classes")]
#[test_case(r#""waiters": 10"#, r#""feed_wait_ms": 0"# => "the ingress configuration's `limits.feed_wait_ms` is 0; expected at least 1, or the filter would poll the change feed without a pause"; "a change feed that never rests")]
fn an_error_names_the_field_with_an_invalid_value(good: &str, bad: &str) -> String {
    error(good, bad)
}

#[test_case("app.example.com"; "no scheme")]
#[test_case("https://"; "no host")]
#[test_case("https://app.example.com/"; "a slash")]
#[test_case("https://app.example.com/path"; "a path")]
#[test_case("https://*.example.com"; "a wildcard")]
#[test_case("*"; "any origin")]
#[test_case("null"; "the origin of a sandboxed frame")]
#[test_case("https://a.com https://b.com"; "two origins")]
#[test_case("https://a.com,https://b.com"; "two origins with a comma")]
#[test_case("https://a.com?q"; "a query")]
#[test_case("https://a.com#f"; "a fragment")]
#[test_case("https://user@a.com"; "userinfo")]
#[test_case("https://münchen.de"; "unicode, which browsers send as punycode")]
#[test_case("https://a.com:443"; "a default port, which browsers leave out")]
#[test_case("http://a.com:80"; "the other default port")]
#[test_case("ftp://a.com"; "another scheme")]
fn an_error_names_an_origin_that_no_browser_sends(origin: &str) {
    assert_eq!(
        error("https://app.example.com", origin),
        format!(
            "the ingress configuration's `trusted_origins` holds `{origin}`; \
             expected an origin as browsers send it, like `https://app.example.com`"
        )
    );
}

#[test_case("https://app.example.com:8443"; "a port")]
#[test_case("http://localhost:3000"; "a developer's machine")]
#[test_case("http://[::1]:3000"; "an address of IPv6")]
fn an_origin_as_browsers_send_it_is_accepted(origin: &str) {
    assert_eq!(error("https://app.example.com", origin), "accepted");
}

#[test_case(r#""version": 1"#, r#""vresion": 1"#, "unknown field `vresion`"; "a field that is misspelt")]
#[test_case(r#""timeout_ms": 2000"#, r#""timeout": 2000"#, "unknown field `timeout`"; "a field of the control plane that is misspelt")]
#[test_case(r#""waiters": 10"#, r#""waiter": 10"#, "unknown field `waiter`"; "a limit that is misspelt")]
#[test_case(r#""version": 1"#, r#""version": 1, "upstream": "dns""#, "unknown variant `dns`, expected `dynamic_forward_proxy` or `original_dst`"; "an unknown way to the upstream")]
#[test_case(r#""version": 1, "#, "", "missing field `version`"; "no version")]
#[test_case(r#""domains": ["sandbox.example.com", "local"],"#, "", "missing field `domains`"; "no field of domains")]
#[test_case(r#""sandbox_cidrs": ["10.1.0.0/16"], "#, "", "missing field `sandbox_cidrs`"; "no field of sandbox addresses")]
#[test_case(r#""cluster": "control_plane", "#, "", "missing field `cluster`"; "no field of the cluster")]
#[test_case(r#""version": 1"#, r#""version": 1, "version": 1"#, "duplicate field `version`"; "a field twice")]
#[test_case(r#""version": 1"#, r#""version": "1""#, "invalid type: string \"1\", expected u32"; "text for a number")]
#[test_case("10.1.0.0/16", "10.1.0.0/33", "invalid IP address syntax"; "a range that is too long")]
#[test_case("10.1.0.0/16", "sandboxes", "invalid IP address syntax"; "a range that is a word")]
#[test_case(r#""waiters": 10"#, r#""waiters": -1"#, "invalid value: integer `-1`"; "a negative limit")]
#[test_case(r#""waiters": 10"#, r#""positive_ttl_ms": 4294967296"#, "invalid value: integer `4294967296`, expected u32"; "a time that is too long")]
#[test_case(r#"{"waiters": 10}}"#, r#"{"waiters": 10}"#, "EOF while parsing an object"; "a text that is cut short")]
#[test_case(r#"{"waiters": 10}}"#, r#"{"waiters": 10}} x"#, "trailing characters"; "something behind it")]
fn an_error_names_what_is_not_the_expected_json(good: &str, bad: &str, part: &str) {
    let error = error(good, bad);
    assert!(error.starts_with("the ingress configuration is not valid: "), "{error}");
    assert!(error.contains(part), "{error}");
    assert!(error.contains("at line "), "it says where: {error}");
}

#[test]
fn an_empty_text_is_an_error() {
    for text in ["", " ", "null", "[]", "{}", "\u{0}"] {
        assert!(IngressConfig::from_json(text.as_bytes()).is_err(), "{text:?}");
    }
}

#[test]
fn defaults_are_those_of_the_design() {
    let json = br#"{"version": 1, "domains": ["local"], "sandbox_cidrs": ["10.1.0.0/16"],
        "control_plane": {"cluster": "control_plane"}}"#;
    let config = IngressConfig::from_json(json).expect("the shortest good configuration");
    assert!(config.is_platform_secret(b"tl_x") && !config.is_platform_secret(b"sk-x"));
    assert!(
        config.is_personal_access_token("tl_pat_x") && !config.is_personal_access_token("tl_x")
    );
    assert_eq!(config.trusted_origin(b"https://app.example.com"), None);
    assert_eq!(config.upstream(), Upstream::DynamicForwardProxy);
    assert_eq!(config.control_plane().timeout_ms, 2_000);
    let limits = config.limits();
    assert_eq!(limits.cache_entries, 20_000);
    assert_eq!(limits.waiters, 1_000);
    assert_eq!(limits.lookups_in_flight, 256);
    assert_eq!(limits.requests_per_sandbox, 1_000);
    assert_eq!(limits.anonymous_silence_ms, 60_000);
    assert_eq!(limits.resume_wait_ms, 30_000);
    assert_eq!(limits.public_resume_interval_ms, 10_000);
    assert_eq!(limits.feed_wait_ms, 25_000);
}
