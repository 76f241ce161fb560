//! The children of this process, including those that it adopted.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// A process that creates others faster than they are killed is stopped by the limit on the user's
/// processes.
const ROUNDS: u32 = 200;

/// Kills and waits for all descendants. The children of a killed child become children of this
/// process, so it ends when there are none.
pub(super) fn kill_all() {
    for _ in 0..ROUNDS {
        let children = children();
        if children.is_empty() {
            return;
        }
        for child in children {
            // Both fail if it has been waited for meanwhile.
            let _: nix::Result<()> = kill(child.pid, Signal::SIGKILL);
            let _: nix::Result<_> = waitpid(child.pid, Some(WaitPidFlag::WNOHANG));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for the zombies that nobody else waits for.
pub(super) fn reap(is_awaited: impl Fn(i32) -> bool) {
    for child in children() {
        if child.is_zombie && !is_awaited(child.pid.as_raw()) {
            let _: nix::Result<_> = waitpid(child.pid, Some(WaitPidFlag::WNOHANG));
        }
    }
}

struct Child {
    pid: Pid,
    is_zombie: bool,
}

fn children() -> Vec<Child> {
    let me = std::process::id().to_string();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| child_of(&me, pid)).collect()
}

fn child_of(parent: &str, pid: i32) -> Option<Child> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program may contain anything, but no `)` follows it.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let (state, ppid) = (fields.next()?, fields.next()?);
    (ppid == parent).then(|| Child { pid: Pid::from_raw(pid), is_zombie: state == "Z" })
}
