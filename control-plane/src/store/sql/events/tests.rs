//! How much a transaction that records denials does.

use std::cell::RefCell;
use std::ops::ControlFlow;

use sandgate_policy::denials::{Counted, Denials, OutboundDenial, Protocol};

use super::*;
use crate::model::{ExposedPorts, NewSandbox, Spec};
use crate::store::sql::{Row, Sql, Value};
use crate::store::{Author, Principals as _, Sandboxes as _, SqliteStore};

/// Before each statement that may use the reserve of a full disk.
const RESERVE: &str = "with the reserve: ";

/// A database that remembers its statements.
struct Observed {
    store: SqliteStore,
    statements: RefCell<Vec<String>>,
}

struct ObservedSession<'s> {
    session: &'s Session<'s>,
    statements: &'s RefCell<Vec<String>>,
}

impl Database for Observed {
    fn limits(&self) -> &Limits {
        self.store.limits()
    }

    fn read<T>(&self, work: impl FnOnce(&Session<'_>) -> Result<T>) -> Result<T> {
        self.store.read(work)
    }

    fn write<T>(&self, work: impl FnOnce(&Session<'_>) -> Result<T>) -> Result<T> {
        let statements = &self.statements;
        self.store.write(|session| work(&ObservedSession { session, statements }))
    }

    fn write_on_full_disk<T>(&self, work: impl Fn(&Session<'_>) -> Result<T>) -> Result<T> {
        let statements = RefCell::default();
        let done = self.store.write_on_full_disk(|session| {
            work(&ObservedSession { session, statements: &statements })
        });
        let taken = statements.take().into_iter().map(|sql: String| format!("{RESERVE}{sql}"));
        self.statements.borrow_mut().extend(taken);
        done
    }
}

impl Sql for ObservedSession<'_> {
    fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64> {
        self.statements.borrow_mut().push(sql.to_owned());
        self.session.execute(sql, values)
    }

    fn each_row(
        &self,
        sql: &str,
        values: &[Value<'_>],
        read: &mut dyn FnMut(&Row<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.statements.borrow_mut().push(sql.to_owned());
        self.session.each_row(sql, values, read)
    }
}

impl Observed {
    fn in_dir(dir: &tempfile::TempDir) -> Self {
        let store = SqliteStore::open(&dir.path().join("s.db")).unwrap();
        let by = Author { principal: "an operator", at: Timestamp::from_millis(1) };
        store.create_organization("org_1", "acme", by).unwrap();
        store.create_project("project_1", "org_1", "web", by).unwrap();
        Self { store, statements: RefCell::default() }
    }

    fn create(&self) -> SandboxId {
        let new = NewSandbox {
            id: crate::random::sandbox_id().unwrap(),
            name: None,
            project_id: "project_1".parse().unwrap(),
            exposed_ports: ExposedPorts::default(),
            allow_unauthenticated_access: false,
            auto_resume: true,
            network_policy: sandgate_policy::egress::NetworkPolicy::default(),
            spec: Spec::new(),
            principal: "key_1".parse().unwrap(),
        };
        self.store.create_sandbox(&new, Timestamp::from_millis(2)).unwrap().value.id
    }

    /// The statements of a transaction that records these denials.
    fn record(&self, reported: &[ReportedDenials]) -> Vec<String> {
        self.record_denials(reported, Timestamp::from_millis(3)).unwrap();
        self.statements.take()
    }
}

fn report(sandbox_id: &SandboxId, names: std::ops::Range<u64>) -> ReportedDenials {
    let denials = names.map(|number| {
        let destination = format!("n{number}.test");
        let rule = "default deny".to_owned();
        let denial =
            OutboundDenial { destination, name: None, port: None, protocol: Protocol::Dns, rule };
        Counted { denial, count: 1 }
    });
    let outbound = Denials { denials: denials.collect(), more: 0 };
    ReportedDenials { sandbox_id: sandbox_id.clone(), inbound: Denials::default(), outbound }
}

fn with<'s>(statements: &'s [String], part: &str) -> Vec<&'s str> {
    statements.iter().map(String::as_str).filter(|sql| sql.contains(part)).collect()
}

/// The attack: sandboxes at their bounds repeat a denial all the time, and the writes of owners wait for each transaction.
#[test]
fn a_repeated_denial_reads_its_period_once_and_changes_its_own_row_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = Observed::in_dir(&dir);
    let id = store.create();
    store.record(&[report(&id, 0..20)]);
    let again = store.record(&[report(&id, 0..20)]);
    // The look-up of the sandbox, the events of the period, and one row for each denial.
    assert_eq!(again.len(), 2 + 20, "{again:#?}");
    let updates = with(&again, "UPDATE sandbox_events");
    assert_eq!(updates.len(), 20);
    assert!(updates.iter().all(|sql| sql.ends_with("WHERE sandbox_id = ?1 AND number = ?2")));
    assert_eq!(with(&again, "OFFSET"), [""; 0], "the bounds are applied though nothing was added");
    let counts = store.events(&id, None, 100).unwrap().events;
    assert!(counts.len() == 20 && counts.iter().all(|event| event.count == 2));
}

/// The attack: many sandboxes of one project, which is at its bound, are denied something new.
#[test]
fn a_transaction_applies_the_bound_of_a_project_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Observed::in_dir(&dir);
    let reports: Vec<_> = (0..5).map(|_| report(&store.create(), 0..3)).collect();
    let statements = store.record(&reports);
    let bounds = with(&statements, "OFFSET");
    assert_eq!(bounds.len(), 5 + 1, "{bounds:#?}");
    assert_eq!(with(&statements, "WHERE project_id = ?1").len(), 1);
    let numbers = with(&statements, "UPDATE sandboxes");
    assert_eq!(numbers.len(), 5, "the numbers of new events are taken at once");
}

