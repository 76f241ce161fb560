//! Connections: the callbacks of network filters, and the hooks, with a model of Envoy's connections.
//!
//! The model belongs to one thread, which is the main thread and the only worker. Each callback can panic.

mod callbacks;
mod counters;
mod hooks;
mod schedulers;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use super::*;

use self::hooks::event;
pub(crate) use self::hooks::{Connected, NetworkConfig, run_scheduled};

const CONTINUE: u32 = 0;
const LOCAL_CLOSE: u32 = 1;
const NO_FLUSH: u32 = 1;

thread_local! {
    static NETWORK: RefCell<Network> = RefCell::default();
}

#[derive(Default)]
struct Network {
    last: usize,
    connections: BTreeMap<usize, Model>,
    /// The connection of each scheduler.
    schedulers: BTreeMap<usize, usize>,
    refuses_schedulers: bool,
    woken: VecDeque<usize>,
    /// Connections that the worker drops while another thread holds Envoy's last reference to them.
    dropped: Vec<Connected>,
    counters: Vec<(String, u64)>,
    callbacks: Vec<&'static str>,
    panic_at: Option<usize>,
}

#[derive(Default)]
struct Model {
    module: Module,
    destination: Option<(String, u16)>,
    upstream: Option<(String, u16)>,
    server_name: Vec<u8>,
    received: Vec<u8>,
    states: BTreeMap<String, String>,
    properties: BTreeMap<String, String>,
    is_closed: bool,
    /// Whether the client has not read all that the destination sent.
    has_unread: bool,
}

fn with<T>(f: impl FnOnce(&mut Network) -> T) -> T {
    NETWORK.with_borrow_mut(f)
}

/// Runs a callback on a connection that exists.
fn callback<T>(name: &'static str, connection: Object, f: impl FnOnce(&mut Model) -> T) -> T {
    let injected = with(|network| {
        network.callbacks.push(name);
        network.panic_at == Some(network.callbacks.len() - 1)
    });
    assert!(!injected, "{name} panics, as the test asks");
    with(|network| f(network.connections.get_mut(&number(connection)).expect("it exists")))
}

pub(crate) fn refuse_schedulers(refuses: bool) {
    with(|network| network.refuses_schedulers = refuses);
}

/// The worker drops the last references to the connections that no other thread has destroyed. Returns their number.
pub(crate) fn drop_ended() -> usize {
    with(|network| std::mem::take(&mut network.dropped)).len()
}

/// Runs `f`. Returns the callbacks that it made, one of which may panic.
pub(crate) fn callbacks(panic_at: Option<usize>, f: impl FnOnce()) -> Vec<&'static str> {
    with(|network| {
        network.callbacks.clear();
        network.panic_at = panic_at;
    });
    f();
    with(|network| {
        network.panic_at = None;
        std::mem::take(&mut network.callbacks)
    })
}

pub(crate) fn counter(name: &str) -> u64 {
    with(|network| {
        let found = network.counters.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| *value).unwrap_or_default()
    })
}
