//! The callbacks for one configuration of an HTTP filter.

use super::*;

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_http_filter_config_define_counter(
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
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_http_filter_config_define_gauge(
    config: Object,
    name: Bytes,
    labels: *const Bytes,
    labels_length: usize,
    gauge: *mut usize,
) -> u32 {
    // SAFETY: the arguments are those of the callback for counters.
    unsafe {
        envoy_dynamic_module_callback_http_filter_config_define_counter(
            config,
            name,
            labels,
            labels_length,
            gauge,
        )
    }
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_http_filter_config_set_gauge(
    config: Object,
    gauge: usize,
    _labels: *const Bytes,
    _labels_length: usize,
    value: u64,
) -> u32 {
    match enter("set_gauge", number(config)) {
        Some(envoy) if envoy.set_gauge(gauge, value) => 0,
        _ => 1,
    }
}
