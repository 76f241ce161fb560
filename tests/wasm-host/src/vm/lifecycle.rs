//! The lifecycle of root contexts and requests: the callbacks in Envoy's order.

use std::rc::Rc;
use std::time::Duration;

use super::{Action, Root, Vm};
use crate::connection::Attributes;
use crate::control_plane::Response;
use crate::headers::Headers;
use crate::shared::PendingCall;
use crate::stream::{Ending, LocalReply, Reply, Side, StreamState};

const CONTINUE: u32 = 0;

pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).expect("a test's maps and bodies are small")
}

// --- Root contexts ---

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
            if self.invoke("proxy_on_done", root, &[root]) != 0 {
                self.delete_root(root);
            }
        }
    }

    fn delete_root(&mut self, root: u32) {
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

    pub(crate) fn queue_ready(&mut self, root: u32, queue: u32) {
        if self.state().roots.contains_key(&root) {
            self.invoke("proxy_on_queue_ready", root, &[root, queue]);
        }
    }

    /// Passes the response of a call to the root context. Without a response, there are zero
    /// headers.
    pub(crate) fn answer(&mut self, call: &PendingCall, response: Option<Response>) {
        let response = response.unwrap_or_default();
        let (headers, body) = (count(response.headers.len()), count(response.body.len()));
        self.state_mut().call_response = Some((call.root, response));
        let arguments = [call.root, call.token, headers, body, 0];
        self.invoke("proxy_on_http_call_response", call.root, &arguments);
        self.state_mut().call_response = None;
    }
}

// --- Requests ---

impl Vm {
    /// Sends a request to the filter with this root id.
    pub(crate) fn request(
        &mut self,
        root_id: &str,
        headers: Headers,
        attributes: Attributes,
        end_of_stream: bool,
    ) -> u32 {
        let Some(root) = self.current_root(root_id) else {
            panic!("a request before the filter has a configuration");
        };
        let id = self.state_mut().new_context();
        let number = count(headers.len());
        self.state_mut().streams.insert(id, StreamState::new(root, headers, attributes));
        self.invoke("proxy_on_context_create", id, &[id, root]);
        self.with(id, |stream| stream.request_readable = true);
        let returned =
            self.invoke("proxy_on_request_headers", id, &[id, number, u32::from(end_of_stream)]);
        self.with(id, |stream| match returned {
            CONTINUE => stream.forward(),
            _ => stream.paused = true,
        });
        id
    }

    /// Passes the upstream's response through the filter. Returns its headers as the client
    /// receives them, or `None` if the request has ended or the filter reset it.
    pub(crate) fn response(&mut self, id: u32, headers: Headers) -> Option<Headers> {
        let headers = self.encode(id, headers, false)?;
        self.with(id, |stream| stream.response_started = true)?;
        Some(headers)
    }

    /// Trailers arrive. Returns them as they go on; nothing when the request is over, or when the filter
    /// broke it off.
    pub(crate) fn trailers(&mut self, id: u32, side: Side, trailers: Headers) -> Option<Headers> {
        let number = count(trailers.len());
        self.with(id, |stream| stream.trailers = Some((side, trailers)))?;
        let callback = match side {
            Side::Downstream => "proxy_on_request_trailers",
            Side::Upstream => "proxy_on_response_trailers",
        };
        let returned = self.invoke(callback, id, &[id, number]);
        let (_, trailers) = self.with(id, |stream| stream.trailers.take())??;
        (returned == CONTINUE).then_some(trailers)
    }

    /// Passes response headers through the filter.
    fn encode(&mut self, id: u32, headers: Headers, end_of_stream: bool) -> Option<Headers> {
        let number = count(headers.len());
        self.with(id, |stream| {
            stream.response = headers;
            stream.response_readable = true;
        })?;
        let returned =
            self.invoke("proxy_on_response_headers", id, &[id, number, u32::from(end_of_stream)]);
        self.with(id, |stream| {
            if returned == CONTINUE {
                stream.response_readable = false;
                return Some(stream.response.clone());
            }
            None
        })?
    }

    /// Ends a request: its response is complete, or the client has aborted it.
    pub(crate) fn finish(&mut self, id: u32, ending: Ending) {
        let begun = self.with(id, |stream| {
            let open = stream.ending.is_none();
            stream.ending.get_or_insert(ending);
            stream.logging = true;
            open
        });
        if begun != Some(true) {
            return;
        }
        self.invoke("proxy_on_log", id, &[id]);
        self.invoke("proxy_on_done", id, &[id]);
        self.invoke("proxy_on_delete", id, &[id]);
        if let Some(stream) = self.state_mut().streams.remove(&id) {
            self.state_mut().finished.insert(id, stream);
        }
        self.release_roots();
    }

    /// Executes a request of a callback.
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::Resume(id) => self.resume(id),
            Action::ResumeResponse => {
                self.fault("it paused a response, which this host does not do");
            }
            Action::Reply(id, reply) => self.reply(id, &reply),
            Action::Reset(id) => {
                if self.with(id, |stream| stream.ending.is_none()) != Some(true) {
                    self.fault(format!("it reset request {id}, which was over"));
                }
                self.finish(id, Ending::Reset);
            }
            Action::RootDone(id) => self.delete_root(id),
            Action::Close(id) => self.close(id),
            Action::Proceed(id) => self.proceed(id),
        }
    }

    fn resume(&mut self, id: u32) {
        let paused = self.with(id, |stream| {
            if stream.paused {
                stream.forward();
                return true;
            }
            stream.ending.is_some()
        });
        if paused == Some(false) {
            self.fault(format!("it resumed request {id}, which was not paused"));
        }
    }

    fn reply(&mut self, id: u32, reply: &LocalReply) {
        let Some((started, judged, (headers, body))) = self.with(id, |stream| {
            (stream.response_started, stream.response_readable, stream.local_reply(reply))
        }) else {
            return;
        };
        if started {
            // The response has already started, so Envoy can only reset it.
            self.finish(id, Ending::Reset);
            return;
        }
        // In place of a response that filters have seen, Envoy sends a reply past them.
        let headers =
            if judged { Some(headers) } else { self.encode(id, headers, body.is_empty()) };
        let Some(headers) = headers else { return };
        let status = headers.value(":status").and_then(|status| status.parse().ok()).unwrap_or(0);
        self.finish(id, Ending::Replied(Reply { status, headers, body }));
    }

    pub(super) fn fault(&mut self, what: impl Into<String>) {
        let shared = Rc::clone(&self.state().shared);
        shared.borrow_mut().fault(what);
    }

    /// Accesses a request that has not ended.
    fn with<T>(&mut self, id: u32, look: impl FnOnce(&mut StreamState) -> T) -> Option<T> {
        self.state_mut().streams.get_mut(&id).map(look)
    }
}
