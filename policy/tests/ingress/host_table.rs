//! The host grammar: the accepted hosts, and the reason for each refusal.

use sandgate_policy::ids::SandboxRef;
use sandgate_policy::ingress::Request;
use sandgate_policy::ingress::domain::Domain;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::host::{InvalidHost, Target};
use sandgate_policy::ingress::port::Port;
use test_case::test_case;

use crate::ingress::support::{ID, Req, config, host};

/// What an authority names, as text, under the domains `sandbox.example.com` and `local`.
fn meaning(authority: &[u8]) -> String {
    let domains = ["sandbox.example.com", "local"].map(|text| Domain::parse(text).expect("good"));
    match host(authority, &domains) {
        Ok(Target::Bare) => "bare".into(),
        Ok(Target::Api) => "api".into(),
        Ok(Target::Sandbox(SandboxRef::Id(id), port)) => format!("id {id}, {}", describe(port)),
        Ok(Target::Sandbox(SandboxRef::Name(name), port)) => {
            format!("name {name}, {}", describe(port))
        }
        Err(InvalidHost::Malformed) => "malformed".into(),
        Err(InvalidHost::OtherDomain) => "other domain".into(),
        Err(InvalidHost::Port) => "bad port".into(),
        Err(InvalidHost::Sandbox) => "bad sandbox".into(),
    }
}

fn describe(port: Port) -> String {
    match port {
        Port::Management => "management".into(),
        Port::User(port) => format!("port {}", port.get()),
    }
}

#[test_case("my-env.sandbox.example.com" => "name my-env, management"; "a name alone is its management port")]
#[test_case("8080-my-env.sandbox.example.com" => "name my-env, port 8080"; "digits before the first hyphen are a port")]
#[test_case("a1b2c3d4e5f6g7h8i9j0k.sandbox.example.com" => format!("id {ID}, management"); "21 letters and digits are an id")]
#[test_case("8080-a1b2c3d4e5f6g7h8i9j0k.sandbox.example.com" => format!("id {ID}, port 8080"); "an id has ports too")]
#[test_case("012345678901234567890.sandbox.example.com" => "id 012345678901234567890, management"; "an id may be digits only, without a hyphen it is no port")]
#[test_case("80-012345678901234567890.sandbox.example.com" => "id 012345678901234567890, port 80"; "an id of digits after a port")]
#[test_case("abcdefghijklmnopqrstu.sandbox.example.com" => "id abcdefghijklmnopqrstu, management"; "21 letters are an id, even if they form a word")]
#[test_case("abcdefghij-lmnopqrstu.sandbox.example.com" => "name abcdefghij-lmnopqrstu, management"; "21 characters with a hyphen are a name")]
#[test_case("abcdefghijklmnopqrst.sandbox.example.com" => "name abcdefghijklmnopqrst, management"; "20 letters are a name")]
#[test_case("abcdefghijklmnopqrstuv.sandbox.example.com" => "name abcdefghijklmnopqrstuv, management"; "22 letters are a name")]
#[test_case("x.sandbox.example.com" => "name x, management"; "one letter is a name")]
#[test_case("my-env-8080.sandbox.example.com" => "name my-env-8080, management"; "digits behind the name belong to it")]
#[test_case("3000-my-env-8080.sandbox.example.com" => "name my-env-8080, port 3000"; "only the first digits are a port")]
#[test_case("a--b.sandbox.example.com" => "name a--b, management"; "hyphens inside of a name may stand together")]
#[test_case("8080-a--b.sandbox.example.com" => "name a--b, port 8080"; "hyphens inside of a name after a port")]
#[test_case("8080a-b.sandbox.example.com" => "bad sandbox"; "digits and letters before a hyphen are no port, and no name starts so")]
#[test_case("xn--mnchen-3ya.sandbox.example.com" => "name xn--mnchen-3ya, management"; "punycode is a name like any other")]
fn sandboxes_are_named_by_id_or_name(authority: &str) -> String {
    meaning(authority.as_bytes())
}

