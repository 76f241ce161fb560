//! The metrics of a server, in the text format of Prometheus.
//!
//! A part of the server that counts owns its counters, and works without a registry: [`StoreMetrics`], [`FeedMetrics`],
//! [`ResumeMetrics`], [`RuntimeMetrics`]. [`Metrics`] registers them under their names, adds what it reads at the time of a
//! scrape ([`now`]), and counts requests ([`http`]). No input of a client becomes a label: the values are fixed lists, and the
//! routes are those of the routers.

mod feed;
mod http;
mod lifecycle;
mod now;
mod process;
mod store;

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use sandgate_xds::nodes::Nodes;

pub use self::feed::FeedMetrics;
pub use self::http::HttpMetrics;
pub(crate) use self::lifecycle::Measured;
pub use self::lifecycle::{ResumeMetrics, RuntimeMetrics};
use self::store::ExpiringCredentials;
pub use self::store::{StoreCall, StoreMetrics};
use crate::db::Db;
use crate::gateway_tokens::Tokens;
use crate::http::with_common_routes;
use crate::model::Timestamp;
use crate::sandboxes::SandboxService;

/// The content type of [`Metrics::encode`].
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of a server. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    http: HttpMetrics,
    expiring: ExpiringCredentials,
    xds: Option<Nodes>,
}

impl Metrics {
    /// Registers the metrics of these parts.
    #[must_use]
    pub fn new(sandboxes: &SandboxService, tokens: Tokens, xds: Option<Nodes>) -> Self {
        let mut registry = Registry::with_prefix("sandgate");
        let (http, expiring) = (HttpMetrics::default(), ExpiringCredentials::default());
        http.register(&mut registry);
        sandboxes.db().metrics().register(&mut registry);
        expiring.register(&mut registry);
        sandboxes.propagation().metrics().register(&mut registry);
        sandboxes.metrics().register(&mut registry);
        sandboxes.runtime_metrics().register(&mut registry);
        sandboxes.denials().register(&mut registry);
        registry.register_collector(Box::new(now::State {
            propagation: sandboxes.propagation().clone(),
            tokens,
        }));
        registry.register_collector(Box::new(process::Process::starting()));
        Self { registry: Arc::new(registry), http, expiring, xds }
    }

    /// Counts requests.
    #[must_use]
    pub fn http(&self) -> &HttpMetrics {
        &self.http
    }

    /// Counts the credentials that expire soon. It is a query, so a scrape does not do it.
    pub async fn count_expiring_credentials(&self, db: &Db) {
        for (label, period) in ExpiringCredentials::PERIODS {
            let now = Timestamp::now();
            let count = db.read(move |store| store.credentials_expiring(now, now.plus(period)));
            match count.await {
                Ok(count) => self.expiring.set(label, count),
                Err(error) => tracing::error!(%error, "expiring credentials can't be counted"),
            }
        }
    }

    /// The metrics as text.
    ///
    /// # Errors
    /// A metric can't be written, which is a bug.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        if let Some(nodes) = &self.xds {
            text.push_str(&nodes.metrics());
        }
        Ok(text)
    }

    /// The response to a scrape.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn response(&self) -> Result<impl IntoResponse + use<>, crate::http::ApiError> {
        let text = self.encode().map_err(|_| {
            let status = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
            crate::http::ApiError::new(status, "INTERNAL", "the metrics can't be written")
        })?;
        Ok(([(header::CONTENT_TYPE, TEXT)], text))
    }
}

/// A histogram from half a millisecond to two minutes, for calls and requests, some of which wait.
fn durations() -> Histogram {
    Histogram::new([
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
        60.0,
    ])
}

/// A listener of its own for the metrics, and for health checks. It needs no credential.
pub fn router(metrics: Metrics, db: Db) -> Router {
    let scrape = move || {
        let metrics = metrics.clone();
        async move { metrics.response() }
    };
    with_common_routes(Router::new().route("/metrics", get(scrape)), db)
}
