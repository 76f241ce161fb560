//! The processor time of a request, in rounds that alternate between the ways.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::load::{self, Protocol, Until};
use crate::machine;
use crate::progress::Progress;
use crate::proxy::Proxy;
use crate::ways::{Server, Way};
use crate::world::World;

/// How long a measurement takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: u32,
    /// The time of one way in one round.
    pub(crate) time: Duration,
}

/// The proxies of some ways. Ways with the same decision share one.
pub(crate) struct Proxies(Vec<(Server, Proxy)>);

impl Proxies {
    pub(crate) async fn start(world: &World, ways: &[Way]) -> Result<Self> {
        let mut all: Vec<(Server, Proxy)> = Vec::new();
        for way in ways.iter().filter(|way| way.missing().is_none()) {
            if all.iter().any(|(server, _)| *server == way.server) {
                continue;
            }
            let proxy = match way.server {
                Server::Envoy(decision) => {
                    Proxy::start_envoy(world, way.name, decision, &[]).await?
                }
                Server::Nginx => Proxy::start_nginx(world).await?,
            };
            all.push((way.server, proxy));
        }
        Ok(Self(all))
    }

    pub(crate) fn of(&self, way: &Way) -> Result<&Proxy> {
        let found = self.0.iter().find(|(server, _)| *server == way.server);
        Ok(&found.context("a way without a proxy")?.1)
    }

    pub(crate) fn require_running(&mut self) -> Result<()> {
        self.0.iter_mut().try_for_each(|(_, proxy)| proxy.require_running())
    }
}

/// What the rounds of one way and one protocol gave.
#[derive(Default)]
struct Rounds {
    /// Microseconds of the proxy for each request.
    micros: Vec<f64>,
    /// Microseconds of the authorization service.
    service: Vec<f64>,
    rate: Vec<f64>,
}

/// Measures each way with each protocol.
pub(crate) async fn measure(
    world: &World,
    proxies: &mut Proxies,
    ways: &[Way],
    protocols: &[Protocol],
    effort: Effort,
    progress: &mut Progress,
) -> Result<Value> {
    let mut cases: Vec<(Protocol, &Way, Rounds)> = Vec::new();
    for protocol in protocols {
        for way in ways.iter().filter(|way| way.missing().is_none()) {
            cases.push((*protocol, way, Rounds::default()));
        }
    }
    for (protocol, way, _) in &cases {
        let load = way.load(world, proxies.of(way)?, *protocol);
        let warm = load::closed(&load, Until::Elapsed(effort.time / 2)).await?;
        warm.require_correct(way.title)?;
    }
    for round in 0..effort.rounds {
        for index in 0..cases.len() {
            let index = if round % 2 == 0 { index } else { cases.len() - 1 - index };
            let Some((protocol, way, rounds)) = cases.get_mut(index) else { continue };
            progress.step(way.title);
            one(world, proxies.of(way)?, way, *protocol, effort, rounds).await?;
        }
        proxies.require_running()?;
    }
    let rows = cases.iter().map(|(protocol, way, rounds)| {
        json!({
            "name": way.name,
            "title": way.title,
            "protocol": format!("{protocol:?}"),
            "micros": rounds.micros,
            "service_micros": rounds.service,
            "rate": rounds.rate,
        })
    });
    let missing = ways.iter().filter_map(|way| {
        let missing = way.missing()?;
        Some(json!({ "name": way.name, "title": way.title, "missing": missing }))
    });
    let rows: Vec<Value> = rows.chain(missing).collect();
    Ok(json!({ "rounds": effort.rounds, "seconds": effort.time.as_secs_f64(), "ways": rows }))
}

async fn one(
    world: &World,
    proxy: &Proxy,
    way: &Way,
    protocol: Protocol,
    effort: Effort,
    rounds: &mut Rounds,
) -> Result<()> {
    let load = way.load(world, proxy, protocol);
    let service = || machine::processor_time(world.authz.id());
    let (before, service_before) = (proxy.processor_time()?, service()?);
    let outcome = load::closed(&load, Until::Elapsed(effort.time)).await?;
    let (after, service_after) = (proxy.processor_time()?, service()?);
    outcome.require_correct(way.title)?;
    let count = outcome.count() as f64;
    rounds.micros.push((after - before) as f64 / 1e3 / count);
    rounds.service.push((service_after - service_before) as f64 / 1e3 / count);
    rounds.rate.push(count / outcome.elapsed.as_secs_f64());
    Ok(())
}
