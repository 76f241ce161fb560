//! Streams and configurations that begin and end at unusual times, and what hooks do with null pointers.

use super::envoy::{Headers, Host, Log, Outcome, call_with_null, program_init};
use super::faults::{assert_works, is_denial};
use super::suite::live::SOON_MS;
use super::suite::support::{
    ASLEEP, Gateway, KEY, PAT, bearer, configuration, forwarded, in_project, is_pending, to,
    with_key,
};
use crate::ingress::worker_count;

#[test]
fn the_module_names_the_version_of_the_abi_and_logs_no_message_of_a_panic() {
    assert_eq!(program_init(), "v0.2.0");
    // The hook that the module has set is taken away again: the other tests need the message.
    let of_module = std::panic::take_hook();
    let gateway = Gateway::new();
    gateway.host.inject(1, super::envoy::Injected::Panic);
    std::panic::set_hook(of_module);
    let outcome = gateway.send(with_key(8080, "my-env")).outcome();
    drop(std::panic::take_hook());
    assert!(is_denial(&outcome), "{outcome:?}");
    let logs = gateway.host.logs();
    assert!(logs.iter().any(|log| log.message.starts_with("sandgate: panic at ")), "{logs:?}");
    assert!(!logs.iter().any(|log| log.message.contains("as the test asks")), "{logs:?}");
}

#[test]
fn a_request_whose_entries_are_cached_reads_the_clock_once() {
    let gateway = Gateway::new();
    gateway.send(with_key(8080, "my-env"));
    let before = gateway.host.clock_reads();
    let stream = gateway.host.request(with_key(8080, "my-env"));
    assert!(stream.respond(Headers::from([(":status", "200")])).is_some());
    stream.send_body(false, 9);
    stream.complete();
    assert_eq!(gateway.host.clock_reads() - before, 1);
}

#[test]
fn without_a_stream_headers_and_trailers_are_held_back() {
    let [request, request_trailers, response, response_trailers, rest @ ..] =
        call_with_null().try_into().unwrap_or([9; 9]);
    assert_eq!((request, response), (4, 4), "StopAllIterationAndWatermark");
    assert_eq!((request_trailers, response_trailers), (1, 1), "StopIteration");
    assert_eq!(rest, [0; 5]);
}

#[test]
fn a_stream_may_end_between_any_two_events_of_its_request() {
    let requests = [
        with_key(8080, "my-env"),
        with_key(8080, ASLEEP),
        to(8080, "shop"),
        to(8080, "my-env"),
        in_project(bearer(to(8080, "my-env"), PAT)),
        with_key(8080, "unknown"),
    ];
    for headers in requests {
        for events in 0..40 {
            for destroys_later in [false, true] {
                let gateway = Gateway::new();
                gateway.fleet().resume_time = std::time::Duration::ZERO;
                gateway.host.destroys_later(destroys_later);
                let stream = gateway.host.request(headers.clone());
                // Another one that waits for the same lookups.
                let other = gateway.host.request(headers.clone());
                for _ in 0..events {
                    gateway.host.run_once();
                }
                stream.abort();
                gateway.host.run();
                gateway.host.destroy_ended();
                gateway.advance_ms(4_000);
                assert!(!is_pending(&other), "{headers:?} after {events} events");
                other.abort();
                gateway.host.destroy_ended();
                assert_works(&gateway, &format!("{headers:?} after {events} events"));
            }
        }
    }
}

#[test]
fn the_anchor_of_a_worker_may_end_while_others_wait() {
    let gateway = Gateway::new();
    let waiting: Vec<_> =
        ["my-env", "asleep", "shop"].map(|name| gateway.host.request(with_key(8080, name))).into();
    // The first stream is the anchor. Its scheduler has been used when it ends.
    gateway.host.run_once();
    waiting[0].abort();
    gateway.advance_ms(4_000);
    for stream in &waiting[1..] {
        forwarded(stream);
    }
}

#[test]
fn a_response_that_begins_inside_of_a_continued_request_is_cleaned() {
    let gateway = Gateway::new();
    let response = Headers::from([(":status", "200"), ("x-sandgate-a", "1")]);
    gateway.host.responds_immediately(Some(response));
    let stream = gateway.send(with_key(8080, "my-env"));
    forwarded(&stream);
    // It has started, so a denial resets the stream.
    gateway.fleet().revoke(KEY);
    gateway.advance_ms(SOON_MS);
    assert_eq!(stream.outcome(), Outcome::Reset);
}

#[test]
fn a_forbidden_response_inside_of_a_continued_request_ends_the_stream_there() {
    let gateway = Gateway::new();
    gateway.host.responds_immediately(Some(Headers::from([(":status", "101")])));
    let stream = gateway.send(with_key(8080, "my-env"));
    assert!(matches!(stream.outcome(), Outcome::Replied(reply) if reply.status == 502));
    gateway.host.responds_immediately(None);
    assert_works(&gateway, "after it");
}

#[test]
fn a_request_gets_its_route_again_only_if_it_lost_a_field_that_routes_match() {
    let gateway = Gateway::new();
    let request = || with_key(8080, "my-env");
    let named = request().with("x-tensorlake-sandbox-id", "my-env");
    for (headers, routes) in [(request(), 0), (named, 1)] {
        let stream = gateway.send(headers);
        forwarded(&stream);
        assert_eq!(stream.routes(), routes);
    }
}

