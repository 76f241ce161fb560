//! Backup and restore. A backup is made while others write, and a restored store continues with a history of its own.
//!
//! The attack: a store is restored from a backup, and an edge was disconnected. Without a new history, the restored store uses the
//! revisions of lost changes again. The edge connects with a revision of the lost history that exists again, is told of no change, and
//! continues to use its cache entry of a key that the restored store does not have, or of a sandbox at an address that
//! another one has now.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use sandgate::model::{Timestamp, Transition};
use sandgate::sandboxes::ServiceSettings;
use sandgate::serve::{back_up_data_dir, restore_data_dir};
use sandgate::store::{
    ChangesSince, PostgresSettings, PostgresStore, Principals as _, SqliteStore, Store, Upkeep as _,
};
use sandgate_policy::gateway_api::SandboxState;
use serde_json::{Value, json};
use test_case::test_case;

use super::command_line::Installation;
use super::contract::{Database, add_projects, at, by};
use super::contract_sandboxes::create;
use super::postgres::{self, Cluster};
use super::support::World;

/// Creates organizations as fast as it can until `work` ends. Returns the names that were acknowledged before `work` began, and the
/// result of `work`.
fn under_writes<T>(store: &Arc<dyn Store>, work: impl FnOnce() -> T) -> (usize, T) {
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(0)));
    let (store, stopped, count) = (Arc::clone(store), Arc::clone(&stop), Arc::clone(&written));
    let writer = std::thread::spawn(move || {
        for number in 0.. {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            let name = format!("org {number}");
            store.create_organization(&format!("org_{number}"), &name, by(number)).unwrap();
            *count.lock().unwrap() += 1;
        }
    });
    while *written.lock().unwrap() < 20 {
        std::thread::yield_now();
    }
    let before = *written.lock().unwrap();
    let result = work();
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    (before, result)
}

/// Asserts that a store has all organizations that were acknowledged before the backup began, and no gap after them.
fn assert_complete(store: &dyn Store, acknowledged: usize) {
    let found = store.organizations().unwrap();
    assert!(found.len() >= acknowledged, "{} of {acknowledged}", found.len());
    for (number, organization) in found.iter().enumerate() {
        assert_eq!(organization.id, format!("org_{number}"));
    }
}

#[test]
fn a_copy_under_writes_has_everything_that_was_acknowledged_before() {
    let dir = tempfile::tempdir().unwrap();
    let (data, restored) = (dir.path().join("data"), dir.path().join("restored"));
    std::fs::create_dir(&data).unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&data.join("sandgate.db")).unwrap());
    let copy = dir.path().join("copy.db");
    let (acknowledged, ()) = under_writes(&store, || back_up_data_dir(&data, &copy).unwrap());
    assert_is_private(&copy);
    restore_data_dir(&copy, &restored).unwrap();
    assert_is_private(&restored.join("sandgate.db"));
    let again = SqliteStore::open(&restored.join("sandgate.db")).unwrap();
    assert_complete(&again, acknowledged);
    assert!(again.organizations().unwrap().len() < store.organizations().unwrap().len() + 1);
    // The copy is still a copy, and may be restored again elsewhere.
    restore_data_dir(&copy, &dir.path().join("another")).unwrap();
}

fn assert_is_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{} can be read by others", path.display());
}

#[test]
fn a_dump_of_a_database_under_writes_has_everything_that_was_acknowledged_before() {
    let cluster = postgres::shared();
    let (from, to) = (cluster.database(), cluster.database());
    let store: Arc<dyn Store> = Arc::new(PostgresStore::open(&from).unwrap());
    let dump = cluster.file("backup.dump");
    let (acknowledged, ()) = under_writes(&store, || cluster.dump(&from, &dump));
    cluster.restore(&dump, &to);
    let again = PostgresStore::open(&to).unwrap();
    again.begin_history(Timestamp::now()).unwrap();
    assert_complete(&again, acknowledged);
}

