//! Two control planes on one PostgreSQL, each with an Envoy that prefers it: an owner's change is enforced everywhere
//! before it is answered, and the end of a control plane or of the database leaves no edge with outdated state for longer
//! than the bound.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use http::StatusCode;
use sandgate_e2e::{Call, Fleet, Sandbox, run_fleet};
use sandgate_stack::wait::until;

const LIMIT: Duration = Duration::from_secs(180);
/// For what must happen after the end of a part.
const SOON: Duration = Duration::from_secs(60);
/// The longest use of a cache entry without the change feed (`no_feed_ttl_ms`).
const NO_FEED: Duration = Duration::from_secs(5);
/// What a busy machine may add to it.
const SLACK: Duration = Duration::from_secs(5);

/// Whether an Envoy serves the sandbox. It may do nothing else than serve it, or deny the request.
async fn serves(fleet: &Fleet, envoy: usize, sandbox: &Sandbox) -> Result<bool> {
    let status = fleet.status(envoy, sandbox).await?;
    let denials =
        [StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED, StatusCode::SERVICE_UNAVAILABLE];
    ensure!(status == StatusCode::OK || denials.contains(&status), "Envoy {envoy}: {status}");
    Ok(status == StatusCode::OK)
}

/// Makes a change at a control plane, and checks that all Envoys enforce it when it is answered. Returns false if the
/// answer did not wait for all of them, because one took too long.
async fn change(
    fleet: &Fleet,
    server: usize,
    sandbox: &Sandbox,
    public: bool,
    envoys: &[usize],
) -> Result<bool> {
    let slow = fleet.slow_changes();
    ensure!(fleet.expose(server, sandbox, public).await?, "server {server} refused the change");
    if fleet.slow_changes() > slow {
        return Ok(false);
    }
    for envoy in envoys {
        let is_served = serves(fleet, *envoy, sandbox).await?;
        ensure!(
            is_served == public,
            "Envoy {envoy} has not applied a change that server {server} answered: public is {public}"
        );
    }
    Ok(true)
}

/// Makes changes at all control planes in turn. At least one of each must be answered after all Envoys had applied it.
async fn changes_are_enforced_before_they_are_answered(
    fleet: &Fleet,
    sandbox: &Sandbox,
) -> Result<()> {
    for server in 0..fleet.servers.len() {
        let mut enforced = 0;
        for round in 0..20 {
            let public = round % 2 == 1;
            enforced += usize::from(change(fleet, server, sandbox, public, &[0, 1]).await?);
        }
        ensure!(enforced > 0, "server {server} never waited until all Envoys had a change");
    }
    Ok(())
}

#[test]
fn a_change_at_one_replica_is_enforced_at_the_edge_of_the_other_one_before_it_is_answered() {
    run_fleet(LIMIT, async |fleet| {
        let sandbox = fleet.public_sandbox("env").await?;
        changes_are_enforced_before_they_are_answered(fleet, &sandbox).await
    });
}

#[test]
fn an_edge_whose_replica_was_killed_follows_the_other_one_and_returns_to_it() {
    run_fleet(LIMIT, async |fleet| {
        let sandbox = fleet.public_sandbox("env").await?;
        fleet.servers.first_mut().context("no server")?.kill();
        let killed = Instant::now();
        ensure!(fleet.expose(1, &sandbox, false).await?, "the other server refused the change");
        // The edge of the other replica has applied it. The other edge has lost its feed, and may use what it has cached
        // for the time that it may do without.
        ensure!(!serves(fleet, 1, &sandbox).await?);
        until("the edge denies the request", NO_FEED + SLACK, async || {
            Ok((!serves(fleet, 0, &sandbox).await?).then_some(()))
        })
        .await?;
        eprintln!("the edge was up to date {:?} after the kill", killed.elapsed());
        fleet.until_followed(0).await?;
        let mut enforced = 0;
        for round in 0..20 {
            let public = round % 2 == 0;
            enforced += usize::from(change(fleet, 1, &sandbox, public, &[0, 1]).await?);
        }
        ensure!(enforced > 0, "no change was answered after both edges had it");
        // A lookup of what no edge has cached works, too.
        let other = fleet.owner.create(
            fleet.servers.get(1).context("no server")?.api(),
            serde_json::json!({
                "name": "other", "exposed_ports": [8080], "allow_unauthenticated_access": true,
            }),
        );
        ensure!(serves(fleet, 0, &other.await?).await?);
        // The owner's calls through the edge go to the other replica, too, after a few of them have failed.
        until("the owner's calls are answered", SOON, async || {
            let call = envoy_call(fleet, 0, "api.localhost").bearer(&fleet.owner.api_key);
            Ok((call.send().await?.status == StatusCode::OK).then_some(()))
        })
        .await?;
        fleet.servers.first_mut().context("no server")?.run().await?;
        until("the edge has returned to its replica", SOON, async || {
            // It polls where it is until the next change.
            fleet.expose(1, &sandbox, true).await?;
            let envoy = fleet.envoys.first().context("no Envoy")?;
            let healthy = envoy.stat("cluster.gateway_api.membership_healthy").await?;
            Ok((healthy == 2).then_some(()))
        })
        .await?;
        changes_are_enforced_before_they_are_answered(fleet, &sandbox).await
    });
}

