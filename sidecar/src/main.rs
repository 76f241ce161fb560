//! The program `sandgate-sidecar`; the library contains all of its code.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandgate_sidecar::cli::main()
}
