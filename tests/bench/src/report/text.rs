//! The page around the tables.

use serde_json::Value;

use super::{Data, goals, number, parts, profile, tables, text_of};

const HEAD: &str = "# Benchmarks

`make bench` measures all of this in one run and writes this page, its plots, and [the raw data](benchmarks/data.json). A part of it,
without a change of this page: `make bench ONLY=ingress ROUNDS=3`, with `ingress`, `protocols`, `latency`, `egress`, `dns`, `scale`,
`waiting`, or `cache`, or several of them. `make bench ONLY=ingress KEEP=1` puts a part on this page and keeps the others.

";

const METHOD: &str = "
Each way has a proxy of its own with one worker, alone on one core. The load, the upstream, and the authorization service share the
other core. The ways take turns in rounds, every other round in reverse order. A figure is the median over the rounds, with the
quartiles in parentheses. *Over bare* is the median of the ratios to the bare proxy in the same round. Rounds are short, so that
whatever else the machine does meets all ways alike.

The main figure is the processor time of the proxy, summed over all of its threads as the kernel counts it. It says how many requests a
core can serve. It depends less on the machine than a rate or a latency does. Only compare figures of one run with each other: another
processor or kernel changes all of them. The load comes over loopback or virtual links, so nothing here says how fast a real network is.
";

const INGRESS: &str = "
32 connections of HTTP/1.1 stay open, and each sends its next request when it has the response. *Bare* is `edge.yaml` with its listener,
its log and its routes, and with only three filters: one that sets a fixed upstream, the dynamic forward proxy, and the router. Lua,
`ext_authz` and the filter that does nothing stand in the place of Sandgate's filter in `edge.yaml`. They do less than Sandgate does:
Lua has all sandboxes and keys in its script, the authorization service allows everything without a lookup, and none of them cleans
headers, checks WebSocket origins, closes streams after a change, or resumes a sandbox. nginx forwards to one fixed upstream. Its
figure is that of another proxy, so its ratio to bare Envoy says nothing about authorization alone. What the authorization service
itself takes is in a column of its own, and comes on top.
";

const LATENCY: &str = "
Requests are sent at a fixed rate, in equal distances, whether or not earlier ones were answered. The time of a request counts from the
moment at which it was due. The first 0.3 s of each round, which open the connections, don't count. The rate is half of what one worker can do with Sandgate in wasm form and an API key, here ";

const EGRESS: &str = "
Sandbox, gateway and internet are network namespaces. A connection is opened, a banner of nine bytes is read, and it is closed, 16 at
a time. Bulk is one connection. It takes four short turns in each round, because its throughput varies most. The sandbox and the server share a core, so the way without a proxy has no second core, and is no upper
bound for the others. Memory is what Envoy has resident: before the first connection, and at the end.
";

const DNS: &str = "
64 clients, each of which asks one question after the other over UDP. Each proxy has a core for itself, and the clients and the
resolver share the other one. The resolver answers each question with the same address. dnsmasq is what many platforms run in this
place; it evaluates no policy. Its cache answers without the resolver. Sandgate's proxy has no cache, so that a change of an address
is seen at once, and uses a socket of its own for each question, so that its source port is random.

";

const SCALE: &str = "
The first request to each sandbox, so each includes a lookup at the control plane. The list of sandboxes is divided into portions of
equal size; the table has the first and the last portion.

![new addresses](benchmarks/addresses.svg)

";

const WAITING: &str = "
1,000 connections send a request to one suspended sandbox, with the default limits. The platform needs a second to resume it. The time is
that from the platform's answer to the end of the last response. Load, control plane, platform and sandbox share a core.

";

const CACHE: &str = "
Sandboxes are requested one after the other, again and again. This is the worst order for a cache that drops the oldest entry: without
a remedy, such a cache has no hit as soon as one sandbox more is in use than fits.

";

const PROFILE: &str = "
The differences between ways of the same round. [The profile](benchmarks-profile.md) says what the parts consist of, and what the limit
is where a goal is not reached.

";

pub(super) fn page(data: &Data) -> String {
    let mut page = HEAD.to_owned();
    page.push_str("## Goals\n\n");
    page.push_str(&goals::table(data));
    page.push_str("\n## How it is measured\n");
    page.push_str(METHOD);
    page.push_str(&machine(data));
    section(&mut page, data, "Ingress", "ingress", |page| {
        page.push_str(INGRESS);
        page.push_str("\n![ingress](benchmarks/ingress.svg)\n\n");
        page.push_str(&tables::ingress(data));
    });
    section(&mut page, data, "Other protocols", "protocols", |page| {
        page.push_str("\nWith an API key; bare and Sandgate over the same protocol. gRPC and HTTP/2 are without TLS.\n\n");
        page.push_str(&tables::protocols(data));
    });
    section(&mut page, data, "Latency", "latency", |page| {
        let rate = data.get("latency").map_or(0.0, |latency| number(latency, "rate"));
        page.push_str(&format!("{LATENCY}{rate:.0} requests a second.\n"));
        page.push_str("\n![latency](benchmarks/latency.svg)\n\n");
        page.push_str(&tables::latency(data));
    });
    section(&mut page, data, "Egress", "egress", |page| {
        page.push_str(EGRESS);
        if tables::has(data, "egress", "bare") {
            page.push_str("\n![egress](benchmarks/egress.svg)\n\n");
        }
        page.push_str(&tables::egress(data));
    });
    section(&mut page, data, "DNS", "dns", |page| {
        page.push_str(DNS);
        page.push_str(&tables::dns(data));
    });
    section(&mut page, data, "Scale", "scale", |page| {
        page.push_str(SCALE);
        page.push_str(&tables::addresses(data));
    });
    section(&mut page, data, "Waiting requests", "waiting", |page| {
        page.push_str(WAITING);
        page.push_str(&tables::waiting(data));
    });
    section(&mut page, data, "A full cache", "cache", |page| {
        page.push_str(CACHE);
        page.push_str(&tables::cache(data));
    });
    page.push_str("\n## Profile\n");
    page.push_str(PROFILE);
    page.push_str(&profile::table(data));
    page
}

fn section(page: &mut String, data: &Data, title: &str, part: &str, write: impl Fn(&mut String)) {
    page.push_str(&format!("\n## {title}\n"));
    match tables::state(data, part) {
        Ok(()) => write(page),
        Err(why) => page.push_str(&format!("\nNot measured: {why}.\n")),
    }
}

fn machine(data: &Data) -> String {
    let Some(machine) = data.get("machine") else { return String::new() };
    let text = |field| text_of(machine, field);
    let seconds = data.get("seconds").and_then(Value::as_object);
    let minutes: f64 =
        seconds.into_iter().flatten().filter_map(|(_, it)| it.as_f64()).sum::<f64>() / 60.0;
    let rounds = data.get("ingress").map_or_else(String::new, |part: &Value| {
        let (rounds, seconds) = (number(part, "rounds"), number(part, "seconds"));
        format!(" {rounds:.0} rounds of {seconds} s for each way.")
    });
    format!(
        "\nThis run: {}, commit {}; {} with {:.0} cores and {:.0} GiB, {}; Envoy {}, {}; {}.{rounds} The measurements took {minutes:.1} minutes.{}\n",
        text("date"),
        text("commit"),
        text("processor"),
        number(machine, "cores"),
        number(machine, "memory_gib"),
        text("kernel"),
        text("envoy"),
        text("nginx"),
        text("rustc"),
        parts::measured_again(data),
    )
}
