//! Starts the program of a sandbox.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::BufReader;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use super::place::Place;
use super::{Shared, folder, launch};
use crate::model::Sandbox;
use crate::runtime::RuntimeError;
use crate::runtime::program::{arguments, drain, no_pipe, wait_until_ready};

/// The longest time until a program listens.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// The path in the folder of the server on which the program is mounted for a sandbox, whose user may not be able to reach the
/// original.
pub(super) const PROGRAM: &str = "program";

/// Gives the sandbox files of its own in the mount namespace of `ip netns exec`, and runs the program as its
/// user, who can start a bounded number of processes, in a namespace of process ids, which the kernel ends with all its processes when its first process ends.
///
/// That one is a shell, because it also waits for processes whose parents have ended. It gives the program its own standard
/// input, which a process in the background would not have.
const LAUNCH: &str = r#"
set -e
program=$1 mounted_program=$2 uid=$3; shift 3
mount --bind "$program" "$mounted_program"
for place in /tmp /var/tmp /dev/shm; do
  [ ! -d "$place" ] || mount -t tmpfs -o size=64m,mode=1777,nosuid,nodev sandbox "$place"
done
cd /tmp
exec prlimit --nproc=512 --core=0 -- unshare --mount --pid --fork --kill-child=KILL --mount-proc -- \
  setpriv --reuid "$uid" --regid "$uid" --clear-groups --no-new-privs \
  --inh-caps -all --bounding-set -all --pdeathsig KILL -- \
  sh -c 'exec 3<&0; "$@" <&3 3<&- & wait $!' init "$mounted_program" "$@"
"#;

/// A running program.
pub(super) struct Guest {
    pub(super) child: Child,
    /// The program ends when this is closed.
    pub(super) stdin: Option<ChildStdin>,
}

/// Starts the program, and waits until it prints `ready`.
pub(super) async fn start(
    shared: &Shared,
    place: &Place,
    sandbox: &Sandbox,
) -> Result<Guest, RuntimeError> {
    let mut child = command(shared, place, sandbox).spawn().map_err(|error| {
        RuntimeError::failed(format!("`setpriv` (util-linux) can't be started: {error}"))
    })?;
    let stdin = child.stdin.take();
    let mut stdout = BufReader::new(child.stdout.take().ok_or_else(no_pipe)?);
    match timeout(READY_WITHIN, wait_until_ready(&mut stdout)).await {
        Ok(ready) => ready?,
        Err(_) => return Err(RuntimeError::TimedOut(READY_WITHIN)),
    }
    tokio::spawn(drain(stdout));
    Ok(Guest { child, stdin })
}

fn command(shared: &Shared, place: &Place, sandbox: &Sandbox) -> Command {
    let settings = &shared.settings;
    let [cgroup, _] = place.cgroups(shared);
    let mut command = launch::script(&place.sandbox, cgroup.as_ref(), LAUNCH);
    command.arg(&settings.program).arg(folder(&shared.prefix).join(PROGRAM));
    command.arg(place.program_uid(shared).to_string());
    command.args(arguments(sandbox, place.block.sandbox().into()));
    command
        .env("HOME", "/tmp")
        // The demo runs commands for callers of this project only.
        .env("SANDGATE_DEMO_PROJECT", sandbox.project_id.as_str())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    command
}
