//! Processes that left the process group of their command.
//!
//! `setsid` leaves a group, and a double fork leaves the parent. The environment at the start of a
//! program remains readable in `/proc`, so the marker finds both. A program that starts another one
//! with an empty environment escapes until the demo ends.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::spec::MARKER;

/// A process that forks faster than this kills it is stopped by the limit on the user's processes.
const ROUNDS: usize = 20;

/// Kills all processes that have `marker`, until there are none. It blocks.
pub(super) fn kill_marked(marker: &str) {
    let variable = format!("{MARKER}={marker}");
    for _ in 0..ROUNDS {
        let found = marked(variable.as_bytes());
        if found.is_empty() {
            return;
        }
        for pid in found {
            // It may have ended meanwhile.
            let _: nix::Result<()> = kill(pid, Signal::SIGKILL);
        }
    }
}

fn marked(variable: &[u8]) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has_it = |pid: &i32| {
        // Those of other users can't be read. The environment of a zombie is empty.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|it| it == variable)
    };
    pids.filter(has_it).map(Pid::from_raw).collect()
}
