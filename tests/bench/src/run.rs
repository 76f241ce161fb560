//! One run: which parts are measured, for how long, and where the results go.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::ingress::{self, Effort, Proxies};
use crate::load::Protocol;
use crate::machine;
use crate::progress::Progress;
use crate::statistics::{median, ratios};
use crate::ways::{self, BARE};
use crate::world::World;

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Part {
    Ingress,
    Protocols,
    Latency,
    Egress,
    Scale,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Measure only these parts, and print the tables instead of changing the report.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Rounds of each way.
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// Seconds of each way in each round.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Check only that each way answers correctly.
    #[arg(long)]
    smoke: bool,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let effort = Effort { rounds: options.rounds, time: Duration::from_secs_f64(options.seconds) };
    let world = World::start(machine::has_namespace()).await?;
    let mut data = Map::new();
    data.insert("machine".to_owned(), machine::describe(&world.envoy));
    let mut progress = Progress::new(effort.rounds * 17);
    let mut proxies = Proxies::start(&world, &ways::ALL).await?;
    let measured = ingress::measure(
        &world,
        &mut proxies,
        &ways::ALL,
        &[Protocol::Http1],
        effort,
        &mut progress,
    )
    .await?;
    progress.end();
    data.insert("ingress".to_owned(), measured);
    print(&data);
    let _ = (json!(0), options.smoke, &options.only);
    Ok(())
}

fn print(data: &Map<String, Value>) {
    let empty = Vec::new();
    let ways = data
        .get("ingress")
        .and_then(|it| it.get("ways"))
        .and_then(Value::as_array)
        .unwrap_or(&empty);
    let micros = |way: &Value| -> Vec<f64> {
        way.get("micros")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_f64)
            .collect()
    };
    let bare = ways
        .iter()
        .find(|way| way.get("name").is_some_and(|it| it == BARE))
        .map(micros)
        .unwrap_or_default();
    for way in ways {
        let title = way.get("title").and_then(Value::as_str).unwrap_or_default();
        let values = micros(way);
        println!("{title:<50} {:7.1} us {:6.2}", median(&values), median(&ratios(&values, &bare)));
    }
}
