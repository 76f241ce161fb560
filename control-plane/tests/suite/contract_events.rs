//! The contract of the store, continued: events of sandboxes, and floods of denials.

use sandgate::model::{EventDetail, SandboxId, SandboxPatch, Transition};
use sandgate::store::{EventBounds, Limits, ReportedDenials, Store};
use sandgate_policy::denials::{Counted, Denials, InboundDenial, OutboundDenial, Protocol};
use sandgate_policy::gateway_api::SandboxState;
use serde_json::{Value, json};
use test_case::test_case;

use super::contract::{Database, add_projects, at};
use super::contract_sandboxes::{create, new, ports};

/// The length of a period in which equal denials are one event.
const PERIOD: i64 = 600_000;

pub(crate) fn out(destination: &str, count: u64) -> Counted<OutboundDenial> {
    let denial = OutboundDenial {
        destination: destination.to_owned(),
        name: None,
        port: Some(443),
        protocol: Protocol::Tcp,
        rule: "default deny".to_owned(),
    };
    Counted { denial, count }
}

fn knock(port: u16) -> Counted<InboundDenial> {
    let denial = InboundDenial { port, rule: "PORT_NOT_EXPOSED".to_owned() };
    Counted { denial, count: 1 }
}

fn outbound(id: &SandboxId, denials: Vec<Counted<OutboundDenial>>, more: u64) -> ReportedDenials {
    let outbound = Denials { denials, more };
    ReportedDenials { sandbox_id: id.clone(), inbound: Denials::default(), outbound }
}

fn inbound(id: &SandboxId, denials: Vec<Counted<InboundDenial>>) -> ReportedDenials {
    let inbound = Denials { denials, more: 0 };
    ReportedDenials { sandbox_id: id.clone(), inbound, outbound: Denials::default() }
}

/// The events, newest first, as their type, their count, and what they are about.
fn shown(store: &dyn Store, id: &SandboxId) -> Vec<String> {
    let page = store.events(id, None, 10_000).unwrap();
    assert!(!page.more);
    page.events.iter().map(|event| format!("{} x{}", about(&event.detail), event.count)).collect()
}

fn about(detail: &EventDetail) -> String {
    let json = serde_json::to_value(detail).unwrap();
    let text = |name: &str| match &json[name] {
        Value::String(text) => format!(" {text}"),
        Value::Null => String::new(),
        other => format!(" {other}"),
    };
    format!("{}{}{}", json["type"].as_str().unwrap(), text("destination"), text("port"))
}

fn count_of(events: &[String], kind: &str) -> usize {
    events.iter().filter(|event| event.starts_with(kind)).count()
}

