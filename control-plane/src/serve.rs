//! The server: store, runtime, two listeners and the tasks between them, started in an order in
//! which nothing wrong can be answered, and stopped so that nothing is left running.

mod background;
mod data_dir;
mod files;
mod settings;

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use self::background::keep_up;
use self::data_dir::lock;
pub use self::data_dir::{is_served, open_store};
pub use self::settings::{ApiSettings, GatewaySettings, RuntimeSettings, ServeSettings};
use crate::api::{self, Api, Egress};
use crate::changes::Changes;
use crate::gateway::{self, Gateway, Platform, Tokens};
use crate::http::{Bounds, Listener, Places};
use crate::runtime::{Exits, LocalRuntime, Runtime, WebhookRuntime};
use crate::sandboxes::SandboxService;
use crate::store::Sandboxes;

/// Requests of gateways at once: each worker of each Envoy holds a poll and waits for resumes.
const GATEWAY_IN_FLIGHT: usize = 8_192;
/// Calls of the sidecars of one sandbox at once: there is one sidecar, which may have been started again
/// or be replaced by another.
const EACH_SANDBOX: usize = 4;
/// The longest answer of either API: a held poll, or a wait for a runtime.
const API_TIMEOUT: Duration = Duration::from_secs(90);
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(75);
/// How long the server waits for sandboxes of before to run again until it says that it is ready.
const RESTORE_WITHIN: Duration = Duration::from_secs(15);

/// A server that listens.
pub struct Server {
    api_address: SocketAddr,
    gateway_address: SocketAddr,
    sandboxes: SandboxService,
    drain: Duration,
    stopping: watch::Sender<bool>,
    listeners: JoinSet<()>,
    tasks: JoinSet<()>,
    _lock: File,
}

impl Server {
    /// Starts everything; returns when both listeners answer and the sandboxes that ran before run
    /// again.
    ///
    /// # Errors
    /// What is wrong and what to do, in one sentence.
    pub async fn start(settings: ServeSettings) -> anyhow::Result<Self> {
        files::allow(files::needed(&settings.api, &settings.gateway))?;
        let tokens = Tokens::from_file(&settings.gateway_token_file)?;
        let store = open_store(&settings.data_dir)?.within(settings.limits);
        let lock = lock(&settings.data_dir)?;
        keep_promises(&store, settings.egress)?;
        if let Err(error) = store.make_shrinkable() {
            tracing::warn!(%error, "the store's file could not be rewritten, so it does not shrink");
        }
        let api_listener = Listener::bind("--api-listen", settings.api_listen)
            .await?
            .at_most(settings.api.connections);
        let gateway_listener = Listener::bind("--gateway-listen", settings.gateway_listen)
            .await?
            .at_most(settings.gateway.connections);
        let drain = settings.drain;
        let api_listener = api_listener.draining_within(drain);
        let gateway_listener = gateway_listener.draining_within(drain);

        let changes = Changes::new(Arc::new(store))?;
        let (exits, exited) = mpsc::unbounded_channel();
        let platform = platform(&settings.runtime);
        let sidecars = (settings.egress == Egress::Enforced).then(|| tokens.clone());
        let runtime = runtime(settings.runtime, exits, sidecars)?;
        let sandboxes = SandboxService::new(changes.clone(), runtime, settings.sandboxes);
        sandboxes.clear_stale_addresses().await?;

        let mut tasks = JoinSet::new();
        tasks.spawn(changes.propagate());
        let (stopping, stopped) = watch::channel(false);
        let (api_address, gateway_address) = (api_listener.address(), gateway_listener.address());
        let api = Api {
            sandboxes: sandboxes.clone(),
            urls: settings.urls,
            egress: settings.egress,
            public_ports: settings.public_ports,
        };
        let gateway = Gateway {
            sandboxes: sandboxes.clone(),
            sidecars: Places::new(settings.gateway.sidecars),
            tokens: tokens.clone(),
            platform,
            stopping: stopped.clone(),
        };
        let mut listeners = JoinSet::new();
        listeners.spawn(
            api_listener.serve(
                api::router(
                    api,
                    Bounds::new(settings.api.requests, API_TIMEOUT)
                        .each(settings.api.requests_per_project)
                        .waiting(settings.api.waiting),
                ),
                stop_of(stopped.clone()),
            ),
        );
        listeners.spawn(
            gateway_listener.serve(
                gateway::router(
                    gateway,
                    Bounds::new(GATEWAY_IN_FLIGHT, GATEWAY_TIMEOUT)
                        .each(EACH_SANDBOX)
                        .waiting(settings.gateway.sidecars),
                ),
                stop_of(stopped),
            ),
        );

        tasks.spawn(gateway::follow_file(tokens, settings.gateway_token_file));
        tasks.spawn(keep_up(changes.db().clone()));
        let follower = sandboxes.clone();
        tasks.spawn(async move { follower.handle_exits(exited).await });
        let follower = sandboxes.clone();
        tasks.spawn(async move { follower.run_retries().await });
        restore(&sandboxes).await;
        Ok(Self {
            api_address,
            gateway_address,
            sandboxes,
            drain,
            stopping,
            listeners,
            tasks,
            _lock: lock,
        })
    }

