//! The callbacks for one connection: its addresses, its bytes, its filter state, and its end.

use super::*;

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
