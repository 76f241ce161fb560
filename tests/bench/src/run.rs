//! One run: which parts are measured, for how long, and where the results go.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sandgate_stack::artifacts;
use serde_json::{Map, Value, json};

use crate::ingress::Effort;
use crate::part::{ALL, Part};
use crate::progress::Progress;
use crate::world::World;
use crate::{machine, report};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Measure only these parts, and print the report instead of changing docs/benchmarks.md.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Put the parts of `--only` in the place of those in docs/benchmarks.md, and keep the other ones.
    #[arg(long, requires = "only", conflicts_with_all = ["rounds", "seconds", "smoke"])]
    keep: bool,
    /// Rounds of each way.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Seconds of each way in each round.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Check only that each way answers correctly, in seconds.
    #[arg(long)]
    smoke: bool,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let parts: Vec<Part> = match (options.only.as_slice(), options.smoke) {
        ([], true) => vec![Part::Ingress, Part::Protocols, Part::Dns],
        ([], false) => ALL.into(),
        (only, _) => only.to_vec(),
    };
    let effort = if options.smoke {
        Effort { rounds: 1, time: Duration::from_millis(100) }
    } else {
        Effort { rounds: options.rounds, time: Duration::from_secs_f64(options.seconds) }
    };
    let docs = artifacts::root().join("docs");
    let kept = options.keep.then(|| read(&docs)).transpose()?;
    let mut data = measure(&parts, effort).await?;
    if options.smoke {
        println!("every way answered correctly");
        return Ok(());
    }
    if let Some(kept) = kept {
        data = report::merge(kept, data)?;
    }
    let is_for_docs = options.only.is_empty() || options.keep;
    let folder = if is_for_docs { docs } else { artifacts::root().join("target/bench") };
    let page = report::write(&data, &folder)?;
    if is_for_docs {
        report::update_readme(&data, &artifacts::root().join("README.md"))?;
    } else {
        println!("{page}");
    }
    for line in report::not_measured(&data) {
        eprintln!("==> NOT MEASURED: {line}");
    }
    eprintln!("==> {}", sandgate_stack::output::relative(&folder.join("benchmarks.md")));
    Ok(())
}

/// Writes the report again from its raw data, and the sentences in the README.
pub(crate) fn report_again() -> Result<()> {
    let folder = artifacts::root().join("docs");
    let data = read(&folder)?;
    report::write(&data, &folder)?;
    report::update_readme(&data, &artifacts::root().join("README.md"))
}

/// The raw data of the page.
fn read(folder: &Path) -> Result<Map<String, Value>> {
    let file = folder.join("benchmarks/data.json");
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("`{}` can't be read; `make bench` writes it", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("`{}` is not valid", file.display()))
}

async fn measure(parts: &[Part], effort: Effort) -> Result<Map<String, Value>> {
    let world = World::start(machine::has_namespace()).await?;
    let mut progress = Progress::new(parts.iter().map(|part| part.seconds(effort)).sum());
    let mut data = Map::new();
    data.insert("machine".to_owned(), machine::describe(&world.envoy));
    let mut seconds = Map::new();
    for part in parts {
        progress.begin(part.name(), part.seconds(effort));
        // A failure must not cost the other parts. A smoke test has no use for them.
        let measured = match part.measure(&world, effort, &mut progress).await {
            Err(error) if effort.rounds > 1 => {
                eprintln!("error: {}: {error:#}", part.name());
                json!({ "missing": format!("{error:#}") })
            }
            measured => measured.with_context(|| part.name())?,
        };
        seconds.insert(part.name().to_owned(), json!(progress.end()));
        data.insert(part.name().to_owned(), measured);
    }
    data.insert("seconds".to_owned(), seconds.into());
    report::note_times(&mut data);
    Ok(data)
}
