//! The command line of `sandgate-sidecar`.

use std::fs;
use std::process::Command;

#[test]
fn an_agent_that_cannot_start_removes_the_reports_of_a_killed_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (name, text) in [("policy", "{}"), ("ready", "7\n"), ("status", "{}"), ("metrics", "")] {
        fs::write(path(name), text).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_sandgate-sidecar"))
        .args([
            "--sandbox-interface",
            "lo",
            "--filter",
            "none",
            "--resolver",
            "127.0.0.1",
            "--envoy",
            "/bin/true",
        ])
        .arg("--policy-file")
        .arg(path("policy"))
        .arg("--operator-file")
        .arg(path("missing"))
        .arg("--ready-file")
        .arg(path("ready"))
        .arg("--status-file")
        .arg(path("status"))
        .arg("--metrics-file")
        .arg(path("metrics"))
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("missing"), "{error}");
    for name in ["ready", "status", "metrics"] {
        assert!(!path(name).exists(), "{name}");
    }
}
