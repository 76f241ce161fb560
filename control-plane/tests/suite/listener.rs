//! The listener on a real socket: both HTTP versions, and clients that disconnect or stall.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sandgate::http::Listener;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::support::{TOKEN, World};

/// Serves the gateway API of `world` until the sender is dropped.
async fn listen(world: &World) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    listen_with(world, Listener::MAX_CONNECTIONS).await
}

pub(crate) async fn listen_with(
    world: &World,
    connections: usize,
) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let listener =
        Listener::bind("--gateway-listen", "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let listener = listener.max_connections(connections);
    let address = listener.address();
    let (stop, stopped) = oneshot::channel();
    let router = world.gateway.clone();
    let task = tokio::spawn(async move {
        listener.serve(router, async { drop(stopped.await) }).await;
    });
    (address, stop, task)
}

pub(crate) fn request(path: &str) -> Request<Body> {
    let request = Request::builder().uri(format!("http://gateway{path}"));
    let request =
        request.header("host", "gateway").header("authorization", format!("Bearer {TOKEN}"));
    request.body(Body::empty()).unwrap()
}

pub(crate) type H2 = hyper::client::conn::http2::SendRequest<Body>;

pub(crate) async fn http2(address: SocketAddr) -> (H2, tokio::task::JoinHandle<()>) {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let task = tokio::spawn(async move {
        let _ = connection.await;
    });
    (sender, task)
}

async fn json_of(response: axum::http::Response<hyper::body::Incoming>) -> Value {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_port_serves_both_http_versions() {
    let world = World::new();
    let id = world.create(json!({})).await;
    let (address, _stop, _task) = listen(&world).await;
    let path = format!("/gateway/v1/sandboxes/{id}");
    let (mut sender, _connection) = http2(address).await;
    let response = sender.send_request(request(&path)).await.unwrap();
    assert_eq!(response.headers()["x-sandgate-control-plane"], "v1");
    assert_eq!(json_of(response).await["id"], json!(id));
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request(&path)).await.unwrap();
    assert_eq!(json_of(response).await["id"], json!(id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_held_polls_on_one_connection_do_not_delay_a_lookup() {
    let world = World::new();
    let id = world.create(json!({})).await;
    let since = world.revision().await;
    let (address, _stop, _task) = listen(&world).await;
    let (sender, _connection) = http2(address).await;
    for number in 0..100 {
        let path = format!("/gateway/v1/changes?wait_ms=20000&since={since}&watcher=w{number}");
        let mut sender = sender.clone();
        tokio::spawn(async move { sender.send_request(request(&path)).await.map(drop) });
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    let path = format!("/gateway/v1/sandboxes/{id}");
    let response = sender.clone().send_request(request(&path)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_do_not_wait_for_a_gateway_whose_connection_broke() {
    let world = World::new();
    let id = world.create(json!({ "exposed_ports": [8080] })).await;
    let since = world.revision().await;
    let (address, _stop, _task) = listen(&world).await;
    let (mut sender, connection) = http2(address).await;
    let path = format!("/gateway/v1/changes?wait_ms=20000&since={since}&watcher=gone");
    let poll = tokio::spawn(async move { sender.send_request(request(&path)).await.map(drop) });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let patch = |ports: Value| {
        world.call("PATCH", format!("/sandboxes/{id}").leak(), json!({ "exposed_ports": ports }))
    };
    // The change ends the poll, but the watcher does not poll again and so does not confirm the change.
    let began = Instant::now();
    patch(json!([1])).await.ok();
    assert!(began.elapsed() >= Duration::from_millis(450), "{:?}", began.elapsed());
    connection.abort();
    poll.abort();
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let began = Instant::now();
    patch(json!([2])).await.ok();
    assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_a_request_finish_and_closes_the_port() {
    let world = World::new();
    let id = world.create_suspended(json!({ "name": "my-env" })).await;
    world.runtime.set_delay(Duration::from_millis(400));
    let (address, stop, task) = listen(&world).await;
    let (mut sender, _connection) = http2(address).await;
    let mut resume = request(&format!("/gateway/v1/sandboxes/{id}/resume"));
    *resume.method_mut() = axum::http::Method::POST;
    *resume.body_mut() = Body::from(json!({ "wait_ms": 5_000 }).to_string());
    let answer = tokio::spawn(async move { sender.send_request(resume).await.unwrap() });
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(stop);
    assert_eq!(json_of(answer.await.unwrap()).await["state"], "running");
    tokio::time::timeout(Duration::from_secs(4), task).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_are_refused_and_stalled_clients_do_not_block_others() {
    let world = World::new();
    let (address, _stop, _task) = listen(&world).await;
    let mut stalled = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /health").await.unwrap();
        stalled.push(stream);
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(5), read).await.unwrap().unwrap();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    let (mut sender, _connection) = http2(address).await;
    let response = sender.send_request(request("/healthz")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

/// Opens connections that occupy slots with the least effort.
async fn idlers(address: SocketAddr, count: usize, sent: &[u8]) -> Vec<TcpStream> {
    let mut idlers = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        idlers.push(stream);
    }
    idlers
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_closed_for_new_ones() {
    let world = World::new();
    let (address, _stop, _task) = listen_with(&world, 8).await;
    // Idle at the start, in the middle of a head, and between two requests.
    for sent in [&b""[..], b"GET /health", b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let _idlers = idlers(address, 20, sent).await;
        // Sooner than the idle timeout of any of them.
        let answered = tokio::time::timeout(Duration::from_secs(4), async {
            let (mut sender, _connection) = http2(address).await;
            sender.send_request(request("/healthz")).await.unwrap().status()
        });
        assert_eq!(answered.await.unwrap(), StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_with_a_request_in_flight_are_not_closed_for_new_ones() {
    let world = World::new();
    let since = world.revision().await;
    let (address, _stop, _task) = listen_with(&world, 4).await;
    let (mut sender, _connection) = http2(address).await;
    let path = format!("/gateway/v1/changes?wait_ms=20000&since={since}&watcher=held");
    let poll = tokio::spawn(async move { sender.send_request(request(&path)).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let _idlers = idlers(address, 20, b"GET /health").await;
    let (mut other, _other) = http2(address).await;
    assert_eq!(other.send_request(request("/healthz")).await.unwrap().status(), StatusCode::OK);
    let id = world.create(json!({})).await;
    let polled = json_of(poll.await.unwrap().unwrap()).await;
    assert!(polled["changes"].to_string().contains(&id), "{polled}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_request_times_out() {
    let world = World::new();
    let (address, _stop, _task) = listen(&world).await;
    for sent in [&b""[..], b"G", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut idle = idlers(address, 1, sent).await;
        let closed = async {
            let mut answer = Vec::new();
            // The connection is closed or reset.
            let _ = idle[0].read_to_end(&mut answer).await;
        };
        // Long before the idle timeout of one minute between two requests.
        tokio::time::timeout(Duration::from_secs(30), closed).await.unwrap();
    }
}
