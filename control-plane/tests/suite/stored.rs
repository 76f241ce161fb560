//! Bounds on what one project stores, and on how long its writes delay those of other projects.

use std::path::Path;
use std::time::Duration;

use sandgate::db::Writer;
use sandgate::model::{PortChange, SandboxId, SandboxPatch};
use sandgate::store::{
    AuditCursor, Limits, Sandboxes as _, SqliteStore, Store, StoreError, Upkeep as _,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::contract::{add_projects, at, network_log, port_log};
use super::contract_sandboxes::{create, new, ports};
use super::support::{World, send};

/// A policy of almost the maximum size.
fn large_policy(word: &str) -> Value {
    let label = word.repeat(60);
    let names: Vec<_> =
        (0..240).map(|n| format!("{n}.{label}.{label}.{label}.{label}.test")).collect();
    json!({ "network": { "deny_out": names } })
}

/// The bytes of the database and its log.
fn size(dir: &Path) -> u64 {
    ["sandgate.db", "sandgate.db-wal"]
        .iter()
        .map(|name| dir.join(name).metadata().unwrap().len())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn alternating_large_policies_leave_a_store_of_bounded_size() {
    let world = World::with_sidecars();
    let path = format!("/sandboxes/{}", world.create(json!({})).await);
    let policies = ["a", "b"].map(large_policy);
    let authorization = format!("Bearer {}", world.ours.key);
    let mut patches = JoinSet::new();
    let start = size(world.dir.path());
    for round in 0..240 {
        let (api, path) = (world.api.clone(), path.clone());
        let (policy, authorization) = (policies[round % 2].clone(), authorization.clone());
        patches.spawn(async move {
            let headers = [("authorization", authorization.as_str())];
            send(&api, "PATCH", &path, &headers, policy).await.ok();
        });
        if patches.len() >= 8 {
            patches.join_next().await.unwrap().unwrap();
        }
    }
    patches.join_all().await;
    let grown = size(world.dir.path()) - start;
    println!("240 policies of 60 KB: the store grew by {grown} bytes");
    assert!(grown < 12_000_000, "{grown} bytes");
    let id = SandboxId::parse(path.trim_start_matches("/sandboxes/")).unwrap();
    assert!(network_log(world.store.as_ref(), &id).len() > 100, "each change is in the log");
}

#[test]
fn the_audit_log_keeps_the_newest_lines_of_a_sandbox_and_of_a_project() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { audit_of_sandbox: 5, audit_of_project: 8, ..Limits::default() };
    let store = SqliteStore::open(&dir.path().join("s.db")).unwrap().within(limits);
    add_projects(&store);
    let open = |id: &SandboxId, port: u16| {
        let patch = SandboxPatch { exposed_ports: Some(ports(&[port])), ..SandboxPatch::default() };
        store.patch_sandbox(id, &patch, "key_1", at(30)).unwrap();
    };
    let seen = |log: Vec<PortChange>| -> Vec<u16> {
        log.iter().map(|line| line.after.0.as_slice()[0]).collect()
    };
    let theirs = store.create_sandbox(&new(None, "project_2"), at(10)).unwrap().value.id;
    open(&theirs, 1);
    let [first, second, third] = [(); 3].map(|()| create(&store, None));
    (1..=9).for_each(|port| open(&first, port));
    assert_eq!(seen(port_log(&store, &first)), [5, 6, 7, 8, 9]);
    (1..=4).for_each(|port| open(&second, port));
    // The project may have eight lines, so the oldest line of the first sandbox is removed.
    assert_eq!(seen(port_log(&store, &first)), [6, 7, 8, 9]);
    (1..=5).for_each(|port| open(&third, port));
    let [first, second, third] = [&first, &second, &third].map(|id| seen(port_log(&store, id)));
    assert_eq!((first, second, third), (vec![], vec![2, 3, 4], vec![1, 2, 3, 4, 5]));
    assert_eq!(seen(port_log(&store, &theirs)), [1], "another project's log is its own");
}

#[test]
fn old_lines_of_the_audit_log_are_removed_in_several_transactions() {
    let dir = tempfile::tempdir().unwrap();
    let age = Duration::from_millis(1_000);
    let limits = Limits { audit_age: age, audit_of_sandbox: 5_000, ..Limits::default() };
    let store = SqliteStore::open(&dir.path().join("s.db")).unwrap().within(limits);
    add_projects(&store);
    let id = create(&store, None);
    insert_lines(&dir.path().join("s.db"), &id, 700);
    let patch = SandboxPatch { exposed_ports: Some(ports(&[80])), ..SandboxPatch::default() };
    store.patch_sandbox(&id, &patch, "key_1", at(5_000)).unwrap();
    assert!(store.prune_audit(at(5_000)).unwrap(), "one transaction does not remove all");
    assert_eq!(port_log(&store, &id).len(), 201);
    assert!(!store.prune_audit(at(5_000)).unwrap());
    assert_eq!(port_log(&store, &id).len(), 1);
    assert!(!store.prune_audit(at(6_000)).unwrap());
    assert_eq!(port_log(&store, &id).len(), 1, "as old as a line may be");
    store.prune_audit(at(6_001)).unwrap();
    assert_eq!(port_log(&store, &id), []);
}

/// Adds lines with the time 0 and different principals to the log of ports.
pub(crate) fn insert_lines(path: &Path, id: &SandboxId, count: u32) {
    let connection = rusqlite::Connection::open(path).unwrap();
    let sql = format!(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})
         INSERT INTO port_changes (at, sandbox_id, project_id, principal, ports_before,
         public_before, ports_after, public_after)
         SELECT 0, '{id}', 'project_1', 'key_' || n, '[]', 0, '[80]', 0 FROM n"
    );
    connection.execute_batch(&sql).unwrap();
}

