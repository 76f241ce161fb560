//! The life of a stream: its hooks in Envoy's order, also inside of each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use sandgate_wasm_host::{Attributes, Forwarded, Headers, LocalReply, Outcome, Reply};

use super::abi::hooks::Hook;
use super::abi::{Module, hooks};
use super::host::{Envoy, State};

/// A hook's status by which the filter continues.
const CONTINUE: u32 = 0;

const DYNAMIC_HOST: &str = "envoy.upstream.dynamic_host";
const DYNAMIC_PORT: &str = "envoy.upstream.dynamic_port";
pub(super) const UPSTREAM_SERVER_NAME: &str = "envoy.network.upstream_server_name";
const ORIGINAL_DST: &str = "envoy.network.transport_socket.original_dst_address";

/// The attributes that the module reads, by their numbers.
const ATTRIBUTES: [(u32, &str); 4] = [
    (10, "request.protocol"),
    (16, "response.code_details"),
    (24, "source.address"),
    (26, "destination.address"),
];

/// What the configuration of an edge provides, unless a test sets another attribute: the black hole, and the address check that
/// the metadata of a cluster declares.
const CONFIGURED: [(&str, &str); 3] = [
    ("filter_state.envoy.upstream.dynamic_host", "255.255.255.255:9"),
    ("filter_state.envoy.network.transport_socket.original_dst_address", "255.255.255.255:9"),
    ("xds.cluster_metadata.filter_metadata.sandgate.address_check", "127.64.0.0/16"),
];

/// The maps by the numbers of the ABI.
pub(super) const REQUEST: usize = 0;
pub(super) const REQUEST_TRAILERS: usize = 1;
pub(super) const RESPONSE: usize = 2;
pub(super) const RESPONSE_TRAILERS: usize = 3;

/// The state of a stream in Envoy.
#[derive(Default)]
pub(super) struct StreamState {
    pub(super) config: usize,
    pub(super) worker: usize,
    pub(super) module: Module,
    pub(super) attributes: Attributes,
    maps: [Option<Headers>; 4],
    body: [usize; 3],
    sent_bytes: u64,
    is_paused: bool,
    response_started: bool,
    is_replied: bool,
    /// The hook for response headers runs.
    encodes: bool,
    pub(super) filter_state: BTreeMap<String, String>,
    pub(super) properties: BTreeMap<String, Vec<u8>>,
    /// The number of times that the route was selected again.
    pub(super) routes: usize,
    forwarded: Option<Forwarded>,
    ending: Option<Outcome>,
    is_destroyed: bool,
}

impl StreamState {
    pub(super) fn outcome(&self) -> Outcome {
        let forwarded = || self.forwarded.clone().map(Outcome::Forwarded);
        // `Pending` is the ending of a response that is complete.
        let ending = self.ending.clone().filter(|ending| *ending != Outcome::Pending);
        ending.or_else(forwarded).unwrap_or(Outcome::Pending)
    }

    pub(super) fn is_open(&self) -> bool {
        self.ending.is_none()
    }

    /// The upstream of the current filter state: `None` as long as it is the black hole of `edge.yaml`.
    fn upstream(&self) -> Option<String> {
        let state = |key| self.filter_state.get(key).map(String::as_str);
        let dynamic = match (state(DYNAMIC_HOST), state(DYNAMIC_PORT)) {
            (None, None) => None,
            // The dynamic forward proxy prefers a port in the host.
            (Some(host), _) if host.parse::<SocketAddr>().is_ok() => Some(host.to_owned()),
            (host, port) => {
                Some(format!("{}:{}", host.unwrap_or("black-hole.invalid"), port.unwrap_or("1")))
            }
        };
        state(ORIGINAL_DST).map(str::to_owned).or(dynamic)
    }

    fn forward(&mut self) {
        self.is_paused = false;
        let headers = self.maps[REQUEST].clone().unwrap_or_default();
        self.forwarded = Some(Forwarded { upstream: self.upstream(), headers });
    }
}

impl Envoy {
    /// Accesses a stream that Envoy has not destroyed.
    pub(super) fn with<T>(&self, id: usize, look: impl FnOnce(&mut StreamState) -> T) -> Option<T> {
        let mut state = self.state();
        let stream = state.streams.get_mut(&id).filter(|stream| !stream.is_destroyed);
        if stream.is_none() {
            state.faults.push(format!("stream {id} was used after its end"));
            return None;
        }
        stream.map(look)
    }

    pub(super) fn with_map<T>(
        &self,
        id: usize,
        map: u32,
        read: impl FnOnce(&mut Headers) -> T,
    ) -> Option<T> {
        self.with(id, |stream| Some(read(stream.maps.get_mut(map as usize)?.as_mut()?)))?
    }

