//! The host itself, with a filter in WebAssembly text that does what a header says.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use sandgate_wasm_host::{Answer, Headers, Host, Outcome, Stream};

const FIXTURE: &[u8] = include_bytes!("fixture.wat");

fn host() -> Host {
    let host = Host::from_module(FIXTURE, 1);
    host.configure("good").unwrap();
    host
}

fn send(host: &Host, what: &str) -> Stream {
    host.request(Headers::get("a.test", "/").with("x-do", what))
}

fn seen(stream: &Stream) -> Option<String> {
    match stream.outcome() {
        Outcome::Forwarded(forwarded) => forwarded.headers.value("x-seen"),
        other => panic!("not forwarded: {other:?}"),
    }
}

#[test]
fn a_request_that_the_filter_continues_is_forwarded_unchanged_and_without_an_upstream() {
    let request = send(&host(), "pass");
    let Outcome::Forwarded(forwarded) = request.outcome() else { panic!("not forwarded") };
    assert_eq!(forwarded.upstream, None);
    assert_eq!(forwarded.headers, Headers::get("a.test", "/").with("x-do", "pass"));
}

#[test]
fn a_request_is_forwarded_to_the_upstream_in_the_filter_state() {
    let request = send(&host(), "upstream");
    assert_eq!(request.property("result").as_deref(), Some("0"));
    let Outcome::Forwarded(forwarded) = request.outcome() else { panic!("not forwarded") };
    assert_eq!(forwarded.upstream.as_deref(), Some("127.64.0.2:8080"));
}

#[test]
fn a_reply_has_the_headers_that_envoy_adds_and_ends_the_request() {
    let request = send(&host(), "answer");
    let Outcome::Replied(reply) = request.outcome() else { panic!("no reply") };
    assert_eq!((reply.status, reply.body.as_str()), (418, "no coffee here"));
    assert_eq!(reply.headers.value("content-length").as_deref(), Some("14"));
    assert_eq!(reply.headers.value("content-type").as_deref(), Some("text/plain"));
    assert!(!request.is_open());
}

#[test]
fn a_reply_to_a_grpc_request_carries_its_status_in_the_headers() {
    let headers = Headers::request("POST", "a.test", "/echo.Echo/Say")
        .with("content-type", "application/grpc")
        .with("x-do", "answer");
    let Outcome::Replied(reply) = host().request(headers).outcome() else { panic!("no reply") };
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));
    assert_eq!(reply.headers.value("grpc-message").as_deref(), Some("no coffee here"));
    assert_eq!(reply.headers.value("grpc-status").as_deref(), Some("2"));
}

#[test]
fn a_head_request_gets_a_reply_without_its_body() {
    let headers = Headers::request("HEAD", "a.test", "/").with("x-do", "answer");
    let Outcome::Replied(reply) = host().request(headers).outcome() else { panic!("no reply") };
    assert_eq!((reply.status, reply.body.as_str()), (418, ""));
    assert_eq!(reply.headers.value("content-length").as_deref(), Some("14"));
}

#[test]
#[should_panic(expected = "second reply")]
fn a_second_reply_fails_the_test() {
    send(&host(), "2");
}

#[test]
#[should_panic(expected = "the filter trapped in proxy_on_request_headers")]
fn a_trap_fails_the_test() {
    send(&host(), "trap");
}

#[test]
#[should_panic(expected = "was not paused")]
fn resuming_a_request_that_is_not_paused_fails_the_test() {
    send(&host(), "resume");
}

#[test]
#[should_panic(expected = "run `make wasm` first")]
fn a_missing_filter_fails_the_test_with_instructions() {
    Host::load("sandgate_no_such_filter");
}

#[test]
fn the_control_plane_responds_to_a_call_and_the_request_is_forwarded() {
    let host = host();
    host.control_plane(|call| {
        assert_eq!((call.method(), call.path()), ("GET".into(), "/".into()));
        Answer::status(204)
    });
    let request = send(&host, "call");
    assert_eq!(request.outcome(), Outcome::Pending);
    host.run();
    assert_eq!(seen(&request).as_deref(), Some("204"));
    assert_eq!(host.calls().len(), 1);
    assert_eq!(host.calls()[0].worker, Some(0));
}

