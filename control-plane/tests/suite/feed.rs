//! The change feed, and that a call which closes a port answers when the gateways have closed it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sandgate::db::Writer;
use sandgate::model::Timestamp;
use sandgate::store::{Principals as _, Sandboxes as _};
use serde_json::{Value, json};

use super::support::World;

fn refs(changes: &Value) -> Vec<String> {
    let changes = changes["changes"].as_array().unwrap().iter();
    changes
        .flat_map(|change| match change["kind"].as_str().unwrap() {
            "sandbox" => change["refs"].as_array().unwrap().clone(),
            _ => vec![change["id"].clone()],
        })
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_follower_that_starts_forgets_everything_and_then_hears_of_each_change() {
    let world = World::new();
    let id = world.create(json!({ "name": "old-name" })).await;
    let start = world.revision().await;
    world.call("PATCH", "/sandboxes/old-name", json!({ "name": "new-name" })).await.ok();
    let heard = world.poll("w", &start, 0).await;
    assert_eq!(heard["reset"], false);
    assert_eq!(refs(&heard), [id.as_str(), "new-name", "old-name"]);
    let quiet = world.poll("w", heard["revision"].as_str().unwrap(), 0).await;
    assert_eq!((&quiet["changes"], &quiet["revision"]), (&json!([]), &heard["revision"]));
}

#[tokio::test]
async fn a_revision_of_another_store_or_of_none_is_a_reset() {
    let world = World::new();
    let here = world.revision().await;
    let there = World::new().revision().await;
    let ahead = format!("{here}0");
    for since in [there.as_str(), "nonsense", "", ahead.as_str()] {
        let answer = world.poll("w", since, 0).await;
        assert_eq!(
            (&answer["reset"], &answer["revision"]),
            (&json!(true), &json!(here)),
            "{since}"
        );
    }
}

#[tokio::test]
async fn a_poll_is_held_until_something_changes_or_the_wait_is_over() {
    let world = Arc::new(World::new());
    let since = world.revision().await;
    let began = Instant::now();
    assert_eq!(world.poll("w", &since, 200).await["changes"], json!([]));
    assert!(began.elapsed() >= Duration::from_millis(200));
    let waiting = tokio::spawn({
        let world = Arc::clone(&world);
        async move { (world.poll("w", &since, 20_000).await, Instant::now()) }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let changed = Instant::now();
    let key = world.ours.key_id.clone();
    let db = world.sandboxes.db();
    db.write(Writer::Server, move |store| store.revoke_credential(&key, Timestamp::now()))
        .await
        .unwrap();
    let (heard, at) = waiting.await.unwrap();
    assert_eq!(refs(&heard), [world.ours.key_id.as_str()]);
    assert!(at.duration_since(changed) < Duration::from_millis(200));
}

#[tokio::test]
async fn credentials_and_memberships_are_named_by_the_principal_of_identities() {
    let world = World::new();
    let since = world.revision().await;
    world.store.remove_member("ours@example.com", &world.ours.project).unwrap();
    world.store.revoke_credential(&world.ours.key_id, Timestamp::now()).unwrap();
    let heard = world.poll("w", &since, 0).await;
    assert_eq!(refs(&heard), [world.ours.user_id.clone(), world.ours.key_id.clone()]);
}

#[tokio::test]
async fn a_stopping_server_answers_held_polls() {
    let world = Arc::new(World::new());
    let since = world.revision().await;
    let waiting = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.poll("w", &since, 30_000).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.stopping.send(true).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(2), waiting).await.unwrap().unwrap();
    assert_eq!(answer["changes"], json!([]));
}

/// A gateway: polls, takes `apply` to forget what changed, polls again. `applied` is true from when
/// the change is applied.
fn follow(world: &Arc<World>, name: &'static str, since: String, apply: Duration) -> Follower {
    let applied = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let task = tokio::spawn({
        let (world, applied) = (Arc::clone(world), Arc::clone(&applied));
        async move {
            let mut since = since;
            loop {
                let heard = world.poll(name, &since, 20_000).await;
                if heard["changes"] != json!([]) {
                    tokio::time::sleep(apply).await;
                    applied.store(true, std::sync::atomic::Ordering::SeqCst);
                }
                since = heard["revision"].as_str().unwrap().to_owned();
            }
        }
    });
    Follower { task, applied }
}

struct Follower {
    task: tokio::task::JoinHandle<()>,
    applied: Arc<std::sync::atomic::AtomicBool>,
}

impl Follower {
    fn has_applied(&self) -> bool {
        self.applied.load(std::sync::atomic::Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unexpose_is_answered_when_every_gateway_has_applied_it() {
    let world = Arc::new(World::new());
    let id = world.create(json!({ "exposed_ports": [8080] })).await;
    let since = world.revision().await;
    let quick = follow(&world, "quick", since.clone(), Duration::ZERO);
    let slow = follow(&world, "slow", since, Duration::from_millis(200));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let began = Instant::now();
    let unexpose = json!({ "exposed_ports": [] });
    world.call("PATCH", &format!("/sandboxes/{id}"), unexpose).await.ok();
    assert!(quick.has_applied() && slow.has_applied());
    let took = began.elapsed();
    assert!((200..450).contains(&took.as_millis()), "{took:?}");
    quick.task.abort();
    slow.task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_hangs_delays_a_change_only_so_long() {
    let world = Arc::new(World::new());
    let id = world.create(json!({ "exposed_ports": [8080] })).await;
    let hanging = follow(&world, "hanging", world.revision().await, Duration::from_secs(60));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let began = Instant::now();
    world.call("DELETE", &format!("/sandboxes/{id}"), Value::Null).await.ok();
    let took = began.elapsed();
    assert!((450..900).contains(&took.as_millis()), "{took:?}");
    hanging.task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_poll_was_dropped_is_soon_not_waited_for() {
    let world = Arc::new(World::new());
    let id = world.create(json!({ "exposed_ports": [8080] })).await;
    let gone = follow(&world, "gone", world.revision().await, Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(50)).await;
    gone.task.abort();
    tokio::time::sleep(Duration::from_millis(2_050)).await;
    let began = Instant::now();
    world.call("PATCH", &format!("/sandboxes/{id}"), json!({ "exposed_ports": [] })).await.ok();
    assert!(began.elapsed() < Duration::from_millis(200), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_another_process_writes_is_heard_within_a_quarter_of_a_second() {
    let world = Arc::new(World::new());
    let changes = world.sandboxes.changes().clone();
    let follower = tokio::spawn(async move { changes.find_other_commits().await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let since = world.revision().await;
    let waiting = tokio::spawn({
        let (world, since) = (Arc::clone(&world), since.clone());
        async move { (world.poll("w", &since, 10_000).await, Instant::now()) }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    // As the command line does it: a store of its own on the same file.
    let other = sandgate::store::SqliteStore::open(&world.dir.path().join("sandgate.db")).unwrap();
    let written = Instant::now();
    other.revoke_credential(&world.ours.key_id, Timestamp::now()).unwrap();
    let (heard, at) = waiting.await.unwrap();
    assert_eq!(refs(&heard), [world.ours.key_id.as_str()]);
    let took = at.duration_since(written);
    assert!(took < Duration::from_millis(250), "{took:?}");
    follower.abort();
}

#[tokio::test]
async fn a_watchers_name_is_checked() {
    let world = World::new();
    for name in ["", "with%20space", &"x".repeat(129)] {
        let path = format!("/gateway/v1/changes?watcher={name}");
        world.gate("GET", &path, Value::Null).await.refused(400, "INVALID_REQUEST");
    }
}

#[tokio::test]
async fn a_follower_that_fell_behind_the_log_is_told_to_forget_everything() {
    let world = World::new();
    let id =
        sandgate::model::SandboxId::parse(&world.create(json!({ "name": "busy" })).await).unwrap();
    let since = world.revision().await;
    // As if 10,000 changes had been made; making them takes too long.
    let file = rusqlite::Connection::open(world.dir.path().join("sandgate.db")).unwrap();
    file.execute("UPDATE meta SET revision = revision + 9998", []).unwrap();
    let rename = |name: &str| sandgate::model::SandboxPatch {
        name: Some(sandgate::model::SandboxName::parse(name).unwrap()),
        ..Default::default()
    };
    let change =
        |name| world.store.patch_sandbox(&id, &rename(name), "test", Timestamp::now()).unwrap();
    change("second");
    let heard = world.poll("w", &since, 0).await;
    assert_eq!(heard["reset"], false, "all that happened since is still in the log");
    change("third");
    change("fourth");
    let heard = world.poll("w", &since, 0).await;
    assert_eq!((&heard["reset"], &heard["changes"]), (&json!(true), &json!([])));
    let kept: u32 = file.query_row("SELECT count(*) FROM changes", [], |row| row.get(0)).unwrap();
    assert!(kept <= 10, "{kept}");
}
