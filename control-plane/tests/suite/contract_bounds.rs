//! The contract of the store, continued: unique addresses, and bounds.

use std::net::IpAddr;

use sandgate::model::{Sandbox, SandboxId, SandboxPatch, Transition};
use sandgate::store::{Limits, ListFilter, NAME_HOLD, Store, StoreError, Transitioned};
use sandgate_policy::gateway_api::{Change, SandboxState};
use serde_json::json;
use test_case::test_case;

use super::contract::{Database, add_projects, at, changes, port_log};
use super::contract_sandboxes::{create, name, new, ports};

const RUNNING: [SandboxState; 1] = [SandboxState::Running];

fn step(
    store: &dyn Store,
    id: &SandboxId,
    from: &[SandboxState],
    step: Transition,
) -> Transitioned {
    store.transition(id, from, None, step, at(50)).unwrap().unwrap().value
}

fn run(store: &dyn Store, id: &SandboxId, address: &str) -> Transitioned {
    let from = [SandboxState::Pending, SandboxState::Running];
    step(store, id, &from, Transition::Running(address.parse().unwrap()))
}

fn look(store: &dyn Store, id: &SandboxId) -> Sandbox {
    store.sandbox(&id.to_ref()).unwrap().unwrap()
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn an_address_that_another_sandbox_gets_is_taken_from_the_first_one(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let alice = create(store.as_ref(), Some("alice"));
        assert_eq!(run(store.as_ref(), &alice, "10.0.0.7").displaced, None);
        let mut bobs = new(Some("bob"), "project_2");
        bobs.exposed_ports = ports(&[22]);
        let bob = store.create_sandbox(&bobs, at(20)).unwrap().value.id;
        let before = store.revision().unwrap();
        let address = Transition::Running("10.0.0.7".parse().unwrap());
        let taken = store.transition(&bob, &[SandboxState::Pending], None, address, at(50));
        let taken = taken.unwrap().unwrap();
        let lost = look(store.as_ref(), &alice);
        assert_eq!((lost.state, lost.address), (SandboxState::Suspended, None));
        assert_eq!(taken.value.displaced, Some(lost));
        // The changes up to the revision of the transition name both sandboxes.
        let named = changes(store.as_ref(), before);
        for refs in [vec![alice.to_string(), "alice".into()], vec![bob.to_string(), "bob".into()]] {
            assert!(named.contains(&Change::Sandbox { refs: refs.clone() }), "{refs:?}");
        }
        assert_eq!(store.revision().unwrap(), taken.revision);
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn an_unnamed_sandbox_that_loses_its_address_is_terminated_and_logged(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let mut nameless = new(None, "project_1");
        nameless.exposed_ports = ports(&[8080]);
        let first = store.create_sandbox(&nameless, at(20)).unwrap().value.id;
        run(store.as_ref(), &first, "10.0.0.7");
        let second = create(store.as_ref(), None);
        let displaced = run(store.as_ref(), &second, "10.0.0.7").displaced.unwrap();
        assert_eq!((&displaced.id, displaced.state), (&first, SandboxState::Terminated));
        assert_eq!(store.sandbox(&first.to_ref()).unwrap(), None);
        let log = port_log(store.as_ref(), &first);
        assert_eq!((log[1].principal.as_str(), log[1].after.0.is_empty()), ("system", true));
        let left = store.sandboxes_in(SandboxState::Terminated).unwrap();
        assert_eq!(left.len(), 1, "the runtime must still stop the sandbox");
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn an_ipv4_mapped_address_is_the_same_address(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let (one, two) = (create(store.as_ref(), Some("one")), create(store.as_ref(), Some("two")));
        run(store.as_ref(), &one, "10.0.0.7");
        assert!(run(store.as_ref(), &two, "::ffff:10.0.0.7").displaced.is_some());
        let address: IpAddr = "10.0.0.7".parse().unwrap();
        assert_eq!(look(store.as_ref(), &two).address, Some(address));
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn a_sandbox_that_still_runs_does_not_take_its_address_back_from_another_one(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let (one, two) = (create(store.as_ref(), Some("one")), create(store.as_ref(), Some("two")));
        run(store.as_ref(), &one, "10.0.0.7");
        let still = Transition::StillRunning("10.0.0.7".parse().unwrap());
        step(store.as_ref(), &one, &RUNNING, Transition::Suspending);
        let undisturbed = step(store.as_ref(), &one, &[SandboxState::Suspending], still);
        assert_eq!(undisturbed.sandbox.state, SandboxState::Running);
        step(store.as_ref(), &one, &RUNNING, Transition::Suspending);
        run(store.as_ref(), &two, "10.0.0.7");
        let late = step(store.as_ref(), &one, &[SandboxState::Suspending], still);
        assert_eq!((late.sandbox.state, late.sandbox.address), (SandboxState::Suspended, None));
        assert_eq!(look(store.as_ref(), &two).state, SandboxState::Running);
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn repeated_renames_hold_only_the_newest_names(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let id = create(store.as_ref(), Some("squat-0"));
        let count = Limits::default().held_names + 5;
        let mut now = at(100);
        for number in 1..=count {
            now = at(100 + i64::try_from(number).unwrap());
            let name = Some(name(&format!("squat-{number}")));
            let patch = SandboxPatch { name, ..SandboxPatch::default() };
            store.patch_sandbox(&id, &patch, "key_1", now).unwrap();
        }
        let free = |number: usize| {
            store.name_is_free(&name(&format!("squat-{number}")), "project_2", now).unwrap()
        };
        let held: Vec<usize> = (0..count).filter(|number| !free(*number)).collect();
        assert_eq!(held, (5..count).collect::<Vec<_>>(), "the newest ones");
        // The bound is for one project: the names of another project stay held.
        let theirs = store.create_sandbox(&new(Some("theirs"), "project_2"), now).unwrap().value.id;
        store.terminate_sandbox(&theirs, "key_2", now).unwrap();
        store.terminate_sandbox(&id, "key_1", now).unwrap();
        let taken = store.create_sandbox(&new(Some("theirs"), "project_1"), now).unwrap_err();
        assert!(matches!(taken, StoreError::NameTaken(_)), "{taken}");
        assert!(store.name_is_free(&name("theirs"), "project_1", now.plus(NAME_HOLD)).unwrap());
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn a_page_has_a_bounded_size_and_at_least_one_sandbox(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        for _ in 0..3 {
            let mut large = new(None, "project_1");
            large.spec = json!({ "image": "x".repeat(1_000) }).as_object().unwrap().clone();
            store.create_sandbox(&large, at(20)).unwrap();
        }
        let page = |after, size| {
            let filter = ListFilter { state: None, after, limit: 10, size };
            let page = store.list_sandboxes("project_1", &filter).unwrap();
            (page.sandboxes.len(), page.more, page.sandboxes.last().unwrap().sequence)
        };
        let (count, more, last) = page(0, 2_500);
        assert_eq!((count, more), (2, true));
        assert_eq!(page(last, 2_500).0, 1);
        assert!(!page(last, 2_500).1);
        assert_eq!((page(0, 10).0, page(0, 10).1), (1, true), "at least one");
    });
}
