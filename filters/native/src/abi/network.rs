//! One connection: its addresses, its first bytes, its upstream, and its end. And the configuration of a network filter.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};

use super::*;

/// `envoy_dynamic_module_type_network_connection_close_type_NoFlush`: Envoy does not wait until the client has read what was
/// written to it. It closes the connection to the destination in the same way.
const NO_FLUSH: u32 = 1;

unsafe extern "C-unwind" {
    fn envoy_dynamic_module_callback_network_filter_get_local_address(
        connection: EnvoyPtr,
        address: *mut Buffer,
        port: *mut u32,
    ) -> bool;
    fn envoy_dynamic_module_callback_network_filter_get_upstream_host_address(
        connection: EnvoyPtr,
        address: *mut Buffer,
        port: *mut u32,
    ) -> bool;
    fn envoy_dynamic_module_callback_network_filter_get_requested_server_name(
        connection: EnvoyPtr,
        name: *mut Buffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_network_filter_get_read_buffer_chunks_size(
        connection: EnvoyPtr,
    ) -> usize;
    fn envoy_dynamic_module_callback_network_filter_get_read_buffer_chunks(
        connection: EnvoyPtr,
        chunks: *mut Buffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_network_set_filter_state_bytes(
        connection: EnvoyPtr,
        key: Buffer,
        value: Buffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_network_set_filter_state_typed(
        connection: EnvoyPtr,
        key: Buffer,
        value: Buffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_network_filter_close(connection: EnvoyPtr, kind: u32);
    fn envoy_dynamic_module_callback_network_filter_increment_counter(
        connection: EnvoyPtr,
        counter: usize,
        value: u64,
    ) -> u32;

    fn envoy_dynamic_module_callback_network_filter_scheduler_new(connection: EnvoyPtr)
    -> EnvoyPtr;
    fn envoy_dynamic_module_callback_network_filter_scheduler_commit(
        scheduler: EnvoyPtr,
        event: u64,
    );
    fn envoy_dynamic_module_callback_network_filter_scheduler_delete(scheduler: EnvoyPtr);

    fn envoy_dynamic_module_callback_network_filter_config_define_counter(
        config: EnvoyPtr,
        name: Buffer,
        counter: *mut usize,
    ) -> u32;
    fn envoy_dynamic_module_callback_network_filter_config_define_gauge(
        config: EnvoyPtr,
        name: Buffer,
        gauge: *mut usize,
    ) -> u32;
    fn envoy_dynamic_module_callback_network_filter_config_set_gauge(
        config: EnvoyPtr,
        gauge: usize,
        value: u64,
    ) -> u32;
}

/// The configuration of a network filter while Envoy creates it.
pub(crate) struct NetworkConfigHandle(EnvoyPtr);

impl NetworkConfigHandle {
    /// # Safety
    /// The pointer is the one that Envoy passed to a hook of the configuration, and the handle does not outlive the hook.
    pub(super) unsafe fn new(config: EnvoyPtr) -> Self {
        Self(config)
    }

    /// Defines a counter. Counters with the same name are the same counter, in all configurations.
    pub(crate) fn define_counter(&self, name: &str) -> Counter {
        let mut id = 0;
        // SAFETY: the configuration exists, Envoy copies the name, and `id` outlives the call.
        let result = unsafe {
            envoy_dynamic_module_callback_network_filter_config_define_counter(
                self.0,
                Buffer::of(name.as_bytes()),
                &raw mut id,
            )
        };
        Counter((result == 0).then_some(id))
    }

    /// Sets a gauge. Gauges with the same name are the same gauge, in all configurations.
    pub(crate) fn set_gauge(&self, name: &str, value: u64) {
        let mut id = 0;
        // SAFETY: the configuration exists, Envoy copies the name, and `id` outlives the calls.
        unsafe {
            let name = Buffer::of(name.as_bytes());
            let defined = envoy_dynamic_module_callback_network_filter_config_define_gauge(
                self.0,
                name,
                &raw mut id,
            );
            if defined == 0 {
                envoy_dynamic_module_callback_network_filter_config_set_gauge(self.0, id, value);
            }
        }
    }
}

/// A connection. All calls fail after the connection has ended. It stays on its worker thread (`!Send`).
pub(crate) struct ConnectionHandle {
    /// Null after the end.
    raw: Cell<EnvoyPtr>,
}

impl ConnectionHandle {
    /// # Safety
    /// The pointer is the one of a new connection, and [`Self::end`] is called before Envoy destroys the connection.
    pub(super) unsafe fn new(raw: EnvoyPtr) -> Self {
        Self { raw: Cell::new(raw) }
    }

    pub(super) fn end(&self) {
        self.raw.set(std::ptr::null_mut());
    }

    /// The connection, if it exists.
    fn raw(&self) -> Result<EnvoyPtr> {
        let raw = self.raw.get();
        if raw.is_null() { Err(Refused) } else { Ok(raw) }
    }

    /// The address that the client has connected to.
    pub(crate) fn destination(&self) -> Option<SocketAddr> {
        self.address(envoy_dynamic_module_callback_network_filter_get_local_address)
    }

    /// The address that the connection is connected to upstream.
    pub(crate) fn upstream(&self) -> Option<SocketAddr> {
        self.address(envoy_dynamic_module_callback_network_filter_get_upstream_host_address)
    }

    fn address(
        &self,
        get: unsafe extern "C-unwind" fn(EnvoyPtr, *mut Buffer, *mut u32) -> bool,
    ) -> Option<SocketAddr> {
        let raw = self.raw().ok()?;
        let (mut address, mut port) = (Buffer::EMPTY, 0);
        // SAFETY: the connection exists, and both values outlive the call.
        if !unsafe { get(raw, &raw mut address, &raw mut port) } {
            return None;
        }
        // SAFETY: the connection owns the bytes, and no call is made before they are read.
        let address = std::str::from_utf8(unsafe { address.bytes() }).ok()?;
        let port = u16::try_from(port).ok()?;
        match address.parse() {
            Ok(v4) => Some(SocketAddr::new(IpAddr::V4(v4), port)),
            // Only the form with a port may have the scope of a link-local address.
            Err(_) => format!("[{address}]:{port}").parse().ok(),
        }
    }

    /// The server name that Envoy's listener filters saw, or nothing.
    ///
    /// # Errors
    /// When the connection has ended.
    pub(crate) fn server_name(&self) -> Result<Vec<u8>> {
        let raw = self.raw()?;
        let mut name = Buffer::EMPTY;
        // SAFETY: the connection exists, and `name` outlives the call.
        let found = unsafe {
            envoy_dynamic_module_callback_network_filter_get_requested_server_name(
                raw,
                &raw mut name,
            )
        };
        // SAFETY: the connection owns the bytes, and no call is made before they are copied.
        Ok(if found { unsafe { name.bytes() }.to_vec() } else { Vec::new() })
    }

    /// The bytes that the client has sent and no filter has consumed, up to `limit` bytes. Only in the read hook.
    pub(crate) fn received(&self, limit: usize) -> Option<Vec<u8>> {
        let raw = self.raw().ok()?;
        // SAFETY: the connection exists.
        let size = unsafe {
            envoy_dynamic_module_callback_network_filter_get_read_buffer_chunks_size(raw)
        };
        let mut chunks: Vec<Buffer> = Vec::with_capacity(size);
        // SAFETY: the array has room for `size` chunks, and Envoy writes all of them if it returns true.
        unsafe {
            let chunks_start = chunks.as_mut_ptr();
            if !envoy_dynamic_module_callback_network_filter_get_read_buffer_chunks(
                raw,
                chunks_start,
            ) {
                return None;
            }
            chunks.set_len(size);
        }
        let mut bytes = Vec::new();
        for chunk in chunks {
            // SAFETY: the buffer of the connection owns the bytes, and it does not change during the hook.
            bytes.extend_from_slice(unsafe { chunk.bytes() });
        }
        bytes.truncate(limit);
        Some(bytes)
    }

    /// Sets a filter state object that Envoy defines.
    pub(crate) fn set_filter_state(&self, key: &str, value: &str) -> Result<()> {
        let raw = self.raw()?;
        let (key, value) = (Buffer::of(key.as_bytes()), Buffer::of(value.as_bytes()));
        // SAFETY: the connection exists, and Envoy copies the buffers.
        accepted(unsafe {
            envoy_dynamic_module_callback_network_set_filter_state_typed(raw, key, value)
        })
    }

    /// Sets a text that access logs read as filter state. It can be set once.
    pub(crate) fn set_property(&self, key: &str, value: &str) -> Result<()> {
        let raw = self.raw()?;
        let (key, value) = (Buffer::of(key.as_bytes()), Buffer::of(value.as_bytes()));
        // SAFETY: the connection exists, and Envoy copies the buffers.
        accepted(unsafe {
            envoy_dynamic_module_callback_network_set_filter_state_bytes(raw, key, value)
        })
    }

    pub(crate) fn count(&self, counter: Counter) {
        if let (Ok(raw), Counter(Some(id))) = (self.raw(), counter) {
            // SAFETY: the connection exists.
            unsafe {
                envoy_dynamic_module_callback_network_filter_increment_counter(raw, id, 1);
            }
        }
    }

    pub(crate) fn scheduler(&self) -> Result<ConnectionScheduler> {
        let raw = self.raw()?;
        // SAFETY: the connection exists.
        let scheduler = unsafe { envoy_dynamic_module_callback_network_filter_scheduler_new(raw) };
        if scheduler.is_null() { Err(Refused) } else { Ok(ConnectionScheduler(scheduler)) }
    }

    /// Closes the connection, also if the client does not read. Envoy calls the event hook before this returns.
    pub(crate) fn close(&self) -> Result<()> {
        let raw = self.raw()?;
        // SAFETY: the connection exists.
        unsafe { envoy_dynamic_module_callback_network_filter_close(raw, NO_FLUSH) }
        Ok(())
    }
}

fn accepted(accepted: bool) -> Result<()> {
    if accepted { Ok(()) } else { Err(Refused) }
}

/// Wakes the worker of a connection, from any thread, while the connection exists.
pub(crate) struct ConnectionScheduler(EnvoyPtr);

// SAFETY: Envoy's scheduler holds a weak reference to the filter and posts to the worker's dispatcher, which may be done from
// any thread. The dispatcher outlives the connections of the worker. `egress` drops the scheduler when the connection is
// closed, under the lock that it holds to wake, so a thread that wakes never has the last reference to the filter.
unsafe impl Send for ConnectionScheduler {}

impl ConnectionScheduler {
    /// Calls [`crate::egress::Connection::on_scheduled`] on the worker, if the connection still exists then.
    pub(crate) fn wake(&self) {
        // SAFETY: the scheduler exists until it is dropped.
        unsafe { envoy_dynamic_module_callback_network_filter_scheduler_commit(self.0, 0) }
    }
}

impl Drop for ConnectionScheduler {
    fn drop(&mut self) {
        // SAFETY: nothing uses the scheduler after this.
        unsafe { envoy_dynamic_module_callback_network_filter_scheduler_delete(self.0) }
    }
}
