//! The agent: sets up the enforcers, applies policy generations, and restores the namespace when it ends.
//!
//! 1. [`Agent::set_up`] applies the nftables rules, which deny all traffic, then starts the DNS proxy, and only then
//!    enables forwarding.
//! 2. When the first policy arrives, the agent starts Envoy with it. When Envoy's filter has confirmed the policy, nftables
//!    and DNS apply it too, and the gate opens.
//! 3. When another policy arrives, all enforcers first apply the intersection of both policies, and then the new
//!    policy. Each step waits for the confirmation of the previous one.
//! 4. When the addresses of denied names change, the agent applies the same policy with the new addresses.
//! 5. When Envoy ends, hangs, or does not confirm a generation, the gate closes, and the agent restarts Envoy.
//! 6. When the agent ends, the gate closes, Envoy ends, and [`Agent::tear_down`] restores all settings.

mod envoy;
mod report;
mod rollout;
mod setup;
mod update;

use std::time::Duration;

use sandgate_policy::egress::{DeniedAddresses, NetworkPolicy, OperatorSettings};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::denials::{self, DenialReport};
use crate::denied_names::DeniedNames;
use crate::dns;
use crate::envoy::files::FilesError;
use crate::envoy::{Child, Files};
use crate::gate::Gate;
use crate::host::{IpError, Routes, Sysctls, sysctl::SysctlError};
use crate::nftables::apply::NftError;
use crate::packet_log::{Refusals, Unreported};
use crate::report::{ReportFiles, Status};
use crate::settings::Settings;
use crate::source::{self, PolicySource, SourceSender, SourceState};
use crate::virtual_addresses::VirtualAddresses;

