//! The lifecycle of connections: the callbacks in Envoy's order.

use super::{CONTINUE, Vm, count};
use crate::connection::{Attributes, Connected, ConnectionState};

/// The side that closed a connection. The numbers are the ABI's.
const BY_US: u32 = 1;
const BY_PEER: u32 = 2;

impl Vm {
    /// Opens a connection to the filter with this root id.
    pub(crate) fn connect(&mut self, root_id: &str, attributes: Attributes) -> u32 {
        let Some(root) = self.current_root(root_id) else {
            panic!("a connection before the filter `{root_id}` has a configuration");
        };
        let id = self.state_mut().new_context();
        let state = ConnectionState { root, attributes, held: true, ..ConnectionState::default() };
        self.state_mut().connections.insert(id, state);
        self.invoke("proxy_on_context_create", id, &[id, root]);
        let returned = self.invoke("proxy_on_new_connection", id, &[id]);
        if returned == CONTINUE {
            self.with_connection(id, ConnectionState::proceed);
        }
        id
    }

    /// Passes the client's bytes through the filter. Returns the bytes that the filter passes on.
    pub(crate) fn receive(&mut self, id: u32, bytes: &[u8], end: bool) -> Vec<u8> {
        let size = self.with_connection(id, |connection| {
            connection.received.extend_from_slice(bytes);
            connection.readable = true;
            connection.received.len()
        });
        let Some(size) = size else { return Vec::new() };
        let arguments = [id, count(size), u32::from(end)];
        let returned = self.invoke("proxy_on_downstream_data", id, &arguments);
        let passed = self.with_connection(id, |connection| {
            connection.readable = false;
            // A held connection has no upstream.
            let passes = returned == CONTINUE && !connection.held;
            if passes { std::mem::take(&mut connection.received) } else { Vec::new() }
        });
        passed.unwrap_or_default()
    }

    /// Ends a connection.
    pub(crate) fn disconnect(&mut self, id: u32, ending: Connected) {
        let by = if ending == Connected::Left { BY_PEER } else { BY_US };
        let begun = self.with_connection(id, |connection| {
            let open = connection.ending.is_none();
            connection.ending.get_or_insert(ending);
            open
        });
        if begun != Some(true) {
            return;
        }
        self.invoke("proxy_on_downstream_connection_close", id, &[id, by]);
        self.invoke("proxy_on_log", id, &[id]);
        self.invoke("proxy_on_done", id, &[id]);
        self.invoke("proxy_on_delete", id, &[id]);
        if let Some(connection) = self.state_mut().connections.remove(&id) {
            self.state_mut().disconnected.insert(id, connection);
        }
        self.release_roots();
    }

    /// Closes a connection at the filter's request.
    pub(super) fn close(&mut self, id: u32) {
        if self.with_connection(id, |connection| connection.ending.is_none()) != Some(true) {
            self.fault(format!("it closed connection {id}, which had ended"));
        }
        self.disconnect(id, Connected::Closed);
    }

    /// Resumes a held connection at the filter's request.
    pub(super) fn proceed(&mut self, id: u32) {
        self.with_connection(id, |connection| {
            if connection.held {
                connection.proceed();
            }
        });
    }

    fn with_connection<T>(
        &mut self,
        id: u32,
        look: impl FnOnce(&mut ConnectionState) -> T,
    ) -> Option<T> {
        self.state_mut().connections.get_mut(&id).map(look)
    }
}
