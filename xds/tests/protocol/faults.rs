//! Faults that other servers had. `tests/server` has those that need a connection, and `tests/envoy` those that need Envoy.

use sandgate_xds::Kind::{Cluster, Endpoints, Extension, Listener, Route, Secret};
use sandgate_xds::session::{MAX_REASON, REMOVAL_DELAY};

use crate::client::{Client, request, snapshot};

#[test]
fn what_was_deleted_while_the_client_was_away_is_removed_when_it_reconnects() {
    let mut client = Client::connect(snapshot(&[(Cluster, "a", "1"), (Cluster, "b", "1")]));
    client.subscribe_to_all(Cluster);
    client.subscribe_to_all(Listener);
    client.settle();
    client.reconnect(snapshot(&[(Cluster, "a", "1")]));
    // The client may still ask for listeners and routes, whose former version names the cluster.
    assert!(client.settle().is_empty());
    client.wait(REMOVAL_DELAY);
    assert_eq!(client.settle(), ["-cluster b"]);
}

#[test]
fn a_restarted_server_with_other_content_sends_it() {
    let mut client = Client::connect(snapshot(&[(Cluster, "a", "old"), (Listener, "l", "1")]));
    client.subscribe_to_all(Cluster);
    client.subscribe_to_all(Listener);
    client.settle();
    client.reconnect(snapshot(&[(Cluster, "a", "new"), (Listener, "l", "1")]));
    assert_eq!(client.settle(), ["+cluster a new"]);
}

#[test]
fn endpoints_that_are_asked_for_before_their_cluster_exists_arrive_with_it() {
    let mut client = Client::connect(snapshot(&[]));
    client.subscribe_to_all(Cluster);
    client.subscribe(Endpoints, "a");
    assert_eq!(client.settle(), ["-endpoints a"]);
    client.publish(snapshot(&[(Cluster, "a", "1"), (Endpoints, "a", "1")]));
    assert_eq!(client.settle(), ["+cluster a 1", "+endpoints a 1"]);
}

#[test]
fn a_cluster_that_is_announced_again_gets_its_endpoints_again() {
    let mut client = Client::connect(snapshot(&[(Cluster, "a", "1"), (Endpoints, "a", "1")]));
    client.subscribe_to_all(Cluster);
    client.subscribe(Endpoints, "a");
    client.settle();
    client.publish(snapshot(&[(Cluster, "a", "2"), (Endpoints, "a", "1")]));
    assert_eq!(client.settle(), ["+cluster a 2", "+endpoints a 1"]);
    // A client that reconnects says that it has the endpoints, and may wait for them all the same.
    client.reconnect(snapshot(&[(Cluster, "a", "2"), (Endpoints, "a", "1")]));
    assert_eq!(client.settle(), ["+endpoints a 1"]);
}

#[test]
fn a_filter_and_a_secret_are_never_removed_while_a_listener_may_use_them() {
    let full = [(Listener, "l", "1"), (Extension, "f", "1"), (Secret, "s", "1")];
    let mut client = Client::connect(snapshot(&full));
    client.subscribe_to_all(Listener);
    client.subscribe(Extension, "f");
    client.subscribe(Secret, "s");
    client.settle();
    client.publish(snapshot(&[]));
    assert_eq!(client.settle(), ["-listener l"]);
    // The listener drains for minutes.
    client.wait(REMOVAL_DELAY * 100);
    assert!(client.settle().is_empty());
    client.reconnect(snapshot(&[]));
    client.wait(REMOVAL_DELAY * 100);
    assert!(client.settle().is_empty());
    assert_eq!(client.content(Extension, "f"), Some("1"));
    client.unsubscribe(Extension, "f");
    assert!(client.settle().is_empty());
}

