//! A proxy under measurement: Envoy, or nginx, with one worker on a core of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sandgate_stack::{Client, Process};
use serde_json::Value;

use crate::bootstrap::{self, Decision, Ports};
use crate::machine::{self, ENVOY_CORE};
use crate::world::{PRIVATE, World, free_port, sandbox_address};

pub(crate) struct Proxy {
    process: Process,
    ports: Ports,
}

impl Proxy {
    /// Starts an Envoy that decides in this way. `more` are further values of `edge.yaml`.
    pub(crate) async fn start_envoy(
        world: &World,
        name: &str,
        decision: Decision,
        more: &[(&str, &str)],
    ) -> Result<Self> {
        let folder = world.path().join(name);
        std::fs::create_dir_all(&folder)?;
        let ports = Ports { edge: free_port()?, tls: free_port()?, admin: free_port()? };
        let config = bootstrap::write(world, decision, more, ports, &folder)?;
        let mut process = Process::start(
            &format!("Envoy, {name}"),
            &envoy_command(&[], &world.envoy, &config),
            &folder.join("envoy.log"),
        )?;
        let admin = Client::new(SocketAddr::from((Ipv4Addr::LOCALHOST, ports.admin)));
        let ready = async |_: &mut Process| {
            let answer = admin.get("admin", "/ready").send().await;
            Ok(answer.is_ok_and(|answer| answer.status == 200).then_some(()))
        };
        process.until("did not serve", Duration::from_secs(60), ready).await?;
        Ok(Self { process, ports })
    }

    /// Starts an nginx that asks the authorization service about each request (`auth_request`).
    pub(crate) async fn start_nginx(world: &World) -> Result<Self> {
        let folder = world.path().join("nginx");
        std::fs::create_dir_all(&folder)?;
        let edge = free_port()?;
        let config = folder.join("nginx.conf");
        let upstream = SocketAddr::from((sandbox_address(PRIVATE), world.port));
        let text = include_str!("proxy/nginx.conf")
            .replace("FOLDER", &folder.display().to_string())
            .replace("PORT", &edge.to_string())
            .replace("UPSTREAM", &upstream.to_string())
            .replace("AUTHZ", &world.authz_address.to_string());
        std::fs::write(&config, text)?;
        let mut command = pinned("nginx");
        command.arg("-p").arg(&folder).arg("-c").arg(&config);
        let mut process = Process::start("nginx", &command, &folder.join("nginx.log"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, edge));
        let ready = async |_: &mut Process| {
            Ok(tokio::net::TcpStream::connect(address).await.ok().map(drop))
        };
        process.until("did not listen", Duration::from_secs(10), ready).await?;
        Ok(Self { process, ports: Ports { edge, tls: 0, admin: 0 } })
    }

    pub(crate) fn plain(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.edge))
    }

    pub(crate) fn tls(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.tls))
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn processor_time(&self) -> Result<u64> {
        machine::processor_time(self.process.id())
    }

    pub(crate) fn require_running(&mut self) -> Result<()> {
        self.process.require_running()
    }

    /// The sum of all counters and gauges whose name matches a regular expression.
    pub(crate) async fn stat(&self, pattern: &str) -> Result<u64> {
        let admin = Client::new(SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.admin)));
        let path = format!("/stats?format=json&filter={pattern}");
        let stats = admin.get("admin", &path).send().await?.json()?;
        let all = stats.get("stats").and_then(Value::as_array).context("stats without a list")?;
        Ok(all.iter().filter_map(|stat| stat.get("value").and_then(Value::as_u64)).sum())
    }
}

/// The command that starts Envoy with one worker on its core. `prefix` runs before it, for example in a namespace.
pub(crate) fn envoy_command(prefix: &[&str], envoy: &str, config: &std::path::Path) -> Command {
    let mut command = match prefix.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).args(pinning()).arg(envoy);
            command
        }
        None => pinned(envoy),
    };
    command.arg("--config-path").arg(config).args([
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "error",
    ]);
    command.env(
        "ENVOY_DYNAMIC_MODULES_SEARCH_PATH",
        sandgate_stack::artifacts::root().join("target/filters"),
    );
    command
}

/// The words before a program that keep it on Envoy's core.
pub(crate) fn pinning() -> Vec<String> {
    if machine::has_core_for_envoy() {
        ["taskset", "--cpu-list", &ENVOY_CORE.to_string()].map(str::to_owned).into()
    } else {
        Vec::new()
    }
}

pub(crate) fn pinned(program: &str) -> Command {
    let mut words = pinning();
    words.push(program.to_owned());
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}