/// Opens a store again, as a restart does.
fn open(database: Database, path: &Path, settings: Option<&PostgresSettings>) -> Box<dyn Store> {
    match database {
        Database::Sqlite => Box::new(SqliteStore::open(path).unwrap()),
        Database::Postgres => Box::new(PostgresStore::open(settings.unwrap()).unwrap()),
    }
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn a_new_history_uses_no_revision_and_no_epoch_of_the_former_one(database: Database) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let settings = matches!(database, Database::Postgres).then(|| postgres::shared().database());
    let store = open(database, &path, settings.as_ref());
    add_projects(store.as_ref());
    let (epoch, revision) = (store.epoch().to_owned(), store.revision().unwrap());
    store.begin_history(Timestamp::now()).unwrap();
    drop(store);
    let store = open(database, &path, settings.as_ref());
    assert_ne!(store.epoch(), epoch);
    let began = store.revision().unwrap();
    assert!(began > revision);
    // Even with the right epoch, the changes of the former history are not known.
    let changes = store.changes_since(revision, 10).unwrap();
    assert_eq!(changes, ChangesSince::Unknown(began));
    // Restored twice within one millisecond, or by a machine whose clock is behind.
    store.begin_history(at(5)).unwrap();
    assert!(store.revision().unwrap() > began);
}

/// The attack: the platform has made a call for a placement in the lost history. If the restored store uses the placement again, the
/// platform repeats its answer, such as an address that another sandbox has now.
#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
fn a_new_history_uses_no_placement_of_the_former_one(database: Database) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let settings = matches!(database, Database::Postgres).then(|| postgres::shared().database());
    let store = open(database, &path, settings.as_ref());
    add_projects(store.as_ref());
    let running = Transition::Running([10, 0, 0, 1].into());
    let lives: [(&[Transition], SandboxState); 5] = [
        (&[], SandboxState::Pending),
        (&[running], SandboxState::Pending),
        (&[Transition::Suspending], SandboxState::Suspending),
        (&[Transition::Suspended], SandboxState::Suspended),
        (&[Transition::SuspendedUnconfirmed], SandboxState::Suspended),
    ];
    let any = [SandboxState::Pending, SandboxState::Running];
    let sandboxes = lives.map(|(transitions, expected)| {
        let id = create(store.as_ref(), None);
        for transition in transitions {
            store.transition(&id, &any, None, *transition, at(11)).unwrap().unwrap();
        }
        (id, expected)
    });
    let newest = store.revision().unwrap();
    store.begin_history(Timestamp::now()).unwrap();
    drop(store);
    let store = open(database, &path, settings.as_ref());
    for (id, expected) in sandboxes {
        let sandbox = store.sandbox(&id.to_ref()).unwrap().unwrap();
        assert_eq!((sandbox.state, sandbox.address), (expected, None));
        assert!(sandbox.placement > newest, "{expected:?}");
    }
}