#[test_case("1-x.local" => "name x, port 1"; "the lowest port")]
#[test_case("65535-x.local" => "name x, port 65535"; "the highest port")]
#[test_case("9500-x.local" => "name x, port 9500"; "the port below the management port")]
#[test_case("9502-x.local" => "name x, port 9502"; "the port above the management port")]
#[test_case("9501-x.local" => "name x, management"; "9501 spelt out is the management port")]
#[test_case("9501-a1b2c3d4e5f6g7h8i9j0k.local" => format!("id {ID}, management"); "9501 spelt out before an id")]
#[test_case("0-x.local" => "bad port"; "zero is no port")]
#[test_case("65536-x.local" => "bad port"; "65536")]
#[test_case("75037-x.local" => "bad port"; "a number that wraps around to 9501 in 16 bits")]
#[test_case("4294976797-x.local" => "bad port"; "a number that wraps around in 32 bits")]
#[test_case("99999999999999999999999-x.local" => "bad port"; "more than any integer holds")]
#[test_case("08080-x.local" => "bad port"; "a leading zero")]
#[test_case("09501-x.local" => "bad port"; "a leading zero before 9501")]
#[test_case("00-x.local" => "bad port"; "two zeros")]
#[test_case("9501-.local" => "bad sandbox"; "9501 without a sandbox")]
#[test_case("8080-.local" => "bad sandbox"; "a port without a sandbox")]
#[test_case("8080.local" => "bad sandbox"; "a port alone is no name")]
#[test_case("8080--x.local" => "bad sandbox"; "two hyphens after the port")]
#[test_case("8080-9501-x.local" => "bad sandbox"; "two ports")]
#[test_case("9501-8080-x.local" => "bad sandbox"; "two ports, the management port first")]
#[test_case("+80-x.local" => "bad sandbox"; "a sign is no digit")]
#[test_case("-80-x.local" => "bad sandbox"; "a hyphen before the port")]
#[test_case("-x.local" => "bad sandbox"; "a hyphen and no port")]
#[test_case("-.local" => "bad sandbox"; "a hyphen alone")]
#[test_case("0x50-x.local" => "bad sandbox"; "hexadecimal")]
#[test_case("8_080-x.local" => "bad sandbox"; "digits with an underscore")]
#[test_case("8e3-x.local" => "bad sandbox"; "scientific notation")]
fn ports_are_1_to_65535_and_9501_is_the_management_port(authority: &str) -> String {
    meaning(authority.as_bytes())
}

#[test_case("x-.local" => "bad sandbox"; "a name that ends in a hyphen")]
#[test_case("8080-x-.local" => "bad sandbox"; "a name that ends in a hyphen, after a port")]
#[test_case("9lives.local" => "bad sandbox"; "a name that starts with a digit")]
#[test_case("8080-9lives.local" => "bad sandbox"; "a name that starts with a digit, after a port")]
#[test_case("my_env.local" => "bad sandbox"; "an underscore")]
#[test_case(".local" => "bad sandbox"; "an empty label")]
#[test_case("*.local" => "bad sandbox"; "a wildcard")]
#[test_case("my env.local" => "bad sandbox"; "a space inside")]
#[test_case(" my-env.local" => "bad sandbox"; "a space before")]
#[test_case("my-env%2elocal" => "other domain"; "an escaped dot is no dot")]
#[test_case("my%2denv.local" => "bad sandbox"; "an escaped hyphen is no hyphen")]
#[test_case("my-env/.local" => "bad sandbox"; "a slash")]
#[test_case("my-env#.local" => "bad sandbox"; "a fragment")]
#[test_case("my-env?.local" => "bad sandbox"; "a query")]
#[test_case("my-env\\.local" => "bad sandbox"; "a backslash")]
#[test_case("user@my-env.local" => "bad sandbox"; "userinfo before the host")]
#[test_case("my-env@evil.local" => "bad sandbox"; "a sandbox as the userinfo of another")]
#[test_case("my-env,evil.local" => "bad sandbox"; "two names joined by a comma")]
fn other_characters_are_not_allowed_in_a_name(authority: &str) -> String {
    meaning(authority.as_bytes())
}

#[test]
fn a_label_has_at_most_63_characters() {
    let name = "n".repeat(63);
    assert_eq!(meaning(format!("{name}.local").as_bytes()), format!("name {name}, management"));
    assert_eq!(meaning(format!("{name}n.local").as_bytes()), "bad sandbox");
    let behind_port = "n".repeat(58);
    let host = format!("8080-{behind_port}.local");
    assert_eq!(meaning(host.as_bytes()), format!("name {behind_port}, port 8080"));
    assert_eq!(meaning(format!("8080-n{behind_port}.local").as_bytes()), "bad sandbox");
}

