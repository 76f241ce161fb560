//! Groups of edges: which resources a node gets.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use sandgate_xds::wire::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use sandgate_xds::{Kind, Snapshots, state};

use crate::client::{Client, first, open};
use crate::support::Server;

const COMMON: &str = "common.example.com";
const EUROPE: &str = "eu.example.com";

/// Two groups of edges, which have tokens and domains of their own. `seconds` is a value of the group `eu` alone.
fn snapshots(folder: &Path, seconds: u32) -> Snapshots {
    let write = |name: &str| {
        let file = folder.join(name);
        std::fs::write(&file, format!("token-of-{name}-0123456789\n")).unwrap();
        file.display().to_string()
    };
    let file = folder.join("state.yaml");
    let text = format!(
        "version: 1\nedge:\n  domain: {COMMON}\n  sandbox_network: 10.64.0.0/16\n  control_plane_address: control-plane\n  \
         gateway_token_file: {}\ngroups:\n  eu:\n    nodes: [\"eu-*\"]\n    edge:\n      domain: {EUROPE}\n      \
         gateway_token_file: {}\n      stream_idle_timeout_seconds: {seconds}\n",
        write("common"),
        write("eu"),
    );
    std::fs::write(&file, text).unwrap();
    state::load(&file).unwrap().snapshots
}

/// Opens the stream of a node that says that it belongs to Europe, wherever it does.
async fn connect(server: &Server, node: &str) -> Client {
    let token = server.keys.token(node).unwrap();
    let client = open(server, Some(&token)).await.unwrap();
    let claims = Node { id: node.to_owned(), cluster: "eu".to_owned(), ..Node::default() };
    let request = DeltaDiscoveryRequest { node: Some(claims), ..first(node) };
    client.requests.send(request).await.unwrap();
    client
}

/// Everything that a node can get, as text.
async fn everything(client: &mut Client, node: &str) -> String {
    client.responses.message().await.unwrap().unwrap();
    let mut text = String::new();
    for (kind, names) in [
        (Kind::Secret, vec!["gateway_token", "edge_certificate"]),
        (Kind::Extension, vec!["sandgate.ingress.wasm", "sandgate.ingress.native"]),
        (Kind::Listener, vec!["*"]),
        (Kind::Route, vec!["edge"]),
    ] {
        let request = DeltaDiscoveryRequest {
            type_url: kind.type_url(),
            resource_names_subscribe: names.into_iter().map(str::to_owned).collect(),
            ..first(node)
        };
        client.requests.send(request).await.unwrap();
        let response = client.responses.message().await.unwrap().unwrap();
        assert_eq!(response.type_url, kind.type_url());
        text += &String::from_utf8_lossy(&response.encode_to_vec());
    }
    text
}

#[tokio::test]
async fn a_node_gets_the_resources_of_its_group_and_none_of_another_whatever_it_claims() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(snapshots(folder.path(), 60), None).await;
    for (node, own, foreign) in [
        ("eu-1", [EUROPE, "token-of-eu-"], [COMMON, "token-of-common-"]),
        ("us-1", [COMMON, "token-of-common-"], [EUROPE, "token-of-eu-"]),
        // Not a name of the group.
        ("xeu-1", [COMMON, "token-of-common-"], [EUROPE, "token-of-eu-"]),
    ] {
        let mut client = connect(&server, node).await;
        let text = everything(&mut client, node).await;
        assert!(own.iter().all(|own| text.contains(own)), "{node}");
        assert!(!foreign.iter().any(|foreign| text.contains(foreign)), "{node}");
    }
}

#[tokio::test]
async fn a_change_of_one_group_is_sent_to_its_nodes_alone() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(snapshots(folder.path(), 60), None).await;
    let mut europe = connect(&server, "eu-1").await;
    let mut other = connect(&server, "us-1").await;
    everything(&mut europe, "eu-1").await;
    everything(&mut other, "us-1").await;
    let mut next = snapshots(folder.path(), 61);
    assert!(next.reuse(&server.snapshots.borrow()));
    server.snapshots.send_replace(Arc::new(next));
    let changed: DeltaDiscoveryResponse = europe.responses.message().await.unwrap().unwrap();
    assert_eq!(changed.type_url, Kind::Route.type_url());
    // What the other node receives next is the answer to its next request.
    let request = DeltaDiscoveryRequest {
        type_url: Kind::Secret.type_url(),
        resource_names_subscribe: vec!["gateway_token".to_owned()],
        ..first("us-1")
    };
    other.requests.send(request).await.unwrap();
    let next = tokio::time::timeout(Duration::from_secs(30), other.responses.message()).await;
    assert_eq!(next.unwrap().unwrap().unwrap().type_url, Kind::Secret.type_url());
}
