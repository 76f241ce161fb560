//! The text of the page.

use serde_json::Value;

use super::Part;
use crate::propagation::STAGES;
use crate::statistics::{median, quantile, ratios};

const HEAD: &str = "# Benchmarks of a fleet

`make bench-propagation`, `make bench-xds` and `make bench-store` measure this. Each one writes its part of this page from
its raw data in `docs/benchmarks-fleet/`. The figures of one part are from one run; only compare figures of the same machine.

## Goals

| goal | required | measured | |
|---|---|---|---|
";

const PROPAGATION: &str = "## From a change to its enforcement

The time from the moment at which an owner sends a `PATCH` that makes a public port private. All programs run on one machine and share
its cores. The Envoys have one worker each; half of them prefer the first control plane, half the second. The owner calls both in turn.
The requests of the load go to another sandbox. While a change is in progress, each Envoy gets a request to the changed port every 10 ms in
addition, and *enforced* is the moment at which its first denial has arrived. So these times include up to 10 ms for the observation. Each
Envoy has an open WebSocket to the port before each change, and *closed* is the end of the last one. The first 20 changes after the start are
not measured.
";

const XDS: &str = "## Many nodes on one xDS server

The server is that of `sandgate serve` in a process of its own. The nodes are simulated, in one process on the same machine; each has a
connection from an address of its own, without TLS, and all resources of an edge. A change concerns the rate of the access log of one
node. At the end the server is killed and starts again: all nodes lose their connections at the same moment, and connect again after
Envoy's pauses with jitter.
";

const STORE: &str = "## Many sandboxes in a store

A lookup is one of the gateway API, over HTTP, for a sandbox that was not looked up before. The small and the large store of a kind take
turns in rounds; a figure is the median of the rounds, and the ratio is the median of the ratios in the same round. The start is from the
start of the process until both of its APIs answer.
";

/// The page.
pub(super) fn page(sections: &[(Part, Option<Value>)]) -> String {
    let mut text = HEAD.to_owned();
    for (part, data) in sections {
        text.push_str(&goals(*part, data.as_ref()));
    }
    for (part, data) in sections {
        text.push('\n');
        match data {
            Some(data) => text.push_str(&section(*part, data)),
            None => text.push_str(&format!("{}\nNot measured yet.\n", about(*part))),
        }
    }
    text
}

const fn about(part: Part) -> &'static str {
    match part {
        Part::Propagation => PROPAGATION,
        Part::Xds => XDS,
        Part::Store => STORE,
    }
}

/// The section of a part, with its figures.
pub(super) fn section(part: Part, data: &Value) -> String {
    let figures = match part {
        Part::Propagation => propagation(data),
        Part::Xds => xds(data),
        Part::Store => store(data),
    };
    format!("{}\n{figures}\n{}", about(part), machine(data))
}

fn machine(data: &Value) -> String {
    let of = |field: &str| {
        let value = data.pointer(&format!("/machine/{field}")).cloned().unwrap_or_default();
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    };
    format!(
        "This run: {}, commit {}; {} with {} cores and {} GiB, {}; Envoy {}; {}.\n",
        of("date"),
        of("commit"),
        of("processor"),
        of("cores"),
        of("memory_gib"),
        of("kernel"),
        of("envoy"),
        of("rustc"),
    )
}

/// The rows of the table of goals.
fn goals(part: Part, data: Option<&Value>) -> String {
    let row = |what: &str, required: f64, unit: &str, measured: Option<f64>| {
        let digits = if required < 3.0 { 2 } else { 0 };
        let (measured, verdict) = match measured {
            None => ("–".to_owned(), "not measured"),
            Some(value) if value <= required => (format!("{value:.digits$}{unit}"), "reached"),
            Some(value) => (format!("{value:.digits$}{unit}"), "**not reached**"),
        };
        format!("| {what} | ≤ {required:.digits$}{unit} | {measured} | {verdict} |\n")
    };
    match part {
        Part::Propagation => {
            let p99 = |stage| data.map(|data| quantile(&changes(data, stage), 0.99));
            row(
                "from a change to the last Envoy that enforces it, p99",
                100.0,
                " ms",
                p99("enforced_last"),
            ) + &row(
                "from a change to the end of the last live stream, p99",
                100.0,
                " ms",
                p99("closed"),
            )
        }
        Part::Xds => row(
            "all nodes of an xDS server have reconnected after its end",
            30.0,
            " s",
            data.map(|data| number(data, "storm_s")),
        ),
        Part::Store => {
            let stores = data.map(stores).unwrap_or_default();
            let worst =
                |of: fn(&Value) -> f64| data.map(|_| stores.iter().map(of).fold(0.0, f64::max));
            row(
                "a lookup in a store with many sandboxes, over one with few",
                1.2,
                "",
                worst(lookup_ratio),
            ) + &row("start of a server with many sandboxes", 5.0, " s", worst(start_with_many))
        }
    }
}

fn number(data: &Value, field: &str) -> f64 {
    data.get(field).and_then(Value::as_f64).unwrap_or_default()
}

fn numbers(data: &Value, pointer: &str) -> Vec<f64> {
    let all = data.pointer(pointer).and_then(Value::as_array);
    all.into_iter().flatten().filter_map(Value::as_f64).collect()
}

