//! Response times do not reveal the existence of sandboxes or the size of stored data.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::World;

/// Creates a private sandbox with as much stored data as possible.
async fn with_large(world: &World, name: &str) -> String {
    let label = "a".repeat(60);
    let names: Vec<_> =
        (0..240).map(|n| format!("{n}.{label}.{label}.{label}.{label}.test")).collect();
    let body = json!({
        "name": name,
        "metadata": { "x": "y".repeat(60_000) },
        "network": { "deny_out": names },
        "exposed_ports": [8080],
    });
    world.create(body).await
}

#[tokio::test]
async fn a_gateways_lookup_reads_only_the_columns_that_it_needs() {
    let world = World::with_sidecars();
    let id = with_large(&world, "large").await;
    let path = world.dir.path().join("sandgate.db");
    let raw = rusqlite::Connection::open(path).unwrap();
    // Any query that reads one of these columns fails now.
    raw.execute("UPDATE sandboxes SET spec = 'x', network = 'x', created_at = created_at", [])
        .unwrap();
    for which in [id.as_str(), "large"] {
        let path = format!("/sandboxes/{which}");
        world.call("GET", &path, Value::Null).await.refused(503, "STORE_UNAVAILABLE");
        let answer =
            world.call_gateway("GET", &format!("/gateway/v1{path}"), Value::Null).await.ok();
        assert_eq!((&answer["id"], &answer["exposed_ports"]), (&json!(id), &json!([8080])));
    }
}

/// The median times of some calls. The calls take turns, so that other work of the machine slows all of them
/// down equally.
async fn medians<const N: usize>(world: &World, paths: [&str; N]) -> [Duration; N] {
    const ROUNDS: usize = 201;
    let mut times = [(); N].map(|()| Vec::with_capacity(ROUNDS));
    for round in 0..ROUNDS {
        for turn in 0..N {
            let which = (round + turn) % N;
            let began = Instant::now();
            world.call_gateway("GET", paths[which], Value::Null).await;
            times[which].push(began.elapsed());
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        times[ROUNDS / 2]
    })
}

/// The longest time as a multiple of the shortest one.
fn spread(times: &[Duration]) -> f64 {
    let of = |time: Option<&Duration>| time.unwrap().as_secs_f64();
    of(times.iter().max()) / of(times.iter().min())
}

#[tokio::test]
async fn a_gateways_lookup_of_a_large_a_small_and_a_missing_sandbox_takes_the_same_time() {
    let world = World::with_sidecars();
    with_large(&world, "large").await;
    world.create(json!({ "name": "small", "exposed_ports": [8080] })).await;
    let paths = ["large", "small", "nomen"].map(|name| format!("/gateway/v1/sandboxes/{name}"));
    let paths = paths.each_ref().map(String::as_str);
    medians(&world, paths).await;
    // A busy machine may disturb one attempt. A query that depends on the stored data slows down each of
    // them: by a factor of more than ten if it reads the whole row.
    let mut spreads = Vec::new();
    for _ in 0..3 {
        let times = medians(&world, paths).await;
        println!("large, small, missing: {times:?}");
        spreads.push(spread(&times));
        if spreads.last().is_some_and(|spread| *spread < 1.5) {
            return;
        }
    }
    panic!("the longest takes {spreads:?} times as long as the shortest");
}
