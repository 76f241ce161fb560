//! The bootstrap extension: its callbacks and its hooks.

use std::time::Duration;

use super::*;

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_bootstrap_extension_config_define_counter(
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
extern "C-unwind" fn envoy_dynamic_module_callback_bootstrap_extension_config_increment_counter(
    config: Object,
    counter: usize,
    _labels: *const Bytes,
    labels_length: usize,
    value: u64,
) -> u32 {
    increment(config, counter, labels_length, value)
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_bootstrap_extension_config_signal_init_complete(
    config: Object,
) {
    if let Some(envoy) = enter_surely("signal_init_complete", number(config)) {
        envoy.state().is_ready = true;
    }
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_new(
    config: Object,
) -> Object {
    let envoy = enter_surely("scheduler_new", number(config));
    envoy.map_or(std::ptr::null(), |envoy| object(envoy.new_scheduler(Target::Main)))
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_commit(
    scheduler: Object,
    event: u64,
) {
    commit(scheduler, event);
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_delete(
    scheduler: Object,
) {
    Envoy::delete_scheduler(number(scheduler));
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_bootstrap_extension_timer_new(
    config: Object,
) -> Object {
    let Some(envoy) = Envoy::of(number(config)) else { return std::ptr::null() };
    let timer = envoy.register();
    envoy.state().timers.insert(timer, None);
    object(timer)
}

/// Envoy can't fail here, so nothing is injected.
#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_bootstrap_extension_timer_enable(
    timer: Object,
    delay_ms: u64,
) {
    let Some(envoy) = Envoy::of(number(timer)) else {
        return Envoy::fault_of_current("there is no such timer".to_owned());
    };
    let mut state = envoy.state();
    let due = state.clock + Duration::from_millis(delay_ms);
    state.timers.insert(number(timer), Some(due));
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_bootstrap_extension_timer_delete(timer: Object) {
    match Envoy::of(number(timer)) {
        Some(envoy) => {
            Envoy::forget(number(timer));
            envoy.state().timers.remove(&number(timer));
        }
        None => Envoy::fault_of_current("there is no such timer to delete".to_owned()),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_bootstrap_extension_http_callout(
    config: Object,
    callout: *mut u64,
    cluster: Bytes,
    fields: *const Header,
    length: usize,
    body: Bytes,
    timeout_ms: u64,
) -> u32 {
    let Some(envoy) = enter("http_callout", number(config)) else { return 2 };
    // SAFETY: the module passes valid buffers.
    let (cluster, headers, body) =
        unsafe { (cluster.text(), headers(fields, length), body.copy().unwrap_or_default()) };
    match envoy.call(cluster, headers, body, timeout_ms) {
        Some(call) => {
            // SAFETY: the module passes a place for the number.
            unsafe { callout.write(call) };
            0
        }
        None => 2,
    }
}

unsafe extern "C" {
    fn envoy_dynamic_module_on_bootstrap_extension_config_new(
        envoy: Object,
        name: Bytes,
        config: Bytes,
    ) -> Object;
    fn envoy_dynamic_module_on_bootstrap_extension_config_destroy(extension: Object);
    fn envoy_dynamic_module_on_bootstrap_extension_new(extension: Object, envoy: Object) -> Object;
    fn envoy_dynamic_module_on_bootstrap_extension_destroy(extension: Object);
    fn envoy_dynamic_module_on_bootstrap_extension_server_initialized(
        envoy: Object,
        extension: Object,
    );
    fn envoy_dynamic_module_on_bootstrap_extension_shutdown(
        envoy: Object,
        extension: Object,
        completion: extern "C" fn(*mut c_void),
        context: *mut c_void,
    );
    fn envoy_dynamic_module_on_bootstrap_extension_config_scheduled(
        envoy: Object,
        extension: Object,
        event: u64,
    );
    fn envoy_dynamic_module_on_bootstrap_extension_timer_fired(
        envoy: Object,
        extension: Object,
        timer: Object,
    );
    fn envoy_dynamic_module_on_bootstrap_extension_http_callout_done(
        envoy: Object,
        extension: Object,
        callout: u64,
        result: u32,
        headers: *const Header,
        headers_length: usize,
        chunks: *const Bytes,
        chunks_length: usize,
    );
}

pub(in super::super) fn new(envoy: usize, name: &[u8]) -> Module {
    // SAFETY: the buffers are valid during the hook.
    unsafe {
        let config = envoy_dynamic_module_on_bootstrap_extension_config_new(
            object(envoy),
            Bytes::of(name),
            Bytes::of(b""),
        );
        number(config)
    }
}

/// Envoy has its clusters, and begins with its workers.
pub(in super::super) fn begin(envoy: usize, config: Module) {
    // SAFETY: the extension exists. The object that Envoy passes here is another one, which the module does not use.
    unsafe {
        let envoy = object(envoy);
        let extension =
            envoy_dynamic_module_on_bootstrap_extension_new(with_provenance(config), envoy);
        assert!(!extension.is_null(), "Envoy would call no hook of the extension");
        envoy_dynamic_module_on_bootstrap_extension_server_initialized(envoy, extension);
    }
}

/// Returns whether the module has called the function that Envoy waits for, once.
pub(in super::super) fn shut_down(envoy: usize, extension: Module) -> bool {
    extern "C" fn complete(context: *mut c_void) {
        // SAFETY: the context is the number below.
        unsafe { *context.cast::<u32>() += 1 }
    }
    let mut completed = 0_u32;
    // SAFETY: the extension exists, and the context outlives the hook, which calls the function before it returns.
    unsafe {
        envoy_dynamic_module_on_bootstrap_extension_shutdown(
            object(envoy),
            with_provenance(extension),
            complete,
            (&raw mut completed).cast(),
        );
    }
    completed == 1
}

pub(in super::super) fn destroy(extension: Module) {
    // SAFETY: Envoy destroys the extension and then its configuration, which for the module are one object.
    unsafe {
        envoy_dynamic_module_on_bootstrap_extension_destroy(with_provenance(extension));
        envoy_dynamic_module_on_bootstrap_extension_config_destroy(with_provenance(extension));
    }
}

pub(in super::super) fn scheduled(envoy: usize, extension: Module, event: u64) {
    // SAFETY: the extension exists.
    unsafe {
        envoy_dynamic_module_on_bootstrap_extension_config_scheduled(
            object(envoy),
            with_provenance(extension),
            event,
        );
    }
}

pub(in super::super) fn timer_fired(envoy: usize, extension: Module, timer: usize) {
    // SAFETY: the extension and the timer exist.
    unsafe {
        envoy_dynamic_module_on_bootstrap_extension_timer_fired(
            object(envoy),
            with_provenance(extension),
            object(timer),
        );
    }
}

/// Passes a response in chunks of a few bytes. `None` is a call that ended without one.
pub(in super::super) fn callout_done(
    envoy: usize,
    extension: Module,
    callout: u64,
    response: Option<(&Headers, &[u8])>,
) {
    let fields: Vec<Header> = response
        .into_iter()
        .flat_map(|(headers, _)| headers.iter())
        .map(|(name, value)| Header { name: Bytes::of(name), value: Bytes::of(value) })
        .collect();
    let body = response.map(|(_, body)| body).unwrap_or_default();
    let chunks: Vec<Bytes> = body.chunks(700).map(Bytes::of).collect();
    // SAFETY: the extension exists, and the arrays live until the hook returns.
    unsafe {
        envoy_dynamic_module_on_bootstrap_extension_http_callout_done(
            object(envoy),
            with_provenance(extension),
            callout,
            u32::from(response.is_none()),
            fields.as_ptr(),
            fields.len(),
            chunks.as_ptr(),
            chunks.len(),
        );
    }
}
