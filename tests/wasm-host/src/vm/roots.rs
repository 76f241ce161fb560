//! The lifecycle of root contexts: the callbacks in Envoy's order.

use std::time::Duration;

use super::{Root, Vm, count};
use crate::control_plane::Response;
use crate::shared::PendingCall;

impl Vm {
    /// Starts a root context of the filter with this root id and configuration. Returns `false` if
    /// the filter refuses the configuration.
    pub(crate) fn configure(&mut self, root_id: &str, configuration: &[u8]) -> bool {
        let root = self.state_mut().new_context();
        let state = Root { root_id: root_id.to_owned(), ..Root::default() };
        self.state_mut().roots.insert(root, state);
        self.invoke("proxy_on_context_create", root, &[root, 0]);
        let started = self.invoke("proxy_on_vm_start", root, &[root, 0]) != 0;
        self.state_mut().configuration = Some(configuration.to_vec());
        let accepted =
            self.invoke("proxy_on_configure", root, &[root, count(configuration.len())]) != 0;
        self.state_mut().configuration = None;
        if started && accepted {
            let roots = &mut self.state_mut().roots;
            for (id, other) in roots.iter_mut().filter(|(_, other)| other.root_id == root_id) {
                other.current = *id == root;
            }
            self.release_roots();
        }
        started && accepted
    }

    /// The root context for new requests and connections of a filter.
    pub(super) fn current_root(&self, root_id: &str) -> Option<u32> {
        let current = |root: &Root| root.current && root.root_id == root_id;
        self.state().roots.iter().find(|(_, root)| current(root)).map(|(id, _)| *id)
    }

    /// Ends the root contexts that are neither current nor in use.
    pub(super) fn release_roots(&mut self) {
        // A root context that is being configured becomes current afterwards.
        if self.state().configuration.is_some() {
            return;
        }
        let state = self.state();
        let unused: Vec<u32> = state
            .roots
            .iter()
            .filter(|(id, root)| {
                let used = state.streams.values().any(|stream| stream.root == **id)
                    || state.connections.values().any(|connection| connection.root == **id);
                !root.current && !root.lingering && !used
            })
            .map(|(id, _)| *id)
            .collect();
        for root in unused {
            // The callbacks of another root context may have ended this one.
            let Some(state) = self.state_mut().roots.get_mut(&root) else { continue };
            if std::mem::replace(&mut state.lingering, true) {
                continue;
            }
            // A module without this callback has nothing to finish.
            let has_callback = self.instance.get_func(&mut self.store, "proxy_on_done").is_some();
            if !has_callback || self.invoke("proxy_on_done", root, &[root]) != 0 {
                self.delete_root(root);
            }
        }
    }

    pub(super) fn delete_root(&mut self, root: u32) {
        if !self.state().roots.contains_key(&root) {
            return;
        }
        self.invoke("proxy_on_log", root, &[root]);
        self.invoke("proxy_on_delete", root, &[root]);
        self.state_mut().roots.remove(&root);
        let id = self.state().id;
        self.state().shared.borrow_mut().cancel_calls(id, Some(root));
    }

    /// The earliest tick of all root contexts.
    pub(crate) fn next_tick(&self) -> Option<Duration> {
        self.state().roots.values().filter_map(|root| root.next_tick).min()
    }

    /// Calls the tick callback of the root contexts whose tick is due.
    pub(crate) fn tick(&mut self, now: Duration) {
        let due: Vec<u32> = self
            .state()
            .roots
            .iter()
            .filter(|(_, root)| root.next_tick.is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            if let Some(root) = self.state_mut().roots.get_mut(&id) {
                root.next_tick = root.tick_period.map(|period| now + period);
            }
            self.invoke("proxy_on_tick", id, &[id]);
        }
    }

    pub(crate) fn on_queue_ready(&mut self, root: u32, queue: u32) {
        if self.state().roots.contains_key(&root) {
            self.invoke("proxy_on_queue_ready", root, &[root, queue]);
        }
    }

    /// Passes the response of a call to the root context. Without a response, there are zero
    /// headers.
    pub(crate) fn on_call_response(&mut self, call: &PendingCall, response: Option<Response>) {
        let response = response.unwrap_or_default();
        let (headers, body) = (count(response.headers.len()), count(response.body.len()));
        self.state_mut().call_response = Some((call.root, response));
        let arguments = [call.root, call.token, headers, body, 0];
        self.invoke("proxy_on_http_call_response", call.root, &arguments);
        self.state_mut().call_response = None;
    }
}
