//! The callbacks for counters and gauges.

use super::*;

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_network_filter_increment_counter(
    connection: Object,
    counter: usize,
    by: u64,
) -> u32 {
    callback("increment_counter", connection, |_| ());
    with(|network| network.counters.get_mut(counter).map(|(_, value)| *value += by));
    0
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_network_filter_config_define_counter(
    _config: Object,
    name: Bytes,
    counter: *mut usize,
) -> u32 {
    with(|network| {
        // SAFETY: the module passes a valid buffer and pointer.
        let name = unsafe { name.text() };
        let known = network.counters.iter().position(|(other, _)| *other == name);
        let index = known.unwrap_or_else(|| {
            network.counters.push((name, 0));
            network.counters.len() - 1
        });
        // SAFETY: the module passes a place for the number of the counter.
        unsafe { counter.write(index) };
    });
    0
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn envoy_dynamic_module_callback_network_filter_config_define_gauge(
    config: Object,
    name: Bytes,
    gauge: *mut usize,
) -> u32 {
    // SAFETY: the arguments are those of the callback for counters.
    unsafe {
        envoy_dynamic_module_callback_network_filter_config_define_counter(config, name, gauge)
    }
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_network_filter_config_set_gauge(
    _config: Object,
    gauge: usize,
    to: u64,
) -> u32 {
    with(|network| network.counters.get_mut(gauge).map(|(_, value)| *value = to));
    0
}
