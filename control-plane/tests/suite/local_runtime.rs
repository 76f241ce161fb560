//! The local runtime with real processes: a script with the interface of `sandgate-demo`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandgate::model::{ExposedPorts, Sandbox, SandboxId, SandboxName, Timestamp};
use sandgate::runtime::{Exited, LocalRuntime, LocalSettings, Runtime as _};
use sandgate_policy::gateway_api::SandboxState;
use tokio::sync::mpsc;

/// A program that logs its arguments, and runs until its standard input ends.
const SANDBOX_SCRIPT: &str = "echo starting; echo ready; while read -r line; do :; done";

/// Creates a program that runs `script`, with a log file in `$LOG`.
pub(crate) fn program(dir: &Path, script: &str) -> PathBuf {
    let path = dir.join("sandbox.sh");
    let log = dir.join("log");
    let text = format!(
        "#!/bin/sh\nLOG='{}'\necho \"$$ $* secret=$SANDGATE_TEST_SECRET project=$SANDGATE_DEMO_PROJECT\" >> \"$LOG\"\n{script}\n",
        log.display()
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The lines of the program's log, one for each start.
pub(crate) fn started_processes(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Returns true if the process of a line of the log still runs.
pub(crate) fn is_running(line: &str) -> bool {
    let pid = line.split(' ').next().unwrap();
    // A zombie has ended, and its parent has not waited for it yet.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn runtime(dir: &Path, script: &str) -> (LocalRuntime, mpsc::UnboundedReceiver<Exited>) {
    let (exits, exited) = mpsc::unbounded_channel();
    let network = "127.91.0.0/24".parse().unwrap();
    let settings = LocalSettings { program: program(dir, script), network };
    (LocalRuntime::new(settings, exits).unwrap(), exited)
}

fn sandbox(id: &str) -> Sandbox {
    Sandbox {
        id: SandboxId::parse(id).unwrap(),
        name: Some(SandboxName::parse("my-env").unwrap()),
        organization_id: "org_1".parse().unwrap(),
        project_id: "project_1".parse().unwrap(),
        state: SandboxState::Pending,
        address: None,
        generation: 0,
        exposed_ports: ExposedPorts::default(),
        allow_unauthenticated_access: false,
        auto_resume: true,
        network_policy: sandgate_policy::egress::NetworkPolicy::default(),
        network_policy_revision: 0,
        placement: 1,
        suspension_unconfirmed: false,
        spec: serde_json::Map::new(),
        created_at: Timestamp::from_millis(0),
        sequence: 1,
    }
}

const ONE: &str = "aaaaaaaaaaaaaaaaaaaa1";
const TWO: &str = "aaaaaaaaaaaaaaaaaaaa2";

#[tokio::test]
async fn each_sandbox_is_a_process_with_its_own_address() {
    let dir = tempfile::tempdir().unwrap();
    let (runtime, _exited) = runtime(dir.path(), SANDBOX_SCRIPT);
    let (one, two) = (sandbox(ONE), sandbox(TWO));
    let first = runtime.start(&one).await.unwrap();
    let second = runtime.start(&two).await.unwrap();
    assert_ne!(first, second);
    let lines = started_processes(dir.path());
    let expected = format!(
        "serve --address {first} --id {ONE} --name my-env --exit-with-parent secret= project=project_1"
    );
    assert!(lines[0].ends_with(&expected), "{}", lines[0]);
    runtime.suspend(&one).await.unwrap();
    assert!(!is_running(&lines[0]) && is_running(&lines[1]));
    let third = runtime.resume(&one).await.unwrap();
    assert!(third != first && third != second, "a freed address is not used again at once");
    runtime.stop(&two).await.unwrap();
    runtime.stop(&two).await.unwrap();
    runtime.shut_down().await;
    assert!(started_processes(dir.path()).iter().all(|line| !is_running(line)));
}

#[tokio::test]
async fn only_a_sandbox_that_ends_without_a_call_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (runtime, mut exited) = runtime(dir.path(), "echo ready; read -r line; exit 3");
    let first = runtime.start(&sandbox(ONE)).await.unwrap();
    runtime.suspend(&sandbox(ONE)).await.unwrap();
    let second = runtime.start(&sandbox(ONE)).await.unwrap();
    assert_ne!(first, second);
    let pid = started_processes(dir.path())[1].split(' ').next().unwrap().to_owned();
    std::process::Command::new("kill").args(["-9", &pid]).status().unwrap();
    let report =
        tokio::time::timeout(Duration::from_secs(5), exited.recv()).await.unwrap().unwrap();
    assert_eq!((report.id.as_str(), report.address), (ONE, second));
    assert!(exited.try_recv().is_err());
}

#[tokio::test]
async fn a_failing_program_is_started_on_other_addresses_before_the_start_fails() {
    let dir = tempfile::tempdir().unwrap();
    let (runtime, _exited) = runtime(dir.path(), "echo no; exit 1");
    let error = runtime.start(&sandbox(ONE)).await.unwrap_err();
    assert!(error.to_string().contains("ended before it was ready"), "{error}");
    let addresses: std::collections::BTreeSet<_> = started_processes(dir.path())
        .iter()
        .map(|line| line.split(' ').nth(3).unwrap().to_owned())
        .collect();
    assert_eq!(addresses.len(), 3);
}

#[tokio::test]
async fn the_error_names_a_missing_program() {
    let dir = tempfile::tempdir().unwrap();
    let (exits, _exited) = mpsc::unbounded_channel();
    let network = "127.91.0.0/24".parse().unwrap();
    let settings = LocalSettings { program: dir.path().join("nothing"), network };
    let runtime = LocalRuntime::new(settings, exits).unwrap();
    let error = runtime.start(&sandbox(ONE)).await.unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");
}

#[tokio::test]
async fn a_range_of_other_than_loopback_addresses_is_refused() {
    let (exits, _exited) = mpsc::unbounded_channel();
    for network in ["10.0.0.0/16", "126.0.0.0/7", "127.0.0.0/30", "0.0.0.0/0"] {
        let settings = LocalSettings { program: "/x".into(), network: network.parse().unwrap() };
        assert!(LocalRuntime::new(settings, exits.clone()).is_err(), "{network}");
    }
}
