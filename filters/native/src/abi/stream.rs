//! One stream: its headers, its upstream, its local reply, and its end.
//!
//! The file has more than 300 lines because it declares each function of the host about a stream once, with the reason why the call is
//! safe.

use std::cell::Cell;
use std::net::SocketAddr;

use smallvec::SmallVec;

use super::*;

/// The headers or trailers of a stream, in one direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub(crate) enum HeaderMap {
    RequestHeaders = 0,
    RequestTrailers = 1,
    ResponseHeaders = 2,
    ResponseTrailers = 3,
}

/// Attributes of a stream, by Envoy's numbers.
const REQUEST_PROTOCOL: u32 = 10;
const RESPONSE_CODE_DETAILS: u32 = 16;
const SOURCE_ADDRESS: u32 = 24;
const DESTINATION_ADDRESS: u32 = 26;
const UPSTREAM_ADDRESS: u32 = 41;
const ROUTE_NAME: u32 = 61;

/// The metadata of the cluster of the route, by Envoy's number.
const CLUSTER_METADATA: u32 = 2;

/// The details of a reset, in access logs.
const RESET_DETAILS: &[u8] = b"sandgate";

/// As many fields as most messages have. They are lent without an allocation.
const MOST_FIELDS: usize = 32;

/// The body whose next part a hook receives.
const RECEIVED_REQUEST_BODY: u32 = 0;
const RECEIVED_RESPONSE_BODY: u32 = 2;

/// A stream. All calls fail after the stream has ended. It stays on its worker thread (`!Send`).
pub(crate) struct StreamHandle {
    /// Null after the end.
    raw: Cell<EnvoyPtr>,
    /// Set while Envoy destroys the stream: it can still be read, and no longer changed.
    is_ending: Cell<bool>,
    /// Whether fields are lent, so that the header maps must not change.
    reads: Cell<bool>,
}

impl StreamHandle {
    /// # Safety
    /// The pointer is the one of a new stream, and [`Self::end`] is called before Envoy destroys the stream.
    pub(super) unsafe fn new(raw: EnvoyPtr) -> Self {
        Self { raw: Cell::new(raw), is_ending: Cell::new(false), reads: Cell::new(false) }
    }

    pub(super) fn begin_end(&self) {
        self.is_ending.set(true);
    }

    pub(super) fn end(&self) {
        self.raw.set(std::ptr::null_mut());
    }

    /// The stream, if it exists.
    fn raw(&self) -> Result<EnvoyPtr> {
        let raw = self.raw.get();
        if raw.is_null() { Err(Refused) } else { Ok(raw) }
    }

    /// The stream, if it exists and no fields are lent.
    fn raw_to_change(&self) -> Result<EnvoyPtr> {
        if self.reads.get() || self.is_ending.get() { Err(Refused) } else { self.raw() }
    }

