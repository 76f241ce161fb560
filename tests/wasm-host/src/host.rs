//! The API for tests: an Envoy with one filter.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::connection::{Attributes, Connection};
use crate::control_plane::{Answer, Call};
use crate::cost::Cost;
use crate::envoy::Envoy;
use crate::headers::Headers;
use crate::module;
use crate::shared::Log;
use crate::stream::Stream;
use crate::vm::Vm;
use crate::world::World;

/// An Envoy with one filter. Clones refer to the same Envoy.
///
/// Every method that runs the filter panics if the filter traps, or does something that is an error
/// in Envoy (a second reply, resuming a request that is not paused).
#[derive(Clone)]
pub struct Host(Envoy);

/// The filter refused a configuration. The previous one stays active.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// The filter's log lines about the refusal.
    pub logs: Vec<Log>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the filter refused the configuration: {:?}", self.logs)
    }
}

impl std::error::Error for Refused {}

impl Host {
    /// Creates an Envoy with one worker and the built filter `filter`, without a configuration. Its
    /// control plane refuses connections.
    pub fn load(filter: &str) -> Self {
        Self::load_with_workers(filter, 1)
    }

    /// Like [`Self::load`], with several workers.
    pub fn load_with_workers(filter: &str, workers: usize) -> Self {
        Self::start(World::new(module::built(filter), workers))
    }

    /// Like [`Self::load_with_workers`], with a module in the text or binary format.
    pub fn from_module(wasm: &[u8], workers: usize) -> Self {
        Self::start(World::new(module::compile(wasm), workers))
    }

    fn start(world: World) -> Self {
        Self(Envoy::start(world))
    }

    /// Applies a configuration to the filter.
    pub fn configure(&self, configuration: &str) -> Result<(), Refused> {
        self.configure_root("", configuration)
    }

    /// Applies a configuration to the filter with this root id.
    pub fn configure_root(&self, root_id: &str, configuration: &str) -> Result<(), Refused> {
        let before = self.logs().len();
        let accepted = self.0.with(|world| world.configure(root_id, configuration.as_bytes()));
        if accepted {
            return Ok(());
        }
        Err(Refused { logs: self.logs().split_off(before) })
    }

    /// Sets the function that responds to the filter's calls.
    pub fn control_plane(&self, answer: impl FnMut(&Call) -> Answer + 'static) {
        self.0.set_control_plane(Box::new(answer));
    }

    /// Sets the clusters that exist. A call to another cluster fails immediately.
    pub fn clusters(&self, names: &[&str]) {
        let names: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.0.shared().borrow_mut().clusters = Some(names);
    }

    /// Sets the circuit breaker. Calls fail immediately while this number of calls is in flight.
    pub fn max_calls(&self, calls: usize) {
        self.0.shared().borrow_mut().max_calls = Some(calls);
    }

    /// Sets whether the host refuses to make a stream the effective context.
    pub fn refuse_streams(&self, refuse: bool) {
        self.0.shared().borrow_mut().refuse_streams = refuse;
    }

    /// Sends a request without a body to the first worker.
    pub fn request(&self, headers: Headers) -> Stream {
        self.request_at(0, headers)
    }

    /// Sends a request without a body to a worker. The first worker is 0.
    pub fn request_at(&self, worker: usize, headers: Headers) -> Stream {
        self.request_of("", worker, headers, Attributes::new())
    }

    /// Sends a request with these attributes to the filter with this root id.
    pub fn request_of(
        &self,
        root_id: &str,
        worker: usize,
        headers: Headers,
        attributes: Attributes,
    ) -> Stream {
        let vm = worker + 1;
        let id = self.0.with_vm(vm, |vm| vm.request(root_id, headers, attributes, true));
        Stream { envoy: self.0.clone(), vm, id }
    }

    /// Opens a connection to the network filter with this root id, on the first worker.
    pub fn connect(&self, root_id: &str, attributes: Attributes) -> Connection {
        let id = self.0.with_vm(1, |vm| vm.connect(root_id, attributes));
        Connection { envoy: self.0.clone(), vm: 1, id }
    }

    /// Processes all pending events. The clock does not advance.
    pub fn run(&self) {
        self.0.with(World::run);
    }

    /// Advances the clock by `time`, and processes every tick, response and timeout in between.
    pub fn advance(&self, time: Duration) {
        self.0.with(|world| world.advance(time));
    }

    /// Sets the wall clock back. Timers are not affected.
    pub fn set_clock_back(&self, by: Duration) {
        self.0.shared().borrow_mut().set_back += by;
    }

    /// The wall clock in seconds since the Unix epoch, as the filter reads it.
    pub fn unix_time(&self) -> u64 {
        self.0.shared().borrow().wall_clock().as_secs()
    }

    /// The value of a counter or gauge, summed over all VMs, or the number of records of a
    /// histogram. 0 if the filter did not define the metric.
    pub fn metric(&self, name: &str) -> u64 {
        self.0.shared().borrow().metrics.get(name).map_or(0, |metric| metric.value)
    }

    /// The names of all metrics that the filter defined.
    pub fn metric_names(&self) -> Vec<String> {
        self.0.shared().borrow().metric_names.clone()
    }

    /// All log lines of the filter, in order.
    pub fn logs(&self) -> Vec<Log> {
        self.0.shared().borrow().logs.clone()
    }

    /// All calls of the filter, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.0.shared().borrow().calls.clone()
    }

    /// The number of calls in flight.
    pub fn calls_in_flight(&self) -> usize {
        self.0.shared().borrow().pending.len()
    }

    /// The cost of the callbacks of the first worker's VM so far.
    pub fn cost(&self) -> Cost {
        self.0.look_at_vm(1, Vm::cost)
    }

    /// The memory size of the first worker's VM, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.0.look_at_vm(1, Vm::memory_bytes)
    }
}
