//! The native form of the filters: a dynamic module that Envoy loads into its process.
//!
//! The engines are those of the wasm form. [`ingress`] and [`egress`] connect them to Envoy, [`filter`] selects one of the
//! two for each HTTP filter, and [`abi`] declares what Envoy and this module call of each other. Only `abi` holds unsafe
//! code.

mod abi;
mod egress;
mod filter;
mod grpc;
mod ingress;
#[cfg(test)]
mod tests;
mod time;
