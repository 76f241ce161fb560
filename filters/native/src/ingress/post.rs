//! The inbox of a worker, and what wakes the worker.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use sandgate_engine::ingress::{Notice, StreamId, WorkerId};

use super::shared::lock;
use crate::abi::{Refused, Result, StreamScheduler};

/// What a worker is told by the main thread, or by itself for later.
pub(super) enum Event {
    Wake,
    Tick,
    Notice(Notice),
}

/// The part of a worker that the main thread reaches: its inbox.
///
/// Envoy wakes a worker only for a stream. One of the worker's streams is its anchor, whose scheduler the main thread uses.
/// A worker without streams has no anchor, and nothing to be told: its engine has no stream that an event could concern, and
/// the cache entries themselves say whether they are outdated.
pub(super) struct Post {
    worker: WorkerId,
    mail: Mutex<Mail>,
    /// Whether the inbox may hold something, so that a hook need not lock it.
    has_mail: AtomicBool,
}

#[derive(Default)]
struct Mail {
    inbox: VecDeque<Event>,
    has_streams: bool,
    /// `None` if there are no streams, or only streams that are about to end.
    anchor: Option<(StreamId, StreamScheduler)>,
}

impl Post {
    pub(super) fn new(worker: WorkerId) -> Self {
        Self { worker, mail: Mutex::default(), has_mail: AtomicBool::new(false) }
    }

    pub(super) fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Puts an event into the inbox, unless the worker has no streams.
    pub(super) fn put(&self, event: Event) {
        let mut mail = lock(&self.mail);
        if !mail.has_streams {
            return;
        }
        // A worker that is busy for long needs one tick.
        let is_repeated = matches!((&event, mail.inbox.back()), (Event::Tick, Some(Event::Tick)));
        if !is_repeated {
            mail.inbox.push_back(event);
        }
        self.has_mail.store(true, Ordering::Release);
        mail.wake();
    }

    /// The worker has a stream, which becomes the anchor if there is none.
    ///
    /// # Errors
    /// When nothing would wake the worker.
    pub(super) fn open(
        &self,
        id: StreamId,
        scheduler: impl FnOnce() -> Result<StreamScheduler>,
    ) -> Result<()> {
        let mut mail = lock(&self.mail);
        mail.has_streams = true;
        if mail.anchor.is_none() {
            mail.anchor = Some((id, scheduler()?));
            mail.wake_if_full();
        }
        Ok(())
    }

    /// If the stream is the anchor, another one becomes the anchor.
    ///
    /// # Errors
    /// When nothing would wake the worker.
    pub(super) fn replace_anchor(
        &self,
        id: StreamId,
        other: impl FnOnce() -> Option<(StreamId, StreamScheduler)>,
    ) -> Result<()> {
        let mut mail = lock(&self.mail);
        if mail.anchor.as_ref().is_some_and(|(anchor, _)| *anchor == id) {
            mail.anchor = other();
            // The old anchor is not woken any more.
            mail.wake_if_full();
        }
        if mail.anchor.is_some() { Ok(()) } else { Err(Refused) }
    }

    /// The worker has no streams any more.
    pub(super) fn close(&self) {
        *lock(&self.mail) = Mail::default();
    }

    /// Takes what is in the inbox.
    pub(super) fn take(&self) -> VecDeque<Event> {
        // Most hooks find nothing, and a load is cheaper than an exchange.
        if !self.has_mail.load(Ordering::Acquire) || !self.has_mail.swap(false, Ordering::AcqRel) {
            return VecDeque::new();
        }
        std::mem::take(&mut lock(&self.mail).inbox)
    }
}

impl Mail {
    fn wake(&self) {
        if let Some((_, scheduler)) = &self.anchor {
            scheduler.wake();
        }
    }

    fn wake_if_full(&self) {
        if !self.inbox.is_empty() {
            self.wake();
        }
    }
}
