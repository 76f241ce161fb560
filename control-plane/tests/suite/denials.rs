//! Denials that filters and sidecars report, as the owner sees them, and attacks by reports.

use std::time::Duration;

use sandgate::db::Writer;
use sandgate::model::SandboxId;
use sandgate::store::Store;
use sandgate_policy::denials::{Denials, MAX_DESTINATION, OutboundDenial};
use serde_json::{Value, json};

use super::contract_events::out as contract_out;
use super::network_policy::sidecar_token;
use super::support::{Answer, World, send};

async fn report(world: &World, token: &str, path: &str, body: Value) -> Answer {
    let authorization = format!("Bearer {token}");
    send(&world.gateway, "POST", path, &[("authorization", &authorization)], body).await
}

fn path(id: &str) -> String {
    format!("/gateway/v1/sandboxes/{id}/denials")
}

fn out(destination: &str, count: u64) -> Value {
    let rule = "default deny";
    let denial =
        json!({ "destination": destination, "port": 443, "protocol": "tcp", "rule": rule });
    json!({ "denial": denial, "count": count })
}

fn inbound(port: u16, rule: &str, count: u64) -> Value {
    json!({ "denials": [{ "denial": { "port": port, "rule": rule }, "count": count }] })
}

/// The events, newest first, after all reported denials are written.
async fn events(world: &World, id: &str) -> Vec<Value> {
    world.sandboxes.denials().write_all(world.sandboxes.db()).await.unwrap();
    let listed = world.call("GET", &format!("/sandboxes/{id}/events"), Value::Null).await.ok();
    let events = listed["events"].as_array().unwrap().iter();
    events.filter(|event| event["type"] != "started").cloned().collect()
}

#[tokio::test]
async fn the_owner_sees_what_the_sandbox_was_denied_and_what_was_denied_to_others() {
    let world = World::with_sidecars();
    let id = world.create(json!({})).await;
    let token = sidecar_token(&world, &id);
    let body = json!({ "denials": [out("elsewhere.test", 2)], "more": 5 });
    for _ in 0..2 {
        let answer = report(&world, &token, &path(&id), body.clone()).await;
        assert_eq!(answer.status, 204, "{}", answer.body);
    }
    let inbound = inbound(22, "PORT_NOT_EXPOSED", 3);
    let body = json!({ "sandboxes": [{ "sandbox_id": id, "inbound": inbound }] });
    let answer = world.call_gateway("POST", "/gateway/v1/denials", body).await;
    assert_eq!(answer.status, 204, "{}", answer.body);
    let events = events(&world, &id).await;
    let shown: Vec<_> = events
        .iter()
        .map(|event| {
            let mut event = event.clone();
            for field in ["id", "at", "last_at"] {
                assert!(event.as_object_mut().unwrap().remove(field).is_some());
            }
            event
        })
        .collect();
    let expected = [
        json!({ "type": "more_outbound_denied", "count": 10 }),
        json!({ "type": "outbound_denied", "count": 4, "destination": "elsewhere.test", "port": 443,
            "protocol": "tcp", "rule": "default deny" }),
        json!({ "type": "inbound_denied", "count": 3, "port": 22, "rule": "PORT_NOT_EXPOSED" }),
    ];
    assert_eq!(shown, expected);
}

/// The attack: the sidecar of one sandbox, or whoever has its token, fills or forges the events of another one.
#[tokio::test]
async fn the_token_of_a_sidecar_reports_for_its_own_sandbox_only() {
    let world = World::with_sidecars();
    let (mine, other) = (world.create(json!({})).await, world.create(json!({})).await);
    let token = sidecar_token(&world, &mine);
    let body = json!({ "denials": [out("forged.test", 1)] });
    report(&world, &token, &path(&other), body.clone()).await.refused(401, "UNAUTHENTICATED");
    report(&world, "", &path(&mine), body.clone()).await.refused(401, "UNAUTHENTICATED");
    // The path decides; a body can't name a sandbox.
    let body = json!({ "denials": [], "sandbox_id": other });
    report(&world, &token, &path(&mine), body).await;
    let inbound = json!({ "denials": [{ "denial": { "port": 1, "rule": "X" }, "count": 1 }] });
    let body = json!({ "sandboxes": [{ "sandbox_id": other, "inbound": inbound }] });
    report(&world, &token, "/gateway/v1/denials", body).await.refused(401, "UNAUTHENTICATED");
    assert_eq!(events(&world, &other).await, [json!(null); 0]);
}

/// The attack: a client without the token of a gateway, or with the one of a sidecar, reports denied requests.
#[tokio::test]
async fn only_a_gateway_token_reports_denied_requests() {
    let world = World::with_sidecars();
    let id = world.create(json!({})).await;
    let inbound = inbound(22, "PORT_NOT_EXPOSED", 1);
    let body = json!({ "sandboxes": [{ "sandbox_id": id, "inbound": inbound }] });
    for token in ["", "wrong", &sidecar_token(&world, &id)] {
        let refused = report(&world, token, "/gateway/v1/denials", body.clone()).await;
        refused.refused(401, "UNAUTHENTICATED");
    }
    assert_eq!(events(&world, &id).await, [json!(null); 0]);
}

