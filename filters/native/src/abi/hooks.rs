//! What Envoy calls. Envoy refuses a module in which one of the hooks of an HTTP filter is missing.

use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use super::*;
use crate::filter::{Config, Stream};
use crate::ingress::Action;

/// `FilterHeadersStatus::StopAllIterationAndWatermark`.
const PAUSE_HEADERS: u32 = 4;
/// `FilterTrailersStatus::StopIteration`.
const PAUSE_TRAILERS: u32 = 1;
const CONTINUE: u32 = 0;

/// Runs `hook` on a stream. A panic denies or resets the stream, and does not reach Envoy.
///
/// # Safety
/// `stream` is what [`envoy_dynamic_module_on_http_filter_new`] returned, and Envoy has not destroyed it.
unsafe fn on_stream<T>(
    stream: *const Stream,
    after_panic: T,
    hook: impl FnOnce(&Rc<Stream>) -> T,
) -> T {
    // The hook for a new stream panicked, so there is no stream.
    if stream.is_null() {
        return after_panic;
    }
    // The hook may end the stream before it returns, so it holds a reference of its own.
    // SAFETY: by the contract, Envoy's reference is still there, and all hooks of a stream run on its thread.
    let stream = unsafe {
        Rc::increment_strong_count(stream);
        Rc::from_raw(stream)
    };
    let result = catch_unwind(AssertUnwindSafe(|| hook(&stream)));
    result.unwrap_or_else(|_| {
        let _ = catch_unwind(AssertUnwindSafe(|| stream.on_panic()));
        after_panic
    })
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_program_init() -> *const c_char {
    // The default hook prints the message, which may contain what a client sent.
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        log(LogLevel::Error, &format!("sandgate: panic at {place}"));
    }));
    c"v0.2.0".as_ptr()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_new(
    envoy: EnvoyPtr,
    name: Buffer,
    config: Buffer,
) -> *const Config {
    // SAFETY: Envoy passes its object and two buffers, all valid during this hook.
    let (handle, name, json) = unsafe { (ConfigHandle::new(envoy), name.bytes(), config.bytes()) };
    let created = catch_unwind(AssertUnwindSafe(|| Config::new(&handle, name, json)));
    created.ok().flatten().map_or(std::ptr::null(), Arc::into_raw)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_destroy(config: *const Config) {
    // Envoy calls this on the thread that drops the last reference: a worker, or the main thread.
    if !config.is_null() {
        // SAFETY: the pointer is from `into_raw`, and Envoy destroys a configuration once.
        let config = unsafe { Arc::from_raw(config) };
        let _ = catch_unwind(AssertUnwindSafe(|| config.end()));
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_new(
    config: *const Config,
    envoy: EnvoyPtr,
) -> *const Stream {
    // SAFETY: Envoy passes what `config_new` returned, and a configuration outlives its streams.
    let config = unsafe { &*config };
    // SAFETY: the stream is new, and `destroy` ends the handle.
    let handle = unsafe { StreamHandle::new(envoy) };
    let created = catch_unwind(AssertUnwindSafe(|| Stream::new(config, handle)));
    // Envoy closes a stream without a filter.
    created.map_or(std::ptr::null(), Rc::into_raw)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_destroy(stream: *const Stream) {
    if stream.is_null() {
        return;
    }
    // SAFETY: the pointer is from `into_raw`, and Envoy destroys a stream once.
    let stream = unsafe { Rc::from_raw(stream) };
    stream.handle().begin_end();
    if catch_unwind(AssertUnwindSafe(|| stream.on_end())).is_err() {
        // The engine begins anew, and the worker must still forget the stream.
        let _ = catch_unwind(AssertUnwindSafe(|| stream.on_end()));
    }
    stream.handle().end();
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_request_headers(
    _envoy: EnvoyPtr,
    stream: *const Stream,
    _is_end: bool,
) -> u32 {
    // SAFETY: Envoy passes what `new` returned.
    let action = unsafe { on_stream(stream, Action::Pause, Stream::on_request_headers) };
    headers_status(action)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_response_headers(
    _envoy: EnvoyPtr,
    stream: *const Stream,
    _is_end: bool,
) -> u32 {
    // SAFETY: Envoy passes what the hook for a new stream returned.
    let action = unsafe { on_stream(stream, Action::Pause, Stream::on_response_headers) };
    headers_status(action)
}

fn headers_status(action: Action) -> u32 {
    match action {
        Action::Continue => CONTINUE,
        Action::Pause => PAUSE_HEADERS,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_request_trailers(
    _envoy: EnvoyPtr,
    stream: *const Stream,
) -> u32 {
    let hook = |stream: &Rc<Stream>| stream.on_trailers(HeaderMap::RequestTrailers);
    // SAFETY: Envoy passes what the hook for a new stream returned.
    trailers_status(unsafe { on_stream(stream, Action::Pause, hook) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_response_trailers(
    _envoy: EnvoyPtr,
    stream: *const Stream,
) -> u32 {
    let hook = |stream: &Rc<Stream>| stream.on_trailers(HeaderMap::ResponseTrailers);
    // SAFETY: Envoy passes what the hook for a new stream returned.
    trailers_status(unsafe { on_stream(stream, Action::Pause, hook) })
}

fn trailers_status(action: Action) -> u32 {
    match action {
        Action::Continue => CONTINUE,
        Action::Pause => PAUSE_TRAILERS,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_request_body(
    _envoy: EnvoyPtr,
    stream: *const Stream,
    _is_end: bool,
) -> u32 {
    // SAFETY: Envoy passes what the hook for a new stream returned.
    unsafe { on_stream(stream, (), |stream| stream.on_body(true)) }
    CONTINUE
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_response_body(
    _envoy: EnvoyPtr,
    stream: *const Stream,
    _is_end: bool,
) -> u32 {
    // SAFETY: Envoy passes what the hook for a new stream returned.
    unsafe { on_stream(stream, (), |stream| stream.on_body(false)) }
    CONTINUE
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_scheduled(
    _envoy: EnvoyPtr,
    stream: *const Stream,
    _event: u64,
) {
    // SAFETY: Envoy passes what the hook for a new stream returned.
    unsafe { on_stream(stream, (), Stream::on_scheduled) }
}

/// Envoy writes the access log after this.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_stream_complete(
    _envoy: EnvoyPtr,
    stream: *const Stream,
) {
    // SAFETY: Envoy passes what the hook for a new stream returned.
    unsafe { on_stream(stream, (), Stream::on_complete) }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_local_reply(
    _envoy: EnvoyPtr,
    _stream: *const Stream,
    _status: u32,
    _details: Buffer,
    _is_reset: bool,
) -> u32 {
    CONTINUE
}

unused! {
    envoy_dynamic_module_on_http_filter_config_http_callout_done
    envoy_dynamic_module_on_http_filter_config_http_stream_complete
    envoy_dynamic_module_on_http_filter_config_http_stream_data
    envoy_dynamic_module_on_http_filter_config_http_stream_headers
    envoy_dynamic_module_on_http_filter_config_http_stream_reset
    envoy_dynamic_module_on_http_filter_config_http_stream_trailers
    envoy_dynamic_module_on_http_filter_config_scheduled
    envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark
    envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark
    envoy_dynamic_module_on_http_filter_http_callout_done
    envoy_dynamic_module_on_http_filter_http_stream_complete
    envoy_dynamic_module_on_http_filter_http_stream_data
    envoy_dynamic_module_on_http_filter_http_stream_headers
    envoy_dynamic_module_on_http_filter_http_stream_reset
    envoy_dynamic_module_on_http_filter_http_stream_trailers
    envoy_dynamic_module_on_http_filter_per_route_config_destroy
    envoy_dynamic_module_on_http_filter_per_route_config_new
}