/// The interval at which the agent publishes its metrics and checks that Envoy responds.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The agent can't start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error(transparent)]
    Nft(#[from] NftError),
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    #[error(transparent)]
    Ip(#[from] IpError),
    #[error(transparent)]
    Dns(#[from] dns::BindError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("{0}")]
    OperatorFile(String),
    #[error("the addresses of this network namespace can't be read: {0}")]
    LocalAddresses(nix::Error),
}

/// Runs an agent until `end` is cancelled.
///
/// Call it on a thread that lives as long as the program, because the kernel kills Envoy when the thread that started
/// it ends.
///
/// # Errors
///
/// If the agent can't start. It restores the settings that it has changed by then.
pub(crate) async fn run(settings: Settings, end: CancellationToken) -> Result<(), AgentError> {
    // The files of an agent that was killed must not report its state if this start fails.
    let report_files = ReportFiles::new(&settings);
    report_files.remove();
    let operator = match &settings.operator_file {
        Some(path) => source::file::load(path).map_err(AgentError::OperatorFile)?,
        None => OperatorSettings::default(),
    };
    let mut agent = Agent::new(settings, operator, report_files)?;
    let result = agent.set_up().await;
    if result.is_ok() {
        end.run_until_cancelled(agent.run()).await;
    }
    agent.tear_down().await;
    result
}

struct Agent {
    settings: Settings,
    gate: Gate,
    sysctls: Sysctls,
    routes: Routes,
    envoy_files: Option<Files>,
    dns: Option<dns::Proxy>,
    dns_end: CancellationToken,
    tasks: JoinSet<()>,
    report_files: ReportFiles,
    refusals: Refusals,
    unreported: Unreported,
    unreported_by_rules: Unreported,
    /// What the enforcers have denied, for the control plane.
    denials: DenialReport,

    virtual_addresses: VirtualAddresses,
    denied_names: Option<DeniedNames>,
    /// The known addresses of denied names that the current generation contains.
    denied_addresses: DeniedAddresses,
    /// The number of the last policy generation, whether or not it was applied.
    last_generation: u64,
    /// The newest valid policy. Envoy starts with it.
    policy: Option<NetworkPolicy>,
    /// The newest valid operator's settings, with the guardrails of the command line.
    operator: OperatorSettings,
    envoy: Option<Child>,
    /// How many health checks in a row have failed.
    failed_checks: u32,
    status: Status,
    /// The error in a newer policy, which the agent does not apply.
    policy_problem: Option<String>,
    /// The error in newer operator's settings, which the agent does not apply.
    operator_problem: Option<String>,
    /// The reason why the gate is closed.
    outage: Option<String>,
    /// The time of Envoy's next start, and the delay before it.
    restart: Option<(Instant, Duration)>,
}

impl Agent {
    fn new(
        mut settings: Settings,
        operator: OperatorSettings,
        report_files: ReportFiles,
    ) -> Result<Self, AgentError> {
        settings.command_line_guardrails.protected.extend(setup::local_addresses()?);
        let operator = update::with_guardrails(operator, &settings.command_line_guardrails);
        let status = Status::new(settings.bounds);
        let denials = DenialReport::default();
        Ok(Self {
            settings,
            gate: Gate::default(),
            sysctls: Sysctls::default(),
            routes: Routes::default(),
            envoy_files: None,
            dns: None,
            dns_end: CancellationToken::new(),
            tasks: JoinSet::new(),
            report_files,
            refusals: Refusals::reporting_to(denials.clone()),
            unreported: Unreported::default(),
            unreported_by_rules: Unreported::default(),
            denials,
            virtual_addresses: VirtualAddresses::default(),
            denied_names: None,
            denied_addresses: DeniedAddresses::default(),
            last_generation: 0,
            policy: None,
            operator,
            envoy: None,
            failed_checks: 0,
            status,
            policy_problem: None,
            operator_problem: None,
            outage: None,
            restart: None,
        })
    }

    /// Applies updates and watches Envoy. Never returns.
    async fn run(&mut self) {
        let (mut policies, mut operators) = (self.follow_policy(), self.follow_operator());
        let mut checks = tokio::time::interval(CHECK_INTERVAL);
        self.publish_status();
        loop {
            let restart = self.restart.map_or_else(Instant::now, |(at, _)| at);
            tokio::select! {
                Ok(()) = policies.changed() => {
                    let state = policies.borrow_and_update().clone();
                    self.update_policy(state).await;
                }
                Ok(()) = operators.changed() => {
                    let state = operators.borrow_and_update().clone();
                    self.update_operator(state).await;
                }
                addresses = changed(self.denied_names.as_mut()) => self.update_denied_addresses(addresses).await,
                () = exited(self.envoy.as_mut()) => self.restart_envoy("Envoy exited").await,
                () = tokio::time::sleep_until(restart), if self.restart.is_some() => self.start_envoy().await,
                _ = checks.tick() => {
                    self.publish_metrics();
                    self.check_envoy().await;
                    self.count_unlogged_denials().await;
                }
            }
            self.publish_status();
        }
    }

    fn follow_policy(&mut self) -> watch::Receiver<SourceState> {
        let (sender, states) = SourceSender::new();
        match self.settings.source.clone() {
            PolicySource::File(path) => self.tasks.spawn(source::file::follow(path, sender)),
            PolicySource::ControlPlane(control_plane) => {
                let report = self.denials.clone();
                self.tasks.spawn(denials::reporter::run(control_plane.clone(), report));
                self.tasks.spawn(control_plane.follow(sender))
            }
        };
        states
    }

    fn follow_operator(&mut self) -> watch::Receiver<SourceState<OperatorSettings>> {
        let (sender, states) = SourceSender::new();
        if let Some(path) = self.settings.operator_file.clone() {
            self.tasks.spawn(source::file::follow(path, sender));
        }
        states
    }
}

/// Waits until the known addresses of denied names change. Never returns if there is no lookup.
async fn changed(denied_names: Option<&mut DeniedNames>) -> DeniedAddresses {
    match denied_names {
        Some(denied_names) => denied_names.changed().await,
        None => std::future::pending().await,
    }
}

/// Waits until Envoy has exited. Never returns if Envoy is not running.
async fn exited(envoy: Option<&mut Child>) {
    match envoy {
        Some(child) => drop(child.wait().await),
        None => std::future::pending().await,
    }
}
