//! Calls of the host through the proxy-wasm ABI. The filters make no other call of the host.
//!
//! The `Context` traits of the SDK unwrap errors, and some of its calls panic on bytes that a client
//! chooses. A panic traps the VM and hangs every request that is paused in it. The functions of this
//! crate therefore take and return bytes, and return errors as values.
//!
//! Types can't enforce two rules:
//!
//! - Read headers only inside a header callback or while the request is paused, and never after it was
//!   continued.
//! - Dispatch calls only while the root context is the effective context. Envoy cancels the calls of a
//!   stream when the stream ends.

#![warn(missing_docs)]

pub mod connection;
pub mod http;
pub mod metrics;
mod pairs;
pub mod queue;
pub mod stream;

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;

pub use proxy_wasm::types::LogLevel;

/// The error of a call that the host refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HostError {
    call: &'static str,
    status: Status,
}

impl HostError {
    pub(crate) fn of(call: &'static str) -> impl Fn(Status) -> Self {
        move |status| Self { call, status }
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the host refused {}: {:?}", self.call, self.status)
    }
}

impl std::error::Error for HostError {}

/// The result of a call of the host.
pub type Result<T> = std::result::Result<T, HostError>;

/// Writes a line to Envoy's log. `message` must not contain anything that a client sent.
pub fn log(level: LogLevel, message: &str) {
    // There is no other place to report that logging failed.
    let _ = hostcalls::log(level, message);
}

/// The time since the Unix epoch. It may go back.
///
/// # Errors
/// When the host has no clock.
pub fn wall_clock() -> Result<Duration> {
    let now = hostcalls::get_current_time().map_err(HostError::of("get_current_time"))?;
    Ok(now.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Sets the interval in which the host calls `on_tick` of the root context.
///
/// # Errors
/// When the host refuses.
pub fn set_tick_period(period: Duration) -> Result<()> {
    hostcalls::set_tick_period(period).map_err(HostError::of("set_tick_period"))
}

/// Reads the plugin configuration. Only inside `on_configure`, with the size that it receives.
///
/// # Errors
/// When the host refuses.
pub fn configuration(size: usize) -> Result<Vec<u8>> {
    let buffer = proxy_wasm::types::BufferType::PluginConfiguration;
    let bytes =
        hostcalls::get_buffer(buffer, 0, size).map_err(HostError::of("get_configuration"))?;
    Ok(bytes.unwrap_or_default())
}

/// Reads a property of the effective context. Text is returned as it is, and a number as 8 bytes,
/// little endian. `None` if there is no such property.
///
/// # Errors
/// When the host refuses.
pub fn property(path: &[&str]) -> Result<Option<Vec<u8>>> {
    hostcalls::get_property(path.to_vec()).map_err(HostError::of("get_property"))
}

/// Reads the `root_id` in the configuration of the calling root context, which selects a filter of the
/// module. Empty if the configuration has none.
///
/// # Errors
/// When the host refuses.
pub fn root_id() -> Result<Vec<u8>> {
    Ok(property(&["plugin_root_id"])?.unwrap_or_default())
}
