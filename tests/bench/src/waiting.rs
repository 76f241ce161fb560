//! Many requests that wait for one suspended sandbox.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::bootstrap::{Decision, Form};
use crate::load::{self, Load, Protocol, Until};
use crate::progress::Progress;
use crate::proxy::Proxy;
use crate::ways::Request;
use crate::world::World;

const WAITERS: usize = 1_000;
const ROUNDS: usize = 5;

pub(crate) async fn measure(world: &World, progress: &mut Progress) -> Result<Value> {
    let mut rows = Vec::new();
    for form in [Form::Wasm, Form::Native] {
        progress.step(form.name());
        let name = form.name();
        if !form.is_built() {
            rows.push(json!({ "name": name, "title": name, "missing": "not built" }));
            continue;
        }
        // A failure must not cost the other form.
        let failed =
            |error| json!({ "name": name, "title": name, "missing": format!("{error:#}") });
        rows.push(of_form(world, form).await.unwrap_or_else(failed));
    }
    Ok(json!({ "ways": rows, "waiters": WAITERS }))
}

async fn of_form(world: &World, form: Form) -> Result<Value> {
    let api = world.control_plane.api();
    let name = format!("waited-for-{}", form.name());
    // The other project has more sandboxes than an owner may create.
    let owner = world.control_plane.new_owner(&name)?;
    let request = json!({ "name": name, "exposed_ports": [world.port] });
    let sandbox = owner.create(api, request).await?;
    let decision = Decision::Filter(form);
    let proxy =
        Proxy::start_envoy(world, &format!("waiting-{}", form.name()), decision, &[]).await?;
    let load = Load {
        address: proxy.plain(),
        protocol: Protocol::Http1,
        host: sandbox.host(world.port),
        first: 0,
        hosts: 1,
        headers: Request::ApiKey.headers(&owner),
        connections: WAITERS,
    };
    let (mut first, mut last) = (Vec::new(), Vec::new());
    let (mut served, mut micros) = (Vec::new(), Vec::new());
    let mut connections = Vec::new();
    let mut refused = std::collections::BTreeMap::new();
    for _ in 0..ROUNDS {
        owner.suspend(api, &sandbox).await?;
        let opened = async || proxy.stat("cluster.sandbox.*upstream_cx_total").await;
        let opened_before = opened().await?;
        let (begun, before) = (Instant::now(), proxy.processor_time()?);
        let outcome = load::closed(&load, Until::Requests(WAITERS as u64)).await?;
        let time = proxy.processor_time()? - before;
        let running = world.webhook.running_since().context("the sandbox was not resumed")?;
        let answers = &outcome.wrong;
        ensure!(running > begun, "the requests did not resume the sandbox; they got {answers:?}");
        let after = |elapsed: Duration| (begun + elapsed).saturating_duration_since(running);
        first.push(after(outcome.first.unwrap_or_default()).as_secs_f64() * 1e3);
        last.push(after(outcome.elapsed).as_secs_f64() * 1e3);
        served.push(outcome.count());
        connections.push(opened().await? - opened_before);
        micros.push(time as f64 / 1e3 / WAITERS as f64);
        for (what, count) in outcome.wrong {
            *refused.entry(what).or_insert(0) += count;
        }
    }
    owner.delete(api, &sandbox).await?;
    Ok(json!({
        "name": form.name(),
        "title": format!("Sandgate, {}", form.name()),
        "served": served,
        "refused": refused,
        "first_ms": first,
        "last_ms": last,
        "micros": micros,
        "connections": connections,
    }))
}
