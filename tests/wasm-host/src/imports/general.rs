//! Logs, time, buffers, and contexts.

use std::time::Duration;

use wasmtime::Linker;

use super::{Guest, Hostcall, hostcall};
use crate::abi::{Status, buffer};
use crate::shared::{Log, LogLevel};
use crate::stream::StreamState;
use crate::vm::{Action, VmState};

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_log", |guest, level: u32, message: u32, size: u32| {
        let level = match level {
            0 => LogLevel::Trace,
            1 => LogLevel::Debug,
            2 => LogLevel::Info,
            3 => LogLevel::Warn,
            4 => LogLevel::Error,
            5 => LogLevel::Critical,
            _ => return Err(Status::BadArgument.into()),
        };
        let message = String::from_utf8_lossy(&guest.read(message, size)?).into_owned();
        guest.state().shared.borrow_mut().logs.push(Log { level, message });
        Ok(())
    });
    hostcall!(linker, "proxy_get_log_level", |guest, level_at: u32| guest.write_u32(level_at, 0));
    hostcall!(linker, "proxy_get_current_time_nanoseconds", |guest, time_at: u32| {
        let now = guest.state().shared.borrow().wall_clock().as_nanos();
        let now = u64::try_from(now).map_err(|_| Status::InternalFailure)?;
        guest.write(time_at, &now.to_le_bytes())
    });
    hostcall!(linker, "proxy_set_tick_period_milliseconds", |guest, period: u32| {
        let period = (period > 0).then(|| Duration::from_millis(u64::from(period)));
        let state = guest.state();
        let now = state.shared.borrow().clock;
        let root = state.root_of(state.context());
        if let Some(root) = state.roots.get_mut(&root) {
            root.tick_period = period;
            root.next_tick = period.map(|period| now + period);
        }
        Ok(())
    });
    hostcall!(
        linker,
        "proxy_get_buffer_bytes",
        |guest, buffer: u32, start: u32, size: u32, pointer_at: u32, size_at: u32| {
            let bytes = read_buffer(guest, buffer)?;
            let start = start as usize;
            let end = start.saturating_add(size as usize).min(bytes.len());
            match bytes.get(start..end) {
                // As in Envoy, an empty buffer is not written, so the caller's null pointers stay.
                None | Some([]) => Ok(()),
                Some(bytes) => guest.give(bytes, pointer_at, size_at),
            }
        }
    );
    hostcall!(linker, "proxy_set_effective_context", |guest, context: u32| {
        let state = guest.state();
        let is_refused =
            state.shared.borrow().refuse_streams && state.streams.contains_key(&context);
        if is_refused || !state.has_context(context) {
            return Err(Status::BadArgument.into());
        }
        guest.state().effective = context;
        Ok(())
    });
    hostcall!(linker, "proxy_done", |guest| {
        let root = guest.state().context();
        if !guest.state().roots.get(&root).is_some_and(|root| root.lingering) {
            return Err(Status::NotFound.into());
        }
        guest.state().actions.push_back(Action::RootDone(root));
        Ok(())
    });
    Ok(())
}

fn read_buffer(guest: &mut Guest<'_>, buffer: u32) -> Hostcall<Vec<u8>> {
    let state = guest.state();
    match buffer {
        buffer::VM_CONFIGURATION => Ok(Vec::new()),
        buffer::PLUGIN_CONFIGURATION => {
            state.configuration.clone().ok_or_else(|| Status::NotFound.into())
        }
        buffer::HTTP_CALL_RESPONSE_BODY => {
            let root = state.root_of(state.context());
            match &state.call_response {
                Some((caller, response)) if *caller == root => Ok(response.body.clone()),
                _ => Err(Status::NotFound.into()),
            }
        }
        buffer::DOWNSTREAM_DATA => {
            let context = state.context();
            match state.connections.get(&context) {
                Some(connection) if connection.readable => Ok(connection.received.clone()),
                _ => Err(Status::NotFound.into()),
            }
        }
        number if number <= buffer::LAST => Err(Status::NotFound.into()),
        _ => Err(Status::BadArgument.into()),
    }
}

/// The request that a host call refers to. A root context has none.
pub(super) fn stream<'a>(guest: &'a mut Guest<'_>) -> Hostcall<&'a mut StreamState> {
    let state = guest.state();
    let context = state.context();
    state.streams.get_mut(&context).ok_or_else(|| Status::NotFound.into())
}
