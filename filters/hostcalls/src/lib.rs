//! The only place that touches the proxy-wasm ABI.
//!
//! The SDK's `Context` trait methods unwrap, and some of its calls panic on bytes that a client
//! chose; a panic traps the VM and hangs every request that is paused in it. What is here takes and
//! gives bytes, and reports failure as a value. A filter calls nothing else of the host.
//!
//! Two rules that types can't hold: read headers only inside a header callback or while the request
//! is paused, never after it was resumed; and dispatch calls only while the root context is the
//! effective one, so that an answer outlives the stream that asked.

pub mod connection;
pub mod http;
pub mod metrics;
pub mod queue;
pub mod stream;

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;

pub use proxy_wasm::types::LogLevel;

/// A call that the host refused.
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

/// Result of a call to the host.
pub type Result<T> = std::result::Result<T, HostError>;

/// Writes a line to the proxy's log. Never hand it anything that a caller sent.
pub fn log(level: LogLevel, message: &str) {
    // A log line that the host refuses has no better place to go.
    let _ = hostcalls::log(level, message);
}

/// The host's clock: time since the Unix epoch. It may be set back.
///
/// # Errors
/// When the host has no clock.
pub fn wall_clock() -> Result<Duration> {
    let now = hostcalls::get_current_time().map_err(HostError::of("get_current_time"))?;
    Ok(now.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Has the root context's `on_tick` called each `period`.
///
/// # Errors
/// When the host refuses.
pub fn set_tick_period(period: Duration) -> Result<()> {
    hostcalls::set_tick_period(period).map_err(HostError::of("set_tick_period"))
}

/// The plugin configuration, inside `on_configure`.
///
/// # Errors
/// When the host refuses.
pub fn configuration(size: usize) -> Result<Vec<u8>> {
    let buffer = proxy_wasm::types::BufferType::PluginConfiguration;
    let bytes =
        hostcalls::get_buffer(buffer, 0, size).map_err(HostError::of("get_configuration"))?;
    Ok(bytes.unwrap_or_default())
}

/// A property of the effective context, as the host has it: text as it is, numbers in 8 bytes,
/// little endian. `None` where there is no such property.
///
/// # Errors
/// When the host refuses.
pub fn property(path: &[&str]) -> Result<Option<Vec<u8>>> {
    hostcalls::get_property(path.to_vec()).map_err(HostError::of("get_property"))
}

/// The root id that the configuration gives the calling root context: which of the module's filters
/// it is. Empty where it gives none.
///
/// # Errors
/// When the host refuses.
pub fn root_id() -> Result<Vec<u8>> {
    Ok(property(&["plugin_root_id"])?.unwrap_or_default())
}
