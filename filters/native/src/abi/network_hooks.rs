//! What Envoy calls for a network filter. Envoy refuses a module in which one of these hooks is missing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use super::*;
use crate::egress::{Connection, ConnectionAction, ConnectionConfig};

/// `FilterStatus::Continue` and `FilterStatus::StopIteration`.
const CONTINUE: u32 = 0;
const STOP: u32 = 1;

/// Runs `hook` on a connection. A panic closes the connection, and does not reach Envoy.
///
/// # Safety
/// `connection` is what [`envoy_dynamic_module_on_network_filter_new`] returned, and Envoy has not destroyed it.
unsafe fn on_connection<T>(
    connection: *const Connection,
    after_panic: T,
    hook: impl FnOnce(&Rc<Connection>) -> T,
) -> T {
    // The hook for a new connection panicked, so there is no connection.
    if connection.is_null() {
        return after_panic;
    }
    // The hook may end the connection before it returns, so it holds a reference of its own.
    // SAFETY: by the contract, Envoy's reference is still there, and all hooks of a connection run on its thread.
    let connection = unsafe {
        Rc::increment_strong_count(connection);
        Rc::from_raw(connection)
    };
    let result = catch_unwind(AssertUnwindSafe(|| hook(&connection)));
    result.unwrap_or_else(|_| {
        let _ = catch_unwind(AssertUnwindSafe(|| connection.on_panic()));
        after_panic
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
) -> *const Connection {
    // SAFETY: Envoy passes what `config_new` returned, and a configuration outlives its connections.
    let config = unsafe {
        Arc::increment_strong_count(config);
        Arc::from_raw(config)
    };
    // SAFETY: the connection is new, and `destroy` ends the handle.
    let handle = unsafe { ConnectionHandle::new(envoy) };
    let created = catch_unwind(AssertUnwindSafe(|| Connection::new(config, handle)));
    // Envoy closes a connection without a filter.
    created.map_or(std::ptr::null(), Rc::into_raw)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_network_filter_destroy(connection: *const Connection) {
    if connection.is_null() {
        return;
    }
    // SAFETY: the pointer is from `into_raw`, and Envoy destroys a connection once.
    let connection = unsafe { Rc::from_raw(connection) };
    let _ = catch_unwind(AssertUnwindSafe(|| connection.on_end()));
    connection.handle().end();
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_network_filter_new_connection(
    _envoy: EnvoyPtr,
    connection: *const Connection,
) -> u32 {
    // SAFETY: Envoy passes what the hook for a new connection returned.
    let action =
        unsafe { on_connection(connection, ConnectionAction::Hold, Connection::on_new_connection) };
    status(action)
}

/// Envoy calls this for each part of the data, also when the connection is decided.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_network_filter_read(
    _envoy: EnvoyPtr,
    connection: *const Connection,
    length: usize,
    is_end: bool,
) -> u32 {
    // SAFETY: Envoy passes what the hook for a new connection returned, and calls its hooks on its thread.
    if unsafe { connection.as_ref() }.is_some_and(Connection::is_judged) {
        return CONTINUE;
    }
    let hook = |connection: &Rc<Connection>| connection.on_data(length, is_end);
    // SAFETY: as above.
    status(unsafe { on_connection(connection, ConnectionAction::Hold, hook) })
}

/// What the destination sends passes: it has been permitted, or there is none.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_network_filter_write(
    _envoy: EnvoyPtr,
    _connection: *const Connection,
    _length: usize,
    _is_end: bool,
) -> u32 {
    CONTINUE
}

/// The connection is closed, by either side. Envoy writes the access log after this.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_network_filter_event(
    _envoy: EnvoyPtr,
    connection: *const Connection,
    _event: u32,
) {
    // SAFETY: Envoy passes what the hook for a new connection returned.
    unsafe { on_connection(connection, (), |connection| connection.on_close()) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_network_filter_scheduled(
    _envoy: EnvoyPtr,
    connection: *const Connection,
    _event: u64,
) {
    // SAFETY: Envoy passes what the hook for a new connection returned.
    unsafe { on_connection(connection, (), |connection| connection.on_scheduled()) }
}

unused! {
    envoy_dynamic_module_on_network_filter_above_write_buffer_high_watermark
    envoy_dynamic_module_on_network_filter_below_write_buffer_low_watermark
    envoy_dynamic_module_on_network_filter_config_scheduled
    envoy_dynamic_module_on_network_filter_http_callout_done
}