#[test]
fn a_configuration_is_destroyed_on_the_worker_that_ends_its_last_stream() {
    for destroys_later in [false, true] {
        let gateway = Gateway::configured(&configuration(), 3);
        let headers = || with_key(8080, "my-env");
        let streams: Vec<_> =
            (0..3).map(|worker| gateway.host.request_at(worker, headers())).collect();
        gateway.host.run();
        gateway.host.destroys_later(destroys_later);
        // A listener is updated: Envoy keeps its configuration for the streams.
        gateway.host.remove_filter();
        gateway.advance_ms(1_000);
        for (worker, stream) in streams.iter().enumerate() {
            forwarded(stream);
            assert!(gateway.host.calls_in_flight() > 0, "the feed runs for worker {worker}");
            stream.complete();
            gateway.host.destroy_ended();
        }
        // The hub has ended: its last call is not followed by another one.
        gateway.advance_ms(60_000);
        assert_eq!(gateway.host.calls_in_flight(), 0);
        gateway.host.configure(&configuration().to_string()).expect("a valid configuration");
        assert_works(&gateway, "a new configuration");
    }
}

#[test]
fn a_configuration_may_end_while_its_requests_wait() {
    let gateway = Gateway::configured(&configuration(), 2);
    let waiting = [0, 1].map(|worker| gateway.host.request_at(worker, with_key(8080, "my-env")));
    gateway.host.remove_filter();
    gateway.host.run();
    for stream in &waiting {
        forwarded(stream);
    }
}

/// Envoy 1.40 destroys a configuration on the worker of its last stream. Calls of the configuration would end there, too, and
/// they belong to the main thread.
#[test]
fn calls_outlive_the_configuration_that_needed_them_and_their_responses_are_ignored() {
    let gateway = Gateway::configured(&configuration(), 2);
    let waiting = gateway.host.request_at(1, with_key(8080, "my-env"));
    gateway.host.run_once();
    let calls = gateway.host.calls_in_flight();
    assert!(calls > 1, "the feed and lookups");
    gateway.host.remove_filter();
    waiting.abort();
    gateway.host.destroy_ended();
    assert_eq!(gateway.host.calls_in_flight(), calls);
    gateway.host.run();
    gateway.host.configure(&configuration().to_string()).expect("a valid configuration");
    assert_works(&gateway, "a new configuration");
}

#[test]
fn configurations_of_the_same_text_share_one_hub_and_another_text_has_another_hub() {
    let gateway = Gateway::new();
    gateway.passes(with_key(8080, "my-env"));
    let calls = gateway.host.calls().len();
    let json = configuration().to_string();
    gateway.host.configure(&json).expect("a valid configuration");
    gateway.passes(with_key(8080, "my-env"));
    assert_eq!(gateway.host.calls().len(), calls, "everything is cached");
    gateway.host.configure(&format!("{json} ")).expect("a valid configuration");
    gateway.passes(with_key(8080, "my-env"));
    assert!(gateway.host.calls().len() > calls);
}

#[test]
fn a_replaced_configuration_keeps_its_streams_until_they_are_revoked() {
    let gateway = Gateway::configured(&configuration(), 2);
    let old = gateway.host.request_at(1, with_key(8080, "my-env"));
    gateway.host.run();
    forwarded(&old);
    gateway.host.configure(&format!("{} ", configuration())).expect("a valid configuration");
    let new = gateway.host.request_at(1, with_key(8080, "my-env"));
    gateway.host.run();
    forwarded(&new);
    gateway.fleet().revoke(KEY);
    gateway.advance_ms(SOON_MS);
    assert_eq!((old.outcome(), new.outcome()), (Outcome::Reset, Outcome::Reset));
    gateway.host.destroy_ended();
}

/// The thread knows the worker of the new configuration when the old one ends, so it adds none.
#[test]
fn an_ended_hub_leaves_the_memory_of_a_thread_with_its_next_request() {
    let gateway = Gateway::new();
    let old = gateway.send(with_key(8080, "my-env"));
    gateway.host.configure(&format!("{} ", configuration())).expect("a valid configuration");
    gateway.passes(with_key(8080, "my-env"));
    assert_eq!(worker_count(), 2, "the old stream is live");
    old.complete();
    gateway.host.destroy_ended();
    gateway.passes(with_key(8080, "my-env"));
    assert_eq!(worker_count(), 1);
}

#[test]
fn without_the_bootstrap_extension_a_configuration_is_refused() {
    let host = Host::without_extension(1);
    let refused = host.configure(&configuration().to_string()).expect_err("not accepted");
    let is_reason = |log: &Log| log.message.contains("bootstrap lacks the extension");
    assert!(refused.logs.iter().any(is_reason), "{:?}", refused.logs);
    assert!(!host.add_extension(b"sandgate_unknown"));
}

#[test]
fn when_envoy_ends_the_module_makes_no_call_and_accepts_no_configuration() {
    let gateway = Gateway::new();
    gateway.passes(with_key(8080, "my-env"));
    let waiting = gateway.host.request(with_key(8080, "asleep"));
    gateway.host.shut_down();
    gateway.advance_ms(70_000);
    // Envoy closes its streams.
    waiting.abort();
    let refused = gateway.host.configure(&configuration().to_string());
    refused.expect_err("Envoy ends");
}

#[test]
fn an_unknown_filter_and_a_bad_configuration_are_refused() {
    let gateway = Gateway::new();
    let valid = configuration().to_string();
    for (name, json) in [("sandgate_unknown", valid.as_str()), ("sandgate_ingress", "{}")] {
        let refused = gateway.host.configure_filter(name, json).expect_err("not accepted");
        assert!(!refused.logs.is_empty(), "the reason is logged");
    }
    assert_works(&gateway, "the former configuration");
}
