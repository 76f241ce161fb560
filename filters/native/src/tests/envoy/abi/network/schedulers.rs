//! The callbacks for what wakes a connection's worker.

use super::*;

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_network_filter_scheduler_new(
    connection: Object,
) -> Object {
    callback("scheduler_new", connection, |_| ());
    with(|network| {
        if network.refuses_schedulers {
            return object(0);
        }
        network.last += 1;
        network.schedulers.insert(network.last, number(connection));
        object(network.last)
    })
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_network_filter_scheduler_commit(
    scheduler: Object,
    _event: u64,
) {
    let last = with(|network| {
        let connection = *network.schedulers.get(&number(scheduler)).expect("it exists");
        let last = network.dropped.extract_if(.., |dropped| dropped.0 == connection).next();
        if last.is_none() {
            network.woken.push_back(connection);
        }
        last
    });
    // Envoy's scheduler held the last reference: the thread that commits destroys the connection.
    drop(last);
}

#[unsafe(no_mangle)]
extern "C-unwind" fn envoy_dynamic_module_callback_network_filter_scheduler_delete(
    scheduler: Object,
) {
    with(|network| network.schedulers.remove(&number(scheduler)).expect("it exists"));
}
