//! `sandgate explain`: it prints the decisions of the enforcers, with the path to them, and no credential.

use std::io::Write as _;
use std::process::{Command, Stdio};

use sandgate::model::{SandboxId, Timestamp, Transition};
use sandgate::store::{Sandboxes as _, SqliteStore};
use sandgate_policy::gateway_api::SandboxState;
use serde_json::json;

use super::command_line::Installation;
use super::contract_sandboxes::{new, ports};

/// A running sandbox `web` in a project of its own, with the exposed port 8080, and a key of the project.
struct Example {
    installation: Installation,
    sandbox: SandboxId,
    key: String,
}

impl Example {
    fn new() -> Self {
        Self::of(&json!({ "allow_internet_access": false, "allow_out": ["allowed.test"] }))
    }

    fn of(policy: &serde_json::Value) -> Self {
        let installation = Installation::new();
        let (project, key) = installation.create_project();
        let store = SqliteStore::open(&installation.data.join("sandgate.db")).unwrap();
        let mut wanted = new(Some("web"), &project);
        wanted.exposed_ports = ports(&[8080]);
        wanted.network_policy = serde_json::from_value(policy.clone()).unwrap();
        let sandbox = store.create_sandbox(&wanted, Timestamp::now()).unwrap().value.id;
        let running = Transition::Running("10.0.0.7".parse().unwrap());
        let from = [SandboxState::Pending];
        store.transition(&sandbox, &from, None, running, Timestamp::now()).unwrap().unwrap();
        Self { installation, sandbox, key: key["secret"].as_str().unwrap().to_owned() }
    }

    /// The exit status and the output, in which the key must not occur.
    fn explain(&self, arguments: &[&str], input: &str) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandgate"));
        command.arg("explain").args(arguments).arg("--data-dir").arg(&self.installation.data);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains(&self.key), "the output has the credential: {text}");
        (output.status.code().unwrap(), text)
    }
}

#[test]
fn a_request_is_explained_with_the_sandbox_the_caller_and_the_rule() {
    let example = Example::new();
    let url = "https://8080-web.sandbox.example.com/path?token=private";
    let (status, text) = example.explain(&[url, "-"], &example.key);
    assert_eq!(status, 0, "{text}");
    let sandbox = example.sandbox.as_str();
    for part in ["port 8080 of `web`", sandbox, "an API key of key_", "forward to 10.0.0.7:8080"] {
        assert!(text.contains(part), "`{part}` is missing: {text}");
    }
    assert!(!text.contains("private"), "the output has the query: {text}");
    for (port, credential, code) in [
        ("8080-", None, "UNAUTHENTICATED"),
        ("8080-", Some("tl_wrong"), "INVALID_CREDENTIALS"),
        ("8081-", Some(example.key.as_str()), "PORT_NOT_EXPOSED"),
        ("8080-no", Some(example.key.as_str()), "SANDBOX_NOT_FOUND"),
        ("99999-", None, "INVALID_HOST"),
    ] {
        let url = format!("https://{port}web.sandbox.example.com");
        let arguments: Vec<_> = std::iter::once(url.as_str()).chain(credential).collect();
        let (status, text) = example.explain(&arguments, "");
        assert_eq!(status, 3, "{url}: {text}");
        assert!(text.contains(code), "{url}: {text}");
        assert!(!text.contains("tl_wrong"), "{text}");
    }
}

#[test]
fn a_connection_is_explained_with_the_policy_and_the_rule() {
    let example = Example::new();
    for (destination, status, parts) in [
        ("allowed.test:443", 0, ["allow_out allowed.test", "a query for the name gets an address"]),
        ("elsewhere.test:443", 3, ["default deny", "a query for the name is denied"]),
        ("169.254.169.254:80", 3, ["guardrail 169.254.0.0/16", "1 entries in allow_out"]),
    ] {
        let (code, text) = example.explain(&["web", destination], "");
        assert_eq!(code, status, "{text}");
        for part in parts {
            assert!(text.contains(part), "`{part}` is missing: {text}");
        }
    }
    let json = example.explain(&["--json", "web", "elsewhere.test"], "").1;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["allowed"], &json["rule"]), (&json!(false), &json!("default deny")));
}

/// The mistake: a name that DNS forwards looks allowed, and the sidecar denies its address.
#[test]
fn a_name_whose_address_decides_is_never_explained_as_allowed() {
    let example = Example::of(&json!({ "deny_out": ["denied.test", "9.9.9.0/24"] }));
    let (status, text) = example.explain(&["web", "open.test:443"], "");
    assert_eq!(status, 4, "{text}");
    for part in
        ["allow, unless the address", "NAME@ADDRESS", "the addresses of the name", "--operator"]
    {
        assert!(text.contains(part), "`{part}` is missing: {text}");
    }
    let json = example.explain(&["--json", "web", "open.test:443"], "").1;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["allowed"], serde_json::Value::Null, "{json}");
    for (destination, status) in [
        ("open.test@169.254.169.254:443", 3),
        ("open.test@9.9.9.9:443", 3),
        ("open.test@8.8.8.8:443", 0),
        ("denied.test:443", 3),
    ] {
        let (code, text) = example.explain(&["web", destination], "");
        assert_eq!(code, status, "{destination}: {text}");
        assert!(text.contains("not seen"), "{text}");
    }
}

#[test]
fn what_can_not_be_explained_is_an_error() {
    let example = Example::new();
    for (arguments, error) in [
        (vec!["web"], "name a destination"),
        (vec!["nobody", "a.test:443"], "there is no sandbox `nobody`"),
        (vec!["web", "*.a.test:443"], "not a destination"),
        (vec!["ftp://8080-web.sandbox.example.com"], "must begin with"),
        (vec!["https://user:private@8080-web.sandbox.example.com"], "leave the user"),
        (vec!["https://localhost"], "not the host of a sandbox"),
    ] {
        let (status, text) = example.explain(&arguments, "");
        assert_eq!(status, 1, "{arguments:?}: {text}");
        assert!(text.contains(error) && !text.contains("private"), "{arguments:?}: {text}");
    }
}
