//! Sets up everything that does not depend on a policy, and restores it when the agent ends.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Agent, AgentError};
use crate::denials::reporter;
use crate::denied_names::DeniedNames;
use crate::dns;
use crate::envoy::Files;
use crate::host::{routers, sysctl};
use crate::nftables::apply::NftError;
use crate::nftables::layout::Mode;
use crate::nftables::nflog::NflogSocket;
use crate::nftables::refuse_chains::{GROUP, PacketLog};
use crate::nftables::render;
use crate::settings::Bounds;
use crate::source::PolicySource;

impl Agent {
    /// Applies the rules that deny all traffic, then starts the DNS proxy, and enables forwarding last.
    pub(super) async fn set_up(&mut self) -> Result<(), AgentError> {
        // A killed agent may have left its report files, which would state that this agent is ready.
        self.publish_status();
        let settings = &self.settings;
        if let Mode::Gateway { interface } = &settings.layout.mode {
            routers::ignore_advertisements(interface).await?;
        }
        if let Some(socket) = self.apply_fixed_rules().await? {
            self.tasks.spawn(self.refusals.clone().report(socket));
        }
        self.sysctls.set(&sysctl::NO_ICMP_RATE_LIMIT)?;
        self.sysctls.set(&sysctl::LISTEN_BACKLOG)?;
        self.routes.add().await?;
        let ports = settings.layout.ports;
        let bounds = limit_to_open_files(settings.bounds);
        self.status.envoy_max_connections = bounds.connections;
        self.envoy_files = Some(Files::create(
            &settings.run_dir,
            &settings.filter,
            settings.envoy_config.clone(),
            ports,
            bounds,
        )?);
        let for_sandbox = |address| dns::Listen {
            address: SocketAddr::new(address, ports.dns),
            role: dns::Role::Sandbox,
            transparent: true,
        };
        let for_envoy = dns::Listen {
            address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), ports.envoy_dns),
            role: dns::Role::Envoy,
            transparent: false,
        };
        let listen = [
            for_sandbox(Ipv4Addr::UNSPECIFIED.into()),
            for_sandbox(Ipv6Addr::UNSPECIFIED.into()),
            for_envoy,
        ];
        let (proxy, server) =
            dns::Proxy::bind(&listen, settings.resolvers.clone(), dns::Limits::default())?;
        let (denied_names, refresher) = DeniedNames::new();
        self.denied_names = Some(denied_names);
        self.tasks.spawn(refresher.run(proxy.clone()));
        proxy.report_to(self.denials.clone());
        self.dns = Some(proxy);
        self.tasks.spawn(server.run(self.dns_end.clone()));
        self.tasks.spawn(self.gate.clone().renew());
        if let Mode::Gateway { interface } = &settings.layout.mode {
            self.sysctls.set(&sysctl::tcp_buffers(settings.tcp_buffer)?)?;
            self.sysctls.set(&routers::keep_accepting(interface)?)?;
            self.sysctls.remember(sysctl::CHANGED_WITH_FORWARDING)?;
            self.sysctls.set(&sysctl::FORWARDING)?;
        }
        Ok(())
    }

    /// Applies the rules, which deny all traffic. If the kernel can't log packets, the rules only count them.
    async fn apply_fixed_rules(&self) -> Result<Option<NflogSocket>, NftError> {
        let layout = &self.settings.layout;
        if let Err(error) = self.gate.apply(&render::setup(layout, PacketLog::On)).await {
            // If the kernel refuses the rules for another reason, this fails with the same error.
            self.gate.apply(&render::setup(layout, PacketLog::Off)).await?;
            tracing::warn!("denied packets are counted but not logged: {error}");
            return Ok(None);
        }
        let socket = NflogSocket::open().inspect_err(|error| {
            tracing::warn!(
                "denied packets are counted but not logged: NFLOG group {GROUP} is not available: {error}"
            );
        });
        Ok(socket.ok())
    }

    /// Restores everything. The rules, which then deny all traffic, stay if the namespace forwarded packets before the
    /// agent started or if it is the sandbox's own. Otherwise traffic would pass without a policy.
    pub(super) async fn tear_down(&mut self) {
        self.gate.close().await;
        self.report_files.remove();
        if let Some(child) = self.envoy.take() {
            child.stop().await;
        }
        self.dns_end.cancel();
        self.tasks.shutdown().await;
        if let PolicySource::ControlPlane(control_plane) = &self.settings.source {
            // What a program was denied just before it, or its sandbox, ended.
            reporter::send_last(control_plane, &self.denials).await;
        }
        let rules_stay = match self.settings.layout.mode {
            Mode::Gateway { .. } => self.sysctls.was_forwarding(),
            Mode::Shared => true,
        };
        let mut problems = self.sysctls.restore();
        problems.extend(self.routes.remove().await);
        if rules_stay {
            tracing::info!(
                "the nftables tables `sandgate` stay and deny all traffic, because nothing may pass without an agent"
            );
        } else if let Err(error) = self.gate.apply(&render::removal()).await {
            problems.push(error.to_string());
        }
        if let Some(files) = &self.envoy_files {
            files.remove();
        }
        for problem in problems {
            tracing::error!("{problem}");
        }
    }
}

/// Raises the limit of open files, which Envoy inherits, and returns the bounds that Envoy can keep with it. Only root
/// can raise the hard limit. For other users, the soft limit becomes the hard limit.
fn limit_to_open_files(wanted: Bounds) -> Bounds {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| {
        let files = most.max(wanted.files());
        setrlimit(Resource::RLIMIT_NOFILE, files, files)
            .map(|()| files)
            .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, most, most).map(|()| most))
    });
    let files = raised.or_else(|error| {
        tracing::warn!("the limit of open files can't be raised: {error}");
        getrlimit(Resource::RLIMIT_NOFILE).map(|(now, _)| now)
    });
    let bounds = wanted.within(files.unwrap_or_default());
    if bounds != wanted {
        tracing::warn!(
            "the limit of open files allows Envoy only {} of {} connections at a time; raise it (`ulimit -Hn`, `LimitNOFILE=`) \
             to {}",
            bounds.connections,
            wanted.connections,
            wanted.files()
        );
    }
    bounds
}

/// The addresses of this namespace when the agent starts, which are guardrails. nftables also refuses those added later
/// (`refuse_own`).
pub(super) fn local_addresses() -> Result<BTreeSet<IpNet>, AgentError> {
    let interfaces = nix::ifaddrs::getifaddrs().map_err(AgentError::LocalAddresses)?;
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    });
    Ok(addresses.map(IpNet::from).collect())
}
