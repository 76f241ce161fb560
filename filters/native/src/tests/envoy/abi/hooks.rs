//! The hooks of HTTP filters, which are the module's symbols. `host` and `stream` call them in the order and on the threads that
//! Envoy does, and don't use an object of the module after they have destroyed it. A null pointer is allowed where Envoy passes one.

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
    fn envoy_dynamic_module_on_http_filter_request_trailers(envoy: Object, stream: Object) -> u32;
    fn envoy_dynamic_module_on_http_filter_response_trailers(envoy: Object, stream: Object) -> u32;
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
