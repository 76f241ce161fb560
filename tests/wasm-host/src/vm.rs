//! A virtual machine (VM): a filter's memory, its contexts, and the calls to its callbacks.

mod connections;
mod requests;
mod roots;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use wasmtime::{Instance, Linker, Memory, Module, Store, TypedFunc, Val};

use crate::connection::ConnectionState;
use crate::control_plane::Response;
use crate::cost::Cost;
use crate::imports;
use crate::local_reply::LocalReply;
use crate::shared::{Shared, VmId};
use crate::stream::StreamState;

/// The maximum number of replies in one callback. Envoy sends them recursively, each through the
/// filter's response callback; its V8 ran out of stack at 304 in a measurement.
const REPLIES_MAX: usize = 256;

/// The return value of a callback by which a filter continues.
const CONTINUE: u32 = 0;

/// An action that the filter requests, which is executed after its callback has returned.
#[derive(Debug)]
pub(crate) enum Action {
    Resume(u32),
    ResumeResponse,
    Reply(u32, LocalReply),
    Reset(u32),
    Close(u32),
    Proceed(u32),
    RootDone(u32),
}

/// A root context: one configuration of a filter.
#[derive(Debug, Default)]
pub(crate) struct Root {
    /// The root id, which selects one of the module's filters.
    pub(crate) root_id: String,
    /// Whether new requests use this root context. Other root contexts exist until their last
    /// request ends.
    pub(crate) current: bool,
    pub(crate) tick_period: Option<Duration>,
    pub(crate) next_tick: Option<Duration>,
    /// Whether `on_done` returned that the context is not done.
    pub(crate) lingering: bool,
}

/// The state of a VM that the host calls use.
pub(crate) struct VmState {
    pub(crate) id: VmId,
    pub(crate) shared: Rc<RefCell<Shared>>,
    pub(crate) memory: Option<Memory>,
    pub(crate) allocate: Option<TypedFunc<u32, u32>>,
    /// The context whose callback runs, and the effective context that the filter set. 0 means
    /// none.
    pub(crate) running: u32,
    pub(crate) effective: u32,
    pub(crate) roots: BTreeMap<u32, Root>,
    /// The requests with a context in the VM, and the requests that had one.
    pub(crate) streams: BTreeMap<u32, StreamState>,
    pub(crate) finished: BTreeMap<u32, StreamState>,
    /// The connections with a context in the VM, and the connections that had one.
    pub(crate) connections: BTreeMap<u32, ConnectionState>,
    pub(crate) disconnected: BTreeMap<u32, ConnectionState>,
    pub(crate) actions: VecDeque<Action>,
    /// The filter sent a reply in this callback, so the callback's return value is ignored.
    pub(crate) stop_iteration: bool,
    /// The root context that receives a response, and the response.
    pub(crate) call_response: Option<(u32, Response)>,
    /// The configuration, while a root context is being configured.
    pub(crate) configuration: Option<Vec<u8>>,
    /// The number of host calls so far, by name.
    pub(crate) host_calls: BTreeMap<&'static str, u64>,
    next_context: u32,
}

impl VmState {
    /// The context that host calls refer to. If the effective context no longer exists, it is the
    /// running one.
    pub(crate) fn context(&self) -> u32 {
        if self.effective != 0 && self.has_context(self.effective) {
            self.effective
        } else {
            self.running
        }
    }

    /// The root context of a context.
    pub(crate) fn root_of(&self, context: u32) -> u32 {
        let of_stream = self.streams.get(&context).map(|stream| stream.root);
        let of_connection = || self.connections.get(&context).map(|connection| connection.root);
        of_stream.or_else(of_connection).unwrap_or(context)
    }

    pub(crate) fn has_context(&self, context: u32) -> bool {
        self.streams.contains_key(&context)
            || self.connections.contains_key(&context)
            || self.roots.contains_key(&context)
    }

    fn new_context(&mut self) -> u32 {
        self.next_context += 1;
        self.next_context
    }
}

/// A filter in its VM.
pub(crate) struct Vm {
    store: Store<VmState>,
    instance: Instance,
    /// The trap that ended the VM.
    dead: Option<String>,
}