#[test]
fn a_host_has_at_most_253_characters() {
    let label = "d".repeat(63);
    let longest = Domain::parse(&format!("{label}.{label}.{label}.{}", "d".repeat(59)))
        .expect("251 characters");
    let named =
        |name: &str| host(format!("{name}.{longest}").as_bytes(), std::slice::from_ref(&longest));
    assert!(matches!(named("n"), Ok(Target::Sandbox(..))), "253 characters");
    assert_eq!(named("nn"), Err(InvalidHost::Malformed), "254 characters");
}

#[test_case("MY-ENV.SANDBOX.EXAMPLE.COM" => "name my-env, management"; "capitals")]
#[test_case("8080-My-Env.Sandbox.Example.Com" => "name my-env, port 8080"; "mixed case")]
#[test_case("A1B2C3D4E5F6G7H8I9J0K.LOCAL" => format!("id {ID}, management"); "an id in capitals")]
#[test_case("API.Local" => "api"; "the API in capitals")]
fn case_does_not_matter(authority: &str) -> String {
    meaning(authority.as_bytes())
}

#[test_case("my-env.local." => "name my-env, management"; "one trailing dot is the root")]
#[test_case("my-env.local.:9443" => "name my-env, management"; "a trailing dot before the port")]
#[test_case("local." => "bare"; "a bare domain with a trailing dot")]
#[test_case("my-env.local.." => "other domain"; "two trailing dots")]
#[test_case("my-env..local" => "other domain"; "an empty label inside")]
#[test_case("..local" => "other domain"; "two empty labels")]
#[test_case("." => "malformed"; "a dot alone")]
#[test_case(".." => "other domain"; "two dots alone")]
fn one_trailing_dot_is_optional(authority: &str) -> String {
    meaning(authority.as_bytes())
}

#[test_case("my-env.local:9443" => "name my-env, management"; "the port that the client connected to")]
#[test_case("8080-my-env.local:443" => "name my-env, port 8080"; "the authority's port is not the sandbox's port")]
#[test_case("my-env.local:8080" => "name my-env, management"; "the authority's port, if the host names no port")]
#[test_case("my-env.local:0" => "name my-env, management"; "any number as the authority's port")]
#[test_case("my-env.local:65536" => "malformed"; "more than a port")]
#[test_case("my-env.local:" => "malformed"; "a colon and no port")]
#[test_case("my-env.local:80:80" => "malformed"; "two ports")]
#[test_case("my-env.local:http" => "malformed"; "a service name")]
#[test_case("my-env.local:+80" => "malformed"; "a sign")]
#[test_case("my-env.local: 80" => "malformed"; "a space")]
#[test_case(":9443" => "malformed"; "a port alone")]
#[test_case("user:secret@my-env.local" => "malformed"; "userinfo with a password")]
#[test_case("my-env.local:80@evil.local" => "malformed"; "a sandbox as userinfo with a password")]
#[test_case("my-env.local:80,evil.local:80" => "malformed"; "two authorities joined by a comma")]
#[test_case("[::1]" => "malformed"; "IPv6 in brackets")]
#[test_case("[::1]:80" => "malformed"; "IPv6 in brackets with a port")]
#[test_case("[my-env.local]" => "other domain"; "a name in brackets")]
#[test_case("::1" => "malformed"; "IPv6 without brackets")]
fn the_port_of_the_authority_is_ignored(authority: &str) -> String {
    meaning(authority.as_bytes())
}

