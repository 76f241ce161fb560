//! What the control plane learns of denied requests. The attackers choose the requests.

use std::collections::BTreeMap;

use sandgate_policy::denials::{Counted, InboundReport};

use super::fleet::{BAD_KEY, KEY};
use super::host::{Host, State};
use crate::ingress::{StreamId, TICK_MS};

/// More than the time between two reports, in ticks.
const TICKS_OF_REPORT: usize = 40;

/// A request with a bearer token, or with none, and what it led to.
fn send(host: &mut Host, of: &str, token: Option<&str>, fields: &[(&str, &str)]) -> StreamId {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let own = bearer.as_deref().map(|bearer| ("authorization", bearer));
    let fields: Vec<_> = fields.iter().copied().chain(own).collect();
    let stream = host.request(1, of, &fields);
    host.answer_all();
    stream
}

/// Numbers of denials, by the sandbox's name, the port, and the rule.
type Counts = BTreeMap<(String, u16, String), u64>;

/// The denials that are reported in the next seconds.
fn reported(host: &mut Host) -> Counts {
    let mut all = Counts::new();
    for _ in 0..TICKS_OF_REPORT {
        host.advance(TICK_MS);
        for id in host.reports() {
            let call = &host.calls[&id];
            assert_eq!((call.method, call.path.as_str()), ("POST", "/gateway/v1/denials"));
            let body = call.body.as_deref().unwrap();
            let report: InboundReport = serde_json::from_slice(body).unwrap();
            assert_eq!(report.lost, 0);
            for one in report.sandboxes {
                assert_eq!(one.inbound.more, 0);
                let name = one.sandbox_id.as_str().trim_matches(|c: char| c.is_ascii_digit());
                for Counted { denial, count } in one.inbound.denials {
                    *all.entry((name.to_owned(), denial.port, denial.rule)).or_default() += count;
                }
            }
            host.answer(id);
        }
        host.answer_all();
    }
    all
}

fn counts<const N: usize>(rows: [(&str, u16, &str, u64); N]) -> Counts {
    let row = |(name, port, rule, count): (&str, u16, &str, u64)| {
        ((name.to_owned(), port, rule.to_owned()), count)
    };
    rows.into_iter().map(row).collect()
}

#[test]
fn a_denial_of_a_sandbox_that_exists_is_reported_with_its_port_its_rule_and_its_number() {
    let mut host = Host::new("{}");
    for _ in 0..3 {
        send(&mut host, "8080-private", None, &[]);
    }
    send(&mut host, "8080-private", Some(BAD_KEY), &[]);
    send(&mut host, "22-private", Some(KEY), &[]);
    let denied = host.streams_in(&State::Denied("UNAUTHENTICATED"));
    assert_eq!(denied.len(), 3);
    let expected = counts([
        ("private", 22, "PORT_NOT_EXPOSED", 1),
        ("private", 8080, "INVALID_CREDENTIALS", 1),
        ("private", 8080, "UNAUTHENTICATED", 3),
    ]);
    assert_eq!(reported(&mut host), expected);
    assert_eq!(reported(&mut host), counts([]), "each denial is reported once");
}

/// The attack: a credential for another project, to fill the events of a sandbox with text, or to learn that it exists.
#[test]
fn a_caller_of_another_project_is_denied_and_the_owner_sees_only_the_rule() {
    let mut host = Host::new("{}");
    host.fleet.change("private", |sandbox| sandbox.project_id = "third".parse().unwrap());
    let fields = [(":path", "/secret?token=private"), ("user-agent", "\u{1b}[31m")];
    let stream = send(&mut host, "8080-private", Some(KEY), &fields);
    assert_eq!(host.state(stream), &State::Denied("SANDBOX_NOT_FOUND"));
    let expected = counts([("private", 8080, "SANDBOX_NOT_FOUND", 1)]);
    assert_eq!(reported(&mut host), expected);
}

