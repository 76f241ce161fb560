//! End-to-end tests of the sidecar with the real programs, with one file for each area.
//!
//! The harness is the one of `support.rs`: tests that can't run on a machine are ignored, and fail with `CI=true`.

#![expect(clippy::indexing_slicing, reason = "a test that panics has failed")]

use sandgate_egress_tests::connection_holder::{HOLD, hold};

mod accounts;
mod atomic;
mod bounds;
mod bypass;
mod containers;
mod contract;
mod control_plane;
mod denied_addresses;
mod failures;
mod hellos;
mod hidden;
mod http;
mod http2;
mod inbound;
mod interrupted;
mod kernel;
mod link_local;
mod many;
mod names;
mod neighbours;
mod off;
mod open;
mod operator;
mod pins;
mod ports;
mod rebinding;
mod refused;
mod requests;
mod retries;
mod shared;
mod support;
mod tails;
mod text_protocols;
mod tuples;
mod updates;

// The table of HTTP that ingress and egress share, and HTTP at the level of bytes.
#[path = "../../../http/exchange.rs"]
mod http_exchange;
#[path = "../../../http/frames.rs"]
mod http_frames;
#[path = "../../../http/table.rs"]
mod http_table;
#[path = "../../../http/wire.rs"]
mod http_wire;
#[path = "../../../harness/trial.rs"]
mod trial;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((HOLD, arguments)) =
        arguments.split_first().map(|(first, rest)| (first.as_str(), rest))
    {
        return support::exit(hold(arguments));
    }
    let files = &[
        off::TESTS,
        refused::TESTS,
        contract::TESTS,
        names::TESTS,
        ports::TESTS,
        pins::TESTS,
        rebinding::TESTS,
        denied_addresses::TESTS,
        bypass::TESTS,
        hellos::TESTS,
        hidden::TESTS,
        requests::TESTS,
        retries::TESTS,
        http::TESTS,
        http2::TESTS,
        tails::TESTS,
        open::TESTS,
        many::TESTS,
        text_protocols::TESTS,
        updates::TESTS,
        atomic::TESTS,
        operator::TESTS,
        failures::TESTS,
        bounds::TESTS,
        accounts::TESTS,
        interrupted::TESTS,
        inbound::TESTS,
        tuples::TESTS,
        link_local::TESTS,
        kernel::TESTS,
        neighbours::TESTS,
        control_plane::TESTS,
        shared::TESTS,
    ];
    support::run(files, containers::TESTS)
}