#[test]
fn a_delayed_response_arrives_after_its_delay() {
    let host = host();
    host.control_plane(|_| Answer::status(200).after(Duration::from_millis(300)));
    let request = send(&host, "call");
    host.advance(Duration::from_millis(299));
    assert_eq!(request.outcome(), Outcome::Pending);
    host.advance(Duration::from_millis(1));
    assert_eq!(seen(&request).as_deref(), Some("200"));
}

#[test]
fn failed_calls_get_the_responses_that_envoy_generates() {
    let host = host();
    let request = send(&host, "call");
    host.run();
    assert_eq!(seen(&request).as_deref(), Some("503"), "connection refused");

    host.control_plane(|_| Answer::silence());
    let request = send(&host, "call");
    host.advance(Duration::from_millis(1_999));
    assert_eq!(request.outcome(), Outcome::Pending);
    host.advance(Duration::from_millis(1));
    assert_eq!(seen(&request).as_deref(), Some("504"), "timeout");
    assert_eq!(host.calls_in_flight(), 0);
}

#[test]
fn a_held_call_gets_its_response_as_soon_as_the_control_plane_gives_one() {
    let host = host();
    let open = Rc::new(RefCell::new(false));
    let is_open = Rc::clone(&open);
    host.control_plane(move |call| {
        if *is_open.borrow() || call.waited >= Duration::from_secs(1) {
            Answer::status(200)
        } else {
            Answer::hold(Duration::from_secs(1))
        }
    });
    let (first, time) = (send(&host, "call"), Duration::from_millis(999));
    host.advance(time);
    assert_eq!(first.outcome(), Outcome::Pending);
    host.advance(Duration::from_millis(1));
    assert_eq!(seen(&first).as_deref(), Some("200"), "held for one second at most");
    let second = send(&host, "call");
    host.run();
    assert_eq!(second.outcome(), Outcome::Pending);
    *open.borrow_mut() = true;
    host.run();
    assert_eq!(seen(&second).as_deref(), Some("200"));
}

#[test]
fn calls_to_a_missing_cluster_or_above_the_circuit_breaker_fail() {
    let host = host();
    host.control_plane(|_| Answer::silence());
    host.max_calls(1);
    assert_eq!(send(&host, "call").property("result").as_deref(), Some("0"));
    // The digit after 9 is ':', so this is status 10, InternalFailure.
    assert_eq!(send(&host, "call").property("result").as_deref(), Some(":"));
    host.clusters(&["another"]);
    assert_eq!(send(&host, "call").property("result").as_deref(), Some("2"));
}

#[test]
fn a_response_after_the_client_aborted_finds_no_request() {
    let host = host();
    host.control_plane(|_| Answer::status(200));
    let request = send(&host, "call");
    request.abort();
    host.run();
    assert_eq!(request.outcome(), Outcome::Aborted);
    assert!(!request.is_open());
}

#[test]
fn a_queue_wakes_the_filter_later_and_headers_are_not_readable_after_resuming() {
    let host = host();
    let request = send(&host, "queue");
    assert_eq!(request.outcome(), Outcome::Pending);
    host.run();
    assert!(matches!(request.outcome(), Outcome::Forwarded(_)));
    assert_eq!(request.property("result").as_deref(), Some("2"), "BadArgument");
}

#[test]
fn a_tick_runs_when_its_time_has_passed_and_can_reset_a_request() {
    let host = host();
    let request = send(&host, "wait");
    host.run();
    host.advance(Duration::from_millis(99));
    assert_eq!(request.outcome(), Outcome::Pending);
    host.advance(Duration::from_millis(1));
    assert_eq!(request.outcome(), Outcome::Reset);
    assert!(!request.is_open());
}

#[test]
fn responses_pass_through_the_filter() {
    let request = send(&host(), "pass");
    let response = Headers::from([(":status", "200"), ("x-secret", "1"), ("x-plain", "2")]);
    let passed = request.respond(response).unwrap();
    assert_eq!(passed, Headers::from([(":status", "200"), ("x-plain", "2")]));
    request.complete();
    assert!(!request.is_open());
    assert_eq!(request.respond(Headers::new()), None);
}

#[test]
fn the_previous_configuration_stays_active_if_a_new_one_is_refused() {
    let host = host();
    let old = send(&host, "queue");
    assert!(host.configure("bad").is_err());
    assert!(matches!(send(&host, "pass").outcome(), Outcome::Forwarded(_)));
    host.configure("better").unwrap();
    assert!(matches!(send(&host, "pass").outcome(), Outcome::Forwarded(_)));
    old.abort();
}
