//! The ways of `docs/install.md`: the configuration that each leads to, in a real Envoy of each version, with requests.

#![cfg(test)]

mod custom;
mod envoy;
mod envoy_gateway;
mod istio;
mod requests;
mod values;