#[test_case("sandbox.example.com" => "bare"; "the domain itself")]
#[test_case("local" => "bare"; "the other domain itself")]
#[test_case("sandbox.example.com:443" => "bare"; "the domain with a port")]
#[test_case("api.sandbox.example.com" => "api"; "the API host of the domain")]
#[test_case("api.local" => "api"; "the other domain's API")]
#[test_case("8080-api.local" => "name api, port 8080"; "a port before `api` is a port of a sandbox with that name")]
#[test_case("api2.local" => "name api2, management"; "a name that starts like the API's")]
#[test_case("x.api.local" => "other domain"; "nothing is below the API")]
#[test_case("api.my-env.local" => "other domain"; "no sandbox has an API of its own")]
#[test_case("x.my-env.local" => "other domain"; "two labels below a domain")]
#[test_case("8080.my-env.local" => "other domain"; "a port as a label of its own")]
#[test_case("example.com" => "other domain"; "the parent of a domain")]
#[test_case("my-env.example.com" => "other domain"; "a sibling of a domain")]
#[test_case("my-env.sandbox.example.com.evil.com" => "other domain"; "a domain in front of another")]
#[test_case("my-envsandbox.example.com" => "other domain"; "a domain without the dot before it")]
#[test_case("notlocal" => "other domain"; "a suffix that is no label")]
#[test_case("my-env.local.local" => "other domain"; "a domain twice")]
#[test_case("my-env.sandbox.example.com.local" => "other domain"; "one domain below the other")]
#[test_case("localhost" => "other domain"; "the loopback name")]
#[test_case("127.0.0.1" => "other domain"; "an address")]
#[test_case("127.0.0.1:9443" => "other domain"; "an address with a port")]
#[test_case("169.254.169.254" => "other domain"; "the metadata service")]
#[test_case("" => "malformed"; "nothing")]
fn only_labels_below_a_configured_domain_count(authority: &str) -> String {
    meaning(authority.as_bytes())
}

#[test_case(b"my-env\0.local" => "bad sandbox"; "a NUL in the name")]
#[test_case(b"my-env.local\0" => "other domain"; "a NUL at the end")]
#[test_case(b"my-env.local\0.evil.com" => "other domain"; "a NUL that would cut the name in C")]
#[test_case(b"my-env.local\r\n" => "other domain"; "a line end")]
#[test_case(b"my-env.local\t" => "other domain"; "a tab")]
#[test_case(b"\xff\xfe.local" => "malformed"; "bytes that are no UTF-8")]
#[test_case("münchen.local".as_bytes() => "malformed"; "unicode")]
#[test_case("８０８０-my-env.local".as_bytes() => "malformed"; "full-width digits")]
#[test_case("my\u{2010}env.local".as_bytes() => "malformed"; "a hyphen outside of ASCII")]
#[test_case("my-env。local".as_bytes() => "malformed"; "an ideographic full stop")]
#[test_case("\u{212a}ey.local".as_bytes() => "malformed"; "the Kelvin sign, whose lower case is k")]
fn only_ascii_is_read(authority: &[u8]) -> String {
    meaning(authority)
}

#[test_case("" ; "empty")]
#[test_case("." ; "a dot")]
#[test_case("example.com." ; "a trailing dot")]
#[test_case(".example.com" ; "a leading dot")]
#[test_case("exa..mple" ; "an empty label")]
#[test_case("Example.com" ; "a capital")]
#[test_case("*.example.com" ; "a wildcard")]
#[test_case("-x.com" ; "a label that starts with a hyphen")]
#[test_case("x-.com" ; "a label that ends in a hyphen")]
#[test_case("ex_ample.com" ; "an underscore")]
#[test_case("example.com:443" ; "a port")]
#[test_case("https://example.com" ; "a URL")]
#[test_case("münchen.de" ; "unicode")]
fn a_domain_must_be_a_lower_case_name(text: &str) {
    let error = Domain::parse(text).expect_err("not a domain");
    assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
}

#[test]
fn port_0_does_not_exist_and_9501_is_no_user_port() {
    assert_eq!(Port::new(0), None);
    assert_eq!(Port::new(9501), Some(Port::Management));
    assert_eq!(Port::new(9501).map(Port::get), Some(9501));
    assert_eq!(Port::new(9502).map(Port::get), Some(9502));
}

#[test_case("api.example.com" => true; "as it is configured")]
#[test_case("API.Example.com.:443" => true; "in another spelling")]
#[test_case("api.sandbox.example.com" => true; "below a domain")]
#[test_case("sandbox.example.com" => true; "a domain itself")]
#[test_case("example.com" => false; "the parent")]
#[test_case("x.api.example.com" => false; "below it")]
#[test_case("8080-my-env.api.example.com" => false; "a sandbox below it")]
#[test_case("xapi.example.com" => false; "a name that ends like it")]
#[test_case("api.example.com:x" => false; "with something that is no port")]
fn an_api_host_does_not_include_names_below_it(authority: &str) -> bool {
    matches!(Request::parse(Head::new(&Req::get(authority).fields()), &config()), Ok(Request::Api))
}
