//! Each test is an attack by somebody who chooses what is denied, or a control plane that does not answer.

use sandgate_policy::gateway_api::{MARKER_HEADER, MARKER_VALUE};
use sandgate_policy::ingress::head::Head;

use super::*;
use crate::ingress::effect::{CallIds, CallResponse};

/// The bytes that the body of a report may have. The control plane reads twice as many.
const MAX_REPORT: usize = 512 * 1024;

fn project(number: usize) -> ProjectId {
    format!("project-{number}").parse().unwrap()
}

fn sandbox(number: usize) -> SandboxId {
    format!("{number:0>21}").parse().unwrap()
}

fn deny(counts: &mut DenialCounts, of: usize, number: usize, port: u16) {
    counts.count(&project(of), &sandbox(number), port, Denial::PortNotExposed);
}

fn total(counts: &DenialCounts) -> u64 {
    let report = counts.report();
    report.sandboxes.iter().fold(report.lost, |sum, sandbox| {
        let listed: u64 = sandbox.inbound.denials.iter().map(|one| one.count).sum();
        sum + listed + sandbox.inbound.more
    })
}

fn reports_on(counts: &DenialCounts, number: usize) -> bool {
    counts.report().sandboxes.iter().any(|one| one.sandbox_id == sandbox(number))
}

#[test]
fn a_scan_of_ports_and_sandboxes_takes_bounded_room_and_loses_no_count() {
    let mut counts = DenialCounts::default();
    let (sandboxes, ports) = (MAX_SANDBOXES + 100, 50);
    for number in 0..sandboxes {
        (0..ports).for_each(|port| deny(&mut counts, number, number, port));
    }
    let all = u64::try_from(sandboxes).unwrap() * u64::from(ports);
    assert_eq!(total(&counts), all);
    let mut merged = DenialCounts::default();
    deny(&mut merged, MAX_SANDBOXES + 99, MAX_SANDBOXES + 99, 1);
    merged.merge(counts.clone());
    merged.merge(counts);
    assert_eq!(total(&merged), 2 * all + 1);
    let report = merged.report();
    assert_eq!(report.sandboxes.len(), MAX_SANDBOXES);
    let kinds = report.sandboxes.iter().map(|one| one.inbound.denials.len());
    assert!(kinds.clone().all(|kinds| kinds <= MAX_KINDS));
    let bound = FEW_SANDBOXES * MAX_KINDS + (MAX_SANDBOXES - FEW_SANDBOXES) * FEW_KINDS;
    assert!(kinds.clone().sum::<usize>() <= bound, "{} kinds", kinds.sum::<usize>());
}

#[test]
fn the_largest_report_is_one_that_the_control_plane_reads() {
    let mut counts = DenialCounts::default();
    for number in 0..MAX_SANDBOXES {
        for port in 65_000..65_050 {
            let denial = Denial::ProjectContextRequired;
            counts.count(&project(number), &sandbox(number), port, denial);
        }
    }
    for kinds in counts.projects.values_mut().flat_map(BTreeMap::values_mut) {
        kinds.counts.values_mut().chain([&mut kinds.more]).for_each(|count| *count = u64::MAX);
    }
    let length = serde_json::to_vec(&counts.report()).unwrap().len();
    assert!(length < MAX_REPORT, "{length}");
}

#[test]
fn denials_of_many_sandboxes_of_one_project_leave_room_for_another_project() {
    let mut counts = DenialCounts::default();
    for number in 0..MAX_SANDBOXES + 10 {
        deny(&mut counts, 0, number, 80);
    }
    let victims = 5_000..5_003;
    victims.clone().for_each(|number| deny(&mut counts, 1, number, 22));
    for number in 0..MAX_SANDBOXES * 2 {
        deny(&mut counts, 0, number, 80);
    }
    assert!(victims.clone().all(|number| reports_on(&counts, number)));
    assert_eq!(counts.sandboxes, MAX_SANDBOXES);
    // The same when a report was not delivered, and others have come meanwhile.
    let mut later = DenialCounts::default();
    for number in 10_000..10_000 + MAX_SANDBOXES {
        deny(&mut later, 0, number, 80);
    }
    let all = total(&later) + total(&counts);
    later.merge(counts);
    assert!(victims.clone().all(|number| reports_on(&later, number)));
    assert_eq!((later.sandboxes, total(&later)), (MAX_SANDBOXES, all));
}

