//! The native form of the filters: a dynamic module that Envoy loads into its process.
//!
//! The engines are those of the wasm form. [`ingress`] connects the engine of the ingress filter to Envoy, and [`abi`]
//! declares what Envoy and this module call of each other. Only `abi` holds unsafe code.

mod abi;
mod ingress;
mod time;
