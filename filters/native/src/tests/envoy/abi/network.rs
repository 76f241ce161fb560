//! Connections: the callbacks of network filters, and the hooks, with a model of Envoy's connections.
//!
//! The model belongs to one thread, which is the main thread and the only worker. Each callback can panic.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use super::*;

const CONTINUE: u32 = 0;
const LOCAL_CLOSE: u32 = 1;
const NO_FLUSH: u32 = 1;

thread_local! {
    static NETWORK: RefCell<Network> = RefCell::default();
}

#[derive(Default)]
struct Network {
    last: usize,
    connections: BTreeMap<usize, Model>,
    /// The connection of each scheduler.
    schedulers: BTreeMap<usize, usize>,
    refuses_schedulers: bool,
    woken: VecDeque<usize>,
    /// Connections that the worker drops while another thread holds Envoy's last reference to them.
    dropped: Vec<Connected>,
    counters: Vec<(String, u64)>,
    callbacks: Vec<&'static str>,
    panic_at: Option<usize>,
}

#[derive(Default)]
struct Model {
    module: Module,
    destination: Option<(String, u16)>,
    upstream: Option<(String, u16)>,
    server_name: Vec<u8>,
    received: Vec<u8>,
    states: BTreeMap<String, String>,
    properties: BTreeMap<String, String>,
    is_closed: bool,
    /// Whether the client has not read all that the destination sent.
    has_unread: bool,
}

fn with<T>(f: impl FnOnce(&mut Network) -> T) -> T {
    NETWORK.with_borrow_mut(f)
}

/// Runs a callback on a connection that exists.
fn callback<T>(name: &'static str, connection: Object, f: impl FnOnce(&mut Model) -> T) -> T {
    let injected = with(|network| {
        network.callbacks.push(name);
        network.panic_at == Some(network.callbacks.len() - 1)
    });
    assert!(!injected, "{name} panics, as the test asks");
    with(|network| f(network.connections.get_mut(&number(connection)).expect("it exists")))
}

