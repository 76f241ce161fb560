//! Concurrent work on many sandboxes. Projects alternate, so a platform that hangs for the sandboxes of one
//! project does not delay those of another.

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use crate::fair_queue::FairQueue;
use crate::model::Sandbox;

/// The bounds of the work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    /// The most sandboxes at once.
    pub(super) at_once: usize,
    /// The most sandboxes of one project at once.
    pub(super) at_once_per_project: usize,
    /// No work begins after this time.
    pub(super) until: Option<Instant>,
}

impl Batch {
    /// Does `work` for each sandbox. Returns when all work that began has ended.
    pub(super) async fn run<F>(self, sandboxes: Vec<Sandbox>, mut work: impl FnMut(Sandbox) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut queue = FairQueue::default();
        for sandbox in sandboxes {
            queue.push(sandbox.project_id.to_string(), sandbox);
        }
        let mut tasks = JoinSet::new();
        let mut projects: HashMap<Id, String> = HashMap::new();
        loop {
            while tasks.len() < self.at_once
                && self.until.is_none_or(|until| Instant::now() < until)
            {
                let is_below_bound = |project: &str| {
                    let of_project = projects.values().filter(|busy| *busy == project);
                    of_project.count() < self.at_once_per_project
                };
                let Some((project, sandbox)) = queue.pop(is_below_bound) else { break };
                let task = tasks.spawn(work(sandbox));
                projects.insert(task.id(), project);
            }
            let ended = match tasks.join_next_with_id().await {
                Some(Ok((task, ()))) => task,
                Some(Err(error)) => {
                    tracing::error!(%error, "a task for a sandbox failed");
                    error.id()
                }
                None => return,
            };
            projects.remove(&ended);
        }
    }
}