#[test]
fn every_resource_carries_its_name_and_version() {
    let full = [(Listener, "l", "1"), (Extension, "f", "2"), (Secret, "s", "3"), (Route, "r", "4")];
    let mut client = Client::connect(snapshot(&full));
    client.subscribe_to_all(Listener);
    for (kind, name) in [(Extension, "f"), (Secret, "s"), (Route, "r")] {
        client.subscribe(kind, name);
    }
    let mut seen = 0;
    for response in &client.queue {
        assert!(!response.nonce.is_empty());
        for resource in &response.resources {
            assert!(!resource.name.is_empty() && !resource.version.is_empty());
            assert_eq!(resource.resource.as_ref().unwrap().type_url, response.type_url);
            seen += 1;
        }
    }
    assert_eq!(seen, 4);
}

#[test]
fn a_resource_that_is_created_after_its_absence_was_reported_arrives() {
    let mut client = Client::connect(snapshot(&[]));
    client.subscribe(Route, "edge");
    assert_eq!(client.settle(), ["-route edge"]);
    client.publish(snapshot(&[(Route, "edge", "1")]));
    assert_eq!(client.settle(), ["+route edge 1"]);
}

#[test]
fn one_bad_resource_does_not_stop_the_others_and_the_status_names_it() {
    let full = [(Cluster, "a", "1"), (Cluster, "b", "bad"), (Cluster, "c", "1")];
    let mut client = Client::connect(snapshot(&full));
    client.subscribe_to_all(Cluster);
    client.subscribe_to_all(Listener);
    client.settle();
    assert_eq!(client.content(Cluster, "a"), Some("1"));
    assert_eq!(client.content(Cluster, "c"), Some("1"));
    let status = client.session.status();
    let rejected = status[&Cluster].rejected.keys().collect::<Vec<_>>();
    assert_eq!(rejected, ["b"]);
    assert_eq!(client.session.pending(), 1);
    // Another change passes.
    client.publish(snapshot(&[(Cluster, "a", "2"), (Cluster, "b", "bad"), (Cluster, "c", "1")]));
    assert_eq!(client.settle(), ["+cluster a 2"]);
}

#[test]
fn a_resource_that_was_bad_and_is_mended_recovers_and_the_status_shows_both() {
    let mut client = Client::connect(snapshot(&[(Route, "edge", "1")]));
    client.subscribe(Route, "edge");
    client.settle();
    client.publish(snapshot(&[(Route, "edge", "bad")]));
    // It is not sent again and again.
    assert_eq!(client.settle(), ["+route edge bad"]);
    client.wait(REMOVAL_DELAY);
    assert!(client.settle().is_empty());
    let status = client.session.status();
    assert_eq!(status[&Route].rejected["edge"].reason.as_ref(), "bad: [\"edge\"]");
    assert_eq!(status[&Route].accepted["edge"].0.as_ref(), "1");
    client.publish(snapshot(&[(Route, "edge", "2")]));
    assert_eq!(client.settle(), ["+route edge 2"]);
    assert!(client.session.status()[&Route].rejected.is_empty());
    assert_eq!(client.session.pending(), 0);
    // The former content is another change, and not what the client has.
    client.publish(snapshot(&[(Route, "edge", "bad")]));
    client.publish(snapshot(&[(Route, "edge", "2")]));
    assert_eq!(client.settle(), ["+route edge bad", "+route edge 2"]);
}

#[test]
fn a_rejected_listener_delays_the_removal_of_a_cluster_and_does_not_prevent_it() {
    let mut client = Client::connect(snapshot(&[(Cluster, "a", "1"), (Listener, "l", "1")]));
    client.subscribe_to_all(Cluster);
    client.subscribe_to_all(Listener);
    client.settle();
    client.publish(snapshot(&[(Cluster, "b", "1"), (Listener, "l", "bad")]));
    assert_eq!(client.settle(), ["+cluster b 1", "+listener l bad"]);
    let due = client.session.wake_at().unwrap();
    client.wait(due);
    assert_eq!(client.settle(), ["-cluster a"]);
    assert_eq!(client.session.wake_at(), None);
}

