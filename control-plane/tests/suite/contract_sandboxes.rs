//! The contract of the store, continued: sandboxes, their names, their transitions, and their audit log.

use sandgate::model::{
    ExposedPorts, NewSandbox, PolicyDifference, SandboxId, SandboxName, SandboxPatch, Spec,
    Transition,
};
use sandgate::store::{ListFilter, NAME_HOLD, Record, Store, StoreError};
use sandgate_policy::egress::NetworkPolicy;
use sandgate_policy::gateway_api::{Change, SandboxState};
use sandgate_policy::ids::SandboxRef;
use serde_json::json;
use test_case::test_case;

use super::contract::{Database, add_projects, at, changes, network_log, port_log};

const ADDRESS: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 64, 0, 9));

pub(crate) fn name(text: &str) -> SandboxName {
    SandboxName::parse(text).unwrap()
}

pub(crate) fn ports(list: &[u16]) -> ExposedPorts {
    ExposedPorts::parse(list.iter().copied().map(i128::from)).unwrap()
}

pub(crate) fn new(text: Option<&str>, project: &str) -> NewSandbox {
    NewSandbox {
        id: sandgate::random::sandbox_id().unwrap(),
        name: text.map(name),
        project_id: project.parse().unwrap(),
        exposed_ports: ports(&[]),
        allow_unauthenticated_access: false,
        auto_resume: true,
        network_policy: NetworkPolicy::default(),
        spec: Spec::new(),
        principal: "key_1".parse().unwrap(),
    }
}

pub(crate) fn create(store: &dyn Store, text: Option<&str>) -> SandboxId {
    let new = new(text, "project_1");
    store.create_sandbox(&new, at(10)).unwrap().value.id
}

