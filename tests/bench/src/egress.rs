//! The table of egress: connections, bulk data, and memory, from a sandbox through Envoy to the internet, each in a network
//! namespace of its own.

mod client;
mod config;
mod network;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sandgate_stack::Process;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bootstrap::Form;
use crate::ingress::Effort;
use crate::machine;
use crate::progress::Progress;
use crate::proxy::envoy_command;
use crate::serve::{self, Role};

use client::Measured;
use network::Network;

/// How a connection leaves the sandbox.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    /// Forwarded by the kernel.
    Direct,
    /// An Envoy with `tcp_proxy` and nothing else.
    Bare,
    /// `sidecar.yaml`, with the destination set in the filter's place.
    WithoutFilter,
    /// As `WithoutFilter`, with a wasm filter that does nothing.
    Noop,
    Filter(Form),
}

const WAYS: [(Way, &str, &str); 6] = [
    (Way::Direct, "direct", "direct, without a proxy"),
    (Way::Bare, "bare", "bare `tcp_proxy`"),
    (Way::WithoutFilter, "without_filter", "`sidecar.yaml` without the filter"),
    (Way::Noop, "noop", "the same with a wasm filter that does nothing"),
    (Way::Filter(Form::Wasm), "wasm", "with the filter, wasm"),
    (Way::Filter(Form::Native), "native", "with the filter, native"),
];

/// In each round, bulk takes several short turns: from one second to the next, its throughput varies by more than the filter
/// costs.
pub(crate) const BULK_TURNS: u32 = 4;
/// The length of a turn in each direction, as a part of a round. It still sends hundreds of megabytes.
pub(crate) const BULK_TURN: f64 = 0.3;

/// Envoy writes its access log at least this often.
const LOG_INTERVAL: Duration = Duration::from_secs(11);

/// One row: its Envoy, and what the rounds gave.
struct Row {
    way: Way,
    name: &'static str,
    title: &'static str,
    banner: u16,
    bulk: u16,
    envoy: Option<Process>,
    idle_megabytes: f64,
    rounds: Rounds,
}

#[derive(Default)]
struct Rounds {
    connections: Vec<f64>,
    micros: Vec<f64>,
    up: Vec<f64>,
    down: Vec<f64>,
    /// Milliseconds of Envoy for each GB.
    up_cost: Vec<f64>,
    down_cost: Vec<f64>,
}

pub(crate) async fn measure(effort: Effort, progress: &mut Progress) -> Result<Value> {
    let folder = tempfile::Builder::new().prefix("sandgate-bench-egress-").tempdir()?;
    let network = Network::build(folder.path()).await?;
    let (mut rows, not_built) = start(&network, &folder).await?;
    let prefix = network.inside("internet");
    let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
    let addresses = |port: fn(&Row) -> u16| -> Vec<SocketAddr> {
        rows.iter().map(|row| SocketAddr::from(([0, 0, 0, 0], port(row)))).collect()
    };
    let log = |name: &str| folder.path().join(name);
    let banners = addresses(|row| row.banner);
    let _banner = serve::start(&prefix, Role::Banner, &banners, None, &log("banner.log")).await?;
    let bulks = addresses(|row| row.bulk);
    let _bulk = serve::start(&prefix, Role::Bulk, &bulks, None, &log("bulk.log")).await?;
    settle(&rows).await?;
    for row in &mut rows {
        if let Some(envoy) = &mut row.envoy {
            envoy.require_running()?;
            row.idle_megabytes = machine::resident_megabytes(envoy.id())?;
        }
        client::connections(&network, row.banner, effort.time / 2)?;
    }
    let last = rows.len().saturating_sub(1);
    for round in 0..effort.rounds {
        for index in 0..rows.len() {
            let index = if round % 2 == 0 { index } else { last - index };
            let Some(row) = rows.get_mut(index) else { continue };
            progress.step(row.title);
            row.connections(&network, effort)?;
        }
        for turn in 0..BULK_TURNS {
            for index in 0..rows.len() {
                let index = if turn % 2 == 0 { index } else { last - index };
                let Some(row) = rows.get_mut(index) else { continue };
                progress.step(row.title);
                row.bulk(&network, effort)?;
            }
        }
    }
    let mut all = Vec::new();
    for row in &mut rows {
        all.push(row.report()?);
    }
    all.extend(not_built);
    Ok(json!({ "rounds": effort.rounds, "seconds": effort.time.as_secs_f64(), "ways": all }))
}

/// Waits until no Envoy returns memory to the kernel any more: `sidecar.yaml` returns what the start needed bit by bit.
async fn settle(rows: &[Row]) -> Result<()> {
    let megabytes = || -> Result<f64> {
        let all = rows.iter().filter_map(|row| row.envoy.as_ref());
        all.map(|envoy| machine::resident_megabytes(envoy.id())).sum()
    };
    let mut last = f64::INFINITY;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = megabytes()?;
        if last - now < 0.5 {
            break;
        }
        last = now;
    }
    Ok(())
}

