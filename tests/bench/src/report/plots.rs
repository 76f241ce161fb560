//! The plots of the report.

use serde_json::Value;

use super::svg::{Bar, Line, bars, lines};
use super::{Data, number, numbers, ratio, row, rows, text_of};

/// The names of the plots and their content.
pub(super) fn all(data: &Data) -> Vec<(&'static str, String)> {
    let mut plots = Vec::new();
    let bar_plots = [
        (
            "ingress.svg",
            "ingress",
            "micros",
            "Processor time of the proxy for a request, over bare Envoy",
        ),
        ("latency.svg", "latency", "p99", "p99 at half load, over bare Envoy"),
        (
            "egress.svg",
            "egress",
            "connections",
            "Connections per second out of a sandbox, over bare tcp_proxy",
        ),
    ];
    for (file, part, field, title) in bar_plots {
        let rows = rows(data, part);
        let measured = bars_of(&rows, field);
        if !measured.is_empty() {
            plots.push((file, bars(title, "", &measured)));
        }
    }
    let all = rows(data, "scale");
    let addresses: Vec<Line> =
        all.iter().filter(|row| row.get("missing").is_none()).map(line).collect();
    if !addresses.is_empty() {
        let title = "Envoy's µs for the first request to another sandbox";
        plots.push(("addresses.svg", lines(title, "addresses in use", &addresses)));
    }
    plots
}

fn bars_of(rows: &[Value], field: &str) -> Vec<Bar> {
    let measured = rows.iter().filter(|one| row(rows, text_of(one, "name")).is_some());
    measured
        .filter_map(|one| {
            let name = text_of(one, "name");
            Some(Bar {
                label: text_of(one, "title").to_owned(),
                value: ratio(rows, name, "bare", field)?,
                is_ours: name.starts_with("wasm") || name.starts_with("native"),
            })
        })
        .collect()
}

/// The cost of each portion, at the number of addresses in its middle.
fn line(row: &Value) -> Line {
    let micros = numbers(row, "micros");
    let each = number(row, "count") / micros.len().max(1) as f64;
    let points =
        (0_u32..).zip(micros).map(|(index, value)| ((f64::from(index) + 0.5) * each, value));
    Line { label: text_of(row, "title").to_owned(), points: points.collect() }
}
