//! A TCP connection that passes through a network filter, and its outcome.

use std::collections::BTreeMap;

use crate::envoy::Envoy;
use crate::filter_state::{DYNAMIC_HOST, DYNAMIC_PORT, FilterState};
use crate::headers::Headers;
use crate::vm::Vm;

/// The filter state key for the cluster of the TCP proxy.
const CLUSTER: &str = "envoy.tcp_proxy.cluster";
/// The cluster of `envoy/sidecar.yaml` that connects to a connection's original destination.
const ORIGINAL_DESTINATION_CLUSTER: &str = "original_destination";
/// The filter state key for the address of an original destination cluster.
const ORIGINAL: &str = "envoy.network.transport_socket.original_dst_address";

/// The attributes that Envoy itself provides for a connection or request, for example
/// `destination.address`.
pub type Attributes = BTreeMap<String, Vec<u8>>;

/// The outcome of a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Connected {
    /// The filter holds the connection. No upstream is connected.
    Held,
    /// The connection was forwarded.
    To(Upstream),
    /// The filter closed the connection.
    Closed,
    /// The client closed the connection.
    Left,
}

/// The upstream that the TCP proxy after the filter connects to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upstream {
    /// The cluster, or `None` if the filter set none and the proxy uses its default.
    pub cluster: Option<String>,
    /// The address that the cluster for original destinations connects to; `None` for another cluster.
    pub address: Option<String>,
    /// The `name:port` that the dynamic forward proxy resolves, or an empty text if it resolves
    /// none.
    pub resolved: String,
}

/// A connection's state, as Envoy keeps it.
#[derive(Debug, Default)]
pub(crate) struct ConnectionState {
    pub(crate) root: u32,
    pub(crate) attributes: Attributes,
    pub(crate) filter_state: BTreeMap<String, FilterState>,
    pub(crate) properties: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The bytes that the client sent and the filter has not passed on.
    pub(crate) received: Vec<u8>,
    /// Whether the filter may read `received` now.
    pub(crate) readable: bool,
    pub(crate) held: bool,
    pub(crate) upstream: Option<Upstream>,
    pub(crate) ending: Option<Connected>,
}

impl ConnectionState {
    /// Forwards the connection with the current filter state.
    pub(crate) fn proceed(&mut self) {
        self.held = false;
        let state = |key| self.filter_state.get(key).map(|state| state.value.clone());
        // Without a host in the filter state, the proxy resolves the server name.
        let sni = self.attributes.get("connection.requested_server_name");
        let sni = sni.map(|sni| String::from_utf8_lossy(sni).into_owned()).unwrap_or_default();
        let host = state(DYNAMIC_HOST).unwrap_or(sni);
        let port = state(DYNAMIC_PORT).unwrap_or_else(|| "443".into());
        let resolved = if host.is_empty() { String::new() } else { format!("{host}:{port}") };
        let cluster = state(CLUSTER);
        // Without an address in the filter state, the cluster uses the connection's own destination.
        let destination = self.attributes.get("destination.address");
        let destination = destination.map(|text| String::from_utf8_lossy(text).into_owned());
        let address = cluster.as_deref().filter(|name| *name == ORIGINAL_DESTINATION_CLUSTER);
        let address = address.and_then(|_| state(ORIGINAL).or(destination));
        self.upstream = Some(Upstream { cluster, address, resolved });
    }

    fn outcome(&self) -> Connected {
        match (&self.ending, &self.upstream) {
            (Some(ending), _) => ending.clone(),
            (None, Some(upstream)) => Connected::To(upstream.clone()),
            (None, None) => Connected::Held,
        }
    }
}

/// A connection that a test opened.
#[derive(Clone)]
pub struct Connection {
    pub(crate) envoy: Envoy,
    pub(crate) vm: usize,
    pub(crate) id: u32,
}

impl Connection {
    /// The outcome so far.
    pub fn outcome(&self) -> Connected {
        self.look(ConnectionState::outcome)
    }

    /// Whether the filter still has a context for the connection.
    pub fn is_open(&self) -> bool {
        self.look(|connection| connection.ending.is_none())
    }

    /// The client sends bytes; `end` says that no more bytes follow. Returns the bytes that the
    /// filter passes to the upstream, including those that it held before.
    pub fn send(&self, bytes: &[u8], end: bool) -> Vec<u8> {
        self.act(|vm, id| vm.receive(id, bytes, end))
    }

    /// The client closes the connection.
    pub fn leave(&self) {
        self.act(|vm, id| vm.disconnect(id, Connected::Left));
    }

    /// Sets an attribute that Envoy provides from now on.
    pub fn set_attribute(&self, name: &str, value: &str) {
        self.act(|vm, id| {
            if let Some(connection) = vm.state_mut().connections.get_mut(&id) {
                connection.attributes.insert(name.to_owned(), value.into());
            }
        });
    }

    /// A property that the filter set, for access logs.
    pub fn property(&self, name: &str) -> Option<String> {
        self.look(|connection| {
            let value = connection.properties.get(name.as_bytes())?;
            Some(String::from_utf8_lossy(value).into_owned())
        })
    }

    /// All properties that the filter set.
    pub fn properties(&self) -> Headers {
        self.look(|connection| {
            connection
                .properties
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        })
    }

    fn act<T>(&self, act: impl FnOnce(&mut Vm, u32) -> T) -> T {
        self.envoy.with_vm(self.vm, |vm| act(vm, self.id))
    }

    fn look<T>(&self, look: impl FnOnce(&ConnectionState) -> T) -> T {
        self.envoy.look_at_vm(self.vm, |vm| {
            let state = vm.state();
            let connection =
                state.connections.get(&self.id).or_else(|| state.disconnected.get(&self.id));
            look(connection.unwrap_or_else(|| panic!("connection {} is not known", self.id)))
        })
    }
}
