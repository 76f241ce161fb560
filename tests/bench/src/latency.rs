//! Latency at a fixed rate: half of what the edge can do with an API key in wasm form.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::ingress::{Effort, Proxies};
use crate::load::{self, Load, Protocol, Until};
use crate::progress::Progress;
use crate::ways::Way;
use crate::world::World;

/// A round is this much longer than those of other parts, because one answer in a hundred decides the result.
pub(crate) const LONGER: f64 = 4.0;
/// The way that determines the rate.
const REFERENCE: &str = "wasm_key";

pub(crate) async fn measure(
    world: &World,
    proxies: &Proxies,
    ways: &[Way],
    effort: Effort,
    progress: &mut Progress,
) -> Result<Value> {
    let ways: Vec<&Way> = ways.iter().filter(|way| way.missing().is_none()).collect();
    let load =
        |way: &Way| -> Result<Load> { Ok(way.load(world, proxies.of(way)?, Protocol::Http1)) };
    let reference = ways.iter().find(|way| way.name == REFERENCE).context("no reference")?;
    let most = load::closed(&load(reference)?, Until::Elapsed(effort.time)).await?;
    let rate = (most.count() as f64 / most.elapsed.as_secs_f64() / 2.0 / 100.0).round() * 100.0;
    let mut rows: Vec<[Vec<f64>; 3]> = ways.iter().map(|_| Default::default()).collect();
    for way in &ways {
        load::at_rate(&load(way)?, rate, Duration::from_millis(300)).await?;
    }
    for round in 0..effort.rounds {
        let mut order: Vec<_> = ways.iter().zip(&mut rows).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (way, [p50, p99, achieved]) in order {
            progress.step(way.title);
            let time = effort.time.mul_f64(LONGER);
            let outcome = load::at_rate(&load(way)?, rate, time).await?;
            outcome.require_correct(way.title)?;
            p50.push(outcome.quantile(0.5));
            p99.push(outcome.quantile(0.99));
            achieved.push(outcome.count() as f64 / time.as_secs_f64());
        }
    }
    let rows: Vec<Value> = ways
        .iter()
        .zip(rows)
        .map(|(way, [p50, p99, achieved])| {
            json!({ "name": way.name, "title": way.title, "p50": p50, "p99": p99, "achieved": achieved })
        })
        .collect();
    Ok(json!({
        "rate": rate,
        "rounds": effort.rounds,
        "seconds": effort.time.as_secs_f64() * LONGER,
        "ways": rows,
    }))
}
