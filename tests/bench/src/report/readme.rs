//! The sentences about costs in the README, which say only what the page shows.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::{Data, number, numbers, ratio, row, rows};
use crate::statistics::median;

const BEGIN: &str = "<!-- `make bench` writes this -->\n";
const END: &str = "<!-- end -->\n";
const WIDTH: usize = 140;

/// Replaces the sentences in the README.
pub(crate) fn update(data: &Data, file: &Path) -> Result<()> {
    let text = std::fs::read_to_string(file)?;
    let (before, rest) = text.split_once(BEGIN).context("the README has no place for figures")?;
    let (_, after) = rest.split_once(END).context("the README's place for figures has no end")?;
    Ok(std::fs::write(file, [before, BEGIN, &sentences(data), END, after].concat())?)
}

/// One list item for each claim whose figures were measured.
pub(crate) fn sentences(data: &Data) -> String {
    let ingress = rows(data, "ingress");
    let egress = rows(data, "egress");
    let over_bare = |name| ratio(&ingress, name, "bare", "micros");
    let mut lines = Vec::new();
    if let (Some(wasm), Some(lua), Some(grpc), Some(http)) = (
        over_bare("wasm_key"),
        over_bare("lua_key"),
        over_bare("ext_authz_grpc"),
        over_bare("ext_authz_http"),
    ) {
        let native = over_bare("native_key")
            .map(|it| format!(" {it:.2} times in native form and"))
            .unwrap_or_default();
        lines.push(format!(
            "A request with an API key takes{native} {wasm:.2} times in wasm form the processor time that it takes in a bare Envoy; \
             with Lua {lua:.2}, with `ext_authz` over gRPC {grpc:.2} and over HTTP {http:.2}, without the service's own time."
        ));
    }
    let form = if row(&egress, "native").is_some() { "native" } else { "wasm" };
    if let (Some(rate), Some(one)) =
        (ratio(&egress, form, "bare", "connections"), row(&egress, form))
    {
        lines.push(format!(
            "Through a sidecar in {form} form, a sandbox opens {rate:.2} times as many connections a second as through a bare `tcp_proxy`. \
             The sidecar's Envoy takes {:.0} MB.",
            number(one, "idle_megabytes")
        ));
    }
    let waiting = rows(data, "waiting");
    let last = waiting.iter().map(|row| median(&numbers(row, "last_ms"))).fold(0.0, f64::max);
    if last > 0.0 {
        lines.push(format!(
            "Of 1,000 requests that wait for a suspended sandbox, the last one is answered {last:.0} ms after the sandbox runs."
        ));
    }
    let mut text: String = lines.iter().map(|line| item(line)).collect();
    text.push_str(
        "\n[docs/benchmarks.md](docs/benchmarks.md) has the method, the goals, and all figures.\n",
    );
    text
}

/// A list item, in lines of the README's width.
fn item(text: &str) -> String {
    let (mut item, mut width) = ("-".to_owned(), 1);
    for word in text.split(' ') {
        if width + 1 + word.len() > WIDTH {
            item.push_str("\n ");
            width = 1;
        }
        item.push(' ');
        item.push_str(word);
        width += 1 + word.len();
    }
    item + "\n"
}

/// What could not be measured, for whoever runs the benchmark.
pub(crate) fn not_measured(data: &Data) -> Vec<String> {
    let why = |value: &serde_json::Value| {
        value.get("missing").and_then(serde_json::Value::as_str).map(str::to_owned)
    };
    let mut lines = Vec::new();
    for (part, measured) in data {
        lines.extend(why(measured).map(|why| format!("{part}: {why}")));
        for row in rows(data, part) {
            lines.extend(
                why(&row).map(|why| format!("{part}, {}: {why}", super::text_of(&row, "name"))),
            );
        }
    }
    lines
}
