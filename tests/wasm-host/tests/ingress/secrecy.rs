//! No log line, metric name, property, or report of denials contains a credential.

use super::host::{Headers, Stream};

use super::support::fleet::Health;
use super::support::{
    Gateway, KEY, MY_ENV, PAT, PLAIN_KEY, SESSION, bearer, in_project, to, with_key, with_session,
};

const SECRETS: [&str; 6] = [KEY, PLAIN_KEY, PAT, SESSION, "tl_apiKey_wrong", "hunter2"];

/// Requests with every kind of credential, good and bad.
fn requests() -> Vec<Headers> {
    vec![
        with_key(8080, "my-env"),
        bearer(to(8080, "my-env"), PLAIN_KEY),
        in_project(bearer(to(8080, "my-env"), PAT)),
        with_session(to(8080, "my-env")),
        with_session(to(8080, "asleep")),
        bearer(to(8080, "my-env"), "tl_apiKey_wrong"),
        bearer(bearer(to(8080, "my-env"), KEY), KEY),
        bearer(to(8080, "shop"), KEY),
        to(8080, "my-env").with("x-sandgate-authorization", format!("Bearer {KEY}")),
        to(8080, "my-env").with("cookie", format!("tl-session={SESSION}; a=hunter2")),
        bearer(Headers::get("hunter2.test", "/?token=hunter2"), KEY),
        with_key(4444, "my-env").with("x-password", "hunter2"),
        bearer(to(8080, "no-such-sandbox"), KEY),
    ]
}

#[test]
fn logs_metrics_properties_and_reports_of_denials_contain_no_secret() {
    let gateway = Gateway::new();
    let mut streams: Vec<Stream> = Vec::new();
    for health in [Health::Good, Health::Down, Health::Impostor, Health::Breaks, Health::Hangs] {
        gateway.fleet().health = health;
        for request in requests() {
            streams.push(gateway.send(request));
        }
        gateway.advance_ms(40_000);
    }
    gateway.fleet().health = Health::Good;
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.exposed_ports.clear());
    gateway.advance_ms(10_000);
    let logs = gateway.host.logs();
    let metrics = gateway.host.metric_names();
    // Each of the places that the test searches contains something.
    assert!(!logs.is_empty() && !metrics.is_empty());
    assert!(streams.iter().any(|stream| stream.property("sandgate_decision").is_some()));
    let reports = gateway.reports();
    assert!(reports.iter().any(|report| report.contains("PORT_NOT_EXPOSED")), "{reports:?}");
    for secret in SECRETS {
        assert!(!reports.iter().any(|report| report.contains(secret)), "{reports:?}");
        for log in &logs {
            assert!(!log.message.contains(secret), "{log:?}");
        }
        assert!(!metrics.iter().any(|name| name.contains(secret)), "{metrics:?}");
        for stream in &streams {
            assert!(!stream.properties().mention(secret), "{:?}", stream.properties());
        }
    }
}

#[test]
fn metrics_have_the_sandgate_prefix_are_bounded_in_number_and_count() {
    let gateway = Gateway::new();
    for request in requests() {
        gateway.send(request);
    }
    let names = gateway.host.metric_names();
    for number in 0..50 {
        gateway.send(with_key(8080, &format!("unknown-{number}")));
        gateway.send(bearer(to(8080, "my-env"), &format!("tl_wrong_{number}")));
    }
    assert_eq!(gateway.host.metric_names(), names, "no client makes a new metric");
    assert!(names.iter().all(|name| name.starts_with("sandgate_")), "{names:?}");
    assert_eq!(gateway.host.metric("sandgate_ingress_host_errors_total"), 0);
    let counted = gateway.host.metric("sandgate_ingress_decisions_total.INVALID_CREDENTIALS");
    assert!(counted >= 50, "{counted}");
}

#[test]
fn a_refused_configuration_is_logged_without_its_content() {
    let gateway = Gateway::new();
    let bad = r#"{"version": 1, "password": "hunter2"}"#;
    let refused = gateway.host.configure(bad).expect_err("an unknown field");
    assert!(!refused.to_string().contains("hunter2"), "{refused}");
}
