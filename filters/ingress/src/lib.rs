//! The ingress filter: routes `<port>-<sandbox>.<domain>` into sandboxes, if the caller may.
//!
//! [`sandgate_engine::ingress`] is the state machine. This crate connects it to Envoy:
//!
//! 1. `root` and `stream` receive the callbacks of Envoy.
//! 2. `vm` passes them to the engine as events.
//! 3. `execute` executes the effects: `apply` changes headers and sets the upstream, and `reply` sends
//!    denials.
//!
//! Each Envoy worker thread runs one VM, and VMs share nothing but counters. No input of a client may trap
//! the VM, because a trap hangs every request that is paused in it.

mod apply;
mod execute;
mod reply;
mod root;
mod stream;
mod vm;

mod entry {
    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|id| Box::new(crate::root::Root::new(id)));
    }}
}