#[test]
fn permits_requests_to_no_sandbox_and_outages_cause_no_report() {
    let mut host = Host::new("{}");
    let live = send(&mut host, "8080-private", Some(KEY), &[]);
    assert_eq!(host.state(live), &State::Live);
    send(&mut host, "8080-shop", None, &[]);
    for token in [None, Some(KEY), Some(BAD_KEY)] {
        send(&mut host, "8080-unknown", token, &[]);
    }
    let stream = host.request(1, "8080-asleep", &[]);
    host.wake();
    host.lookups().into_iter().for_each(|call| host.fail(call, true));
    host.answer_all();
    assert_eq!(host.state(stream), &State::Denied("SANDBOX_UPSTREAM_ERROR"));
    assert_eq!(reported(&mut host), counts([]));
}

#[test]
fn a_request_that_finds_no_slot_or_waits_in_vain_for_a_resume_is_reported() {
    let mut host = Host::new(r#"{"requests_per_sandbox": 5}"#);
    for _ in 0..3 {
        send(&mut host, "8080-shop", None, &[]);
    }
    let stream = send(&mut host, "8080-shop", None, &[]);
    assert_eq!(host.state(stream), &State::Denied("TOO_MANY_REQUESTS"));
    let key = format!("Bearer {KEY}");
    let waits = host.request(1, "8080-asleep", &[("authorization", &key)]);
    host.wake();
    for _ in 0..3 {
        for call in host.lookups() {
            match host.calls[&call].path.ends_with("/resume") {
                true => {
                    let code = br#"{"error":{"code":"SANDBOX_NOT_RUNNING","message":""}}"#;
                    host.calls.remove(&call);
                    host.deliver(call, (409, code.to_vec()));
                }
                false => host.answer(call),
            }
        }
        host.wake();
    }
    assert_eq!(host.state(waits), &State::Denied("SANDBOX_NOT_RUNNING"));
    let expected = counts([
        ("asleep", 8080, "SANDBOX_NOT_RUNNING", 1),
        ("shop", 8080, "TOO_MANY_REQUESTS", 1),
    ]);
    assert_eq!(reported(&mut host), expected);
}

/// The attack: many denials, to keep the control plane busy.
#[test]
fn a_flood_of_denials_on_many_workers_is_one_call_at_a_time() {
    let mut host = Host::with_workers(4, "{}");
    send(&mut host, "8080-private", None, &[]);
    let mut calls = 0;
    for _ in 0..100 {
        for worker in 0..4 {
            host.request_on(worker, 1, "8080-private", &[]);
        }
        host.answer_all();
        host.advance(TICK_MS);
        let reports = host.reports();
        assert!(reports.len() <= 1);
        calls += reports.len();
        reports.into_iter().for_each(|call| host.answer(call));
    }
    assert!((1..=6).contains(&calls), "{calls} calls in ten seconds");
}

/// The attack: a control plane that is down or hostile must not cost a request anything.
#[test]
fn a_report_that_fails_delays_no_request_and_is_sent_again_later() {
    let mut host = Host::new("{}");
    send(&mut host, "8080-private", None, &[]);
    let mut attempts = 0;
    for _ in 0..600 {
        host.advance(TICK_MS);
        for call in host.reports() {
            host.fail(call, true);
            attempts += 1;
        }
        host.answer_all();
        let stream = host.request(1, "8080-shop", &[]);
        host.answer_all();
        assert_eq!(host.state(stream), &State::Live);
        host.end(stream);
    }
    assert!((2..=4).contains(&attempts), "{attempts} attempts in a minute");
    let ticks = 200 / TICKS_OF_REPORT + 1;
    let all: Vec<_> = (0..ticks).flat_map(|_| reported(&mut host)).collect();
    assert_eq!(all, Vec::from_iter(counts([("private", 8080, "UNAUTHENTICATED", 1)])));
}
