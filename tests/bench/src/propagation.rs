//! `make bench-propagation`: the time from an owner's change to its enforcement in a fleet: many Envoys, two control planes,
//! one PostgreSQL.
//!
//! Each measured change makes a public port private. The time is taken until the last Envoy denies a request, and until the
//! last Envoy has closed a stream that was open before. The change feed is observed from outside at each step, so the
//! programs are measured as they are.

mod edges;
mod fleet;
mod observe;
mod probe;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use self::fleet::Fleet;
use self::observe::Observer;
use self::probe::{Load, Probes, Stream};
use crate::fleet_report::{self, Part};
use crate::machine;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The number of Envoys, each with one worker.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(2..=200))]
    envoys: u16,
    /// The number of measured changes.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    changes: u32,
    /// The requests per second through all Envoys together, beside those that observe the change.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Print the result instead of changing docs/benchmarks-fleet.md.
    #[arg(long)]
    print: bool,
}

/// The changes that are not measured. An Envoy that starts may move to the other control plane, and for 2 s the first one waits for its
/// next poll with each change.
const WARM_UP: usize = 20;

/// The names of the measured times, in the order in which they usually pass.
pub(crate) const STAGES: [&str; 7] = [
    "notified",
    "polled_first",
    "polled_last",
    "enforced_first",
    "enforced_last",
    "closed",
    "answered",
];

pub(crate) async fn measure(options: &Options) -> Result<()> {
    eprintln!("==> starting {} Envoys and two control planes", options.envoys);
    let fleet = Fleet::start(usize::from(options.envoys)).await?;
    let load = Load::start(&fleet, options.rate);
    let mut observer = Observer::connect(&fleet).await?;
    for number in 0..WARM_UP {
        change(&fleet, &mut observer, number % fleet.servers.len()).await?;
    }
    let mut rows = Vec::new();
    let mut slow = 0;
    for number in 0..options.changes {
        let server = usize::try_from(number)? % fleet.servers.len();
        let row = change(&fleet, &mut observer, server).await;
        let row = row.with_context(|| format!("change {number}"))?;
        slow += u32::from(row.get("answered").and_then(Value::as_f64).unwrap_or_default() >= 500.0);
        rows.push(row);
        if (number + 1) % 50 == 0 {
            eprintln!("==> {} of {} changes", number + 1, options.changes);
        }
    }
    let failed = load.stop().await;
    ensure!(failed == 0, "{failed} requests of the load failed, which concern another sandbox");
    let data = json!({
        "machine": machine::describe(&fleet.envoy),
        "envoys": options.envoys,
        "rate": options.rate,
        "form": fleet.form,
        "slow": slow,
        "changes": rows,
    });
    fleet_report::store(Part::Propagation, &data, options.print)
}

/// Makes the port public, opens a stream through each Envoy, makes the port private, and measures until everything that
/// follows has happened. Returns the times in milliseconds after the change was sent.
async fn change(fleet: &Fleet, observer: &mut Observer, server: usize) -> Result<Value> {
    fleet.expose(server, true).await?;
    let mut streams = Vec::new();
    for edge in &fleet.edges {
        probe::until_served(edge, fleet).await?;
        streams.push(Stream::open(edge, fleet).await?);
    }
    // The watchers' polls are held again, and nothing of the last change is left to do.
    tokio::time::sleep(Duration::from_millis(30)).await;
    observer.prepare(fleet).await?;
    let probes = Probes::connect(fleet).await?;
    let begun = std::time::Instant::now();
    let since = |at: std::time::Instant| at.duration_since(begun).as_secs_f64() * 1e3;
    let observed = async {
        let (notified, polled) = observer.observe(begun).await?;
        anyhow::Ok((since(notified), polled.map(since)))
    };
    let answered = async {
        fleet.expose(server, false).await?;
        anyhow::Ok(since(std::time::Instant::now()))
    };
    let enforced = probes.until_all_deny(fleet);
    let closed = Stream::until_all_closed(streams);
    let (observed, answered, enforced, closed) =
        tokio::try_join!(observed, answered, enforced, closed)?;
    let (notified, [one, two]) = observed;
    let enforced: Vec<f64> = enforced.into_iter().map(since).collect();
    let first = enforced.iter().copied().fold(f64::INFINITY, f64::min);
    let last = enforced.iter().copied().fold(0.0, f64::max);
    Ok(json!({
        "server": server,
        "notified": rounded(notified),
        "polled_first": rounded(one.min(two)),
        "polled_last": rounded(one.max(two)),
        "enforced_first": rounded(first),
        "enforced_last": rounded(last),
        "closed": rounded(since(closed)),
        "answered": rounded(answered),
    }))
}

fn rounded(milliseconds: f64) -> f64 {
    (milliseconds * 1e3).round() / 1e3
}