#[test]
fn a_project_does_not_take_the_room_of_one_that_has_as_little() {
    let mut counts = DenialCounts::default();
    for number in 0..MAX_SANDBOXES {
        deny(&mut counts, number % 2, number, 80);
    }
    let before = counts.report().sandboxes;
    for number in MAX_SANDBOXES..2 * MAX_SANDBOXES {
        deny(&mut counts, number % 2, number, 80);
    }
    assert_eq!(counts.report().sandboxes, before);
}

#[test]
fn a_count_does_not_overflow() {
    let mut counts = DenialCounts::default();
    deny(&mut counts, 1, 1, 80);
    let kinds = counts.kinds_of(&project(1), &sandbox(1)).unwrap();
    kinds.counts.values_mut().chain([&mut kinds.more]).for_each(|count| *count = u64::MAX);
    counts.lost = u64::MAX;
    counts.merge(counts.clone());
    deny(&mut counts, 1, 1, 80);
    let report = counts.report();
    assert_eq!(report.lost, u64::MAX);
    assert_eq!(report.sandboxes[0].inbound.denials[0].count, u64::MAX);
}

#[test]
fn an_outage_is_no_denial_by_a_rule() {
    for denial in [
        Denial::AuthServiceUnavailable,
        Denial::SandboxNotReady,
        Denial::SandboxUpstreamError,
        Denial::UpstreamReset,
    ] {
        assert!(!is_by_rule(denial), "{denial:?}");
    }
}

#[test]
fn a_report_that_was_not_taken_is_sent_again_and_one_that_is_not_understood_is_not() {
    let status = |status: &'static str| [(":status", status.as_bytes())];
    let marker = (MARKER_HEADER, MARKER_VALUE.as_bytes());
    for (answer, has_marker, is_kept) in [
        (Some("204"), true, false),
        (Some("204"), false, true),
        (Some("503"), true, true),
        (Some("400"), true, false),
        (Some("404"), true, false),
        (Some("413"), true, false),
        (Some("401"), true, true),
        (Some("404"), false, true),
        (None, false, true),
    ] {
        let mut reports = Reports::default();
        assert!(!reports.is_due(0), "there is nothing to report");
        (0..3).for_each(|_| deny(&mut reports.pending, 1, 1, 22));
        assert!(reports.is_due(0));
        let mut ids = CallIds::default();
        let call = reports.send(ids.next(), 1_000);
        assert!(reports.owns(call.id) && !reports.owns(ids.next()));
        deny(&mut reports.pending, 1, 1, 22);
        assert!(!reports.is_due(9_000), "two are in flight");
        let mut fields = status(answer.unwrap_or_default()).to_vec();
        fields.extend(has_marker.then_some(marker));
        let headers = Head::new(&fields);
        let response = answer.map(|_| CallResponse { headers, body: b"" });
        reports.finish(response.as_ref(), 2_000);
        assert_eq!(total(&reports.pending), if is_kept { 4 } else { 1 }, "{answer:?}");
        assert_eq!(reports.is_due(3_000), answer == Some("204") && has_marker);
        assert!(reports.is_due(22_000));
    }
}

#[test]
fn a_control_plane_that_takes_no_reports_costs_a_bounded_number_of_calls_and_room() {
    let mut reports = Reports::default();
    let (mut ids, mut calls) = (CallIds::default(), 0);
    // An hour of ticks, with denials in each.
    for tick in 0..36_000 {
        let now = tick * 100;
        for number in 0..20 {
            deny(&mut reports.pending, 0, usize::try_from(tick).unwrap() * 20 + number, 80);
        }
        if reports.is_due(now) {
            reports.send(ids.next(), now);
            calls += 1;
            reports.finish(None, now);
        }
    }
    assert_eq!((calls, reports.pending.sandboxes), (180, MAX_SANDBOXES));
    assert_eq!(total(&reports.pending), 36_000 * 20);
}
