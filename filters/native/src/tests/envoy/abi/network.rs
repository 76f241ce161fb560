//! The callbacks of network filters. This host has no connections, so each call is an error of the test.

use super::*;

fn refuse(callback: &'static str) {
    Envoy::fault_of_current(format!("{callback}: this host has no connections"));
}

macro_rules! refused {
    ($($callback:ident($($argument:ty),*) -> $result:ty = $value:expr;)*) => { $(
        #[unsafe(no_mangle)]
        extern "C-unwind" fn $callback($(_: $argument),*) -> $result {
            refuse(stringify!($callback));
            $value
        }
    )* };
}

refused! {
    envoy_dynamic_module_callback_network_filter_get_local_address(Object, *mut Bytes, *mut u32) -> bool = false;
    envoy_dynamic_module_callback_network_filter_get_upstream_host_address(Object, *mut Bytes, *mut u32) -> bool = false;
    envoy_dynamic_module_callback_network_filter_get_requested_server_name(Object, *mut Bytes) -> bool = false;
    envoy_dynamic_module_callback_network_filter_get_read_buffer_chunks_size(Object) -> usize = 0;
    envoy_dynamic_module_callback_network_filter_get_read_buffer_chunks(Object, *mut Bytes) -> bool = false;
    envoy_dynamic_module_callback_network_set_filter_state_bytes(Object, Bytes, Bytes) -> bool = false;
    envoy_dynamic_module_callback_network_set_filter_state_typed(Object, Bytes, Bytes) -> bool = false;
    envoy_dynamic_module_callback_network_filter_close(Object, u32) -> () = ();
    envoy_dynamic_module_callback_network_filter_increment_counter(Object, usize, u64) -> u32 = 1;
    envoy_dynamic_module_callback_network_filter_scheduler_new(Object) -> Object = std::ptr::null();
    envoy_dynamic_module_callback_network_filter_scheduler_commit(Object, u64) -> () = ();
    envoy_dynamic_module_callback_network_filter_scheduler_delete(Object) -> () = ();
    envoy_dynamic_module_callback_network_filter_config_define_counter(Object, Bytes, *mut usize) -> u32 = 1;
    envoy_dynamic_module_callback_network_filter_config_define_gauge(Object, Bytes, *mut usize) -> u32 = 1;
    envoy_dynamic_module_callback_network_filter_config_set_gauge(Object, usize, u64) -> u32 = 1;
}
