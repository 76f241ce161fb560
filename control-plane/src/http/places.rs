//! Places for connections. Those that have no request under way are known in the order in which they ran
//! dry: the longest idle one is closed when a new one needs its place. So whoever opens connections and
//! sends nothing, or nothing more, keeps nobody out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How long a connection that was told to make room may take.
const ROOM_WITHIN: Duration = Duration::from_millis(100);

/// So many connections at once.
#[derive(Clone)]
pub struct Places {
    free: Arc<Semaphore>,
    idle: Arc<Mutex<Idle>>,
}

/// The connections that have no request under way.
#[derive(Default)]
struct Idle {
    next: u64,
    closing: BTreeMap<u64, Arc<Notify>>,
}

/// No place is free.
#[derive(Clone, Copy, Debug)]
pub struct Full;

impl Places {
    /// So many.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(connections)), idle: Arc::default() }
    }

    /// A new connection, idle until its first request. Where no place is free, it takes that of the one
    /// that has been idle for longest; where none is, it waits.
    pub(super) async fn connection(&self) -> Option<Arc<Connection>> {
        let permit = self.room().await?;
        let close = Arc::new(Notify::new());
        let idle_at = Some(self.join(&close));
        let permit = Some(permit);
        let state = State { places: self.clone(), permit, requests: 0, idle_at, over: false };
        Some(Arc::new(Connection {
            state: Mutex::new(state),
            close,
            has_asked: AtomicBool::new(false),
        }))
    }

    async fn room(&self) -> Option<OwnedSemaphorePermit> {
        let mut free = std::pin::pin!(Arc::clone(&self.free).acquire_owned());
        // At once, if there is one.
        let mut wait = Duration::ZERO;
        loop {
            if let Ok(permit) = timeout(wait, &mut free).await {
                return permit.ok();
            }
            self.close_one();
            wait = ROOM_WITHIN;
        }
    }

    /// Tells the connection that has been idle for longest to close, if there is one.
    fn close_one(&self) {
        if let Some((_, close)) = lock(&self.idle).closing.pop_first() {
            close.notify_one();
        }
    }

    fn join(&self, close: &Arc<Notify>) -> u64 {
        let mut idle = lock(&self.idle);
        let at = idle.next;
        idle.next += 1;
        idle.closing.insert(at, Arc::clone(close));
        at
    }

    fn leave(&self, at: u64) {
        lock(&self.idle).closing.remove(&at);
    }
}

/// One connection. The listener lays it into each of its requests.
pub struct Connection {
    state: Mutex<State>,
    close: Arc<Notify>,
    has_asked: AtomicBool,
}

struct State {
    places: Places,
    /// Its place; none when it is over.
    permit: Option<OwnedSemaphorePermit>,
    requests: usize,
    idle_at: Option<u64>,
    over: bool,
}

impl Connection {
    /// Takes one of other places for its own, which others may have from then on: who is served here
    /// counts no longer among those who are not known yet.
    ///
    /// # Errors
    /// [`Full`]; it keeps the place that it has. The longest idle one of the others is told to close, so
    /// there may be room in a moment.
    pub fn move_to(&self, places: &Places) -> Result<(), Full> {
        let mut state = lock(&self.state);
        if state.over || Arc::ptr_eq(&state.places.free, &places.free) {
            return Ok(());
        }
        let Ok(permit) = Arc::clone(&places.free).try_acquire_owned() else {
            places.close_one();
            return Err(Full);
        };
        if let Some(at) = state.idle_at.take() {
            state.places.leave(at);
            state.idle_at = Some(places.join(&self.close));
        }
        state.permit = Some(permit);
        state.places = places.clone();
        Ok(())
    }

    /// A request came; it is under way until the value that this returns is dropped.
    pub(super) fn request(self: &Arc<Self>) -> Busy {
        self.has_asked.store(true, Ordering::Relaxed);
        let mut state = lock(&self.state);
        state.requests += 1;
        if let Some(at) = state.idle_at.take() {
            state.places.leave(at);
        }
        Busy(Arc::clone(self))
    }

    /// Whether a request ever came.
    pub(super) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    /// Waits until its place is needed.
    pub(super) async fn told_to_close(&self) {
        self.close.notified().await;
    }

    /// It is over: its place is free.
    pub(super) fn end(&self) {
        let mut state = lock(&self.state);
        state.over = true;
        state.permit = None;
        if let Some(at) = state.idle_at.take() {
            state.places.leave(at);
        }
    }
}

/// A request under way.
pub(super) struct Busy(Arc<Connection>);

impl Drop for Busy {
    fn drop(&mut self) {
        let connection = &self.0;
        let mut state = lock(&connection.state);
        state.requests = state.requests.saturating_sub(1);
        if state.requests == 0 && !state.over {
            state.idle_at = Some(state.places.join(&connection.close));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn who_moves_leaves_its_place_to_others_and_takes_one_there_or_none() {
        let (here, there) = (Places::new(1), Places::new(1));
        let first = here.connection().await.unwrap();
        let busy = first.request();
        first.move_to(&there).unwrap();
        first.move_to(&there).unwrap();
        let second = tokio::time::timeout(SOON, here.connection()).await.unwrap().unwrap();
        let _busy = second.request();
        assert!(second.move_to(&there).is_err(), "the only place there has a request under way");
        drop(busy);
        assert!(second.move_to(&there).is_err(), "one is told to make room");
        tokio::time::timeout(SOON, first.told_to_close()).await.unwrap();
        first.end();
        second.move_to(&there).unwrap();
        tokio::time::timeout(SOON, here.connection()).await.unwrap().unwrap();
    }
}
