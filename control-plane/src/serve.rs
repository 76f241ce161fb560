//! The server: the store, the runtime, two listeners, and background tasks. The order of the start ensures that
//! no response is based on stale addresses. A stop leaves nothing running.

mod addresses;
mod data_dir;
mod open_files;
mod operators;
mod runtime;
mod settings;
mod store_location;
mod tls;
mod upkeep;
mod xds;

use std::fs::File;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout_at};

pub use self::addresses::Addresses;
pub use self::data_dir::{back_up_data_dir, restore_data_dir};
use self::operators::Operators;
pub use self::settings::{
    AdminSettings, ApiSettings, GatewaySettings, RuntimeSettings, ServeSettings,
};
pub use self::store_location::StoreLocation;
pub use self::tls::ListenerTls;
use self::upkeep::run_upkeep;
pub use self::xds::XdsSettings;
use crate::api::{self, Api, EgressEnforcement};
use crate::changes::Propagation;
use crate::gateway::{self, Gateway, Tokens};
use crate::http::{ConnectionLimit, Draining, Listener, RequestLimits};
use crate::metrics::Metrics;
use crate::sandboxes::SandboxService;
use crate::store::Store;

/// The most requests of gateways at once: each worker of each Envoy holds a poll, and may wait for resumes.
const GATEWAY_IN_FLIGHT: usize = 8_192;
/// The most calls of the sidecars of one sandbox at once. There is one sidecar, and a former one may still have
/// calls open after a restart.
const EACH_SANDBOX: usize = 4;
/// The longest time of a call of the public API, which may wait for a runtime.
const API_TIMEOUT: Duration = Duration::from_secs(90);
/// The longest time of a call of the gateway API, which may be a held poll.
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(75);
/// The longest time for writing the last reported denials, which delays the end of the server.
const LAST_DENIALS: Duration = Duration::from_secs(3);
/// The longest time that the start waits until the sandboxes of the previous server run again.
const RESTORE_WITHIN: Duration = Duration::from_secs(15);

/// A running server.
pub struct Server {
    addresses: Addresses,
    sandboxes: SandboxService,
    drain: Duration,
    drain_pause: Duration,
    draining: Draining,
    stopping: watch::Sender<bool>,
    listeners: JoinSet<()>,
    tasks: JoinSet<()>,
    /// Not one of `tasks`, because an abort would lose what it has taken.
    denial_writer: JoinHandle<()>,
    _lock: Option<File>,
}

