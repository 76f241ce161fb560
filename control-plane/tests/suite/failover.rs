//! A database with a synchronous standby that takes over.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::command_line::Served;
use super::fleet::{Fleet, SOON, client, poll, revision, wait_for};
use super::postgres::Cluster;

/// The connections of a server to the database.
const CONNECTIONS: usize = 4;

/// A server of a database, its standby, and what runs on them.
async fn with_standby() -> (Cluster, Cluster, Arc<Fleet>) {
    let primary = Cluster::start();
    let standby = primary.standby();
    let fleet = Fleet::on(primary.database_with(&standby)).await;
    for sql in ["ALTER SYSTEM SET synchronous_standby_names = 'standby'", "SELECT pg_reload_conf()"]
    {
        primary.run_sql(&fleet.database, sql);
    }
    let is_synchronous = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'";
    wait_for("the standby is synchronous", async || {
        !primary.query(&fleet.database, is_synchronous).is_empty()
    })
    .await;
    (primary, standby, Arc::new(fleet))
}

async fn value(fleet: &Fleet, server: &Served, name: &str) -> u64 {
    let found = fleet.ok(server, "GET", &format!("/sandboxes/{name}"), Value::Null).await;
    found["metadata"]["value"].as_str().map_or(0, |text| text.parse().unwrap())
}

fn metadata(value: u64) -> Value {
    json!({ "metadata": { "value": value.to_string() } })
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_every_acknowledged_write_is_there_and_feeds_continue() {
    let (primary, standby, fleet) = with_standby().await;
    let servers = [fleet.serve(), fleet.serve()];
    for writer in 0..4 {
        let name = format!("env-{writer}");
        fleet.ok(&servers[0], "POST", "/sandboxes", json!({ "name": name })).await;
    }
    let since = revision(&servers[1]).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4_usize {
        let (fleet, server) = (Arc::clone(&fleet), servers[writer % 2].api.clone());
        writers.spawn(async move {
            let (path, mut last) = (format!("/sandboxes/env-{writer}"), 0);
            for value in 1.. {
                match fleet.call(&server, "PATCH", &path, metadata(value)).await {
                    Some((200, _)) => last = value,
                    // Nobody knows whether the write was made.
                    Some((503, _)) | None => break,
                    Some((status, answer)) => panic!("{status}: {answer}"),
                }
            }
            (format!("env-{writer}"), last)
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    primary.crash();
    standby.promote();
    let acknowledged: HashMap<String, u64> = writers.join_all().await.into_iter().collect();
    assert!(acknowledged.values().sum::<u64>() > 0);
    for server in &servers {
        wait_for("the server works with the new primary", async || {
            let ready = client().get(format!("{}/readyz", server.api)).send().await;
            ready.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        for (name, last) in &acknowledged {
            let found = value(&fleet, server, name).await;
            // One write may have been in flight.
            assert!((*last..=*last + 1).contains(&found), "{name}: {found}, acknowledged {last}");
        }
        wait_for("the feed works", async || {
            let (status, feed) = poll(server, Some(&since), 0).await;
            assert_ne!(feed["reset"], true, "the feed continues: {feed}");
            status == 200
        })
        .await;
    }
    wait_for("changes work", async || {
        let path = "/sandboxes/env-0";
        let patched = fleet.call(&servers[0].api, "PATCH", path, metadata(1_000_000)).await;
        patched.is_some_and(|(status, _)| status == 200)
    })
    .await;
    assert_eq!(value(&fleet, &servers[1], "env-0").await, 1_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_synchronous_standby_a_write_is_neither_acknowledged_nor_seen() {
    let (_primary, standby, fleet) = with_standby().await;
    let connections = CONNECTIONS.to_string();
    let serve = || fleet.serve_with(&["--database-connections", &connections]);
    let servers = [serve(), serve()];
    fleet.ok(&servers[0], "POST", "/sandboxes", json!({ "name": "env" })).await;
    let since = revision(&servers[1]).await;
    let paused = standby.pause();
    // The database's `statement_timeout` is 20 s. If it ended the wait for the standby, the commit would succeed.
    let patched = fleet.call(&servers[0].api, "PATCH", "/sandboxes/env", metadata(1));
    let (status, answer) = tokio::time::timeout(SOON, patched).await.unwrap().unwrap();
    assert_eq!(status, 503, "{answer}");
    // The first server has a connection whose commit waits. No query may get it, so more queries than the server has
    // connections succeed.
    for server in &servers {
        for _ in 0..CONNECTIONS + 2 {
            assert_eq!(value(&fleet, server, "env").await, 0);
        }
    }
    let (_, feed) = poll(&servers[1], Some(&since), 0).await;
    assert_eq!(feed["changes"], json!([]), "{feed}");
    drop(paused);
    wait_for("the write is stored when the standby has it", async || {
        value(&fleet, &servers[1], "env").await == 1
    })
    .await;
}