fn run(store: &dyn Store, id: &SandboxId) -> u64 {
    let running = Transition::Running(ADDRESS);
    let stored =
        store.transition(id, &[SandboxState::Pending], None, running, at(11)).unwrap().unwrap();
    stored.value.sandbox.generation
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn a_new_sandbox_is_pending_and_found_by_id_and_name(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let mut wanted = new(Some("my-env"), "project_1");
        wanted.exposed_ports = ports(&[3000, 8080]);
        wanted.spec =
            json!({ "image": "x", "resources": { "cpus": 1.5 } }).as_object().unwrap().clone();
        let made = store.create_sandbox(&wanted, at(10)).unwrap();
        let sandbox = made.value;
        assert_eq!(
            (sandbox.state, sandbox.address, sandbox.generation),
            (SandboxState::Pending, None, 0)
        );
        assert_eq!((&sandbox.spec, &sandbox.exposed_ports), (&wanted.spec, &wanted.exposed_ports));
        assert_eq!(sandbox.organization_id, "org_1");
        let by_name = SandboxRef::parse("my-env").unwrap();
        assert_eq!(store.sandbox(&by_name).unwrap().as_ref(), Some(&sandbox));
        assert_eq!(open().sandbox(&sandbox.id.to_ref()).unwrap(), Some(sandbox.clone()));
        let refs = vec![sandbox.id.to_string(), "my-env".to_owned()];
        assert_eq!(changes(store.as_ref(), made.revision - 1), [Change::Sandbox { refs }]);
        let missing = store.create_sandbox(&new(None, "project_x"), at(10)).unwrap_err();
        assert!(matches!(missing, StoreError::NotFound { what: Record::Project, .. }), "{missing}");
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn one_of_several_concurrent_transitions_succeeds(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let id = create(store.as_ref(), Some("my-env"));
        let stores: Vec<_> = (0..4).map(|_| open()).collect();
        let won: usize = std::thread::scope(|scope| {
            let tries: Vec<_> = stores
                .iter()
                .map(|store| {
                    let running = Transition::Running(ADDRESS);
                    let id = &id;
                    scope.spawn(move || {
                        store
                            .transition(id, &[SandboxState::Pending], None, running, at(11))
                            .unwrap()
                    })
                })
                .collect();
            tries.into_iter().filter_map(|task| task.join().unwrap()).count()
        });
        assert_eq!(won, 1);
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn only_a_running_sandbox_has_an_address_and_generations_never_repeat(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let (one, two) = (create(store.as_ref(), Some("one")), create(store.as_ref(), Some("two")));
        let mut generations = vec![run(store.as_ref(), &one), run(store.as_ref(), &two)];
        for to in [Transition::Suspending, Transition::Suspended, Transition::Pending] {
            let from = [SandboxState::Running, SandboxState::Suspending, SandboxState::Suspended];
            let after =
                store.transition(&one, &from, None, to, at(11)).unwrap().unwrap().value.sandbox;
            assert_eq!((after.state, after.address), (to.state(), None));
            assert_eq!(after.generation, generations[0]);
        }
        generations.push(run(store.as_ref(), &one));
        assert!(generations.is_sorted_by(|a, b| a < b), "{generations:?}");
        let found = store.sandbox(&one.to_ref()).unwrap().unwrap();
        assert_eq!(found.address, Some(ADDRESS));
        let wrong = store
            .transition(&one, &[SandboxState::Suspended], None, Transition::Pending, at(11))
            .unwrap();
        assert_eq!(wrong, None);
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn a_patch_changes_only_the_fields_that_it_contains(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let id = create(store.as_ref(), Some("my-env"));
        run(store.as_ref(), &id);
        let patch = SandboxPatch { exposed_ports: Some(ports(&[8080])), ..SandboxPatch::default() };
        let first = store.patch_sandbox(&id, &patch, "key_1", at(20)).unwrap();
        assert_eq!(first.value.after.exposed_ports, ports(&[8080]));
        assert_eq!(first.value.after.address, Some(ADDRESS));
        let again = store.patch_sandbox(&id, &patch, "key_1", at(21)).unwrap();
        assert_eq!(again.revision, first.revision, "a patch without effect is no change");
        let spec = json!({ "resources": { "cpus": 2 }, "timeout_secs": null });
        let spec = spec.as_object().unwrap().clone();
        let patch = SandboxPatch { spec, ..SandboxPatch::default() };
        let kept = store.patch_sandbox(&id, &patch, "key_1", at(22)).unwrap().value.after;
        assert_eq!(kept.spec, *json!({ "resources": { "cpus": 2 } }).as_object().unwrap());
        assert_eq!(kept.exposed_ports, ports(&[8080]));
        let nobody = sandgate::random::sandbox_id().unwrap();
        let missing = store.patch_sandbox(&nobody, &patch, "key_1", at(23)).unwrap_err();
        assert!(matches!(missing, StoreError::NotFound { .. }), "{missing}");
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn auto_resume_can_be_switched_off_only_with_a_name(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let id = create(store.as_ref(), None);
        let off = SandboxPatch { auto_resume: Some(false), ..SandboxPatch::default() };
        let refused = store.patch_sandbox(&id, &off, "key_1", at(20)).unwrap_err();
        assert!(matches!(refused, StoreError::AutoResumeNeedsName), "{refused}");
        let both = SandboxPatch { name: Some(name("my-env")), ..off };
        assert!(!store.patch_sandbox(&id, &both, "key_1", at(20)).unwrap().value.after.auto_resume);
        let mut made = new(None, "project_1");
        made.auto_resume = false;
        let refused = store.create_sandbox(&made, at(20)).unwrap_err();
        assert!(matches!(refused, StoreError::AutoResumeNeedsName), "{refused}");
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn the_change_of_a_rename_has_both_names(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let id = create(store.as_ref(), Some("old"));
        let patch = SandboxPatch { name: Some(name("new")), ..SandboxPatch::default() };
        let renamed = store.patch_sandbox(&id, &patch, "key_1", at(20)).unwrap();
        let refs = vec![id.to_string(), "new".to_owned(), "old".to_owned()];
        assert_eq!(changes(store.as_ref(), renamed.revision - 1), [Change::Sandbox { refs }]);
        assert_eq!(store.sandbox(&SandboxRef::parse("old").unwrap()).unwrap(), None);
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn a_freed_name_is_held_for_its_project_for_thirty_days(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let freed = at(1_000);
        let taken = |error: StoreError| matches!(error, StoreError::NameTaken(_));
        for free in ["deletion", "rename"] {
            let id = store.create_sandbox(&new(Some(free), "project_1"), freed).unwrap().value.id;
            assert!(!store.name_is_free(&name(free), "project_1", freed).unwrap());
            if free == "rename" {
                let patch = SandboxPatch { name: Some(name("else")), ..SandboxPatch::default() };
                store.patch_sandbox(&id, &patch, "key_1", freed).unwrap();
            } else {
                store.terminate_sandbox(&id, "key_1", freed).unwrap().unwrap();
            }
            let wanted = new(Some(free), "project_2");
            let almost = at(freed.plus(NAME_HOLD).millis() - 1);
            assert!(taken(store.create_sandbox(&wanted, almost).unwrap_err()), "{free}");
            assert!(store.name_is_free(&name(free), "project_1", freed).unwrap());
            assert!(!store.name_is_free(&name(free), "project_2", almost).unwrap());
            store.create_sandbox(&wanted, freed.plus(NAME_HOLD)).unwrap();
            // The other project has the name now.
            let back = new(Some(free), "project_1");
            assert!(taken(store.create_sandbox(&back, freed.plus(NAME_HOLD)).unwrap_err()));
        }
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn a_terminated_sandbox_is_only_in_the_list_of_terminated_ones(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let id = create(store.as_ref(), Some("my-env"));
        run(store.as_ref(), &id);
        let ended = store.terminate_sandbox(&id, "key_1", at(20)).unwrap().unwrap();
        assert_eq!((ended.value.state, ended.value.address), (SandboxState::Terminated, None));
        let refs = vec![id.to_string(), "my-env".to_owned()];
        assert_eq!(changes(store.as_ref(), ended.revision - 1), [Change::Sandbox { refs }]);
        assert_eq!(store.sandbox(&id.to_ref()).unwrap(), None);
        assert_eq!(store.terminate_sandbox(&id, "key_1", at(21)).unwrap(), None);
        let every = [
            SandboxState::Pending,
            SandboxState::Running,
            SandboxState::Suspended,
            SandboxState::Terminated,
        ];
        assert_eq!(store.transition(&id, &every, None, Transition::Pending, at(22)).unwrap(), None);
        let terminated = store.sandboxes_in(SandboxState::Terminated).unwrap();
        assert_eq!(terminated.iter().map(|sandbox| &sandbox.id).collect::<Vec<_>>(), [&id]);
        store.remove_terminated(&id).unwrap();
        assert!(store.sandboxes_in(SandboxState::Terminated).unwrap().is_empty());
        let pending = create(store.as_ref(), None);
        store.remove_terminated(&pending).unwrap();
        assert!(store.sandbox(&pending.to_ref()).unwrap().is_some(), "only terminated ones");
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn a_list_has_the_sandboxes_of_one_project_in_order_by_state_and_by_page(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let ids: Vec<_> = (0..4).map(|_| create(store.as_ref(), None)).collect();
        store.create_sandbox(&new(None, "project_2"), at(10)).unwrap();
        run(store.as_ref(), &ids[1]);
        store.terminate_sandbox(&ids[2], "key_1", at(20)).unwrap();
        let list = |state, after, limit| {
            let filter = ListFilter { state, after, limit, size: usize::MAX };
            store.list_sandboxes("project_1", &filter).unwrap().sandboxes
        };
        let found = |list: Vec<sandgate::model::Sandbox>| {
            list.into_iter().map(|sandbox| sandbox.id).collect::<Vec<_>>()
        };
        let all = list(None, 0, 100);
        assert_eq!(found(all.clone()), [ids[0].clone(), ids[1].clone(), ids[3].clone()]);
        assert_eq!(found(list(None, all[0].sequence, 1)), [ids[1].clone()]);
        assert_eq!(found(list(Some(SandboxState::Running), 0, 100)), [ids[1].clone()]);
        assert!(found(list(Some(SandboxState::Terminated), 0, 100)).is_empty());
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn the_audit_log_remains_after_the_sandbox_is_removed(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let id = create(store.as_ref(), None);
        let patch = SandboxPatch {
            exposed_ports: Some(ports(&[8080])),
            allow_unauthenticated_access: Some(true),
            ..SandboxPatch::default()
        };
        store.patch_sandbox(&id, &patch, "key_7", at(20)).unwrap();
        store.terminate_sandbox(&id, "key_8", at(30)).unwrap();
        store.remove_terminated(&id).unwrap();
        let log = port_log(store.as_ref(), &id);
        let lines: Vec<_> =
            log.iter().map(|line| (line.at, line.principal.as_str(), line.after.1)).collect();
        assert_eq!(lines, [(at(20), "key_7", true), (at(30), "key_8", false)]);
        assert_eq!(log[0].after.0, ports(&[8080]));
    });
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn only_a_change_of_the_network_policy_raises_its_revision(database: Database) {
    database.check(|open| {
        let store = open();
        add_projects(store.as_ref());
        let id = create(store.as_ref(), None);
        let patch = |patch: SandboxPatch| {
            store.patch_sandbox(&id, &patch, "key_7", at(20)).unwrap().value.after
        };
        let off: NetworkPolicy =
            serde_json::from_str(r#"{"allow_internet_access": false, "deny_out": ["a.test"]}"#)
                .unwrap();
        assert_eq!(store.restricted_sandboxes().unwrap(), 0);
        let network =
            |network| SandboxPatch { network_policy: Some(network), ..SandboxPatch::default() };
        let changed = patch(network(off.clone()));
        assert_eq!(changed.network_policy, off);
        assert!(changed.network_policy_revision > 0);
        let same = patch(network(off.clone()));
        let port =
            patch(SandboxPatch { exposed_ports: Some(ports(&[80])), ..SandboxPatch::default() });
        assert_eq!(
            [same.network_policy_revision, port.network_policy_revision],
            [changed.network_policy_revision; 2]
        );
        assert_eq!(open().sandbox(&id.to_ref()).unwrap().unwrap(), port);
        assert_eq!(store.restricted_sandboxes().unwrap(), 1);
        let cleared = patch(network(NetworkPolicy::default()));
        assert!(cleared.network_policy_revision > changed.network_policy_revision);
        assert_eq!(store.restricted_sandboxes().unwrap(), 0);
        let log = network_log(store.as_ref(), &id);
        let default = NetworkPolicy::default();
        let lines: Vec<_> = log.iter().map(|line| &line.difference).collect();
        let difference = |a, b| PolicyDifference::between(a, b).unwrap();
        assert_eq!(lines, [&difference(&default, &off), &difference(&off, &default)]);
        assert_eq!((log[0].at, log[0].principal.as_str()), (at(20), "key_7"));
    });
}
