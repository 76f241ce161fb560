//! One TCP connection on its way through a network filter, and what became of it.

use std::collections::BTreeMap;

use crate::filter_state::{DYNAMIC_HOST, DYNAMIC_PORT, FilterState};
use crate::headers::Headers;
use crate::host::Host;
use crate::vm::Vm;

/// Filter state that names the TCP proxy's cluster.
const CLUSTER: &str = "envoy.tcp_proxy.cluster";
/// Filter state that names the address of a cluster of original destinations.
const ORIGINAL: &str = "envoy.network.transport_socket.original_dst_address";

/// What Envoy knows of a connection or request by itself, as properties: `destination.address`, say.
pub type Attributes = BTreeMap<String, Vec<u8>>;

/// What became of a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Connected {
    /// The filter holds it: nothing went upstream.
    Held,
    /// It went on.
    To(Upstream),
    /// The filter closed it.
    Closed,
    /// The client closed it.
    Left,
}

/// Where the TCP proxy that stands behind the filter takes a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upstream {
    /// The cluster; `None` when the filter named none, so that it is the proxy's default.
    pub cluster: Option<String>,
    /// Address that a cluster of original destinations is told to use.
    pub address: Option<String>,
    /// `name:port` that was resolved on the way: empty where none was.
    pub resolved: String,
}

/// A connection's state, as Envoy keeps it.
#[derive(Debug, Default)]
pub(crate) struct ConnectionState {
    pub(crate) root: u32,
    pub(crate) attributes: Attributes,
    pub(crate) filter_state: BTreeMap<String, FilterState>,
    pub(crate) properties: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What the client sent and the filter has not let pass.
    pub(crate) received: Vec<u8>,
    /// Whether the filter may look at it now.
    pub(crate) readable: bool,
    pub(crate) held: bool,
    pub(crate) upstream: Option<Upstream>,
    pub(crate) ending: Option<Connected>,
}

impl ConnectionState {
    /// The filter let it go on: what it says now is what counts.
    pub(crate) fn proceed(&mut self) {
        self.held = false;
        let state = |key| self.filter_state.get(key).map(|state| state.value.clone());
        // Without a host in the filter state, the proxy looks the server name up.
        let sni = self.attributes.get("connection.requested_server_name");
        let sni = sni.map(|sni| String::from_utf8_lossy(sni).into_owned()).unwrap_or_default();
        let host = state(DYNAMIC_HOST).unwrap_or(sni);
        let port = state(DYNAMIC_PORT).unwrap_or_else(|| "443".into());
        let resolved = if host.is_empty() { String::new() } else { format!("{host}:{port}") };
        self.upstream =
            Some(Upstream { cluster: state(CLUSTER), address: state(ORIGINAL), resolved });
    }

    fn outcome(&self) -> Connected {
        match (&self.ending, &self.upstream) {
            (Some(ending), _) => ending.clone(),
            (None, Some(upstream)) => Connected::To(upstream.clone()),
            (None, None) => Connected::Held,
        }
    }
}

/// A connection that a test made.
#[derive(Clone)]
pub struct Connection {
    pub(crate) host: Host,
    pub(crate) vm: usize,
    pub(crate) id: u32,
}

impl Connection {
    /// What became of it so far.
    pub fn outcome(&self) -> Connected {
        self.look(ConnectionState::outcome)
    }

    /// Whether the filter still has a context for it.
    pub fn is_open(&self) -> bool {
        self.look(|connection| connection.ending.is_none())
    }

    /// The client sends bytes, and with `end`, no more after them. Returns what the filter lets pass
    /// upstream: with these bytes, all that it held before.
    pub fn send(&self, bytes: &[u8], end: bool) -> Vec<u8> {
        self.act(|vm, id| vm.receive(id, bytes, end))
    }

    /// The client closes the connection.
    pub fn leave(&self) {
        self.act(|vm, id| vm.disconnect(id, Connected::Left));
    }

    /// Sets what Envoy knows of it from now on.
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
        self.host.with_vm(self.vm, |vm| act(vm, self.id))
    }

    fn look<T>(&self, look: impl FnOnce(&ConnectionState) -> T) -> T {
        self.host.look_at_vm(self.vm, |vm| {
            let state = vm.state();
            let connection =
                state.connections.get(&self.id).or_else(|| state.disconnected.get(&self.id));
            look(connection.unwrap_or_else(|| panic!("connection {} is not known", self.id)))
        })
    }
}
