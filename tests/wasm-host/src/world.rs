//! The event loop: the work of Envoy's threads, on one thread and with a clock that a test
//! advances.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use wasmtime::Module;

use crate::control_plane::{Answer, Call, Reaction, timed_out};
use crate::shared::{CANARY, PendingCall, Progress, Shared};
use crate::vm::Vm;

/// Responds to the filter's calls.
pub(crate) type ControlPlane = Box<dyn FnMut(&Call) -> Answer>;

/// The maximum number of iterations without a pause. No test needs more, so the filter is in an
/// endless loop.
const MAX_ITERATIONS: usize = 1_000_000;

pub(crate) struct World {
    pub(crate) shared: Rc<RefCell<Shared>>,
    /// The main thread's VM, followed by the workers' VMs.
    pub(crate) vms: Vec<Vm>,
    pub(crate) control_plane: ControlPlane,
    module: Module,
}

impl World {
    pub(crate) fn new(module: Module, workers: usize) -> Self {
        let shared = Rc::new(RefCell::new(Shared::default()));
        let vms = (0..=workers).map(|id| Vm::new(id, &module, Rc::clone(&shared))).collect();
        let control_plane = Box::new(|_: &Call| Answer::connection_refused());
        Self { shared, vms, control_plane, module }
    }

    /// Tries a configuration of the filter with this root id in a canary VM, and applies it to
    /// every VM if the canary accepts it.
    pub(crate) fn configure(&mut self, root_id: &str, configuration: &[u8]) -> bool {
        let mut canary = Vm::new(CANARY, &self.module, Rc::clone(&self.shared));
        let accepted = canary.configure(root_id, configuration);
        self.shared.borrow_mut().cancel_calls(CANARY, None);
        if !accepted {
            return false;
        }
        for vm in &mut self.vms {
            if !vm.configure(root_id, configuration) {
                let mut shared = self.shared.borrow_mut();
                shared.fault("a VM refused a configuration that the canary VM had accepted");
            }
        }
        true
    }

    /// Processes all pending events.
    pub(crate) fn run(&mut self) {
        self.deliver_held_calls(|_| true);
        for _ in 0..MAX_ITERATIONS {
            if !self.run_once() {
                return;
            }
        }
        panic!("the filter does not come to rest");
    }

    /// Advances the clock by `time`, and processes all events in between.
    pub(crate) fn advance(&mut self, time: Duration) {
        let target = self.now() + time;
        self.run();
        while let Some(next) = self.next_event().filter(|next| *next <= target) {
            self.shared.borrow_mut().clock = next;
            self.deliver_held_calls(|until| until <= next);
            for vm in &mut self.vms {
                vm.tick(next);
            }
            while self.run_once() {}
        }
        self.shared.borrow_mut().clock = target;
        self.run();
    }

    fn now(&self) -> Duration {
        self.shared.borrow().clock
    }

    /// Processes one pending event. Returns `false` if there is none.
    fn run_once(&mut self) -> bool {
        let ready = self.shared.borrow_mut().ready.pop_front();
        if let Some((vm, root, queue)) = ready {
            if let Some(vm) = self.vms.get_mut(vm) {
                vm.on_queue_ready(root, queue);
            }
            return true;
        }
        self.deliver_new_calls() || self.deliver_response()
    }

    /// Passes the new calls to the control plane.
    fn deliver_new_calls(&mut self) -> bool {
        let sent = |pending: &PendingCall| matches!(pending.progress, Progress::Sent);
        self.deliver(sent)
    }

    /// Passes held calls to the control plane again.
    fn deliver_held_calls(&mut self, due: impl Fn(Duration) -> bool) {
        self.deliver(|pending| matches!(pending.progress, Progress::Held(until) if due(until)));
    }

    fn deliver(&mut self, which: impl Fn(&PendingCall) -> bool) -> bool {
        let now = self.now();
        let calls: Vec<(u32, Call)> = self
            .shared
            .borrow()
            .pending
            .iter()
            .filter(|pending| which(pending))
            .map(|pending| {
                let waited = now.saturating_sub(pending.call.sent_at);
                (pending.token, Call { waited, ..pending.call.clone() })
            })
            .collect();
        for (token, call) in &calls {
            let answer = (self.control_plane)(call);
            let at = now + answer.delay;
            let progress = match answer.kind {
                Reaction::Respond(response) => Progress::Answered(at, Some(response)),
                Reaction::Broken => Progress::Answered(at, None),
                Reaction::Hold => Progress::Held(call.sent_at + answer.delay),
                Reaction::Silence => Progress::Silent,
            };
            let mut shared = self.shared.borrow_mut();
            if let Some(pending) = shared.pending.iter_mut().find(|call| call.token == *token) {
                pending.progress = progress;
            }
        }
        !calls.is_empty()
    }

    /// Delivers the response that is due first.
    fn deliver_response(&mut self) -> bool {
        let now = self.now();
        let mut shared = self.shared.borrow_mut();
        let first = shared
            .pending
            .iter()
            .enumerate()
            .filter_map(|(index, pending)| Some((due(pending)?, index)))
            .filter(|(due, _)| *due <= now)
            .min();
        let Some((at, index)) = first else { return false };
        let pending = shared.pending.remove(index);
        drop(shared);
        let response = match &pending.progress {
            Progress::Answered(answered, response) if *answered <= at => response.clone(),
            _ => Some(timed_out()),
        };
        if let Some(vm) = self.vms.get_mut(pending.vm) {
            vm.on_call_response(&pending, response);
        }
        true
    }

    /// The time of the next event that is not caused by a test: a tick, a response, a timeout, or
    /// the end of a hold.
    fn next_event(&self) -> Option<Duration> {
        let shared = self.shared.borrow();
        let held = shared.pending.iter().filter_map(|pending| match pending.progress {
            Progress::Held(until) if until > shared.clock => Some(until),
            _ => None,
        });
        let calls = shared.pending.iter().filter_map(due).chain(held);
        self.vms.iter().filter_map(Vm::next_tick).chain(calls).min()
    }
}

/// The time at which a call ends: by its response, or by its timeout.
fn due(pending: &PendingCall) -> Option<Duration> {
    let answered = match &pending.progress {
        Progress::Answered(at, _) => Some(*at),
        Progress::Sent | Progress::Held(_) | Progress::Silent => None,
    };
    [answered, pending.deadline].into_iter().flatten().min()
}
