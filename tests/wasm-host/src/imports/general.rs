//! Logs, time, configuration, properties, metrics, contexts and foreign functions.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use wasmtime::Linker;

use super::{Guest, Hostcall, hostcall};
use crate::abi::{Status, buffer};
use crate::connection::Attributes;
use crate::filter_state::{self, FilterState};
use crate::shared::{Log, LogLevel, Metric};
use crate::stream::StreamState;
use crate::vm::{Action, VmState};

const COUNTER: u32 = 0;
const GAUGE: u32 = 1;
const HISTOGRAM: u32 = 2;

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
        if !guest.state().has_context(context) {
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
    hostcall!(
        linker,
        "proxy_call_foreign_function",
        |guest,
         name: u32,
         name_size: u32,
         arguments: u32,
         arguments_size: u32,
         _results_at: u32,
         _results_size_at: u32| {
            let name = guest.read(name, name_size)?;
            let arguments = guest.read(arguments, arguments_size)?;
            match name.as_slice() {
                b"set_envoy_filter_state" => set_filter_state(guest, &arguments),
                // This host has no route cache.
                b"clear_route_cache" => Ok(()),
                _ => Err(Status::NotFound.into()),
            }
        }
    );
    define_properties(linker)?;
    define_metrics(linker)
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

fn set_filter_state(guest: &mut Guest<'_>, arguments: &[u8]) -> Hostcall {
    let (key, new) = filter_state::parse(arguments)?;
    let shared = Rc::clone(&guest.state().shared);
    let subject = subject(guest)?;
    if subject.filter_state.get(&key).is_some_and(|old| old.span != new.span) {
        shared.borrow_mut().fault(format!("it set the filter state {key} with another life span"));
    }
    subject.filter_state.insert(key, new);
    Ok(())
}

/// The common state of a request and a connection.
struct Subject<'a> {
    filter_state: &'a mut BTreeMap<String, FilterState>,
    properties: &'a mut BTreeMap<Vec<u8>, Vec<u8>>,
    attributes: &'a Attributes,
}

/// The request or connection that a host call refers to. A root context has none.
fn subject<'a>(guest: &'a mut Guest<'_>) -> Hostcall<Subject<'a>> {
    let state = guest.state();
    let context = state.context();
    if let Some(connection) = state.connections.get_mut(&context) {
        return Ok(Subject {
            filter_state: &mut connection.filter_state,
            properties: &mut connection.properties,
            attributes: &connection.attributes,
        });
    }
    let stream = state.streams.get_mut(&context).ok_or(Status::NotFound)?;
    Ok(Subject {
        filter_state: &mut stream.filter_state,
        properties: &mut stream.properties,
        attributes: &stream.attributes,
    })
}

/// A property of the effective context: its plugin's root id, a value that the filter set, or an
/// attribute that Envoy provides.
fn property(guest: &mut Guest<'_>, path: &[u8]) -> Hostcall<Vec<u8>> {
    if path == b"plugin_root_id" {
        let state = guest.state();
        let root = state.root_of(state.context());
        let root = state.roots.get(&root).ok_or(Status::NotFound)?;
        return Ok(root.root_id.clone().into_bytes());
    }
    let subject = subject(guest)?;
    if let Some(value) = subject.properties.get(path) {
        return Ok(value.clone());
    }
    // The segments of a path are separated by NULs.
    let name = String::from_utf8_lossy(path).replace('\0', ".");
    subject.attributes.get(&name).cloned().ok_or_else(|| Status::NotFound.into())
}

fn define_properties(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcall!(
        linker,
        "proxy_get_property",
        |guest, path: u32, size: u32, pointer_at: u32, size_at: u32| {
            let path = guest.read(path, size)?;
            let value = property(guest, &path)?;
            guest.give(&value, pointer_at, size_at)
        }
    );
    hostcall!(
        linker,
        "proxy_set_property",
        |guest, path: u32, path_size: u32, value: u32, value_size: u32| {
            let path = guest.read(path, path_size)?;
            let value = guest.read(value, value_size)?;
            subject(guest)?.properties.insert(path, value);
            Ok(())
        }
    );
    Ok(())
}

/// As in Envoy, the two lowest bits of a metric's number are its kind.
fn define_metrics(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcall!(
        linker,
        "proxy_define_metric",
        |guest, kind: u32, name: u32, size: u32, number_at: u32| {
            if kind > HISTOGRAM {
                return Err(Status::BadArgument.into());
            }
            let name = String::from_utf8_lossy(&guest.read(name, size)?).into_owned();
            let shared = Rc::clone(&guest.state().shared);
            let mut shared = shared.borrow_mut();
            let metric = shared.metrics.entry(name.clone()).or_insert(Metric { kind, value: 0 });
            if metric.kind != kind {
                shared.fault(format!("it defined the metric {name} with two kinds"));
                return Err(Status::BadArgument.into());
            }
            let index = shared.metric_names.iter().position(|known| *known == name);
            let index = index.unwrap_or_else(|| {
                shared.metric_names.push(name);
                shared.metric_names.len() - 1
            });
            let index = u32::try_from(index).map_err(|_| Status::InternalFailure)?;
            guest.write_u32(number_at, index << 2 | kind)
        }
    );
    hostcall!(linker, "proxy_increment_metric", |guest, number: u32, offset: i64| {
        with_metric(guest, number, |metric| {
            match metric.kind {
                COUNTER if offset > 0 => metric.value += offset.unsigned_abs(),
                GAUGE => metric.value = metric.value.saturating_add_signed(offset),
                _ => return Err(Status::BadArgument.into()),
            }
            Ok(())
        })
    });
    hostcall!(linker, "proxy_record_metric", |guest, number: u32, value: u64| {
        with_metric(guest, number, |metric| {
            match metric.kind {
                GAUGE => metric.value = value,
                COUNTER => metric.value += value,
                // For a histogram, this host stores only the number of records.
                _ => metric.value += 1,
            }
            Ok(())
        })
    });
    hostcall!(linker, "proxy_get_metric", |guest, number: u32, value_at: u32| {
        let value = with_metric(guest, number, |metric| match metric.kind {
            HISTOGRAM => Err(Status::BadArgument.into()),
            _ => Ok(metric.value),
        })?;
        guest.write(value_at, &value.to_le_bytes())
    });
    Ok(())
}

fn with_metric<T>(
    guest: &mut Guest<'_>,
    number: u32,
    change: impl FnOnce(&mut Metric) -> Hostcall<T>,
) -> Hostcall<T> {
    let mut shared = guest.state().shared.borrow_mut();
    let shared = &mut *shared;
    let name = shared.metric_names.get((number >> 2) as usize).ok_or(Status::NotFound)?;
    let metric = shared.metrics.get_mut(name).ok_or(Status::NotFound)?;
    change(metric)
}
