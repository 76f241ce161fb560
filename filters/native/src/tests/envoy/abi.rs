//! Both sides of Envoy's ABI, as Envoy sees them: the callbacks that the module calls, and the module's hooks.
//!
//! The declarations are made from Envoy's header file and not from the module's, so that a wrong declaration in the module
//! shows in the tests. Objects of the host have no address: a pointer to one is its number, which the host looks up.

#![expect(unsafe_code, reason = "is the other side of the module's ABI")]

pub(super) mod extension;
pub(crate) mod network;

use std::ffi::c_void;

use sandgate_wasm_host::{Headers, LocalReply};

use super::host::{Envoy, Injected, Target};

type Object = *const c_void;

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Bytes {
    data: *const u8,
    length: usize,
}

impl Bytes {
    fn of(bytes: &[u8]) -> Self {
        Self { data: bytes.as_ptr(), length: bytes.len() }
    }

    /// A copy of the bytes. `None` for a null pointer.
    ///
    /// # Safety
    /// The bytes are valid.
    unsafe fn copy(self) -> Option<Vec<u8>> {
        // SAFETY: by the contract of this function.
        (!self.data.is_null())
            .then(|| unsafe { std::slice::from_raw_parts(self.data, self.length) }.to_vec())
    }

    /// # Safety
    /// The bytes are valid.
    unsafe fn text(self) -> String {
        // SAFETY: by the contract of this function.
        String::from_utf8_lossy(&unsafe { self.copy() }.unwrap_or_default()).into_owned()
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Header {
    name: Bytes,
    value: Bytes,
}

/// # Safety
/// The array and what its elements point to are valid.
unsafe fn headers(fields: *const Header, length: usize) -> Headers {
    if length == 0 {
        return Headers::new();
    }
    // SAFETY: by the contract of this function.
    let fields = unsafe { std::slice::from_raw_parts(fields, length) };
    let copy = |field: &Header| unsafe {
        // SAFETY: by the contract of this function.
        (field.name.copy().unwrap_or_default(), field.value.copy().unwrap_or_default())
    };
    fields.iter().map(copy).collect()
}

fn number(object: Object) -> usize {
    object.expose_provenance()
}

fn object(number: usize) -> Object {
    std::ptr::without_provenance(number)
}

/// Finds the host of an object. What happens to a call is up to the test: it can panic or be refused.
fn enter(callback: &'static str, number: usize) -> Option<std::sync::Arc<Envoy>> {
    let Some(envoy) = Envoy::of(number) else {
        Envoy::fault_of_current(format!("{callback}: there is no object {number}"));
        return None;
    };
    match envoy.injected(callback) {
        None => Some(envoy),
        Some(Injected::Refusal) => None,
        Some(Injected::Panic) => panic!("{callback} panics, as the test asks"),
    }
}

/// As [`enter`], for a callback that has no way to refuse.
fn enter_surely(callback: &'static str, number: usize) -> Option<std::sync::Arc<Envoy>> {
    enter(callback, number).or_else(|| Envoy::of(number))
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_log(level: u32, message: Bytes) {
    // SAFETY: the module passes a valid buffer.
    Envoy::log(level, unsafe { message.text() });
}

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

fn increment(owner: Object, counter: usize, labels: usize, value: u64) -> u32 {
    match enter("increment_counter", number(owner)) {
        Some(envoy) if labels == 0 && envoy.increment(counter, value) => 0,
        _ => 1,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_http_filter_config_define_counter(
    config: Object,
    name: Bytes,
    _labels: *const Bytes,
    _labels_length: usize,
    counter: *mut usize,
) -> u32 {
    let Some(envoy) = enter("define_counter", number(config)) else { return 1 };
    // SAFETY: the module passes a valid name, and a place for the number.
    unsafe { counter.write(envoy.define_counter(name.text())) };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_http_filter_config_define_gauge(
    config: Object,
    name: Bytes,
    labels: *const Bytes,
    labels_length: usize,
    gauge: *mut usize,
) -> u32 {
    // SAFETY: the arguments are those of the callback for counters.
    unsafe {
        envoy_dynamic_module_callback_http_filter_config_define_counter(
            config,
            name,
            labels,
            labels_length,
            gauge,
        )
    }
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_http_filter_config_set_gauge(
    config: Object,
    gauge: usize,
    _labels: *const Bytes,
    _labels_length: usize,
    value: u64,
) -> u32 {
    match enter("set_gauge", number(config)) {
        Some(envoy) if envoy.set_gauge(gauge, value) => 0,
        _ => 1,
    }
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

fn commit(scheduler: Object, event: u64) {
    if let Some(envoy) = enter_surely("scheduler_commit", number(scheduler)) {
        envoy.commit(number(scheduler), event);
    }
}

/// What the module returned for the extension, a configuration, or a stream. 0 is a null pointer.
pub(super) type Module = usize;

/// The hooks, which are the module's symbols. `host` and `stream` call them in the order and on the threads that Envoy does, and
/// don't use an object of the module after they have destroyed it. A null pointer is allowed where Envoy passes one.
pub(super) mod hooks {
    use super::*;

    unsafe extern "C" {
        safe fn envoy_dynamic_module_on_program_init() -> *const std::ffi::c_char;
        fn envoy_dynamic_module_on_http_filter_config_new(
            envoy: Object,
            name: Bytes,
            config: Bytes,
        ) -> Object;
        fn envoy_dynamic_module_on_http_filter_config_destroy(config: Object);
        fn envoy_dynamic_module_on_http_filter_new(config: Object, envoy: Object) -> Object;
        fn envoy_dynamic_module_on_http_filter_destroy(stream: Object);
        fn envoy_dynamic_module_on_http_filter_request_headers(
            envoy: Object,
            stream: Object,
            is_end: bool,
        ) -> u32;
        fn envoy_dynamic_module_on_http_filter_response_headers(
            envoy: Object,
            stream: Object,
            is_end: bool,
        ) -> u32;
        fn envoy_dynamic_module_on_http_filter_request_trailers(
            envoy: Object,
            stream: Object,
        ) -> u32;
        fn envoy_dynamic_module_on_http_filter_response_trailers(
            envoy: Object,
            stream: Object,
        ) -> u32;
        fn envoy_dynamic_module_on_http_filter_request_body(
            envoy: Object,
            stream: Object,
            is_end: bool,
        ) -> u32;
        fn envoy_dynamic_module_on_http_filter_response_body(
            envoy: Object,
            stream: Object,
            is_end: bool,
        ) -> u32;
        fn envoy_dynamic_module_on_http_filter_scheduled(envoy: Object, stream: Object, event: u64);
        fn envoy_dynamic_module_on_http_filter_stream_complete(envoy: Object, stream: Object);
        fn envoy_dynamic_module_on_http_filter_local_reply(
            envoy: Object,
            stream: Object,
            status: u32,
            details: Bytes,
            is_reset: bool,
        ) -> u32;
    }

    /// A hook of a stream, with what it receives.
    #[derive(Clone, Copy, Debug)]
    pub(in super::super) enum Hook {
        RequestHeaders,
        RequestBody,
        RequestTrailers,
        ResponseHeaders,
        ResponseBody,
        ResponseTrailers,
        Scheduled,
        LocalReply(u32),
        Complete,
    }

    pub(in super::super) fn program_init() -> String {
        // SAFETY: the hook returns a C string that lives as long as the module.
        let version = unsafe { std::ffi::CStr::from_ptr(envoy_dynamic_module_on_program_init()) };
        version.to_string_lossy().into_owned()
    }

    pub(in super::super) fn new_config(envoy: usize, name: &[u8], config: &[u8]) -> Module {
        // SAFETY: the buffers are valid during the hook.
        number(unsafe {
            envoy_dynamic_module_on_http_filter_config_new(
                object(envoy),
                Bytes::of(name),
                Bytes::of(config),
            )
        })
    }

    pub(in super::super) fn destroy_config(config: Module) {
        // SAFETY: the module's objects exist until the host destroys them, and a stream's hooks run on its thread.
        unsafe {
            envoy_dynamic_module_on_http_filter_config_destroy(with_provenance(config));
        }
    }

    pub(in super::super) fn new_stream(config: Module, envoy: usize) -> Module {
        // SAFETY: the module's objects exist until the host destroys them, and a stream's hooks run on its thread.
        number(unsafe {
            envoy_dynamic_module_on_http_filter_new(with_provenance(config), object(envoy))
        })
    }

    pub(in super::super) fn destroy_stream(stream: Module) {
        // SAFETY: the module's objects exist until the host destroys them, and a stream's hooks run on its thread.
        unsafe { envoy_dynamic_module_on_http_filter_destroy(with_provenance(stream)) }
    }

    /// Calls a hook, and returns its status.
    pub(in super::super) fn call_hook(hook: Hook, envoy: usize, stream: Module) -> u32 {
        let (envoy, stream) = (object(envoy), with_provenance(stream));
        // SAFETY: the module's objects exist until the host destroys them, and a stream's hooks run on its thread.
        unsafe {
            match hook {
                Hook::RequestHeaders => {
                    envoy_dynamic_module_on_http_filter_request_headers(envoy, stream, false)
                }
                Hook::RequestBody => {
                    envoy_dynamic_module_on_http_filter_request_body(envoy, stream, false)
                }
                Hook::RequestTrailers => {
                    envoy_dynamic_module_on_http_filter_request_trailers(envoy, stream)
                }
                Hook::ResponseHeaders => {
                    envoy_dynamic_module_on_http_filter_response_headers(envoy, stream, false)
                }
                Hook::ResponseBody => {
                    envoy_dynamic_module_on_http_filter_response_body(envoy, stream, false)
                }
                Hook::ResponseTrailers => {
                    envoy_dynamic_module_on_http_filter_response_trailers(envoy, stream)
                }
                Hook::Scheduled => {
                    envoy_dynamic_module_on_http_filter_scheduled(envoy, stream, 0);
                    0
                }
                Hook::LocalReply(status) => envoy_dynamic_module_on_http_filter_local_reply(
                    envoy,
                    stream,
                    status,
                    Bytes::of(b"sandgate"),
                    false,
                ),
                Hook::Complete => {
                    envoy_dynamic_module_on_http_filter_stream_complete(envoy, stream);
                    0
                }
            }
        }
    }

}

fn with_provenance(module: Module) -> Object {
    std::ptr::with_exposed_provenance(module)
}