/// The world with its store copied to a new directory: by [`restore_data_dir`], or as a file.
async fn restored(world: &World, copy: &Path, properly: bool) -> World {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    if properly {
        restore_data_dir(copy, &data).unwrap();
    } else {
        std::fs::create_dir(&data).unwrap();
        std::fs::copy(copy, data.join("sandgate.db")).unwrap();
    }
    let store = Arc::new(SqliteStore::open(&data.join("sandgate.db")).unwrap());
    let mut again = World::resumed(dir, store, ServiceSettings::default());
    again.ours = world.ours.clone();
    again
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_with_a_lost_revision_drops_its_cache() {
    let world = World::new();
    let id = world.create(json!({ "name": "my-env" })).await;
    let copy = world.dir.path().join("copy.db");
    back_up_data_dir(world.dir.path(), &copy).unwrap();
    // The lost history: two changes, which an edge has applied.
    let patch = async |world: &World, port: u16| {
        let change = json!({ "exposed_ports": [port] });
        world.call("PATCH", &format!("/sandboxes/{id}"), change).await.ok();
    };
    patch(&world, 8080).await;
    patch(&world, 8081).await;
    let lost = world.revision().await;

    // The attack, against a copy that is used as it is: after as many changes (the tests' new tenant is one), the edge's
    // poll reports no change.
    let again = restored(&world, &copy, false).await;
    patch(&again, 1000).await;
    assert_eq!(again.revision().await, lost);
    let poll = again.poll("edge-1", &lost, 0).await;
    assert_eq!((&poll["reset"], &poll["changes"]), (&json!(false), &json!([])), "{poll}");

    let again = restored(&world, &copy, true).await;
    patch(&again, 1000).await;
    patch(&again, 1001).await;
    let poll = again.poll("edge-1", &lost, 0).await;
    assert_eq!(poll["reset"], json!(true), "{poll}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_sandbox_has_no_address_until_the_platform_gives_it_one() {
    let world = World::new();
    let id = world.create(json!({ "name": "my-env" })).await;
    let path = format!("/gateway/v1/sandboxes/{id}");
    let before = world.call_gateway("GET", &path, Value::Null).await.ok();
    assert!(before["address"].is_string());
    let copy = world.dir.path().join("copy.db");
    back_up_data_dir(world.dir.path(), &copy).unwrap();
    let again = restored(&world, &copy, true).await;
    let found = again.call_gateway("GET", &path, Value::Null).await.ok();
    assert_eq!(found["address"], Value::Null, "{found}");
    again.sandboxes.restore().await.unwrap();
    let after = again.call_gateway("GET", &path, Value::Null).await.ok();
    assert_eq!(after["state"], "running");
    assert!(after["generation"].as_u64() > before["generation"].as_u64(), "{before} {after}");
}

#[test]
fn the_commands_copy_and_restore_and_refuse_what_would_lose_a_store() {
    let installation = Installation::new();
    let (project, _) = installation.create_project();
    let copy = installation.path("copy.db");
    let copy = copy.to_str().unwrap();
    let run = |arguments: &[&str], dir: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_sandgate"))
            .args(arguments)
            .arg("--data-dir")
            .arg(installation.path(dir))
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(run(&["backup", copy], "data").0);
    for (arguments, dir, reason) in [
        (["backup", copy], "data", "exists; name a new file"),
        (["backup", "/nonexistent/copy"], "data", "can't be written"),
        (["backup", copy], "nowhere", "has no store"),
        (["restore", copy], "data", "has a store already"),
        (["restore", "/nonexistent/copy"], "other", "does not exist"),
        (["restore", "/etc/hostname"], "other", "is not a copy of a store"),
        (["restore", "/dev/null"], "other", "is not a copy of a store"),
    ] {
        let (ok, error) = run(&arguments, dir);
        assert!(!ok && error.contains(reason), "{arguments:?}: {error}");
    }
    let (ok, error) = run(&["restore", copy], "restored");
    assert!(ok, "{error}");
    let projects = std::process::Command::new(env!("CARGO_BIN_EXE_sandgate"))
        .args(["projects", "list", "--json", "--data-dir"])
        .arg(installation.path("restored"))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&projects.stdout).contains(&project));
}

#[test]
fn a_database_that_a_server_uses_begins_no_new_history() {
    let cluster: &Cluster = postgres::shared();
    let settings = cluster.database();
    let store = PostgresStore::open(&settings).unwrap();
    let run = || {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_sandgate"))
            .args(["restore", "--database", &settings.url])
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        use sandgate::store::ChangeLog as _;
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                store.record_applied(1).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
        });
        std::thread::sleep(std::time::Duration::from_millis(500));
        let (ok, error) = run();
        stop.store(true, Ordering::Relaxed);
        assert!(!ok && error.contains("a server uses the database"), "{error}");
    });
    let (ok, error) = run();
    assert!(ok, "{error}");
}
