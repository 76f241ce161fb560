//! The callbacks for one stream.

use super::*;

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_http_get_headers_size(
    stream: Object,
    map: u32,
) -> usize {
    // The array that `get_headers` fills has this size, so it is never refused alone.
    let Some(envoy) = enter_surely("get_headers_size", number(stream)) else { return 0 };
    envoy.with_map(number(stream), map, |headers| headers.len()).unwrap_or_default()
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_http_get_headers(
    stream: Object,
    map: u32,
    fields: *mut Header,
) -> bool {
    let Some(envoy) = enter("get_headers", number(stream)) else { return false };
    let write = |headers: &mut Headers| {
        for (index, (name, value)) in headers.iter().enumerate() {
            // SAFETY: the module's array has as many elements as `get_headers_size` returned. The map owns the bytes.
            unsafe {
                fields.add(index).write(Header { name: Bytes::of(name), value: Bytes::of(value) });
            }
        }
    };
    envoy.with_map(number(stream), map, write).is_some()
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_http_set_header(
    stream: Object,
    map: u32,
    name: Bytes,
    value: Bytes,
) -> bool {
    let Some(envoy) = enter("set_header", number(stream)) else { return false };
    // SAFETY: the module passes valid buffers.
    let (name, value) = unsafe { (name.text(), value.copy()) };
    // Every change moves all bytes, so that the sanitizer finds a loan that is used after it.
    envoy
        .change_map(number(stream), map, |headers| {
            let rest = headers.without(&name);
            // Envoy 1.40 removes a field also for an empty value.
            match value.filter(|value| !value.is_empty()) {
                Some(value) => rest.with(&name, value),
                None => rest,
            }
        })
        .is_some()
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_http_add_header(
    stream: Object,
    map: u32,
    name: Bytes,
    value: Bytes,
) -> bool {
    let Some(envoy) = enter("add_header", number(stream)) else { return false };
    // SAFETY: the module passes valid buffers.
    let (name, value) = unsafe { (name.text(), value.copy().unwrap_or_default()) };
    // Envoy 1.40 refuses to add an empty value.
    !value.is_empty()
        && envoy.change_map(number(stream), map, |headers| headers.with(&name, value)).is_some()
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_http_set_filter_state_bytes(
    stream: Object,
    key: Bytes,
    value: Bytes,
) -> bool {
    let Some(envoy) = enter("set_filter_state_bytes", number(stream)) else { return false };
    // SAFETY: the module passes valid buffers.
    let (key, value) = unsafe { (key.text(), value.copy().unwrap_or_default()) };
    envoy.set_property(number(stream), key, value)
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_http_set_filter_state_typed(
    stream: Object,
    key: Bytes,
    value: Bytes,
) -> bool {
    let Some(envoy) = enter("set_filter_state_typed", number(stream)) else { return false };
    // SAFETY: the module passes valid buffers.
    let (key, value) = unsafe { (key.text(), value.text()) };
    envoy.set_filter_state(number(stream), key, value)
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_http_send_response(
    stream: Object,
    status: u32,
    fields: *const Header,
    length: usize,
    body: Bytes,
    _details: Bytes,
) {
    let Some(envoy) = enter_surely("send_response", number(stream)) else { return };
    // SAFETY: the module passes valid buffers.
    let (headers, body) = unsafe { (headers(fields, length), body.copy().unwrap_or_default()) };
    // The ABI has no gRPC status, and Envoy's code passes OK.
    envoy.reply(number(stream), &LocalReply { status, headers, body, grpc_status: Some(0) });
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_http_clear_route_cache(stream: Object) {
    if let Some(envoy) = enter_surely("clear_route_cache", number(stream)) {
        envoy.clear_route(number(stream));
    }
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_http_filter_continue_decoding(stream: Object) {
    if let Some(envoy) = enter_surely("continue_decoding", number(stream)) {
        envoy.resume(number(stream));
    }
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_http_filter_reset_stream(
    stream: Object,
    _reason: u32,
    _details: Bytes,
) {
    if let Some(envoy) = enter_surely("reset_stream", number(stream)) {
        envoy.reset(number(stream));
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_http_filter_get_attribute_string(
    stream: Object,
    attribute: u32,
    value: *mut Bytes,
) -> bool {
    let Some(envoy) = enter("get_attribute_string", number(stream)) else { return false };
    let lend = |bytes: &[u8]| {
        // SAFETY: the module passes a place for the value. The stream owns the bytes.
        unsafe { value.write(Bytes::of(bytes)) }
    };
    envoy.with_attribute(number(stream), attribute, lend).is_some()
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_http_get_filter_state_typed(
    stream: Object,
    key: Bytes,
    value: *mut Bytes,
) -> bool {
    let Some(envoy) = enter("get_filter_state_typed", number(stream)) else { return false };
    // SAFETY: the module passes a valid buffer.
    let name = format!("filter_state.{}", unsafe { key.text() });
    let lend = |bytes: &[u8]| {
        // SAFETY: the module passes a place for the value. The stream owns the bytes.
        unsafe { value.write(Bytes::of(bytes)) }
    };
    envoy.with_configured(number(stream), &name, lend).is_some()
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_http_get_metadata_string(
    stream: Object,
    source: u32,
    namespace: Bytes,
    key: Bytes,
    value: *mut Bytes,
) -> bool {
    let Some(envoy) = enter("get_metadata_string", number(stream)) else { return false };
    assert_eq!(source, 2, "the metadata of the cluster");
    // SAFETY: the module passes valid buffers.
    let (namespace, key) = unsafe { (namespace.text(), key.text()) };
    let name = format!("xds.cluster_metadata.filter_metadata.{namespace}.{key}");
    let lend = |bytes: &[u8]| {
        // SAFETY: the module passes a place for the value. The stream owns the bytes.
        unsafe { value.write(Bytes::of(bytes)) }
    };
    envoy.with_configured(number(stream), &name, lend).is_some()
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_http_get_body_size(
    stream: Object,
    body: u32,
) -> usize {
    let Some(envoy) = enter("get_body_size", number(stream)) else { return 0 };
    envoy.received_bytes(number(stream), body)
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_http_filter_increment_counter(
    stream: Object,
    counter: usize,
    _labels: *const Bytes,
    labels_length: usize,
    value: u64,
) -> u32 {
    increment(stream, counter, labels_length, value)
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_http_filter_scheduler_new(
    stream: Object,
) -> Object {
    let envoy = enter("scheduler_new", number(stream));
    let target = Target::Stream(number(stream));
    envoy.map_or(std::ptr::null(), |envoy| object(envoy.new_scheduler(target)))
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_http_filter_scheduler_commit(
    scheduler: Object,
    event: u64,
) {
    commit(scheduler, event);
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_http_filter_scheduler_delete(scheduler: Object) {
    Envoy::delete_scheduler(number(scheduler));
}
