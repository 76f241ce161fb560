//! The part of Envoy's dynamic module ABI (Envoy 1.40: HTTP filters, network filters, and bootstrap extensions) that the
//! module uses, and safe types over it.
//!
//! `stream` calls Envoy for one stream, `scheduler` wakes the stream's worker, `network` calls Envoy for one connection,
//! `config` for a configuration, and `bootstrap` for the bootstrap extension. `hooks`, `network_hooks`, and `bootstrap_hooks`
//! are what Envoy calls. Only these files hold unsafe code. They rely on what Envoy guarantees:
//!
//! - All hooks of a stream are called on one worker thread, the destroy hook last and once.
//! - A configuration is created on the main thread, and outlives its streams. It may be destroyed on a worker, by the last
//!   stream of a configuration that Envoy has replaced.
//! - All hooks of the bootstrap extension are called on the main thread. Its configuration outlives the workers.
//! - A header map does not change while a hook only reads.

#![expect(unsafe_code, reason = "declares the ABI of the host")]

/// Hooks of what this module does not use. They get arguments, which may be ignored in the C ABI.
macro_rules! unused {
    ($($hook:ident)*) => { $(
        #[unsafe(no_mangle)]
        extern "C" fn $hook() -> usize { 0 }
    )* };
}

mod bootstrap;
mod bootstrap_hooks;
mod config;
mod hooks;
mod network;
mod network_hooks;
mod scheduler;
mod stream;

pub(crate) use bootstrap::{CalloutResponse, ExtensionHandle, MainScheduler, MainThread, Timer};
pub(crate) use config::{ConfigHandle, Counter};
pub(crate) use network::{ConnectionHandle, ConnectionScheduler, NetworkConfigHandle};
pub(crate) use scheduler::StreamScheduler;
pub(crate) use stream::{HeaderMap, StreamHandle};

use std::ffi::c_void;

use sandgate_policy::header::Field;

/// Envoy refused a call, or the stream has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Refused;

pub(crate) type Result<T> = std::result::Result<T, Refused>;

/// Envoy's levels of log lines.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum LogLevel {
    Debug = 1,
    Warn = 3,
    Error = 4,
    Critical = 5,
}

/// Writes a line to Envoy's log. `message` must not contain anything that a client sent.
pub(crate) fn log(level: LogLevel, message: &str) {
    // SAFETY: the buffer is valid during the call, and Envoy copies it.
    unsafe { envoy_dynamic_module_callback_log(level as u32, Buffer::of(message.as_bytes())) }
}

/// An object of Envoy's.
type EnvoyPtr = *mut c_void;

/// Bytes, whoever owns them.
#[repr(C)]
#[derive(Clone, Copy)]
struct Buffer {
    ptr: *const u8,
    length: usize,
}

impl Buffer {
    const EMPTY: Self = Self { ptr: std::ptr::null(), length: 0 };

    fn of(bytes: &[u8]) -> Self {
        Self { ptr: bytes.as_ptr(), length: bytes.len() }
    }

    /// # Safety
    /// The bytes must be valid, and stay unchanged for `'a`.
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.ptr.is_null() {
            return &[];
        }
        // SAFETY: by the contract of this function.
        unsafe { std::slice::from_raw_parts(self.ptr, self.length) }
    }
}

/// A header field, whoever owns it.
#[repr(C)]
#[derive(Clone, Copy)]
struct HeaderField {
    name: Buffer,
    value: Buffer,
}

impl HeaderField {
    fn of(name: &str, value: &[u8]) -> Self {
        Self { name: Buffer::of(name.as_bytes()), value: Buffer::of(value) }
    }

    /// # Safety
    /// As [`Buffer::bytes`].
    unsafe fn lend<'a>(&self) -> Result<Field<'a>> {
        // SAFETY: by the contract of this function.
        let (name, value) = unsafe { (self.name.bytes(), self.value.bytes()) };
        if name.is_ascii() {
            // Names are tokens (RFC 9110, section 5.6.2).
            // SAFETY: ASCII is UTF-8.
            return Ok((unsafe { std::str::from_utf8_unchecked(name) }, value));
        }
        std::str::from_utf8(name).map(|name| (name, value)).map_err(|_| Refused)
    }
}

// `C-unwind`, so that an exception that leaves a callback has a defined end: Envoy's ends the process, and a panic of the
// tests' host reaches the hook.
unsafe extern "C-unwind" {
    fn envoy_dynamic_module_callback_log(level: u32, message: Buffer);

    fn envoy_dynamic_module_callback_http_get_headers_size(stream: EnvoyPtr, map: u32) -> usize;
    fn envoy_dynamic_module_callback_http_get_headers(
        stream: EnvoyPtr,
        map: u32,
        fields: *mut HeaderField,
    ) -> bool;
    fn envoy_dynamic_module_callback_http_set_header(
        stream: EnvoyPtr,
        map: u32,
        name: Buffer,
        value: Buffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_http_add_header(
        stream: EnvoyPtr,
        map: u32,
        name: Buffer,
        value: Buffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_http_set_filter_state_bytes(
        stream: EnvoyPtr,
        key: Buffer,
        value: Buffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_http_set_filter_state_typed(
        stream: EnvoyPtr,
        key: Buffer,
        value: Buffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_http_get_filter_state_typed(
        stream: EnvoyPtr,
        key: Buffer,
        value: *mut Buffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_http_get_metadata_string(
        stream: EnvoyPtr,
        source: u32,
        namespace: Buffer,
        key: Buffer,
        value: *mut Buffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_http_send_response(
        stream: EnvoyPtr,
        status: u32,
        headers: *const HeaderField,
        headers_length: usize,
        body: Buffer,
        details: Buffer,
    );
    fn envoy_dynamic_module_callback_http_clear_route_cache(stream: EnvoyPtr);
    fn envoy_dynamic_module_callback_http_filter_continue_decoding(stream: EnvoyPtr);
    fn envoy_dynamic_module_callback_http_filter_reset_stream(
        stream: EnvoyPtr,
        reason: u32,
        details: Buffer,
    );
    fn envoy_dynamic_module_callback_http_filter_get_attribute_string(
        stream: EnvoyPtr,
        attribute: u32,
        value: *mut Buffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_http_get_body_size(stream: EnvoyPtr, body: u32) -> usize;
    fn envoy_dynamic_module_callback_http_filter_increment_counter(
        stream: EnvoyPtr,
        counter: usize,
        labels: *const Buffer,
        labels_length: usize,
        value: u64,
    ) -> u32;

    fn envoy_dynamic_module_callback_http_filter_scheduler_new(stream: EnvoyPtr) -> EnvoyPtr;
    fn envoy_dynamic_module_callback_http_filter_scheduler_commit(scheduler: EnvoyPtr, event: u64);
    fn envoy_dynamic_module_callback_http_filter_scheduler_delete(scheduler: EnvoyPtr);

    fn envoy_dynamic_module_callback_http_filter_config_define_counter(
        config: EnvoyPtr,
        name: Buffer,
        labels: *const Buffer,
        labels_length: usize,
        counter: *mut usize,
    ) -> u32;
    fn envoy_dynamic_module_callback_http_filter_config_define_gauge(
        config: EnvoyPtr,
        name: Buffer,
        labels: *const Buffer,
        labels_length: usize,
        gauge: *mut usize,
    ) -> u32;
    fn envoy_dynamic_module_callback_http_filter_config_set_gauge(
        config: EnvoyPtr,
        gauge: usize,
        labels: *const Buffer,
        labels_length: usize,
        value: u64,
    ) -> u32;
}
