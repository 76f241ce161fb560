//! The connections of a listener that have no request under way, in the order in which they ran dry:
//! the longest idle one is closed when a new one needs its place. So whoever opens connections and
//! sends nothing, or nothing more, keeps nobody out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The idle connections of one listener.
#[derive(Clone, Default)]
pub(super) struct Idle(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    next: u64,
    closing: BTreeMap<u64, Arc<Notify>>,
}

impl Idle {
    /// A new connection, idle until its first request.
    pub(super) fn connection(&self) -> Arc<Connection> {
        let close = Arc::new(Notify::new());
        let place = self.join(&close);
        let state = Mutex::new(State { requests: 0, place: Some(place), over: false });
        Arc::new(Connection { idle: self.clone(), state, close, has_asked: AtomicBool::new(false) })
    }

    /// Tells the connection that has been idle for longest to close, if there is one.
    pub(super) fn close_one(&self) {
        if let Some((_, close)) = lock(&self.0).closing.pop_first() {
            close.notify_one();
        }
    }

    fn join(&self, close: &Arc<Notify>) -> u64 {
        let mut queue = lock(&self.0);
        let place = queue.next;
        queue.next += 1;
        queue.closing.insert(place, Arc::clone(close));
        place
    }

    fn leave(&self, place: u64) {
        lock(&self.0).closing.remove(&place);
    }
}

/// One connection.
pub(super) struct Connection {
    idle: Idle,
    state: Mutex<State>,
    close: Arc<Notify>,
    has_asked: AtomicBool,
}

struct State {
    requests: usize,
    place: Option<u64>,
    over: bool,
}

impl Connection {
    /// A request came; it is under way until the value that this returns is dropped.
    pub(super) fn request(self: &Arc<Self>) -> Busy {
        self.has_asked.store(true, Ordering::Relaxed);
        let mut state = lock(&self.state);
        state.requests += 1;
        if let Some(place) = state.place.take() {
            self.idle.leave(place);
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

    /// It is over.
    pub(super) fn end(&self) {
        let mut state = lock(&self.state);
        state.over = true;
        if let Some(place) = state.place.take() {
            self.idle.leave(place);
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
            state.place = Some(connection.idle.join(&connection.close));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