    pub(super) fn change_map(
        &self,
        id: usize,
        map: u32,
        change: impl FnOnce(Headers) -> Headers,
    ) -> Option<()> {
        self.with_map(id, map, |headers| *headers = change(std::mem::take(headers)))
    }

    pub(super) fn with_attribute<T>(
        &self,
        id: usize,
        attribute: u32,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Option<T> {
        let (_, name) = ATTRIBUTES.iter().find(|(number, _)| *number == attribute)?;
        self.with(id, |stream| stream.attributes.get(*name).map(|value| read(value)))?
    }

    /// What the configuration provides under this name, or what the test has set in its place.
    pub(super) fn with_configured<T>(
        &self,
        id: usize,
        name: &str,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Option<T> {
        let configured = CONFIGURED.iter().find(|(known, _)| *known == name);
        let configured = configured.map(|(_, value)| value.as_bytes());
        self.with(id, |stream| {
            stream.attributes.get(name).map(Vec::as_slice).or(configured).map(read)
        })?
    }

    pub(super) fn received_bytes(&self, id: usize, body: u32) -> usize {
        self.with(id, |stream| stream.body.get(body as usize).copied()).flatten().unwrap_or(0)
    }

    /// A text in the filter state can be set once.
    pub(super) fn set_property(&self, id: usize, key: String, value: Vec<u8>) -> bool {
        let set = |stream: &mut StreamState| {
            let is_new = !stream.properties.contains_key(&key);
            stream.properties.entry(key).or_insert(value);
            is_new
        };
        self.with(id, set).unwrap_or(false)
    }

    /// An object in the filter state, if its factory accepts the value.
    pub(super) fn set_filter_state(&self, id: usize, key: String, value: String) -> bool {
        let is_accepted = match key.as_str() {
            DYNAMIC_HOST | UPSTREAM_SERVER_NAME => true,
            DYNAMIC_PORT => value.parse::<u32>().is_ok(),
            ORIGINAL_DST => value.parse::<SocketAddr>().is_ok(),
            _ => false,
        };
        is_accepted && self.with(id, |stream| stream.filter_state.insert(key, value)).is_some()
    }

    pub(super) fn clear_route(&self, id: usize) {
        self.with(id, |stream| stream.routes += 1);
    }

    pub(super) fn resume(self: &Arc<Self>, id: usize) {
        let was_paused = self.with(id, |stream| {
            let was_paused = stream.is_paused && stream.is_open();
            if was_paused {
                stream.forward();
            }
            was_paused || !stream.is_open()
        });
        if was_paused == Some(false) {
            self.fault(format!("it resumed stream {id}, which was not paused"));
        }
        let response = self.state().immediate_response.clone();
        if let Some(headers) = response {
            self.respond(id, headers);
        }
    }

    pub(super) fn reply(self: &Arc<Self>, id: usize, reply: &LocalReply) {
        let begun = self.with(id, |stream| {
            let is_second = std::mem::replace(&mut stream.is_replied, true);
            let request = stream.maps[REQUEST].clone().unwrap_or_default();
            (is_second, stream.response_started, stream.encodes, reply.generate(&request))
        });
        let Some((is_second, has_started, encodes, (mut headers, body))) = begun else { return };
        if is_second {
            self.fault(format!("it sent a second reply to stream {id}"));
        }
        if has_started {
            // A response has begun, so Envoy can only reset the stream.
            self.finish(id, Outcome::Reset);
            return;
        }
        self.hook(id, Hook::LocalReply(reply.status));
        // In the hook for response headers, the reply does not pass the filters.
        if !encodes {
            let Some(passed) = self.encode(id, headers) else { return };
            headers = passed;
            if !body.is_empty() {
                self.body(id, false, body.len());
            }
        }
        let status = headers.value(":status").and_then(|status| status.parse().ok()).unwrap_or(0);
        self.finish(id, Outcome::Replied(Reply { status, headers, body }));
    }

    pub(super) fn reset(self: &Arc<Self>, id: usize) {
        self.finish(id, Outcome::Reset);
    }

    /// Calls a hook of a stream. Returns its status, unless the stream has ended or been destroyed in the meantime.
    fn hook(self: &Arc<Self>, id: usize, hook: Hook) -> Option<u32> {
        let module = {
            let state = self.state();
            state.streams.get(&id).filter(|stream| !stream.is_destroyed)?.module
        };
        let status = self.enter(|| hooks::call_hook(hook, id, module));
        self.is_open(id).then_some(status)
    }

    pub(super) fn is_open(&self, id: usize) -> bool {
        self.state().streams.get(&id).is_some_and(StreamState::is_open)
    }

    pub(super) fn begin(
        self: &Arc<Self>,
        config: usize,
        worker: usize,
        headers: Headers,
        attributes: Attributes,
    ) -> usize {
        let id = self.register();
        let module = {
            let mut state = self.state();
            let Some(of_config) = state.configs.get_mut(&config) else {
                panic!("a request before the filter has a configuration");
            };
            of_config.streams += 1;
            let module = of_config.module;
            let maps = [Some(headers), None, None, None];
            let stream = StreamState { config, worker, attributes, maps, ..StreamState::default() };
            state.streams.insert(id, stream);
            module
        };
        let stream = self.enter(|| hooks::new_stream(module, id));
        self.with(id, |state| state.module = stream);
        if stream == 0 {
            // Envoy answers 500 to a stream without a filter.
            let reply = Reply { status: 500, headers: Headers::new(), body: String::new() };
            self.finish(id, Outcome::Replied(reply));
            return id;
        }
        let status = self.hook(id, Hook::RequestHeaders);
        self.with_open(id, |stream| match status {
            Some(CONTINUE) => stream.forward(),
            _ => stream.is_paused = true,
        });
        id
    }

    /// Accesses a stream, unless it has ended.
    fn with_open<T>(&self, id: usize, look: impl FnOnce(&mut StreamState) -> T) -> Option<T> {
        let mut state = self.state();
        state.streams.get_mut(&id).filter(|stream| stream.is_open()).map(look)
    }

    /// The response of the upstream. Returns what the client receives, if it receives it.
    pub(super) fn respond(self: &Arc<Self>, id: usize, headers: Headers) -> Option<Headers> {
        self.with_open(id, |_| ())?;
        let headers = self.encode(id, headers)?;
        self.with_open(id, |stream| stream.response_started = true)?;
        Some(headers)
    }

    fn encode(self: &Arc<Self>, id: usize, headers: Headers) -> Option<Headers> {
        self.with_open(id, |stream| {
            stream.maps[RESPONSE] = Some(headers);
            stream.encodes = true;
        })?;
        let status = self.hook(id, Hook::ResponseHeaders);
        self.with_open(id, |stream| {
            stream.encodes = false;
            (status == Some(CONTINUE)).then(|| stream.maps[RESPONSE].clone())?
        })?
    }

    pub(super) fn trailers(
        self: &Arc<Self>,
        id: usize,
        is_request: bool,
        trailers: Headers,
    ) -> Option<Headers> {
        let (map, hook) = if is_request {
            (REQUEST_TRAILERS, Hook::RequestTrailers)
        } else {
            (RESPONSE_TRAILERS, Hook::ResponseTrailers)
        };
        self.with_open(id, |stream| stream.maps[map] = Some(trailers))?;
        let status = self.hook(id, hook);
        self.with_open(id, |stream| {
            let passed = stream.maps[map].take();
            (status == Some(CONTINUE)).then_some(passed)?
        })?
    }

    pub(super) fn body(self: &Arc<Self>, id: usize, is_request: bool, size: usize) {
        let (body, hook) =
            if is_request { (0, Hook::RequestBody) } else { (2, Hook::ResponseBody) };
        if self.with_open(id, |stream| stream.body[body] = size).is_some() {
            self.hook(id, hook);
        }
    }

    /// Sends the part of the body of a response that is missing to this number of bytes.
    pub(super) fn set_sent_bytes(self: &Arc<Self>, id: usize, bytes: u64) {
        let sent = self.with_open(id, |stream| std::mem::replace(&mut stream.sent_bytes, bytes));
        let more = sent.and_then(|sent| bytes.checked_sub(sent));
        self.body(id, false, more.and_then(|more| more.try_into().ok()).unwrap_or_default());
    }

    /// A scheduler has woken a stream. One that has ended is not woken.
    pub(super) fn wake(self: &Arc<Self>, id: usize) {
        let exists = self.state().streams.get(&id).is_some_and(|stream| stream.module != 0);
        if exists {
            self.hook(id, Hook::Scheduled);
        }
    }

    /// Ends a stream. Envoy destroys it before this returns, or later.
    pub(super) fn finish(self: &Arc<Self>, id: usize, ending: Outcome) {
        if self.with_open(id, |stream| stream.ending = Some(ending)).is_none() {
            return;
        }
        let mut state = self.state();
        if state.destroys_later {
            state.to_destroy.push(id);
        } else {
            drop(state);
            self.destroy(id);
        }
    }

    pub(super) fn destroy(self: &Arc<Self>, id: usize) {
        self.hook(id, Hook::Complete);
        let module = self.with(id, |stream| std::mem::take(&mut stream.module)).unwrap_or_default();
        if module != 0 {
            self.enter(|| hooks::destroy_stream(module));
        }
        let mut state = self.state();
        let Some(stream) = state.streams.get_mut(&id) else { return };
        stream.is_destroyed = true;
        stream.maps = [None, None, None, None];
        let config = stream.config;
        Self::forget(id);
        Self::release(&mut state, config);
    }

    fn release(state: &mut State, config: usize) {
        if let Some(config) = state.configs.get_mut(&config) {
            config.streams -= 1;
        }
    }
}