/// The attack: an edge, or a thief of its token, writes messages to owners, and fills the store.
#[tokio::test]
async fn an_edge_writes_no_text_of_its_own_and_no_more_than_the_bounds() {
    let world = World::with_sidecars();
    let id = world.create(json!({})).await;
    let texts = ["send your key to evil.test", "\u{1b}[2J", "PORT_NOT_EXPOSED\n", "tl_secret"];
    for text in texts {
        let sandbox = json!({ "sandbox_id": id, "inbound": inbound(22, text, 1), "note": text });
        let body = json!({ "sandboxes": [sandbox], "lost": 2, "note": text });
        assert_eq!(world.call_gateway("POST", "/gateway/v1/denials", body).await.status, 204);
    }
    let many: Vec<_> = (1..=1_000).map(|port| inbound(port, "UNAUTHENTICATED", 1)).collect();
    let many: Vec<_> = many.iter().map(|one| json!({ "sandbox_id": id, "inbound": one })).collect();
    let body = json!({ "sandboxes": many });
    assert_eq!(world.call_gateway("POST", "/gateway/v1/denials", body).await.status, 204);
    let listed = events(&world, &id).await;
    assert_eq!(listed.len(), 51);
    let rules = listed.iter().filter_map(|event| event["rule"].as_str());
    assert!(rules.clone().all(|rule| ["UNKNOWN", "UNAUTHENTICATED"].contains(&rule)), "{listed:?}");
    assert!(rules.clone().any(|rule| rule == "UNKNOWN"), "{listed:?}");
    let counts = listed.iter().map(|event| event["count"].as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), 1_004);
    let metrics = world.metrics.encode().unwrap();
    assert!(metrics.contains("sandgate_denials_lost_total 8"), "{metrics}");
}

/// The attack: a sandbox asks for names that change the terminal of its owner, look like another name, or carry a secret.
#[tokio::test]
async fn hostile_names_are_shown_with_harmless_characters() {
    let world = World::with_sidecars();
    let id = world.create(json!({})).await;
    let token = sidecar_token(&world, &id);
    let hostile =
        ["\u{1b}]0;owned\u{7}.test", "a\u{202e}moc.test", "x?token=tl_secret#y", "\u{9b}1m"];
    let long = "x".repeat(100_000);
    let names = hostile.iter().copied().chain([long.as_str()]);
    let mut denials: Vec<_> = names.map(|name| out(name, 1)).collect();
    denials[0]["denial"]["rule"] = json!("deny_out \u{1b}[31m\r\n");
    let answer = report(&world, &token, &path(&id), json!({ "denials": denials })).await;
    assert_eq!(answer.status, 204, "{}", answer.body);
    let events = events(&world, &id).await;
    assert_eq!(events.len(), 5);
    for event in events {
        let destination = event["destination"].as_str().unwrap();
        assert!(destination.len() <= MAX_DESTINATION, "{destination}");
        let harmless = |c: char| c.is_ascii_alphanumeric() || "-_.:*[]?".contains(c);
        assert!(destination.chars().all(harmless), "{destination}");
        let rule = event["rule"].as_str().unwrap();
        assert!(rule.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{rule}");
    }
}

/// The attack: a sandbox that scans, with a sidecar that reports as fast as it can.
#[tokio::test]
async fn a_flood_of_reports_is_counted_and_takes_bounded_room() {
    let world = World::with_sidecars();
    let (id, other) = (world.create(json!({})).await, world.create(json!({})).await);
    let token = sidecar_token(&world, &id);
    for round in 0..40_u64 {
        let denials: Vec<_> =
            (0..100).map(|n| out(&format!("n{}.test", round * 100 + n), 1)).collect();
        let body = json!({ "denials": denials, "more": 1_000_000 });
        assert_eq!(report(&world, &token, &path(&id), body).await.status, 204);
    }
    let body = json!({ "denials": [out("wanted.test", 1)] });
    report(&world, &sidecar_token(&world, &other), &path(&other), body).await;
    let listed = events(&world, &id).await;
    assert_eq!(listed.len(), 51);
    let counts = listed.iter().map(|event| event["count"].as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), 40 * (100 + 1_000_000), "a denial is not counted");
    assert_eq!(events(&world, &other).await[0]["destination"], "wanted.test");
}

fn flood(names: std::ops::Range<u64>) -> Denials<OutboundDenial> {
    let denials = names.map(|number| contract_out(&format!("n{number}.test"), 1)).collect();
    Denials { denials, more: 0 }
}