fn envoy_call(fleet: &Fleet, envoy: usize, host: &str) -> Call {
    fleet.envoys[envoy].edge().get(host, "/sandboxes")
}

#[test]
fn edges_serve_while_the_database_is_away_and_follow_it_to_a_standby() {
    run_fleet(LIMIT, async |fleet| {
        let sandbox = fleet.public_sandbox("env").await?;
        ensure!(fleet.expose(0, &sandbox, true).await?);
        fleet.primary.stop()?;
        let began = Instant::now();
        // Longer than what an edge without the feed uses without asking again.
        while began.elapsed() < NO_FEED + Duration::from_secs(1) {
            for envoy in [0, 1] {
                ensure!(serves(fleet, envoy, &sandbox).await?);
            }
            ensure!(!fleet.expose(0, &sandbox, false).await?, "a change without a database");
        }
        fleet.primary.start_again()?;
        until_changes_work(fleet, &sandbox).await?;
        changes_are_enforced_before_they_are_answered(fleet, &sandbox).await?;

        // The last change before the failover is acknowledged, so the standby has it.
        ensure!(fleet.expose(0, &sandbox, false).await?);
        fleet.primary.crash()?;
        fleet.standby.promote()?;
        for envoy in [0, 1] {
            ensure!(!serves(fleet, envoy, &sandbox).await?, "Envoy {envoy} lost a change");
        }
        until_changes_work(fleet, &sandbox).await?;
        changes_are_enforced_before_they_are_answered(fleet, &sandbox).await
    });
}

/// Waits until both control planes make changes, and both Envoys follow the feed.
async fn until_changes_work(fleet: &Fleet, sandbox: &Sandbox) -> Result<()> {
    until("changes work again at both servers", SOON, async || {
        let done = fleet.expose(0, sandbox, true).await? && fleet.expose(1, sandbox, true).await?;
        Ok(done.then_some(()))
    })
    .await?;
    for envoy in [0, 1] {
        until("the Envoy serves the sandbox again", SOON, async || {
            Ok(serves(fleet, envoy, sandbox).await?.then_some(()))
        })
        .await?;
        fleet.until_followed(envoy).await?;
    }
    Ok(())
}

/// What the writers of a round found.
#[derive(Default)]
struct Tally {
    answered: usize,
    unknown: usize,
    enforced_at_once: usize,
    /// How long after the answer an Envoy still used the former state, if it did.
    late: Vec<Duration>,
}

