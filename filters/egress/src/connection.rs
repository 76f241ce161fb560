//! The network context of one connection of the sandbox.

use proxy_wasm::traits::{Context, StreamContext};
use proxy_wasm::types::Action;
use sandgate_engine::egress::{self as engine, DataEffect, NewConnectionEffect, upstream};
use sandgate_hostcalls::{connection, property};

use crate::{apply, vm};

pub(crate) struct Connection {
    id: u32,
    state: engine::Connection,
}

impl Connection {
    pub(crate) fn new(id: u32) -> Self {
        Self { id, state: engine::Connection::new(id) }
    }

    /// Closes the connection, because no decision was possible or the host refused a call.
    fn fail(&mut self) -> Action {
        vm::count_host_error();
        vm::with(|vm| self.state.abort(&mut vm.engine));
        close()
    }
}

/// Closes the connection. If the host refuses, the connection stays paused.
fn close() -> Action {
    let _ = connection::close();
    Action::Pause
}

impl StreamContext for Connection {
    fn on_new_connection(&mut self) -> Action {
        let Ok(sni) = property(&["connection", "requested_server_name"]) else {
            return self.fail();
        };
        let (destination, sni) = (apply::destination(), sni.unwrap_or_default());
        let effect = vm::with(|vm| self.state.on_new_connection(&mut vm.engine, destination, &sni));
        let applied = match effect {
            Some(NewConnectionEffect::Connect { permit, destination, decision }) => {
                apply::report(&decision);
                apply::set(upstream::of_connection(&permit, destination, &sni))
            }
            Some(NewConnectionEffect::Deny(decision)) => {
                apply::report(&decision);
                apply::set(upstream::without_resolution(&sni))
            }
            Some(NewConnectionEffect::Fail) | None => return self.fail(),
        };
        applied.map_or_else(|_| self.fail(), |()| Action::Continue)
    }

    fn on_downstream_data(&mut self, available: usize, end_of_stream: bool) -> Action {
        let read = || connection::received(available).ok();
        let effect =
            vm::with(|vm| self.state.on_data(&mut vm.engine, available, end_of_stream, read));
        match effect {
            Some(DataEffect::Continue) => Action::Continue,
            Some(DataEffect::Hold) => Action::Pause,
            Some(DataEffect::Close(decision)) => {
                apply::report(&decision);
                close()
            }
            Some(DataEffect::Fail) | None => self.fail(),
        }
    }
}

impl Context for Connection {}

/// The host deletes the context when the connection has ended.
impl Drop for Connection {
    fn drop(&mut self) {
        vm::with(|vm| vm.engine.on_stream_end(self.id));
    }
}
