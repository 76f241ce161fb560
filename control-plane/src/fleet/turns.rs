//! Work on many sandboxes, some at once. Projects take turns, so a platform that hangs for the
//! sandboxes of one project does not delay those of another.

use std::collections::{HashMap, VecDeque};

use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use crate::model::Sandbox;

/// How much is done at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turns {
    /// In all.
    pub(super) at_once: usize,
    /// For one project.
    pub(super) each_project: usize,
    /// After that, no work begins. Without it, all work is done.
    pub(super) until: Option<Instant>,
}

/// Sandboxes that wait, in their order, by project; the project whose turn is next comes first.
struct Queue {
    waiting: VecDeque<(String, VecDeque<Sandbox>)>,
}

impl Turns {
    /// Does `work` for each sandbox and waits for the end of all that began.
    pub(super) async fn take<F>(self, sandboxes: Vec<Sandbox>, mut work: impl FnMut(Sandbox) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut queue = Queue::new(sandboxes);
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

impl Queue {
    fn new(sandboxes: Vec<Sandbox>) -> Self {
        let mut places = HashMap::new();
        let mut waiting: VecDeque<(String, VecDeque<Sandbox>)> = VecDeque::new();
        for sandbox in sandboxes {
            let place = *places.entry(sandbox.project_id.clone()).or_insert_with(|| {
                waiting.push_back((sandbox.project_id.clone(), VecDeque::new()));
                waiting.len() - 1
            });
            if let Some((_, of_project)) = waiting.get_mut(place) {
                of_project.push_back(sandbox);
            }
        }
        Self { waiting }
    }

    /// The next sandbox of the first project that has a place; the project's next turn comes last.
    fn next(&mut self, has_place: impl Fn(&str) -> bool) -> Option<(String, Sandbox)> {
        let turn = self.waiting.iter().position(|(project, _)| has_place(project))?;
        let (project, mut sandboxes) = self.waiting.remove(turn)?;
        let sandbox = sandboxes.pop_front()?;
        if !sandboxes.is_empty() {
            self.waiting.push_back((project.clone(), sandboxes));
        }
        Some((project, sandbox))
    }
}