/// The times of a stage, one for each change.
fn changes(data: &Value, stage: &str) -> Vec<f64> {
    let all = data.get("changes").and_then(Value::as_array);
    all.into_iter().flatten().map(|change| number(change, stage)).collect()
}

fn propagation(data: &Value) -> String {
    let rows = data.get("changes").and_then(Value::as_array).map_or(0, Vec::len);
    let mut text = format!(
        "{rows} changes, {} Envoys (`{}`), {} requests/s in total. {} changes were answered after 500 ms, because an Envoy had not \
         confirmed them.\n\n| the time from the `PATCH` until | p50 | p99 | most |\n|---|---|---|---|\n",
        number(data, "envoys"),
        data.get("form").and_then(Value::as_str).unwrap_or_default(),
        number(data, "rate"),
        number(data, "slow"),
    );
    let names = [
        "PostgreSQL announces the commit",
        "the first control plane answers its polls",
        "the second control plane answers its polls",
        "the first Envoy denies a request",
        "**the last Envoy denies a request**",
        "**the last stream is closed**",
        "the owner has the answer",
    ];
    for (stage, name) in STAGES.into_iter().zip(names) {
        text.push_str(&times(name, &changes(data, stage)));
    }
    text.push_str("\n| where the time goes | p50 | p99 | most |\n|---|---|---|---|\n");
    let difference = |from: &str, to: &str| -> Vec<f64> {
        let pairs = changes(data, from).into_iter().zip(changes(data, to));
        pairs.map(|(from, to)| to - from).collect()
    };
    for (name, times_of) in [
        ("API call, transaction and commit", changes(data, "notified")),
        (
            "notification and query of the change, until the last control plane answers",
            difference("notified", "polled_last"),
        ),
        (
            "the feed's callout, lookup and decision, until the last Envoy denies",
            difference("polled_last", "enforced_last"),
        ),
        ("the same, until the last stream is closed", difference("polled_last", "closed")),
        (
            "from the last control plane's answer to that of the owner's call",
            difference("polled_last", "answered"),
        ),
    ] {
        text.push_str(&times(name, &times_of));
    }
    text
}

/// A row of times in milliseconds.
fn times(name: &str, values: &[f64]) -> String {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!(
        "| {name} | {:.1} ms | {:.1} ms | {most:.1} ms |\n",
        median(values),
        quantile(values, 0.99)
    )
}

fn xds(data: &Value) -> String {
    let latencies = numbers(data, "/latencies");
    let nodes = number(data, "nodes");
    let per_node = (number(data, "full_mb") - number(data, "empty_mb")) * 1e3 / nodes;
    format!(
        "{nodes} nodes with {} resources each, {:.0} kB on the wire at the first connection.\n\n\
         | | |\n|---|---|\n\
         | from a change to its node, {} changes per second: p50, p99, most | {:.2} ms, {:.2} ms, {:.2} ms |\n\
         | processor time of the server during the changes | {:.2} cores |\n\
         | memory of the server for each node | {per_node:.0} kB |\n\
         | memory of the server: without nodes, with all, after the restart | {:.0} MB, {:.0} MB, {:.0} MB |\n\
         | all nodes connect for the first time | {:.1} s |\n\
         | all nodes reconnect to a server that starts again | {:.1} s |\n",
        number(data, "resources"),
        number(data, "bytes_per_node") / 1e3,
        number(data, "rate"),
        median(&latencies),
        quantile(&latencies, 0.99),
        latencies.iter().copied().fold(0.0, f64::max),
        number(data, "cores"),
        number(data, "empty_mb"),
        number(data, "full_mb"),
        number(data, "after_storm_mb"),
        number(data, "first_s"),
        number(data, "storm_s"),
    )
}

fn stores(data: &Value) -> Vec<Value> {
    data.get("stores").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn lookup_ratio(store: &Value) -> f64 {
    let of = |size: &str| numbers(store, &format!("/{size}/lookups_us"));
    median(&ratios(&of("many"), &of("few")))
}

fn start_with_many(store: &Value) -> f64 {
    store.pointer("/many/start_s").and_then(Value::as_f64).unwrap_or_default()
}

fn store(data: &Value) -> String {
    let mut text = format!(
        "{} lookups in each store.\n\n| store | sandboxes | a lookup | over few | start | over few |\n|---|---|---|---|---|---|\n",
        number(data, "lookups"),
    );
    for store in stores(data) {
        for size in ["few", "many"] {
            let start = |size: &str| {
                store
                    .pointer(&format!("/{size}/start_s"))
                    .and_then(Value::as_f64)
                    .unwrap_or_default()
            };
            let is_many = size == "many";
            let ratio =
                |value: f64| if is_many { format!("{value:.2}") } else { "1.00".to_owned() };
            text.push_str(&format!(
                "| {} | {} | {:.0} µs | {} | {:.2} s | {} |\n",
                store.get("store").and_then(Value::as_str).unwrap_or_default(),
                store
                    .pointer(&format!("/{size}/sandboxes"))
                    .and_then(Value::as_u64)
                    .unwrap_or_default(),
                median(&numbers(&store, &format!("/{size}/lookups_us"))),
                ratio(lookup_ratio(&store)),
                start(size),
                ratio(start(size) / start("few")),
            ));
        }
    }
    text
}
