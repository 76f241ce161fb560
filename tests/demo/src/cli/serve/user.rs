//! The user that the program becomes if it was started as root.
//!
//! The whole program changes, not only its commands: so the call that reads a file has no other
//! rights than a command that reads it, and there is no step between `fork` and `exec` to get wrong.

use std::fs::File;

use anyhow::{Context, ensure};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{
    Gid, Pid, Uid, geteuid, getpgid, getpid, getppid, getsid, setgroups, setpgid, setresgid,
    setresuid, setsid,
};

/// A number that no distribution assigns, and not that of the sidecar's Envoy (64321).
pub(super) const DEFAULT: u32 = 64400;

/// The most processes and threads of the user, whom all demos that were started as root share.
const PROCESSES: u64 = 4096;
/// The largest file that a command writes, in bytes.
const FILE: u64 = 256 << 20;

/// Reads a number of a user without rights.
pub(super) fn parse(text: &str) -> Result<u32, String> {
    match text.parse() {
        // The last one stands for "no change" in the system's calls.
        Ok(uid) if uid != 0 && uid != u32::MAX => Ok(uid),
        _ => Err("it takes the number of a user that is not root".to_owned()),
    }
}

/// Limits the program and everything that it starts. Started as root, it becomes the user `uid`.
pub(super) fn limit(uid: u32) -> anyhow::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("cannot forbid core dumps")?;
    setrlimit(Resource::RLIMIT_FSIZE, FILE, FILE).context("cannot limit the size of files")?;
    if geteuid().is_root() {
        // Its limit would count all other processes of a user who works on this machine.
        setrlimit(Resource::RLIMIT_NPROC, PROCESSES, PROCESSES)
            .context("cannot limit the number of processes")?;
        leave_terminal().context("cannot leave the terminal")?;
        become_user(uid).with_context(|| format!("cannot become user {uid}"))?;
    }
    // Commands run as the same user. They must not read its environment, which names the project, or change its memory.
    prctl::set_dumpable(false).context("cannot forbid other processes to trace this one")?;
    // Set-user-ID programs and file capabilities have no effect from here on.
    prctl::set_no_new_privs().context("cannot forbid new privileges")?;
    Ok(())
}

/// Begins a session of its own if the program has a terminal. A command could type into root's.
fn leave_terminal() -> nix::Result<()> {
    let has_terminal = File::open("/dev/tty").is_ok();
    // The terminal of a container's first process is its own.
    let leads_session = getsid(None)? == getpid();
    if !has_terminal || leads_session {
        return Ok(());
    }
    if setsid().is_err() {
        // The first process of a group can't, and a shell starts a program as one. The group of the shell is another one.
        setpgid(Pid::from_raw(0), getpgid(Some(getppid()))?)?;
        setsid()?;
    }
    Ok(())
}

fn become_user(uid: u32) -> anyhow::Result<()> {
    // The kernel clears it when the user changes.
    let deathsig = prctl::get_pdeathsig()?;
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    ensure!(setresuid(Uid::from_raw(0), user, user).is_err(), "root can be taken back");
    prctl::set_pdeathsig(deathsig)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_numbers_that_mean_no_change_are_refused() {
        assert_eq!(parse("64401"), Ok(64401));
        for wrong in ["0", "-1", "4294967295", "4294967296", "root", ""] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
