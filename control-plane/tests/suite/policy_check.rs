//! `sandgate policy check`, and the start of a server without sidecars on a store with policies.

use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use sandgate::model::{NewSandbox, SandboxId, Spec, Timestamp};
use sandgate::serve::StoreLocation;

use super::support::TOKEN;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sandgate");

fn check(policy: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(["policy", "check", "--policy", "-"]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that refuses its arguments may end before it reads its input.
    if let Err(error) = child.stdin.take().unwrap().write_all(policy.as_bytes()) {
        assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
    }
    child.wait_with_output().unwrap()
}

#[test]
fn each_destination_gets_a_line_with_the_rule() {
    let policy = r#"{"allow_internet_access": false,
        "allow_out": ["10.0.0.0/8", "8.8.8.8", "*.ok.test"], "deny_out": ["example.com"]}"#;
    let asked = [
        "10.1.2.3",
        "8.8.4.4",
        "a.ok.test",
        "example.com",
        "a.ok.test@1.1.1.1",
        "evil.test@10.0.0.1",
        "64:ff9b::a9fe:a9fe",
    ];
    let output = check(policy, &asked);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "allow\t10.1.2.3\tallow_out 10.0.0.0/8\n\
         deny\t8.8.4.4\tdefault deny\n\
         allow\ta.ok.test\tallow_out *.ok.test\n\
         deny\texample.com\tdeny_out example.com\n\
         allow\ta.ok.test@1.1.1.1\tallow_out *.ok.test\n\
         allow\tevil.test@10.0.0.1\tallow_out 10.0.0.0/8\n\
         deny\t64:ff9b::a9fe:a9fe\tguardrail 169.254.0.0/16\n"
    );
    assert_eq!(output.status.code(), Some(3));
    let output = check(policy, &["10.1.2.3"]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_destination_may_have_a_port_and_a_protocol() {
    let policy = r#"{"allow_internet_access": false,
        "allow_out": ["10.0.0.0/8:5432", "8.8.8.8:53", "[2001:db8::]/32:8000-8100", "ok.test:443", "9.9.9.9"],
        "deny_out": ["10.0.0.0/8"]}"#;
    let asked = [
        "10.1.2.3:5432",
        "10.1.2.3:5433",
        "8.8.8.8:53/udp",
        "8.8.8.8:53/tcp",
        "8.8.8.8:54/udp",
        "8.8.8.8/icmp",
        "9.9.9.9/icmp",
        "9.9.9.9:443/udp",
        "9.9.9.9",
        "[2001:db8::1]:8100",
        "[2001:db8::1]:8101",
        "2001:db8:1:2:3:4:5:443/icmp",
        "ok.test:443",
        "ok.test:80",
        "ok.test@1.1.1.1:443",
        "ok.test@[2001:db8::1]:444",
    ];
    let output = check(policy, &asked);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "allow\t10.1.2.3:5432\tallow_out 10.0.0.0/8:5432\n\
         deny\t10.1.2.3:5433\tdeny_out 10.0.0.0/8\n\
         allow\t8.8.8.8:53/udp\tallow_out 8.8.8.8:53\n\
         allow\t8.8.8.8:53/tcp\tallow_out 8.8.8.8:53\n\
         deny\t8.8.8.8:54/udp\tdefault deny\n\
         deny\t8.8.8.8/icmp\tdefault deny\n\
         allow\t9.9.9.9/icmp\tallow_out 9.9.9.9\n\
         deny\t9.9.9.9:443/udp\tcould be QUIC, and a rule names a domain\n\
         allow\t9.9.9.9\tallow_out 9.9.9.9\n\
         allow\t[2001:db8::1]:8100\tallow_out [2001:db8::]/32:8000-8100\n\
         deny\t[2001:db8::1]:8101\tdefault deny\n\
         deny\t2001:db8:1:2:3:4:5:443/icmp\tdefault deny\n\
         allow\tok.test:443\tallow_out ok.test:443\n\
         deny\tok.test:80\tdefault deny\n\
         allow\tok.test@1.1.1.1:443\tallow_out ok.test:443\n\
         deny\tok.test@[2001:db8::1]:444\tdefault deny\n"
    );
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn the_operators_settings_apply() {
    let dir = tempfile::tempdir().unwrap();
    let (policy, operator) = (dir.path().join("policy.json"), dir.path().join("operator.json"));
    std::fs::write(&policy, r#"{"allow_out": ["10.0.0.0/8"], "deny_out": ["10.2.0.0/16"]}"#)
        .unwrap();
    std::fs::write(&operator, r#"{"rule_order": "deny_first", "protected": ["10.1.0.0/16"]}"#)
        .unwrap();
    let output = Command::new(PROGRAM)
        .args(["policy", "check", "--policy"])
        .arg(&policy)
        .arg("--operator")
        .arg(&operator)
        .args(["10.1.0.1", "10.2.0.1", "10.3.0.1"])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "deny\t10.1.0.1\tguardrail 10.1.0.0/16\n\
         deny\t10.2.0.1\tdeny_out 10.2.0.0/16\n\
         allow\t10.3.0.1\tallow_out 10.0.0.0/8\n"
    );
}

#[test]
fn invalid_input_is_an_error_without_a_verdict() {
    for (policy, destination, named) in [
        (r#"{"deny_out": ["a:0"]}"#, "8.8.8.8", "`deny_out[0]` (`a:0`) has no valid port"),
        (r#"{"deny": []}"#, "8.8.8.8", "unknown field `deny`"),
        ("", "8.8.8.8", "--policy - is not valid"),
        ("{}", "10.0.0.0/8", "not an IP address"),
        ("{}", "a.test@b.test", "`b.test` after the `@` is not an IP address"),
        ("{}", "0x7f.1", "looks like an IP address but is not valid"),
        ("{}", "a.test:0", "has no valid port"),
        ("{}", "a.test:443-444", "write one port"),
        ("{}", "*.a.test", "write a name below it"),
        ("{}", "[8.8.8.8]:53", "has square brackets in a wrong place"),
        ("{}", "2001:db8::1:443", "or `[2001:db8::1]:443` for the port"),
        ("{}", "8.8.8.8/udp", "UDP needs a port"),
        ("{}", "8.8.8.8:53/icmp", "ICMP has no ports"),
        ("{}", "a.test:53/udp", "UDP and ICMP show no name"),
        ("{}", "a.test@8.8.8.8:53/udp", "UDP and ICMP show no name"),
        ("{}", "8.8.8.8:53/sctp", "has no valid port"),
        (
            r#"{"deny_out": ["8.8.8.8:25"]}"#,
            "8.8.8.8",
            "`8.8.8.8`: the verdict depends on the port",
        ),
        (
            r#"{"allow_out": ["a.test:25"], "allow_internet_access": false}"#,
            "a.test",
            "`a.test`: the verdict depends on the port",
        ),
    ] {
        let output = check(policy, &[destination]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(named), "{stderr}");
        assert!(!matches!(output.status.code(), Some(0 | 3)) && output.stdout.is_empty());
    }
}

/// A store with one sandbox that may not connect to anything.
fn create_restricted_sandbox(data_dir: &Path) {
    let store = StoreLocation::DataDir(data_dir.to_owned()).open().unwrap();
    let now = Timestamp::now();
    store.create_organization("org_1", "acme", sandgate::store::Author::now("test")).unwrap();
    store
        .create_project("project_1", "org_1", "web", sandgate::store::Author::now("test"))
        .unwrap();
    let new = NewSandbox {
        id: SandboxId::parse("a1b2c3d4e5f6g7h8i9j0k").unwrap(),
        name: None,
        project_id: "project_1".parse().unwrap(),
        exposed_ports: sandgate::model::ExposedPorts::default(),
        allow_unauthenticated_access: false,
        auto_resume: true,
        network_policy: serde_json::from_str(r#"{"allow_internet_access": false}"#).unwrap(),
        spec: Spec::new(),
        principal: "key_1".parse().unwrap(),
    };
    store.create_sandbox(&new, now).unwrap();
}

#[test]
fn a_server_without_sidecars_does_not_start_if_a_sandbox_has_a_network_policy() {
    let dir = tempfile::tempdir().unwrap();
    let (data, tokens) = (dir.path().join("data"), dir.path().join("token"));
    std::fs::write(&tokens, TOKEN).unwrap();
    create_restricted_sandbox(&data);
    let output = Command::new(PROGRAM)
        .args(["serve", "--api-listen", "127.0.0.1:0", "--gateway-listen", "127.0.0.1:0"])
        .args(["--local-program", "/bin/true", "--data-dir"])
        .arg(&data)
        .arg("--gateway-token-file")
        .arg(&tokens)
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(stderr.contains("1 sandbox(es) have a network policy"), "{stderr}");
    assert!(stderr.contains("--egress enforced"), "{stderr}");
}

#[test]
fn the_command_line_shows_the_sidecar_token_of_a_sandbox() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("token");
    std::fs::write(&tokens, TOKEN).unwrap();
    let shown = |sandbox: &str| {
        Command::new(PROGRAM)
            .args(["keys", "sidecar", sandbox, "--gateway-token-file"])
            .arg(&tokens)
            .output()
            .unwrap()
    };
    let output = shown("a1b2c3d4e5f6g7h8i9j0k");
    let id = SandboxId::parse("a1b2c3d4e5f6g7h8i9j0k").unwrap();
    let made = sandgate::gateway::sidecar_tokens(&tokens, &id).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), made.join("\n") + "\n");
    assert!(!shown("my-env").status.success());
}
