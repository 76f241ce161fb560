//! Counters, gauges, and histograms.

use std::rc::Rc;

use wasmtime::Linker;

use super::{Guest, Hostcall, hostcall};
use crate::abi::Status;
use crate::shared::Metric;
use crate::vm::VmState;

const COUNTER: u32 = 0;
const GAUGE: u32 = 1;
const HISTOGRAM: u32 = 2;

/// As in Envoy, the two lowest bits of a metric's number are its kind.
pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
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
