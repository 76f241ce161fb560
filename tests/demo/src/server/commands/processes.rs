//! All processes of the sandbox: those that run, and the last ones that have ended.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::StatusCode;

use super::process::Process;
use super::refusal::Refusal;
use super::spec::Spec;

/// The most processes that run at the same time.
const MOST_RUNNING: usize = 32;
/// The most that are kept with their output, including those that run.
const MOST_KEPT: usize = 64;

/// The processes in the order of their starts.
#[derive(Debug, Default)]
pub(super) struct Processes {
    all: Mutex<VecDeque<Arc<Process>>>,
    started: AtomicU64,
}

impl Processes {
    pub(super) fn start(
        &self,
        spec: Spec,
        directory: &Path,
        longest: Duration,
    ) -> Result<Arc<Process>, Refusal> {
        let time_limit = spec.time_limit(longest)?;
        // Held during the start, so that the number of processes can't exceed the limit.
        let mut all = self.all();
        if all.iter().filter(|process| process.is_running()).count() >= MOST_RUNNING {
            return Err(Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "TOO_MANY_PROCESSES",
                format!("{MOST_RUNNING} processes run already; wait for one to end or kill one"),
            ));
        }
        // Unique on the machine: the programs of several sandboxes may share a user.
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let marker = format!("{}.{}.{number}", std::process::id(), super::now());
        let process = Process::start(spec, directory, marker, time_limit)?;
        while all.len() >= MOST_KEPT {
            let Some(oldest) = all.iter().position(|process| !process.is_running()) else { break };
            all.remove(oldest);
        }
        all.push_back(process.clone());
        Ok(process)
    }

    /// The newest process with this id, because ids are used again.
    pub(super) fn find(&self, pid: &str) -> Result<Arc<Process>, Refusal> {
        let wanted: Option<i32> = pid.parse().ok();
        let all = self.all();
        let found = all.iter().rev().find(|process| Some(process.pid()) == wanted).cloned();
        found.ok_or_else(|| {
            let message = format!("there is no process `{pid}`; list them for those that exist");
            Refusal::new(StatusCode::NOT_FOUND, "PROCESS_NOT_FOUND", message)
        })
    }

    pub(super) fn list(&self) -> Vec<Arc<Process>> {
        self.all().iter().cloned().collect()
    }

    pub(super) fn running(&self) -> impl Iterator<Item = Arc<Process>> {
        self.list().into_iter().filter(|process| process.is_running())
    }

    /// The number of all processes that were started.
    pub(super) fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<Arc<Process>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
