//! The state that all VMs of an Envoy share: shared data, queues, metrics, logs, the clock, and the
//! HTTP calls in flight.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::abi::Status;
use crate::control_plane::{Call, Response};
use crate::headers::Headers;

/// The id of a VM. 0 is the main thread's VM, `n` the VM of the n-th worker.
pub(crate) type VmId = usize;
/// The id of the VM that only tries a configuration.
pub(crate) const CANARY: VmId = VmId::MAX;

/// The wall clock at the creation of a host: 2026-11-01 00:00:00 UTC.
const EPOCH: Duration = Duration::from_secs(1_793_491_200);

/// The severity of a log line.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

/// A line that the filter logged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Log {
    /// The severity.
    pub level: LogLevel,
    /// The text of the line.
    pub message: String,
}

/// A queue, and the root context that it wakes.
struct Queue {
    items: VecDeque<Vec<u8>>,
    vm: VmId,
    root: u32,
}

/// A metric. The numbers of the kinds are the ABI's.
pub(crate) struct Metric {
    pub(crate) kind: u32,
    pub(crate) value: u64,
}

/// A call in flight.
pub(crate) struct PendingCall {
    pub(crate) vm: VmId,
    pub(crate) root: u32,
    pub(crate) token: u32,
    pub(crate) call: Call,
    pub(crate) deadline: Option<Duration>,
    pub(crate) progress: Progress,
}

/// The state of a call in flight.
pub(crate) enum Progress {
    /// The control plane has not received the call.
    Sent,
    /// The call is passed to the control plane again, at the latest at this time.
    Held(Duration),
    /// The response arrives at this time. `None` means that the call ends without a response.
    Answered(Duration, Option<Response>),
    /// No response arrives.
    Silent,
}

#[derive(Default)]
pub(crate) struct Shared {
    /// The time since the host was created.
    pub(crate) clock: Duration,
    /// The total time by which the wall clock was set back.
    pub(crate) set_back: Duration,
    pub(crate) metrics: BTreeMap<String, Metric>,
    /// The names of the metrics, ordered by their numbers.
    pub(crate) metric_names: Vec<String>,
    pub(crate) logs: Vec<Log>,
    pub(crate) calls: Vec<Call>,
    pub(crate) pending: Vec<PendingCall>,
    /// Queues with new items: VM, root context, queue.
    pub(crate) ready: VecDeque<(VmId, u32, u32)>,
    /// Errors of the filter, which fail the test.
    pub(crate) faults: Vec<String>,
    /// The clusters that exist. `None` means that all exist.
    pub(crate) clusters: Option<BTreeSet<String>>,
    /// The number of simultaneous calls that the circuit breaker allows.
    pub(crate) max_calls: Option<usize>,
    /// Whether no stream can become the effective context.
    pub(crate) refuse_streams: bool,
    data: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    last_cas: u32,
    queues: Vec<Queue>,
    queue_names: BTreeMap<Vec<u8>, u32>,
    tokens: u32,
}

impl Shared {
    pub(crate) fn wall_clock(&self) -> Duration {
        EPOCH + self.clock - self.set_back
    }

    pub(crate) fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    // --- Shared data ---

    pub(crate) fn data(&self, key: &[u8]) -> Result<(Vec<u8>, u32), Status> {
        self.data.get(key).cloned().ok_or(Status::NotFound)
    }

    /// As in Envoy, any `cas` is accepted for a key that does not exist.
    pub(crate) fn set_data(
        &mut self,
        key: Vec<u8>,
        value: Vec<u8>,
        cas: u32,
    ) -> Result<(), Status> {
        if self.data.get(&key).is_some_and(|(_, current)| cas != 0 && cas != *current) {
            return Err(Status::CasMismatch);
        }
        self.last_cas += 1;
        self.data.insert(key, (value, self.last_cas));
        Ok(())
    }

    // --- Queues ---

