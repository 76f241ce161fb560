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

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sandgate_policy::egress::{DeniedAddresses, NetworkPolicy, Operator, Policy};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::denied_names::DeniedNames;
use crate::dns;
use crate::envoy::files::{FilesError, INSPECTION};
use crate::envoy::{Child, Files, probe};
use crate::gate::Gate;
use crate::generation::{Generation, InForce};
use crate::host::{Routes, Sysctls, routers, routes::RouteError, sysctl, sysctl::SysctlError};
use crate::metrics::Numbers;
use crate::nftables::apply::NftError;
use crate::nftables::layout::Mode;
use crate::nftables::nflog::Ear;
use crate::nftables::refusal::{GROUP, Told};
use crate::nftables::{counters, render};
use crate::refusals::{Refusals, Untold};
use crate::settings::{Bounds, Settings, Source};
use crate::source::{self, Offer, Offers};
use crate::status::{self, Status};
use crate::virtual_addresses::VirtualAddresses;

/// How long Envoy has for taking a generation, from its start and while it runs.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
const TAKES_WITHIN: Duration = Duration::from_secs(10);
/// How long a dead Envoy stays dead: at first, and at most.
const RESTARTS_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long a policy waits for the addresses of the names that it denies. DNS can be slower, or broken: then
/// they come later.
const LOOKS_UP_WITHIN: Duration = Duration::from_secs(1);
/// How often memory is looked at.
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
    untold: Untold,

    names: VirtualAddresses,
    denied_names: Option<DeniedNames>,
    /// What is in force of what is known of them.
    denied: DeniedAddresses,
    number: u64,
    in_force: Option<NetworkPolicy>,
    /// The operator's settings with it: the file's and the command line's.
    operator: Operator,
    envoy: Option<Child>,
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
            untold: Untold::default(),
            names: VirtualAddresses::default(),
            denied_names: None,
            denied: DeniedAddresses::default(),
            number: 0,
            in_force: None,
            operator,
            envoy: None,
            status,
            not_taken: None,
            operator_not_taken: None,
            no_way: None,
            restart: None,
        }
    }

    /// Everything that does not depend on a policy. Closed before anything is passed on.
    async fn set_up(&mut self) -> Result<(), AgentError> {
        // What an agent said that was killed.
        self.say();
        let settings = &self.settings;
        if let Mode::Gateway { interface } = &settings.layout.mode {
            routers::distrust(interface).await?;
        }
        if let Some(ear) = self.set_rules_up().await? {
            self.tasks.spawn(self.refusals.clone().tell(ear));
        }
        self.sysctls.make(&sysctl::PROMPT_REFUSALS)?;
        self.sysctls.make(&sysctl::QUEUES)?;
        self.routes.make().await?;
        let ports = settings.layout.ports;
        self.files = Some(Files::prepare(
            &settings.run_dir,
            &settings.filter,
            settings.envoy_config.clone(),
            ports,
            within_file_limit(settings.bounds),
        )?);
        let sandbox = |address| dns::Listen {
            address: SocketAddr::new(address, ports.dns),
            role: dns::Role::Sandbox,
            transparent: true,
        };
        let inner = dns::Listen {
            address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), ports.resolver),
            role: dns::Role::Inner,
            transparent: false,
        };
        let listen =
            [sandbox(Ipv4Addr::UNSPECIFIED.into()), sandbox(Ipv6Addr::UNSPECIFIED.into()), inner];
        let (proxy, server) =
            dns::Proxy::bind(&listen, settings.resolvers.clone(), dns::Limits::default())?;
        let (denied_names, finder) = DeniedNames::new();
        self.denied_names = Some(denied_names);
        self.tasks.spawn(finder.run(proxy.clone()));
        self.dns = Some(proxy);
        self.tasks.spawn(server.run(self.dns_end.clone()));
        self.tasks.spawn(self.gate.clone().keep());
        if let Mode::Gateway { interface } = &settings.layout.mode {
            self.sysctls.make(&sysctl::tcp_buffers(settings.tcp_buffer)?)?;
            self.sysctls.make(&routers::keep(interface)?)?;
            self.sysctls.remember(sysctl::WITH_FORWARDING)?;
            self.sysctls.make(&sysctl::FORWARDING)?;
        }
        Ok(())
    }

    /// The rules that stay, closed. Where the kernel can't tell of single packets, they are counted only.
    async fn set_rules_up(&self) -> Result<Option<Ear>, NftError> {
        let layout = &self.settings.layout;
        if let Err(error) = self.gate.apply(&render::setup(layout, Told::Singly)).await {
            // What else is wrong with it is said here.
            self.gate.apply(&render::setup(layout, Told::AsNumbers)).await?;
            tracing::warn!("denied packets are counted, and not told one by one: {error}");
            return Ok(None);
        }
        let ear = Ear::open().inspect_err(|error| {
            tracing::warn!(
                "denied packets are counted, and not told one by one: NFLOG group {GROUP} can't be had: {error}"
            );
        });
        Ok(ear.ok())
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
                _ = measure.tick() => self.count(),
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

    /// Puts what was offered in force, if it is new.
    async fn take(&mut self, offer: Offer) {
        self.not_taken = offer.problem;
        let Some(new) = offer.good else { return };
        if self.in_force.as_ref() != Some(&new) {
            self.change(new, self.operator.clone()).await;
        }
    }

    /// The same of the operator's settings: also as one generation, with the policy that there is.
    async fn take_operator(&mut self, offer: Offer<Operator>) {
        self.operator_not_taken = offer.problem;
        let Some(new) = offer.good else { return };
        let new = with_guards(new, &self.settings.operator);
        match self.in_force.clone() {
            _ if self.operator == new => {}
            Some(policy) => self.change(policy, new).await,
            None => self.operator = new,
        }
    }

    async fn change(&mut self, new: NetworkPolicy, operator: Operator) {
        // Whatever happens on the way, the new one is what Envoy starts with next.
        let old_operator = std::mem::replace(&mut self.operator, operator.clone());
        match self.in_force.replace(new.clone()) {
            Some(old) if self.envoy.is_some() => {
                self.follow_denied_names();
                let both = (InForce::Both(old, new.clone()), old_operator.stricter(&operator));
                if self.tighten(&both.0, &both.1).await {
                    self.look_up_denied_names().await;
                    self.loosen(&InForce::Only(new), &operator).await;
                }
            }
            _ => {
                self.follow_denied_names();
                self.restart.get_or_insert((Instant::now(), RESTARTS_AFTER.0));
            }
        }
    }

    fn follow_denied_names(&self) {
        if let (Some(denied_names), Some(policy)) = (&self.denied_names, &self.in_force) {
            denied_names.follow(&Policy::new(policy, &self.operator));
        }
    }

    /// Waits for their addresses, a moment.
    async fn look_up_denied_names(&mut self) {
        if let Some(denied_names) = &mut self.denied_names {
            self.denied = denied_names.first(LOOKS_UP_WITHIN).await;
        }
    }

    /// Puts in force what is known of denied names. One step: Envoy alone judges by it what may show names,
    /// and nftables alone what has none, so that neither waits for the other.
    async fn learn(&mut self, denied: DeniedAddresses) {
        if self.denied == denied {
            return;
        }
        self.denied = denied;
        let (Some(policy), Some(_)) = (self.in_force.clone(), &self.envoy) else { return };
        tracing::info!("denied names are at {} addresses", self.denied.pairs().count());
        let operator = self.operator.clone();
        self.loosen(&InForce::Only(policy), &operator).await;
    }

    /// A generation that allows nothing more than the one before: where it is known first does not
    /// matter. Whether all have it.
    async fn tighten(&mut self, in_force: &InForce, operator: &Operator) -> bool {
        let Some(generation) = self.compile(in_force, operator) else { return false };
        if let Some(dns) = &self.dns {
            dns.set(generation.dns.clone());
        }
        if !self.open(&generation).await {
            return false;
        }
        if generation.names_matter {
            // What nftables took for a connection without names has as long for its first words as one that is
            // inspected: the filter would have to close what is HTTP, since nobody judges its requests.
            tokio::time::sleep(INSPECTION).await;
        }
        self.feed(&generation).await
    }

    /// A generation that allows more: Envoy has it before nftables lets new traffic there, and DNS
    /// says names last.
    async fn loosen(&mut self, in_force: &InForce, operator: &Operator) -> bool {
        let Some(generation) = self.compile(in_force, operator) else { return false };
        if !(self.feed(&generation).await && self.open(&generation).await) {
            return false;
        }
        if let Some(dns) = &self.dns {
            dns.set(generation.dns.clone());
        }
        self.is_in_force(generation.number);
        true
    }

    fn is_in_force(&mut self, number: u64) {
        self.status.ready = true;
        self.status.generation = number;
        self.no_way = None;
        tracing::info!("ready: generation {number} is in force");
    }

    fn compile(&mut self, in_force: &InForce, operator: &Operator) -> Option<Generation> {
        self.number += 1;
        let (names, denied, ports) = (&mut self.names, &self.denied, &self.settings.layout.ports);
        match Generation::compile(self.number, in_force, operator, names, denied, ports) {
            Ok(generation) => Some(generation),
            Err(error) => {
                self.not_taken = Some(error.to_string());
                tracing::error!("{error}; what was in force before stays");
                None
            }
        }
    }

    /// Applies the rules, with which the way is open.
    async fn open(&mut self, generation: &Generation) -> bool {
        self.refusals.set(Arc::clone(&generation.lists));
        match self.gate.open(&generation.rules).await {
            Ok(()) => true,
            Err(error) => {
                // What is in force elsewhere is another generation: nothing passes until all agree.
                self.envoy_is_gone(&format!("it can't be kept in step with nftables: {error}"))
                    .await;
                false
            }
        }
    }

    /// Gives Envoy a generation, and waits until its filter has it.
    async fn feed(&mut self, generation: &Generation) -> bool {
        let Some(files) = &self.files else { return false };
        if let Err(error) = files.write_generation(&generation.filter) {
            self.envoy_is_gone(&error.to_string()).await;
            return false;
        }
        self.confirmed(generation.number, TAKES_WITHIN).await
    }

    /// Whether Envoy's filter has a generation within a time; where not, it is ended.
    async fn confirmed(&mut self, number: u64, limit: Duration) -> bool {
        let port = self.settings.layout.ports.probe;
        let why = tokio::select! {
            () = probe::until(port, number) => return true,
            () = died(self.envoy.as_mut()) => "it ended".to_owned(),
            () = tokio::time::sleep(limit) => format!("it did not take generation {number}"),
        };
        self.envoy_is_gone(&why).await;
        false
    }

    /// Starts Envoy with what is in force, and opens when it has it.
    async fn start(&mut self) {
        let backoff = self.restart.take().map_or(RESTARTS_AFTER.0, |(_, backoff)| backoff);
        // Where it fails: later, and later.
        let next = (backoff * 2).min(RESTARTS_AFTER.1);
        let Some(policy) = self.in_force.clone() else { return };
        self.look_up_denied_names().await;
        let operator = self.operator.clone();
        if !self.start_with(&InForce::Only(policy), &operator).await {
            self.restart = Some((Instant::now() + next, next));
        }
    }

    async fn start_with(&mut self, in_force: &InForce, operator: &Operator) -> bool {
        let Some(generation) = self.compile(in_force, operator) else { return false };
        let Some(files) = &self.files else { return false };
        let written =
            files.write_generation(&generation.filter).and_then(|()| files.write_bootstrap());
        let started = written
            .map_err(|error| error.to_string())
            .and_then(|path| self.settings.envoy.start(&path).map_err(|error| error.to_string()));
        match started {
            Ok(child) => self.envoy = Some(child),
            Err(error) => {
                self.envoy_is_gone(&error).await;
                return false;
            }
        }
        if !(self.confirmed(generation.number, STARTS_WITHIN).await && self.open(&generation).await)
        {
            return false;
        }
        if let Some(dns) = &self.dns {
            dns.set(generation.dns);
        }
        self.is_in_force(generation.number);
        true
    }

    /// Closes; ends what is left of Envoy; and has it started again.
    async fn envoy_is_gone(&mut self, why: &str) {
        self.gate.close().await;
        self.status.ready = false;
        self.status.envoy_restarts += 1;
        let problem = format!("there is no way out, because of Envoy: {why}");
        tracing::error!("{problem}; it is started again");
        self.no_way = Some(problem);
        self.say();
        if let Some(child) = self.envoy.take() {
            child.stop().await;
        }
        let backoff = RESTARTS_AFTER.0;
        self.restart.get_or_insert((Instant::now() + backoff, backoff));
    }

    fn say(&mut self) {
        let problems = [&self.no_way, &self.not_taken, &self.operator_not_taken];
        self.status.problem = problems.into_iter().find_map(Clone::clone);
        self.status.agent_resident_bytes = status::resident_bytes(std::process::id());
        self.status.envoy_resident_bytes =
            self.envoy.as_ref().and_then(|child| status::resident_bytes(child.pid()));
        self.said.say(&self.status);
    }

    /// Tells in numbers what was done, and what was refused without being told one by one.
    fn count(&mut self) {
        let refused = counters::read();
        let told = self.refusals.told();
        match &refused {
            Ok(refused) => {
                let untold = self.untold.more(refused, told);
                if untold > 0 {
                    tracing::info!(target: "sandgate::packets", untold, "more packets denied");
                }
            }
            Err(error) => tracing::error!("what nftables refused can't be counted: {error}"),
        }
        let dns = self.dns.as_ref().map(|dns| dns.counters().values()).unwrap_or_default();
        let refused = refused.as_ref().ok();
        let sandbox = self.settings.sandbox.as_deref();
        self.said.count(&Numbers { sandbox, status: &self.status, refused, told, dns: &dns });
    }

    /// Puts everything back. Where this namespace passed packets on before, or is the sandbox's own, the
    /// closed table stays: an agent that ends opens nothing.
    async fn take_down(&mut self) {
        self.gate.close().await;
        self.said.remove();
        if let Some(child) = self.envoy.take() {
            child.stop().await;
        }
        self.dns_end.cancel();
        self.tasks.shutdown().await;
        let stays_closed = match self.settings.layout.mode {
            Mode::Gateway { .. } => self.sysctls.was_forwarding(),
            Mode::Shared => true,
        };
        let mut left = self.sysctls.restore();
        left.extend(self.routes.remove().await);
        if stays_closed {
            tracing::info!(
                "`table inet sandgate` stays, closed, so that nothing passes without an agent"
            );
        } else if let Err(error) = self.gate.apply(&render::removal()).await {
            left.push(error.to_string());
        }
        if let Some(files) = &self.files {
            files.remove();
        }
        for problem in left {
            tracing::error!("{problem}");
        }
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

/// What a file says, and the guardrails that no file takes away.
fn with_guards(mut file: Operator, always: &Operator) -> Operator {
    file.protected.extend(&always.protected);
    file
}

/// The addresses of this namespace: no sandbox reaches them, whatever its policy says.
fn own_addresses() -> BTreeSet<IpNet> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    });
    addresses.map(IpNet::from).collect()
}

/// The bounds that Envoy can keep: it has the agent's limit of open files. Root may raise what it was given; anyone may
/// use all of it.
fn within_file_limit(wanted: Bounds) -> Bounds {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| {
        let files = most.max(wanted.files());
        setrlimit(Resource::RLIMIT_NOFILE, files, files)
            .map(|()| files)
            .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, most, most).map(|()| most))
    });
    let files = raised.or_else(|error| {
        tracing::warn!("the limit of open files could not be raised: {error}");
        getrlimit(Resource::RLIMIT_NOFILE).map(|(now, _)| now)
    });
    let bounds = wanted.within(files.unwrap_or_default());
    if bounds != wanted {
        tracing::warn!(
            "the limit of open files lets Envoy carry only {} connections at a time, of {}; raise it (`ulimit -Hn`, \
             `LimitNOFILE=`) to {}",
            bounds.connections,
            wanted.connections,
            wanted.files()
        );
    }
    bounds
}
