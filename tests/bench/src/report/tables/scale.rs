//! The tables about many sandboxes and many requests, and about DNS.

use super::{missing, shown};
use crate::report::goals::grown;
use crate::report::{Data, number, numbers, ratio, rows, spread, text_of};
use crate::statistics::median;

pub(in crate::report) fn addresses(data: &Data) -> String {
    let mut text = "| way | addresses | µs of Envoy for a first request: first portion | last portion | last over first | Envoy's memory before / after, MB |\n|---|---|---|---|---|---|\n".to_owned();
    for one in rows(data, "scale") {
        text.push_str(&missing(&one, 6).unwrap_or_else(|| {
            let micros = numbers(&one, "micros");
            let megabytes: Vec<String> =
                numbers(&one, "megabytes").iter().map(|it| format!("{it:.0}")).collect();
            format!(
                "| {} | {:.0} | {:.0} | {:.0} | {} | {} |\n",
                text_of(&one, "title"),
                number(&one, "count"),
                micros.first().copied().unwrap_or_default(),
                micros.last().copied().unwrap_or_default(),
                shown(grown(&one)),
                megabytes.join(" / "),
            )
        }));
    }
    text
}

pub(in crate::report) fn waiting(data: &Data) -> String {
    let mut text = "| form | served, of 1,000 | first one served after the sandbox runs, ms | last one | µs of Envoy for each | connections to the sandbox |\n|---|---|---|---|---|---|\n".to_owned();
    for one in rows(data, "waiting") {
        text.push_str(&missing(&one, 6).unwrap_or_else(|| {
            let served = numbers(&one, "served").into_iter().fold(f64::INFINITY, f64::min);
            format!(
                "| {} | {served:.0} | {} | {} | {} | {:.0} |\n",
                text_of(&one, "title"),
                spread(&numbers(&one, "first_ms"), 0),
                spread(&numbers(&one, "last_ms"), 0),
                spread(&numbers(&one, "micros"), 0),
                median(&numbers(&one, "connections")),
            )
        }));
    }
    text
}

pub(in crate::report) fn cache(data: &Data) -> String {
    let mut text = "| form | sandboxes in use, one after the other | entries of the cache | requests without a lookup |\n|---|---|---|---|\n".to_owned();
    let entries = data.get("cache").map_or(0.0, |cache| number(cache, "entries"));
    for one in rows(data, "cache") {
        text.push_str(&missing(&one, 4).unwrap_or_else(|| {
            format!(
                "| {} | {:.0} | {entries:.0} | {:.0} % |\n",
                text_of(&one, "title"),
                number(&one, "sandboxes"),
                number(&one, "hit_ratio") * 100.0
            )
        }));
    }
    text
}

pub(in crate::report) fn dns(data: &Data) -> String {
    let rows = rows(data, "dns");
    let mut text = "| way | questions/s | over dnsmasq without a cache | µs of the proxy for a question | lost |\n|---|---|---|---|---|\n".to_owned();
    for one in &rows {
        text.push_str(&missing(one, 5).unwrap_or_else(|| {
            let micros = numbers(one, "micros");
            let micros = if micros.is_empty() { "–".to_owned() } else { spread(&micros, 1) };
            format!(
                "| {} | {} | {} | {micros} | {:.0} |\n",
                text_of(one, "title"),
                spread(&numbers(one, "rate"), 0),
                shown(ratio(&rows, text_of(one, "name"), "dnsmasq", "rate")),
                number(one, "lost"),
            )
        }));
    }
    text
}
