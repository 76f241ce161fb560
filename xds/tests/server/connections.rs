//! Who may open a stream, and how large a request may be.

use std::time::Duration;

use sandgate_xds::keys::NodeKeys;
use sandgate_xds::server::MAX_REQUEST;
use sandgate_xds::session::MAX_NAMES;
use sandgate_xds::wire::{BuildVersion, SemanticVersion};
use sandgate_xds::{Kind, Snapshot};
use tonic::Code;

use crate::client::{end_of, first, open, open_with_first};
use crate::support::Server;

#[tokio::test]
async fn a_stream_without_a_valid_token_is_refused_before_its_first_message() {
    let server = Server::start(Snapshot::default(), None).await;
    let other = server.keys.token("edge-1").unwrap().replace("edge-1", "edge-2");
    for token in [None, Some("gateway-token-0123456789"), Some(other.as_str())] {
        let status = open(&server, token).await.err().unwrap();
        assert_eq!(status.code(), Code::Unauthenticated);
    }
    assert!(server.shared.nodes().metrics().contains("sandgate_xds_denied_total 3\n"));
    assert!(server.shared.nodes().list().is_empty());
}

#[tokio::test]
async fn a_credential_is_valid_for_its_own_node_alone() {
    let server = Server::start(Snapshot::default(), None).await;
    let token = server.keys.token("edge-1").unwrap();
    let mut client = open(&server, Some(&token)).await.unwrap();
    client.requests.send(first("edge-2")).await.unwrap();
    assert_eq!(end_of(&mut client).await.code(), Code::PermissionDenied);
    // Nor may a stream change its node later.
    let mut client = open(&server, Some(&token)).await.unwrap();
    client.requests.send(first("edge-1")).await.unwrap();
    client.responses.message().await.unwrap().unwrap();
    client.requests.send(first("edge-2")).await.unwrap();
    assert_eq!(end_of(&mut client).await.code(), Code::PermissionDenied);
    let nodes = server.shared.nodes().list();
    assert_eq!(nodes.iter().map(|node| node.node.as_str()).collect::<Vec<_>>(), ["edge-1"]);
}

#[tokio::test]
async fn an_envoy_that_is_too_old_is_refused_with_the_reason() {
    let server = Server::start(Snapshot::default(), None).await;
    let token = server.keys.token("edge-1").unwrap();
    let of_minor = |minor_number| {
        let version = SemanticVersion { major_number: 1, minor_number, patch: 3 };
        let mut request = first("edge-1");
        if let Some(node) = &mut request.node {
            node.user_agent_name = "envoy".to_owned();
            node.user_agent_build_version = Some(BuildVersion { version: Some(version) });
        }
        request
    };
    let mut client = open(&server, Some(&token)).await.unwrap();
    client.requests.send(of_minor(38)).await.unwrap();
    let status = end_of(&mut client).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().starts_with("Envoy 1.38.3 is too old: "), "{}", status.message());
    assert!(server.shared.nodes().list().is_empty());
    let mut client = open(&server, Some(&token)).await.unwrap();
    client.requests.send(of_minor(39)).await.unwrap();
    client.responses.message().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_lists_as_many_resources_as_a_client_may_have_is_read() {
    let server = Server::start(Snapshot::default(), None).await;
    let token = server.keys.token("edge-1").unwrap();
    let mut client = open(&server, Some(&token)).await.unwrap();
    let mut request = first("edge-1");
    for number in 0..MAX_NAMES {
        let name = format!("{number:0>168}");
        request
            .initial_resource_versions
            .insert(name, "0123456789abcdef0123456789abcdef".to_owned());
    }
    assert!(prost::Message::encoded_len(&request) > 800 << 10);
    client.requests.send(request).await.unwrap();
    // The answer to the subscription, then the removals.
    let response = client.responses.message().await.unwrap().unwrap();
    assert!(response.resources.is_empty());
    let next = tokio::time::timeout(Duration::from_secs(60), client.responses.message());
    let removals = next.await.unwrap().unwrap().unwrap();
    assert_eq!(removals.removed_resources.len(), MAX_NAMES);
}

#[tokio::test]
async fn a_client_that_exceeds_a_bound_loses_its_stream() {
    let server = Server::start(Snapshot::default(), None).await;
    let token = server.keys.token("edge-1").unwrap();
    // More names than a client may have.
    let mut client = open(&server, Some(&token)).await.unwrap();
    let mut request = first("edge-1");
    request.resource_names_subscribe = (0..=MAX_NAMES).map(|number| number.to_string()).collect();
    client.requests.send(request).await.unwrap();
    assert_eq!(end_of(&mut client).await.code(), Code::ResourceExhausted);
    // A request above the limit, which is not decoded.
    let mut client = open(&server, Some(&token)).await.unwrap();
    let mut request = first("edge-1");
    request.resource_names_subscribe = vec![String::new(); MAX_REQUEST / 2];
    client.requests.send(request).await.unwrap();
    assert_eq!(end_of(&mut client).await.code(), Code::OutOfRange);
    // Requests that are never answered.
    let mut client = open(&server, Some(&token)).await.unwrap();
    let requests = client.requests.clone();
    tokio::spawn(async move {
        let mut request = first("edge-1");
        request.type_url = Kind::Secret.type_url();
        request.resource_names_subscribe = (0..1_000).map(|number| number.to_string()).collect();
        while requests.send(request.clone()).await.is_ok() {}
    });
    assert_eq!(end_of(&mut client).await.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn a_stream_ends_when_the_key_of_its_token_is_removed_and_no_earlier() {
    let server = Server::start(Snapshot::default(), None).await;
    let file = server.folder.path().join("key");
    let old = std::fs::read_to_string(&file).unwrap();
    let new = old.replace('0', "f");
    let next = server.folder.path().join("next");
    std::fs::write(&next, &new).unwrap();
    let tokens = [&server.keys, &NodeKeys::from_file(&next).unwrap()];
    let tokens = tokens.map(|keys| keys.token("edge-1").unwrap());
    tokio::spawn(server.keys.clone().follow(file.clone()));
    let mut before = open(&server, Some(&tokens[0])).await.unwrap();
    before.requests.send(first("edge-1")).await.unwrap();
    before.responses.message().await.unwrap().unwrap();
    std::fs::write(&file, format!("{new}{old}")).unwrap();
    let mut after = loop {
        match open(&server, Some(&tokens[1])).await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    for client in [&mut before, &mut after] {
        let mut request = first("edge-1");
        request.type_url = Kind::Listener.type_url();
        client.requests.send(request).await.unwrap();
        client.responses.message().await.unwrap().unwrap();
    }
    std::fs::write(&file, &new).unwrap();
    assert_eq!(end_of(&mut before).await.code(), Code::Unauthenticated);
    after.requests.send(first("edge-1")).await.unwrap();
    after.responses.message().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_of_the_server_ends_its_streams() {
    let server = Server::start(Snapshot::default(), None).await;
    let mut client = open_with_first(&server, "edge-1").await;
    server.stopping.send(true).unwrap();
    assert_eq!(end_of(&mut client).await.code(), Code::Unavailable);
    server.until("the node is gone", |node| !node.connected).await;
}
