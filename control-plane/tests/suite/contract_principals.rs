//! The contract of the store, continued: organizations, projects, members and credentials.

use sandgate::model::{CredentialQuery, NewCredential, OperatorChange, Owner};
use sandgate::random::SecretHash;
use sandgate::store::{AuditCursor, Author, Limits, Principals as _, Store, StoreError};
use sandgate_policy::gateway_api::{Change, CredentialKind, Identity};
use test_case::test_case;

use super::contract::{Database, add_projects, at, by, changes};

fn key(id: &str, owner: Owner, expires_at: Option<i64>) -> NewCredential {
    let hash = SecretHash::of(&format!("secret of {id}"));
    NewCredential { id: id.into(), owner, name: None, hash, expires_at: expires_at.map(at) }
}

fn of_project() -> Owner {
    Owner::Project { project_id: "project_1".into() }
}

fn of_user(session: bool) -> Owner {
    Owner::User { user_id: "user_1".into(), session }
}

fn identify(
    store: &dyn Store,
    id: &str,
    kind: CredentialKind,
    context: Option<(&str, &str)>,
    now: i64,
) -> Option<Identity> {
    let query = CredentialQuery {
        kind,
        hash: SecretHash::of(&format!("secret of {id}")),
        organization_id: context.map(|(organization, _)| organization.parse().unwrap()),
        project_id: context.map(|(_, project)| project.parse().unwrap()),
    };
    store.identify(&query, at(now)).unwrap()
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn names_of_organizations_are_unique_and_names_of_projects_within_one(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let twice = store.create_organization("org_2", "acme", by(5)).unwrap_err();
        assert!(matches!(twice, StoreError::AlreadyExists { .. }), "{twice}");
        let twice = store.create_project("project_3", "org_1", "web", by(5)).unwrap_err();
        assert!(matches!(twice, StoreError::AlreadyExists { .. }), "{twice}");
        store.create_organization("org_2", "umbrella", by(5)).unwrap();
        let made = store.create_project("project_3", "org_2", "web", by(6)).unwrap();
        assert_eq!((made.organization_name.as_str(), made.name.as_str()), ("umbrella", "web"));
        let organizations: Vec<_> =
            store.organizations().unwrap().into_iter().map(|found| found.name).collect();
        assert_eq!(organizations, ["acme", "umbrella"]);
        let projects: Vec<_> =
            store.projects().unwrap().into_iter().map(|found| found.id).collect();
        assert_eq!(projects, ["project_1", "project_2", "project_3"]);
        assert_eq!(store.project("project_3").unwrap(), Some(made));
        assert_eq!(store.project("nowhere").unwrap(), None);
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn an_operation_on_something_missing_is_a_not_found_error(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let missing = |error: StoreError| matches!(error, StoreError::NotFound { .. });
        assert!(missing(store.create_project("p", "org_x", "x", by(5)).unwrap_err()));
        assert!(missing(store.add_member("u", "bob", "project_x", by(5)).unwrap_err()));
        assert!(missing(store.remove_member("bob", "project_1", by(5)).unwrap_err()));
        assert!(missing(store.remove_member("ann", "project_2", by(5)).unwrap_err()));
        let owner = Owner::Project { project_id: "project_x".into() };
        assert!(missing(store.create_credential(&key("k", owner, None), by(5)).unwrap_err()));
        assert!(missing(store.revoke_credential("k", by(5)).unwrap_err()));
        assert_eq!(store.user("bob").unwrap(), None, "a refused membership makes no user");
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn a_member_is_added_once_and_found_by_name_and_id(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let before = store.revision().unwrap();
        let again = store.add_member("user_9", "ann", "project_1", by(9)).unwrap();
        assert_eq!((again.value.user.id.as_str(), again.revision), ("user_1", before));
        let second = store.add_member("user_9", "ann", "project_2", by(9)).unwrap();
        assert_eq!(second.value.user.id, "user_1");
        assert_eq!(
            changes(store.as_ref(), before),
            [Change::Principal { id: "user_1".parse().unwrap() }]
        );
        assert_eq!(store.user("ann").unwrap(), store.user("user_1").unwrap());
        assert_eq!(store.members(None).unwrap().len(), 2);
        assert_eq!(store.members(Some("project_2")).unwrap(), [second.value]);
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn an_api_key_identifies_its_project_until_it_is_revoked(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        store.create_credential(&key("key_1", of_project(), None), by(5)).unwrap();
        let found = identify(store.as_ref(), "key_1", CredentialKind::ApiKey, None, 6);
        let expected = Identity {
            principal: "key_1".parse().unwrap(),
            organization_id: "org_1".parse().unwrap(),
            project_ids: vec!["project_1".parse().unwrap()],
            expires_at: None,
        };
        assert_eq!(found, Some(expected));
        let before = store.revision().unwrap();
        let revoked = store.revoke_credential("key_1", by(7)).unwrap();
        assert_eq!(revoked.value.revoked_at, Some(at(7)));
        assert_eq!(
            changes(store.as_ref(), before),
            [Change::Principal { id: "key_1".parse().unwrap() }]
        );
        assert_eq!(identify(store.as_ref(), "key_1", CredentialKind::ApiKey, None, 8), None);
        let again = store.revoke_credential("key_1", by(9)).unwrap();
        assert_eq!((again.value.revoked_at, again.revision), (Some(at(7)), revoked.revision));
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn a_credential_is_invalid_from_its_expiry(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        store.create_credential(&key("key_1", of_project(), Some(10_000)), by(5)).unwrap();
        let found = identify(store.as_ref(), "key_1", CredentialKind::ApiKey, None, 9_999);
        assert_eq!(found.unwrap().expires_at, Some(10));
        assert_eq!(identify(store.as_ref(), "key_1", CredentialKind::ApiKey, None, 10_000), None);
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn a_credential_is_found_only_by_its_own_kind(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        store.create_credential(&key("key_1", of_project(), None), by(5)).unwrap();
        store.create_credential(&key("key_2", of_user(false), None), by(5)).unwrap();
        store.create_credential(&key("key_3", of_user(true), None), by(5)).unwrap();
        let kinds =
            [CredentialKind::ApiKey, CredentialKind::PersonalAccessToken, CredentialKind::Session];
        let here = Some(("org_1", "project_1"));
        for (id, is) in [("key_1", 0), ("key_2", 1), ("key_3", 2)] {
            for (index, kind) in kinds.into_iter().enumerate() {
                let found = identify(store.as_ref(), id, kind, here, 6);
                assert_eq!(found.is_some(), index == is, "{id} as {kind:?}");
            }
        }
        let all: Vec<_> =
            store.credentials().unwrap().into_iter().map(|found| found.owner.kind()).collect();
        assert_eq!(all, kinds);
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn a_user_acts_only_in_projects_of_which_it_is_a_member_and_in_their_organization(
    database: Database,
) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        store.create_organization("org_2", "umbrella", by(5)).unwrap();
        store.create_credential(&key("key_2", of_user(false), None), by(5)).unwrap();
        let projects = |context| {
            let kind = CredentialKind::PersonalAccessToken;
            let found = identify(store.as_ref(), "key_2", kind, context, 6);
            found.map_or_else(Vec::new, |identity| identity.project_ids)
        };
        assert_eq!(projects(Some(("org_1", "project_1"))), ["project_1"]);
        for elsewhere in [Some(("org_1", "project_2")), Some(("org_2", "project_1")), None] {
            assert!(projects(elsewhere).is_empty(), "{elsewhere:?}");
        }
        store.remove_member("ann", "project_1", by(5)).unwrap();
        assert!(projects(Some(("org_1", "project_1"))).is_empty());
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn the_store_contains_no_secret(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let made = store.create_credential(&key("key_1", of_project(), None), by(5)).unwrap();
        assert!(!format!("{made:?}").contains("secret of"));
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let store = sandgate::store::SqliteStore::open(&path).unwrap();
    add_projects(&store);
    store.create_credential(&key("key_1", of_project(), None), by(5)).unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let held = bytes.windows(9).any(|window| window == b"secret of");
        assert!(!held);
    }
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn each_operators_change_has_a_line_in_the_audit_log(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        store.create_credential(&key("key_1", of_user(false), None), by(5)).unwrap();
        let token = Author { principal: "admin token 00112233", at: at(6) };
        store.revoke_credential("key_1", token).unwrap();
        store.remove_member("ann", "project_1", token).unwrap();
        // What changes nothing has no line.
        store.revoke_credential("key_1", by(7)).unwrap();
        store.create_organization("org_2", "acme", by(7)).unwrap_err();
        store.remove_member("ann", "project_1", by(7)).unwrap_err();
        store.add_member("user_2", "ann", "project_2", by(8)).unwrap();
        store.add_member("user_2", "ann", "project_2", by(9)).unwrap();
        let page = store.operator_changes(AuditCursor::default()).unwrap();
        assert_eq!(page.next, None);
        let lines = page.lines.iter().map(|line| {
            let OperatorChange { at, principal, action, subject, of } = line;
            (at.millis(), principal.as_str(), action.as_str(), subject.as_str(), of.as_str())
        });
        let operator = "an operator";
        let expected = [
            (1, operator, "create organization", "org_1", ""),
            (2, operator, "create project", "project_1", "org_1"),
            (3, operator, "create project", "project_2", "org_1"),
            (4, operator, "add member", "user_1", "project_1"),
            (5, operator, "create key", "key_1", "user_1"),
            (6, token.principal, "revoke key", "key_1", "user_1"),
            (6, token.principal, "remove member", "user_1", "project_1"),
            (8, operator, "add member", "user_1", "project_2"),
        ];
        assert_eq!(lines.collect::<Vec<_>>(), expected);

        // As old as the limits allow are the lines from 6 on.
        let end = at(6).plus(Limits::default().audit_age);
        assert!(!store.prune_audit(end).unwrap());
        let rest = store.operator_changes(AuditCursor::default()).unwrap().lines;
        assert_eq!(rest.iter().map(|line| line.at.millis()).collect::<Vec<_>>(), [6, 6, 8]);
    });
}
