//! What does not depend on a policy: set up before there is one, and put back at the end.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Agent, AgentError};
use crate::denied_names::DeniedNames;
use crate::dns;
use crate::envoy::Files;
use crate::host::{routers, sysctl};
use crate::nftables::apply::NftError;
use crate::nftables::layout::Mode;
use crate::nftables::nflog::NflogSocket;
use crate::nftables::refusal::{GROUP, PacketLog};
use crate::nftables::render;
use crate::settings::Bounds;

impl Agent {
    /// Everything that does not depend on a policy. Closed before anything is passed on.
    pub(super) async fn set_up(&mut self) -> Result<(), AgentError> {
        // A killed agent may have left files that say it is ready.
        self.say();
        let settings = &self.settings;
        if let Mode::Gateway { interface } = &settings.layout.mode {
            routers::ignore_advertisements(interface).await?;
        }
        if let Some(socket) = self.set_rules_up().await? {
            self.tasks.spawn(self.refusals.clone().report(socket));
        }
        self.sysctls.make(&sysctl::NO_ICMP_RATE_LIMIT)?;
        self.sysctls.make(&sysctl::LISTEN_BACKLOG)?;
        self.routes.make().await?;
        let ports = settings.layout.ports;
        let bounds = within_file_limit(settings.bounds);
        self.status.envoy_max_connections = bounds.connections;
        self.files = Some(Files::prepare(
            &settings.run_dir,
            &settings.filter,
            settings.envoy_config.clone(),
            ports,
            bounds,
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
        let (denied_names, refresher) = DeniedNames::new();
        self.denied_names = Some(denied_names);
        self.tasks.spawn(refresher.run(proxy.clone()));
        self.dns = Some(proxy);
        self.tasks.spawn(server.run(self.dns_end.clone()));
        self.tasks.spawn(self.gate.clone().keep());
        if let Mode::Gateway { interface } = &settings.layout.mode {
            self.sysctls.make(&sysctl::tcp_buffers(settings.tcp_buffer)?)?;
            self.sysctls.make(&routers::keep_accepting(interface)?)?;
            self.sysctls.remember(sysctl::CHANGED_WITH_FORWARDING)?;
            self.sysctls.make(&sysctl::FORWARDING)?;
        }
        Ok(())
    }

    /// The rules that stay, closed. Where the kernel can't tell of single packets, they are counted only.
    async fn set_rules_up(&self) -> Result<Option<NflogSocket>, NftError> {
        let layout = &self.settings.layout;
        if let Err(error) = self.gate.apply(&render::setup(layout, PacketLog::On)).await {
            // Where the rules are refused for another reason, this fails too, and says it.
            self.gate.apply(&render::setup(layout, PacketLog::Off)).await?;
            tracing::warn!("denied packets are counted, and not told one by one: {error}");
            return Ok(None);
        }
        let socket = NflogSocket::open().inspect_err(|error| {
            tracing::warn!(
                "denied packets are counted, and not told one by one: NFLOG group {GROUP} can't be had: {error}"
            );
        });
        Ok(socket.ok())
    }

    /// Puts everything back. Where this namespace passed packets on before, or is the sandbox's own, the
    /// closed table stays: an agent that ends opens nothing.
    pub(super) async fn take_down(&mut self) {
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
                "the tables `sandgate` of nftables stay, closed, so that nothing passes without an agent"
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

/// The addresses of this namespace: no sandbox reaches them, whatever its policy says.
pub(super) fn own_addresses() -> BTreeSet<IpNet> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    });
    addresses.map(IpNet::from).collect()
}