    /// The last root context that registers a name is woken. Queued items stay.
    pub(crate) fn register_queue(&mut self, name: Vec<u8>, vm: VmId, root: u32) -> u32 {
        let queue = *self.queue_names.entry(name).or_insert_with(|| {
            self.queues.push(Queue { items: VecDeque::new(), vm, root });
            u32::try_from(self.queues.len()).expect("a test has few queues")
        });
        if let Some(entry) = self.queues.get_mut(queue as usize - 1) {
            entry.vm = vm;
            entry.root = root;
        }
        queue
    }

    pub(crate) fn resolve_queue(&self, name: &[u8]) -> Result<u32, Status> {
        self.queue_names.get(name).copied().ok_or(Status::NotFound)
    }

    pub(crate) fn enqueue(&mut self, queue: u32, item: Vec<u8>) -> Result<(), Status> {
        let entry = self.queue(queue)?;
        entry.items.push_back(item);
        let ready = (entry.vm, entry.root, queue);
        self.ready.push_back(ready);
        Ok(())
    }

    pub(crate) fn dequeue(&mut self, queue: u32) -> Result<Vec<u8>, Status> {
        self.queue(queue)?.items.pop_front().ok_or(Status::Empty)
    }

    fn queue(&mut self, queue: u32) -> Result<&mut Queue, Status> {
        (queue as usize)
            .checked_sub(1)
            .and_then(|index| self.queues.get_mut(index))
            .ok_or(Status::NotFound)
    }

    // --- Calls ---

    /// Accepts a call, or refuses it as Envoy would.
    pub(crate) fn dispatch(
        &mut self,
        (vm, root): (VmId, u32),
        cluster: String,
        headers: Headers,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<u32, Status> {
        let complete = [":method", ":path", ":authority"].iter().all(|name| headers.contains(name));
        let known = self.clusters.as_ref().is_none_or(|clusters| clusters.contains(&cluster));
        if !complete || !known {
            return Err(Status::BadArgument);
        }
        if self.max_calls.is_some_and(|max| self.pending.len() >= max) {
            return Err(Status::InternalFailure);
        }
        self.tokens += 1;
        let call = Call {
            cluster,
            headers,
            body,
            sent_at: self.clock,
            waited: Duration::ZERO,
            worker: vm.checked_sub(1),
        };
        // Envoy cancels a canary's calls before it sends them.
        if vm != CANARY {
            self.calls.push(call.clone());
        }
        self.pending.push(PendingCall {
            vm,
            root,
            token: self.tokens,
            call,
            deadline: (!timeout.is_zero()).then(|| self.clock + timeout),
            progress: Progress::Sent,
        });
        Ok(self.tokens)
    }

    /// Cancels the calls of a root context that has ended, or of the whole VM.
    pub(crate) fn cancel_calls(&mut self, vm: VmId, root: Option<u32>) {
        self.pending
            .retain(|pending| pending.vm != vm || root.is_some_and(|root| pending.root != root));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_cas_is_refused_and_a_missing_key_accepts_any_cas() {
        let mut shared = Shared::default();
        shared.set_data(b"k".to_vec(), b"1".to_vec(), 77).unwrap();
        let (_, cas) = shared.data(b"k").unwrap();
        shared.set_data(b"k".to_vec(), b"2".to_vec(), cas).unwrap();
        let refused = shared.set_data(b"k".to_vec(), b"3".to_vec(), cas);
        assert_eq!(refused, Err(Status::CasMismatch));
        assert_eq!(shared.data(b"k").unwrap().0, b"2");
    }

    #[test]
    fn the_last_context_that_registers_a_queue_is_woken_and_no_item_is_lost() {
        let mut shared = Shared::default();
        let queue = shared.register_queue(b"q".to_vec(), 1, 10);
        shared.enqueue(queue, b"first".to_vec()).unwrap();
        assert_eq!(shared.register_queue(b"q".to_vec(), 2, 20), queue);
        shared.enqueue(queue, b"second".to_vec()).unwrap();
        assert_eq!(shared.ready, [(1, 10, queue), (2, 20, queue)]);
        assert_eq!(shared.dequeue(queue).unwrap(), b"first");
        assert_eq!(shared.dequeue(queue).unwrap(), b"second");
        assert_eq!(shared.dequeue(queue), Err(Status::Empty));
        assert_eq!(shared.dequeue(9), Err(Status::NotFound));
    }
}
