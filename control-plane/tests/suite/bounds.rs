//! Limits on the resources that one tenant can use: requests, waits, readers of the store, and memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::support::{World, send};

/// A generous timeout: the tested operations take milliseconds, or never end.
const TIMEOUT: Duration = Duration::from_secs(20);

async fn wait_until(mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, waiting).await.expect("the condition was never true");
}

/// Adds a sandbox of our tenant that takes long to resume.
async fn with_slow_sandbox(world: World) -> World {
    world.create_suspended(json!({ "name": "slow" })).await;
    world.runtime.set_delay(Duration::from_secs(60));
    world
}

/// Starts resumes of our tenant that wait. A refused one has `retry-after`.
fn resumes(world: &World, count: usize) -> Vec<tokio::task::JoinHandle<(u16, Value)>> {
    let begin = |_| {
        let (api, key) = (world.api.clone(), format!("Bearer {}", world.ours.key));
        tokio::spawn(async move {
            let headers = [("authorization", key.as_str())];
            let path = "/sandboxes/slow/resume?wait_ms=60000";
            let answer = send(&api, "POST", path, &headers, Value::Null).await;
            assert_eq!(answer.headers["retry-after"], "1", "{}", answer.body);
            (answer.status.as_u16(), answer.body["code"].clone())
        })
    };
    (0..count).map(begin).collect()
}

#[tokio::test]
async fn a_project_with_too_many_waiting_resumes_affects_only_itself() {
    let world = with_slow_sandbox(World::with_limits(World::limits(512).per_caller(64))).await;
    let others = world.others();
    let mut tasks = Vec::new();
    while tasks.len() < 520 {
        tasks.extend(resumes(&world, 104));
        let refused = tasks.len() - 64;
        wait_until(|| tasks.iter().filter(|task| task.is_finished()).count() == refused).await;
    }
    let mine = async || world.call("GET", "/sandboxes/slow", Value::Null).await;
    mine().await.refused(429, "TOO_MANY_REQUESTS");
    world.call_as(&others.key, "GET", "/sandboxes", Value::Null).await.ok();
    // A caller that disconnects frees its share.
    for task in tasks {
        if task.is_finished() {
            assert_eq!(task.await.unwrap(), (429, json!("TOO_MANY_REQUESTS")));
        } else {
            task.abort();
            let _ = task.await;
        }
    }
    mine().await.ok();
}

