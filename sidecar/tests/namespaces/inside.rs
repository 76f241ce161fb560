//! The roles of this program inside a namespace.

use std::io::BufRead;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use sandgate_policy::egress::{NetworkPolicy, OperatorSettings, Policy, VirtualMeaning};
use sandgate_sidecar::dns::{Generation, Limits, Listen, Proxy, Role};
use tokio_util::sync::CancellationToken;

use crate::authority::{Authority, Behaviour};

/// The zone of both resolvers. `who.test` contains the resolver's label.
const ZONE: &str = include_str!("../dns/zone.txt");
/// The port to which nftables redirects DNS, and the proxy's addresses in each mode.
pub(crate) const PORT: u16 = 15053;
pub(crate) const GATEWAY: [&str; 2] = ["0.0.0.0", "::"];
pub(crate) const SHARED: [&str; 2] = ["127.0.0.1", "::1"];

/// The proxy. Each line of its input is a policy. It prints the policy's number when the policy is in force.
pub(crate) fn proxy(resolver: &str, listen: &[&str], transparent: bool) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let listen: Vec<_> = listen
        .iter()
        .map(|ip| Listen {
            address: SocketAddr::new(ip.parse().expect("an address"), PORT),
            role: Role::Sandbox,
            transparent,
        })
        .collect();
    let resolver: SocketAddr = resolver.parse().expect("an address");
    let (proxy, server) =
        Proxy::bind(&listen, vec![resolver], Limits::default()).expect("transparent sockets");
    runtime.spawn(server.run(CancellationToken::new()));
    for (line, number) in std::io::stdin().lock().lines().zip(1..) {
        proxy.set(generation(number, &line.expect("a line")));
        println!("{number}");
    }
    ExitCode::SUCCESS
}

/// A resolver on the internet.
pub(crate) fn resolver(label: &str, addresses: &[&str]) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let zone = format!("{ZONE}who.test. 1 TXT {label}\n");
    let mut running = Vec::new();
    for address in addresses {
        let address: SocketAddr = address.parse().expect("an address");
        let behaviour = Behaviour::default();
        running.push(runtime.block_on(Authority::start(address, &zone, behaviour)));
    }
    println!("ready");
    // Runs until the test closes the pipe.
    std::io::stdin().lock().lines().for_each(drop);
    ExitCode::SUCCESS
}

fn generation(number: u64, policy: &str) -> Generation {
    let policy: NetworkPolicy = serde_json::from_str(policy).expect("a policy");
    let operator = r#"{"also_global":["203.0.113.0/24","198.51.100.0/24","2001:db8::/32"]}"#;
    let operator: OperatorSettings = serde_json::from_str(operator).expect("an operator");
    let policy = Arc::new(Policy::new(&policy, &operator));
    let table =
        [("198.18.0.10", "ok.test"), ("fd53:6700::10", "ok.test"), ("198.18.0.11", "v4.test")];
    let table = table.map(|(address, name)| {
        let name = VirtualMeaning::try_from(name.to_owned()).expect("a name");
        (address.parse().expect("an address"), name)
    });
    Generation::new(number, policy, None, table)
}
