//! How much a client may make the server remember.

use std::time::Duration;

use sandgate_xds::Kind::{Cluster, Route, Secret};
use sandgate_xds::session::{Excess, MAX_NAME, MAX_NAMES, MAX_UNANSWERED, Session};

use crate::client::{Client, request, snapshot};

fn names(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|number| format!("invented-{number}")).collect()
}

#[test]
fn a_client_may_subscribe_to_a_bounded_number_of_names_in_one_request_or_in_many() {
    let mut session = Session::new(snapshot(&[]));
    let mut all = request(Secret);
    all.resource_names_subscribe = names(0, MAX_NAMES);
    assert!(session.on_request(all.clone(), Duration::ZERO).is_ok());
    let mut one_more = request(Secret);
    one_more.resource_names_subscribe = names(MAX_NAMES, 1);
    let excess = session.on_request(one_more, Duration::ZERO).unwrap_err();
    assert_eq!(excess, Excess::Names);
    all.resource_names_subscribe = vec!["same".to_owned(); MAX_NAMES + 1];
    let excess = Session::new(snapshot(&[])).on_request(all, Duration::ZERO).unwrap_err();
    assert_eq!(excess, Excess::Names);
}

#[test]
fn a_client_may_say_that_it_has_a_bounded_number_of_resources() {
    let mut first = request(Cluster);
    let has = names(0, MAX_NAMES + 1).into_iter().map(|name| (name, "1".to_owned()));
    first.initial_resource_versions = has.collect();
    let excess = Session::new(snapshot(&[])).on_request(first, Duration::ZERO).unwrap_err();
    assert_eq!(excess, Excess::Names);
}

#[test]
fn names_and_versions_have_a_bounded_length() {
    let long = "n".repeat(MAX_NAME + 1);
    let mut subscribes = request(Route);
    subscribes.resource_names_subscribe.push(long.clone());
    let mut has_name = request(Route);
    has_name.initial_resource_versions.insert(long.clone(), "1".to_owned());
    let mut has_version = request(Route);
    has_version.initial_resource_versions.insert("r".to_owned(), long);
    for request in [subscribes, has_name, has_version] {
        let mut session = Session::new(snapshot(&[]));
        assert_eq!(session.on_request(request, Duration::ZERO).unwrap_err(), Excess::NameLength);
    }
}

#[test]
fn a_client_that_never_answers_exceeds_a_bound_and_one_that_answers_does_not() {
    let mut silent = Client::connect(snapshot(&[]));
    for _ in 0..=MAX_UNANSWERED {
        // Each request asks for the name again, and each response says that it does not exist.
        silent.subscribe(Route, "missing");
        if silent.session.check_unanswered().is_err() {
            break;
        }
    }
    assert_eq!(silent.session.check_unanswered(), Err(Excess::Unanswered));
    assert!(silent.session.status()[&Route].unanswered <= MAX_UNANSWERED);
    let mut client = Client::connect(snapshot(&[]));
    for _ in 0..=MAX_UNANSWERED {
        client.subscribe(Route, "missing");
        client.settle();
    }
    assert_eq!(client.session.check_unanswered(), Ok(()));
}
