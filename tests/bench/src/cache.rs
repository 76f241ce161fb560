//! More sandboxes than a cache holds, requested in turn.

use anyhow::Result;
use serde_json::{Value, json};

use crate::bootstrap::{Decision, Form};
use crate::load::{self, Until};
use crate::progress::Progress;
use crate::proxy::Proxy;
use crate::scale;
use crate::world::World;

/// The entries of the cache, which is smaller than the number of sandboxes in use.
const ENTRIES: u64 = 1_000;
/// How often each sandbox is requested while the lookups are counted.
const TURNS: u64 = 3;

pub(crate) async fn measure(world: &World, progress: &mut Progress) -> Result<Value> {
    let mut rows = Vec::new();
    for form in [Form::Wasm, Form::Native] {
        for percent in [90, 110, 150, 200] {
            let sandboxes = ENTRIES * percent / 100;
            let (name, title) = (format!("{}-{percent}", form.name()), form.name());
            progress.step(&name);
            if !form.is_built() {
                rows.push(json!({ "name": name, "title": title, "missing": "not built" }));
                continue;
            }
            let hits = hit_ratio(world, form, &name, sandboxes).await?;
            rows.push(
                json!({ "name": name, "title": title, "sandboxes": sandboxes, "hit_ratio": hits }),
            );
        }
    }
    Ok(json!({ "entries": ENTRIES, "ways": rows }))
}

/// The part of the requests that needs no lookup of their sandbox.
async fn hit_ratio(world: &World, form: Form, name: &str, sandboxes: u64) -> Result<f64> {
    let limits = format!(r#"{{"cache_entries":{ENTRIES}}}"#);
    let more = [("SANDGATE_INGRESS_LIMITS", limits.as_str())];
    let name = format!("cache-{name}");
    let proxy = Proxy::start_envoy(world, &name, Decision::Filter(form), &more).await?;
    let load = load::Load { hosts: sandboxes, ..scale::load(world, &proxy) };
    load::closed(&load, Until::Requests(sandboxes)).await?.require_correct("filling")?;
    let lookups = async || proxy.stat("lookups_total.*sandbox").await;
    let before = lookups().await?;
    let requests = sandboxes * TURNS;
    load::closed(&load, Until::Requests(requests)).await?.require_correct("a full cache")?;
    let missed = (lookups().await? - before) as f64 / requests as f64;
    Ok(1.0 - missed)
}
