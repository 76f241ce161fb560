//! Many sandboxes, and many requests that wait for one.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::bootstrap::{Decision, Form, ORIGINAL_DESTINATION, has_original_destination};
use crate::load::{self, Load, Protocol, Until};
use crate::machine;
use crate::progress::Progress;
use crate::proxy::Proxy;
use crate::ways::Request;
use crate::world::World;

/// The number of steps that this part announces.
pub(crate) const STEPS: u32 = 8;

/// How many new addresses, in how many portions.
const FORWARD_PROXY: (u64, u64) = (3_000, 6);
const ORIGINAL: (u64, u64) = (50_000, 10);
const WAITERS: usize = 1_000;
/// A cache that is smaller than the number of sandboxes in use.
const CACHE: u64 = 1_000;

/// Why this can't be measured here, if it can't.
pub(crate) fn missing() -> Option<&'static str> {
    (!machine::has_namespace())
        .then_some("addresses of that many sandboxes take a network namespace, and so root")
}

pub(crate) async fn measure(world: &World, progress: &mut Progress) -> Result<Value> {
    let mut waiters = Vec::new();
    for form in [Form::Wasm, Form::Native] {
        progress.step("1,000 waiting requests");
        if form.is_built() {
            // A failure must not cost the rest of the run.
            let failed = |error| json!({ "form": form.name(), "missing": format!("{error:#}") });
            waiters.push(waiting(world, form).await.unwrap_or_else(failed));
        }
    }
    let mut addresses = Vec::new();
    let wasm = Decision::Filter(Form::Wasm);
    let native = Decision::Filter(Form::Native);
    let no = &[][..];
    let original = &[ORIGINAL_DESTINATION][..];
    for (name, title, decision, more, (count, portions)) in [
        ("bare_dfp", "bare dynamic forward proxy", Decision::BareByHeader, no, FORWARD_PROXY),
        ("wasm_dfp", "Sandgate, wasm, `dynamic_forward_proxy`", wasm, no, FORWARD_PROXY),
        (
            "bare_original",
            "bare, one `ORIGINAL_DST` cluster",
            Decision::BareOriginalDestination,
            no,
            ORIGINAL,
        ),
        ("wasm_original", "Sandgate, wasm, `original_dst`", wasm, original, ORIGINAL),
        ("native_original", "Sandgate, native, `original_dst`", native, original, ORIGINAL),
    ] {
        progress.step(title);
        let is_built = !matches!(decision, Decision::Filter(form) if !form.is_built());
        if !is_built || (!more.is_empty() && !has_original_destination()) {
            addresses.push(json!({ "name": name, "title": title, "missing": "not built" }));
            continue;
        }
        let proxy = Proxy::start_envoy(world, name, decision, more).await?;
        let portions = new_addresses(world, &proxy, count, portions).await?;
        addresses.push(json!({ "name": name, "title": title, "count": count, "micros": portions }));
    }
    progress.step("a full cache");
    Ok(json!({ "addresses": addresses, "waiters": waiters, "cache": full_cache(world).await? }))
}

fn load(world: &World, proxy: &Proxy) -> Load {
    let mut headers = Request::ApiKey.headers(&world.owner);
    headers.push(("x-address".to_owned(), "{address}".to_owned()));
    Load {
        address: proxy.plain(),
        protocol: Protocol::Http1,
        host: world.host("{}"),
        first: 0,
        hosts: 1,
        headers,
        connections: 32,
    }
}

/// Envoy's microseconds for a first request to a sandbox, for each portion of the sandboxes.
async fn new_addresses(
    world: &World,
    proxy: &Proxy,
    count: u64,
    portions: u64,
) -> Result<Vec<f64>> {
    let each = count / portions;
    let mut micros = Vec::new();
    // The first requests of all, which also look the credential up, are not counted.
    let warm = Load { first: count, hosts: 100, ..load(world, proxy) };
    load::closed(&warm, Until::Requests(100)).await?.require_correct("warming up")?;
    for portion in 0..portions {
        let load = Load { first: portion * each, hosts: each, ..load(world, proxy) };
        let before = proxy.processor_time()?;
        let outcome = load::closed(&load, Until::Requests(each)).await?;
        micros.push((proxy.processor_time()? - before) as f64 / 1e3 / each as f64);
        outcome.require_correct("a first request to a sandbox")?;
    }
    Ok(micros)
}

/// Requests that wait for one suspended sandbox.
async fn waiting(world: &World, form: Form) -> Result<Value> {
    let api = world.control_plane.api();
    let name = format!("waited-for-{}", form.name());
    // The other project has more sandboxes than an owner may create.
    let owner = world.control_plane.new_owner(&name)?;
    let request = json!({ "name": name, "exposed_ports": [world.port] });
    let sandbox = owner.create(api, request).await?;
    owner.suspend(api, &sandbox).await?;
    let proxy =
        Proxy::start_envoy(world, &format!("waiters-{}", form.name()), Decision::Filter(form), &[])
            .await?;
    let load = Load {
        host: sandbox.host(world.port),
        headers: Request::ApiKey.headers(&owner),
        connections: WAITERS,
        ..load(world, &proxy)
    };
    let begun = Instant::now();
    let outcome = load::closed(&load, Until::Requests(WAITERS as u64)).await?;
    let running = world.webhook.running_since().context("the sandbox was not resumed")?;
    let answers = &outcome.wrong;
    ensure!(running > begun, "the requests did not resume the sandbox; they got {answers:?}");
    let last = (begun + outcome.elapsed).saturating_duration_since(running);
    owner.delete(api, &sandbox).await?;
    Ok(json!({
        "form": form.name(),
        "waiters": WAITERS,
        "served": outcome.count(),
        "refused": outcome.wrong,
        "last_ms": last.max(Duration::ZERO).as_secs_f64() * 1e3,
    }))
}

/// The part of the requests that a cache answers, if more sandboxes are in use than fit.
async fn full_cache(world: &World) -> Result<Value> {
    let mut rows = Vec::new();
    for (number, sandboxes) in
        [CACHE * 9 / 10, CACHE * 11 / 10, CACHE * 3 / 2, CACHE * 2].into_iter().enumerate()
    {
        let limits = format!(r#"{{"cache_entries":{CACHE}}}"#);
        let more = [("SANDGATE_INGRESS_LIMITS", limits.as_str())];
        let name = format!("cache-{number}");
        let proxy = Proxy::start_envoy(world, &name, Decision::Filter(Form::Wasm), &more).await?;
        let load = Load { hosts: sandboxes, ..load(world, &proxy) };
        load::closed(&load, Until::Requests(sandboxes)).await?.require_correct("filling")?;
        let lookups = async || proxy.stat("lookups_total.*sandbox").await;
        let before = lookups().await?;
        let requests = sandboxes * 3;
        load::closed(&load, Until::Requests(requests)).await?.require_correct("a full cache")?;
        let missed = (lookups().await? - before) as f64 / requests as f64;
        rows.push(json!({ "sandboxes": sandboxes, "hit_ratio": 1.0 - missed }));
    }
    Ok(json!({ "entries": CACHE, "rows": rows }))
}