fn expose(store: &dyn Store, id: &SandboxId, list: &[u16], millis: i64) {
    let patch = SandboxPatch { exposed_ports: Some(ports(list)), ..SandboxPatch::default() };
    store.patch_sandbox(id, &patch, "key_1", at(millis)).unwrap();
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn changes_suspends_and_resumes_are_events_newest_first(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let id = create(store.as_ref(), Some("web"));
        let step = |from, transition, millis| {
            store.transition(&id, &[from], None, transition, at(millis)).unwrap().unwrap();
        };
        let running = Transition::Running("10.0.0.7".parse().unwrap());
        step(SandboxState::Pending, running, 11);
        expose(store.as_ref(), &id, &[8080], 12);
        expose(store.as_ref(), &id, &[8080], 13);
        let network = serde_json::from_value(json!({ "allow_internet_access": false })).unwrap();
        let patch = SandboxPatch { network_policy: Some(network), ..SandboxPatch::default() };
        store.patch_sandbox(&id, &patch, "key_2", at(14)).unwrap();
        step(SandboxState::Running, Transition::Suspending, 15);
        step(SandboxState::Suspending, Transition::Suspended, 16);
        step(SandboxState::Suspended, Transition::Pending, 17);
        step(SandboxState::Pending, running, 18);
        step(SandboxState::Running, Transition::Suspending, 19);
        step(SandboxState::Suspending, running, 20);
        step(SandboxState::Running, Transition::SuspendedUnconfirmed, 21);
        step(SandboxState::Suspended, Transition::Pending, 22);
        step(SandboxState::Pending, Transition::SuspendedUnconfirmed, 23);
        let expected = [
            "resume_failed x1",
            "suspended x1",
            "resumed x1",
            "suspended x1",
            "network_policy_changed x1",
            "ports_changed x1",
            "started x1",
        ];
        assert_eq!(shown(store.as_ref(), &id), expected);
        let events = store.events(&id, None, 10).unwrap().events;
        let times: Vec<_> = events.iter().map(|event| event.at.millis()).collect();
        assert_eq!(times, [23, 21, 18, 16, 14, 12, 11]);
        let json = |place: usize| serde_json::to_value(&events[place].detail).unwrap();
        assert_eq!((&json(1)["confirmed"], &json(3)["confirmed"]), (&json!(false), &json!(true)));
        let change = json!({
            "type": "ports_changed", "principal": "key_1",
            "before": { "exposed_ports": [], "allow_unauthenticated_access": false },
            "after": { "exposed_ports": [8080], "allow_unauthenticated_access": false },
        });
        assert_eq!(json(5), change);
        assert_eq!(json(4)["difference"]["after"]["allow_internet_access"], false);
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn pages_of_events_have_no_gap_even_while_older_events_are_counted_up(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let id = create(store.as_ref(), None);
        let all: Vec<_> = (0..5).map(|n| out(&format!("n{n}.test"), 1)).collect();
        store.record_denials(&[outbound(&id, all.clone(), 0)], at(20)).unwrap();
        let (mut before, mut seen) = (None, Vec::new());
        loop {
            let page = store.events(&id, before, 2).unwrap();
            seen.extend(page.events.iter().map(|event| event.number));
            assert_eq!(page.more, seen.len() < 5);
            if !page.more {
                break;
            }
            before = seen.last().copied();
            store.record_denials(&[outbound(&id, all.clone(), 0)], at(21)).unwrap();
        }
        assert_eq!(seen, [5, 4, 3, 2, 1]);
        let first = &store.events(&id, Some(2), 1).unwrap().events[0];
        assert_eq!((first.count, first.at, first.last_at), (3, at(20), at(21)));
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn equal_denials_of_a_period_are_one_event_also_from_several_servers(database: Database) {
    database.check(|open| {
        let (one, other) = (open(), open());
        add_projects(one.as_ref());
        let id = create(one.as_ref(), None);
        one.record_denials(&[outbound(&id, vec![out("a.test", 2)], 0)], at(20)).unwrap();
        other.record_denials(&[outbound(&id, vec![out("a.test", 3)], 7)], at(30)).unwrap();
        other.record_denials(&[inbound(&id, vec![knock(22)])], at(40)).unwrap();
        one.record_denials(&[outbound(&id, vec![out("a.test", 1)], 1)], at(PERIOD)).unwrap();
        let expected = [
            "more_outbound_denied x1",
            "outbound_denied a.test 443 x1",
            "inbound_denied 22 x1",
            "more_outbound_denied x7",
            "outbound_denied a.test 443 x5",
        ];
        assert_eq!(shown(other.as_ref(), &id), expected);
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn a_count_that_no_number_holds_stays_at_the_greatest_one(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let id = create(store.as_ref(), None);
        for _ in 0..3 {
            let report = outbound(&id, vec![out("a.test", u64::MAX)], u64::MAX);
            store.record_denials(&[report], at(20)).unwrap();
        }
        let greatest = i64::MAX;
        let expected = [
            format!("more_outbound_denied x{greatest}"),
            format!("outbound_denied a.test 443 x{greatest}"),
        ];
        assert_eq!(shown(store.as_ref(), &id), expected);
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn a_scan_fills_neither_the_store_nor_removes_what_the_owner_did(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let id = create(store.as_ref(), None);
        expose(store.as_ref(), &id, &[8080], 11);
        // Before the scan: what the owner wants to find after it.
        store.record_denials(&[outbound(&id, vec![out("wanted.test", 1)], 0)], at(12)).unwrap();
        let scan = |round: u64| {
            let denials = (0..50).map(|n| out(&format!("n{}.test", round * 50 + n), 1)).collect();
            outbound(&id, denials, 1_000)
        };
        let knocks = |round: u16| inbound(&id, (0..50).map(|n| knock(round * 50 + n)).collect());
        for round in 0..20_u16 {
            let reports = [scan(u64::from(round)), knocks(round)];
            store.record_denials(&reports, at(20 + i64::from(round))).unwrap();
        }
        let events = shown(store.as_ref(), &id);
        assert_eq!(count_of(&events, "outbound_denied"), 50);
        assert_eq!(count_of(&events, "inbound_denied"), 50);
        // 1,000 destinations, of which 49 have an event, and 20 times 1,000.
        assert!(events.contains(&"more_outbound_denied x20951".to_owned()), "{events:?}");
        assert!(events.contains(&"more_inbound_denied x950".to_owned()), "{events:?}");
        assert!(events.contains(&"outbound_denied wanted.test 443 x1".to_owned()));
        assert_eq!(count_of(&events, "ports_changed"), 1);
        for period in 1..12 {
            store.record_denials(&[scan(1)], at(period * PERIOD)).unwrap();
        }
        let events = shown(store.as_ref(), &id);
        assert_eq!(count_of(&events, "outbound_denied") + count_of(&events, "more_out"), 500);
        assert_eq!(count_of(&events, "inbound_denied"), 50);
        assert_eq!(count_of(&events, "ports_changed"), 1);
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn changes_resumes_and_denials_of_a_project_have_bounds_of_their_own(database: Database) {
    let bounds = |of_sandbox, of_project| EventBounds { of_sandbox, of_project };
    let limits = Limits { changes: bounds(3, 4), denials: bounds(5, 8), ..Limits::default() };
    database.check_within(limits, |open| {
        let store = open();
        add_projects(store.as_ref());
        let theirs = store.create_sandbox(&new(None, "project_2"), at(10)).unwrap().value.id;
        expose(store.as_ref(), &theirs, &[1], 11);
        store.record_denials(&[outbound(&theirs, vec![out("a.test", 1)], 0)], at(11)).unwrap();
        let ours = [create(store.as_ref(), None), create(store.as_ref(), Some("named"))];
        for (id, round) in ours.iter().flat_map(|id| (1..9).map(move |round| (id, round))) {
            expose(store.as_ref(), id, &[round], 20 + i64::from(round));
            let denials = vec![out(&format!("{round}.test"), 1)];
            let millis = at(20 + i64::from(round));
            store.record_denials(&[outbound(id, denials, 0)], millis).unwrap();
        }
        let counts = |id| {
            let events = shown(store.as_ref(), id);
            (count_of(&events, "ports_changed"), count_of(&events, "outbound_denied"))
        };
        assert_eq!(counts(&theirs), (1, 1), "another project's events are gone");
        let (first, second) = (counts(&ours[0]), counts(&ours[1]));
        assert_eq!((first.0 + second.0, first.1 + second.1), (4, 8));
        assert!(first.0 <= 3 && second.0 <= 3 && first.1 <= 5 && second.1 <= 5);
        let newest = &shown(store.as_ref(), &ours[1])[..2];
        assert_eq!(newest, ["outbound_denied 8.test 443 x1", "ports_changed x1"]);
        // Resumes, which requests of strangers cause, leave the changes alone.
        let step = |from, transition| {
            store.transition(&ours[1], &[from], None, transition, at(50)).unwrap().unwrap();
        };
        for _ in 0..6 {
            step(SandboxState::Pending, Transition::Running("10.0.0.7".parse().unwrap()));
            step(SandboxState::Running, Transition::Suspended);
            step(SandboxState::Suspended, Transition::Pending);
        }
        let events = shown(store.as_ref(), &ours[1]);
        assert_eq!(count_of(&events, "resumed") + count_of(&events, "suspended"), 3);
        assert_eq!(count_of(&events, "ports_changed"), second.0);
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn events_end_with_the_sandbox_and_with_their_age(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let (gone, old) = (create(store.as_ref(), None), create(store.as_ref(), None));
        let unknown = sandgate::random::sandbox_id().unwrap();
        let report = |id| outbound(id, vec![out("a.test", 1)], 0);
        store.record_denials(&[report(&gone), report(&unknown), report(&old)], at(20)).unwrap();
        assert_eq!(shown(store.as_ref(), &unknown), [""; 0]);
        // Not of a terminated one, even though its row still exists.
        store.remove_terminated(&gone).unwrap();
        assert_eq!(shown(store.as_ref(), &gone).len(), 1, "it is not terminated");
        store.terminate_sandbox(&gone, "key_1", at(30)).unwrap();
        store.record_denials(&[outbound(&gone, vec![out("b.test", 1)], 0)], at(31)).unwrap();
        assert_eq!(shown(store.as_ref(), &gone).len(), 1);
        store.remove_terminated(&gone).unwrap();
        assert_eq!(shown(store.as_ref(), &gone), [""; 0]);
        let age = i64::try_from(Limits::default().events_age.as_millis()).unwrap();
        assert!(!store.prune_audit(at(20 + age)).unwrap());
        assert_eq!(shown(store.as_ref(), &old).len(), 1);
        assert!(!store.prune_audit(at(21 + age)).unwrap());
        assert_eq!(shown(store.as_ref(), &old), [""; 0]);
        // Numbers continue, so a position in the list never means another event.
        store.record_denials(&[report(&old)], at(40 + age)).unwrap();
        assert_eq!(store.events(&old, None, 10).unwrap().events[0].number, 2);
    });
}