/// Starts an Envoy for each way that needs one; returns the ways that are not built, too.
async fn start(network: &Network, folder: &TempDir) -> Result<(Vec<Row>, Vec<Value>)> {
    let envoy = sandgate_stack::artifacts::envoy_program()?.display().to_string();
    let prefix = network.inside("gateway");
    let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
    let (mut rows, mut not_built) = (Vec::new(), Vec::new());
    for (number, (way, name, title)) in (0_u16..).zip(WAYS) {
        if matches!(way, Way::Filter(form) if !config::is_built(form)) {
            not_built.push(json!({ "name": name, "title": title, "missing": "not built" }));
            continue;
        }
        let (banner, bulk) = (7100 + number, 7200 + number);
        let mut row = Row {
            way,
            name,
            title,
            banner,
            bulk,
            envoy: None,
            idle_megabytes: 0.0,
            rounds: Rounds::default(),
        };
        if way != Way::Direct {
            let own = folder.path().join(name);
            std::fs::create_dir_all(&own)?;
            let port = config::port(number);
            let config = config::write(way, number, &own)?;
            let command = envoy_command(&prefix, &envoy, &config);
            let log = own.join("envoy.log");
            let mut process = Process::start(&format!("Envoy, {name}"), &command, &log)?;
            let ready = async |_: &mut Process| Ok(network.listens(port)?.then_some(()));
            process.until("did not listen", Duration::from_secs(30), ready).await?;
            network.redirect(&[banner, bulk], port)?;
            row.envoy = Some(process);
        }
        rows.push(row);
    }
    Ok((rows, not_built))
}

impl Row {
    fn connections(&mut self, network: &Network, effort: Effort) -> Result<()> {
        let measured =
            self.measured(network, || client::connections(network, self.banner, effort.time))?;
        self.rounds.connections.push(measured.0.count / measured.0.seconds);
        self.rounds.micros.push(measured.1 / 1e3 / measured.0.count);
        Ok(())
    }

    fn bulk(&mut self, network: &Network, effort: Effort) -> Result<()> {
        let bulk = effort.time.mul_f64(BULK_TURN);
        let gigabit = |measured: &Measured| measured.count * 8.0 / 1e9 / measured.seconds;
        let cost = |measured: &Measured, time: f64| time / 1e6 / (measured.count / 1e9);
        let (up, time) = self.measured(network, || client::upload(network, self.bulk, bulk))?;
        self.rounds.up.push(gigabit(&up));
        self.rounds.up_cost.push(cost(&up, time));
        let (down, time) = self.measured(network, || client::download(network, self.bulk, bulk))?;
        self.rounds.down.push(gigabit(&down));
        self.rounds.down_cost.push(cost(&down, time));
        Ok(())
    }

    /// Measures, and returns the nanoseconds of Envoy in the meantime.
    fn measured(
        &self,
        network: &Network,
        measure: impl FnOnce() -> Result<Measured>,
    ) -> Result<(Measured, f64)> {
        let time =
            || self.envoy.as_ref().map_or(Ok(0), |envoy| machine::processor_time(envoy.id()));
        let before = time()?;
        let measured = measure();
        let after = time()?;
        // It would also be the cause of an error of the client.
        network.require_no_drops().with_context(|| self.title)?;
        let measured = measured.with_context(|| format!("{}{}", self.title, self.failures()))?;
        Ok((measured, after.saturating_sub(before) as f64))
    }

    /// The last lines of Envoy's log about anything but a connection that ended well.
    fn failures(&self) -> String {
        let Some(envoy) = &self.envoy else { return String::new() };
        std::thread::sleep(LOG_INTERVAL);
        failures(&envoy.output())
    }

    fn report(&mut self) -> Result<Value> {
        let mut megabytes = Value::Null;
        if let Some(envoy) = &mut self.envoy {
            envoy.require_running()?;
            megabytes = json!(machine::resident_megabytes(envoy.id())?);
        }
        let rounds = &self.rounds;
        Ok(json!({
            "name": self.name,
            "title": self.title,
            "has_envoy": self.way != Way::Direct,
            "connections": rounds.connections,
            "micros": rounds.micros,
            "up": rounds.up,
            "down": rounds.down,
            "up_cost": rounds.up_cost,
            "down_cost": rounds.down_cost,
            "idle_megabytes": self.idle_megabytes,
            "megabytes_after": megabytes,
        }))
    }
}

fn failures(log: &str) -> String {
    let mut lines: Vec<&str> =
        log.lines().rev().filter(|line| !line.contains(r#""flags":"-""#)).take(5).collect();
    lines.reverse();
    lines.iter().map(|line| format!("; {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_only_the_connections_that_failed() {
        let log = "{\"flags\":\"-\",\"protocol\":\"tcp\"}\n{\"flags\":\"UF\"}\n{\"flags\":\"-\"}\n";
        assert_eq!(failures(log), "; {\"flags\":\"UF\"}");
    }
}
