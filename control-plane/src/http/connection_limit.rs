//! A limit on the number of connections that closes idle connections in favour of new ones.
//!
//! A connection is idle while it has no request in flight. At the limit, a new connection closes the one that has
//! been idle for the longest time. A client that opens connections without sending requests can therefore not keep
//! other clients out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The maximum time for a connection to close after it was asked to.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);

/// A limit on the number of connections. Clones share it.
#[derive(Clone)]
pub struct ConnectionLimit {
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<IdleConnections>>,
}

/// The connections without a request in flight, in the order in which they became idle.
#[derive(Default)]
struct IdleConnections {
    next_number: u64,
    by_number: BTreeMap<u64, Arc<Notify>>,
}

/// The limit is reached.
#[derive(Clone, Copy, Debug)]
pub struct LimitReached;

impl ConnectionLimit {
    /// Allows at most `connections` at once.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(connections)), idle: Arc::default() }
    }

    /// Admits a new connection, which is idle until its first request. At the limit, it closes the connection that
    /// has been idle for the longest time; if none is idle, it waits.
    pub(super) async fn admit(&self) -> Option<Arc<Connection>> {
        let permit = self.acquire().await?;
        let close = Arc::new(Notify::new());
        let idle_number = Some(self.add_idle(&close));
        let state = State {
            limit: self.clone(),
            permit: Some(permit),
            requests_in_flight: 0,
            idle_number,
            is_closed: false,
        };
        Some(Arc::new(Connection {
            state: Mutex::new(state),
            close,
            has_had_request: AtomicBool::new(false),
        }))
    }

    async fn acquire(&self) -> Option<OwnedSemaphorePermit> {
        let mut permit = std::pin::pin!(Arc::clone(&self.permits).acquire_owned());
        // The first attempt does not wait, so that a connection is closed only if there is no permit.
        let mut wait = Duration::ZERO;
        loop {
            if let Ok(permit) = timeout(wait, &mut permit).await {
                return permit.ok();
            }
            self.close_longest_idle();
            wait = CLOSE_TIMEOUT;
        }
    }

    fn close_longest_idle(&self) {
        if let Some((_, close)) = lock(&self.idle).by_number.pop_first() {
            close.notify_one();
        }
    }

    fn add_idle(&self, close: &Arc<Notify>) -> u64 {
        let mut idle = lock(&self.idle);
        let number = idle.next_number;
        idle.next_number += 1;
        idle.by_number.insert(number, Arc::clone(close));
        number
    }

    fn remove_idle(&self, number: u64) {
        lock(&self.idle).by_number.remove(&number);
    }
}

/// A connection that counts against a limit. The listener adds it to the extensions of each request.
pub struct Connection {
    state: Mutex<State>,
    close: Arc<Notify>,
    has_had_request: AtomicBool,
}

struct State {
    limit: ConnectionLimit,
    /// `None` once the connection is closed.
    permit: Option<OwnedSemaphorePermit>,
    requests_in_flight: usize,
    /// The connection's key in [`IdleConnections`].
    idle_number: Option<u64>,
    is_closed: bool,
}

impl Connection {
    /// Counts the connection against another limit from now on. A listener uses this when a request has shown what
    /// kind of client the connection has.
    ///
    /// # Errors
    /// [`LimitReached`]; the connection counts against its current limit, and the connection of the other limit that
    /// has been idle for the longest time is asked to close, so another attempt may succeed.
    pub fn move_to(&self, limit: &ConnectionLimit) -> Result<(), LimitReached> {
        let mut state = lock(&self.state);
        if state.is_closed || Arc::ptr_eq(&state.limit.permits, &limit.permits) {
            return Ok(());
        }
        let Ok(permit) = Arc::clone(&limit.permits).try_acquire_owned() else {
            limit.close_longest_idle();
            return Err(LimitReached);
        };
        if let Some(number) = state.idle_number.take() {
            state.limit.remove_idle(number);
            state.idle_number = Some(limit.add_idle(&self.close));
        }
        state.permit = Some(permit);
        state.limit = limit.clone();
        Ok(())
    }

    /// Counts a request as in flight until the guard is dropped.
    pub(super) fn begin_request(self: &Arc<Self>) -> RequestGuard {
        self.has_had_request.store(true, Ordering::Relaxed);
        let mut state = lock(&self.state);
        state.requests_in_flight += 1;
        if let Some(number) = state.idle_number.take() {
            state.limit.remove_idle(number);
        }
        RequestGuard(Arc::clone(self))
    }

    pub(super) fn has_had_request(&self) -> bool {
        self.has_had_request.load(Ordering::Relaxed)
    }

    /// Waits until the connection must close in favour of a new one.
    pub(super) async fn close_requested(&self) {
        self.close.notified().await;
    }

    /// Releases the connection's permit, because the connection is closed.
    pub(super) fn release(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        state.permit = None;
        if let Some(number) = state.idle_number.take() {
            state.limit.remove_idle(number);
        }
    }
}

/// A request in flight.
pub(super) struct RequestGuard(Arc<Connection>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let connection = &self.0;
        let mut state = lock(&connection.state);
        state.requests_in_flight = state.requests_in_flight.saturating_sub(1);
        if state.requests_in_flight == 0 && !state.is_closed {
            state.idle_number = Some(state.limit.add_idle(&connection.close));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_moved_connection_counts_against_the_other_limit_only() {
        let (first_limit, second_limit) = (ConnectionLimit::new(1), ConnectionLimit::new(1));
        let first = first_limit.admit().await.unwrap();
        let request = first.begin_request();
        first.move_to(&second_limit).unwrap();
        first.move_to(&second_limit).unwrap();
        let second = timeout(TIMEOUT, first_limit.admit()).await.unwrap().unwrap();
        let _request = second.begin_request();
        assert!(
            second.move_to(&second_limit).is_err(),
            "the first connection has a request in flight"
        );
        drop(request);
        assert!(second.move_to(&second_limit).is_err(), "the first connection is asked to close");
        timeout(TIMEOUT, first.close_requested()).await.unwrap();
        first.release();
        second.move_to(&second_limit).unwrap();
        timeout(TIMEOUT, first_limit.admit()).await.unwrap().unwrap();
    }
}
