//! The agent's life: closed, then one generation after the other, then closed again.
//!
//! 1. [`Agent::set_up`]: nftables, closed; the DNS proxy; only then forwarding.
//! 2. A policy comes: Envoy is started with it. When its filter says that it has it, nftables and DNS get
//!    it too, and the way opens.
//! 3. Another policy comes: first what neither forbids, everywhere, then the new one alone, each step
//!    waited for.
//! 4. Denied names have other addresses: the same policy, knowing them.
//! 5. Envoy dies, or does not take a generation: closed, and Envoy starts again.
//! 6. The end: closed, Envoy ended, and everything put back.

mod change;
mod place;
mod step;
mod tell;

use std::time::Duration;

use sandgate_policy::egress::{DeniedAddresses, NetworkPolicy, Operator};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::change::with_guards;
use self::place::own_addresses;
use crate::denied_names::DeniedNames;
use crate::dns;
use crate::envoy::files::FilesError;
use crate::envoy::{Child, Files};
use crate::gate::Gate;
use crate::host::{Routes, Sysctls, routes::RouteError, sysctl::SysctlError};
use crate::nftables::apply::NftError;
use crate::refusals::{Refusals, Unreported};
use crate::settings::{Settings, Source};
use crate::source::{self, Offer, Offers};
use crate::status::{self, Status};
use crate::virtual_addresses::VirtualAddresses;

/// How often it is counted what was done, and Envoy asked whether it still answers.
const MEASURES: Duration = Duration::from_secs(5);

/// The agent can't begin.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// nftables.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// Kernel settings.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// Routing of DNS.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The DNS proxy.
    #[error(transparent)]
    Dns(#[from] dns::BindError),
    /// Envoy's files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The operator's file.
    #[error("{0}")]
    Operator(String),
}

/// Runs an agent until `end` is cancelled.
///
/// Call it on the thread that lives as long as the program: Envoy is bound to it.
///
/// # Errors
///
/// Where it can't begin; what it had set up by then is taken away again.
pub async fn run(settings: Settings, end: CancellationToken) -> Result<(), AgentError> {
    let operator = match &settings.operator_file {
        Some(path) => source::file::load(path).map_err(AgentError::Operator)?,
        None => Operator::default(),
    };
    let mut agent = Agent::new(settings, operator);
    let done = agent.set_up().await;
    if done.is_ok() {
        end.run_until_cancelled(agent.live()).await;
    }
    agent.take_down().await;
    done
}

struct Agent {
    settings: Settings,
    gate: Gate,
    sysctls: Sysctls,
    routes: Routes,
    files: Option<Files>,
    dns: Option<dns::Proxy>,
    dns_end: CancellationToken,
    tasks: JoinSet<()>,
    said: status::Files,
    refusals: Refusals,
    unreported: Unreported,

    names: VirtualAddresses,
    denied_names: Option<DeniedNames>,
    /// What is in force of what is known of them.
    denied: DeniedAddresses,
    number: u64,
    in_force: Option<NetworkPolicy>,
    /// The operator's settings with it: the file's and the command line's.
    operator: Operator,
    envoy: Option<Child>,
    /// How often in a row it has not answered.
    unanswered: u32,
    status: Status,
    /// Why something newer than what is in force is not: a policy, the operator's settings.
    not_taken: Option<String>,
    operator_not_taken: Option<String>,
    /// Why there is no way out.
    no_way: Option<String>,
    /// When Envoy is started again, and how long that took to be allowed last.
    restart: Option<(Instant, Duration)>,
}

impl Agent {
    fn new(mut settings: Settings, operator: Operator) -> Self {
        settings.operator.protected.extend(own_addresses());
        let operator = with_guards(operator, &settings.operator);
        let said = status::Files {
            ready: settings.ready_file.clone(),
            status: settings.status_file.clone(),
            metrics: settings.metrics_file.clone(),
        };
        let status = Status::of(settings.bounds);
        Self {
            settings,
            gate: Gate::default(),
            sysctls: Sysctls::default(),
            routes: Routes::default(),
            files: None,
            dns: None,
            dns_end: CancellationToken::new(),
            tasks: JoinSet::new(),
            said,
            refusals: Refusals::default(),
            unreported: Unreported::default(),
            names: VirtualAddresses::default(),
            denied_names: None,
            denied: DeniedAddresses::default(),
            number: 0,
            in_force: None,
            operator,
            envoy: None,
            unanswered: 0,
            status,
            not_taken: None,
            operator_not_taken: None,
            no_way: None,
            restart: None,
        }
    }

    /// Follows the policy and Envoy for ever.
    async fn live(&mut self) {
        let (mut offered, mut operators) = (self.follow(), self.follow_operator());
        let mut measure = tokio::time::interval(MEASURES);
        self.say();
        loop {
            let restart = self.restart.map_or_else(Instant::now, |(at, _)| at);
            tokio::select! {
                Ok(()) = offered.changed() => {
                    let offer = offered.borrow_and_update().clone();
                    self.take(offer).await;
                }
                Ok(()) = operators.changed() => {
                    let offer = operators.borrow_and_update().clone();
                    self.take_operator(offer).await;
                }
                denied = changed(self.denied_names.as_mut()) => self.learn(denied).await,
                () = died(self.envoy.as_mut()) => self.envoy_is_gone("it ended").await,
                () = tokio::time::sleep_until(restart), if self.restart.is_some() => self.start().await,
                _ = measure.tick() => {
                    self.count();
                    self.look_after_envoy().await;
                }
            }
            self.say();
        }
    }

    fn follow(&mut self) -> watch::Receiver<Offer> {
        let (offers, offered) = Offers::new();
        match self.settings.source.clone() {
            Source::File(path) => self.tasks.spawn(source::file::follow(path, offers)),
            Source::ControlPlane(control_plane) => self.tasks.spawn(control_plane.follow(offers)),
        };
        offered
    }

    fn follow_operator(&mut self) -> watch::Receiver<Offer<Operator>> {
        let (offers, offered) = Offers::new();
        if let Some(path) = self.settings.operator_file.clone() {
            self.tasks.spawn(source::file::follow(path, offers));
        }
        offered
    }
}

/// Waits until other addresses of denied names are known. For ever, where nobody looks.
async fn changed(denied_names: Option<&mut DeniedNames>) -> DeniedAddresses {
    match denied_names {
        Some(denied_names) => denied_names.changed().await,
        None => std::future::pending().await,
    }
}

/// Waits until Envoy has ended. For ever, where there is none.
async fn died(envoy: Option<&mut Child>) {
    match envoy {
        Some(child) => drop(child.ended().await),
        None => std::future::pending().await,
    }
}
