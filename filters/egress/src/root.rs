//! The root contexts: configuration, and judging again what is live.

use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext, StreamContext};
use proxy_wasm::types::ContextType;
use sandgate_hostcalls::{
    LogLevel, configuration, connection, log, root_id, set_tick_period, stream,
};
use sandgate_policy::egress::config::EgressConfig;

use crate::apply;
use crate::connection::Connection;
use crate::live::LiveStream;
use crate::request::Request;
use crate::vm::{self, Protocol, Update};

/// After a new configuration: how many of what is live are judged in one turn of the worker's loop,
/// and how many are ended. Envoy ends the next one from inside the end of the one before, so that each
/// takes its share of the stack.
const JUDGED_AT_ONCE: usize = 2_000;
const ENDED_AT_ONCE: usize = 200;
/// The next turn: 10,000 connections are ended in less than half a second.
const TICK: Duration = Duration::from_millis(1);

/// The root context of one configuration of one of the filters.
pub(crate) struct Root {
    id: u32,
    protocol: Option<Protocol>,
}

impl Root {
    pub(crate) fn new(id: u32) -> Self {
        let protocol = match root_id().as_deref() {
            Ok(b"sandgate_egress_tcp") => Some(Protocol::Tcp),
            Ok(b"sandgate_egress_http") => Some(Protocol::Http),
            _ => None,
        };
        Self { id, protocol }
    }

    fn configure(&self, size: usize) -> std::result::Result<(), String> {
        let protocol = self.protocol.ok_or(
            "root_id is none of this module's; write sandgate_egress_tcp or sandgate_egress_http",
        )?;
        let json = configuration(size).map_err(|error| error.to_string())?;
        let update = vm::with(|vm| vm.configure(protocol, json)).ok_or("the VM is busy")?;
        match update.map_err(|error| error.to_string())? {
            Update::InForce => judge_live(self.id),
            Update::Known => {}
            Update::Late(generation) => {
                let message = format!("generation {generation} came late: a newer one is in force");
                log(LogLevel::Warn, &format!("sandgate_egress: {message}"));
            }
        }
        Ok(())
    }
}

/// Judges the next part of what is live, and ends what the configuration in force would not let out;
/// comes back for the rest with the next tick.
fn judge_live(root: u32) {
    let mut ended = 0;
    for _ in 0..JUDGED_AT_ONCE {
        let next = vm::with(|vm| Some((vm.current()?, vm.live.next_suspect()?))).flatten();
        let Some((config, (id, live))) = next else { break };
        ended += usize::from(judge(id, &live, &config));
        if ended >= ENDED_AT_ONCE {
            break;
        }
    }
    let more = vm::with(|vm| vm.live.has_suspects()) == Some(true);
    let period = if more { TICK } else { Duration::ZERO };
    // The context of the last one is effective, whose root may be one that is on its way out.
    if stream::make_effective(root).and_then(|()| set_tick_period(period)).is_err() {
        apply::host_error();
    }
}

/// Whether a connection or request had to be ended.
fn judge(id: u32, live: &LiveStream, config: &EgressConfig) -> bool {
    // Gone, and its end is about to be told.
    if stream::make_effective(id).is_err() {
        return false;
    }
    let peer = apply::peer().map(|peer| peer.ip());
    let Some(rule) = live.no_longer_permitted(config, peer) else { return false };
    apply::closed(live.protocol, &rule, config);
    let ended = match live.protocol {
        Protocol::Http => stream::reset(),
        Protocol::Tcp => connection::close(),
    };
    if ended.is_err() {
        apply::host_error();
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
        judge_live(self.id);
    }

    fn create_stream_context(&self, context_id: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(Connection::new(context_id)))
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request::new(context_id)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(match self.protocol {
            Some(Protocol::Tcp) => ContextType::StreamContext,
            _ => ContextType::HttpContext,
        })
    }
}

impl Context for Root {}