    /// Lends the fields of a header map to `f`. While it runs, the stream can't be changed.
    ///
    /// # Errors
    /// When there is no such map, a name is not text, or fields are lent already.
    pub(crate) fn with_fields<T>(
        &self,
        map: HeaderMap,
        f: impl FnOnce(&[Field<'_>]) -> T,
    ) -> Result<T> {
        let raw = self.raw_to_change()?;
        // SAFETY: the stream exists.
        let size = unsafe { envoy_dynamic_module_callback_http_get_headers_size(raw, map as u32) };
        let mut fields: SmallVec<[HeaderField; MOST_FIELDS]> = SmallVec::with_capacity(size);
        // SAFETY: the array has room for `size` fields, and Envoy writes all of them if it returns true.
        unsafe {
            if !envoy_dynamic_module_callback_http_get_headers(raw, map as u32, fields.as_mut_ptr())
            {
                return Err(Refused);
            }
            fields.set_len(size);
        }
        let mut lent: SmallVec<[Field<'_>; MOST_FIELDS]> = SmallVec::with_capacity(size);
        for field in &fields {
            // SAFETY: the map owns the bytes, and does not change while `reads` is set.
            lent.push(unsafe { field.lend()? });
        }
        let guard = Reads::begin(&self.reads);
        let result = f(&lent);
        drop(guard);
        Ok(result)
    }

    /// Removes all values of a field.
    pub(crate) fn remove_header(&self, map: HeaderMap, name: &str) -> Result<()> {
        // Only a null value removes the field in all versions: newer ones than 1.40 keep a field whose value is empty.
        self.replace(map, name, Buffer::EMPTY)
    }

    /// Replaces all values of a field.
    pub(crate) fn set_header(&self, map: HeaderMap, name: &str, value: &[u8]) -> Result<()> {
        self.replace(map, name, Buffer::of(value))
    }

    fn replace(&self, map: HeaderMap, name: &str, value: Buffer) -> Result<()> {
        let raw = self.raw_to_change()?;
        let name = Buffer::of(name.as_bytes());
        // SAFETY: the stream exists, nobody reads its fields, and Envoy copies the buffers.
        accepted(unsafe {
            envoy_dynamic_module_callback_http_set_header(raw, map as u32, name, value)
        })
    }

    /// Adds a value to a field. Envoy adds no empty one.
    pub(crate) fn add_header(&self, map: HeaderMap, name: &str, value: &[u8]) -> Result<()> {
        let raw = self.raw_to_change()?;
        let (name, value) = (Buffer::of(name.as_bytes()), Buffer::of(value));
        // SAFETY: the stream exists, nobody reads its fields, and Envoy copies the buffers.
        accepted(unsafe {
            envoy_dynamic_module_callback_http_add_header(raw, map as u32, name, value)
        })
    }

    /// Sets a filter state object that Envoy defines, for the rest of the filter chain.
    pub(crate) fn set_filter_state(&self, key: &str, value: &str) -> Result<()> {
        let raw = self.raw_to_change()?;
        let (key, value) = (Buffer::of(key.as_bytes()), Buffer::of(value.as_bytes()));
        // SAFETY: the stream exists, and Envoy copies the buffers.
        accepted(unsafe {
            envoy_dynamic_module_callback_http_set_filter_state_typed(raw, key, value)
        })
    }

    /// Sets a text that access logs and later filters read as filter state. It can be set once.
    pub(crate) fn set_property(&self, key: &str, value: &str) -> Result<()> {
        let raw = self.raw_to_change()?;
        let (key, value) = (Buffer::of(key.as_bytes()), Buffer::of(value.as_bytes()));
        // SAFETY: the stream exists, and Envoy copies the buffers.
        accepted(unsafe {
            envoy_dynamic_module_callback_http_set_filter_state_bytes(raw, key, value)
        })
    }

    /// A filter state object that Envoy defines, as text.
    pub(crate) fn filter_state(&self, key: &str) -> Option<Vec<u8>> {
        let (raw, key) = (self.raw().ok()?, Buffer::of(key.as_bytes()));
        let mut value = Buffer::EMPTY;
        // SAFETY: the stream exists, and both buffers outlive the call.
        let found = unsafe {
            envoy_dynamic_module_callback_http_get_filter_state_typed(raw, key, &raw mut value)
        };
        // SAFETY: the stream owns the bytes, and no call is made before they are copied.
        found.then(|| unsafe { value.bytes() }.to_vec())
    }

    /// A text in the metadata of the cluster that the request's route names.
    pub(crate) fn cluster_metadata(&self, namespace: &str, key: &str) -> Option<Vec<u8>> {
        let raw = self.raw().ok()?;
        let (namespace, key) = (Buffer::of(namespace.as_bytes()), Buffer::of(key.as_bytes()));
        let mut value = Buffer::EMPTY;
        // SAFETY: the stream exists, and all buffers outlive the call.
        let found = unsafe {
            envoy_dynamic_module_callback_http_get_metadata_string(
                raw,
                CLUSTER_METADATA,
                namespace,
                key,
                &raw mut value,
            )
        };
        // SAFETY: the cluster owns the bytes, and no call is made before they are copied.
        found.then(|| unsafe { value.bytes() }.to_vec())
    }

    fn attribute(&self, id: u32) -> Option<Vec<u8>> {
        let raw = self.raw().ok()?;
        let mut value = Buffer::EMPTY;
        // SAFETY: the stream exists, and `value` outlives the call.
        let found = unsafe {
            envoy_dynamic_module_callback_http_filter_get_attribute_string(raw, id, &raw mut value)
        };
        // SAFETY: the stream owns the bytes, and no call is made before they are copied.
        found.then(|| unsafe { value.bytes() }.to_vec())
    }

    /// The address and port of the client: those of the connection, or those that a trusted proxy reports.
    pub(crate) fn client_address(&self) -> Option<Vec<u8>> {
        self.attribute(SOURCE_ADDRESS)
    }

    /// The address that the client has connected to.
    pub(crate) fn destination_address(&self) -> Option<SocketAddr> {
        self.address(DESTINATION_ADDRESS)
    }

    /// The address that the stream is connected to upstream, if it is connected.
    pub(crate) fn upstream_address(&self) -> Option<SocketAddr> {
        self.address(UPSTREAM_ADDRESS)
    }

    fn address(&self, id: u32) -> Option<SocketAddr> {
        std::str::from_utf8(&self.attribute(id)?).ok()?.parse().ok()
    }

    pub(crate) fn route_name(&self) -> Option<Vec<u8>> {
        self.attribute(ROUTE_NAME)
    }

    pub(crate) fn request_protocol(&self) -> Option<Vec<u8>> {
        self.attribute(REQUEST_PROTOCOL)
    }

    pub(crate) fn response_code_details(&self) -> Option<Vec<u8>> {
        self.attribute(RESPONSE_CODE_DETAILS)
    }

    /// The size of the part of the body that the running body hook receives.
    pub(crate) fn received_bytes(&self, is_request: bool) -> usize {
        let body = if is_request { RECEIVED_REQUEST_BODY } else { RECEIVED_RESPONSE_BODY };
        // SAFETY: the stream exists.
        self.raw()
            .map_or(0, |raw| unsafe { envoy_dynamic_module_callback_http_get_body_size(raw, body) })
    }

    pub(crate) fn count(&self, counter: Counter) {
        if let (Ok(raw), Counter(Some(id))) = (self.raw(), counter) {
            // SAFETY: the stream exists, and there are no labels.
            unsafe {
                envoy_dynamic_module_callback_http_filter_increment_counter(
                    raw,
                    id,
                    std::ptr::null(),
                    0,
                    1,
                );
            }
        }
    }

    pub(crate) fn scheduler(&self) -> Result<StreamScheduler> {
        if self.is_ending.get() {
            return Err(Refused);
        }
        // SAFETY: the stream exists.
        unsafe { StreamScheduler::new(self.raw()?) }
    }

    /// Sends a local reply. `details` appear in access logs. The stream may end before this returns.
    pub(crate) fn reply(
        &self,
        status: u16,
        headers: &[(&str, &str)],
        body: &[u8],
        details: &str,
    ) -> Result<()> {
        let raw = self.raw_to_change()?;
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| HeaderField::of(name, value.as_bytes())).collect();
        // SAFETY: the stream exists, nobody reads its fields, and Envoy copies the buffers before it returns.
        unsafe {
            envoy_dynamic_module_callback_http_send_response(
                raw,
                status.into(),
                headers.as_ptr(),
                headers.len(),
                Buffer::of(body),
                Buffer::of(details.as_bytes()),
            );
        }
        Ok(())
    }

    /// Lets Envoy select the route again.
    pub(crate) fn clear_route(&self) -> Result<()> {
        let raw = self.raw_to_change()?;
        // SAFETY: the stream exists.
        unsafe { envoy_dynamic_module_callback_http_clear_route_cache(raw) }
        Ok(())
    }

    /// Continues a paused request. Envoy may call other hooks of this stream before this returns.
    pub(crate) fn continue_request(&self) -> Result<()> {
        let raw = self.raw_to_change()?;
        // SAFETY: the stream exists, and nobody reads its fields.
        unsafe { envoy_dynamic_module_callback_http_filter_continue_decoding(raw) }
        Ok(())
    }

    /// Resets the stream in both directions. The stream may end before this returns.
    pub(crate) fn reset(&self) -> Result<()> {
        let raw = self.raw_to_change()?;
        // SAFETY: the stream exists, and nobody reads its fields. Reason 0 is a local reset.
        unsafe {
            envoy_dynamic_module_callback_http_filter_reset_stream(
                raw,
                0,
                Buffer::of(RESET_DETAILS),
            );
        }
        Ok(())
    }
}

/// Notes that fields are lent, also if a panic ends the loan.
struct Reads<'a>(&'a Cell<bool>);

impl<'a> Reads<'a> {
    fn begin(reads: &'a Cell<bool>) -> Self {
        reads.set(true);
        Self(reads)
    }
}

impl Drop for Reads<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

fn accepted(accepted: bool) -> Result<()> {
    if accepted { Ok(()) } else { Err(Refused) }
}
