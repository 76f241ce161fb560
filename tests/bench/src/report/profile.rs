//! Where the processor time goes, as differences between ways of the same round.

use serde_json::Value;

use super::{Data, numbers, row, rows, spread};

/// A part of the cost: its name, and the two ways whose difference it is.
type Difference = (&'static str, &'static str, &'static str);

const INGRESS: [Difference; 5] = [
    ("`edge.yaml` around the filter: guards, limits, the access log", "without_filter", "bare"),
    ("the native filter, with an API key", "native_key", "without_filter"),
    ("a wasm filter that does nothing: entering and leaving the VM", "noop", "without_filter"),
    ("the wasm filter's own work and its calls of Envoy, with an API key", "wasm_key", "noop"),
    ("for comparison: Lua, with an API key", "lua_key", "without_filter"),
];

const EGRESS: [Difference; 4] = [
    ("`sidecar.yaml` around the filter: guards, the access log", "without_filter", "bare"),
    ("a wasm filter that does nothing: entering and leaving the VM", "noop", "without_filter"),
    ("the wasm filter's own work and its calls of Envoy", "wasm", "noop"),
    ("the native filter", "native", "without_filter"),
];

/// One table for both directions.
pub(super) fn table(data: &Data) -> String {
    let mut text = "| part | µs of Envoy |\n|---|---|\n".to_owned();
    for (part, unit, bare, differences) in [
        ("ingress", "a request", "bare Envoy", &INGRESS[..]),
        ("egress", "a connection out of a sandbox", "bare `tcp_proxy`", &EGRESS[..]),
    ] {
        let rows = rows(data, part);
        if let Some(row) = row(&rows, "bare") {
            let micros = spread(&numbers(row, "micros"), 1);
            text.push_str(&format!("| **{unit}**: {bare} | {micros} |\n"));
        }
        for (what, more, less) in differences {
            if let Some(micros) = difference(&rows, more, less) {
                text.push_str(&format!("| {what} | + {} |\n", spread(&micros, 1)));
            }
        }
    }
    text
}

/// The difference in each round.
fn difference(rows: &[Value], more: &str, less: &str) -> Option<Vec<f64>> {
    let of = |name| Some(numbers(row(rows, name)?, "micros"));
    Some(of(more)?.iter().zip(of(less)?).map(|(more, less)| more - less).collect())
}
