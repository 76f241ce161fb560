//! Native tests of the engine. The host is a model, which panics if an effect names a stream that can't take it.

mod bounds;
mod denials;
mod fleet;
mod host;
mod interleavings;
mod invariants;
mod live_streams;
mod oracle;
mod renewal;
mod resume_slots;
mod threads;
mod waiting_requests;
