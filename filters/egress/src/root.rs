//! The root contexts: configuration, and the re-evaluation of live streams.

use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext, StreamContext};
use proxy_wasm::types::ContextType;
use sandgate_engine::egress::{FilterKind, Update};
use sandgate_hostcalls::{
    LogLevel, configuration, connection, log, root_id, set_tick_period, stream,
};

use crate::connection::Connection;
use crate::request::Request;
use crate::{apply, vm};

/// The maximum number of live streams that one tick evaluates again.
const REEVALUATED_PER_TICK: usize = 2_000;
/// The maximum number of live streams that one tick ends. Envoy ends each stream from inside the end of
/// the previous one, so each takes its share of the stack.
const ENDED_PER_TICK: usize = 200;
/// The time until the next tick. 10,000 connections end in less than half a second.
const TICK: Duration = Duration::from_millis(1);

/// The root context of one configuration of one of the filters.
pub(crate) struct Root {
    id: u32,
    /// `None` if the root id in Envoy's configuration is unknown.
    kind: Option<FilterKind>,
}

impl Root {
    pub(crate) fn new(id: u32) -> Self {
        let kind = match root_id().as_deref() {
            Ok(b"sandgate_egress_tcp") => Some(FilterKind::Tcp),
            Ok(b"sandgate_egress_http") => Some(FilterKind::Http),
            _ => None,
        };
        Self { id, kind }
    }

    fn configure(&self, size: usize) -> Result<(), String> {
        let kind = self.kind.ok_or(
            "this module has no such root_id; use sandgate_egress_tcp or sandgate_egress_http",
        )?;
        let json = configuration(size).map_err(|error| error.to_string())?;
        let update = vm::with(|vm| vm.engine.configure(kind, json)).ok_or("the VM is busy")?;
        match update.map_err(|error| error.to_string())? {
            Update::Activated(generation) => {
                vm::with(|vm| vm.show_generation(generation));
                reevaluate(self.id);
            }
            Update::Unchanged => {}
            Update::Outdated(generation) => {
                let message =
                    format!("generation {generation} is outdated: a later one is already active");
                log(LogLevel::Warn, &format!("sandgate_egress: {message}"));
            }
        }
        Ok(())
    }
}

/// Evaluates some of the live streams under the active configuration, and ends those that it denies.
/// The next tick evaluates the rest.
fn reevaluate(root: u32) {
    let mut ended = 0;
    for _ in 0..REEVALUATED_PER_TICK {
        let Some(id) = vm::with(|vm| vm.engine.next_to_reevaluate()).flatten() else { break };
        ended += usize::from(end_if_denied(id));
        if ended >= ENDED_PER_TICK {
            break;
        }
    }
    let more = vm::with(|vm| vm.engine.is_reevaluating()) == Some(true);
    let period = if more { TICK } else { Duration::ZERO };
    // The effective context is the last stream's, and its root context may be about to be deleted.
    if stream::make_effective(root).and_then(|()| set_tick_period(period)).is_err() {
        vm::count_host_error();
    }
}

/// Ends a live stream if the active configuration denies it. Returns whether it does.
fn end_if_denied(id: u32) -> bool {
    // This fails if the stream has ended and the host has not deleted its context yet.
    if stream::make_effective(id).is_err() {
        return false;
    }
    let peer = apply::peer().map(|peer| peer.ip());
    let decision = vm::with(|vm| vm.engine.reevaluate(id, peer)).flatten();
    let Some(decision) = decision else { return false };
    apply::report(&decision);
    let ended = match decision.kind {
        FilterKind::Http => stream::reset(),
        FilterKind::Tcp => connection::close(),
    };
    if ended.is_err() {
        vm::count_host_error();
    }
    true
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        match self.configure(size) {
            Ok(()) => true,
            Err(error) => {
                log(LogLevel::Error, &format!("sandgate_egress: configuration refused: {error}"));
                false
            }
        }
    }

    fn on_tick(&mut self) {
        reevaluate(self.id);
    }

    fn create_stream_context(&self, context_id: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(Connection::new(context_id)))
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request::new(context_id)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(match self.kind {
            Some(FilterKind::Tcp) => ContextType::StreamContext,
            _ => ContextType::HttpContext,
        })
    }
}

impl Context for Root {}
