//! What one client may take from the others, and from a server that stops.

use std::sync::Arc;
use std::time::Duration;

use sandgate_xds::server::Limits;
use sandgate_xds::session::{MAX_NAME, MAX_NAMES};
use sandgate_xds::wire::Any;
use sandgate_xds::{Kind, Resource, Snapshot, Version};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tonic::Code;

use crate::client::{Client, end_of, first, open, open_with_first};
use crate::support::{Server, issue};

/// The longest time that a test waits.
const PATIENCE: Duration = Duration::from_secs(60);

async fn silent(server: &Server) -> TcpStream {
    TcpStream::connect(("127.0.0.1", server.port)).await.unwrap()
}

/// Waits until the server has closed a connection.
async fn until_closed(mut connection: TcpStream) {
    let mut read = Vec::new();
    // A reset is an error.
    let _ = tokio::time::timeout(PATIENCE, connection.read_to_end(&mut read)).await.unwrap();
}

#[tokio::test]
async fn a_node_has_few_streams_and_leaves_the_others_theirs() {
    let limits = Limits { streams_per_node: 2, ..Limits::default() };
    let server = Server::start_with(Snapshot::default(), None, limits).await;
    let token = server.keys.token("edge-1").unwrap();
    let one = open(&server, Some(&token)).await.unwrap();
    let _two = open(&server, Some(&token)).await.unwrap();
    let status = open(&server, Some(&token)).await.err().unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let other = server.keys.token("edge-2").unwrap();
    open(&server, Some(&other)).await.unwrap();
    drop(one);
    for _ in 0..3_000 {
        if open(&server, Some(&token)).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the stream that ended is still counted");
}

#[tokio::test]
async fn a_connection_without_a_stream_ends_and_one_with_a_stream_stays() {
    let limits = Limits { idle: Duration::from_millis(50), ..Limits::default() };
    let server = Server::start_with(Snapshot::default(), None, limits).await;
    let mut client = open_with_first(&server, "edge-1").await;
    // Each of them waits for several checks of the first connection.
    for _ in 0..4 {
        until_closed(silent(&server).await).await;
    }
    let mut another = first("edge-1");
    another.type_url = Kind::Listener.type_url();
    client.requests.send(another).await.unwrap();
    client.responses.message().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_above_the_bound_is_closed_and_counted() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let server = Server::start_with(Snapshot::default(), None, limits).await;
    let _one = silent(&server).await;
    let _two = silent(&server).await;
    until_closed(silent(&server).await).await;
    let metrics = server.shared.nodes().metrics();
    assert!(metrics.contains("sandgate_xds_refused_connections_total 1\n"), "{metrics}");
}

#[tokio::test]
async fn a_handshake_that_does_not_begin_ends() {
    let folder = tempfile::tempdir().unwrap();
    issue(folder.path(), &["tls"]);
    // Nothing else ends the connection within the patience of the test.
    let limits =
        Limits { handshake: Duration::from_millis(50), idle: PATIENCE * 10, ..Limits::default() };
    let tls = Some(folder.path().to_owned());
    let server = Server::start_with(Snapshot::default(), tls, limits).await;
    until_closed(silent(&server).await).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_keep_the_server_from_stopping() {
    let limits = Limits { stop: Duration::from_millis(50), ..Limits::default() };
    let server = Server::start_with(Snapshot::default(), None, limits).await;
    let token = server.keys.token("edge-1").unwrap();
    let client = open(&server, Some(&token)).await.unwrap();
    // The response has the names, and is larger than what the client lets the server send.
    let mut request = first("edge-1");
    request.type_url = Kind::Secret.type_url();
    let width = MAX_NAME / 4;
    let names = (0..MAX_NAMES).map(|number| format!("{number:0>width$}"));
    request.resource_names_subscribe = names.collect();
    client.requests.send(request).await.unwrap();
    server.until("the response is sent", |node| node.connected).await;
    let shared = Arc::clone(&server.shared);
    for _ in 0..3_000 {
        if shared.nodes().metrics().contains("responses_total{kind=\"secret\"} 1\n") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.stopping.send(true).unwrap();
    tokio::time::timeout(PATIENCE, server.served).await.unwrap().unwrap();
    drop(client);
}

#[tokio::test]
async fn the_reason_of_an_end_reaches_a_client_that_reads() {
    let server = Server::start(Snapshot::default(), None).await;
    let mut client = open_with_first(&server, "edge-1").await;
    server.stopping.send(true).unwrap();
    assert_eq!(end_of(&mut client).await.code(), Code::Unavailable);
    tokio::time::timeout(PATIENCE, server.served).await.unwrap().unwrap();
}

/// A snapshot with a large extension.
fn large() -> Snapshot {
    let body = Any { type_url: Kind::Extension.type_url(), value: vec![0; 1 << 20].into() };
    let mut snapshot = Snapshot::default();
    let resource = Resource { version: Version("1".into()), body, references: Vec::new() };
    snapshot.insert(Kind::Extension, "filter", resource);
    snapshot
}

async fn ask_for_large(server: &Server, node: &str) -> Client {
    let token = server.keys.token(node).unwrap();
    let client = open(server, Some(&token)).await.unwrap();
    let mut request = first(node);
    request.type_url = Kind::Extension.type_url();
    request.resource_names_subscribe = vec!["filter".to_owned()];
    client.requests.send(request).await.unwrap();
    client
}

#[tokio::test]
async fn a_large_response_waits_until_another_client_has_answered_its_own() {
    let limits = Limits { large_responses: 1, ..Limits::default() };
    let server = Server::start_with(large(), None, limits).await;
    let mut one = ask_for_large(&server, "edge-1").await;
    let response = one.responses.message().await.unwrap().unwrap();
    let mut two = ask_for_large(&server, "edge-2").await;
    let early = tokio::time::timeout(Duration::from_millis(300), two.responses.message()).await;
    assert!(early.is_err());
    let mut answer = first("edge-1");
    answer.type_url = response.type_url;
    answer.response_nonce = response.nonce;
    one.requests.send(answer).await.unwrap();
    two.responses.message().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_answer_a_large_response_leaves_its_place_to_others() {
    let limits =
        Limits { large_responses: 1, unread: Duration::from_millis(500), ..Limits::default() };
    let server = Server::start_with(large(), None, limits).await;
    let mut one = ask_for_large(&server, "edge-1").await;
    one.responses.message().await.unwrap().unwrap();
    let mut two = ask_for_large(&server, "edge-2").await;
    assert_eq!(end_of(&mut one).await.code(), Code::DeadlineExceeded);
    two.responses.message().await.unwrap().unwrap();
}

/// The attack: a node opens several streams and answers none of their large responses, so that other nodes wait.
#[tokio::test]
async fn a_node_with_several_streams_has_one_place_for_large_responses() {
    let limits = Limits { large_responses: 2, ..Limits::default() };
    let server = Server::start_with(large(), None, limits).await;
    let mut former = ask_for_large(&server, "edge-1").await;
    former.responses.message().await.unwrap().unwrap();
    let mut newest = ask_for_large(&server, "edge-1").await;
    // An edge that has lost its connection does not wait for its own former stream.
    newest.responses.message().await.unwrap().unwrap();
    assert_eq!(end_of(&mut former).await.code(), Code::Unavailable);
    let mut other = ask_for_large(&server, "edge-2").await;
    let soon = tokio::time::timeout(Duration::from_secs(20), other.responses.message());
    soon.await.unwrap().unwrap().unwrap();
}
