//! Both sides of Envoy's ABI, as Envoy sees them: the callbacks that the module calls, and the module's hooks. There is a file for
//! each group: HTTP streams (`streams`), their configurations (`configs`), the hooks of both (`hooks`), network filters (`network`), and
//! the bootstrap extension (`extension`).
//!
//! The declarations are made from Envoy's header file and not from the module's, so that a wrong declaration in the module
//! shows in the tests. Objects of the host have no address: a pointer to one is its number, which the host looks up.

#![expect(unsafe_code, reason = "is the other side of the module's ABI")]

mod configs;
pub(super) mod extension;
pub(super) mod hooks;
pub(crate) mod network;
mod streams;

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

fn increment(owner: Object, counter: usize, labels: usize, value: u64) -> u32 {
    match enter("increment_counter", number(owner)) {
        Some(envoy) if labels == 0 && envoy.increment(counter, value) => 0,
        _ => 1,
    }
}

fn commit(scheduler: Object, event: u64) {
    if let Some(envoy) = enter_surely("scheduler_commit", number(scheduler)) {
        envoy.commit(number(scheduler), event);
    }
}

/// What the module returned for the extension, a configuration, or a stream. 0 is a null pointer.
pub(super) type Module = usize;

fn with_provenance(module: Module) -> Object {
    std::ptr::with_exposed_provenance(module)
}
