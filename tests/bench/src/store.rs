//! `make bench-store`: what a lookup costs, and how long a server takes to start, with few and with many sandboxes in each
//! store.

mod fill;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::StatusCode;
use sandgate_stack::control_plane::DOMAIN;
use sandgate_stack::postgres::Cluster;
use sandgate_stack::{ControlPlane, ControlPlaneSetup, Protocol, Runtime, artifacts};
use serde_json::{Value, json};

use crate::fleet_report::{self, Part};
use crate::machine;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The number of sandboxes in the small store.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    few: u32,
    /// The number of sandboxes in the large store.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=16_000_000))]
    many: u32,
    /// Rounds of lookups. The stores take turns.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Print the result instead of changing docs/benchmarks-fleet.md.
    #[arg(long)]
    print: bool,
}

/// The lookups of a round. No sandbox is looked up twice in the small store before each one was.
const LOOKUPS: u32 = 50;
const TOKEN: &str = "a-gateway-token-for-one-benchmark";

/// The kinds of stores.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

pub(crate) async fn measure(options: &Options) -> Result<()> {
    let mut stores = Vec::new();
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let mut few = Filled::start(kind, options.few).await?;
        let mut many = Filled::start(kind, options.many).await?;
        eprintln!("==> {}: lookups", kind.name());
        for round in 0..options.rounds {
            // In turns, and every other round in reverse order.
            let mut both = [&mut few, &mut many];
            if round % 2 == 1 {
                both.reverse();
            }
            for store in both {
                store.look_up(round).await?;
            }
        }
        stores.push(json!({ "store": kind.name(), "few": few.data(), "many": many.data() }));
    }
    let data = json!({
        "machine": machine::describe(&artifacts::envoy_program()?.display().to_string()),
        "lookups": options.rounds * LOOKUPS,
        "stores": stores,
    });
    fleet_report::store(Part::Store, &data, options.print)
}

/// A server whose store contains a number of sandboxes.
struct Filled {
    server: ControlPlane,
    count: u32,
    /// The time of the start.
    start: Duration,
    /// The median times of a lookup, one for each round, in microseconds.
    lookups: Vec<f64>,
    _database: Option<Cluster>,
    _folder: tempfile::TempDir,
}

impl Filled {
    async fn start(kind: Kind, count: u32) -> Result<Self> {
        eprintln!("==> {}: {count} sandboxes", kind.name());
        let folder = tempfile::Builder::new().prefix("sandgate-bench-").tempdir()?;
        let cluster = match kind {
            Kind::Sqlite => None,
            // PostgreSQL's own default is 128 MB, which its documentation calls too little for a server.
            Kind::Postgres => {
                Some(Cluster::with_settings("shared_buffers = 1GB\nmax_wal_size = 4GB")?)
            }
        };
        let database = cluster
            .as_ref()
            .map(|it| Ok(it.url(&it.new_database()?)))
            .transpose()
            .map_err(|error: anyhow::Error| error)?;
        let mut server = ControlPlane::start(setup(folder.path(), database.clone())).await?;
        let owner = server.new_owner("bench")?;
        server.kill();
        match (&cluster, &database) {
            (Some(cluster), Some(url)) => fill::postgres(cluster, url, &owner.organization, count)?,
            _ => fill::sqlite(&folder.path().join("data"), &owner.organization, count)?,
        }
        let begun = Instant::now();
        server.run().await?;
        let start = begun.elapsed();
        Ok(Self { server, count, start, lookups: Vec::new(), _database: cluster, _folder: folder })
    }

    /// Looks sandboxes up, one after the other, as an edge does that has not cached them.
    async fn look_up(&mut self, round: u32) -> Result<()> {
        let mut connection = self.server.gateway().connect(Protocol::Http1).await?;
        let mut times = Vec::new();
        for lookup in 0..LOOKUPS {
            // The factor is prime, so the names are spread over the whole store.
            let place = u64::from(round * LOOKUPS + lookup) * 7_368_787 % u64::from(self.count);
            let path = format!("/gateway/v1/sandboxes/{}", fill::name(place));
            let call = self.server.gateway().get("gateway", &path).bearer(TOKEN);
            let begun = Instant::now();
            let answer = connection.send(call).await?;
            times.push(begun.elapsed().as_secs_f64() * 1e6);
            ensure!(answer.status == StatusCode::OK, "{} {}", answer.status, answer.text());
            let state = answer.json()?;
            let state = state.get("state").and_then(Value::as_str).context("no state")?;
            ensure!(state == "running", "{state}");
        }
        self.lookups.push(crate::statistics::median(&times));
        Ok(())
    }

    fn data(&self) -> Value {
        json!({
            "sandboxes": self.count,
            "start_s": self.start.as_secs_f64(),
            "lookups_us": self.lookups,
        })
    }
}

fn setup(folder: &std::path::Path, database: Option<String>) -> ControlPlaneSetup {
    let any_port = (std::net::Ipv4Addr::LOCALHOST, 0).into();
    ControlPlaneSetup {
        folder: folder.to_owned(),
        api: any_port,
        gateway: any_port,
        gateway_tokens: vec![TOKEN.to_owned()],
        domain: DOMAIN.to_owned(),
        proxy_url: "http://localhost:9443".to_owned(),
        drain_seconds: 0,
        enforces_egress: false,
        confirms_public_ports: false,
        runtime: Runtime::Webhook {
            // Nobody calls it: the sandboxes run already.
            url: "http://127.0.0.1:9/".to_owned(),
            secret: "a-webhook-secret-for-one-benchmark".to_owned(),
            cidr: "10.0.0.0/8".to_owned(),
        },
        patience: Duration::from_secs(1),
        desired_state: None,
        tls: None,
        database,
    }
}
