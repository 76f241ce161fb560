//! The egress filter: lets a sandbox's connections and plain HTTP requests out, if its policy does.
//!
//! One module with two root ids: `sandgate_egress_tcp` is a network filter that decides about each
//! connection before a packet goes upstream, `sandgate_egress_http` an HTTP filter that decides about
//! each request. Both hold no rule: [`sandgate_policy::egress`] does.
//!
//! The way of a connection:
//!
//! 1. `connection`: it arrives with its original destination, and the server name if Envoy's
//!    inspector saw one. Without one, its first bytes are looked at when they come.
//! 2. `policy` decides; `apply` points the connection somewhere. What nobody points anywhere ends in
//!    the cluster that resets it.
//! 3. `live` remembers what the decision rested on, until the connection ends.
//! 4. `root`: a new configuration takes the place of the old one in `vm`, and all that is live is
//!    judged again.
//!
//! `request` is the same for HTTP, where a denial is an answer (`reply`).
//!
//! One VM is one Envoy worker thread: nothing here is shared between threads. Nothing that a sandbox
//! sends may trap the VM, since a trap leaves every connection in it hanging.

mod apply;
mod connection;
mod live;
mod metrics;
mod reply;
mod request;
mod root;
mod vm;

mod entry {
    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|id| Box::new(crate::root::Root::new(id)));
    }}
}
