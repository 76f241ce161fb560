//! The egress filter: forwards a sandbox's connections and plain HTTP requests if its policy allows
//! them.
//!
//! One module with two root ids: `sandgate_egress_tcp` is a network filter that decides about each
//! connection before any packet goes upstream, and `sandgate_egress_http` is an HTTP filter that
//! decides about each request. Both only pass events from Envoy to [`sandgate_engine::egress`] and
//! execute the effects; the rules are in [`sandgate_policy::egress`].
//!
//! The modules, in the order in which data meets them:
//!
//! 1. `root`: a configuration becomes active, and all live streams are evaluated again.
//! 2. `vm`: the engine, which all contexts of a VM share.
//! 3. `connection`: a connection arrives, and its first bytes are inspected if it showed no server name.
//! 4. `request`: an HTTP request arrives.
//! 5. `apply`: sets the upstream of a permitted stream. A connection without an upstream goes to the
//!    cluster that resets it.
//!
//! One VM is one Envoy worker thread: threads share nothing here. No input of a sandbox may trap the
//! VM, because a trap hangs every connection in it.

mod apply;
mod connection;
mod request;
mod root;
mod vm;

mod entry {
    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|id| Box::new(crate::root::Root::new(id)));
    }}
}
