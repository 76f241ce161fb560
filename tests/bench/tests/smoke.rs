//! The benchmark itself: every way that it compares answers correctly.

use std::process::Command;

#[test]
fn every_way_answers_correctly() {
    let program = env!("CARGO_BIN_EXE_sandgate-bench");
    let output = Command::new(program).args(["run", "--smoke"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
}
