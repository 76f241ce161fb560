//! The queue of writes. The database runs one write at a time. The queue takes the writes of projects in
//! turn, so the number of waiting writes of one project does not delay another.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::fair_queue::FairQueue;
use crate::store::{Result, StoreError};

/// The most writes of owners that wait for one project. By default, a project can't have more requests in
/// flight than this, so the bound matters only if the operator allows more requests.
pub(super) const MAX_QUEUED: usize = 64;

/// On whose behalf a write runs.
#[derive(Clone, Copy, Debug)]
pub enum Writer<'a> {
    /// An owner, in this project. The write is refused if too many writes of the project wait.
    Owner(&'a str),
    /// The lifecycle of a sandbox of this project. The write is never refused, because it stores something
    /// that has begun or happened.
    Lifecycle(&'a str),
    /// The server itself.
    Server,
}

/// All writes. Clones share them.
#[derive(Clone, Default)]
pub(super) struct WriteQueue {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// A write is in progress.
    busy: bool,
    /// The writes that wait. The server's own writes have the empty project.
    queued: FairQueue<QueuedWrite>,
}

struct QueuedWrite {
    is_owners: bool,
    granted: oneshot::Sender<WritePermit>,
}

/// The right to write. Dropping it grants the next write.
pub(super) struct WritePermit(Option<WriteQueue>);

impl WriteQueue {
    /// Waits for the permit to write. If the caller stops waiting, it leaves the queue.
    pub(super) async fn acquire(&self, writer: Writer<'_>) -> Result<WritePermit> {
        match self.enqueue(writer)? {
            Admission::Granted(permit) => Ok(permit),
            Admission::Queued(granted) => {
                granted.await.map_err(|error| StoreError::Unavailable(Box::new(error)))
            }
        }
    }

    fn enqueue(&self, writer: Writer<'_>) -> Result<Admission> {
        let (project, is_owners) = match writer {
            Writer::Owner(project) => (project, true),
            Writer::Lifecycle(project) => (project, false),
            Writer::Server => ("", false),
        };
        let mut state = self.lock();
        if !state.busy {
            state.busy = true;
            return Ok(Admission::Granted(WritePermit(Some(self.clone()))));
        }
        if is_owners {
            state.queued.retain(project, |write| !write.granted.is_closed());
            let owners = state.queued.items_of(project).filter(|write| write.is_owners);
            if owners.count() >= MAX_QUEUED {
                return Err(StoreError::Busy(MAX_QUEUED));
            }
        }
        let (granted, queued) = oneshot::channel();
        state.queued.push(project.to_owned(), QueuedWrite { is_owners, granted });
        Ok(Admission::Queued(queued))
    }

    /// Gives the permit to the next write whose caller still waits.
    fn grant_next(&self) {
        loop {
            let Some(next) = self.pop() else { return };
            match next.granted.send(WritePermit(Some(self.clone()))) {
                Ok(()) => return,
                // The caller stopped waiting. The loop grants the next write, so the drop of this permit must
                // not grant one too.
                Err(mut permit) => permit.0 = None,
            }
        }
    }

    fn pop(&self) -> Option<QueuedWrite> {
        let mut state = self.lock();
        let next = state.queued.pop(|_| true).map(|(_, write)| write);
        state.busy = next.is_some();
        next
    }

    /// The state is consistent even if another thread panicked.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Admission {
    Granted(WritePermit),
    Queued(oneshot::Receiver<WritePermit>),
}

impl Drop for WritePermit {
    fn drop(&mut self) {
        if let Some(queue) = self.0.take() {
            queue.grant_next();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Acquire<'q> = Pin<Box<dyn Future<Output = Result<WritePermit>> + 'q>>;

    fn enqueue<'q>(queue: &'q WriteQueue, writer: Writer<'q>) -> Acquire<'q> {
        let mut write: Acquire<'q> = Box::pin(queue.acquire(writer));
        // A future enters the queue at its first poll.
        assert!(poll(&mut write).is_none(), "another write is in progress");
        write
    }

    fn poll(write: &mut Acquire<'_>) -> Option<Result<WritePermit>> {
        match write.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        }
    }

    /// Grants all queued writes, and returns their order.
    fn drain(
        permit: WritePermit,
        mut queued: Vec<(&'static str, Acquire<'_>)>,
    ) -> Vec<&'static str> {
        let (mut permit, mut order) = (Some(permit), Vec::new());
        while !queued.is_empty() {
            drop(permit.take());
            let mut granted = None;
            queued.retain_mut(|(name, write)| match poll(write) {
                Some(permit) => {
                    assert!(granted.is_none(), "two writes at once");
                    granted = Some((*name, permit.unwrap()));
                    false
                }
                None => true,
            });
            let (name, next) = granted.expect("no write is granted");
            order.push(name);
            permit = Some(next);
        }
        order
    }

    fn acquire(queue: &WriteQueue) -> WritePermit {
        poll(&mut (Box::pin(queue.acquire(Writer::Server)) as Acquire<'_>)).unwrap().unwrap()
    }

    #[test]
    fn projects_alternate_and_the_writes_of_one_project_keep_their_order() {
        let queue = WriteQueue::default();
        let permit = acquire(&queue);
        let queued = vec![
            ("a1", enqueue(&queue, Writer::Owner("a"))),
            ("a2", enqueue(&queue, Writer::Owner("a"))),
            ("a3", enqueue(&queue, Writer::Lifecycle("a"))),
            ("b1", enqueue(&queue, Writer::Owner("b"))),
            ("server", enqueue(&queue, Writer::Server)),
            ("b2", enqueue(&queue, Writer::Lifecycle("b"))),
        ];
        assert_eq!(drain(permit, queued), ["a1", "b1", "server", "a2", "b2", "a3"]);
        drop(acquire(&queue));
    }

    #[test]
    fn a_caller_that_stops_waiting_before_or_after_its_permit_is_granted_blocks_nobody() {
        let queue = WriteQueue::default();
        let permit = acquire(&queue);
        let stopped = enqueue(&queue, Writer::Owner("a"));
        let granted = enqueue(&queue, Writer::Owner("b"));
        let mut last = enqueue(&queue, Writer::Owner("c"));
        drop(stopped);
        drop(permit);
        assert!(poll(&mut last).is_none(), "the permit was granted to b");
        drop(granted);
        drop(poll(&mut last).expect("the permit is granted to c").unwrap());
        drop(acquire(&queue));
    }

    #[test]
    fn only_the_queued_writes_of_owners_are_bounded() {
        let queue = WriteQueue::default();
        let _permit = acquire(&queue);
        let mut queued: Vec<_> =
            (0..MAX_QUEUED).map(|_| enqueue(&queue, Writer::Owner("a"))).collect();
        let refused = || poll(&mut (Box::pin(queue.acquire(Writer::Owner("a"))) as Acquire<'_>));
        assert!(matches!(refused(), Some(Err(StoreError::Busy(MAX_QUEUED)))));
        queued.push(enqueue(&queue, Writer::Lifecycle("a")));
        queued.push(enqueue(&queue, Writer::Owner("b")));
        // A caller that stops waiting makes room for another one.
        drop(queued.remove(0));
        queued.push(enqueue(&queue, Writer::Owner("a")));
        assert!(refused().is_some());
    }
}
