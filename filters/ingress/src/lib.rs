//! The ingress filter: routes `<port>-<sandbox>.<domain>` into sandboxes, if the caller may.
//!
//! The way of a request:
//!
//! 1. `stream` and `root` receive the callbacks of the proxy and hand them to `gateway`, which parses the head
//!    of the request ([`sandgate_policy::ingress::Request`]).
//! 2. `waiting`: the request waits for what `resolve` can't find in the caches. `lookups` asks the control
//!    plane once for all requests that need the same answer, and `resume` has a sandbox resumed.
//! 3. `policy` decides, and `apply` or `reply` carries the decision out. If all places are taken, `crowding`
//!    makes room.
//! 4. `response` judges and cleans what the sandbox responds.
//! 5. `live` holds the forwarded streams. `feed` receives changes, which invalidate cache entries, and
//!    `judging` then judges the streams again.
//!
//! One VM is one Envoy worker thread: nothing here is shared between threads. Nothing that a client
//! sends may trap the VM, since a trap hangs every request that is paused in it.

mod apply;
mod clock;
mod crowding;
mod feed;
mod gateway;
mod judging;
mod live;
mod lookups;
mod metrics;
mod reply;
mod resolve;
mod response;
mod resume;
mod root;
mod stream;
mod waiting;

mod entry {
    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|id| Box::new(crate::root::Root::new(id)));
    }}
}
