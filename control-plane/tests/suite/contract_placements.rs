//! The contract of the store, continued: placements, and suspensions that the platform has not confirmed.

use sandgate::model::{Sandbox, SandboxId, Transition};
use sandgate::store::Store;
use sandgate_policy::gateway_api::SandboxState;
use test_case::test_case;

use super::contract::{Database, add_projects, at};
use super::contract_sandboxes::create;

const ANY: [SandboxState; 4] = [
    SandboxState::Pending,
    SandboxState::Running,
    SandboxState::Suspending,
    SandboxState::Suspended,
];

fn apply(store: &dyn Store, id: &SandboxId, transition: Transition) -> Sandbox {
    store.transition(id, &ANY, None, transition, at(50)).unwrap().unwrap().value.sandbox
}

fn running(address: &str) -> Transition {
    Transition::Running(address.parse().unwrap())
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn only_a_start_a_resume_and_a_move_begin_a_placement(database: Database) {
    database.check(|open| {
        let store = open();
        let store = store.as_ref();
        add_projects(store);
        let id = create(store, Some("my-env"));
        let created = store.sandbox(&id.to_ref()).unwrap().unwrap().placement;
        assert!(created > 0);
        assert_eq!(apply(store, &id, running("10.0.0.7")).placement, created);
        let moved = apply(store, &id, running("10.0.0.8")).placement;
        assert!(moved > created);
        for same in [
            Transition::Suspending,
            Transition::StillRunning("10.0.0.8".parse().unwrap()),
            Transition::Suspending,
            Transition::Suspended,
        ] {
            assert_eq!(apply(store, &id, same).placement, moved, "{same:?}");
        }
        let tried = apply(store, &id, Transition::Pending).placement;
        assert!(tried > moved);
        assert_eq!(apply(store, &id, Transition::Suspended).placement, tried, "it failed");
        assert!(apply(store, &id, Transition::Pending).placement > tried);
        let other = create(store, Some("other"));
        let placement = |id: &SandboxId| store.sandbox(&id.to_ref()).unwrap().unwrap().placement;
        assert_ne!(placement(&id), placement(&other));
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn a_result_of_an_earlier_placement_changes_nothing(database: Database) {
    database.check(|open| {
        let store = open();
        let store = store.as_ref();
        add_projects(store);
        let id = create(store, Some("my-env"));
        let other = create(store, Some("other"));
        let earlier = apply(store, &id, Transition::Pending).placement;
        apply(store, &id, Transition::Suspended);
        let current = apply(store, &id, Transition::Pending).placement;
        // The address of the earlier placement belongs to another sandbox meanwhile.
        apply(store, &other, running("10.0.0.7"));
        let late = |within, address| {
            let from = [SandboxState::Pending];
            store.transition(&id, &from, Some(within), running(address), at(60)).unwrap()
        };
        let revision = store.revision().unwrap();
        assert_eq!(late(earlier, "10.0.0.7"), None);
        assert_eq!(store.revision().unwrap(), revision);
        let address = |id: &SandboxId| store.sandbox(&id.to_ref()).unwrap().unwrap().address;
        assert_eq!(address(&other), Some("10.0.0.7".parse().unwrap()));
        assert!(late(current, "10.0.0.8").is_some());
        assert_eq!(address(&id), Some("10.0.0.8".parse().unwrap()));
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn a_suspension_is_unconfirmed_until_it_is_confirmed_or_the_sandbox_runs(database: Database) {
    database.check(|open| {
        let store = open();
        let store = store.as_ref();
        add_projects(store);
        let id = create(store, Some("my-env"));
        // Another process reads the same list.
        let listed = || {
            let ids = open().unconfirmed_suspensions().unwrap();
            ids.into_iter().map(|sandbox| sandbox.id).collect::<Vec<_>>()
        };
        let first = apply(store, &id, running("10.0.0.7")).generation;
        apply(store, &id, Transition::Suspending);
        apply(store, &id, Transition::Suspended);
        assert!(listed().is_empty());
        apply(store, &id, Transition::Pending);
        let second = apply(store, &id, running("10.0.0.7")).generation;
        apply(store, &id, Transition::Suspending);
        apply(store, &id, Transition::SuspendedUnconfirmed);
        assert_eq!(listed(), std::slice::from_ref(&id));
        // A failed resume confirms nothing.
        apply(store, &id, Transition::Pending);
        apply(store, &id, Transition::Suspended);
        assert_eq!(listed(), std::slice::from_ref(&id));
        // A late confirmation of an earlier suspension does not confirm this one.
        store.confirm_suspension(&id, first).unwrap();
        assert_eq!(listed(), std::slice::from_ref(&id));
        store.confirm_suspension(&id, second).unwrap();
        assert!(listed().is_empty());
        apply(store, &id, Transition::SuspendedUnconfirmed);
        apply(store, &id, running("10.0.0.7"));
        assert!(listed().is_empty(), "it runs");
        // The platform gave its address to another sandbox without a report.
        let other = create(store, Some("other"));
        apply(store, &other, running("10.0.0.7"));
        assert_eq!(listed(), std::slice::from_ref(&id));
        store.terminate_sandbox(&id, "key_1", at(60)).unwrap().unwrap();
        assert!(listed().is_empty(), "a terminated sandbox has to be stopped instead");
    });
}
