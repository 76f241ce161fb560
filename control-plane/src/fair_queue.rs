//! A queue that is fair to projects: it takes their items in turn, so an item waits for at most one item of
//! each other project before its project is next.

use std::collections::{HashMap, VecDeque};

/// Items by project. The items of one project keep their order.
pub(crate) struct FairQueue<T> {
    items: HashMap<String, VecDeque<T>>,
    /// The projects that have items. The first one is next.
    order: VecDeque<String>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { items: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> FairQueue<T> {
    /// Adds an item. A project without items goes to the end of the order.
    pub(crate) fn push(&mut self, project: String, item: T) {
        let items = self.items.entry(project).or_insert_with_key(|project| {
            self.order.push_back(project.clone());
            VecDeque::new()
        });
        items.push_back(item);
    }

    /// Keeps the items of a project for which `keep` holds. The project keeps its place in the order.
    pub(crate) fn retain(&mut self, project: &str, keep: impl FnMut(&T) -> bool) {
        if let Some(items) = self.items.get_mut(project) {
            items.retain(keep);
        }
    }

    pub(crate) fn items_of(&self, project: &str) -> impl Iterator<Item = &T> {
        self.items.get(project).into_iter().flatten()
    }

    /// Takes the first item of the first project for which `is_ready` holds, and moves the project to the end
    /// of the order.
    pub(crate) fn pop(&mut self, is_ready: impl Fn(&str) -> bool) -> Option<(String, T)> {
        loop {
            let place = self.order.iter().position(|project| is_ready(project))?;
            let project = self.order.remove(place)?;
            let mut items = self.items.remove(&project)?;
            let item = items.pop_front();
            if !items.is_empty() {
                self.order.push_back(project.clone());
                self.items.insert(project.clone(), items);
            }
            // `retain` may have removed all items of the project.
            if let Some(item) = item {
                return Some((project, item));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projects_alternate_and_one_that_is_not_ready_is_skipped() {
        let mut queue = FairQueue::default();
        for (project, item) in [("a", 1), ("a", 2), ("b", 3), ("c", 4), ("b", 5)] {
            queue.push(project.to_owned(), item);
        }
        queue.retain("c", |_| false);
        let mut pop = |without| queue.pop(|project| project != without).map(|(_, item)| item);
        assert_eq!(
            [pop(""), pop(""), pop("a"), pop("a"), pop("")].map(Option::unwrap_or_default),
            [1, 3, 5, 0, 2]
        );
        assert_eq!(pop(""), None);
    }
}
