//! The filter with an Envoy that tests control.