/// The attack: the disk is full, and the removal of sandboxes with many events uses what is reserved for revocations.
#[test]
fn the_events_of_a_removed_sandbox_use_no_reserve_and_end_in_steps() {
    let dir = tempfile::tempdir().unwrap();
    let store = Observed::in_dir(&dir);
    let id = store.create();
    store.record(&[report(&id, 0..20)]);
    store.terminate_sandbox(&id, "key_1", Timestamp::from_millis(4)).unwrap();
    store.statements.take();
    store.remove_terminated(&id).unwrap();
    let statements = store.statements.take();
    let events = with(&statements, "sandbox_events");
    assert!(!events.is_empty());
    assert!(events.iter().all(|sql| !sql.starts_with(RESERVE) && sql.contains("LIMIT")));
    assert_eq!(store.events(&id, None, 100).unwrap().events, []);
}

/// The fault: a server of an earlier version removes a sandbox, and leaves its events.
#[test]
fn the_upkeep_removes_the_events_of_sandboxes_that_do_not_exist() {
    let dir = tempfile::tempdir().unwrap();
    let store = Observed::in_dir(&dir);
    let ids: Vec<_> = (0..4).map(|_| store.create()).collect();
    for id in &ids {
        store.record(&[report(id, 0..20)]);
    }
    let remove = |id: &SandboxId| {
        store.write(|tx| tx.execute("DELETE FROM sandboxes WHERE id = ?1", values![id.as_str()]))
    };
    for id in &ids[1..3] {
        remove(id).unwrap();
    }
    while crate::store::sql::prune(&store, Timestamp::from_millis(5)).unwrap() {}
    let counts = ids.iter().map(|id| store.events(id, None, 100).unwrap().events.len());
    assert_eq!(counts.collect::<Vec<_>>(), [20, 0, 0, 20]);
}

/// The fault: during an upgrade, a newer server records an event with a type or a field that this one does not know.
#[test]
fn an_event_of_a_newer_version_does_not_hide_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = Observed::in_dir(&dir);
    let id = store.create();
    store.record(&[report(&id, 0..3)]);
    let newer = |number: i64, detail: &str| {
        let sql = "UPDATE sandbox_events SET detail = ?3 WHERE sandbox_id = ?1 AND number = ?2";
        store.write(|tx| tx.execute(sql, values![id.as_str(), number, detail])).unwrap();
    };
    newer(1, r#"{"type":"teleported","where":"elsewhere"}"#);
    newer(2, r#"{"type":"inbound_denied","port":22,"rule":"X","reason":{"new":true}}"#);
    let events = store.events(&id, None, 100).unwrap().events;
    let details: Vec<_> =
        events.iter().map(|event| serde_json::to_value(&event.detail).unwrap()).collect();
    assert_eq!(details[0]["destination"], "n2.test");
    assert_eq!((&details[1]["type"], &details[1]["port"]), (&"inbound_denied".into(), &22.into()));
    assert_eq!(details[2]["type"], "unknown");
}
