//! The clock, and what wakes the hub and the workers.

use super::*;

impl Host {
    pub(in super::super) fn now(&mut self) -> Now {
        self.clock.now(Some(self.wall))
    }

    /// Passes the notices in an inbox to the engine.
    pub(in super::super) fn read_inbox(&mut self, worker: usize) {
        let now = self.now();
        let Worker { engine, inbox, .. } = &mut self.workers[worker];
        inbox.drain(..).for_each(|notice| engine.on_notice(notice, now));
    }

    /// Whether an engine or the hub has asked to be woken.
    pub(in super::super) fn must_wake(&self) -> bool {
        self.must_run_hub
            || self.workers.iter().any(|worker| worker.must_wake || !worker.inbox.is_empty())
    }

    /// Wakes the hub and the engines until they have nothing left to do.
    pub(in super::super) fn wake(&mut self) {
        for _ in 0..1_000 {
            if !self.must_wake() {
                return;
            }
            for worker in 0..self.workers.len() {
                let Worker { must_wake, inbox, .. } = &mut self.workers[worker];
                if std::mem::take(must_wake) || !inbox.is_empty() {
                    self.wake_worker(worker);
                }
            }
            if self.must_run_hub {
                self.run_hub();
            }
        }
        panic!("the host is woken for ever");
    }

    pub(in super::super) fn run_hub(&mut self) {
        self.must_run_hub = false;
        let now = self.now();
        self.hub.run(now);
        self.execute();
    }

    /// Runs a worker, which reads its inbox first.
    pub(in super::super) fn wake_worker(&mut self, worker: usize) {
        self.read_inbox(worker);
        let now = self.now();
        self.workers[worker].engine.on_wake(now);
        self.execute();
    }

    /// Advances the time tick by tick.
    pub(in super::super) fn advance(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(TICK_MS) {
            self.wall += Duration::from_millis(TICK_MS);
            let now = self.now();
            self.hub.on_tick(now);
            self.execute();
            for worker in 0..self.workers.len() {
                if !self.is_busy(worker) {
                    self.read_inbox(worker);
                    self.workers[worker].engine.on_tick(now);
                    self.execute();
                    self.wake_worker(worker);
                }
            }
            self.run_hub();
        }
    }

    /// Whether the thread of a worker does something else for long.
    fn is_busy(&self, worker: usize) -> bool {
        self.busy == Some(worker)
    }
}
