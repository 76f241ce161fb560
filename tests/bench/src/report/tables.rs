//! The tables of the report.

mod scale;

use serde_json::Value;

use super::{Data, number, numbers, ratio, row, rows, spread, text_of};
use crate::statistics::median;

pub(super) use scale::{addresses, cache, dns, waiting};

/// A row for what could not be measured.
fn missing(row: &Value, columns: usize) -> Option<String> {
    let why = row.get("missing").and_then(Value::as_str)?;
    let title = text_of(row, "title");
    Some(format!("| {title} | {why} |{}\n", " |".repeat(columns.saturating_sub(2))))
}

pub(super) fn ingress(data: &Data) -> String {
    let rows = rows(data, "ingress");
    let mut text = "| way | µs of the proxy for a request | over bare | µs of the authorization service | requests/s |\n|---|---|---|---|---|\n".to_owned();
    for one in &rows {
        text.push_str(&missing(one, 5).unwrap_or_else(|| {
            let name = text_of(one, "name");
            let service = median(&numbers(one, "service_micros"));
            let service = if service < 0.5 { "–".to_owned() } else { format!("{service:.1}") };
            format!(
                "| {} | {} | {} | {service} | {:.0} |\n",
                text_of(one, "title"),
                spread(&numbers(one, "micros"), 1),
                shown(ratio(&rows, name, "bare", "micros")),
                median(&numbers(one, "rate")),
            )
        }));
    }
    text
}

fn shown(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"))
}

pub(super) fn protocols(data: &Data) -> String {
    let all = rows(data, "protocols");
    let mut text =
        "| protocol | way | µs of the proxy | over bare |\n|---|---|---|---|\n".to_owned();
    for (protocol, title) in [
        ("Tls", "HTTP/1.1 over TLS, a request"),
        ("Http2", "HTTP/2, a request"),
        ("Grpc", "gRPC, a call"),
        ("WebSocket", "WebSocket, an upgrade with ten messages and the end"),
    ] {
        let of: Vec<Value> =
            all.iter().filter(|row| text_of(row, "protocol") == protocol).cloned().collect();
        for one in &of {
            text.push_str(&format!(
                "| {title} | {} | {} | {} |\n",
                text_of(one, "title"),
                spread(&numbers(one, "micros"), 1),
                shown(ratio(&of, text_of(one, "name"), "bare", "micros")),
            ));
        }
    }
    for one in &all {
        text.push_str(&missing(one, 4).map_or_else(String::new, |row| format!("| all {row}")));
    }
    text
}

pub(super) fn latency(data: &Data) -> String {
    let rows = rows(data, "latency");
    let mut text =
        "| way | p50, µs | p99, µs | p50 over bare | p99 over bare |\n|---|---|---|---|---|\n"
            .to_owned();
    for one in &rows {
        let name = text_of(one, "name");
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} |\n",
            text_of(one, "title"),
            spread(&numbers(one, "p50"), 0),
            spread(&numbers(one, "p99"), 0),
            shown(ratio(&rows, name, "bare", "p50")),
            shown(ratio(&rows, name, "bare", "p99")),
        ));
    }
    text
}

pub(super) fn egress(data: &Data) -> String {
    let rows = rows(data, "egress");
    let mut text = "| way | connections/s | over bare | µs of Envoy for a connection | bulk up / down, Gbit/s | over bare | ms of Envoy for a GB up / down | Envoy's memory idle / after, MB |\n|---|---|---|---|---|---|---|---|\n".to_owned();
    for one in &rows {
        text.push_str(&missing(one, 8).unwrap_or_else(|| {
            let name = text_of(one, "name");
            let m = |field| median(&numbers(one, field));
            let over = |field| shown(ratio(&rows, name, "bare", field));
            let envoy = |text: String| {
                if name == "direct" { "–".to_owned() } else { text }
            };
            format!(
                "| {} | {} | {} | {} | {:.1} / {:.1} | {} / {} | {} | {} |\n",
                text_of(one, "title"),
                spread(&numbers(one, "connections"), 0),
                over("connections"),
                envoy(format!("{:.0}", m("micros"))),
                m("up"),
                m("down"),
                over("up"),
                over("down"),
                envoy(format!("{:.0} / {:.0}", m("up_cost"), m("down_cost"))),
                envoy(format!(
                    "{:.0} / {:.0}",
                    number(one, "idle_megabytes"),
                    number(one, "megabytes_after")
                )),
            )
        }));
    }
    text
}

/// Whether a part was measured; otherwise why it was not.
pub(super) fn state<'a>(data: &'a Data, part: &str) -> Result<(), &'a str> {
    match data.get(part) {
        None => Err("not measured in this run"),
        Some(part) => match part.get("missing").and_then(Value::as_str) {
            Some(why) => Err(why),
            None => Ok(()),
        },
    }
}

/// Whether a way was measured.
pub(super) fn has(data: &Data, part: &str, name: &str) -> bool {
    row(&rows(data, part), name).is_some()
}
