//! The change feed, and the wait of calls until all gateways have applied their change.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sandgate::db::Writer;
use sandgate::model::Timestamp;
use sandgate::store::{Author, Principals as _, Sandboxes as _};
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
async fn a_new_watcher_gets_a_reset_and_then_each_change() {
    let world = World::new();
    let id = world.create(json!({ "name": "old-name" })).await;
    let start = world.revision().await;
    world.call("PATCH", "/sandboxes/old-name", json!({ "name": "new-name" })).await.ok();
    let answer = world.poll("w", &start, 0).await;
    assert_eq!(answer["reset"], false);
    assert_eq!(refs(&answer), [id.as_str(), "new-name", "old-name"]);
    let quiet = world.poll("w", answer["revision"].as_str().unwrap(), 0).await;
    assert_eq!((&quiet["changes"], &quiet["revision"]), (&json!([]), &answer["revision"]));
}

#[tokio::test]
async fn an_unknown_revision_is_answered_with_a_reset() {
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
async fn a_poll_is_held_until_a_change_or_the_end_of_the_wait() {
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
    db.write(Writer::Server, move |store| store.revoke_credential(&key, Author::now("test")))
        .await
        .unwrap();
    let (answer, at) = waiting.await.unwrap();
    assert_eq!(refs(&answer), [world.ours.key_id.as_str()]);
    assert!(at.duration_since(changed) < Duration::from_millis(200));
}

#[tokio::test]
async fn a_change_of_a_credential_or_membership_names_its_principal() {
    let world = World::new();
    let since = world.revision().await;
    world
        .store
        .remove_member("ours@example.com", &world.ours.project, Author::now("test"))
        .unwrap();
    world.store.revoke_credential(&world.ours.key_id, Author::now("test")).unwrap();
    let answer = world.poll("w", &since, 0).await;
    assert_eq!(refs(&answer), [world.ours.user_id.clone(), world.ours.key_id.clone()]);
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

/// A gateway that polls, applies a change within `apply`, and polls again.
fn follow(world: &Arc<World>, name: &'static str, since: String, apply: Duration) -> Follower {
    let applied = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let task = tokio::spawn({
        let (world, applied) = (Arc::clone(world), Arc::clone(&applied));
        async move {
            let mut since = since;
            loop {
                let answer = world.poll(name, &since, 20_000).await;
                if answer["changes"] != json!([]) {
                    tokio::time::sleep(apply).await;
                    applied.store(true, std::sync::atomic::Ordering::SeqCst);
                }
                since = answer["revision"].as_str().unwrap().to_owned();
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
async fn closing_a_port_is_answered_when_all_gateways_have_applied_it() {
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
async fn the_wait_for_a_hanging_gateway_is_bounded() {
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
async fn changes_do_not_wait_for_a_gateway_that_no_longer_polls() {
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
async fn a_write_of_another_process_is_announced_within_250_ms() {
    let world = Arc::new(World::new());
    let propagation = world.sandboxes.propagation().clone();
    let follower = tokio::spawn(async move { propagation.find_other_commits().await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let since = world.revision().await;
    let waiting = tokio::spawn({
        let (world, since) = (Arc::clone(&world), since.clone());
        async move { (world.poll("w", &since, 10_000).await, Instant::now()) }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    // The command line opens the same file as a store of its own.
    let other = sandgate::store::SqliteStore::open(&world.dir.path().join("sandgate.db")).unwrap();
    let written = Instant::now();
    other.revoke_credential(&world.ours.key_id, Author::now("test")).unwrap();
    let (answer, at) = waiting.await.unwrap();
    assert_eq!(refs(&answer), [world.ours.key_id.as_str()]);
    let took = at.duration_since(written);
    assert!(took < Duration::from_millis(250), "{took:?}");
    follower.abort();
}

#[tokio::test]
async fn an_invalid_name_of_a_watcher_is_refused() {
    let world = World::new();
    for name in ["", "with%20space", &"x".repeat(129)] {
        let path = format!("/gateway/v1/changes?watcher={name}");
        world.call_gateway("GET", &path, Value::Null).await.refused(400, "INVALID_REQUEST");
    }
}

#[tokio::test]
async fn a_watcher_behind_the_change_log_gets_a_reset() {
    let world = World::new();
    let id =
        sandgate::model::SandboxId::parse(&world.create(json!({ "name": "busy" })).await).unwrap();
    let since = world.revision().await;
    // This has the effect of 9,998 changes, which would take too long to make.
    let file = rusqlite::Connection::open(world.dir.path().join("sandgate.db")).unwrap();
    file.execute("UPDATE meta SET revision = revision + 9998", []).unwrap();
    let rename = |name: &str| sandgate::model::SandboxPatch {
        name: Some(sandgate::model::SandboxName::parse(name).unwrap()),
        ..Default::default()
    };
    let change =
        |name| world.store.patch_sandbox(&id, &rename(name), "test", Timestamp::now()).unwrap();
    change("second");
    let answer = world.poll("w", &since, 0).await;
    assert_eq!(answer["reset"], false, "all that happened since is still in the log");
    change("third");
    change("fourth");
    let answer = world.poll("w", &since, 0).await;
    assert_eq!((&answer["reset"], &answer["changes"]), (&json!(true), &json!([])));
    let kept: u32 = file.query_row("SELECT count(*) FROM changes", [], |row| row.get(0)).unwrap();
    assert!(kept <= 10, "{kept}");
}
