//! The slots of requests that wait for a resume. Each test is an attack: somebody tries to keep others out.

use sandgate_policy::gateway_api::SandboxState;

use super::fleet::KEY;
use super::host::{Host, State};
use crate::ingress::StreamId;

const ALL: usize = 10;
/// The slots that anonymous requests may take.
const ANONYMOUS: usize = 8;

/// `asleep` belongs to `project`, and `nap` to `other`. Both are suspended and not public.
fn host() -> Host {
    let mut host = Host::new(&format!(r#"{{"resume_waiters": {ALL}}}"#));
    host.fleet.change("nap", |sandbox| {
        sandbox.project_id = "other".parse().unwrap();
        sandbox.allow_unauthenticated_access = false;
    });
    host
}

fn publish(host: &mut Host, name: &str) {
    host.fleet.change(name, |sandbox| sandbox.allow_unauthenticated_access = true);
}

/// Answers all calls but the resumes.
fn look_up(host: &mut Host) {
    for _ in 0..4 {
        host.wake();
        for call in host.lookups() {
            if !host.calls[&call].path.ends_with("/resume") {
                host.answer(call);
            }
        }
    }
}

fn owner(host: &mut Host, client: u8, name: &str) -> StreamId {
    let key = format!("Bearer {KEY}");
    let stream = host.request(client, &format!("8080-{name}"), &[("authorization", &key)]);
    look_up(host);
    stream
}

fn visitor(host: &mut Host, client: u8, name: &str) -> StreamId {
    let stream = host.request(client, &format!("8080-{name}"), &[]);
    look_up(host);
    stream
}

fn waiting(host: &Host, streams: &[StreamId]) -> usize {
    streams.iter().filter(|stream| host.state(**stream) == &State::Waiting).count()
}

#[test]
fn a_project_may_take_all_slots_while_nobody_else_needs_them() {
    let mut host = host();
    let streams: Vec<_> = (1..=10).map(|client| owner(&mut host, client, "asleep")).collect();
    assert_eq!(waiting(&host, &streams), ALL);
    let more = owner(&mut host, 11, "asleep");
    assert_eq!(host.state(more), &State::Denied("SANDBOX_NOT_READY"));
    host.answer_all();
    assert_eq!(host.streams_in(&State::Live), streams, "all of them are served");
}

#[test]
fn a_project_that_takes_all_slots_with_many_clients_gives_half_of_them_to_another_project() {
    let mut host = host();
    let flood: Vec<_> = (1..=10).map(|client| owner(&mut host, client, "asleep")).collect();
    for number in 1..=5 {
        let other = owner(&mut host, 100, "nap");
        assert_eq!(host.state(other), &State::Waiting);
        assert_eq!(waiting(&host, &flood), ALL - number);
    }
    let more = owner(&mut host, 100, "nap");
    assert_eq!(host.state(more), &State::Denied("SANDBOX_NOT_READY"));
    let back = owner(&mut host, 12, "asleep");
    assert_eq!(host.state(back), &State::Denied("SANDBOX_NOT_READY"), "nobody gains by retries");
    assert_eq!(waiting(&host, &flood), 5);
}

#[test]
fn a_client_that_takes_all_slots_gives_one_to_another_client_of_the_same_project() {
    let mut host = host();
    let flood: Vec<_> = (0..10).map(|_| owner(&mut host, 1, "asleep")).collect();
    let own = owner(&mut host, 1, "asleep");
    assert_eq!(host.state(own), &State::Denied("SANDBOX_NOT_READY"));
    let other = owner(&mut host, 2, "asleep");
    assert_eq!(host.state(other), &State::Waiting);
    assert_eq!(waiting(&host, &flood), ALL - 1);
}

#[test]
fn anonymous_requests_do_not_take_the_last_slots() {
    let mut host = host();
    publish(&mut host, "asleep");
    let visitors: Vec<_> = (1..=10).map(|client| visitor(&mut host, client, "asleep")).collect();
    assert_eq!(waiting(&host, &visitors), ANONYMOUS);
    let owners: Vec<_> = (1..=2).map(|client| owner(&mut host, client, "nap")).collect();
    assert_eq!(waiting(&host, &owners), 2);
    assert_eq!(waiting(&host, &visitors), ANONYMOUS, "two slots were free");
}

#[test]
fn anonymous_requests_do_not_displace_authorized_ones() {
    let mut host = host();
    publish(&mut host, "nap");
    let owners: Vec<_> = (0..10).map(|_| owner(&mut host, 1, "asleep")).collect();
    let visitors: Vec<_> = (2..=20).map(|client| visitor(&mut host, client, "nap")).collect();
    assert_eq!((waiting(&host, &owners), waiting(&host, &visitors)), (ALL, 0));
}

#[test]
fn an_authorized_request_displaces_an_anonymous_one() {
    let mut host = host();
    publish(&mut host, "asleep");
    let visitors: Vec<_> = (1..=8).map(|client| visitor(&mut host, client, "asleep")).collect();
    let owners: Vec<_> = (1..=5).map(|client| owner(&mut host, client, "nap")).collect();
    assert_eq!((waiting(&host, &owners), waiting(&host, &visitors)), (5, 5));
    let more = owner(&mut host, 6, "nap");
    assert_eq!(host.state(more), &State::Waiting, "also of a project that is as small");
    assert_eq!((waiting(&host, &owners), waiting(&host, &visitors)), (5, 4));
}

#[test]
fn a_project_does_not_displace_all_anonymous_requests_to_others() {
    let mut host = host();
    publish(&mut host, "nap");
    let visitors: Vec<_> = (1..=3).map(|client| visitor(&mut host, client, "nap")).collect();
    let flood: Vec<_> = (1..=20).map(|client| owner(&mut host, client, "asleep")).collect();
    assert_eq!((waiting(&host, &visitors), waiting(&host, &flood)), (3, 7));
}

#[test]
fn visitors_of_one_project_give_a_slot_to_a_visitor_of_another() {
    let mut host = host();
    publish(&mut host, "asleep");
    publish(&mut host, "nap");
    let flood: Vec<_> = (1..=8).map(|client| visitor(&mut host, client, "asleep")).collect();
    let other = visitor(&mut host, 100, "nap");
    assert_eq!(host.state(other), &State::Waiting);
    assert_eq!(waiting(&host, &flood), ANONYMOUS - 1);
}

#[test]
fn a_request_that_cannot_wait_for_a_resume_displaces_no_request_that_waits_for_a_lookup() {
    let mut host = Host::new(r#"{"resume_waiters": 1, "waiters": 2}"#);
    owner(&mut host, 1, "asleep");
    let lookups: Vec<_> = (0..2).map(|_| host.request(2, "8080-unknown", &[])).collect();
    let key = format!("Bearer {KEY}");
    let refused = host.request(1, "8080-asleep", &[("authorization", &key)]);
    assert_eq!(host.state(refused), &State::Denied("SANDBOX_NOT_READY"));
    assert_eq!(waiting(&host, &lookups), 2);
}

#[test]
fn a_cached_suspended_sandbox_needs_no_slot_for_lookups() {
    let mut host = Host::new(r#"{"waiters": 1}"#);
    let first = owner(&mut host, 1, "asleep");
    host.request(2, "8080-unknown", &[]);
    let key = format!("Bearer {KEY}");
    let second = host.request(1, "8080-asleep", &[("authorization", &key)]);
    assert_eq!(waiting(&host, &[first, second]), 2);
}

#[test]
fn a_change_of_the_sandbox_ends_the_pause_after_a_resume() {
    let mut host = Host::new("{}");
    visitor(&mut host, 1, "shop");
    host.answer_feed();
    let stream = owner(&mut host, 1, "asleep");
    let [resume] = host.lookups()[..] else { panic!("one resume") };
    let mut pending = host.fleet.sandboxes["asleep"].clone();
    pending.state = SandboxState::Pending;
    host.calls.remove(&resume);
    host.deliver(resume, (200, serde_json::to_vec(&pending).unwrap()));
    host.wake();
    assert_eq!((host.state(stream), host.lookups().len()), (&State::Waiting, 0), "it pauses");
    host.fleet.change("asleep", |sandbox| {
        sandbox.state = SandboxState::Running;
    });
    host.answer_feed();
    host.answer_all();
    assert_eq!(host.state(stream), &State::Live);
}
