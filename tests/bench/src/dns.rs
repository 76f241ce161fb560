//! The DNS proxy of a sidecar beside dnsmasq: questions a second, and the processor time of each.
//!
//! Each proxy runs alone on Envoy's core. The clients and the resolver share the other one.

mod client;
mod servers;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::Result;
use sandgate_stack::Process;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ingress::Effort;
use crate::progress::Progress;
use crate::serve::{self, Role};
use crate::world::free_port;
use crate::{machine, proxy};

pub(crate) use servers::{resolve, serve_proxy};

/// Which server the clients ask.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Server {
    /// The resolver, without a proxy.
    Resolver,
    /// Sandgate's proxy with one of the two policies.
    Sandgate(Role),
    Dnsmasq {
        has_cache: bool,
    },
}

/// What the clients ask for, and the response code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Question {
    /// A name for each client, because dnsmasq asks the resolver once for equal questions in flight.
    Own,
    /// The name that has a virtual address.
    Virtual,
    /// A name that the policy denies.
    Denied,
}

const WAYS: [(Server, Question, &str, &str); 6] = [
    (Server::Resolver, Question::Own, "straight", "the resolver itself, without a proxy"),
    (Server::Dnsmasq { has_cache: false }, Question::Own, "dnsmasq", "dnsmasq without a cache"),
    (
        Server::Dnsmasq { has_cache: true },
        Question::Own,
        "dnsmasq_cache",
        "dnsmasq, from its cache",
    ),
    (
        Server::Sandgate(Role::Dns),
        Question::Own,
        "forwarded",
        "Sandgate, a name that the resolver is asked for",
    ),
    (
        Server::Sandgate(Role::Virtual),
        Question::Virtual,
        "virtual",
        "Sandgate, a name with a virtual address",
    ),
    (Server::Sandgate(Role::Virtual), Question::Denied, "denied", "Sandgate, a denied name"),
];

/// The number of ways, which take turns.
pub(crate) const NUMBER: usize = WAYS.len();

struct Row {
    question: Question,
    name: &'static str,
    title: &'static str,
    address: SocketAddr,
    /// `None` for the resolver, whose processor time is nobody's cost.
    process: Option<Process>,
    rate: Vec<f64>,
    micros: Vec<f64>,
    lost: u64,
}

pub(crate) async fn measure(effort: Effort, progress: &mut Progress) -> Result<Value> {
    let folder = tempfile::Builder::new().prefix("sandgate-bench-dns-").tempdir()?;
    let resolver = local()?;
    let log = folder.path().join("resolver.log");
    let _resolver = serve::start(&[], Role::Resolver, &[resolver], None, &log).await?;
    let (mut rows, mut missing) = (Vec::new(), Vec::new());
    for (server, question, name, title) in WAYS {
        let row = |address, process| Row {
            question,
            name,
            title,
            address,
            process,
            rate: Vec::new(),
            micros: Vec::new(),
            lost: 0,
        };
        let address = local()?;
        match server {
            Server::Resolver => rows.push(row(resolver, None)),
            Server::Sandgate(role) => {
                rows.push(row(
                    address,
                    Some(sandgate(role, name, address, resolver, &folder).await?),
                ));
            }
            Server::Dnsmasq { .. } if !has_dnsmasq() => {
                let why = "dnsmasq is not installed";
                missing.push(json!({ "name": name, "title": title, "missing": why }));
            }
            Server::Dnsmasq { has_cache } => {
                let process = dnsmasq(has_cache, name, address, resolver, &folder)?;
                rows.push(row(address, Some(process)));
            }
        }
    }
    for row in &rows {
        client::wait_until_answered(row.address, row.question).await?;
    }
    for round in 0..effort.rounds {
        let mut order: Vec<&mut Row> = rows.iter_mut().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for row in order {
            progress.step(row.title);
            row.round(effort).await?;
        }
    }
    let rows = rows.iter().map(|row| {
        json!({
            "name": row.name,
            "title": row.title,
            "rate": row.rate,
            "micros": row.micros,
            "lost": row.lost,
        })
    });
    let rows: Vec<Value> = rows.chain(missing).collect();
    Ok(json!({ "rounds": effort.rounds, "seconds": effort.time.as_secs_f64(), "ways": rows }))
}

impl Row {
    async fn round(&mut self, effort: Effort) -> Result<()> {
        let time = || self.process.as_ref().map(|it| machine::processor_time(it.id())).transpose();
        let before = time()?;
        let outcome = client::ask(self.address, self.question, effort.time).await?;
        let after = time()?;
        self.rate.push(outcome.answers as f64 / outcome.seconds);
        if let (Some(before), Some(after)) = (before, after) {
            self.micros.push((after - before) as f64 / 1e3 / outcome.answers as f64);
        }
        self.lost += outcome.lost;
        if let Some(process) = &mut self.process {
            process.require_running()?;
        }
        Ok(())
    }
}

fn local() -> Result<SocketAddr> {
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)))
}

/// Starts Sandgate's proxy on Envoy's core.
async fn sandgate(
    role: Role,
    name: &str,
    address: SocketAddr,
    resolver: SocketAddr,
    folder: &TempDir,
) -> Result<Process> {
    let prefix = proxy::pinning();
    let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
    let log = folder.path().join(format!("{name}.log"));
    serve::start(&prefix, role, &[address, resolver], None, &log).await
}

fn has_dnsmasq() -> bool {
    Command::new("dnsmasq").arg("--version").output().is_ok()
}

/// Starts dnsmasq on Envoy's core.
fn dnsmasq(
    has_cache: bool,
    name: &str,
    address: SocketAddr,
    resolver: SocketAddr,
    folder: &TempDir,
) -> Result<Process> {
    let mut command = proxy::pinned("dnsmasq");
    command
        .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"])
        .args(["--bind-interfaces", "--pid-file=", "--user=", "--listen-address=127.0.0.1"])
        .arg(format!("--port={}", address.port()))
        .arg(format!("--server={}#{}", resolver.ip(), resolver.port()))
        .arg(format!("--cache-size={}", if has_cache { 1_000 } else { 0 }));
    Process::start(name, &command, &folder.path().join(format!("{name}.log")))
}
