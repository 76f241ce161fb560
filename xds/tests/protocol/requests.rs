//! What the protocol says about requests.

use sandgate_xds::Kind::{Cluster, Endpoints, Listener, Route};

use crate::client::{Client, request, snapshot};

#[test]
fn a_first_request_without_names_is_for_all_clusters_or_listeners_and_for_no_routes() {
    let mut client = Client::connect(snapshot(&[(Cluster, "a", "1"), (Route, "r", "1")]));
    client.send(request(Route));
    assert!(client.settle().is_empty());
    client.subscribe_to_all(Cluster);
    assert_eq!(client.settle(), ["+cluster a 1"]);
}

#[test]
fn a_first_request_for_all_is_answered_even_if_there_are_none() {
    let mut client = Client::connect(snapshot(&[]));
    client.subscribe_to_all(Listener);
    let response = client.queue.front().unwrap();
    assert!(response.resources.is_empty() && response.removed_resources.is_empty());
    client.settle();
}

#[test]
fn after_names_were_dropped_an_empty_request_is_not_for_all() {
    let mut client = Client::connect(snapshot(&[(Cluster, "a", "1"), (Cluster, "b", "1")]));
    client.subscribe(Cluster, "a");
    client.unsubscribe(Cluster, "a");
    client.settle();
    client.send(request(Cluster));
    assert!(client.settle().is_empty());
}

#[test]
fn dropping_the_wildcard_keeps_the_names_that_were_subscribed_to() {
    let mut client = Client::connect(snapshot(&[(Cluster, "a", "1"), (Cluster, "b", "1")]));
    client.subscribe_to_all(Cluster);
    client.subscribe(Cluster, "a");
    client.settle();
    client.unsubscribe(Cluster, "*");
    client.wants.entry(Cluster).or_default().all = false;
    client.publish(snapshot(&[(Cluster, "a", "2"), (Cluster, "b", "2")]));
    assert_eq!(client.settle(), ["+cluster a 2"]);
}

#[test]
fn a_client_of_all_that_drops_a_name_learns_whether_it_exists() {
    let mut client = Client::connect(snapshot(&[(Cluster, "a", "1")]));
    client.subscribe_to_all(Cluster);
    client.subscribe(Cluster, "a");
    client.subscribe(Cluster, "b");
    client.settle();
    client.unsubscribe(Cluster, "a");
    assert_eq!(client.settle(), ["+cluster a 1"]);
    client.unsubscribe(Cluster, "b");
    assert_eq!(client.settle(), ["-cluster b"]);
}

#[test]
fn subscribing_again_sends_the_resource_again() {
    let mut client = Client::connect(snapshot(&[(Endpoints, "a", "1")]));
    client.subscribe(Endpoints, "a");
    client.settle();
    client.subscribe(Endpoints, "a");
    assert_eq!(client.settle(), ["+endpoints a 1"]);
    client.subscribe(Endpoints, "b");
    client.settle();
    client.subscribe(Endpoints, "b");
    assert_eq!(client.settle(), ["-endpoints b"]);
}

#[test]
fn nothing_is_sent_for_a_name_after_it_was_dropped() {
    let mut client = Client::connect(snapshot(&[(Route, "a", "1")]));
    client.subscribe(Route, "a");
    client.unsubscribe(Route, "a");
    client.settle();
    client.publish(snapshot(&[(Route, "a", "2")]));
    assert!(client.settle().is_empty());
}

#[test]
fn a_kind_that_the_server_does_not_know_has_no_response() {
    let mut client = Client::connect(snapshot(&[(Route, "a", "1")]));
    let mut other = request(Route);
    other.type_url = "type.googleapis.com/envoy.service.runtime.v3.Runtime".to_owned();
    client.send(other);
    assert!(client.queue.is_empty());
}
