//! The order of writes. The database runs one write at a time, so the others wait. Projects take turns,
//! however many writes of one project wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::project_queue::ProjectQueue;
use crate::store::{Result, StoreError};

/// The most writes of owners that wait for one project. By default, a project can't have more requests in
/// flight than this, so the bound matters only if the operator allows more requests.
pub(super) const WAITING: usize = 64;

/// Who writes.
#[derive(Clone, Copy, Debug)]
pub enum Writer<'a> {
    /// An owner, in this project. The write is refused if too many writes of the project wait.
    Owner(&'a str),
    /// The control plane, for a sandbox of this project. The write is never refused, because it stores
    /// what has begun or happened.
    Lifecycle(&'a str),
    /// The control plane, for itself.
    Server,
}

/// The turns of all writes. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Turns {
    queues: Arc<Mutex<Queues>>,
}

#[derive(Default)]
struct Queues {
    /// A write is in progress.
    busy: bool,
    /// The writes that wait. The empty project has the server's own writes.
    waiting: ProjectQueue<Waiting>,
}

struct Waiting {
    owner: bool,
    called: oneshot::Sender<Turn>,
}

/// The right to write, until it is dropped.
pub(super) struct Turn(Option<Turns>);

impl Turns {
    /// Waits for a turn. If the caller stops waiting, the next write gets its turn.
    pub(super) async fn take(&self, writer: Writer<'_>) -> Result<Turn> {
        match self.enter(writer)? {
            Place::First(turn) => Ok(turn),
            Place::Waiting(turn) => {
                turn.await.map_err(|error| StoreError::Unavailable(Box::new(error)))
            }
        }
    }

    fn enter(&self, writer: Writer<'_>) -> Result<Place> {
        let (project, owner) = match writer {
            Writer::Owner(project) => (project, true),
            Writer::Lifecycle(project) => (project, false),
            Writer::Server => ("", false),
        };
        let mut queues = self.lock();
        if !queues.busy {
            queues.busy = true;
            return Ok(Place::First(Turn(Some(self.clone()))));
        }
        if owner {
            queues.waiting.retain(project, |waiting| !waiting.called.is_closed());
            if queues.waiting.of(project).filter(|waiting| waiting.owner).count() >= WAITING {
                return Err(StoreError::Busy(WAITING));
            }
        }
        let (called, turn) = oneshot::channel();
        queues.waiting.push(project.to_owned(), Waiting { owner, called });
        Ok(Place::Waiting(turn))
    }

    /// Gives the turn to the next write that still waits.
    fn pass_on(&self) {
        loop {
            let Some(next) = self.next() else { return };
            match next.called.send(Turn(Some(self.clone()))) {
                Ok(()) => return,
                // This write no longer waits. The loop gives the turn to the next one, so dropping this
                // `Turn` must not do it too.
                Err(mut turn) => turn.0 = None,
            }
        }
    }

    fn next(&self) -> Option<Waiting> {
        let mut queues = self.lock();
        let next = queues.waiting.next(|_| true).map(|(_, waiting)| waiting);
        queues.busy = next.is_some();
        next
    }

    /// A panic of another thread leaves no half-done change behind.
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Place {
    First(Turn),
    Waiting(oneshot::Receiver<Turn>),
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Asked<'t> = Pin<Box<dyn Future<Output = Result<Turn>> + 't>>;

    fn ask<'t>(turns: &'t Turns, writer: Writer<'t>) -> Asked<'t> {
        let mut asked: Asked<'t> = Box::pin(turns.take(writer));
        // A future waits in the queue from its first poll on.
        assert!(look(&mut asked).is_none(), "somebody writes, so everybody else waits");
        asked
    }

    fn look(asked: &mut Asked<'_>) -> Option<Result<Turn>> {
        match asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    /// Runs all writes that wait, and returns their order.
    fn order(held: Turn, mut asked: Vec<(&'static str, Asked<'_>)>) -> Vec<&'static str> {
        let (mut held, mut order) = (Some(held), Vec::new());
        while !asked.is_empty() {
            drop(held.take());
            let mut called = None;
            asked.retain_mut(|(name, asked)| match look(asked) {
                Some(turn) => {
                    assert!(called.is_none(), "two write at once");
                    called = Some((*name, turn.unwrap()));
                    false
                }
                None => true,
            });
            let (name, turn) = called.expect("nobody is called");
            order.push(name);
            held = Some(turn);
        }
        order
    }

    fn first(turns: &Turns) -> Turn {
        look(&mut (Box::pin(turns.take(Writer::Server)) as Asked<'_>)).unwrap().unwrap()
    }

    #[test]
    fn projects_take_turns_and_one_projects_writes_keep_their_order() {
        let turns = Turns::default();
        let held = first(&turns);
        let asked = vec![
            ("a1", ask(&turns, Writer::Owner("a"))),
            ("a2", ask(&turns, Writer::Owner("a"))),
            ("a3", ask(&turns, Writer::Lifecycle("a"))),
            ("b1", ask(&turns, Writer::Owner("b"))),
            ("server", ask(&turns, Writer::Server)),
            ("b2", ask(&turns, Writer::Lifecycle("b"))),
        ];
        assert_eq!(order(held, asked), ["a1", "b1", "server", "a2", "b2", "a3"]);
        drop(first(&turns));
    }

    #[test]
    fn who_stops_waiting_or_is_called_and_does_not_come_loses_the_turn_to_the_next() {
        let turns = Turns::default();
        let held = first(&turns);
        let (gone, called) = (ask(&turns, Writer::Owner("a")), ask(&turns, Writer::Owner("b")));
        let mut last = ask(&turns, Writer::Owner("c"));
        drop(gone);
        drop(held);
        assert!(look(&mut last).is_none(), "it is the turn of b");
        drop(called);
        drop(look(&mut last).expect("it is the turn of c").unwrap());
        drop(first(&turns));
    }

    #[test]
    fn a_project_has_a_bounded_number_of_owners_writes_waiting_and_its_own_steps_wait_besides() {
        let turns = Turns::default();
        let _held = first(&turns);
        let mut waiting: Vec<_> = (0..WAITING).map(|_| ask(&turns, Writer::Owner("a"))).collect();
        let refused = || look(&mut (Box::pin(turns.take(Writer::Owner("a"))) as Asked<'_>));
        assert!(matches!(refused(), Some(Err(StoreError::Busy(WAITING)))));
        waiting.push(ask(&turns, Writer::Lifecycle("a")));
        waiting.push(ask(&turns, Writer::Owner("b")));
        // A write that no longer waits makes room for another one.
        drop(waiting.remove(0));
        waiting.push(ask(&turns, Writer::Owner("a")));
        assert!(refused().is_some());
    }
}