impl Server {
    /// Starts the server. Returns when both listeners answer and the sandboxes of the previous server run again.
    ///
    /// # Errors
    /// A setting, a file, or an address can't be used. The message says what to do.
    pub async fn start(settings: ServeSettings) -> anyhow::Result<Self> {
        let xds_connections = settings.xds.as_ref().map_or(0, |xds| xds.connections);
        let needed = open_files::needed(&settings.api, &settings.gateway, xds_connections);
        open_files::ensure_limit(needed)?;
        let tokens = Tokens::from_file(&settings.gateway_token_file)?;
        let (store, lock) = settings.store.open_to_serve(settings.limits)?;
        let api_listener = Listener::bind("--api-listen", settings.api_listen)
            .await?
            .max_connections(settings.api.connections);
        let gateway_listener = Listener::bind("--gateway-listen", settings.gateway_listen)
            .await?
            .max_connections(settings.gateway.connections);
        let drain = settings.drain;
        let api_listener = tls::protect(api_listener, settings.api_tls, "--api")?;
        let gateway_listener = tls::protect(gateway_listener, settings.gateway_tls, "--gateway")?;
        let (api_url, gateway_url) = (api_listener.url(), gateway_listener.url());
        let api_listener = api_listener.drain_timeout(drain);
        let gateway_listener = gateway_listener.drain_timeout(drain);

        if store.is_shared() {
            anyhow::ensure!(
                matches!(settings.runtime, RuntimeSettings::Webhook(_)),
                "the sandboxes of `--runtime local` and `namespaces` are processes of one server, and several servers may use \
                 a `--database`; use `--runtime webhook`, or `--data-dir`"
            );
            // Others wait for this replica, and it may claim sandboxes, from now on.
            anyhow::ensure!(
                store.join(settings.egress == EgressEnforcement::Enforced)?,
                "another server of this database runs with another `--egress`, and all of them need the same; use that one \
                 here, or stop all other servers first, and try again after 3 s"
            );
        }
        check_network_policies(store.as_ref(), settings.egress)?;
        let propagation = Propagation::new(store)?;
        let (exits, exited) = mpsc::unbounded_channel();
        let platform = runtime::platform(&settings.runtime);
        let runtime = runtime::Surroundings {
            store: &settings.store,
            gateway_listener: &gateway_listener,
            tokens: &tokens,
            egress: settings.egress,
        }
        .start(settings.runtime, exits)?;
        let sandboxes = SandboxService::new(propagation.clone(), runtime, settings.sandboxes);
        sandboxes.clear_stale_addresses().await?;

        let mut tasks = JoinSet::new();
        tasks.spawn(propagation.propagate());
        let (stopping, stopped) = watch::channel(false);
        let prefix = settings.personal_access_token_prefix;
        let api = Api {
            sandboxes: sandboxes.clone(),
            urls: settings.urls,
            egress: settings.egress,
            private_to_public: settings.private_to_public,
            personal_access_token_prefix: prefix.clone(),
        };
        let draining = Draining::default();
        let mut listeners = JoinSet::new();
        let xds = match settings.xds {
            Some(xds) => Some(xds::start(xds, stopped.clone(), &mut listeners, &mut tasks).await?),
            None => None,
        };
        let nodes = xds.as_ref().map(|xds| xds.nodes.clone());
        let metrics = Metrics::new(&sandboxes, tokens.clone(), nodes.clone());
        let gateway = Gateway {
            metrics: metrics.clone(),
            sandboxes: sandboxes.clone(),
            sidecar_connections: ConnectionLimit::new(settings.gateway.sidecars),
            tokens: tokens.clone(),
            platform,
            xds_nodes: nodes,
            stopping: stopped.clone(),
        };
        let denials_until = stopped.clone();
        listeners.spawn(
            api_listener.serve(
                draining.announce(
                    metrics.http().observe(
                        "public",
                        api::router(
                            api,
                            RequestLimits::new(settings.api.requests, API_TIMEOUT)
                                .per_caller(settings.api.requests_per_project)
                                .waiting(settings.api.waiting),
                        ),
                    ),
                ),
                wait_for_stop(stopped.clone()),
            ),
        );
        listeners.spawn(
            gateway_listener.serve(
                draining.announce(
                    metrics.http().observe(
                        "gateway",
                        gateway::router(
                            gateway,
                            RequestLimits::new(GATEWAY_IN_FLIGHT, GATEWAY_TIMEOUT)
                                .per_caller(EACH_SANDBOX)
                                .waiting(settings.gateway.sidecars),
                        ),
                    ),
                ),
                wait_for_stop(stopped.clone()),
            ),
        );
        let mut operators = Operators {
            propagation: &propagation,
            metrics: &metrics,
            gateway_tokens: &tokens,
            draining: &draining,
            stopped,
            drain,
            listeners: &mut listeners,
            tasks: &mut tasks,
        };
        let admin = match settings.admin {
            Some(settings) => Some(operators.start_admin(settings, prefix).await?),
            None => None,
        };
        let metrics_address = match settings.metrics_listen {
            Some(address) => Some(operators.start_metrics(address).await?),
            None => None,
        };

        tasks.spawn(gateway::follow_file(tokens, settings.gateway_token_file, "gateway"));
        tasks.spawn(run_upkeep(propagation.db().clone(), metrics));
        let denials = sandboxes.denials().clone();
        let denial_writer = tokio::spawn(denials.run(propagation.db().clone(), denials_until));
        let service = sandboxes.clone();
        tasks.spawn(async move { service.handle_exits(exited).await });
        let service = sandboxes.clone();
        tasks.spawn(async move { service.run_retries().await });
        let service = sandboxes.clone();
        tasks.spawn(async move { service.run_takeovers().await });
        restore(&sandboxes).await;
        Ok(Self {
            addresses: Addresses {
                api: api_url,
                gateway: gateway_url,
                admin,
                metrics: metrics_address,
                xds: xds.map(|xds| xds.address),
            },
            sandboxes,
            drain,
            drain_pause: settings.drain_pause,
            draining,
            stopping,
            listeners,
            tasks,
            denial_writer,
            _lock: lock,
        })
    }

    /// Where the server listens.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Makes health checks fail, and waits until load balancers and edges have noticed. Then stops the listeners, answers
    /// held polls, waits a bounded time for requests and transitions in progress,
    /// and stops the sandboxes that don't outlive the server.
    pub async fn stop(mut self) {
        self.draining.begin();
        tokio::time::sleep(self.drain_pause).await;
        let deadline = Instant::now() + self.drain;
        let _ = self.stopping.send(true);
        while self.listeners.join_next().await.is_some() {}
        if timeout_at(deadline, self.sandboxes.wait_until_idle()).await.is_err() {
            tracing::warn!(
                "the shutdown interrupted transitions of sandboxes; the next start finishes them"
            );
        }
        self.tasks.shutdown().await;
        if let Err(error) = self.sandboxes.db().coordinate(|store| store.leave()).await {
            tracing::warn!(%error, "other replicas wait for this one for some seconds more");
        }
        self.sandboxes.shut_down().await;
        // Last, because nothing depends on it.
        let denials = self.sandboxes.denials();
        denials.write_last(self.denial_writer, self.sandboxes.db(), LAST_DENIALS).await;
    }
}

/// Refuses to start without sidecars if sandboxes have network policies, because nothing would enforce them.
fn check_network_policies(store: &dyn Store, egress: EgressEnforcement) -> anyhow::Result<()> {
    // The count reads the whole table.
    if egress == EgressEnforcement::Enforced {
        return Ok(());
    }
    let restricted = store.restricted_sandboxes()?;
    anyhow::ensure!(
        restricted == 0,
        "{restricted} sandbox(es) have a network policy other than the default, which nothing would enforce; \
         run with `--egress enforced`, or, without sidecars, clear the policies first \
         (`PATCH /sandboxes/<id>` with `{{\"network\": null}}`)"
    );
    Ok(())
}

async fn wait_for_stop(mut stopped: watch::Receiver<bool>) {
    // An error means that the server was dropped, which is a stop too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn restore(sandboxes: &SandboxService) {
    let service = sandboxes.clone();
    let task = tokio::spawn(async move { service.restore().await });
    match tokio::time::timeout(RESTORE_WITHIN, task).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::error!(%error, "sandboxes could not be started again"),
        Ok(Err(error)) => tracing::error!(%error, "sandboxes could not be started again"),
        Err(_) => tracing::warn!("some sandboxes are still being started again"),
    }
}