#[test]
fn a_cluster_is_removed_only_when_the_client_has_accepted_the_listener_that_no_longer_names_it() {
    let before = [(Cluster, "a", "1"), (Listener, "l", "a"), (Route, "r", "a")];
    let mut client = Client::connect(snapshot(&before));
    client.subscribe_to_all(Cluster);
    client.subscribe_to_all(Listener);
    client.subscribe(Route, "r");
    client.subscribe(Extension, "f");
    client.settle();
    client.publish(snapshot(&[(Cluster, "b", "1"), (Listener, "l", "b"), (Route, "r", "b")]));
    assert_eq!(client.settle(), ["+cluster b 1", "+listener l b", "+route r b", "-cluster a"]);
}

#[test]
fn an_answer_to_an_unknown_response_changes_no_status_and_its_subscriptions_count() {
    let mut client = Client::connect(snapshot(&[(Route, "r", "1"), (Route, "s", "1")]));
    client.subscribe(Route, "r");
    client.settle();
    let mut stale = request(Route);
    stale.response_nonce = "77".to_owned();
    stale.error_detail = Some(sandgate_xds::wire::Status { code: 3, message: "old".to_owned() });
    stale.resource_names_subscribe.push("s".to_owned());
    client.wants.entry(Route).or_default().names.insert("s".to_owned());
    client.send(stale);
    assert_eq!(client.settle(), ["+route s 1"]);
    assert!(client.session.status()[&Route].rejected.is_empty());
}

#[test]
fn a_rejected_response_with_many_names_and_a_long_reason_costs_the_server_little() {
    let mut client = Client::connect(snapshot(&[(Secret, "s", "1"), (Secret, "t", "1")]));
    let mut first = request(Secret);
    first.resource_names_subscribe =
        (0..1_000).map(|number| format!("invented-{number}")).collect();
    first.resource_names_subscribe.extend(["s".to_owned(), "t".to_owned()]);
    client.send(first);
    let mut answer = request(Secret);
    answer.response_nonce = client.queue.pop_front().unwrap().nonce;
    // Two bytes for each character.
    let message = "é".repeat(1 << 19);
    answer.error_detail = Some(sandgate_xds::wire::Status { code: 3, message });
    client.send(answer);
    let status = client.session.status();
    let rejected = &status[&Secret].rejected;
    assert_eq!(rejected.keys().collect::<Vec<_>>(), ["s", "t"]);
    assert_eq!(rejected["s"].reason.len(), MAX_REASON);
    assert!(std::sync::Arc::ptr_eq(&rejected["s"].reason, &rejected["t"].reason));
}

#[test]
fn a_rejection_ends_when_its_resource_no_longer_exists() {
    let both = [(Secret, "s", "bad"), (Route, "r", "bad")];
    let mut client = Client::connect(snapshot(&both));
    client.subscribe(Secret, "s");
    client.subscribe(Secret, "missing");
    client.subscribe(Route, "r");
    client.settle();
    let rejecting = |client: &Client| {
        let all = client.session.status();
        all.values().map(|status| status.rejected.len()).sum::<usize>()
    };
    assert_eq!(rejecting(&client), 2);
    client.publish(snapshot(&[]));
    client.settle();
    assert_eq!(rejecting(&client), 0);
}

#[test]
fn a_name_that_does_not_exist_is_not_a_rejected_resource() {
    let mut client = Client::connect(snapshot(&[(Secret, "s", "bad")]));
    let mut first = request(Secret);
    first.resource_names_subscribe = vec!["missing".to_owned(), "s".to_owned()];
    client.send(first);
    assert_eq!(client.settle(), ["+secret s bad", "-secret missing", "+secret s bad"]);
    client.publish(snapshot(&[(Secret, "s", "2")]));
    client.settle();
    assert!(client.session.status()[&Secret].rejected.is_empty());
}
