//! The benchmarks themselves: every way that is compared answers correctly, and a small fleet can be measured.

#![expect(clippy::unwrap_used, reason = "how these tests fail")]

use std::process::Command;

fn measure(arguments: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_sandgate-bench");
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_way_answers_correctly() {
    measure(&["run", "--smoke"]);
}

#[test]
fn a_change_reaches_a_small_fleet() {
    let small = ["--envoys", "2", "--changes", "3", "--rate", "20", "--print"];
    let text = measure(&[&["propagation"], &small[..]].concat());
    assert!(text.contains("3 changes, 2 Envoys"), "{text}");
}

#[test]
fn a_few_nodes_get_their_changes_and_reconnect() {
    let text = measure(&["xds", "--nodes", "50", "--rate", "50", "--seconds", "1", "--print"]);
    assert!(text.contains("50 nodes with"), "{text}");
}

#[test]
fn both_stores_are_measured() {
    let text = measure(&["store", "--many", "3000", "--rounds", "2", "--print"]);
    assert!(text.contains("| PostgreSQL | 3000 |"), "{text}");
}
