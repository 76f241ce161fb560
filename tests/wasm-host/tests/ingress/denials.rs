//! What the filter reports of denied requests.

use std::collections::BTreeMap;

use sandgate_policy::denials::InboundReport;

use super::support::{Gateway, KEY, MY_ENV, THEIRS, bearer, to, with_key};

#[test]
fn denied_requests_are_reported_by_sandbox_port_and_code_and_permitted_ones_are_not() {
    let gateway = Gateway::new();
    for _ in 0..3 {
        gateway.passes(with_key(8080, "my-env"));
        gateway.denies(to(8080, "my-env").with("x-note", "private"));
        gateway.denies(with_key(9, MY_ENV));
        gateway.denies(bearer(to(8080, "theirs"), KEY));
        gateway.denies(to(8080, "no-such-sandbox"));
        gateway.denies(to(9501, "my-env"));
    }
    gateway.advance_ms(30_000);
    let reports = gateway.reports();
    // The first denial is reported at once, and the others together.
    assert!(reports.len() <= 2, "{reports:?}");
    let mut counts = BTreeMap::new();
    for report in &reports {
        let report: InboundReport = serde_json::from_str(report).expect("a report");
        assert_eq!(report.lost, 0);
        for sandbox in report.sandboxes {
            for one in sandbox.inbound.denials {
                let kind = (sandbox.sandbox_id.to_string(), one.denial.port, one.denial.rule);
                *counts.entry(kind).or_insert(0) += one.count;
            }
        }
    }
    let kind = |id: &str, port: u16, rule: &str| ((id.to_owned(), port, rule.to_owned()), 3);
    let expected = BTreeMap::from([
        kind(MY_ENV, 9, "PORT_NOT_EXPOSED"),
        kind(MY_ENV, 8080, "UNAUTHENTICATED"),
        kind(THEIRS, 8080, "SANDBOX_NOT_FOUND"),
    ]);
    assert_eq!(counts, expected);
}

#[test]
fn permitted_requests_cause_no_report() {
    let gateway = Gateway::new();
    gateway.passes(with_key(8080, "my-env"));
    gateway.passes(to(8080, "shop"));
    gateway.advance_ms(30_000);
    assert!(gateway.reports().is_empty());
}
