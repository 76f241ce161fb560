//! The first request to each of many sandboxes.

use anyhow::Result;
use serde_json::{Value, json};

use crate::bootstrap::{Decision, Form, ORIGINAL_DESTINATION, has_original_destination};
use crate::load::{self, Load, Protocol, Until};
use crate::machine;
use crate::progress::Progress;
use crate::proxy::Proxy;
use crate::ways::Request;
use crate::world::World;

/// How many new addresses, in how many portions.
const FORWARD_PROXY: (u64, u64) = (3_000, 6);
const ORIGINAL: (u64, u64) = (50_000, 10);

pub(crate) async fn measure(world: &World, progress: &mut Progress) -> Result<Value> {
    let mut addresses = Vec::new();
    let wasm = Decision::Filter(Form::Wasm);
    let native = Decision::Filter(Form::Native);
    let no = &[][..];
    let original = &[ORIGINAL_DESTINATION][..];
    for (name, title, decision, more, (count, portions)) in [
        ("bare_dfp", "bare dynamic forward proxy", Decision::BareByHeader, no, FORWARD_PROXY),
        ("wasm_dfp", "Sandgate, wasm, `dynamic_forward_proxy`", wasm, no, FORWARD_PROXY),
        ("native_dfp", "Sandgate, native, `dynamic_forward_proxy`", native, no, FORWARD_PROXY),
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
        let before = machine::resident_megabytes(proxy.id())?;
        let portions = new_addresses(world, &proxy, count, portions).await?;
        addresses.push(json!({
            "name": name,
            "title": title,
            "count": count,
            "micros": portions,
            "megabytes": [before, machine::resident_megabytes(proxy.id())?],
        }));
    }
    Ok(json!({ "ways": addresses }))
}

/// Requests of the owner of all sandboxes, each of which names its address for the bare proxies.
pub(crate) fn load(world: &World, proxy: &Proxy) -> Load {
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
