//! What Envoy calls for a network filter. Envoy refuses a module in which one of these hooks is missing.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::ThreadId;

use super::*;
use crate::egress::{Connection, ConnectionAction, ConnectionConfig};

/// `FilterStatus::Continue` and `FilterStatus::StopIteration`.
const CONTINUE: u32 = 0;
const STOP: u32 = 1;

/// `envoy_dynamic_module_type_network_connection_event`: `RemoteClose` and `LocalClose`.
const REMOTE_CLOSE: u32 = 0;
const LOCAL_CLOSE: u32 = 1;

/// What Envoy holds of a connection. It is empty after the connection is closed.
///
/// Envoy calls the hooks of a connection on its worker, except for the destroy hook, which runs where Envoy drops the last
/// reference to its filter. A thread that commits a scheduler holds such a reference for a moment.
struct Slot {
    connection: RefCell<Option<Rc<Connection>>>,
    worker: ThreadId,
}

impl Slot {
    fn new(connection: Rc<Connection>) -> Self {
        Self { connection: RefCell::new(Some(connection)), worker: std::thread::current().id() }
    }

    fn connection(&self) -> Option<Rc<Connection>> {
        self.connection.borrow().clone()
    }

    /// Whether the data of the connection passes without the connection's hook.
    fn is_judged(&self) -> bool {
        self.connection.borrow().as_ref().is_some_and(|connection| connection.is_judged())
    }

    /// The connection leaves its worker. Only on the worker.
    fn empty(&self) {
        let connection = self.connection.take();
        if let Some(connection) = connection {
            connection.handle().end();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if self.worker == std::thread::current().id() {
            let _ = catch_unwind(AssertUnwindSafe(|| connection.on_end()));
            connection.handle().end();
        } else {
            // The connection refers to what only the worker may touch. Envoy closes each connection on the worker before
            // it destroys the connection, so this does not happen.
            std::mem::forget(connection);
        }
    }
}

/// Runs `hook` on a connection. A panic closes the connection, and does not reach Envoy.
///
/// # Safety
/// `slot` is what [`envoy_dynamic_module_on_network_filter_new`] returned, and Envoy has not destroyed it.
unsafe fn on_connection<T>(
    slot: *const Slot,
    otherwise: T,
    hook: impl FnOnce(&Rc<Connection>) -> T,
) -> T {
    // The hook for a new connection panicked, or the connection is closed.
    // SAFETY: by the contract, Envoy's reference is still there, and all hooks but the last one run on the worker.
    let Some(connection) = (unsafe { slot.as_ref() }).and_then(Slot::connection) else {
        return otherwise;
    };
    let result = catch_unwind(AssertUnwindSafe(|| hook(&connection)));
    result.unwrap_or_else(|_| {
        let _ = catch_unwind(AssertUnwindSafe(|| connection.on_panic()));
        otherwise
    })
}

fn status(action: ConnectionAction) -> u32 {
    match action {
        ConnectionAction::Continue => CONTINUE,
        ConnectionAction::Hold => STOP,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_network_filter_config_new(
    envoy: EnvoyPtr,
    name: Buffer,
    config: Buffer,
) -> *const ConnectionConfig {
    // SAFETY: Envoy passes its object and two buffers, all valid during this hook.
    let (handle, name, json) =
        unsafe { (NetworkConfigHandle::new(envoy), name.bytes(), config.bytes()) };
    let created = catch_unwind(AssertUnwindSafe(|| ConnectionConfig::new(&handle, name, json)));
    created.ok().flatten().map_or(std::ptr::null(), Arc::into_raw)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_network_filter_config_destroy(
    config: *const ConnectionConfig,
) {
    if !config.is_null() {
        // SAFETY: the pointer is from `into_raw`, and Envoy destroys a configuration once.
        drop(unsafe { Arc::from_raw(config) });
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_network_filter_new(
    config: *const ConnectionConfig,
    envoy: EnvoyPtr,
) -> *const Slot {
    // SAFETY: Envoy passes what `config_new` returned, and a configuration outlives its connections.
    let config = unsafe {
        Arc::increment_strong_count(config);
        Arc::from_raw(config)
    };
    // SAFETY: the connection is new, and the handle ends when the connection is closed or destroyed.
    let handle = unsafe { ConnectionHandle::new(envoy) };
    let created = catch_unwind(AssertUnwindSafe(|| Connection::new(config, handle)));
    // Envoy closes a connection without a filter.
    created.map_or(std::ptr::null(), |created| Box::into_raw(Box::new(Slot::new(created))))
}

/// Envoy calls this on any thread, also while it runs a callback that the module has called.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_network_filter_destroy(slot: *mut Slot) {
    if !slot.is_null() {
        // SAFETY: the pointer is from `into_raw`, and Envoy destroys a connection once, after all other hooks.
        drop(unsafe { Box::from_raw(slot) });
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_network_filter_new_connection(
    _envoy: EnvoyPtr,
    slot: *const Slot,
) -> u32 {
    // SAFETY: Envoy passes what the hook for a new connection returned.
    let action =
        unsafe { on_connection(slot, ConnectionAction::Hold, Connection::on_new_connection) };
    status(action)
}

/// Envoy calls this for each part of the data, also when the connection is decided.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_network_filter_read(
    _envoy: EnvoyPtr,
    slot: *const Slot,
    length: usize,
    is_end: bool,
) -> u32 {
    // SAFETY: Envoy passes what the hook for a new connection returned, and calls its hooks on its thread.
    if unsafe { slot.as_ref() }.is_some_and(Slot::is_judged) {
        return CONTINUE;
    }
    let hook = |connection: &Rc<Connection>| connection.on_data(length, is_end);
    // SAFETY: Envoy passes the slot that the hook for a new connection returned, and calls its hooks on its thread.
    status(unsafe { on_connection(slot, ConnectionAction::Hold, hook) })
}

/// What the destination sends passes: it has been permitted, or there is none.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_network_filter_write(
    _envoy: EnvoyPtr,
    _slot: *const Slot,
    _length: usize,
    _is_end: bool,
) -> u32 {
    CONTINUE
}

/// Envoy calls this on the worker before it drops a closed connection, and writes the access log after this.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_network_filter_event(
    _envoy: EnvoyPtr,
    slot: *const Slot,
    event: u32,
) {
    if !matches!(event, REMOTE_CLOSE | LOCAL_CLOSE) {
        return;
    }
    // SAFETY: Envoy passes what the hook for a new connection returned.
    unsafe {
        on_connection(slot, (), |connection| connection.on_close());
        if let Some(slot) = slot.as_ref() {
            slot.empty();
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_network_filter_scheduled(
    _envoy: EnvoyPtr,
    slot: *const Slot,
    _event: u64,
) {
    // SAFETY: Envoy passes what the hook for a new connection returned.
    unsafe { on_connection(slot, (), |connection| connection.on_scheduled()) }
}

unused! {
    envoy_dynamic_module_on_network_filter_above_write_buffer_high_watermark
    envoy_dynamic_module_on_network_filter_below_write_buffer_low_watermark
    envoy_dynamic_module_on_network_filter_config_scheduled
    envoy_dynamic_module_on_network_filter_http_callout_done
}
