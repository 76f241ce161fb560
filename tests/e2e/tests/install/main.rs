//! The ways of `docs/install.md`: the configuration that each leads to, in a real Envoy of each version, with requests.

#![cfg(test)]
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests may fail")]

/// A control plane of another platform: the example in Python, and the conformance test.
mod custom;
/// An Envoy with a configuration of one of the ways.
mod envoy;
/// What Envoy Gateway makes of the files.
mod envoy_gateway;
/// What Istio makes of the files.
mod istio;
/// Requests through each way.
mod requests;
/// The values of a test in the places of those that a user changes.
mod values;
