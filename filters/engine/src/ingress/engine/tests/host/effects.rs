//! Executes the effects of the hub and of the engines.

use super::*;

impl Host {
    pub(super) fn execute(&mut self) {
        loop {
            let hub = self.hub.next_effect();
            let is_idle = hub.is_none();
            hub.into_iter().for_each(|effect| self.execute_hub(effect));
            let mut has_effects = false;
            for worker in 0..self.workers.len() {
                has_effects |= self.execute_worker(worker);
            }
            if is_idle && !has_effects {
                return;
            }
        }
    }

    fn execute_hub(&mut self, effect: HubEffect) {
        let now = self.now();
        match effect {
            HubEffect::Call(call) if self.refuses_calls => self.hub.on_call_failed(call.id, now),
            HubEffect::Call(call) => {
                self.calls.insert(call.id, call);
            }
            HubEffect::CallFinished { kind, is_answered } => {
                self.finished.push((kind, is_answered))
            }
            HubEffect::Notify(id, notice) => {
                let worker = self.workers.iter().position(|worker| worker.id == id);
                self.notify(worker.expect("a worker of this hub"), notice);
            }
            HubEffect::NotifyAll(notice) => {
                (0..self.workers.len()).for_each(|worker| self.notify(worker, notice.clone()));
            }
            HubEffect::Run => self.must_run_hub = true,
        }
    }

    pub(super) fn notify(&mut self, worker: usize, notice: Notice) {
        self.workers[worker].inbox.push_back(notice);
        if !self.delays_notices {
            self.read_inbox(worker);
        }
    }

    /// Executes the effects of a worker. Returns whether there were any.
    fn execute_worker(&mut self, worker: usize) -> bool {
        let now = self.now();
        let mut has_effects = false;
        while let Some(effect) = self.workers[worker].engine.next_effect() {
            has_effects = true;
            self.execute_effect(worker, effect, now);
        }
        has_effects
    }

    fn execute_effect(&mut self, worker: usize, effect: Effect, now: Now) {
        let base = StreamId::try_from(worker).unwrap() * STREAMS_PER_WORKER;
        let engine = &mut self.workers[worker].engine;
        match effect {
            Effect::Start => {
                self.hub.start("watcher".into());
                self.must_run_hub = true;
            }
            Effect::Wake => self.workers[worker].must_wake = true,
            Effect::RunHub => self.must_run_hub = true,
            Effect::Forward(stream) => {
                let head = self.heads.get(&(base + stream)).expect("a stream of this host");
                let forward = engine.forward(stream, Head::new(&header::fields(head)));
                assert!(forward.is_some(), "a stream to forward is live");
                if self.fails_to_forward {
                    let reply = engine.on_forward_failed(stream).expect("a live stream");
                    let denied = State::Denied(reply.denial.code());
                    self.set(base + stream, &State::Waiting, denied);
                } else {
                    self.set(base + stream, &State::Waiting, State::Live);
                }
            }
            Effect::AnswerPreflight { stream, .. } => {
                self.set(base + stream, &State::Waiting, State::Preflight);
            }
            Effect::Deny(stream, reply) => {
                let denied = State::Denied(reply.denial.code());
                self.set(base + stream, &State::Waiting, denied);
            }
            Effect::Close { stream, .. } if self.fails_to_close => {
                engine.on_close_failed(stream);
                assert_eq!(self.state(base + stream), &State::Live, "a stream is closed");
                self.not_closed.insert(base + stream);
            }
            Effect::Close { stream, reason } => {
                engine.on_stream_end(stream);
                self.set(base + stream, &State::Live, State::Closed(reason));
            }
            Effect::ReadClient(stream) => {
                self.conversions += 1;
                let client = self.clients.get(&(base + stream)).expect("a stream of this host");
                engine.on_client(stream, *client, now);
                assert_eq!(self.state(base + stream), &State::Live, "a client is read");
            }
            Effect::ReadByteCount(stream) => {
                engine.on_byte_count(stream, 100, now);
                assert_eq!(self.state(base + stream), &State::Live, "bytes are read");
            }
            Effect::RecheckStarted => {}
        }
    }
}
