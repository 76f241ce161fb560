//! The ingress filter: routes `<port>-<sandbox>.<domain>` into sandboxes, if the caller may.
//!
//! The way of a request:
//!
//! 1. `stream`: its head is parsed ([`sandgate_policy::ingress::Request`]).
//! 2. `gateway`: what must be known comes from the caches, or the request waits while
//!    `lookups` asks the control plane once for all that wait for the same.
//! 3. `policy` decides; `apply` carries the decision out, and `response` judges what the sandbox answers.
//!    Where all places are taken, `crowding` has another request give way.
//! 4. `feed` hears of changes, so that caches forget and live streams are judged again.
//!
//! One VM is one Envoy worker thread: nothing here is shared between threads. Nothing that a client
//! sends may trap the VM, since a trap hangs every request that is paused in it.

mod apply;
mod clock;
mod crowding;
mod feed;
mod gateway;
mod live;
mod lookups;
mod metrics;
mod reply;
mod response;
mod root;
mod stream;
mod waiting;

mod entry {
    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|id| Box::new(crate::root::Root::new(id)));
    }}
}
