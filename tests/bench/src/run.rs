//! One run: which parts are measured, for how long, and where the results go.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sandgate_stack::artifacts;
use serde_json::{Map, Value, json};

use crate::ingress::{self, Effort, Proxies};
use crate::load::Protocol;
use crate::progress::Progress;
use crate::ways::{self, Way};
use crate::world::World;
use crate::{egress, latency, machine, report, scale};

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Part {
    /// The processor time of a request.
    Ingress,
    /// The same over TLS, HTTP/2, gRPC, and WebSocket.
    Protocols,
    /// Latency at a fixed rate.
    Latency,
    /// Connections out of a sandbox.
    Egress,
    /// Many sandboxes, and many waiting requests.
    Scale,
}

const PARTS: [Part; 5] = [Part::Ingress, Part::Protocols, Part::Latency, Part::Egress, Part::Scale];

/// Part by part, which ways are measured.
const OF_PROTOCOLS: [&str; 3] = ["bare", "wasm_key", "native_key"];
const OF_LATENCY: [&str; 8] = [
    "bare",
    "without_filter",
    "lua_key",
    "ext_authz_http",
    "ext_authz_grpc",
    "nginx",
    "wasm_key",
    "native_key",
];
const PROTOCOLS: [Protocol; 4] =
    [Protocol::Tls, Protocol::Http2, Protocol::Grpc, Protocol::WebSocket];

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Measure only these parts, and print the report instead of changing docs/benchmarks.md.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Rounds of each way.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Seconds of each way in each round.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Check only that each way answers correctly, in seconds.
    #[arg(long)]
    smoke: bool,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let parts: Vec<Part> = match (options.only.as_slice(), options.smoke) {
        ([], true) => vec![Part::Ingress, Part::Protocols],
        ([], false) => PARTS.into(),
        (only, _) => only.to_vec(),
    };
    let effort = if options.smoke {
        Effort { rounds: 1, time: Duration::from_millis(100) }
    } else {
        Effort { rounds: options.rounds, time: Duration::from_secs_f64(options.seconds) }
    };
    let data = measure(&parts, effort).await?;
    if options.smoke {
        println!("every way answered correctly");
        return Ok(());
    }
    let folder = if options.only.is_empty() {
        artifacts::root().join("docs")
    } else {
        artifacts::root().join("target/bench")
    };
    let page = report::write(&data, &folder)?;
    if !options.only.is_empty() {
        println!("{page}");
    }
    eprintln!("==> {}", sandgate_stack::output::relative(&folder.join("benchmarks.md")));
    Ok(())
}

/// Writes the report again from the raw data of the last complete run.
pub(crate) fn report_again() -> Result<()> {
    let folder = artifacts::root().join("docs");
    let file: PathBuf = folder.join("benchmarks/data.json");
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("`{}` can't be read; `make bench` writes it", file.display()))?;
    let data: Map<String, Value> = serde_json::from_str(&text)?;
    report::write(&data, &folder).map(drop)
}

async fn measure(parts: &[Part], effort: Effort) -> Result<Map<String, Value>> {
    let world = World::start(machine::has_namespace()).await?;
    let mut progress = Progress::new(steps(parts, effort));
    let mut data = Map::new();
    data.insert("machine".to_owned(), machine::describe(&world.envoy));
    for part in parts {
        let (name, measured) = match part {
            Part::Ingress => {
                let mut proxies = Proxies::start(&world, &ways::ALL).await?;
                let protocols = [Protocol::Http1];
                let measured = ingress::measure(
                    &world,
                    &mut proxies,
                    &ways::ALL,
                    &protocols,
                    effort,
                    &mut progress,
                );
                ("ingress", measured.await?)
            }
            Part::Protocols => {
                let ways = ways::named(&OF_PROTOCOLS);
                let mut proxies = Proxies::start(&world, &ways).await?;
                let measured = ingress::measure(
                    &world,
                    &mut proxies,
                    &ways,
                    &PROTOCOLS,
                    effort,
                    &mut progress,
                );
                ("protocols", measured.await?)
            }
            Part::Latency => {
                let ways = ways::named(&OF_LATENCY);
                let proxies = Proxies::start(&world, &ways).await?;
                ("latency", latency::measure(&world, &proxies, &ways, effort, &mut progress).await?)
            }
            Part::Egress => {
                let measured = match egress::missing() {
                    Some(why) => json!({ "missing": why }),
                    None => egress::measure(effort, &mut progress).await?,
                };
                ("egress", measured)
            }
            Part::Scale => {
                let measured = match scale::missing() {
                    Some(why) => json!({ "missing": why }),
                    None => scale::measure(&world, &mut progress).await?,
                };
                ("scale", measured)
            }
        };
        data.insert(name.to_owned(), measured);
    }
    progress.end();
    Ok(data)
}

fn steps(parts: &[Part], effort: Effort) -> u32 {
    let built = |ways: &[Way]| -> u32 {
        ways.iter().filter(|way| way.missing().is_none()).count().try_into().unwrap_or_default()
    };
    let steps = |part: &Part| match part {
        Part::Ingress => effort.rounds * built(&ways::ALL),
        Part::Protocols => effort.rounds * built(&ways::named(&OF_PROTOCOLS)) * 4,
        Part::Latency => effort.rounds * built(&ways::named(&OF_LATENCY)),
        Part::Egress => effort.rounds * 5,
        Part::Scale => scale::STEPS,
    };
    parts.iter().map(steps).sum()
}
