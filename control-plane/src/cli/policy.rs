//! `sandgate policy check`: prints the verdicts of a network policy, by the function that enforces it.

mod destination;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
pub(super) use destination::CheckedDestination;
use sandgate_policy::egress::{NetworkPolicy, OperatorSettings, Policy};
use serde::de::DeserializeOwned;

use super::output::Output;

/// The exit status if at least one destination is denied.
const DENIED: u8 = 3;
/// The maximum number of bytes of a file: two full lists of the longest entries, with room for whitespace.
const MAX_BYTES: u64 = 4 * 1_024 * 1_024;

/// `sandgate policy`.
#[derive(Subcommand)]
pub(super) enum PolicyCommand {
    /// Show which destinations a policy allows, and by which rule
    ///
    /// Prints a line for each destination: `allow` or `deny`, the destination, and the rule, separated by tabs. The
    /// command resolves no names and opens no connections.
    ///
    /// Exit status: 0 if all destinations are allowed, 3 if at least one is denied, 1 if the policy or a destination is
    /// not valid.
    Check(Check),
}

/// The options of `sandgate policy check`.
#[derive(Args)]
pub(super) struct Check {
    /// Network policy as JSON, in the form of the field `network` of the API; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Settings of the operator: `{"rule_order": "allow_first", "protected": [], "also_global": []}`
    #[arg(long, value_name = "FILE")]
    operator: Option<PathBuf>,
    /// Destination: an address; a name, regardless of its addresses; or `NAME@ADDRESS`, a connection to the address with
    /// the name as its SNI or Host. A port may follow (`NAME:PORT`, `[IPV6]:PORT`), and after an address a protocol
    /// (`ADDRESS:PORT/udp`, `ADDRESS/icmp`). A port is necessary if the verdict depends on it
    #[arg(required = true, value_name = "DESTINATION")]
    destinations: Vec<CheckedDestination>,
}

impl PolicyCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Check(check) = self;
        let network: NetworkPolicy = read("--policy", &check.policy)?;
        let operator = match &check.operator {
            Some(file) => read("--operator", file)?,
            None => OperatorSettings::default(),
        };
        let policy = Policy::new(&network, &operator);
        let mut all_allowed = true;
        let mut lines = String::new();
        for asked in check.destinations {
            let (allowed, rule) = asked.evaluate(&policy)?;
            let word = if allowed { "allow" } else { "deny" };
            all_allowed &= allowed;
            lines.push_str(&format!("{word}\t{asked}\t{rule}\n"));
        }
        Output::plain(&lines)?;
        Ok(if all_allowed { ExitCode::SUCCESS } else { ExitCode::from(DENIED) })
    }
}

pub(super) fn read<T: DeserializeOwned>(option: &str, path: &Path) -> anyhow::Result<T> {
    let name = || format!("{option} {}", path.display());
    let mut bytes = Vec::new();
    let found = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_BYTES).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes))
    };
    found.with_context(|| format!("{} can't be read", name()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not valid", name()))
}
