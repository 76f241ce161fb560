//! A queue in which projects take turns: however many items one project has, an item of another project
//! waits for at most one of them.

use std::collections::{HashMap, VecDeque};

/// Items that wait, for each project in their order.
pub(crate) struct ProjectQueue<T> {
    waiting: HashMap<String, VecDeque<T>>,
    /// The projects of `waiting`, in the order of their turns.
    turns: VecDeque<String>,
}

impl<T> Default for ProjectQueue<T> {
    fn default() -> Self {
        Self { waiting: HashMap::new(), turns: VecDeque::new() }
    }
}

impl<T> ProjectQueue<T> {
    /// Adds an item. A project that had none gets its turn after all others.
    pub(crate) fn push(&mut self, project: String, item: T) {
        let waiting = self.waiting.entry(project).or_insert_with_key(|project| {
            self.turns.push_back(project.clone());
            VecDeque::new()
        });
        waiting.push_back(item);
    }

    /// Keeps those items of a project for which `keep` holds. The project keeps its turn.
    pub(crate) fn retain(&mut self, project: &str, keep: impl FnMut(&T) -> bool) {
        if let Some(waiting) = self.waiting.get_mut(project) {
            waiting.retain(keep);
        }
    }

    /// The items of a project.
    pub(crate) fn of(&self, project: &str) -> impl Iterator<Item = &T> {
        self.waiting.get(project).into_iter().flatten()
    }

    /// Takes the first item of the first project for which `may` holds. The project's next turn comes
    /// after those of all others.
    pub(crate) fn next(&mut self, may: impl Fn(&str) -> bool) -> Option<(String, T)> {
        loop {
            let turn = self.turns.iter().position(|project| may(project))?;
            let project = self.turns.remove(turn)?;
            let mut waiting = self.waiting.remove(&project)?;
            let next = waiting.pop_front();
            if !waiting.is_empty() {
                self.turns.push_back(project.clone());
                self.waiting.insert(project.clone(), waiting);
            }
            if let Some(next) = next {
                return Some((project, next));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projects_take_turns_and_one_that_may_not_is_passed_over() {
        let mut queue = ProjectQueue::default();
        for (project, item) in [("a", 1), ("a", 2), ("b", 3), ("c", 4), ("b", 5)] {
            queue.push(project.to_owned(), item);
        }
        queue.retain("c", |_| false);
        let mut next = |without| queue.next(|project| project != without).map(|(_, item)| item);
        assert_eq!(
            [next(""), next(""), next("a"), next("a"), next("")].map(Option::unwrap_or_default),
            [1, 3, 5, 0, 2]
        );
        assert_eq!(next(""), None);
    }
}