#[tokio::test]
async fn waiting_requests_do_not_use_the_listeners_slots() {
    let bounds = World::limits(4).per_caller(64).waiting(10);
    let world = with_slow_sandbox(World::with_limits(bounds)).await;
    // Ten requests may wait. A request that arrives while four others are not waiting yet retries.
    let resume = || {
        let (api, key) = (world.api.clone(), format!("Bearer {}", world.ours.key));
        tokio::spawn(async move {
            let headers = [("authorization", key.as_str())];
            let path = "/sandboxes/slow/resume?wait_ms=60000";
            loop {
                let answer = send(&api, "POST", path, &headers, Value::Null).await;
                let error = answer.refused(503, "OVERLOADED");
                if error.contains("requests are waiting") {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
    };
    let mut tasks: Vec<_> = (0..11).map(|_| resume()).collect();
    wait_until(|| tasks.iter().any(tokio::task::JoinHandle::is_finished)).await;
    let refused = tasks.iter().position(tokio::task::JoinHandle::is_finished).unwrap();
    tasks.remove(refused).await.unwrap();
    assert!(tasks.iter().all(|task| !task.is_finished()), "ten wait");
    // This request is served although more requests wait than there are slots.
    world.call("GET", "/sandboxes/slow", Value::Null).await.ok();
    let create = world.call("POST", "/sandboxes", json!({})).await;
    create.refused(503, "OVERLOADED");
    let list = world.call("GET", "/sandboxes", Value::Null).await.ok();
    assert_eq!(
        list["sandboxes"].as_array().unwrap().len(),
        1,
        "refused sandboxes were not created"
    );
    tasks.into_iter().for_each(|task| task.abort());
}

#[tokio::test]
async fn an_unread_response_counts_toward_the_limit() {
    let world = World::with_limits(World::limits(512).per_caller(2));
    let request = || {
        let request = Request::builder().uri("/sandboxes");
        let request = request.header("authorization", format!("Bearer {}", world.ours.key));
        world.api.clone().oneshot(request.body(Body::empty()).unwrap())
    };
    let unread = [request().await.unwrap(), request().await.unwrap()];
    assert!(unread.iter().all(|answer| answer.status() == 200));
    assert_eq!(request().await.unwrap().status(), 429);
    let others = world.others();
    world.call_as(&others.key, "GET", "/sandboxes", Value::Null).await.ok();
    drop(unread);
    assert_eq!(request().await.unwrap().status(), 200);
}

#[tokio::test]
async fn refused_requests_do_not_count_toward_a_projects_limit() {
    let world = World::with_limits(World::limits(512).per_caller(1));
    let others = world.others();
    let request = Request::builder().uri("/sandboxes");
    let request = request
        .header("authorization", format!("Bearer {}", others.pat))
        .header("x-forwarded-organization-id", &world.ours.organization)
        .header("x-forwarded-project-id", &world.ours.project);
    let unread = world.api.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(unread.status(), 403);
    world.call("GET", "/sandboxes", Value::Null).await.ok();
    drop(unread);
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_are_served_while_owners_queries_use_all_readers() {
    let world = World::new();
    let id = world.create(json!({})).await;
    let began = Arc::new(AtomicUsize::new(0));
    let mut releases = Vec::new();
    for _ in 0..100 {
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (db, began) = (world.sandboxes.db().clone(), Arc::clone(&began));
        tokio::spawn(async move {
            db.read(move |_| {
                began.fetch_add(1, Ordering::SeqCst);
                // Waits until the sender is dropped.
                let _ = released.recv();
                Ok(())
            })
            .await
        });
        releases.push(release);
    }
    // All readers are in use when other queries begin to wait.
    wait_until(|| began.load(Ordering::SeqCst) >= 16).await;
    for path in [format!("/gateway/v1/sandboxes/{id}"), "/gateway/v1/changes".into()] {
        let asked = world.call_gateway("GET", &path, Value::Null);
        tokio::time::timeout(TIMEOUT, asked).await.expect("a gateway waits for owners").ok();
    }
    let path = format!("/gateway/v1/sandboxes/{id}/resume");
    let asked = world.call_gateway("POST", &path, json!({ "wait_ms": 1_000 }));
    tokio::time::timeout(TIMEOUT, asked).await.expect("a gateway waits for owners").ok();
    let body = json!({ "kind": "api_key", "secret": world.ours.key });
    let asked = world.call_gateway("POST", "/gateway/v1/credentials/introspect", body);
    let answer =
        tokio::time::timeout(TIMEOUT, asked).await.expect("a gateway waits for owners").ok();
    assert_eq!(answer["identity"]["principal"], json!(world.ours.key_id));
    drop(releases);
}

#[tokio::test]
async fn a_sandbox_has_a_bounded_number_of_ports() {
    let world = World::new();
    let most: Vec<u16> = (1..=256).collect();
    let id = world.create(json!({ "exposed_ports": most })).await;
    let every: Vec<u16> = (1..=65_535).filter(|port| *port != 9_501).collect();
    for ports in [(1..=257).collect(), every] {
        for (method, path) in
            [("POST", "/sandboxes".to_owned()), ("PATCH", format!("/sandboxes/{id}"))]
        {
            let answer = world.call(method, &path, json!({ "exposed_ports": ports })).await;
            let error = answer.refused(400, "INVALID_REQUEST");
            let named = format!("`exposed_ports` has {} entries", ports.len());
            assert!(error.contains(&named) && error.contains("256"), "{error}");
        }
    }
    let shown = world.call("GET", &format!("/sandboxes/{id}"), Value::Null).await.ok();
    assert_eq!(shown["exposed_ports"], json!(most));
}

#[tokio::test]
async fn a_page_of_large_sandboxes_is_shortened_and_the_next_one_continues() {
    let world = World::new();
    for _ in 0..20 {
        world.create(json!({ "metadata": { "x": "y".repeat(64_000) } })).await;
    }
    let (mut path, mut seen, mut pages) = ("/sandboxes".to_owned(), 0, 0);
    loop {
        let page = world.call("GET", &path, Value::Null).await.ok();
        assert!(page.to_string().len() < 1_300_000, "a page has a bounded size");
        seen += page["sandboxes"].as_array().unwrap().len();
        pages += 1;
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/sandboxes?cursor={cursor}");
    }
    assert_eq!((seen, pages), (20, 2));
}
