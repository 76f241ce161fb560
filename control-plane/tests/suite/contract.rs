//! The contract of the store, run against every database that implements it.
//!
//! A check may open the same store several times, as several processes do.

use sandgate::model::{NetworkChange, PortChange, SandboxId, Timestamp};
use sandgate::store::{
    AuditCursor, Author, ChangesSince, Limits, PostgresStore, SqliteStore, Store,
};
use sandgate_policy::gateway_api::Change;
use test_case::test_case;

use super::postgres;

/// Opens the same store again.
pub(crate) type Open<'a> = &'a dyn Fn() -> Box<dyn Store>;
type Check = fn(Open<'_>);

/// The databases that implement the store.
#[derive(Clone, Copy)]
pub(crate) enum Database {
    Sqlite,
    Postgres,
}

impl Database {
    /// Runs a check against an empty store.
    pub(crate) fn check(self, check: Check) {
        self.check_within(Limits::default(), check);
    }

    /// Runs a check against an empty store with these limits.
    pub(crate) fn check_within(self, limits: Limits, check: Check) {
        match self {
            Self::Sqlite => {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("store.db");
                check(&|| Box::new(SqliteStore::open(&path).unwrap().within(limits)));
            }
            Self::Postgres => {
                let settings = postgres::shared().database();
                check(&|| Box::new(PostgresStore::open(&settings).unwrap().within(limits)));
            }
        }
    }
}

pub(crate) fn by(millis: i64) -> Author<'static> {
    Author { principal: "an operator", at: at(millis) }
}

pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// A store with an organization, two projects and a user.
pub(crate) fn add_projects(store: &dyn Store) {
    store.create_organization("org_1", "acme", by(1)).unwrap();
    store.create_project("project_1", "org_1", "web", by(2)).unwrap();
    store.create_project("project_2", "org_1", "batch", by(3)).unwrap();
    store.add_member("user_1", "ann", "project_1", by(4)).unwrap();
}

/// The complete audit log of the ports of a sandbox.
pub(crate) fn port_log(store: &dyn Store, id: &SandboxId) -> Vec<PortChange> {
    let page = store.port_changes(Some(id), AuditCursor::default()).unwrap();
    assert_eq!(page.next, None, "more than one page");
    page.lines
}

/// The complete audit log of the network policies of a sandbox.
pub(crate) fn network_log(store: &dyn Store, id: &SandboxId) -> Vec<NetworkChange> {
    let page = store.network_changes(Some(id), AuditCursor::default()).unwrap();
    assert_eq!(page.next, None, "more than one page");
    page.lines
}

pub(crate) fn changes(store: &dyn Store, since: u64) -> Vec<Change> {
    match store.changes_since(since, 100).unwrap() {
        ChangesSince::Known(_, changes) => changes,
        ChangesSince::Unknown(newest) => panic!("{since} is not known; the newest is {newest}"),
    }
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn revisions_grow_with_each_change_and_persist(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let before = store.revision().unwrap();
        let removed = store.remove_member("ann", "project_1", by(5)).unwrap();
        assert!(removed.revision > before);
        assert_eq!(store.revision().unwrap(), removed.revision);
        let epoch = store.epoch().to_owned();
        drop(store);
        let again = open();
        assert_eq!((again.revision().unwrap(), again.epoch()), (removed.revision, epoch.as_str()));
        assert_eq!(
            changes(again.as_ref(), before),
            [Change::Principal { id: "user_1".parse().unwrap() }]
        );
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn pages_of_changes_have_no_gap_and_no_repetition(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let start = store.revision().unwrap();
        for round in 0..5 {
            store
                .add_member(&format!("user_x{round}"), &format!("u{round}"), "project_1", by(9))
                .unwrap();
        }
        let (mut since, mut seen) = (start, Vec::new());
        loop {
            let ChangesSince::Known(reached, page) = store.changes_since(since, 2).unwrap() else {
                panic!("{since} is not known");
            };
            if page.is_empty() {
                assert_eq!(reached, since);
                break;
            }
            assert!(page.len() <= 2);
            since = reached;
            seen.extend(page);
        }
        let expected: Vec<_> = (0..5)
            .map(|round| Change::Principal { id: format!("user_x{round}").parse().unwrap() })
            .collect();
        assert_eq!(seen, expected);
        assert_eq!(since, store.revision().unwrap());
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn a_revision_that_does_not_exist_is_unknown(database: Database) {
    database.check(|open| {
        let store = open();
        let newest = store.revision().unwrap();
        for since in [newest + 1, u64::from(u32::MAX) * 1_000_000, newest - 1, 0] {
            let answer = store.changes_since(since, 10).unwrap();
            assert_eq!(answer, ChangesSince::Unknown(newest), "{since}");
        }
        assert_eq!(store.changes_since(newest, 10).unwrap(), ChangesSince::Known(newest, vec![]));
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn a_process_notices_and_sees_the_writes_of_another(database: Database) {
    database.check(|open| {
        let (here, there) = (open(), open());
        here.written_elsewhere().unwrap();
        assert!(!here.written_elsewhere().unwrap(), "nothing was written");
        add_projects(there.as_ref());
        assert!(here.written_elsewhere().unwrap());
        assert!(!here.written_elsewhere().unwrap(), "the same write is noticed once");
        assert_eq!(here.revision().unwrap(), there.revision().unwrap());
        assert_eq!(here.projects().unwrap(), there.projects().unwrap());
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn the_applied_revision_is_recorded_and_never_decreases(database: Database) {
    database.check(|open| {
        let (server, command) = (open(), open());
        let start = server.revision().unwrap();
        assert_eq!(command.applied().unwrap(), start);
        server.record_applied(start + 5).unwrap();
        server.record_applied(start + 3).unwrap();
        assert_eq!(command.applied().unwrap(), start + 5);
        assert_eq!(server.revision().unwrap(), start, "recording it is no change");
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn several_processes_do_not_lose_each_others_writes(database: Database) {
    database.check(|open| {
        add_projects(open().as_ref());
        let start = open().revision().unwrap();
        let stores: Vec<_> = (0..4).map(|_| open()).collect();
        std::thread::scope(|scope| {
            for (writer, store) in stores.iter().enumerate() {
                scope.spawn(move || {
                    for round in 0..10 {
                        let user = format!("user_{writer}_{round}");
                        store.add_member(&user, &user, "project_1", by(9)).unwrap();
                    }
                });
            }
        });
        assert_eq!(open().revision().unwrap(), start + 40);
        assert_eq!(changes(open().as_ref(), start).len(), 40);
        assert_eq!(open().members(Some("project_1")).unwrap().len(), 41);
    });
}
