//! The listeners for operators: the admin API, and the metrics.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{AdminSettings, wait_for_stop};
use crate::admin::{self, Admin};
use crate::changes::Propagation;
use crate::gateway::{Tokens, follow_file};
use crate::http::{Draining, Listener, RequestLimits};
use crate::metrics::{self, Metrics};
use crate::model::TokenPrefix;

/// The most connections to the metrics. A Prometheus keeps one.
const METRICS_CONNECTIONS: usize = 16;
/// The most connections to the admin API, and the most requests of it at once. It has few callers.
const ADMIN_CONNECTIONS: usize = 64;
const ADMIN_REQUESTS: usize = 16;
/// The longest time of a call of the admin API.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(90);

/// Starts the listeners of operators. Their tasks are added to `listeners`, and those that nobody waits for to `tasks`.
pub(super) struct Operators<'s> {
    pub(super) propagation: &'s Propagation,
    pub(super) metrics: &'s Metrics,
    pub(super) gateway_tokens: &'s Tokens,
    pub(super) draining: &'s Draining,
    pub(super) stopped: watch::Receiver<bool>,
    pub(super) drain: Duration,
    pub(super) listeners: &'s mut JoinSet<()>,
    pub(super) tasks: &'s mut JoinSet<()>,
}

impl Operators<'_> {
    /// Its tokens open every project, so the admin API is never plain text beyond this machine.
    pub(super) async fn start_admin(
        &mut self,
        settings: AdminSettings,
        personal_access_token_prefix: TokenPrefix,
    ) -> anyhow::Result<SocketAddr> {
        anyhow::ensure!(
            settings.tls.is_some() || settings.listen.ip().is_loopback(),
            "--admin-listen {}: not a loopback address, and the admin tokens open every project; set --admin-tls-dir",
            settings.listen
        );
        let tokens = Tokens::from_file_without(&settings.token_file, self.gateway_tokens)
            .context("--admin-token-file")?;
        let tls = settings.tls.map(|it| it.load("--admin-tls-dir")).transpose()?;
        let listener = Listener::bind("--admin-listen", settings.listen).await?.tls(tls);
        let admin = Admin {
            propagation: self.propagation.with_own_readers(),
            tokens: tokens.clone(),
            personal_access_token_prefix,
        };
        let router = admin::router(admin, RequestLimits::new(ADMIN_REQUESTS, ADMIN_TIMEOUT));
        self.tasks.spawn(follow_file(tokens, settings.token_file, "admin"));
        let router = self.metrics.http().observe("admin", router);
        Ok(self.spawn(listener.max_connections(ADMIN_CONNECTIONS), router))
    }

    pub(super) async fn start_metrics(
        &mut self,
        address: SocketAddr,
    ) -> anyhow::Result<SocketAddr> {
        let listener = Listener::bind("--metrics-listen", address).await?;
        if !address.ip().is_loopback() {
            tracing::warn!(
                %address,
                "the metrics are plain text and need no credential: only Prometheus should reach this address"
            );
        }
        let router = metrics::router(self.metrics.clone(), self.propagation.db().clone());
        Ok(self.spawn(listener.max_connections(METRICS_CONNECTIONS), router))
    }

    fn spawn(&mut self, listener: Listener, router: Router) -> SocketAddr {
        let address = listener.address();
        let served = listener.drain_timeout(self.drain);
        let router = self.draining.announce(router);
        self.listeners.spawn(served.serve(router, wait_for_stop(self.stopped.clone())));
        address
    }
}