#[test]
fn pages_of_the_audit_log_have_no_gap_and_no_repetition() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let store = SqliteStore::open(&path).unwrap();
    add_projects(&store);
    let id = create(&store, None);
    insert_lines(&path, &id, 1_250);
    for which in [Some(&id), None] {
        let (mut from, mut seen, mut pages) = (Some(AuditCursor::default()), Vec::new(), 0);
        while let Some(cursor) = from {
            let page = store.port_changes(which, cursor).unwrap();
            assert!(page.lines.len() <= 500);
            seen.extend(page.lines.into_iter().map(|line| line.principal));
            (from, pages) = (page.next, pages + 1);
        }
        assert_eq!(seen, (1..=1_250).map(|n| format!("key_{n}")).collect::<Vec<_>>());
        assert_eq!(pages, 3);
    }
}

#[tokio::test]
async fn the_number_of_sandboxes_is_bounded_for_each_project() {
    let world = World::with_store_limits(Limits { sandboxes: 3, ..Limits::default() });
    let ids = [
        world.create(json!({})).await,
        world.create(json!({})).await,
        world.create(json!({})).await,
    ];
    let more = async || world.call("POST", "/sandboxes", json!({})).await;
    let error = more().await.refused(409, "PROJECT_FULL");
    assert!(error.contains("3 sandboxes") && error.contains("--sandboxes-per-project"), "{error}");
    let others = world.others();
    world.call_as(&others.key, "POST", "/sandboxes", json!({})).await.ok();
    // A deleted sandbox counts until the platform has stopped it.
    world.runtime.set_failing(true);
    world.call("DELETE", &format!("/sandboxes/{}", ids[0]), Value::Null).await.ok();
    more().await.refused(409, "PROJECT_FULL");
    world.sandboxes.wait_until_idle().await;
    world.runtime.set_failing(false);
    world.sandboxes.retry_unfinished().await;
    more().await.ok();
}

#[tokio::test]
async fn the_stored_bytes_of_a_project_are_bounded_and_can_always_shrink() {
    let world = World::with_store_limits(Limits { bytes: 100_000, ..Limits::default() });
    let fields = |count: usize| json!({ "metadata": { "x": "y".repeat(count) } });
    let path = format!("/sandboxes/{}", world.create(fields(60_000)).await);
    let patch = async |body: Value| world.call("PATCH", &path, body).await;
    let error = world.call("POST", "/sandboxes", fields(60_000)).await.refused(409, "PROJECT_FULL");
    assert!(
        error.contains("100000 bytes") && error.contains("--stored-mib-per-project"),
        "{error}"
    );
    patch(large_policy("a")).await.refused(409, "PROJECT_FULL");
    world.create(fields(30_000)).await;
    patch(fields(65_000)).await.ok();
    patch(fields(10)).await.ok();
    world.create(fields(50_000)).await;
}

