//! Tests of the sandbox behind a sidecar.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Output};

use super::*;

fn output(status: i32, stderr: &str) -> Output {
    Output { status: ExitStatus::from_raw(status << 8), stdout: Vec::new(), stderr: stderr.into() }
}

#[test]
fn without_root_there_is_no_sidecar() {
    let obstacle = find_obstacle(false, &|_| true, &|_, _| Ok(output(0, "")));
    assert_eq!(obstacle.unwrap(), "network namespaces need root");
}

#[test]
fn a_missing_program_is_named_with_the_command_that_installs_it() {
    let obstacle = find_obstacle(true, &|program| program != "nft", &|_, _| Ok(output(0, "")));
    assert_eq!(obstacle.unwrap(), "`nft` is missing; install it with: scripts/setup sidecar");
}

#[test]
fn a_refused_namespace_is_reported_with_the_first_line_of_the_reason() {
    let refuse = |_: &[&str], _: &str| Ok(output(1, "mount: Operation not permitted\nmore"));
    let obstacle = find_obstacle(true, &|_| true, &refuse).unwrap();
    let command = format!("ip netns add sandgate-probe-{}", std::process::id());
    assert!(
        obstacle.ends_with(&format!("(`{command}`: mount: Operation not permitted)")),
        "{obstacle}"
    );
}

#[test]
fn where_nothing_is_refused_there_can_be_a_sidecar() {
    assert_eq!(find_obstacle(true, &|_| true, &|_, _| Ok(output(0, ""))), None);
}