/// # Safety
/// The pointers are valid.
unsafe fn lend(address: Option<&(String, u16)>, text: *mut Bytes, port: *mut u32) -> bool {
    let Some((host, number)) = address else { return false };
    // SAFETY: by the contract of this function. The model owns the text.
    unsafe {
        text.write(Bytes::of(host.as_bytes()));
        port.write((*number).into());
    }
    true
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_network_filter_get_local_address(
    connection: Object,
    address: *mut Bytes,
    port: *mut u32,
) -> bool {
    callback("get_local_address", connection, |model| {
        // SAFETY: the module passes valid pointers.
        unsafe { lend(model.destination.as_ref(), address, port) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_network_filter_get_upstream_host_address(
    connection: Object,
    address: *mut Bytes,
    port: *mut u32,
) -> bool {
    callback("get_upstream_host_address", connection, |model| {
        // SAFETY: the module passes valid pointers.
        unsafe { lend(model.upstream.as_ref(), address, port) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_network_filter_get_requested_server_name(
    connection: Object,
    name: *mut Bytes,
) -> bool {
    callback("get_requested_server_name", connection, |model| {
        // SAFETY: the module passes a valid pointer, and the model owns the bytes.
        unsafe { name.write(Bytes::of(&model.server_name)) };
        !model.server_name.is_empty()
    })
}

/// The model holds what it has received in chunks of ten bytes.
#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_network_filter_get_read_buffer_chunks_size(
    connection: Object,
) -> usize {
    callback("get_read_buffer_chunks_size", connection, |model| model.received.chunks(10).len())
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_network_filter_get_read_buffer_chunks(
    connection: Object,
    chunks: *mut Bytes,
) -> bool {
    callback("get_read_buffer_chunks", connection, |model| {
        for (index, chunk) in model.received.chunks(10).enumerate() {
            // SAFETY: the module's array has as many elements as the callback for the size returned.
            unsafe { chunks.add(index).write(Bytes::of(chunk)) };
        }
        true
    })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_network_set_filter_state_typed(
    connection: Object,
    key: Bytes,
    value: Bytes,
) -> bool {
    // SAFETY: the module passes valid buffers.
    let (key, value) = unsafe { (key.text(), value.text()) };
    callback("set_filter_state_typed", connection, |model| {
        model.states.insert(key, value);
        true
    })
}

/// Envoy takes a property once.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_network_set_filter_state_bytes(
    connection: Object,
    key: Bytes,
    value: Bytes,
) -> bool {
    // SAFETY: the module passes valid buffers.
    let (key, value) = unsafe { (key.text(), value.text()) };
    callback("set_filter_state_bytes", connection, |model| {
        assert!(model.properties.insert(key, value).is_none(), "a property is set twice");
        true
    })
}

/// Envoy calls the event hook from inside the close, unless it waits for a client that does not read.
#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_network_filter_close(
    connection: Object,
    kind: u32,
) {
    let (module, was_closed) = callback("close", connection, |model| {
        let waits = kind != NO_FLUSH && model.has_unread;
        (model.module, waits || std::mem::replace(&mut model.is_closed, true))
    });
    if !was_closed {
        event(number(connection), module);
    }
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_network_filter_increment_counter(
    connection: Object,
    counter: usize,
    by: u64,
) -> u32 {
    callback("increment_counter", connection, |_| ());
    with(|network| network.counters.get_mut(counter).map(|(_, value)| *value += by));
    0
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_network_filter_scheduler_new(
    connection: Object,
) -> Object {
    callback("scheduler_new", connection, |_| ());
    with(|network| {
        if network.refuses_schedulers {
            return object(0);
        }
        network.last += 1;
        network.schedulers.insert(network.last, number(connection));
        object(network.last)
    })
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_network_filter_scheduler_commit(
    scheduler: Object,
    _event: u64,
) {
    let last = with(|network| {
        let connection = *network.schedulers.get(&number(scheduler)).expect("it exists");
        let last = network.dropped.extract_if(.., |dropped| dropped.0 == connection).next();
        if last.is_none() {
            network.woken.push_back(connection);
        }
        last
    });
    // Envoy's scheduler held the last reference: the thread that commits destroys the connection.
    drop(last);
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_network_filter_scheduler_delete(
    scheduler: Object,
) {
    with(|network| network.schedulers.remove(&number(scheduler)).expect("it exists"));
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_network_filter_config_define_counter(
    _config: Object,
    name: Bytes,
    counter: *mut usize,
) -> u32 {
    with(|network| {
        // SAFETY: the module passes a valid buffer and pointer.
        let name = unsafe { name.text() };
        let known = network.counters.iter().position(|(other, _)| *other == name);
        let index = known.unwrap_or_else(|| {
            network.counters.push((name, 0));
            network.counters.len() - 1
        });
        // SAFETY: the module passes a place for the number of the counter.
        unsafe { counter.write(index) };
    });
    0
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_network_filter_config_define_gauge(
    config: Object,
    name: Bytes,
    gauge: *mut usize,
) -> u32 {
    // SAFETY: the arguments are those of the callback for counters.
    unsafe {
        envoy_dynamic_module_callback_network_filter_config_define_counter(config, name, gauge)
    }
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_network_filter_config_set_gauge(
    _config: Object,
    gauge: usize,
    to: u64,
) -> u32 {
    with(|network| network.counters.get_mut(gauge).map(|(_, value)| *value = to));
    0
}

unsafe extern "C" {
    fn envoy_dynamic_module_on_network_filter_config_new(
        envoy: Object,
        name: Bytes,
        config: Bytes,
    ) -> Object;
    fn envoy_dynamic_module_on_network_filter_config_destroy(config: Object);
    fn envoy_dynamic_module_on_network_filter_new(config: Object, envoy: Object) -> Object;
    fn envoy_dynamic_module_on_network_filter_destroy(connection: Object);
    fn envoy_dynamic_module_on_network_filter_new_connection(
        envoy: Object,
        connection: Object,
    ) -> u32;
    fn envoy_dynamic_module_on_network_filter_read(
        envoy: Object,
        connection: Object,
        length: usize,
        is_end: bool,
    ) -> u32;
    fn envoy_dynamic_module_on_network_filter_event(envoy: Object, connection: Object, event: u32);
    fn envoy_dynamic_module_on_network_filter_scheduled(
        envoy: Object,
        connection: Object,
        event: u64,
    );
}

fn event(connection: usize, module: Module) {
    // SAFETY: the connection exists, and all of its hooks run on this thread.
    unsafe {
        envoy_dynamic_module_on_network_filter_event(
            object(connection),
            std::ptr::with_exposed_provenance(module),
            LOCAL_CLOSE,
        );
    }
}

/// A configuration of the network filter. Dropping it destroys it.
pub(crate) struct NetworkConfig(Module);

impl NetworkConfig {
    /// `None` if the module refuses it.
    pub(crate) fn new(config: &str) -> Option<Self> {
        let (name, config) = (Bytes::of(b"sandgate_egress_tcp"), Bytes::of(config.as_bytes()));
        // SAFETY: the buffers are valid during the hook.
        let module = number(unsafe {
            envoy_dynamic_module_on_network_filter_config_new(object(0), name, config)
        });
        (module != 0).then_some(Self(module))
    }

    /// Opens a connection. Returns it, and whether it continues to its upstream.
    pub(crate) fn connect(&self, destination: SocketAddr, server_name: &str) -> (Connected, bool) {
        let id = with(|network| {
            network.last += 1;
            let model = Model {
                destination: Some((destination.ip().to_string(), destination.port())),
                server_name: server_name.into(),
                ..Model::default()
            };
            network.connections.insert(network.last, model);
            network.last
        });
        let config = std::ptr::with_exposed_provenance(self.0);
        // SAFETY: the configuration exists, and so does the connection until the module's object is destroyed.
        let status = unsafe {
            let module = envoy_dynamic_module_on_network_filter_new(config, object(id));
            with(|network| network.connections.get_mut(&id).map(|it| it.module = number(module)));
            envoy_dynamic_module_on_network_filter_new_connection(object(id), module)
        };
        (Connected(id), status == CONTINUE)
    }
}

impl Drop for NetworkConfig {
    fn drop(&mut self) {
        // SAFETY: it exists, and is destroyed once.
        unsafe {
            envoy_dynamic_module_on_network_filter_config_destroy(
                std::ptr::with_exposed_provenance(self.0),
            );
        }
    }
}

/// A connection. Dropping it destroys it.
pub(crate) struct Connected(usize);

impl Connected {
    fn model<T>(&self, f: impl FnOnce(&mut Model) -> T) -> T {
        with(|network| f(network.connections.get_mut(&self.0).expect("it exists")))
    }

    /// The client sends bytes. Returns whether what was received passes to the upstream.
    pub(crate) fn send(&self, bytes: &[u8]) -> bool {
        let (module, length) = self.model(|model| {
            model.received.extend(bytes);
            (model.module, model.received.len())
        });
        // SAFETY: the connection exists, and all of its hooks run on this thread.
        let status = unsafe {
            envoy_dynamic_module_on_network_filter_read(
                object(self.0),
                std::ptr::with_exposed_provenance(module),
                length,
                false,
            )
        };
        if status == CONTINUE {
            self.model(|model| model.received.clear());
        }
        status == CONTINUE
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.model(|model| model.is_closed)
    }

    /// The cluster that the connection goes to, if the module has set one.
    pub(crate) fn cluster(&self) -> Option<String> {
        self.model(|model| model.states.get("envoy.tcp_proxy.cluster").cloned())
    }

    /// The client stops reading, with bytes of the destination left.
    pub(crate) fn stop_reading(&self) {
        self.model(|model| model.has_unread = true);
    }

    /// Envoy has connected it.
    pub(crate) fn reach(&self, upstream: SocketAddr) {
        let upstream = Some((upstream.ip().to_string(), upstream.port()));
        self.model(|model| model.upstream = upstream);
    }

    /// The client closes the connection. Returns the decision in the access log.
    pub(crate) fn end(self) -> Option<String> {
        self.close();
        self.model(|model| model.properties.get("wasm.sandgate_decision").cloned())
    }

    /// The client closes the connection, and the worker drops it while a thread commits a scheduler. If that is a scheduler
    /// of this connection, the thread destroys it.
    pub(crate) fn end_while_another_thread_commits(self) {
        self.close();
        with(|network| network.dropped.push(self));
    }

    /// The client closes the connection, and a thread other than the worker destroys it.
    pub(crate) fn end_on_another_thread(self) {
        self.close();
        let Model { module, .. } =
            with(|network| network.connections.remove(&self.0)).expect("it exists");
        std::mem::forget(self);
        std::thread::spawn(move || destroy(module)).join().expect("the hook does not panic");
    }

    fn close(&self) {
        let (module, was_closed) =
            self.model(|model| (model.module, std::mem::replace(&mut model.is_closed, true)));
        if !was_closed {
            event(self.0, module);
        }
    }
}

fn destroy(module: Module) {
    // SAFETY: the module's object exists, and is destroyed once, after its other hooks.
    unsafe {
        envoy_dynamic_module_on_network_filter_destroy(std::ptr::with_exposed_provenance(module));
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let module = self.model(|model| model.module);
        destroy(module);
        with(|network| network.connections.remove(&self.0));
    }
}

/// Runs what was scheduled, also what is scheduled meanwhile.
pub(crate) fn run_scheduled() {
    while let Some(id) = with(|network| network.woken.pop_front()) {
        // A connection that has ended is not woken.
        let module = with(|network| network.connections.get(&id).map(|model| model.module));
        let Some(module) = module else { continue };
        // SAFETY: the connection exists, and all of its hooks run on this thread.
        unsafe {
            envoy_dynamic_module_on_network_filter_scheduled(
                object(id),
                std::ptr::with_exposed_provenance(module),
                0,
            );
        }
    }
}

pub(crate) fn refuse_schedulers(refuses: bool) {
    with(|network| network.refuses_schedulers = refuses);
}

/// The worker drops the last references to the connections that no other thread has destroyed. Returns their number.
pub(crate) fn drop_ended() -> usize {
    with(|network| std::mem::take(&mut network.dropped)).len()
}

/// Runs `f`. Returns the callbacks that it made, one of which may panic.
pub(crate) fn callbacks(panic_at: Option<usize>, f: impl FnOnce()) -> Vec<&'static str> {
    with(|network| {
        network.callbacks.clear();
        network.panic_at = panic_at;
    });
    f();
    with(|network| {
        network.panic_at = None;
        std::mem::take(&mut network.callbacks)
    })
}

pub(crate) fn counter(name: &str) -> u64 {
    with(|network| {
        let found = network.counters.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| *value).unwrap_or_default()
    })
}