#[test]
fn a_project_beyond_a_bound_may_change_without_growing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let store = SqliteStore::open(&path).unwrap();
    add_projects(&store);
    let mut large = new(None, "project_1");
    large.spec = json!({ "image": "x".repeat(5_000) }).as_object().unwrap().clone();
    let id = store.create_sandbox(&large, at(10)).unwrap().value.id;
    let store = store.within(Limits { bytes: 1_000, sandboxes: 0, ..Limits::default() });
    let patch = |patch: SandboxPatch| store.patch_sandbox(&id, &patch, "key_1", at(20));
    let spec = |value: Value| SandboxPatch {
        spec: value.as_object().unwrap().clone(),
        ..SandboxPatch::default()
    };
    let full = patch(spec(json!({ "timeout_secs": 60 }))).unwrap_err();
    assert!(matches!(full, StoreError::ProjectFull(1_000)), "{full}");
    let public =
        SandboxPatch { allow_unauthenticated_access: Some(true), ..SandboxPatch::default() };
    patch(public).unwrap();
    patch(spec(json!({ "image": "y".repeat(4_000) }))).unwrap();
    store.terminate_sandbox(&id, "key_1", at(30)).unwrap().unwrap();
}

#[tokio::test]
async fn the_bound_on_kept_fields_applies_to_their_sum_also_across_patches() {
    let world = World::new();
    let id = world.create(json!({ "image": "x".repeat(40_000) })).await;
    let path = format!("/sandboxes/{id}");
    let large = json!({ "metadata": { "x": "y".repeat(40_000) } });
    let error = world.call("PATCH", &path, large.clone()).await.refused(400, "INVALID_REQUEST");
    assert!(error.contains("65536 bytes"), "{error}");
    let error = world.call("PATCH", &path, json!({ "exposed_ports": [80] })).await.ok();
    assert_eq!(error["metadata"], Value::Null);
}

/// Occupies the writer until the sender is dropped.
async fn hold_writer(world: &World) -> std::sync::mpsc::Sender<()> {
    let (release, released) = std::sync::mpsc::channel();
    let (started, has_started) = tokio::sync::oneshot::channel();
    let db = world.sandboxes.db().clone();
    tokio::spawn(async move {
        db.write_unannounced(Writer::Server, move |_: &dyn Store| {
            let _ = started.send(());
            // `recv` returns when the sender is dropped.
            let _ = released.recv();
            Ok(())
        })
        .await
    });
    has_started.await.unwrap();
    release
}

/// Starts patches, each of which exposes a different port.
fn begin(world: &World, key: &str, path: &str, count: u16) -> JoinSet<super::support::Answer> {
    let mut patches = JoinSet::new();
    for port in 1..=count {
        let (api, path, key) = (world.api.clone(), path.to_owned(), format!("Bearer {key}"));
        patches.spawn(async move {
            let body = json!({ "exposed_ports": [port] });
            send(&api, "PATCH", &path, &[("authorization", key.as_str())], body).await
        });
    }
    patches
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_waits_for_at_most_one_queued_write_of_another_project() {
    let world = World::new();
    let others = world.others();
    let ours = format!("/sandboxes/{}", world.create(json!({})).await);
    let body = json!({ "name": "theirs" });
    world.call_as(&others.key, "POST", "/sandboxes", body).await.ok();
    world.sandboxes.wait_until_idle().await;
    let since = world.revision().await;
    let release = hold_writer(&world).await;
    let many = begin(&world, &world.ours.key, &ours, 40);
    // Even if some of them don't wait yet, the assertions hold.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let one = begin(&world, &others.key, "/sandboxes/theirs", 1);
    // Even on a busy machine, this write waits before the first one ends.
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop(release);
    one.join_all().await.pop().unwrap().ok();
    many.join_all().await.into_iter().for_each(|answer| drop(answer.ok()));
    let feed = world.poll("w", &since, 0).await;
    let changes = feed["changes"].as_array().unwrap();
    let position = changes.iter().position(|change| change.to_string().contains("theirs")).unwrap();
    assert!(position <= 2, "{position} writes of another project came before");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queued_writes_of_owners_are_bounded_for_each_project() {
    let world = World::with_limits(World::limits(1_000).per_caller(1_000));
    let others = world.others();
    let ours = format!("/sandboxes/{}", world.create(json!({})).await);
    let body = json!({ "name": "theirs" });
    world.call_as(&others.key, "POST", "/sandboxes", body).await.ok();
    world.sandboxes.wait_until_idle().await;
    let release = hold_writer(&world).await;
    let bound = 64;
    let mut many = begin(&world, &world.ours.key, &ours, bound + 3);
    for _ in 0..3 {
        let refused = many.join_next().await.unwrap().unwrap();
        assert_eq!(refused.headers["retry-after"], "1");
        refused.refused(429, "TOO_MANY_REQUESTS");
    }
    let one = begin(&world, &others.key, "/sandboxes/theirs", 1);
    drop(release);
    one.join_all().await.pop().unwrap().ok();
    many.join_all().await.into_iter().for_each(|answer| drop(answer.ok()));
}
