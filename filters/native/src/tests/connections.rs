//! Connections out of a sandbox: decisions, changes of the policy, and panics at each possible place.
//!
//! The state of the egress filter belongs to the process, so one test runs at a time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::envoy::network::{
    NetworkConfig, callbacks, counter, drop_ended, refuse_schedulers, run_scheduled,
};

pub(super) const ERRORS: &str = "sandgate_egress_host_errors_total";
/// Forbids two names and an address, so that names matter.
pub(super) const POLICY: &str = r#"{ "deny_out": ["bad.test", "9.9.9.9"] }"#;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: bad.test\r\n\r\n";

pub(super) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next configuration of a filter.
pub(super) fn configuration(policy: &str) -> String {
    static GENERATION: AtomicU64 = AtomicU64::new(1);
    let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
    format!(r#"{{"version":1,"generation":{generation},"policies":[{policy}]}}"#)
}

/// Makes a policy active in the whole process.
fn configure(policy: &str) -> NetworkConfig {
    NetworkConfig::new(&configuration(policy)).expect("a valid configuration")
}

fn at(address: &str) -> SocketAddr {
    format!("{address}:443").parse().expect("an address")
}

#[test]
fn a_permitted_connection_gets_its_upstream_and_a_denied_one_none() {
    let _alone = alone();
    let config = configure(POLICY);
    let (permitted, continues) = config.connect(at("8.8.8.8"), "");
    assert!(continues && permitted.cluster().as_deref() == Some("original_destination"));
    let (denied, continues) = config.connect(at("9.9.9.9"), "");
    // Envoy continues to the cluster that resets the connection.
    assert!(continues && denied.cluster().is_none());
    assert_eq!(permitted.end().as_deref(), Some("allow"));
    assert_eq!(denied.end().as_deref(), Some("deny"));
    assert_eq!(counter(ERRORS), 0);
}

#[test]
fn a_judged_connection_causes_no_callbacks() {
    let _alone = alone();
    let config = configure(POLICY);
    let (connection, _) = config.connect(at("8.8.8.8"), "ok.test");
    let made = callbacks(None, || assert!((0..1000).all(|_| connection.send(&[0; 1000]))));
    assert_eq!(made, Vec::<&str>::new());
}

#[test]
fn a_late_request_closes_the_connection_and_an_incomplete_hello_is_held() {
    let _alone = alone();
    let config = configure(POLICY);
    let (held, continues) = config.connect(at("8.8.8.8"), "");
    assert!(continues && !held.send(&[0x16, 3, 1, 0, 100]) && !held.is_closed());
    let (closed, _) = config.connect(at("8.8.8.8"), "");
    assert!(!closed.send(REQUEST) && closed.is_closed());
    assert!(!closed.send(REQUEST), "bytes pass after the close");
    assert_eq!(closed.end().as_deref(), Some("deny"));
}

#[test]
fn a_new_policy_closes_the_live_connections_that_it_denies_and_no_others() {
    let _alone = alone();
    let config = configure(POLICY);
    let connect = |address| {
        let (connection, _) = config.connect(at(address), "ok.test");
        connection.reach(at(address));
        connection
    };
    let many: Vec<_> = (0..1000).map(|_| connect("1.1.1.1")).collect();
    let other = connect("8.8.8.8");
    let _newer = configure(r#"{ "deny_out": ["1.1.1.1"] }"#);
    // Each connection ends, also if the one that was woken has ended.
    run_scheduled();
    assert!(many.iter().all(|connection| connection.is_closed()));
    assert!(!other.is_closed() && other.send(b"more"));
    // Under the older configuration, a new connection is decided by the active one.
    let (denied, _) = config.connect(at("1.1.1.1"), "");
    assert_eq!(denied.cluster(), None);
    let decisions: Vec<_> = many.into_iter().map(|connection| connection.end()).collect();
    assert!(decisions.iter().all(|decision| decision.as_deref() == Some("closed")));
}

#[test]
fn a_policy_that_comes_while_the_woken_connection_ends_is_still_applied() {
    let _alone = alone();
    let config = configure(POLICY);
    let (woken, _) = config.connect(at("8.8.8.8"), "ok.test");
    let (other, _) = config.connect(at("1.1.1.1"), "ok.test");
    let _newer = configure(r#"{ "deny_out": ["1.1.1.1"] }"#);
    drop(woken);
    run_scheduled();
    assert!(other.is_closed());
}

/// The attack: to open and close connections fast while the policy changes, so that the main thread holds Envoy's last
/// reference to the connection by which it wakes the worker. It would run the connection's destroy hook in the midst of that.
#[test]
fn a_closed_connection_is_not_woken_so_no_other_thread_destroys_it() {
    let _alone = alone();
    let config = configure(POLICY);
    let (woken, _) = config.connect(at("8.8.8.8"), "ok.test");
    let (other, _) = config.connect(at("1.1.1.1"), "ok.test");
    woken.end_while_another_thread_commits();
    let _newer = configure(r#"{ "deny_out": ["1.1.1.1"] }"#);
    assert_eq!(drop_ended(), 1, "another thread has destroyed the connection");
    run_scheduled();
    assert!(other.is_closed());
}

#[test]
fn a_closed_connection_can_be_destroyed_on_any_thread() {
    let _alone = alone();
    let config = configure(POLICY);
    let (ended, _) = config.connect(at("8.8.8.8"), "ok.test");
    let (other, _) = config.connect(at("1.1.1.1"), "ok.test");
    ended.end_on_another_thread();
    let _newer = configure(r#"{ "deny_out": ["1.1.1.1"] }"#);
    run_scheduled();
    assert!(other.is_closed());
    let (next, _) = config.connect(at("8.8.8.8"), "ok.test");
    assert!(next.cluster().is_some());
}

/// The attack: not to read, so that Envoy keeps the connection to a destination that is denied now.
#[test]
fn a_new_policy_closes_a_connection_whose_client_does_not_read() {
    let _alone = alone();
    let config = configure(POLICY);
    let (connection, _) = config.connect(at("1.1.1.1"), "ok.test");
    connection.reach(at("1.1.1.1"));
    connection.stop_reading();
    let _newer = configure(r#"{ "deny_out": ["1.1.1.1"] }"#);
    run_scheduled();
    assert!(connection.is_closed());
    assert_eq!(connection.end().as_deref(), Some("closed"));
}

#[test]
fn a_connection_by_which_the_worker_cannot_be_woken_is_closed() {
    let _alone = alone();
    let config = configure(POLICY);
    let before = counter(ERRORS);
    refuse_schedulers(true);
    let (refused, continues) = config.connect(at("8.8.8.8"), "ok.test");
    refuse_schedulers(false);
    assert!(!continues && refused.is_closed(), "no policy would end the connection");
    assert_eq!(counter(ERRORS), before + 1);
    let (anchor, continues) = config.connect(at("8.8.8.8"), "ok.test");
    let (other, _) = config.connect(at("8.8.8.8"), "ok.test");
    assert!(continues && !other.is_closed());
    refuse_schedulers(true);
    drop(anchor.end());
    refuse_schedulers(false);
    assert!(other.is_closed(), "no policy would end the connection");
    let (next, continues) = config.connect(at("8.8.8.8"), "ok.test");
    assert!(continues && next.cluster().is_some());
}

#[test]
fn an_invalid_configuration_is_refused_and_changes_nothing() {
    let _alone = alone();
    let config = configure(POLICY);
    assert!(NetworkConfig::new("{").is_none());
    let (denied, _) = config.connect(at("9.9.9.9"), "");
    assert_eq!(denied.cluster(), None);
}

/// The attack: to make the module panic at the place that leaves a connection permitted, or that makes the worker forget the
/// policy or its live connections.
#[test]
fn a_panic_at_any_callback_ends_in_a_denial_and_the_policy_stays_active() {
    let _alone = alone();
    let config = configure(POLICY);
    let attempt = |panic_at| {
        let (live, _) = config.connect(at("8.8.8.8"), "ok.test");
        let mut panicked = None;
        let made = callbacks(panic_at, || {
            let (connection, continues) = config.connect(at("8.8.8.8"), "");
            let passes = continues && connection.send(REQUEST);
            panicked = Some((connection, passes));
        });
        let (connection, passes) = panicked.expect("the module catches the panic");
        assert!(!passes, "a denied request passes after a panic at {panic_at:?} of {made:?}");
        assert!(connection.is_closed(), "open after a panic at {panic_at:?} of {made:?}");
        let injected = panic_at.is_some_and(|index| index < made.len());
        assert_eq!(live.is_closed(), injected, "nothing would end the live connection");
        let (denied, _) = config.connect(at("9.9.9.9"), "");
        assert_eq!(denied.cluster(), None);
        let (permitted, _) = config.connect(at("8.8.8.8"), "ok.test");
        assert!(permitted.cluster().is_some() && permitted.send(b"more"));
        made.len()
    };
    let number = attempt(None);
    assert!(number > 8, "{number}");
    for index in 0..number {
        let before = counter(ERRORS);
        attempt(Some(index));
        assert!(counter(ERRORS) > before, "the panic at {index} is not counted");
    }
}
