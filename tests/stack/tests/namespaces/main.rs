//! Sandboxes in network namespaces, through the control plane's public API, with real sidecars and Envoys.
//!
//! Where namespaces can't be created, the tests are ignored, with the reason in brackets before their names. With `CI=true`
//! they fail instead.

#![expect(clippy::unwrap_used, reason = "how these tests fail")]

mod enforcement;
mod fallback;
mod far_side;
mod inside;
mod lifecycle;
mod machine;
mod rounds;
mod suspension;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed};

#[path = "../../../harness/trial.rs"]
mod trial;

use self::trial::trial;

type Test = (&'static str, fn() -> Result<()>);

/// The list of tests, by the names of their functions.
macro_rules! tests {
    ($($module:ident: $($name:ident),* $(,)?;)*) => {
        [$($((stringify!($name), $module::$name as fn() -> Result<()>)),*),*]
    };
}

fn main() -> ExitCode {
    let far_side::Again { arguments } = far_side::Again::from_arguments();
    if let Some(arguments) = arguments {
        far_side::own_network(&arguments);
    }
    let tests: Vec<Test> = tests! {
        lifecycle:
            a_sandbox_is_created_and_removed_with_all_that_belongs_to_it,
            the_next_server_starts_the_sandboxes_of_a_killed_one_again,
            a_sandbox_whose_sidecar_dies_ends_and_can_be_resumed,
            two_servers_do_not_touch_one_anothers_sandboxes,
            a_range_that_the_machine_uses_is_refused;
        enforcement:
            a_policy_is_enforced_from_inside_and_a_change_closes_connections,
            nothing_leaves_before_the_policy_is_enforced,
            a_sandbox_reaches_neither_another_one_nor_the_machine;
        inside:
            a_sandbox_finds_nothing_of_the_machine_and_of_other_sandboxes,
            a_gateway_opens_no_connection_to_this_machine_and_unused_addresses_lead_nowhere;
        suspension:
            a_suspended_sandbox_goes_on_where_it_stopped,
            a_sandbox_that_starts_processes_all_the_time_is_suspended;
        far_side:
            two_runs_have_internets_of_their_own_and_a_killed_run_leaves_nothing,
            the_next_start_removes_what_was_left,
            no_link_connects_the_internet_to_the_machine;
        fallback:
            without_root_policies_are_refused_and_the_run_says_so,
            in_a_restricted_container_policies_are_refused_and_the_run_says_so;
        rounds:
            sandboxes_that_come_and_go_leave_nothing;
    }
    .into();
    let obstacle = sandgate_netns::obstacle();
    let arguments = Arguments::from_args();
    let trials = tests.into_iter().map(|(name, test)| {
        trial(&arguments, name, obstacle.clone(), move || {
            test().map_err(|error| Failed::from(format!("{error:?}")))
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
