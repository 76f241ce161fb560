//! Stops and continues all processes below one, by signals. For machines where no cgroup can be written.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use crate::runtime::RuntimeError;

/// The longest time until all processes are stopped.
const LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(2);

/// What `/proc` says about a process or a thread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stat {
    parent: i32,
    is_stopped: bool,
}

/// Stops all descendants of a process. If they start processes faster than they are stopped, this fails, and some of them
/// may still run.
pub(super) async fn stop(root: i32) -> Result<(), RuntimeError> {
    let begun = Instant::now();
    // A process that was stopped after the list was read may have started another one that the list does not have. What it
    // started before that is in the next list.
    let mut clean_passes = 0;
    while clean_passes < 2 {
        if begun.elapsed() > LIMIT {
            return Err(RuntimeError::failed(format!(
                "the processes below {root} are not all stopped after {LIMIT:?}"
            )));
        }
        let all = parents();
        let moving: Vec<i32> = descendants(root, &all).filter(|pid| !is_stopped(*pid)).collect();
        clean_passes = if moving.is_empty() { clean_passes + 1 } else { 0 };
        send(&moving, Signal::SIGSTOP);
        if !moving.is_empty() {
            sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// Continues all descendants of a process.
pub(super) fn go_on(root: i32) {
    let pids: Vec<i32> = descendants(root, &parents()).collect();
    send(&pids, Signal::SIGCONT);
}

fn send(pids: &[i32], signal: Signal) {
    for pid in pids {
        // It fails if the process has ended.
        let _: nix::Result<()> = kill(Pid::from_raw(*pid), signal);
    }
}

/// The parent of each process of this machine.
fn parents() -> HashMap<i32, i32> {
    let pids = ids_in(Path::new("/proc"));
    pids.filter_map(|pid| Some((pid, read(&format!("/proc/{pid}/stat"))?.parent))).collect()
}

/// Whether all threads of a process are stopped. The first thread may have ended while others run.
fn is_stopped(pid: i32) -> bool {
    let folder = format!("/proc/{pid}/task");
    let threads: Vec<i32> = ids_in(Path::new(&folder)).collect();
    // A thread that has ended since does nothing.
    threads.iter().all(|id| read(&format!("{folder}/{id}/stat")).is_none_or(|stat| stat.is_stopped))
}

fn ids_in(folder: &Path) -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn read(path: &str) -> Option<Stat> {
    parse(&std::fs::read_to_string(path).ok()?)
}

/// Parses `/proc/PID/stat`. The name of the program, in parentheses, may contain anything.
fn parse(stat: &str) -> Option<Stat> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let is_stopped = matches!(fields.next()?, "T" | "t" | "Z" | "X");
    Some(Stat { parent: fields.next()?.parse().ok()?, is_stopped })
}

fn descendants(root: i32, parents: &HashMap<i32, i32>) -> impl Iterator<Item = i32> {
    let is_below = move |mut pid: i32| {
        // The list is not read at one moment, and ids are used again, so it may have a loop.
        for _ in 0..parents.len() {
            match parents.get(&pid) {
                Some(parent) if *parent == root => return true,
                Some(parent) => pid = *parent,
                None => return false,
            }
        }
        false
    };
    parents.keys().copied().filter(move |pid| is_below(*pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_program_does_not_confuse() {
        let stat = parse("7 (a) T 1 (b) S 5 7 7 0").unwrap();
        assert_eq!(stat, Stat { parent: 5, is_stopped: false });
        assert_eq!(parse("7 (x) T 5 7").unwrap(), Stat { parent: 5, is_stopped: true });
    }

    #[test]
    fn only_what_is_below_the_root_belongs_to_it() {
        let parents = [(1, 0), (5, 1), (6, 5), (7, 6), (9, 1)].into();
        let mut found: Vec<i32> = descendants(5, &parents).collect();
        found.sort_unstable();
        assert_eq!(found, [6, 7]);
    }

    /// Three processes that start others all the time. They are killed when this is dropped.
    struct Forking(std::process::Child);

    impl Forking {
        fn start(ticks: &Path) -> Self {
            use std::os::unix::process::CommandExt as _;

            let script =
                "for i in 1 2 3; do ( while :; do /bin/echo $i >>\"$0\"; done ) & done; wait";
            let mut command = std::process::Command::new("sh");
            command.args(["-c", script]).arg(ticks).process_group(0);
            Self(command.spawn().unwrap())
        }

        fn id(&self) -> i32 {
            self.0.id().try_into().unwrap()
        }
    }

    impl Drop for Forking {
        fn drop(&mut self) {
            let _: nix::Result<()> =
                nix::sys::signal::killpg(Pid::from_raw(self.id()), Signal::SIGKILL);
            drop(self.0.wait());
        }
    }

    #[tokio::test]
    async fn processes_that_start_others_all_the_time_are_stopped_and_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let ticks = folder.path().join("ticks");
        let count = || std::fs::metadata(&ticks).map_or(0, |found| found.len());
        let forking = Forking::start(&ticks);
        for _ in 0..5 {
            let before = count();
            while count() == before {
                sleep(PAUSE).await;
            }
            stop(forking.id()).await.unwrap();
            let stopped = count();
            sleep(Duration::from_millis(50)).await;
            assert_eq!(count(), stopped);
            go_on(forking.id());
        }
    }
}
