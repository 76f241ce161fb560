//! The commands behind the Makefile's targets. `cargo xtask --help` lists them.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod check;
mod dist;
mod native;
mod process;
mod test;
mod tree;
mod wasm;

/// The development commands of Sandgate
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run all tests; the end of the output says what ran and what did not
    Test,
    /// Run the checks that need no test, or only those named; each says whether it held
    Check {
        /// Names of checks
        names: Vec<String>,
    },
    /// Build the Envoy filters as wasm modules into target/filters/
    Wasm,
    /// Build the Envoy filters as a dynamic module into target/filters/
    Native,
    /// Run the tests of the dynamic module with the address sanitizer
    NativeSanitizer,
    /// Build a release into target/dist/: programs, filters, OCI layouts, manifests, bill of materials, checksums
    Dist {
        /// Also build the container images, with this Envoy, named like name:tag@sha256:...
        #[arg(long)]
        envoy_image: Option<String>,
    },
    /// Write the images of the wasm modules as OCI layouts
    Oci {
        /// The folder to write to
        folder: std::path::PathBuf,
    },
    /// Print the bill of materials of a release
    Sbom,
    /// Measure a fleet (`propagation`, `xds`, or `store`), and write docs/benchmarks-fleet.md
    BenchFleet {
        /// What to measure
        part: String,
        /// Options of `sandgate-bench PART`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Measure Sandgate beside its alternatives, and write docs/benchmarks.md
    Bench {
        /// Options of `sandgate-bench run`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Test => test::run(),
        Command::Check { names } => check::run(&names),
        Command::Bench { options } => bench::measure(&options).map(|()| ExitCode::SUCCESS),
        Command::BenchFleet { part, options } => {
            bench::measure_fleet(&part, &options).map(|()| ExitCode::SUCCESS)
        }
        Command::Wasm => wasm::build().map(|()| ExitCode::SUCCESS),
        Command::Native => native::build().map(|()| ExitCode::SUCCESS),
        Command::Dist { envoy_image } => {
            dist::make(envoy_image.as_deref()).map(|()| ExitCode::SUCCESS)
        }
        Command::Oci { folder } => dist::write_modules(&folder).map(|()| ExitCode::SUCCESS),
        Command::Sbom => dist::sbom::make().map(|bill| {
            print!("{bill}");
            ExitCode::SUCCESS
        }),
        Command::NativeSanitizer => native::sanitizer::run_tests().map(|()| ExitCode::SUCCESS),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
