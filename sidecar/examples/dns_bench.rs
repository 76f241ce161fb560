//! Measures the DNS proxy against asking the same resolver directly, in one run: what counts is the
//! ratio, since both share the machine with the resolver and the clients.
//!
//! The proxy has a thread of its own, as in the agent; clients and resolver share others. One at a time,
//! most of what it shows is therefore how long the machine takes to wake a thread. With many, it is how many
//! questions one thread gets through: half of its time goes into sending, a fifth into a socket for each
//! question, which is what makes the source port random.
//!
//! ```text
//! cargo run --release -p sandgate-sidecar --example dns_bench [seconds]
//! ```

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation ends the measurement"
)]

#[path = "../tests/dns/authority.rs"]
#[expect(dead_code, reason = "a bench needs a part of the tests' resolver")]
mod authority;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::RecordType;
use sandgate_policy::egress::{NetworkPolicy, OperatorSettings, Policy, VirtualMeaning};
use sandgate_sidecar::dns::{Generation, Limits, Listen, Proxy, Role};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

const ROUNDS: u32 = 3;
const ALLOWS: &str = r#"{"allow_internet_access":false,"allow_out":["ok.test"]}"#;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let seconds: u64 = std::env::args().nth(1).map_or(Ok(2), |text| text.parse())?;
    let local: SocketAddr = "127.0.0.1:0".parse()?;
    let zone = "ok.test. 60 A 203.0.113.10";
    let resolver = authority::Authority::start(local, zone, Default::default()).await;
    let listen = Listen { address: local, role: Role::Sandbox, transparent: false };
    let (tell, told) = std::sync::mpsc::channel();
    // As in the agent: on one thread of its own.
    std::thread::Builder::new().name("dns-proxy".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (proxy, server) =
                Proxy::bind(&[listen], vec![resolver.address], Limits::default())?;
            tell.send((proxy, server.addresses()[0]))?;
            server.run(CancellationToken::new()).await;
            anyhow::Ok(())
        })
    })?;
    let (proxy, address) = told.recv()?;

    println!("{:<44} {:>10} {:>12} {:>8}", "", "answers/s", "latency (us)", "ratio");
    for clients in [1, 64] {
        let mut base = None;
        for (what, policy, to, name) in [
            ("the resolver itself", "{}", resolver.address, "ok.test."),
            ("forwarded, policy without rules", "{}", address, "ok.test."),
            ("virtual address", ALLOWS, address, "ok.test."),
            ("refused", ALLOWS, address, "other.test."),
        ] {
            proxy.set(generation(policy)?);
            let mut best = (0.0, f64::MAX);
            for _ in 0..ROUNDS {
                let (rate, latency) =
                    measure(to, name, clients, Duration::from_secs(seconds)).await?;
                best = (f64::max(best.0, rate), f64::min(best.1, latency));
            }
            let base = *base.get_or_insert(best.0);
            let what = format!("{what}, {clients} at a time");
            println!("{what:<44} {:>10.0} {:>12.0} {:>8.2}", best.0, best.1, best.0 / base);
        }
    }
    Ok(())
}

/// Answers a second, and the mean time of one in microseconds.
async fn measure(
    to: SocketAddr,
    name: &str,
    clients: usize,
    time: Duration,
) -> anyhow::Result<(f64, f64)> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(authority::name(name), RecordType::A));
    let wire = Arc::new(message.to_vec()?);
    let began = Instant::now();
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..clients {
        let wire = Arc::clone(&wire);
        asking.spawn(async move {
            let socket = UdpSocket::bind("127.0.0.1:0").await?;
            socket.connect(to).await?;
            let (mut count, mut buffer) = (0_u32, [0; 1500]);
            while began.elapsed() < time {
                socket.send(&wire).await?;
                socket.recv(&mut buffer).await?;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut count = 0;
    while let Some(one) = asking.join_next().await {
        count += one??;
    }
    let rate = f64::from(count) / began.elapsed().as_secs_f64();
    Ok((rate, 1e6 * clients as f64 / rate))
}

fn generation(policy: &str) -> anyhow::Result<Generation> {
    let policy: NetworkPolicy = serde_json::from_str(policy)?;
    let operator: OperatorSettings = serde_json::from_str(r#"{"also_global":["203.0.113.0/24"]}"#)?;
    let table = [("198.18.0.10".parse()?, VirtualMeaning::try_from("ok.test".to_owned())?)];
    Ok(Generation::new(1, Arc::new(Policy::new(&policy, &operator)), None, table))
}