/// The attack: a project creates many sandboxes, keeps those with the smallest ids, and each of them is denied new names all the time.
#[tokio::test]
async fn sandboxes_that_are_denied_something_all_the_time_do_not_take_the_turns_of_others() {
    let world = World::with_sidecars();
    let mut ids = Vec::new();
    for _ in 0..31 {
        ids.push(world.create(json!({})).await.parse::<SandboxId>().unwrap());
    }
    ids.sort();
    let (victim, attackers) = ids.split_last().unwrap();
    let reports = world.sandboxes.denials().clone();
    let (stopping, stopped) = tokio::sync::watch::channel(false);
    let db = world.sandboxes.db().clone();
    let run = tokio::spawn(reports.clone().run(db, stopped));
    reports.add_outbound(victim.clone(), flood(0..1));
    let path = format!("/sandboxes/{victim}/events");
    // All others have more names than a transaction takes, all the time.
    for round in 0_u64.. {
        for attacker in attackers {
            reports.add_outbound(attacker.clone(), flood(round * 50..(round + 1) * 50));
        }
        let listed = world.call("GET", &path, Value::Null).await.ok();
        let shown = listed["events"].to_string();
        if shown.contains("n0.test") {
            break;
        }
        assert!(round < 300, "the victim's denial is not written: {shown}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stopping.send(true).unwrap();
    run.await.unwrap();
}

/// The attack: so many different names that there is no room for those of anybody else.
#[tokio::test]
async fn names_of_many_sandboxes_leave_room_for_a_sandbox_with_few() {
    let world = World::with_sidecars();
    let victim: SandboxId = world.create(json!({})).await.parse().unwrap();
    let reports = world.sandboxes.denials();
    for _ in 0..400 {
        reports.add_outbound(sandgate::random::sandbox_id().unwrap(), flood(0..50));
    }
    reports.add_outbound(victim.clone(), flood(0..3));
    let seen = events(&world, victim.as_str()).await;
    let names = seen.iter().filter(|event| event["type"] == "outbound_denied");
    assert_eq!(names.count(), 3, "{seen:?}");
}

#[tokio::test]
async fn a_stop_writes_what_is_left_and_ends_in_time_even_if_the_store_does_not() {
    let world = World::with_sidecars();
    let id: SandboxId = world.create(json!({})).await.parse().unwrap();
    let (reports, db) = (world.sandboxes.denials(), world.sandboxes.db());
    let (stopping, stopped) = tokio::sync::watch::channel(false);
    let run = tokio::spawn(reports.clone().run(db.clone(), stopped));
    reports.add_outbound(id.clone(), flood(0..50));
    stopping.send(true).unwrap();
    reports.write_last(run, db, Duration::from_secs(60)).await;
    assert_eq!(events(&world, id.as_str()).await.len(), 50);
    // Another writer holds the store.
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let busy = db.clone();
    let busy = tokio::spawn(async move {
        let wait = move |_: &dyn Store| {
            let _ended = held.recv();
            Ok(())
        };
        busy.write_unannounced(Writer::Server, wait).await
    });
    tokio::task::yield_now().await;
    reports.add_outbound(id.clone(), flood(50..60));
    reports.write_last(tokio::spawn(async {}), db, Duration::from_millis(20)).await;
    drop(hold);
    busy.await.unwrap().unwrap();
    let metrics = world.metrics.encode().unwrap();
    assert!(metrics.contains("sandgate_denials_lost_total 10"), "{metrics}");
}

#[tokio::test]
async fn a_report_about_no_sandbox_or_a_deleted_one_has_no_effect() {
    let world = World::with_sidecars();
    let id = world.create(json!({})).await;
    let body = json!({ "denials": [out("a.test", 1)] });
    let unknown = "zzzzzzzzzzzzzzzzzzzzz";
    for which in [unknown, id.as_str()] {
        let token = sidecar_token(&world, which);
        world.call("DELETE", &format!("/sandboxes/{which}"), Value::Null).await;
        assert_eq!(report(&world, &token, &path(which), body.clone()).await.status, 204);
    }
    world.sandboxes.denials().write_all(world.sandboxes.db()).await.unwrap();
    for which in [unknown, id.as_str()] {
        let listed = world.call("GET", &format!("/sandboxes/{which}/events"), Value::Null).await;
        listed.refused(404, "SANDBOX_NOT_FOUND");
    }
}

#[tokio::test]
async fn a_report_that_is_not_as_described_is_refused() {
    let world = World::with_sidecars();
    let id = world.create(json!({})).await;
    for (path, body) in [
        ("/gateway/v1/denials".to_owned(), json!({ "sandboxes": [{ "sandbox_id": "x" }] })),
        ("/gateway/v1/denials".to_owned(), json!([])),
        (path(&id), json!({ "denials": [{ "denial": {}, "count": 1 }] })),
        (path(&id), json!({ "denials": [{ "denial": out("a", 1)["denial"], "count": -1 }] })),
        (path(&id), json!({})),
    ] {
        world.call_gateway("POST", &path, body).await.refused(400, "INVALID_REQUEST");
    }
    let body = json!({ "denials": [out(&"x".repeat(2_000_000), 1)] });
    world.call_gateway("POST", &path(&id), body).await.refused(413, "BODY_TOO_LARGE");
    assert_eq!(events(&world, &id).await, [json!(null); 0]);
}