/// Changes a sandbox again and again, and checks each answered change at both Envoys. `on_time` follow the feed of a server
/// that lives, so they must not be late. Returns the last answered change, if no later one has an unknown result.
async fn write(
    fleet: &Fleet,
    sandbox: &Sandbox,
    mut server: usize,
    on_time: &[usize],
    stop: &AtomicBool,
    tally: &Mutex<Tally>,
) -> Result<Option<bool>> {
    let mut public = true;
    let mut last = None;
    while !stop.load(Ordering::Relaxed) {
        public = !public;
        let slow = fleet.slow_changes();
        if !fleet.expose(server, sandbox, public).await? {
            last = None;
            server = 1 - server;
            tally.lock().unwrap().unknown += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        last = Some(public);
        let answered = Instant::now();
        let has_waited = fleet.slow_changes() == slow;
        tally.lock().unwrap().answered += 1;
        for envoy in [0, 1] {
            if serves(fleet, envoy, sandbox).await? == public {
                tally.lock().unwrap().enforced_at_once += 1;
                continue;
            }
            ensure!(!has_waited || !on_time.contains(&envoy), "Envoy {envoy} is late");
            until("the edge is up to date", NO_FEED + SLACK, async || {
                Ok((serves(fleet, envoy, sandbox).await? == public).then_some(()))
            })
            .await?;
            tally.lock().unwrap().late.push(answered.elapsed());
        }
    }
    Ok(last)
}

#[test]
fn no_edge_uses_outdated_state_when_a_server_or_the_database_is_killed_at_a_random_moment() {
    let rounds = std::env::var("SANDGATE_FLEET_ROUNDS").map_or(3, |text| text.parse().unwrap());
    run_fleet(LIMIT * rounds, async |fleet| {
        let sandboxes = [fleet.public_sandbox("one").await?, fleet.public_sandbox("two").await?];
        let tally = Mutex::new(Tally::default());
        for round in 0..usize::try_from(rounds)? {
            let is_databases_turn = round % 3 == 1;
            let killed = round % 2;
            let on_time: &[usize] = if is_databases_turn { &[] } else { &[1 - killed] };
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
            let moment = Duration::from_millis(u64::from(now.subsec_micros() % 3_000));
            let stop = AtomicBool::new(false);
            let kill = async {
                tokio::time::sleep(moment).await;
                if is_databases_turn {
                    fleet.primary.crash()?;
                    fleet.primary.start_again()?;
                } else {
                    fleet.servers[killed].crash()?;
                }
                tokio::time::sleep(Duration::from_secs(3)).await;
                stop.store(true, Ordering::Relaxed);
                anyhow::Ok(())
            };
            let writer =
                |number: usize| write(fleet, &sandboxes[number], number, on_time, &stop, &tally);
            let (killed_it, one, two) = tokio::join!(kill, writer(0), writer(1));
            killed_it.with_context(|| format!("round {round}"))?;
            for (sandbox, last) in sandboxes.iter().zip([one, two]) {
                let last = last.with_context(|| format!("round {round}"))?;
                if let Some(public) = last {
                    let stored = is_public(fleet, 1 - killed, sandbox).await?;
                    ensure!(stored == public, "round {round}: an answered change is lost");
                }
            }
            if !is_databases_turn {
                let server = &mut fleet.servers[killed];
                server.kill();
                server.run().await?;
            }
            for sandbox in &sandboxes {
                until_changes_work(fleet, sandbox).await?;
            }
            let envoy = &fleet.envoys[killed];
            until("the edge sees both servers", SOON, async || {
                let healthy = envoy.stat("cluster.gateway_api.membership_healthy").await?;
                Ok((healthy == 2).then_some(()))
            })
            .await?;
            // The edge returns to its server with its next poll.
            for _ in 0..2 {
                ensure!(fleet.expose(1 - killed, &sandboxes[0], true).await?);
            }
        }
        let Tally { answered, unknown, enforced_at_once, late } = tally.into_inner()?;
        let latest = late.iter().max().copied().unwrap_or_default();
        eprintln!(
            "{rounds} kills: {answered} changes answered, {unknown} with an unknown result; {enforced_at_once} times an \
             Envoy enforced one at once, {} times later, after {latest:?} at most",
            late.len()
        );
        Ok(())
    });
}

/// Whether the store says that port 8080 is public.
async fn is_public(fleet: &Fleet, server: usize, sandbox: &Sandbox) -> Result<bool> {
    let path = format!("/sandboxes/{}", sandbox.id);
    until("the server answers", SOON, async || {
        let api = fleet.servers[server].api();
        let found = fleet.owner.call(api, http::Method::GET, &path).send().await?.ok()?;
        let ports = found.get("exposed_ports").and_then(serde_json::Value::as_array).cloned();
        Ok(Some(ports.is_some_and(|ports| !ports.is_empty())))
    })
    .await
}
