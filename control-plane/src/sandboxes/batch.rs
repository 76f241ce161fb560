//! Work on many sandboxes, some at once. Projects take turns, so a platform that hangs for the
//! sandboxes of one project does not delay those of another.

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use crate::model::Sandbox;
use crate::project_queue::ProjectQueue;

/// The bounds of the work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    /// Sandboxes at once, in all.
    pub(super) at_once: usize,
    /// Sandboxes of one project at once.
    pub(super) each_project: usize,
    /// No work begins after this time. `None`: all work is done.
    pub(super) until: Option<Instant>,
}

impl Batch {
    /// Does `work` for each sandbox. Returns when all work that began has ended.
    pub(super) async fn run<F>(self, sandboxes: Vec<Sandbox>, mut work: impl FnMut(Sandbox) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut queue = ProjectQueue::default();
        for sandbox in sandboxes {
            queue.push(sandbox.project_id.clone(), sandbox);
        }
        let mut tasks = JoinSet::new();
        let mut projects: HashMap<Id, String> = HashMap::new();
        loop {
            while tasks.len() < self.at_once
                && self.until.is_none_or(|until| Instant::now() < until)
            {
                let has_place = |project: &str| {
                    projects.values().filter(|busy| *busy == project).count() < self.each_project
                };
                let Some((project, sandbox)) = queue.next(has_place) else { break };
                let task = tasks.spawn(work(sandbox));
                projects.insert(task.id(), project);
            }
            let ended = match tasks.join_next_with_id().await {
                Some(Ok((task, ()))) => task,
                Some(Err(error)) => {
                    tracing::error!(%error, "work on a sandbox ended early");
                    error.id()
                }
                None => return,
            };
            projects.remove(&ended);
        }
    }
}
