//! What Envoy calls for the bootstrap extension, on its main thread. Envoy refuses a module in which one of these hooks is missing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sandgate_engine::ingress::CALL_RESPONSE_MAX;

use super::*;
use crate::ingress::Extension;

/// Ends Envoy's wait for the extension.
type Completion = unsafe extern "C" fn(context: EnvoyPtr);

/// Runs `hook` on the extension. A panic does not reach Envoy.
///
/// # Safety
/// `extension` is what [`envoy_dynamic_module_on_bootstrap_extension_config_new`] returned, and Envoy has not destroyed it.
unsafe fn on_extension(
    envoy: EnvoyPtr,
    extension: *const Extension,
    hook: impl FnOnce(&Extension, &MainThread),
) {
    // SAFETY: by the contract; the main thread does not use it after the hook.
    let (extension, main) = unsafe { (&*extension, MainThread::new(envoy)) };
    if catch_unwind(AssertUnwindSafe(|| hook(extension, &main))).is_err() {
        let _ = catch_unwind(AssertUnwindSafe(|| extension.process().on_panic(&main)));
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_new(
    envoy: EnvoyPtr,
    name: Buffer,
    _config: Buffer,
) -> *const Extension {
    // SAFETY: Envoy passes its object and a buffer, both valid during this hook.
    let (handle, name) = unsafe { (ExtensionHandle::new(envoy), name.bytes()) };
    let created = catch_unwind(AssertUnwindSafe(|| Extension::new(&handle, name)));
    created.ok().flatten().map_or(std::ptr::null(), |extension| Box::into_raw(Box::new(extension)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_destroy(
    extension: *mut Extension,
) {
    if !extension.is_null() {
        // SAFETY: the pointer is from `into_raw`, and Envoy destroys an extension once.
        let extension = unsafe { Box::from_raw(extension) };
        let _ = catch_unwind(AssertUnwindSafe(|| extension.process().end()));
    }
}

/// The object that belongs to Envoy's configuration of the extension is the extension.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_new(
    extension: *const Extension,
    _envoy: EnvoyPtr,
) -> *const Extension {
    extension
}

/// Envoy has its clusters.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_server_initialized(
    _envoy: EnvoyPtr,
    extension: *const Extension,
) {
    // SAFETY: Envoy passes what `config_new` returned.
    let extension = unsafe { &*extension };
    let _ = catch_unwind(AssertUnwindSafe(|| extension.process().begin()));
}

/// Envoy begins to end, and destroys its clusters next.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_shutdown(
    _envoy: EnvoyPtr,
    extension: *const Extension,
    completion: Completion,
    context: EnvoyPtr,
) {
    // SAFETY: Envoy passes what `config_new` returned.
    let extension = unsafe { &*extension };
    let _ = catch_unwind(AssertUnwindSafe(|| extension.process().end()));
    // SAFETY: Envoy passes its function with the argument for it, which is called once.
    unsafe { completion(context) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_scheduled(
    envoy: EnvoyPtr,
    extension: *const Extension,
    _event: u64,
) {
    // SAFETY: Envoy passes what `config_new` returned.
    unsafe { on_extension(envoy, extension, |it, main| it.process().on_scheduled(main)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_timer_fired(
    envoy: EnvoyPtr,
    extension: *const Extension,
    _timer: EnvoyPtr,
) {
    // SAFETY: Envoy passes what `config_new` returned.
    unsafe { on_extension(envoy, extension, Extension::on_timer) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_http_callout_done(
    envoy: EnvoyPtr,
    extension: *const Extension,
    callout: u64,
    result: u32,
    headers: *const HeaderField,
    headers_length: usize,
    chunks: *const Buffer,
    chunks_length: usize,
) {
    // SAFETY: Envoy passes what `config_new` returned, and arrays that are valid during this hook.
    unsafe {
        on_extension(envoy, extension, |extension, main| {
            let response = (result == 0).then(|| {
                CalloutResponse::read(
                    (headers, headers_length),
                    (chunks, chunks_length),
                    CALL_RESPONSE_MAX,
                )
            });
            extension.process().on_callout_done(main, callout, response.flatten());
        });
    }
}

unused! {
    envoy_dynamic_module_on_bootstrap_extension_admin_request
    envoy_dynamic_module_on_bootstrap_extension_cluster_add_or_update
    envoy_dynamic_module_on_bootstrap_extension_cluster_removal
    envoy_dynamic_module_on_bootstrap_extension_destroy
    envoy_dynamic_module_on_bootstrap_extension_drain_started
    envoy_dynamic_module_on_bootstrap_extension_file_changed
    envoy_dynamic_module_on_bootstrap_extension_listener_add_or_update
    envoy_dynamic_module_on_bootstrap_extension_listener_removal
    envoy_dynamic_module_on_bootstrap_extension_worker_thread_initialized
}
