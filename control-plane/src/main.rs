//! The `sandgate` program; everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandgate::cli::main()
}
