//! Every promise about a sandbox's way out, kept by the real parts; one file for each promise.
//!
//! A program of its own and not the usual test harness: what can't run on a machine is counted as not run,
//! and never as passed. With `CI=true` everything must run.

#![expect(clippy::indexing_slicing, reason = "a test that panics has failed")]

mod accounts;
mod bounds;
mod bypass;
mod containers;
mod contract;
mod control_plane;
mod failures;
mod hellos;
mod inbound;
mod names;
mod off;
mod open;
mod requests;
mod shared;
mod support;
mod updates;
mod words;

fn main() -> std::process::ExitCode {
    support::run(&[
        off::TESTS,
        contract::TESTS,
        names::TESTS,
        bypass::TESTS,
        hellos::TESTS,
        requests::TESTS,
        open::TESTS,
        words::TESTS,
        updates::TESTS,
        failures::TESTS,
        bounds::TESTS,
        accounts::TESTS,
        inbound::TESTS,
        control_plane::TESTS,
        shared::TESTS,
        containers::TESTS,
    ])
}
