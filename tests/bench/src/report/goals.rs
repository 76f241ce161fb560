//! The goals, and what was measured for each.

use serde_json::Value;

use super::{Data, number, numbers, ratio, row, rows};
use crate::statistics::median;

struct Goal {
    what: &'static str,
    required: f64,
    aim: f64,
    is_at_most: bool,
    unit: &'static str,
    measured: Option<f64>,
    how: &'static str,
}

/// The table of goals.
pub(super) fn table(data: &Data) -> String {
    let mut text =
        "| goal | required | aim | measured | | how |\n|---|---|---|---|---|---|\n".to_owned();
    for goal in goals(data) {
        let sign = if goal.is_at_most { "≤" } else { "≥" };
        let digits = if goal.unit.is_empty() && goal.required < 3.0 { 2 } else { 0 };
        let digits = if goal.required == 4.0 { 1 } else { digits };
        let show = |value: f64| format!("{value:.digits$}{}", goal.unit);
        let reaches = |value: f64, bound: f64| {
            if goal.is_at_most { value <= bound } else { value >= bound }
        };
        let (measured, verdict) = match goal.measured {
            None => ("–".to_owned(), "not measured"),
            Some(value) if reaches(value, goal.aim) => (show(value), "aim reached"),
            Some(value) if reaches(value, goal.required) => (show(value), "reached"),
            Some(value) => (show(value), "**not reached**"),
        };
        let (required, aim) = (show(goal.required), show(goal.aim));
        let (what, how) = (goal.what, goal.how);
        text.push_str(&format!(
            "| {what} | {sign} {required} | {aim} | {measured} | {verdict} | {how} |\n"
        ));
    }
    text
}

fn goals(data: &Data) -> Vec<Goal> {
    let at_most = |what, required, aim, unit, measured, how| Goal {
        what,
        required,
        aim,
        is_at_most: true,
        unit,
        measured,
        how,
    };
    let at_least = |what, required, aim, unit, measured, how| Goal {
        what,
        required,
        aim,
        is_at_most: false,
        unit,
        measured,
        how,
    };
    let (ingress, latency, egress) =
        (rows(data, "ingress"), rows(data, "latency"), rows(data, "egress"));
    let best = if row(&egress, "native").is_some() { "native" } else { "wasm" };
    let bulk = ["up", "down"].map(|field| ratio(&egress, best, "bare", field));
    let bulk = bulk.into_iter().flatten().reduce(f64::min);
    vec![
        at_most(
            "native, API key: processor time over bare",
            1.2,
            1.12,
            "",
            ratio(&ingress, "native_key", "bare", "micros"),
            "[ingress](#ingress)",
        ),
        at_least(
            "native: what `ext_authz` over HTTP adds to bare, over what ours adds",
            4.0,
            8.0,
            "",
            added(&ingress),
            "[ingress](#ingress), Envoy alone, without the service",
        ),
        at_most(
            "native: p99 at half load over bare",
            1.15,
            1.08,
            "",
            ratio(&latency, "native_key", "bare", "p99"),
            "[latency](#latency)",
        ),
        at_most(
            "wasm, API key: processor time over bare",
            1.6,
            1.45,
            "",
            ratio(&ingress, "wasm_key", "bare", "micros"),
            "[ingress](#ingress)",
        ),
        at_most(
            "wasm: p99 at half load over bare",
            1.25,
            1.15,
            "",
            ratio(&latency, "wasm_key", "bare", "p99"),
            "[latency](#latency)",
        ),
        at_most(
            "50,000 sandbox addresses through one Envoy: cost of the last new address over the first",
            2.0,
            1.2,
            "",
            growth(data),
            "[scale](#scale), `original_dst`, the last 5,000 over the first 5,000, the worse form",
        ),
        at_most(
            "1,000 waiting requests: the last one is served after the sandbox runs",
            150.0,
            100.0,
            " ms",
            last_waiter(data),
            "[waiting requests](#waiting-requests), none may be refused, the slower form",
        ),
        at_least(
            "egress: connections per second over bare `tcp_proxy`",
            0.85,
            0.95,
            "",
            ratio(&egress, best, "bare", "connections"),
            "[egress](#egress), best form",
        ),
        at_least(
            "egress: bulk throughput over bare",
            0.97,
            1.0,
            "",
            bulk,
            "[egress](#egress), best form, the slower direction",
        ),
        at_most(
            "sidecar's Envoy, resident memory",
            85.0,
            70.0,
            " MB",
            memory(&egress, best),
            "[egress](#egress), best form, idle",
        ),
    ]
}

/// What `ext_authz` adds over what the native form adds, in the same round.
fn added(ingress: &[Value]) -> Option<f64> {
    let of = |name| Some(numbers(row(ingress, name)?, "micros"));
    let (bare, authz, native) = (of("bare")?, of("ext_authz_http")?, of("native_key")?);
    let ratios: Vec<f64> = bare
        .iter()
        .zip(authz)
        .zip(native)
        .map(|((bare, authz), native)| (authz - bare) / (native - bare).max(0.1))
        .collect();
    Some(median(&ratios))
}

/// The cost of the last new address over that of the first, for the form that does worse.
fn growth(data: &Data) -> Option<f64> {
    let all = rows(data, "scale");
    let ours = ["wasm_original", "native_original"].into_iter().filter_map(|name| row(&all, name));
    ours.filter_map(grown).reduce(f64::max)
}

/// The last value of a row over its first one.
pub(super) fn grown(row: &Value) -> Option<f64> {
    let micros = numbers(row, "micros");
    Some(micros.last()? / micros.first()?)
}

/// The time of the form that does worse. None if a request was refused.
fn last_waiter(data: &Data) -> Option<f64> {
    let waiters = number(data.get("waiting")?, "waiters");
    let all = rows(data, "waiting");
    let measured = all.iter().filter(|row| row.get("missing").is_none());
    let times = measured.map(|row| {
        let is_served = numbers(row, "served").iter().all(|served| *served == waiters);
        if is_served { median(&numbers(row, "last_ms")) } else { f64::INFINITY }
    });
    times.reduce(f64::max)
}

fn memory(egress: &[Value], name: &str) -> Option<f64> {
    Some(number(row(egress, name)?, "idle_megabytes"))
}
