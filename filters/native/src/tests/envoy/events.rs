//! The event loop: what schedulers, timers, and responses of the control plane cause, as time passes.

use std::time::Duration;

use sandgate_wasm_host::{Call, Reaction, timed_out};

use super::abi::extension;
use super::host::{PendingCall, Progress, Target};
use super::{Host, MAX_EVENTS};

impl Host {
    /// Processes all pending events. The clock does not advance.
    pub(crate) fn run(&self) {
        self.deliver(|call| matches!(call.progress, Progress::Held(_)));
        for _ in 0..MAX_EVENTS {
            if !self.run_once() {
                return;
            }
        }
        panic!("the module does not come to rest");
    }

    /// Processes one pending event. Returns whether there was one.
    pub(crate) fn run_once(&self) -> bool {
        let scheduled = self.envoy().state().scheduled.pop_front();
        if let Some((target, event)) = scheduled {
            match target {
                Target::Stream(id) => self.wake_stream(id),
                Target::Main => self.on_main(|id, module| extension::scheduled(id, module, event)),
            }
            return true;
        }
        self.deliver(|call| matches!(call.progress, Progress::Sent)) || self.deliver_response()
    }

    /// A stream that has ended is not woken.
    fn wake_stream(&self, id: usize) {
        let worker = self.envoy().state().streams.get(&id).map(|stream| stream.worker);
        if let Some(worker) = worker {
            self.on_worker(worker, move |envoy| envoy.wake(id));
        }
    }

    /// Calls a hook of the bootstrap extension, if it exists.
    fn on_main(&self, hook: impl FnOnce(usize, usize)) {
        let extension = self.envoy().state().extension;
        if let Some((id, module)) = extension {
            self.envoy().enter(|| hook(id, module));
        }
        self.check();
    }

    /// Advances the clock by `time`, and processes all events in between.
    pub(crate) fn advance(&self, time: Duration) {
        let target = self.envoy().state().clock + time;
        self.run();
        while let Some(next) = self.next_event().filter(|next| *next <= target) {
            self.envoy().state().clock = next;
            self.deliver(|call| matches!(call.progress, Progress::Held(until) if until <= next));
            self.fire_timers(next);
            while self.run_once() {}
        }
        self.envoy().state().clock = target;
        self.run();
    }

    fn fire_timers(&self, now: Duration) {
        let due: Vec<usize> = {
            let mut state = self.envoy().state();
            let is_due = |due: &mut Option<Duration>| due.take_if(|due| *due <= now).is_some();
            let timers = state.timers.iter_mut();
            timers.filter_map(|(timer, due)| is_due(due).then_some(*timer)).collect()
        };
        for timer in due {
            self.on_main(|id, module| extension::timer_fired(id, module, timer));
        }
    }

    /// The time of the next event that is not caused by a test.
    fn next_event(&self) -> Option<Duration> {
        let state = self.envoy().state();
        let held = state.pending.iter().filter_map(|call| match call.progress {
            Progress::Held(until) if until > state.clock => Some(until),
            _ => None,
        });
        let calls = state.pending.iter().map(due).chain(held);
        state.timers.values().flatten().copied().chain(calls).min()
    }

    /// Passes calls to the control plane.
    fn deliver(&self, which: impl Fn(&PendingCall) -> bool) -> bool {
        let (now, calls) = {
            let state = self.envoy().state();
            let now = state.clock;
            let passed = |pending: &PendingCall| {
                let waited = now.saturating_sub(pending.call.sent_at);
                (pending.id, Call { waited, ..pending.call.clone() })
            };
            let calls: Vec<_> =
                state.pending.iter().filter(|call| which(call)).map(passed).collect();
            (now, calls)
        };
        for (id, call) in &calls {
            let (reaction, delay) = (self.0.control_plane.borrow_mut())(call).into_parts();
            let at = now + delay;
            let progress = match reaction {
                Reaction::Respond(response) => Progress::Answered(at, Some(response)),
                Reaction::Broken => Progress::Answered(at, None),
                Reaction::Hold => Progress::Held(call.sent_at + delay),
                Reaction::Silence => Progress::Silent,
            };
            let mut state = self.envoy().state();
            if let Some(pending) = state.pending.iter_mut().find(|call| call.id == *id) {
                pending.progress = progress;
            }
        }
        !calls.is_empty()
    }

    /// Delivers the response that is due first.
    fn deliver_response(&self) -> bool {
        let mut state = self.envoy().state();
        let now = state.clock;
        let first = state.pending.iter().enumerate().map(|(index, call)| (due(call), index));
        let Some((at, index)) = first.filter(|(due, _)| *due <= now).min() else { return false };
        let call = state.pending.remove(index);
        drop(state);
        let response = match call.progress {
            Progress::Answered(answered, response) if answered <= at => response,
            _ => Some(timed_out()),
        };
        let response = response.as_ref().map(|response| (response.headers(), response.body()));
        self.on_main(|id, module| extension::callout_done(id, module, call.id, response));
        true
    }
}

/// The time at which a call ends: by its response, or by its timeout.
fn due(pending: &PendingCall) -> Duration {
    match &pending.progress {
        Progress::Answered(at, _) => pending.deadline.min(*at),
        Progress::Sent | Progress::Held(_) | Progress::Silent => pending.deadline,
    }
}
