//! The parts of a run, which ways each of them measures, and how long it takes.

use anyhow::Result;
use serde_json::{Value, json};

use crate::ingress::{self, Effort, Proxies};
use crate::load::Protocol;
use crate::progress::Progress;
use crate::ways::{self, Way};
use crate::world::World;
use crate::{cache, dns, egress, latency, machine, scale, waiting};

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
    /// Questions to the DNS proxy of a sidecar.
    Dns,
    /// Many sandboxes.
    Scale,
    /// Many requests that wait for one sandbox.
    Waiting,
    /// More sandboxes than a cache holds.
    Cache,
}

pub(crate) const ALL: [Part; 8] = [
    Part::Ingress,
    Part::Protocols,
    Part::Latency,
    Part::Egress,
    Part::Dns,
    Part::Scale,
    Part::Waiting,
    Part::Cache,
];

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

impl Part {
    /// Its name in the raw data.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Protocols => "protocols",
            Self::Latency => "latency",
            Self::Egress => "egress",
            Self::Dns => "dns",
            Self::Scale => "scale",
            Self::Waiting => "waiting",
            Self::Cache => "cache",
        }
    }

    /// About how long it takes on two cores, in seconds: its rounds, and the start of its proxies.
    pub(crate) fn seconds(self, effort: Effort) -> f64 {
        let round = effort.time.as_secs_f64();
        let rounds = f64::from(effort.rounds) + 0.5;
        let ways = |ways: &[Way]| ways.iter().filter(|way| way.missing().is_none()).count() as f64;
        match self {
            Self::Ingress => ways(&ways::ALL) * (rounds * round + 1.0),
            Self::Protocols => ways(&ways::named(&OF_PROTOCOLS)) * (4.0 * rounds * round + 1.0),
            Self::Latency => {
                ways(&ways::named(&OF_LATENCY)) * (rounds * round * latency::LONGER + 1.0)
            }
            Self::Egress => {
                let bulk = 2.0 * f64::from(egress::BULK_TURNS) * egress::BULK_TURN;
                6.0 * (rounds * round * (1.0 + bulk) + 2.0)
            }
            Self::Dns => dns::NUMBER as f64 * rounds * round + 2.0,
            Self::Scale => 90.0,
            Self::Waiting => 20.0,
            Self::Cache => 20.0,
        }
    }

    pub(crate) async fn measure(
        self,
        world: &World,
        effort: Effort,
        progress: &mut Progress,
    ) -> Result<Value> {
        let takes_namespace =
            matches!(self, Self::Egress | Self::Scale | Self::Waiting | Self::Cache);
        if takes_namespace && !machine::has_namespace() {
            return Ok(json!({ "missing": "it takes network namespaces, and so root" }));
        }
        match self {
            Self::Ingress => {
                let mut proxies = Proxies::start(world, &ways::ALL).await?;
                let protocols = [Protocol::Http1];
                ingress::measure(world, &mut proxies, &ways::ALL, &protocols, effort, progress)
                    .await
            }
            Self::Protocols => {
                let ways = ways::named(&OF_PROTOCOLS);
                let mut proxies = Proxies::start(world, &ways).await?;
                ingress::measure(world, &mut proxies, &ways, &PROTOCOLS, effort, progress).await
            }
            Self::Latency => {
                let ways = ways::named(&OF_LATENCY);
                let proxies = Proxies::start(world, &ways).await?;
                latency::measure(world, &proxies, &ways, effort, progress).await
            }
            Self::Egress => egress::measure(effort, progress).await,
            Self::Dns => dns::measure(effort, progress).await,
            Self::Scale => scale::measure(world, progress).await,
            Self::Waiting => waiting::measure(world, progress).await,
            Self::Cache => cache::measure(world, progress).await,
        }
    }
}