    /// Where the public API listens.
    #[must_use]
    pub fn api_address(&self) -> SocketAddr {
        self.api_address
    }

    /// Where the gateway API listens.
    #[must_use]
    pub fn gateway_address(&self) -> SocketAddr {
        self.gateway_address
    }

    /// Stops listening, answers polls, lets requests and the steps that they began finish in the time
    /// that the settings give them, and stops the sandboxes that would not outlive it.
    pub async fn stop(mut self) {
        let deadline = Instant::now() + self.drain;
        let _ = self.stopping.send(true);
        while self.listeners.join_next().await.is_some() {}
        if timeout_at(deadline, self.sandboxes.wait_until_idle()).await.is_err() {
            tracing::warn!("the shutdown cut off what the next start will finish");
        }
        self.tasks.shutdown().await;
        self.sandboxes.shut_down().await;
    }
}

/// A policy that was accepted is a promise of isolation: it does not lapse because a server is
/// started without the option.
fn keep_promises(store: &impl Sandboxes, egress: Egress) -> anyhow::Result<()> {
    let restricted = store.restricted_sandboxes()?;
    if egress == Egress::None && restricted > 0 {
        anyhow::bail!(
            "{restricted} sandboxes have a network policy, which nothing would enforce; run with \
             `--egress enforced`, and without sidecars clear the policies first \
             (`PATCH /sandboxes/<id>` with `{{\"network\": null}}`)"
        );
    }
    Ok(())
}

fn runtime(
    settings: RuntimeSettings,
    exits: Exits,
    sidecars: Option<Tokens>,
) -> anyhow::Result<Arc<dyn Runtime>> {
    Ok(match settings {
        RuntimeSettings::Local(settings) => Arc::new(LocalRuntime::new(settings, exits)?),
        RuntimeSettings::Webhook(settings) => Arc::new(WebhookRuntime::new(*settings, sidecars)?),
    })
}

/// Who may report what happened to sandboxes: the platform that is told what to do with them.
fn platform(settings: &RuntimeSettings) -> Option<Arc<Platform>> {
    match settings {
        RuntimeSettings::Local(_) => None,
        RuntimeSettings::Webhook(settings) => Some(Arc::new(Platform {
            key: settings.key.clone(),
            sandbox_cidrs: settings.sandbox_cidrs.clone(),
        })),
    }
}

async fn stop_of(mut stopped: watch::Receiver<bool>) {
    // An error means that the server is gone, which is a stop too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn restore(sandboxes: &SandboxService) {
    let restoring = sandboxes.clone();
    let task = tokio::spawn(async move { restoring.restore().await });
    match tokio::time::timeout(RESTORE_WITHIN, task).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::error!(%error, "sandboxes could not be started again"),
        Ok(Err(error)) => tracing::error!(%error, "sandboxes could not be started again"),
        Err(_) => tracing::warn!("some sandboxes are still being started again"),
    }
}