impl Vm {
    pub(crate) fn new(id: VmId, module: &Module, shared: Rc<RefCell<Shared>>) -> Self {
        let state = VmState {
            id,
            shared,
            memory: None,
            allocate: None,
            running: 0,
            effective: 0,
            roots: BTreeMap::new(),
            streams: BTreeMap::new(),
            finished: BTreeMap::new(),
            connections: BTreeMap::new(),
            disconnected: BTreeMap::new(),
            actions: VecDeque::new(),
            stop_iteration: false,
            call_response: None,
            configuration: None,
            host_calls: BTreeMap::new(),
            next_context: 0,
        };
        let mut store = Store::new(module.engine(), state);
        store.set_fuel(u64::MAX).unwrap_or_else(|error| panic!("fuel: {error:?}"));
        let mut linker = Linker::new(module.engine());
        imports::define(&mut linker)
            // The SDK imports host calls that the filters never make. They are defined as traps.
            .and_then(|()| linker.define_unknown_imports_as_traps(module))
            .unwrap_or_else(|error| panic!("host calls: {error:?}"));
        let instance = linker
            .instantiate(&mut store, module)
            .unwrap_or_else(|error| panic!("the filter does not load: {error:?}"));
        let memory = instance
            .get_memory(&mut store, "memory")
            .unwrap_or_else(|| panic!("the filter exports no memory"));
        let allocate = ["proxy_on_memory_allocate", "malloc"]
            .iter()
            .find_map(|name| instance.get_typed_func(&mut store, name).ok());
        store.data_mut().memory = Some(memory);
        store.data_mut().allocate = allocate;
        let mut vm = Self { store, instance, dead: None };
        vm.invoke("_initialize", 0, &[]);
        vm
    }

    pub(crate) fn state(&self) -> &VmState {
        self.store.data()
    }

    pub(crate) fn state_mut(&mut self) -> &mut VmState {
        self.store.data_mut()
    }

    /// The size of the VM's memory in bytes. It never shrinks.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.state().memory.map_or(0, |memory| memory.data_size(&self.store))
    }

    /// The cost of all callbacks so far.
    pub(crate) fn cost(&self) -> Cost {
        let left = self.store.get_fuel().unwrap_or_else(|error| panic!("fuel: {error:?}"));
        Cost { fuel: u64::MAX - left, host_calls: self.state().host_calls.clone() }
    }

    /// Calls a callback for a context, and then executes the actions that the filter requested. Returns
    /// the callback's return value, or `Pause` if the return value is ignored. Returns 0 if the filter
    /// does not have the callback, or if the VM has trapped.
    pub(crate) fn invoke(&mut self, callback: &str, context: u32, arguments: &[u32]) -> u32 {
        if self.dead.is_some() {
            return 0;
        }
        let Some(function) = self.instance.get_func(&mut self.store, callback) else {
            return 0;
        };
        let arguments: Vec<Val> =
            arguments.iter().map(|argument| Val::I32(argument.cast_signed())).collect();
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        self.state_mut().running = context;
        self.state_mut().effective = 0;
        if let Err(error) = function.call(&mut self.store, &arguments, &mut results) {
            self.trap(callback, &error);
            return 0;
        }
        let stopped = std::mem::take(&mut self.state_mut().stop_iteration);
        self.state_mut().running = 0;
        self.state_mut().effective = 0;
        let replies = self.state().actions.iter().filter(|it| matches!(it, Action::Reply(..)));
        let replies = replies.count();
        if replies > REPLIES_MAX {
            let message =
                format!("it sent {replies} replies in one callback, more than Envoy's stack holds");
            self.state().shared.borrow_mut().fault(message);
        }
        while let Some(action) = self.state_mut().actions.pop_front() {
            self.perform(action);
        }
        let returned = results.first().and_then(Val::i32).unwrap_or_default().cast_unsigned();
        if stopped { 1 } else { returned }
    }

    /// Executes an action that a callback requested.
    fn perform(&mut self, action: Action) {
        match action {
            Action::Resume(id) => self.resume(id),
            Action::ResumeResponse => {
                self.fault("it paused a response, which this host does not do");
            }
            Action::Reply(id, reply) => self.reply(id, &reply),
            Action::Reset(id) => self.reset(id),
            Action::RootDone(id) => self.delete_root(id),
            Action::Close(id) => self.close(id),
            Action::Proceed(id) => self.proceed(id),
        }
    }

    fn fault(&mut self, what: impl Into<String>) {
        let shared = Rc::clone(&self.state().shared);
        shared.borrow_mut().fault(what);
    }

    fn trap(&mut self, callback: &str, error: &wasmtime::Error) {
        let shared = Rc::clone(&self.state().shared);
        let mut shared = shared.borrow_mut();
        let last_lines: Vec<String> =
            shared.logs.iter().rev().take(3).rev().map(|log| log.message.clone()).collect();
        let message = format!(
            "the filter trapped in {callback}: {error:?}\nits last log lines: {last_lines:#?}"
        );
        shared.fault(message.clone());
        self.dead = Some(message);
        self.state_mut().actions.clear();
    }
}

/// A count in the ABI's 32 bits.
fn count(number: usize) -> u32 {
    u32::try_from(number).expect("a test's maps and bodies are small")
}
