//! The hooks, as Envoy calls them for configurations and connections.

use super::*;

unsafe extern "C" {
    fn envoy_dynamic_module_on_network_filter_config_new(
        envoy: Object,
        name: Bytes,
        config: Bytes,
    ) -> Object;
    fn envoy_dynamic_module_on_network_filter_config_destroy(config: Object);
    fn envoy_dynamic_module_on_network_filter_new(config: Object, envoy: Object) -> Object;
    fn envoy_dynamic_module_on_network_filter_destroy(connection: Object);
    fn envoy_dynamic_module_on_network_filter_new_connection(
        envoy: Object,
        connection: Object,
    ) -> u32;
    fn envoy_dynamic_module_on_network_filter_read(
        envoy: Object,
        connection: Object,
        length: usize,
        is_end: bool,
    ) -> u32;
    fn envoy_dynamic_module_on_network_filter_event(envoy: Object, connection: Object, event: u32);
    fn envoy_dynamic_module_on_network_filter_scheduled(
        envoy: Object,
        connection: Object,
        event: u64,
    );
}

pub(super) fn event(connection: usize, module: Module) {
    // SAFETY: the connection exists, and all of its hooks run on this thread.
    unsafe {
        envoy_dynamic_module_on_network_filter_event(
            object(connection),
            std::ptr::with_exposed_provenance(module),
            LOCAL_CLOSE,
        );
    }
}

/// A configuration of the network filter. Dropping it destroys it.
pub(crate) struct NetworkConfig(Module);

impl NetworkConfig {
    /// `None` if the module refuses it.
    pub(crate) fn new(config: &str) -> Option<Self> {
        let (name, config) = (Bytes::of(b"sandgate_egress_tcp"), Bytes::of(config.as_bytes()));
        // SAFETY: the buffers are valid during the hook.
        let module = number(unsafe {
            envoy_dynamic_module_on_network_filter_config_new(object(0), name, config)
        });
        (module != 0).then_some(Self(module))
    }

    /// Opens a connection. Returns it, and whether it continues to its upstream.
    pub(crate) fn connect(&self, destination: SocketAddr, server_name: &str) -> (Connected, bool) {
        let id = with(|network| {
            network.last += 1;
            let model = Model {
                destination: Some((destination.ip().to_string(), destination.port())),
                server_name: server_name.into(),
                ..Model::default()
            };
            network.connections.insert(network.last, model);
            network.last
        });
        let config = std::ptr::with_exposed_provenance(self.0);
        // SAFETY: the configuration exists, and so does the connection until the module's object is destroyed.
        let status = unsafe {
            let module = envoy_dynamic_module_on_network_filter_new(config, object(id));
            with(|network| network.connections.get_mut(&id).map(|it| it.module = number(module)));
            envoy_dynamic_module_on_network_filter_new_connection(object(id), module)
        };
        (Connected(id), status == CONTINUE)
    }
}

impl Drop for NetworkConfig {
    fn drop(&mut self) {
        // SAFETY: it exists, and is destroyed once.
        unsafe {
            envoy_dynamic_module_on_network_filter_config_destroy(
                std::ptr::with_exposed_provenance(self.0),
            );
        }
    }
}

/// A connection. Dropping it destroys it.
pub(crate) struct Connected(pub(super) usize);

impl Connected {
    fn model<T>(&self, f: impl FnOnce(&mut Model) -> T) -> T {
        with(|network| f(network.connections.get_mut(&self.0).expect("it exists")))
    }

    /// The client sends bytes. Returns whether what was received passes to the upstream.
    pub(crate) fn send(&self, bytes: &[u8]) -> bool {
        let (module, length) = self.model(|model| {
            model.received.extend(bytes);
            (model.module, model.received.len())
        });
        // SAFETY: the connection exists, and all of its hooks run on this thread.
        let status = unsafe {
            envoy_dynamic_module_on_network_filter_read(
                object(self.0),
                std::ptr::with_exposed_provenance(module),
                length,
                false,
            )
        };
        if status == CONTINUE {
            self.model(|model| model.received.clear());
        }
        status == CONTINUE
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.model(|model| model.is_closed)
    }

    /// The cluster that the connection goes to, if the module has set one.
    pub(crate) fn cluster(&self) -> Option<String> {
        self.model(|model| model.states.get("envoy.tcp_proxy.cluster").cloned())
    }

    /// The client stops reading, with bytes of the destination left.
    pub(crate) fn stop_reading(&self) {
        self.model(|model| model.has_unread = true);
    }

    /// Envoy has connected it.
    pub(crate) fn reach(&self, upstream: SocketAddr) {
        let upstream = Some((upstream.ip().to_string(), upstream.port()));
        self.model(|model| model.upstream = upstream);
    }

    /// The client closes the connection. Returns the decision in the access log.
    pub(crate) fn end(self) -> Option<String> {
        self.close();
        self.model(|model| model.properties.get("wasm.sandgate_decision").cloned())
    }

    /// The client closes the connection, and the worker drops it while a thread commits a scheduler. If that is a scheduler
    /// of this connection, the thread destroys it.
    pub(crate) fn end_while_another_thread_commits(self) {
        self.close();
        with(|network| network.dropped.push(self));
    }

    /// The client closes the connection, and a thread other than the worker destroys it.
    pub(crate) fn end_on_another_thread(self) {
        self.close();
        let Model { module, .. } =
            with(|network| network.connections.remove(&self.0)).expect("it exists");
        std::mem::forget(self);
        std::thread::spawn(move || destroy(module)).join().expect("the hook does not panic");
    }

    fn close(&self) {
        let (module, was_closed) =
            self.model(|model| (model.module, std::mem::replace(&mut model.is_closed, true)));
        if !was_closed {
            event(self.0, module);
        }
    }
}

fn destroy(module: Module) {
    // SAFETY: the module's object exists, and is destroyed once, after its other hooks.
    unsafe {
        envoy_dynamic_module_on_network_filter_destroy(std::ptr::with_exposed_provenance(module));
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let module = self.model(|model| model.module);
        destroy(module);
        with(|network| network.connections.remove(&self.0));
    }
}

/// Runs what was scheduled, also what is scheduled meanwhile.
pub(crate) fn run_scheduled() {
    while let Some(id) = with(|network| network.woken.pop_front()) {
        // A connection that has ended is not woken.
        let module = with(|network| network.connections.get(&id).map(|model| model.module));
        let Some(module) = module else { continue };
        // SAFETY: the connection exists, and all of its hooks run on this thread.
        unsafe {
            envoy_dynamic_module_on_network_filter_scheduled(
                object(id),
                std::ptr::with_exposed_provenance(module),
                0,
            );
        }
    }
}
