//! The resolver, and Sandgate's proxy in front of it. Each is a process of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use sandgate_policy::egress::{NetworkPolicy, OperatorSettings, Policy, VirtualMeaning};
use sandgate_sidecar::dns::{Generation, Limits, Listen, Proxy, Role as Listener};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

/// The end of the names that the proxy forwards, the name with a virtual address, and a denied name.
pub(super) const FORWARDED: &str = "forwarded.test";
pub(super) const VIRTUAL: &str = "virtual.test";
pub(super) const DENIED: &str = "denied.test";

/// The answer to each question: the name of the question, A, IN, 60 s, 203.0.113.10.
const ANSWER: [u8; 16] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 10];

/// Answers each question with the same address.
pub(crate) async fn resolve(address: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(address).await?;
    println!("ready");
    let mut buffer = [0; 1500];
    loop {
        let (length, client) = socket.recv_from(&mut buffer).await?;
        let Some(answer) = buffer.get(..length).and_then(answer) else { continue };
        // The next question matters more than a client that has gone.
        drop(socket.send_to(&answer, client).await);
    }
}

fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let (header, rest) = query.split_at_checked(12)?;
    // The question: labels up to an empty one, a type and a class.
    let end = rest.iter().position(|byte| *byte == 0)? + 5;
    let question = rest.get(..end)?;
    let id = header.get(..2)?;
    Some([id, &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0], question, &ANSWER].concat())
}

/// Runs Sandgate's proxy, with a policy that has no rules or with one that allows one name.
pub(crate) async fn serve_proxy(addresses: &[SocketAddr], has_rules: bool) -> Result<()> {
    let [address, resolver] = addresses else {
        anyhow::bail!("the proxy takes its own address and that of the resolver");
    };
    let listen = Listen { address: *address, role: Listener::Sandbox, transparent: false };
    let (proxy, server) = Proxy::bind(&[listen], vec![*resolver], Limits::default())?;
    let policy = match has_rules {
        false => "{}".to_owned(),
        true => format!(r#"{{"allow_internet_access":false,"allow_out":["{VIRTUAL}"]}}"#),
    };
    let policy: NetworkPolicy = serde_json::from_str(&policy)?;
    let operator: OperatorSettings = serde_json::from_str(r#"{"also_global":["203.0.113.0/24"]}"#)?;
    let meaning = VirtualMeaning::try_from(VIRTUAL.to_owned()).ok().context("a name")?;
    let table = [("198.18.0.10".parse()?, meaning)];
    proxy.set(Generation::new(1, Arc::new(Policy::new(&policy, &operator)), None, table));
    println!("ready");
    server.run(CancellationToken::new()).await;
    Ok(())
}
