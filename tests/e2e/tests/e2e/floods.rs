//! Floods of incomplete requests to public ports: other clients are served.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use sandgate_demo::client::websocket::{self, Message, Socket};
use sandgate_e2e::{Call, Client, Connection, Protocol, Sandbox, Setup, Stack, run};
use sandgate_stack::wait::until;
use serde_json::json;

use crate::support::target;

/// Twenty requests in flight in each worker, of which sixteen may be anonymous.
fn setup() -> Setup {
    let limits = json!({ "requests_per_sandbox": 20, "anonymous_silence_ms": 3_000 });
    Setup { limits, ..Setup::default() }
}

const SOON: Duration = Duration::from_secs(20);

/// More connections than workers, so that each worker has several.
const CONNECTIONS: u8 = 16;

/// A client with its own address.
fn client(stack: &Stack, network: u8, host: u8) -> Client {
    stack.edge().from(IpAddr::V4(Ipv4Addr::new(127, 0, network, host)))
}

/// A request whose body never arrives.
fn without_body(client: Client, host: &str) -> Call {
    client.post(host, "/upload").stream(futures_util::stream::pending::<Bytes>())
}

/// Sends request heads without bodies, and keeps them open.
async fn hold(client: Client, host: &str, heads: usize) -> Result<Connection> {
    let connection = client.connect(Protocol::H2c).await?;
    for _ in 0..heads {
        let (mut shared, call) = (connection.share()?, without_body(client, host));
        tokio::spawn(async move { shared.open(call).await });
    }
    Ok(connection)
}

/// Sends request heads over several connections of one client.
async fn flood(client: Client, host: &str) -> Result<Vec<Connection>> {
    let mut all = Vec::new();
    for _ in 0..CONNECTIONS {
        all.push(hold(client, host, 40).await?);
    }
    Ok(all)
}

/// Sends `count` requests, each on its own connection. Returns the number of served ones; the others get a 429.
async fn served(count: usize, call: impl Fn() -> Call) -> Result<usize> {
    let mut served = 0;
    for _ in 0..count {
        let answer = call().send().await?;
        match answer.status.as_u16() {
            200 => served += 1,
            _ => ensure!(answer.denial()? == "429 TOO_MANY_REQUESTS", "{answer:?}"),
        }
    }
    Ok(served)
}

async fn public(stack: &Stack) -> Result<(Sandbox, String)> {
    let sandbox = stack.public_env().await?;
    let host = sandbox.host(8080);
    stack.edge().get(&host, "/health").send().await?.ok()?;
    Ok((sandbox, host))
}

async fn open_socket(stack: &Stack, sandbox: &Sandbox) -> Result<Socket> {
    Ok(websocket::open(&target(stack, &sandbox.host(3000), "/socket")?).await?.socket)
}

async fn echoes(socket: &mut Socket, text: &str) -> Result<()> {
    socket.send(Message::text(text)).await?;
    let echo = tokio::time::timeout(Duration::from_secs(5), socket.next()).await?;
    ensure!(echo.transpose()? == Some(Message::text(text)), "the socket is not open any more");
    Ok(())
}

#[test]
fn incomplete_requests_from_one_address_do_not_block_other_clients() {
    run(setup(), async |stack| {
        let (sandbox, host) = public(stack).await?;
        let mut quiet = open_socket(stack, &sandbox).await?;
        echoes(&mut quiet, "first").await?;
        let attacker = client(stack, 0, 2);
        let _attack = flood(attacker, &host).await?;
        // Each worker has reached its limit.
        until("a full port", SOON, async || {
            ensure!(served(8, || attacker.get(&host, "/health")).await? == 0, "there is room");
            Ok(Some(()))
        })
        .await?;

        let visitor = client(stack, 0, 3);
        assert_eq!(served(12, || visitor.get(&host, "/health")).await?, 12, "visitors");
        let key = stack.key();
        let owner = || visitor.get(&host, "/health").bearer(key);
        assert_eq!(served(12, owner).await?, 12, "the owner, on the public port");
        // Requests from the attacker's address are served too.
        let management = || attacker.get(&sandbox.management(), "/api/v1/health").bearer(key);
        assert_eq!(served(12, management).await?, 12, "the owner, on the management port");

        // The attack continues, and ends no stream of other clients.
        let _more = flood(attacker, &host).await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let _even_more = flood(attacker, &host).await?;
        assert_eq!(served(12, || visitor.get(&host, "/health")).await?, 12, "visitors, later");
        echoes(&mut quiet, "last").await
    });
}

#[test]
fn silent_requests_from_many_addresses_are_closed_and_active_streams_stay_open() {
    run(setup(), async |stack| {
        let (sandbox, host) = public(stack).await?;
        let mut busy = open_socket(stack, &sandbox).await?;
        let mut attack = Vec::new();
        for number in 1..=80 {
            attack.push(hold(client(stack, 1, number), &host, 1).await?);
        }
        let visitor = client(stack, 0, 3);
        until("room", SOON, async || {
            echoes(&mut busy, "again").await?;
            let served = served(8, || visitor.get(&host, "/health")).await?;
            ensure!(served == 8, "{served} of 8 were served");
            Ok(Some(()))
        })
        .await?;
        echoes(&mut busy, "last").await
    });
}
