//! Sidecars, of which there are as many as sandboxes, do not block edges.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::listener::{http2, listen_with, request};
use super::network_policy::{ask, path, sidecar_token};
use super::support::{Answer, World, send};

/// A generous timeout: the tested operations take milliseconds, or never end.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A sandbox, its sidecar's token, and the path of a long poll.
struct Followed {
    token: String,
    held: String,
}

async fn followed(world: &World) -> Followed {
    let id = world.create(json!({})).await;
    let token = sidecar_token(world, &id);
    let now = ask(world, &token, &path(&id)).await.ok();
    let since = now["revision"].as_str().unwrap();
    Followed { held: format!("{}?since={since}&wait_ms=60000", path(&id)), token }
}

/// Connects as a sidecar, and sends a long poll.
async fn polling(address: SocketAddr, sidecar: &Followed) -> TcpStream {
    let Followed { token, held } = sidecar;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let call =
        format!("GET {held} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(call.as_bytes()).await.unwrap();
    stream
}

/// Waits for the first bytes of a response.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = [0; 4_096];
    let read = tokio::time::timeout(TIMEOUT, stream.read(&mut bytes)).await.expect("no answer");
    String::from_utf8_lossy(&bytes[..read.unwrap()]).into_owned()
}

/// The attack: code in many sandboxes, or faulty sidecars, use all connections of the gateway API, so that no edge is
/// served, and the whole deployment fails closed.
#[tokio::test(flavor = "multi_thread")]
async fn edges_are_served_while_sidecars_use_all_their_connections() {
    let world = World::with_sidecars();
    let id = world.create(json!({})).await;
    let (address, _stop, _task) = listen_with(&world, 4).await;
    let mut held = Vec::new();
    for _ in 0..World::SIDECARS {
        held.push(polling(address, &followed(&world).await).await);
    }
    // More connections than all slots. A refused connection gets a response, and does not occupy a slot.
    let one_too_many = followed(&world).await;
    for _ in 0..8 {
        let refused = answer(&mut polling(address, &one_too_many).await).await;
        assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("OVERLOADED"), "{refused}");
    }
    let lookup = async {
        let (mut sender, _connection) = http2(address).await;
        let path = format!("/gateway/v1/sandboxes/{id}");
        sender.send_request(request(&path)).await.unwrap().status()
    };
    let status = tokio::time::timeout(TIMEOUT, lookup).await.expect("an edge waits for sidecars");
    assert_eq!(status, 200);
    // The existing long polls are still held.
    for stream in &mut held {
        let nothing = tokio::time::timeout(Duration::from_millis(10), stream.read(&mut [0])).await;
        assert!(nothing.is_err(), "{nothing:?}");
    }
    // A sidecar that disconnects frees its slot.
    drop(held.pop());
    let waiting = async {
        loop {
            let mut stream = polling(address, &one_too_many).await;
            let wait = Duration::from_millis(200);
            if tokio::time::timeout(wait, stream.read(&mut [0])).await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(TIMEOUT, waiting).await.expect("the place is not free again");
}

/// A call of a sidecar, directly to the router.
fn call(world: &World, sidecar: &Followed) -> impl Future<Output = Answer> + Send + 'static {
    let (gateway, held) = (world.gateway.clone(), sidecar.held.clone());
    let authorization = format!("Bearer {}", sidecar.token);
    async move {
        let headers = [("authorization", authorization.as_str())];
        send(&gateway, "GET", &held, &headers, Value::Null).await
    }
}

/// The first response of calls, of which all but one are held.
async fn the_one_that_is_not_held(calls: &mut JoinSet<Answer>) -> Answer {
    let first = tokio::time::timeout(TIMEOUT, calls.join_next()).await.expect("all are held");
    first.unwrap().unwrap()
}

#[tokio::test]
async fn calls_of_sidecars_have_their_own_limit_on_every_connection() {
    let world = World::with_sidecars();
    let mut sidecars = Vec::new();
    for _ in 0..=World::SIDECAR_CALLS {
        sidecars.push(followed(&world).await);
    }
    let mut calls: JoinSet<_> = sidecars.iter().map(|sidecar| call(&world, sidecar)).collect();
    the_one_that_is_not_held(&mut calls).await.refused(503, "OVERLOADED");
    world.call_gateway("GET", "/gateway/v1/changes", Value::Null).await.ok();
    assert!(calls.try_join_next().is_none());
}

#[tokio::test]
async fn sidecars_of_one_sandbox_do_not_block_those_of_another() {
    let world = World::with_sidecars();
    let (mine, other) = (followed(&world).await, followed(&world).await);
    let calls = (0..=World::EACH_SANDBOX).map(|_| call(&world, &mine));
    let mut calls: JoinSet<_> = calls.collect();
    let refused = the_one_that_is_not_held(&mut calls).await;
    let error = refused.refused(429, "TOO_MANY_REQUESTS");
    assert!(error.contains("the sandbox has 2 requests"), "{error}");
    // Calls with a wrong token that name another sandbox do not count toward that sandbox's limit.
    for _ in 0..3 {
        ask(&world, &mine.token, &other.held).await.refused(401, "UNAUTHENTICATED");
    }
    let other = Followed { held: other.held.replace("wait_ms=60000", "wait_ms=1"), ..other };
    call(&world, &other).await.ok();
    assert!(calls.try_join_next().is_none());
}
