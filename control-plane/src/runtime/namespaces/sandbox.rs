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
use crate::runtime::program::{arguments, drain, log, no_pipe, wait_until_ready};

/// The longest time until a program listens.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// A folder in the folder of the server on which the sandbox's own `/run` is built.
pub(super) const RUN: &str = "run";
/// Where the program is in a sandbox, whose user may not be able to reach the original.
const PROGRAM: &str = "/run/program";

/// Gives the sandbox files of its own in the mount namespace of `ip netns exec`, and runs the program as its
/// user, who can start a bounded number of processes, in a namespace of process ids, which the kernel ends with all its processes when its first process ends.
///
/// `/run` has the sockets of this machine's services, such as resolvers, which a network namespace doesn't hide, and the names
/// of all sandboxes. `/etc/resolv.conf` may be a link to a file there.
///
/// The first process is a shell, because it also waits for processes whose parents have ended. It stays root, so that no process of
/// the sandbox can change it or read its environment. It gives the program its own standard input, which a process in the
/// background would not have.
const LAUNCH: &str = r#"
set -e
umask 022
program=$1 run=$2 uid=$3; shift 3
echo 1000 >/proc/self/oom_score_adj
mount -t tmpfs -o size=1m,nr_inodes=64,mode=755,nosuid,nodev sandbox "$run"
touch "$run/program"
mount --bind "$program" "$run/program"
for file in /etc/resolv.conf /etc/nsswitch.conf; do
  target=$(readlink -f "$file") || continue
  case $target in
    /run/*) mkdir -p "$run$(dirname "${target#/run}")"; cat "$file" >"$run${target#/run}";;
  esac
done
mount -o remount,bind,ro "$run"
umount -l /run/netns
mount --rbind "$run" /run
for place in /tmp /var/tmp /dev/shm; do
  [ ! -d "$place" ] || mount -t tmpfs -o size=64m,nr_inodes=16k,mode=1777,nosuid,nodev sandbox "$place"
done
for place in /var/run /etc/netns /dev/mqueue; do
  [ -L "$place" ] || [ ! -d "$place" ] || mount -t tmpfs -o ro,size=4k,nr_inodes=2,mode=755 sandbox "$place"
done
mount -o remount,bind,ro /
cd /tmp
exec prlimit --nproc=512 --core=0 -- \
  unshare --mount --pid --ipc --uts --fork --kill-child=KILL --mount-proc -- \
  sh -c 'uid=$1; shift; exec 3<&0; setpriv --reuid "$uid" --regid "$uid" --clear-groups --no-new-privs \
    --inh-caps -all --bounding-set -all -- "$@" <&3 3<&- & wait $!' init "$uid" "$@"
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
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(log(stderr, sandbox.id.clone()));
    }
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
    command.arg(&settings.program).arg(folder(&shared.prefix).join(RUN));
    command.arg(place.program_uid(shared).to_string()).arg(PROGRAM);
    command.args(arguments(sandbox, place.block.sandbox().into()));
    command
        .env("HOME", "/tmp")
        // The demo runs commands for callers of this project only.
        .env("SANDGATE_DEMO_PROJECT", sandbox.project_id.as_str())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}
